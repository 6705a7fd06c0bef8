"""The files of a dataset, unpacked, whatever folders lie around them."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from vtcc import bounds
from vtcc.data import folder
from vtcc.data.images import SUFFIXES
from vtcc.errors import VtccError
from vtcc.progress import several


@dataclass(frozen=True)
class Tree:
    """A directory and what lies in it, hidden files left out.

    Attributes:
        root: the directory.
        place: what the files come from, for people to read.
        ours: it was unpacked for us, and its files may be moved away.
    """

    root: Path
    place: Path | str
    ours: bool = False

    @cached_property
    def files(self) -> list[str]:
        """POSIX paths relative to `root`, sorted."""
        return folder.listed(self.root, images_only=False)

    @cached_property
    def images(self) -> list[str]:
        """Those that are images by their suffix."""
        return [f for f in self.files if PurePosixPath(f).suffix.lower() in SUFFIXES]

    def named(self, *names: str) -> Path | None:
        """The file with one of these names that lies least deep, or None.

        Raises:
            VtccError: when it is larger than any that is read as a whole.
        """
        hits = [f for f in self.files if PurePosixPath(f).name in names]
        best = min(hits, key=lambda f: (f.count("/"), f), default=None)
        if best is None:
            return None
        file = self.root / best
        if (size := file.stat().st_size) > bounds.DATASET_FILE_BYTES:
            raise VtccError(
                f"{file}: {size >> 20} MiB; allowed: {bounds.DATASET_FILE_BYTES >> 20}; is it the "
                "file of this data set?"
            )
        return file

    def summary(self) -> str:
        """What it holds, in a few words: its files by suffix and the first of its folders."""
        if not self.files:
            return "no file"
        kinds = Counter(PurePosixPath(f).suffix.lower() or "no suffix" for f in self.files)
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
        folders = sorted({f.rpartition("/")[0] for f in self.files} - {""})
        shown = ", ".join(folders[:6]) + (", ..." if len(folders) > 6 else "")
        files = several(len(self.files), "files")
        return f"{files} ({counted})" + (f" in {shown}" if shown else "")
