"""Tars of anyone, compressed or not: headers and memory have a bound."""

import bz2
import gzip
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from vtcc import bounds
from vtcc.regular import regular

_PIECE_BYTES = 1 << 16  # copied for each of the streams inside, which may take 32 bytes
_tarfile: Any = tarfile  # two errors that its types leave out
_TRUNCATED, _INVALID = _tarfile.TruncatedHeaderError, _tarfile.InvalidHeaderError
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class HostileHeaderError(tarfile.TarError):
    """No ReadError, which says of the first header that this is no tar."""


class _Header(tarfile.TarInfo):
    """A tar's header that reads a bounded amount, with all that goes before its member."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        """The next one; tarfile takes one that is damaged for the end of the archive."""
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            cut = isinstance(error, _TRUNCATED)
            if archive.offset and (cut or isinstance(error, _INVALID)):
                why = "the archive ends in a header" if cut else "a damaged header"
                raise HostileHeaderError(why) from None
            raise

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0:  # would go back to what was read already, for ever
            raise HostileHeaderError("a header of negative size")
        whole: Any = archive.fileobj
        archive.fileobj = cast(Any, _BoundedReader(whole, self.type in _PAX))
        try:
            member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
            return member
        finally:
            archive.fileobj = whole


class _BoundedReader:
    """What of an archive is read for one member's headers; each header adds one around another.

    Attributes:
        depth: how many headers of this member there were.
    """

    def __init__(self, file: Any, pax: bool):
        self._file, self._pax = file, pax
        self._left = bounds.TAR_HEADER_BYTES
        self.depth: int = getattr(file, "depth", 0) + 1
        if self.depth > bounds.TAR_HEADERS:
            raise HostileHeaderError(f"more than {bounds.TAR_HEADERS} headers of one member")

    def read(self, size: int) -> bytes:
        """What tarfile asks for, which is a header's data first and then the next header."""
        self._left -= size
        if self._left < 0:
            raise HostileHeaderError(f"a header of more than {bounds.TAR_HEADER_BYTES} bytes")
        data: bytes = self._file.read(size)
        if self._pax:
            self._pax = False
            _check_pax(data)
        return data

    def tell(self) -> int:
        """Where the next byte lies."""
        position: int = self._file.tell()
        return position


def _check_pax(data: bytes) -> None:
    """Refuses records for which tarfile takes time or memory by the square of their size."""
    at = records = 0
    while at < len(data) and data[at]:
        records += 1
        if records > bounds.TAR_RECORDS:
            raise HostileHeaderError(f"more than {bounds.TAR_RECORDS} records in a header")
        length, _, _ = data[at : at + 20].partition(b" ")
        record = data[at : at + int(length)] if length.isdigit() else b""
        if not record.endswith(b"\n") or b"=" not in record:
            raise HostileHeaderError("a damaged pax header")
        at += len(record)
    if max(map(len, re.findall(rb"\d+", data)), default=0) > bounds.TAR_DIGITS:
        raise HostileHeaderError(f"a number of more than {bounds.TAR_DIGITS} digits")


class _Xz:
    """Expands .xz or .lzma, as lzma.LZMAFile does, but with a bound on memory."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._expand = self._decompressor()

    def _decompressor(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=bounds.DICTIONARY_BYTES + bounds.MIB)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        data = b""
        while not data:
            packed = b""
            if self._expand.eof:  # streams may follow each other, zeros between them
                packed = self._expand.unused_data.lstrip(b"\0")
                packed = packed or self._file.read(_PIECE_BYTES).lstrip(b"\0")
                if not packed:
                    break
                self._expand = self._decompressor()
            elif self._expand.needs_input and not (packed := self._file.read(_PIECE_BYTES)):
                raise EOFError("the archive ends too early")
            data = self._expand.decompress(packed, size)
        return data


_EXPANDERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": _Xz,
    b"\x5d\0\0": _Xz,
}


@contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile | None]:
    """A tar, compressed or not; None where it is none."""
    with regular(path).open("rb") as file:
        head = file.read(512)
        file.seek(0)
        expander = next((e for magic, e in _EXPANDERS.items() if head.startswith(magic)), None)
        if expander is None or head[257:262] == b"ustar":  # whatever its first name begins with
            expander = cast(Any, lambda plain: plain)
        content = cast(IO[bytes], expander(file))
        try:
            archive = tarfile.open(fileobj=content, mode="r|", tarinfo=_Header)  # noqa: SIM115
        except tarfile.ReadError:
            yield None
        else:
            with archive:
                yield archive
