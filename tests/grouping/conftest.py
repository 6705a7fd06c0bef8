"""Toy sizes."""

import os
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


@pytest.fixture
def odd_images(tmp_path):
    """Files whose flat names are alike, one whose name is not UTF-8, one that is too long."""
    root = tmp_path / "images"
    names = ["a/b.jpg", "a__b.jpg", "A/B.jpg", f"{'x' * 150}/{'y' * 150}.jpg", "plain"]
    files = {name: root / name for name in names}
    files["%FF.jpg"] = root / os.fsdecode(b"\xff.jpg")
    for name, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return files
