"""Unpacking of zip and tar archives that anyone may have made."""

import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from vtcc.errors import VtccError

# Photos hardly compress: an archive that grows a hundredfold is a trap. Small ones may.
MAX_RATIO = 100
FREE_BYTES = 1 << 30

Wanted = Callable[[PurePosixPath], str | None]


def unpack(path: Path, target: Path, *, wanted: Wanted) -> Counter[str]:
    """Writes the wanted files of an archive below `target`.

    Links, devices and other special members are left out, since they may point anywhere.

    Args:
        path: zip, tar, tar.gz, tar.bz2 or tar.xz, known by its content.
        target: an existing empty directory.
        wanted: why a member is left out, or None to write it.

    Returns:
        How many members were left out, by reason.

    Raises:
        VtccError: when it is no archive, is damaged or encrypted, holds a path that leads
            outside `target`, or would unpack to far more than its own size.
    """
    try:
        if zipfile.is_zipfile(path):
            return _unzip(path, target, wanted)
        if tarfile.is_tarfile(path):
            return _untar(path, target, wanted)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        UnicodeDecodeError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VtccError(
            f"{path}: cannot be unpacked ({reason}); unpack it by hand and name the folder"
        ) from None
    raise VtccError(
        f"dataset.source: {path} is neither a dataset card (.yaml) nor a folder, and not a zip or "
        "tar archive either, or a damaged one"
    )


def known(path: Path) -> bool:
    """Whether a file is a zip or tar by its content."""
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def _unzip(path: Path, target: Path, wanted: Wanted) -> Counter[str]:
    left_out: Counter[str] = Counter()
    room = _Room(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            # Some Windows programs write backslashes.
            name = _safe(path, member.filename.replace("\\", "/"))
            room.take(member.file_size)
            if member.is_dir():
                continue
            kind = member.external_attr >> 16 & 0o170000  # Unix file type, 0 where unknown
            reason = wanted(name) or ("links and devices" if kind not in (0, 0o100000) else None)
            if reason:
                left_out[reason] += 1
                continue
            if member.flag_bits & 1:
                raise VtccError(f"{path}: encrypted; unpack it by hand and name the folder")
            with archive.open(member) as content:
                _write(content, target / name)
    return left_out


def _untar(path: Path, target: Path, wanted: Wanted) -> Counter[str]:
    left_out: Counter[str] = Counter()
    room = _Room(path)
    with tarfile.open(path) as archive:
        for member in archive:
            name = _safe(path, member.name)
            room.take(member.size)
            if member.isdir():
                continue
            reason = wanted(name) or (None if member.isreg() else "links and devices")
            if reason:
                left_out[reason] += 1
                continue
            content = archive.extractfile(member)
            assert content is not None, member.name  # only for what is not a regular file
            with content:
                _write(content, target / name)
    return left_out


class _Room:
    """Counts what is unpacked, and stops before it is too much."""

    def __init__(self, path: Path):
        self.path = path
        self.taken = 0
        self.limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)

    def take(self, size: int) -> None:
        self.taken += size
        if self.taken > self.limit:
            raise VtccError(
                f"{self.path}: unpacks to more than {self.limit >> 20} MiB, {MAX_RATIO} times its "
                "size, as no images do; if you trust it, unpack it by hand and name the folder"
            )


def _safe(path: Path, name: str) -> PurePosixPath:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or re.match("[A-Za-z]:[/\\\\]", name):
        raise VtccError(
            f"{path}: holds {name!r}, a path that leads outside the archive; it is not unpacked"
        )
    return parts


def _write(content: IO[bytes], file: Path) -> None:
    try:
        out = file.open("wb")
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        out = file.open("wb")
    with out:
        shutil.copyfileobj(content, out, 1 << 20)
