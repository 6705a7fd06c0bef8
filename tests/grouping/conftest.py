"""Toy sizes."""

from collections.abc import Iterator

import pytest

from tests.fakes import stand_in


@pytest.fixture(scope="package", autouse=True)
def few_steps() -> Iterator[None]:
    """A head learns the groups of some dozens of images in half of the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vtcc.grouping.head.STEPS", (150, 150))
        yield


@pytest.fixture(scope="module")
def no_copies() -> Iterator[None]:
    """Looking for copies takes longest of a small run; test_copies.py and test_run.py do it."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, "vtcc.grouping.copies", "share", lambda files, **how: 0.0)
        yield
