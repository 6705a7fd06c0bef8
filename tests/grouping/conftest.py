"""Toy sizes."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def few_steps() -> Iterator[None]:
    """A head learns the groups of some dozens of images in a quarter of the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vtcc.grouping.head.STEPS", 150)
        yield
