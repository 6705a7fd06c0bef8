"""What a plan sees of packed images: as many as unpacking gives, and some of them."""

import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vtcc.data import camera, inputs, peek

PICTURE = b"\xff\xd8 a picture"
NAMES = (
    *(f"a/{i}.png" for i in range(3)),
    *("a/1.png", "1.png", "a/IMG.jpg", "a/IMG.dng", "b/IMG.dng"),
    *(f"b/IMG_20260101_120000_BURST{i:03d}.jpg" for i in range(4)),
    "b/IMG_20260101_120000_BURST004_COVER.jpg",
    *("a/.hidden.png", "__MACOSX/a.png", "a/notes.txt"),
)
PICTURES = 3 + 1 + 1 + 1  # numbered, at the top, with its RAW file, the burst


def tar(file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        for name in NAMES:
            member = tarfile.TarInfo(name)
            member.size = len(PICTURE)
            archive.addfile(member, io.BytesIO(PICTURE))
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "1.png"
        archive.addfile(link)


def zipped(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in NAMES:
            archive.writestr(name, PICTURE)
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "1.png")


def table(file: Path, *, struct: bool = True, rows: int = 40) -> None:
    """Every second row of it has no image; the first two have none."""
    cells = [PICTURE + bytes([i]) if i % 2 and i > 2 else None for i in range(rows)]
    column = [None if i % 4 == 0 else {"bytes": c, "path": "p"} for i, c in enumerate(cells)]
    pq.write_table(pa.table({"image": column if struct else cells}), file, row_group_size=16)


@pytest.fixture
def room(tmp_path: Path) -> Path:
    place = tmp_path / "room"
    place.mkdir()
    return place


def unpacked(shard: Path) -> int:
    (part,) = inputs.parts([shard], shard.parent / "unpacked")
    return len(list(part.entries()))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("name", "pack"), [("a.tar", tar), ("a.zip", zipped)])
def test_an_archive_counts_as_it_is_unpacked(tmp_path: Path, room: Path, name, pack) -> None:
    pack(tmp_path / name)
    raw = ".dng" in camera.suffixes()  # b/IMG.dng is a picture then
    assert unpacked(tmp_path / name) == PICTURES + raw
    assert peek.peeked([tmp_path / name], room, 5).images == PICTURES + raw


@pytest.mark.parametrize("struct", [True, False])
def test_a_table_counts_as_it_is_unpacked(tmp_path: Path, room: Path, struct: bool) -> None:
    table(tmp_path / "a.parquet", struct=struct)
    assert unpacked(tmp_path / "a.parquet") == 19
    seen = peek.peeked([tmp_path / "a.parquet"], room, 5)
    assert seen.images == 19
    assert [file.name for file in seen.files] == [f"{i:08d}.jpg" for i in (3, 5, 7, 9, 11)]


@pytest.mark.parametrize("first", [True, False])
def test_a_column_whose_name_looks_like_a_path_is_another(tmp_path: Path, room, first) -> None:
    cells = [None, {"bytes": PICTURE}, {"bytes": PICTURE}]
    flat, column = {"image.bytes": [b"x", None, None]}, {"image": cells}
    pq.write_table(pa.table(flat | column if first else column | flat), tmp_path / "a.parquet")
    assert unpacked(tmp_path / "a.parquet") == 2
    seen = peek.peeked([tmp_path / "a.parquet"], room, 5)
    assert seen.images == 2
    assert [file.read_bytes() for file in seen.files] == [PICTURE, PICTURE]


@pytest.mark.parametrize(("most", "each"), [(7, [2, 2, 3]), (2, [0, 1, 1]), (100, [3, 3, 3])])
def test_no_more_images_are_written_than_are_asked_for(tmp_path, room, most, each) -> None:
    shards = [tmp_path / f"{number}.parquet" for number in range(3)]
    for shard in shards:
        table(shard, rows=8)
    seen = peek.peeked(shards, room, most)
    assert seen.images == 9
    assert [len(list((room / str(number)).iterdir())) for number in range(3)] == each
    assert len(seen.files) == sum(each)


def test_what_one_shard_lacks_the_next_gives(tmp_path: Path, room: Path) -> None:
    table(tmp_path / "a.parquet", rows=4)
    table(tmp_path / "b.parquet", rows=40)
    assert len(peek.peeked([tmp_path / "a.parquet", tmp_path / "b.parquet"], room, 10).files) == 10
