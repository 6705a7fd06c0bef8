"""Archives that hold more than they declare, and tars whose headers mean harm."""

import gzip
import lzma
import os
import random
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from tests.data.memory import peak
from vtcc import bounds
from vtcc.data import archive
from vtcc.errors import VtccError

CLAIMED_CRC = zlib.crc32(bytes(70))
METHODS = {
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


def header(name: bytes, kind: bytes, size: int, data: bytes = b"", **more) -> bytes:
    """A member of a tar: one block of header, then its data in whole blocks."""
    head = bytearray(tarfile.TarInfo(name.decode()).tobuf(tarfile.GNU_FORMAT))
    head[156:157] = kind
    head[124:136] = b"%011o\0" % size if size >= 0 else b"\xff" + (size % 2**88).to_bytes(11, "big")
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
    "a name of a megabyte": (
        pax((b"path", b"../" + b"a" * 900_000)) + IMAGE,
        "aaa'..., a path that leads outside",
    ),
    "a sparse map of words": (pax((b"GNU.sparse.map", b"a,b")) + IMAGE, "invalid literal"),
    "a sparse map without end": (pax(*SPARSE.items()) + IMAGE, "cannot be unpacked"),
    "a long map": (
        header(b"1.png", b"S", 0, t482=b"\1") + (bytes(504) + b"\1" + bytes(7)) * 4096,
        f"a header of more than {MiB} bytes",
    ),
    "a size that leads back": (IMAGE + header(b"2.png", b"0", -1024), "negative size"),
    "a pax size that leads back": (pax((b"size", b"-1024")) + IMAGE, "negative size"),
    "common headers without end": (
        b"".join(pax((b"k%d" % i, bytes(MiB // 2)), kind=b"g") + IMAGE for i in range(3)),
        f"common headers of more than {MiB} bytes",
    ),
    "many common keys": (
        pax(*((b"k%d" % i, b"v") for i in range(100)), kind=b"g") + IMAGE,
        "more than 64 keys for all files",
    ),
    "records that overlap": (header(b"pax", b"x", 60_000, b"1 a" * 20_000) + IMAGE, "damaged pax"),
    "a record without end": (header(b"pax", b"x", 9, b"99 a=b\n") + IMAGE, "damaged pax header"),
    "a number without end": (pax((b"a", b"1" * 300)) + IMAGE, "256 digits"),
    "folders without end": (pax((b"path", b"a/" * 65 + b"1.png")) + IMAGE, "more than 64 folders"),
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
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert time.monotonic() - start < 2
    assert archive.known(path) in (True, False)


CUT = {
    "a header that is cut off": (IMAGE + IMAGE[:300], b"", "the archive ends in a header"),
    "another checksum": (IMAGE + b"2" + IMAGE[1:], bytes(1024), "a damaged header"),
    "words between members": (IMAGE + b"x" * 512 + IMAGE, bytes(1024), "a damaged header"),
    "a size that is none": (pax((b"size", b"abc")) + IMAGE, bytes(1024), "a damaged header"),
}


@pytest.mark.parametrize("name", CUT)
def test_a_tar_that_is_damaged_behind_its_beginning_is_not_taken_for_its_end(tmp_path, name):
    data, end, words = CUT[name]
    (tmp_path / "a.tar").write_bytes(data + end)
    with pytest.raises(VtccError, match=rf"cannot be unpacked .{words}"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    (tmp_path / "b.tar").write_bytes(IMAGE)  # no mark of its end, as some programs leave it
    assert not unpack(tmp_path / "b.tar", tmp_path / "two")
    assert (tmp_path / "two/1.png").read_bytes() == b"1"


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inside = zip_of([b"other.png"], data=b"other", method=0)
    (tmp_path / "a.tar").write_bytes(IMAGE + header(b"b.zip", b"0", len(inside), inside))
    assert archive.known(tmp_path / "a.tar")
    assert not unpack(tmp_path / "a.tar", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["1.png", "b.zip"]
    (tmp_path / "b.zip").write_bytes(
        b"\x7fELF" + bytes(9000) + zip_of([b"1.png"], data=b"", method=0)
    )
    assert archive.known(tmp_path / "b.zip")  # behind a program that unpacks it
    assert not unpack(tmp_path / "b.zip", tmp_path / "two")
    assert (tmp_path / "two/1.png").read_bytes() == b""


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_files_of_a_name_that_comes_again_are_counted(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "tar":
        again = (header(name, b"0", 1, b"2") for name in (b"./1.png", b"././1.png"))
        path.write_bytes(IMAGE + b"".join(again) + bytes(1024))
    else:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("1.png", b"1")
            packed.writestr("./1.png", b"2")
            packed.writestr("././1.png", b"2")
    assert unpack(path, tmp_path / "out") == {"earlier files of the same name": 2}
    assert (tmp_path / "out/1.png").read_bytes() == b"2"


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_is_unpacked_and_what_is_left_out_for_which_reason(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "tar":
        links = (header(name, b"2", 0) for name in (b"3.png", b"4.png"))
        notes = (header(name, b"0", 1, b"x") for name in (b"a.txt", b"b.txt"))
        first = header(b"a", b"5", 0) + header(b"a/b/c/1.png", b"0", 1, b"1")
        last = header(b"2.png", b"0", 1, b"2") + bytes(1024)
        path.write_bytes(b"".join([first, *links, *notes, last]))
    else:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr(zipfile.ZipInfo("a/"), b"")
            packed.writestr(r"a\b\c\1.png", b"1")  # as some Windows programs do
            for name, mode in {"3.png": 0o120777, "4.png": 0o120777, "2.png": 0o100755}.items():
                member = zipfile.ZipInfo(name)
                member.external_attr = mode << 16
                packed.writestr(member, b"2")
            packed.writestr("a.txt", b"x")
            packed.writestr("b.txt", b"x")
    (tmp_path / "out").mkdir()
    left_out = archive.unpack(
        path, tmp_path / "out", wanted=lambda name: None if name.suffix == ".png" else "no image"
    )
    assert left_out == {"links and devices": 2, "no image": 2}
    files = {p for p in (tmp_path / "out").rglob("*") if not p.is_dir()}
    assert {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in files} == {
        "a/b/c/1.png": b"1",
        "2.png": b"2",
    }


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", ["../1.png", "c:/1.png", r"Z:\1.png"])
def test_the_path_that_leads_outside_is_named(tmp_path, kind, name):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(
        zip_of([name.encode()]) if kind == "zip" else header(name.encode(), b"0", 0) + bytes(1024)
    )
    with pytest.raises(VtccError) as caught:
        unpack(path, tmp_path / "out")
    shown = name.replace("\\", "/") if kind == "zip" else name
    assert str(caught.value).startswith(f"{path}: holds {shown!r}, a path that leads outside")


def test_what_lies_at_a_bound_is_unpacked(tmp_path):
    within = {
        "keys for all files": pax(*((b"k%d" % i, b"v") for i in range(64)), kind=b"g") + IMAGE,
        "common headers": b"".join(
            pax((b"k%d" % i, bytes(MiB // 2)), kind=b"g") + IMAGE for i in range(2)
        ),
        "folders": pax((b"path", b"a/" * 63 + b"1.png")) + IMAGE,
    }
    for name, data in within.items():
        (tmp_path / f"{name}.tar").write_bytes(data + bytes(1024))
        unpack(tmp_path / f"{name}.tar", tmp_path / name)
        (file,) = (tmp_path / name).rglob("1.png")
        assert file.read_bytes() == b"1"


def test_what_is_known_as_an_archive(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of([b"1.png"]))
    (tmp_path / "a.tar").write_bytes(IMAGE)
    (tmp_path / "hostile.tar").write_bytes(BROKEN_TARS["a chain of long links"][0])
    (tmp_path / "a.txt").write_text("no archive")
    (tmp_path / "empty").write_bytes(b"")
    known = {path.name for path in (*tmp_path.iterdir(), tmp_path) if archive.known(path)}
    assert known == {"a.zip", "a.tar"}
    for name in ("a.txt", "empty"):
        with pytest.raises(archive.NoArchiveError, match=f"{name}: not a zip or tar archive"):
            archive.unpack(tmp_path / name, tmp_path, wanted=lambda name: None)


def test_an_error_without_words_is_named_by_its_kind(tmp_path, monkeypatch):
    (tmp_path / "a.tar").write_bytes(IMAGE)
    failing = create_autospec(archive._write, side_effect=EOFError)
    monkeypatch.setattr(archive, "_write", failing)
    with pytest.raises(VtccError, match=r"a\.tar: cannot be unpacked \(EOFError\)"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_many_records_in_a_header_are_refused(tmp_path):
    for many in (1024, 1025):
        records = pax(*((b"%d" % i, b"v") for i in range(many)))
        (tmp_path / f"{many}.tar").write_bytes(records + IMAGE + bytes(1024))
    assert not unpack(tmp_path / "1024.tar", tmp_path / "out")
    with pytest.raises(VtccError, match="more than 1024 records in a header"):
        unpack(tmp_path / "1025.tar", tmp_path / "two")


def test_empty_streams_of_xz_take_little_time(tmp_path):
    data = lzma.compress(b"") * 20_000 + lzma.compress(IMAGE + bytes(1024))
    (tmp_path / "a.tar.xz").write_bytes(data)
    start = time.process_time()
    assert not unpack(tmp_path / "a.tar.xz", tmp_path / "out")
    assert time.process_time() - start < 1  # 2 s where each copied a megabyte
    assert (tmp_path / "out/1.png").read_bytes() == b"1"


def test_a_sparse_file_is_left_out(tmp_path):
    (tmp_path / "a.tar").write_bytes(header(b"2.png", b"S", 0) + IMAGE + bytes(1024))
    assert unpack(tmp_path / "a.tar", tmp_path / "out") == {"sparse files": 1}
    assert (tmp_path / "out/1.png").read_bytes() == b"1"


@pytest.mark.parametrize("method", METHODS)
def test_a_zip_of_any_compression_is_unpacked(tmp_path, monkeypatch, method):
    monkeypatch.setattr(archive, "_PIECE_BYTES", 1 << 14)
    content = random.Random(0).randbytes(100_000)  # of several pieces
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
@pytest.mark.parametrize("checksum", [CLAIMED_CRC, 7])
def test_a_member_of_another_size_than_declared_is_refused(tmp_path, method, checksum):
    path = tmp_path / "a.zip"
    own = method != "deflate"  # zipfile has words of its own for what it expands by itself
    for size, words in ((70, "holds more than it declares"), (5000, "holds less")):
        with zipfile.ZipFile(path, "w", METHODS[method]) as packed:
            packed.writestr("1.png", bytes(1000))
        declared(path, size, checksum)
        if method == "deflate" and checksum == CLAIMED_CRC and size == 70:
            continue  # zipfile cuts it by itself
        with pytest.raises(VtccError, match=r"cannot be unpacked") as caught:
            unpack(path, tmp_path / f"out{size}")
        assert "\n" not in str(caught.value)
        assert not own or f"('1.png' {words}" in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_member_with_another_checksum_than_declared_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", METHODS[method]) as packed:
        packed.writestr("1.png", bytes(1000))
    declared(tmp_path / "a.zip", 1000, 7)
    words = "Bad CRC-32 for file" if method == "deflate" else "wrong checksum of"
    with pytest.raises(VtccError, match=f"cannot be unpacked .{words} '1.png'"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def lzma_data(content: bytes, lc=3, lp=0, pb=2, *, length=5, settings=None, dictionary=1 << 16):
    """A member's data as PKWARE's APPNOTE 5.8.8 has them, the header as asked for."""
    kind = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": lc, "lp": lp, "pb": pb}
    packed = lzma.compress(content, lzma.FORMAT_RAW, filters=[kind])
    settings = (pb * 5 + lp) * 9 + lc if settings is None else settings
    return struct.pack("<HHBI", 0x0914, length, settings, dictionary) + packed


@pytest.mark.parametrize("settings", [(3, 0, 2), (0, 2, 4), (1, 3, 0), (4, 0, 4), (0, 0, 3)])
def test_every_setting_of_lzma_is_read(tmp_path, settings):
    content = random.Random(0).randbytes(500) * 3
    data = lzma_data(content, *settings)
    for name, part in {"whole": data, "no mark of its end": data[:-4]}.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(zip_of([b"1.png"], content=content, data=part, method=zipfile.ZIP_LZMA))
        assert not unpack(path, tmp_path / name)
        assert (tmp_path / name / "1.png").read_bytes() == content


@pytest.mark.parametrize("damage", [{"settings": 225}, {"length": 6}])
def test_settings_that_lzma_does_not_have_are_refused(tmp_path, damage):
    data = lzma_data(b"1", **damage)
    (tmp_path / "a.zip").write_bytes(
        zip_of([b"1.png"], content=b"1", data=data, method=zipfile.ZIP_LZMA)
    )
    with pytest.raises(VtccError, match=r"damaged LZMA header of '1\.png'"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_dictionary_in_a_zip_is_bounded_by_the_file_and_then_refused(tmp_path, monkeypatch):
    for size in (8192, 8193):  # what more the header asks for is of no use
        content = bytes(size)
        data = lzma_data(content, dictionary=2**31)
        (tmp_path / f"{size}.zip").write_bytes(
            zip_of([b"1.png"], content=content, data=data, method=zipfile.ZIP_LZMA)
        )
    (tmp_path / "large.zip").write_bytes((tmp_path / "8192.zip").read_bytes())
    declared(tmp_path / "large.zip", 2**29, 7)
    words = r"LZMA with a dictionary of 512 MiB; allowed: 128\)"
    with pytest.raises(VtccError, match=words):
        unpack(tmp_path / "large.zip", tmp_path / "large")
    monkeypatch.setattr(bounds, "DICTIONARY_BYTES", 8192)
    assert not unpack(tmp_path / "8192.zip", tmp_path / "out")
    with pytest.raises(VtccError, match="LZMA with a dictionary of"):
        unpack(tmp_path / "8193.zip", tmp_path / "two")


def zip_of(
    names,
    size: int = 0,
    data: bytes | None = None,
    method: int = 8,
    content: bytes | None = None,
) -> bytes:
    """A zip whose members all are one and the same, under many names: zeros, if not `content`."""
    content = bytes(size) if content is None else content
    packed = zlib.compress(content, 9)[2:-4] if data is None else data
    sizes = struct.pack("<III", zlib.crc32(content), len(packed), len(content))
    local = b"PK\3\4" + struct.pack("<5H", 20, 0, method, 0, 0) + sizes
    start = local + struct.pack("<HH", 5, 0) + b"1.png" + packed
    central = b"".join(
        b"PK\1\2"
        + struct.pack("<6H", 20, 20, 0, method, 0, 0)
        + sizes
        + struct.pack("<5HII", len(name), 0, 0, 0, 0, 0, 0)
        + name
        for name in names
    )
    count = min(len(names), 0xFFFF)  # which zipfile does not read
    end = struct.pack("<4HIIH", 0, 0, count, count, len(central), len(start), 0)
    return start + central + b"PK\5\6" + end


def test_a_zip_of_overlapping_members_is_refused_before_one_is_written(tmp_path):
    names = [b"%03d.png" % i for i in range(600)]
    (tmp_path / "a.zip").write_bytes(zip_of(names, size=2 * MiB))
    with pytest.raises(VtccError, match=r"unpacks to more than 1024 MiB, 100 times its size"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_members_are_listed_and_more_than_allowed_are_not(tmp_path, monkeypatch, count):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of([b"%05d.txt" % i for i in range(count)]))
    (tmp_path / "out").mkdir()
    left_out = archive.unpack(path, tmp_path / "out", wanted=lambda name: "other files")
    assert left_out == {"other files": count}
    monkeypatch.setattr(bounds, "ARCHIVE_ENTRIES", 2000)
    with pytest.raises(VtccError, match="lists more than 2000 files"):
        archive.unpack(path, tmp_path / "out", wanted=lambda name: None)


def test_each_member_counts_as_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "ARCHIVE_FREE_BYTES", 256 * bounds.ARCHIVE_ENTRY_BYTES)
    with gzip.open(tmp_path / "a.tar.gz", "wb") as packed:
        packed.write(header(b"1.png", b"0", 0) * 257)
    with pytest.raises(VtccError, match="unpacks to more than 1 MiB"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_room_is_taken_in_blocks_up_to_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "ARCHIVE_FREE_BYTES", 3 * 4096)
    (tmp_path / "a.zip").write_bytes(b"")
    room = archive.Room(tmp_path / "a.zip")
    room.take(1)
    room.take(8192)
    with pytest.raises(VtccError, match=r"unpacks to more than 0 MiB, 100 times its size"):
        room.take(0)
    room = archive.Room(tmp_path / "a.zip")
    room.take(8192, header=4096)
    assert room.taken == room.limit


def test_headers_of_a_tar_count_as_what_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "ARCHIVE_FREE_BYTES", MiB)
    member = pax((b"comment", b"a" * 16_384)) + IMAGE  # 18 KiB
    for count in (50, 70):
        with gzip.open(tmp_path / f"{count}.tar.gz", "wb") as packed:
            packed.write(member * count + bytes(1024))
    left_out = unpack(tmp_path / "50.tar.gz", tmp_path / "out")
    assert left_out == {"earlier files of the same name": 49}
    with pytest.raises(VtccError, match="unpacks to more than 1 MiB"):
        unpack(tmp_path / "70.tar.gz", tmp_path / "two")


@pytest.mark.parametrize("method", [lzma.FORMAT_XZ, lzma.FORMAT_ALONE])
def test_a_dictionary_of_half_a_gigabyte_is_refused(tmp_path, method):
    content = header(b"1.png", b"0", 1, b"1") + header(b"2.png", b"0", 600, b"2" * 600)
    kind = lzma.FILTER_LZMA2 if method == lzma.FORMAT_XZ else lzma.FILTER_LZMA1
    for dictionary in (64 * MiB, 512 * MiB):
        packer = lzma.LZMACompressor(method, filters=[{"id": kind, "dict_size": 1 << 20}])
        data = packer.compress(content + bytes(1024)) + packer.flush()
        # Packing with such a dictionary would take gigabytes: only the header claims it.
        if method == lzma.FORMAT_XZ:
            size = {64: 28, 512: 34}[dictionary // MiB]  # as the format counts it
            at = data.index(b"\x21\x01") + 2
            block = bytearray(data[12:24])
            block[at - 12] = size
            block[8:12] = struct.pack("<I", zlib.crc32(bytes(block[:8])))
            data = data[:12] + bytes(block) + data[24:]
        else:
            data = data[:1] + struct.pack("<I", dictionary) + data[5:]
        (tmp_path / "a.tar.xz").write_bytes(data)
        if dictionary == 64 * MiB:
            assert not unpack(tmp_path / "a.tar.xz", tmp_path / "out")
            assert (tmp_path / "out/2.png").read_bytes() == b"2" * 600
    with pytest.raises(VtccError, match=r"cannot be unpacked .Memory usage limit exceeded"):
        unpack(tmp_path / "a.tar.xz", tmp_path / "two")


def test_streams_of_xz_that_follow_each_other_are_one(tmp_path):
    content = header(b"1.png", b"0", 600, b"1" * 600) + bytes(1024)
    parts = [lzma.compress(content[:700]), bytes(8), lzma.compress(content[700:]), bytes(4)]
    (tmp_path / "a.tar.xz").write_bytes(b"".join(parts))
    assert not unpack(tmp_path / "a.tar.xz", tmp_path / "out")
    assert (tmp_path / "out/1.png").read_bytes() == b"1" * 600
    (tmp_path / "b.tar.xz").write_bytes(b"".join(parts[:2]) + parts[2][:30])
    with pytest.raises(VtccError, match=r"cannot be unpacked"):
        unpack(tmp_path / "b.tar.xz", tmp_path / "two")


def test_a_pipe_is_no_archive(tmp_path):
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(VtccError, match="a pipe or a device, not an archive"):
        archive.unpack(tmp_path / "a.zip", tmp_path, wanted=lambda name: None)
    assert not archive.known(tmp_path / "a.zip")


# 48 MiB of zeros, which bzip2 takes seconds to pack.
ZEROS_BZIP2 = bytes.fromhex(
    "425a68393141592653590e09e2df015f8e4000c0000008200030804d4642a025a90a8097314159265359da26d9b7"
    "0021f44000c000000820003080291b348aa834515507177245385090c6351c09"
)


def test_bombs_of_archives_take_no_memory(tmp_path):
    piece = bytes(MiB)
    (tmp_path / "bzip2.zip").write_bytes(zip_of([b"1.png"], 70, ZEROS_BZIP2, zipfile.ZIP_BZIP2))
    for method in ("deflate", "lzma"):
        path = tmp_path / f"{method}.zip"
        with (
            zipfile.ZipFile(path, "w", METHODS[method]) as packed,
            packed.open("1.png", "w") as member,
        ):
            for _ in range(16):
                member.write(piece)
        declared(path, 70, 7)
    whole = (tmp_path / "lzma.zip").read_bytes()
    at = whole.index(b"1.png") + 5 + 5  # behind the version, the length and the properties
    (tmp_path / "wide.zip").write_bytes(whole[:at] + struct.pack("<I", 2**31) + whole[at + 4 :])
    declared(tmp_path / "wide.zip", 2**29, 7)
    with gzip.open(tmp_path / "link.tar.gz", "wb", 1) as packed:
        packed.write(header(b"long", b"K", 16 * MiB))
        for _ in range(16):
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
        "(LZMA with a dictionary of 512 MiB",
    ]
    assert mib < 12
