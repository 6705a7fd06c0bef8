"""Archives that hold more than they declare, and tars whose headers mean harm."""

import gzip
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.data.memory import peak
from vtcc.data import archive
from vtcc.errors import VtccError

TOLD = zlib.crc32(bytes(70))
METHODS = {
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


def header(name: bytes, kind: bytes, size: int, data: bytes = b"", **more) -> bytes:
    """A member of a tar: one block of header, then its data in whole blocks."""
    head = bytearray(tarfile.TarInfo(name.decode()).tobuf(tarfile.GNU_FORMAT))
    head[156:157] = kind
    head[124:136] = (
        b"%011o\0" % size if size >= 0 else b"\xff" + (size % 2**88).to_bytes(11, "big")
    )
    for at, value in more.items():
        head[int(at[1:]) : int(at[1:]) + len(value)] = value
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data + bytes(-len(data) % 512)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    data = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        data += b"%d %s=%s\n" % (length, key, value)
    return header(b"pax", kind, len(data), data)


IMAGE = header(b"1.png", b"0", 1, b"1")
LONG = header(b"long", b"K", 3, b"abc")
SPARSE = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
MiB = 1 << 20
BROKEN_TARS = {
    "a chain of long links": (LONG * 2000 + IMAGE, "more than 16 headers of one member"),
    "a chain of pax headers": (pax((b"a", b"b")) * 2000 + IMAGE, "more than 16 headers"),
    "a null byte": (pax((b"path", b"a\0b.png")) + IMAGE, "which is no file name"),
    "a sparse map of words": (pax((b"GNU.sparse.map", b"a,b")) + IMAGE, "invalid literal"),
    "a sparse map without end": (pax(*SPARSE.items()) + IMAGE, "cannot be unpacked"),
    "a long map": (
        header(b"1.png", b"S", 0, t482=b"\1") + (b"\1" * 512) * 4096,
        f"a header of more than {MiB} bytes",
    ),
    "a size that leads back": (IMAGE + header(b"2.png", b"0", -1024), "negative size"),
    "a pax size that leads back": (pax((b"size", b"-1024")) + IMAGE, "negative size"),
    "common headers without end": (
        b"".join(pax((b"k%d" % i, bytes(MiB // 2)), kind=b"g") + IMAGE for i in range(3)),
        f"common headers of more than {MiB} bytes",
    ),
}


def unpack(path: Path, target: Path):
    target.mkdir()
    return archive.unpack(path, target, wanted=lambda name: None)


@pytest.mark.parametrize("name", BROKEN_TARS)
def test_a_broken_tar_is_refused_in_one_line(tmp_path, name):
    data, words = BROKEN_TARS[name]
    path = tmp_path / "a.tar"
    path.write_bytes(data + bytes(1024))
    start = time.monotonic()
    with pytest.raises(VtccError) as caught:
        unpack(path, tmp_path / "out")
    assert words in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value) and time.monotonic() - start < 2
    assert archive.known(path) in (True, False)


def test_a_sparse_file_is_left_out(tmp_path):
    (tmp_path / "a.tar").write_bytes(header(b"2.png", b"S", 0) + IMAGE + bytes(1024))
    assert unpack(tmp_path / "a.tar", tmp_path / "out") == {"sparse files": 1}
    assert (tmp_path / "out/1.png").read_bytes() == b"1"


@pytest.mark.parametrize("method", METHODS)
def test_a_zip_of_any_compression_is_unpacked(tmp_path, method):
    content = bytes(range(256)) * 9000  # of several pieces
    with zipfile.ZipFile(tmp_path / "a.zip", "w", METHODS[method]) as packed:
        packed.writestr("a/1.png", content)
        packed.writestr("2.png", b"")
    assert not unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/a/1.png").read_bytes() == content
    assert (tmp_path / "out/2.png").read_bytes() == b""


def declared(path: Path, size: int, checksum: int) -> None:
    """Lets the one member of a zip claim a size and a checksum."""
    data = bytearray(path.read_bytes())
    for at in (14, data.rindex(b"PK\1\2") + 16):
        data[at : at + 4] = struct.pack("<I", checksum)
        data[at + 8 : at + 12] = struct.pack("<I", size)
    path.write_bytes(data)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("checksum", [TOLD, 7])
def test_a_member_of_another_size_than_declared_is_refused(tmp_path, method, checksum):
    path = tmp_path / "a.zip"
    for size in (70, 5000):
        with zipfile.ZipFile(path, "w", METHODS[method]) as packed:
            packed.writestr("1.png", bytes(1000))
        declared(path, size, checksum)
        if method == "deflate" and checksum == TOLD and size == 70:
            continue  # zipfile cuts it by itself
        with pytest.raises(VtccError, match=r"cannot be unpacked") as caught:
            unpack(path, tmp_path / f"out{size}")
        assert "\n" not in str(caught.value)


def test_bombs_of_archives_take_no_memory(tmp_path):
    piece = bytes(MiB)
    for method in METHODS:
        path = tmp_path / f"{method}.zip"
        with (
            zipfile.ZipFile(path, "w", METHODS[method]) as packed,
            packed.open("1.png", "w") as member,
        ):
            for _ in range(200 if method == "bzip2" else 100):
                member.write(piece)
        declared(path, 70, 7)
    with gzip.open(tmp_path / "link.tar.gz", "wb", 1) as packed:
        packed.write(header(b"long", b"K", 300 * MiB))
        for _ in range(300):
            packed.write(piece)
        packed.write(IMAGE + bytes(1024))
    refused, mib = peak(
        f"""
from pathlib import Path
from vtcc.data import archive
from vtcc.errors import VtccError
root = Path({str(tmp_path)!r})
baseline = peak_mib()
for file in sorted(root.glob("*.*")):
    target = root / file.stem
    target.mkdir()
    try:
        archive.unpack(file, target, wanted=lambda name: None)
    except VtccError as error:
        print(error)
"""
    )
    reasons = [line.split("cannot be unpacked ")[1].split(";")[0] for line in refused]
    assert reasons == [
        "('1.png' holds more than it declares)",
        "(Bad CRC-32 for file '1.png')",
        f"(a header of more than {MiB} bytes)",
        "('1.png' holds more than it declares)",
    ]
    assert mib < 40  # 424 of the bzip2, 310 of the long link when each was read as a whole
