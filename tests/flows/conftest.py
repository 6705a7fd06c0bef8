"""Flows are tested on the same toy project as the runner."""

from tests.runner.conftest import project as project
