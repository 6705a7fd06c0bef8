"""Unpacking of zip and tar archives that anyone may have made."""

import bz2
import copy
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from vtcc import bounds, zip_file
from vtcc.data import tars
from vtcc.errors import VtccError

_PIECE_BYTES = 1 << 20
_SHOWN = 200  # characters of a name or reason
_AGAIN = "earlier files of the same name"
_CENTRAL_BYTES = 46  # of a member in a zip's central directory, its name not counted

_BROKEN = (*zip_file.DAMAGED, tarfile.TarError)

Wanted = Callable[[PurePosixPath], str | None]


class NoArchiveError(VtccError):
    """A file that is neither a zip nor a tar, or is too damaged to be known as one."""


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
    if not path.is_file():
        raise VtccError(f"{path}: a pipe or a device, not an archive; name a file or a folder")
    try:
        with tars.opened(path) as archive:
            if archive is not None:
                return _untar(path, archive, target, wanted)
        # By its end, as a program may come first: so would a tar that ends with a zip.
        if zipfile.is_zipfile(path):
            return _unzip(path, target, wanted)
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VtccError(
            f"{path}: cannot be unpacked ({reason[:_SHOWN]}); unpack it by hand and name the folder"
        ) from None
    raise NoArchiveError(f"{path}: not a zip or tar archive, or a damaged one; replace it")


def known(path: Path) -> bool:
    """Whether a file is a zip or tar by its content."""
    if not path.is_file():  # a pipe would wait for its writer
        return False
    try:
        with tars.opened(path) as archive:
            return archive is not None or zipfile.is_zipfile(path)
    except _BROKEN:
        return False


def _unzip(path: Path, target: Path, wanted: Wanted) -> Counter[str]:
    left_out: Counter[str] = Counter()
    _check_entries(path)
    with zipfile.ZipFile(path) as archive:
        room = Room(path)
        for member in archive.infolist():  # all, before the first is written
            room.take(member.file_size)
        for member in archive.infolist():
            # Some Windows programs write backslashes.
            name = _safe(path, member.filename.replace("\\", "/"))
            if member.is_dir():
                continue
            kind = member.external_attr >> 16 & 0o170000  # Unix file type, 0 where unknown
            reason = "links and devices" if kind not in (0, 0o100000) else wanted(name)
            if reason:
                left_out[reason] += 1
                continue
            if member.flag_bits & 1:
                raise VtccError(f"{path}: encrypted; unpack it by hand and name the folder")
            with _open_member(archive, member) as content:
                checksum, again = _write(content, target / name, member.file_size)
            left_out[_AGAIN] += again
            if checksum != member.CRC:
                raise zipfile.BadZipFile(f"wrong checksum of {member.filename!r}")
    return +left_out


def _check_entries(path: Path) -> None:
    """Refuses a zip of too many members before zipfile makes an object of each."""
    with path.open("rb") as file:
        # The size of the central directory, as zipfile itself finds it: its record of the end.
        size = zipfile._EndRecData(file)[5]  # type: ignore[attr-defined] # noqa: SLF001
    if size > bounds.ARCHIVE_ENTRIES * _CENTRAL_BYTES:
        raise VtccError(
            f"{path}: lists more than {bounds.ARCHIVE_ENTRIES} files; unpack it by hand and name "
            "the folder"
        )


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """The content, expanded as it is read: zipfile expands 4 KiB of bzip2 or LZMA as a whole."""
    if member.compress_type not in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return archive.open(member)
    stored = copy.copy(member)
    stored.compress_type, stored.file_size = zipfile.ZIP_STORED, member.compress_size
    del stored.CRC  # that of the expanded content
    content = archive.open(stored)
    if member.compress_type == zipfile.ZIP_BZIP2:
        return bz2.BZ2File(content)
    # PKWARE's APPNOTE 5.8.8: version, length of the properties (5), properties.
    _, length, settings, dictionary = struct.unpack("<HHBI", content.read(9))
    if length != 5 or settings >= 9 * 5 * 5:
        raise zipfile.BadZipFile(f"damaged LZMA header of {member.filename!r}")
    size = max(4096, min(dictionary, member.file_size))  # more is never looked back
    if size > bounds.DICTIONARY_BYTES:
        raise zipfile.BadZipFile(
            f"LZMA with a dictionary of {size >> 20} MiB; allowed: {bounds.DICTIONARY_BYTES >> 20}"
        )
    filters = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": size,
        "lc": settings % 9,
        "lp": settings // 9 % 5,
        "pb": settings // 45,
    }
    return lzma.LZMAFile(content, format=lzma.FORMAT_RAW, filters=[filters])


def _untar(path: Path, archive: tarfile.TarFile, target: Path, wanted: Wanted) -> Counter[str]:
    left_out: Counter[str] = Counter()
    room = Room(path)
    while (member := archive.next()) is not None:
        cast(Any, archive).members.clear()  # or it keeps all headers
        name = _safe(path, member.name)
        room.take(member.size, member.offset_data - member.offset)
        # Each member is given all of them: they cost time.
        common = archive.pax_headers
        if len(common) > bounds.TAR_COMMON_KEYS:
            raise tars.HostileHeaderError(f"more than {bounds.TAR_COMMON_KEYS} keys for all files")
        if sum(map(len, common.values())) > bounds.TAR_HEADER_BYTES:
            raise tars.HostileHeaderError(
                f"common headers of more than {bounds.TAR_HEADER_BYTES} bytes"
            )
        if member.isdir():
            continue
        reason = _kind_left_out(member) or wanted(name)
        if reason:
            left_out[reason] += 1
            continue
        content = archive.extractfile(member)
        assert content is not None, member.name  # only for what is not a regular file
        with content:
            left_out[_AGAIN] += _write(content, target / name, member.size)[1]
    return +left_out


def _kind_left_out(member: tarfile.TarInfo) -> str | None:
    if member.issparse():  # its map may cost hours to follow
        return "sparse files"
    return None if member.isreg() else "links and devices"


class Room:
    """Counts what is unpacked, and stops before it is too much."""

    def __init__(self, path: Path):
        self.path = path
        self.taken = 0
        self.limit = bounds.unpacked_bytes(path.stat().st_size)

    def take(self, size: int, header: int = 0) -> None:
        """Counts a file of so many bytes; refuses what is too much."""
        if size < 0:
            raise VtccError(f"{self.path}: holds a file of negative size; it is not unpacked")
        self.taken += max(size + header, bounds.ARCHIVE_ENTRY_BYTES)
        if self.taken > self.limit:
            raise VtccError(
                f"{self.path}: unpacks to more than {self.limit >> 20} MiB, "
                f"{bounds.ARCHIVE_RATIO} times its size, as no images do; if you trust it, unpack "
                "it by hand and name the folder"
            )


def _safe(path: Path, name: str) -> PurePosixPath:
    shown = repr(name[:_SHOWN]) + ("..." if len(name) > _SHOWN else "")
    if "\0" in name:
        raise VtccError(f"{path}: holds {shown}, which is no file name; it is not unpacked")
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or re.match("[A-Za-z]:[/\\\\]", name):
        raise VtccError(
            f"{path}: holds {shown}, a path that leads outside the archive; it is not unpacked"
        )
    if len(parts.parts) > bounds.ARCHIVE_DEPTH:
        raise VtccError(
            f"{path}: holds {shown}, a path of more than {bounds.ARCHIVE_DEPTH} folders; it is not "
            "unpacked"
        )
    return parts


def _write(content: IO[bytes], file: Path, size: int) -> tuple[int, bool]:
    """Writes what was declared, bounded whatever comes.

    Returns:
        Its CRC-32, and whether it took the place of an earlier file, as names may come again.
    """
    again = file.exists()
    try:
        out = file.open("wb")
    except FileNotFoundError:
        file.parent.mkdir(parents=True)
        out = file.open("wb")
    checksum = 0
    with out:
        while size and (data := content.read(min(size, _PIECE_BYTES))):
            out.write(data)
            size -= len(data)
            checksum = zlib.crc32(data, checksum)
    if size or _has_more(content):
        raise EOFError(f"{file.name!r} holds {'less' if size else 'more'} than it declares")
    return checksum, again


def _has_more(content: IO[bytes]) -> bool:
    try:
        return bool(content.read(1))
    except EOFError:  # LZMA in a zip needs no mark of its end
        return False
