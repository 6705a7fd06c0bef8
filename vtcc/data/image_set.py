"""What a source of images hands to the download stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ImageSet:
    """Images of a source, and their labels where there are any.

    Attributes:
        paths: relative POSIX paths the images will have, unique, in any order.
        read: gives image i (by position in `paths`): a file to copy, or the bytes of one.
        labels: per image a row number of `class_names`; None without labels.
        class_names: empty without labels.
        notes: sentences the user should see.
        missing: names of images that are listed but not there.
        ours: the files were unpacked for us and may be moved instead of copied.
    """

    paths: Sequence[str]
    read: Callable[[int], bytes | Path]
    labels: Sequence[int] | None = None
    class_names: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    missing: Sequence[str] = ()
    ours: bool = False
