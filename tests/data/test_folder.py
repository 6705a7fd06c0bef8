import io
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.data.project import make_folder
from vtcc import bounds
from vtcc.data import folder, walk
from vtcc.errors import VtccError

ODD = ["with space.png", "😀 ünï.PNG", "new\nline.jpeg", '\'"quotes,".gif', "a\\b.webp", "-rf.bmp"]


def find(path: Path, tmp_path: Path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return folder.find(path, scratch)


def names_of(found) -> list[str]:
    return sorted(found.paths)


def test_a_plain_folder_is_unlabelled(tmp_path):
    source = make_folder(tmp_path / "in", [*ODD, "x.tif", "y.TIFF"])
    found = find(source, tmp_path)
    assert names_of(found) == sorted([*ODD, "x.tif", "y.TIFF"])
    assert found.labels is None and list(found.class_names) == []
    for i, name in enumerate(found.paths):
        assert Path(found.read(i)).read_bytes() == (source / name).read_bytes()
    assert found.notes == [f"{source}: 8 images"]


def test_sub_folders_are_classes(tmp_path):
    source = make_folder(tmp_path / "in", ["dog/1.png", "NA/1.png", "dog/deep/er/2.png"])
    found = find(source, tmp_path)
    assert list(found.class_names) == ["NA", "dog"]
    assert dict(zip(found.paths, found.labels, strict=True)) == {
        "NA/1.png": 0,
        "dog/1.png": 1,
        "dog/deep/er/2.png": 1,
    }
    assert found.notes[0].endswith("in 2 sub-folders, taken for classes (used to evaluate only)")


@pytest.mark.parametrize(
    "names", [["a/1.png", "a/2.png"], ["a/1.png", "b/2.png", "3.png"], ["a/b/1.png", "a/c/2.png"]]
)
def test_other_folders_are_unlabelled(tmp_path, names):
    found = find(make_folder(tmp_path / "in", names), tmp_path)
    assert found.labels is None and names_of(found) == sorted(names)


def test_what_is_no_image_is_left_out_and_counted(tmp_path):
    source = make_folder(tmp_path / "in", ["a/1.png", "b/2.png"])
    for name in ("notes.txt", "a/Thumbs.db", ".DS_Store", "a/._1.png", ".git/x.png", "no_suffix"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("x")
    (source / "__MACOSX").mkdir()
    (source / "__MACOSX/1.png").write_text("x")
    (source / "empty").mkdir()
    os.mkfifo(source / "pipe.png")
    (source / "gone.png").symlink_to("nowhere")
    found = find(source, tmp_path)
    assert names_of(found) == ["a/1.png", "b/2.png"] and found.labels == [0, 1]
    assert found.notes[1] == (
        f"{source}: left out 2 broken links, pipes and devices, 4 hidden, 3 other files"
    )


def test_links_are_followed_but_not_in_circles(tmp_path):
    source = make_folder(tmp_path / "in", ["a/1.png", "b/2.png"])
    make_folder(tmp_path / "elsewhere", ["3.png"])
    (source / "a/loop").symlink_to(source)
    (source / "b/self").symlink_to(".")
    (source / "c").symlink_to(tmp_path / "elsewhere")
    (source / "d").symlink_to(source / "a")
    (source / "b/file.png").symlink_to(source / "a/1.png")
    (source / "around.png").symlink_to("around.png")
    assert names_of(find(source, tmp_path)) == ["a/1.png", "b/2.png", "b/file.png", "c/3.png"]


def test_the_folder_is_not_written_to(tmp_path):
    source = make_folder(tmp_path / "in", ["a/1.png", "b/2.png"])
    before = {p: p.stat().st_mtime_ns for p in [source, *source.rglob("*")]}
    find(source, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in [source, *source.rglob("*")]} == before


def test_an_unreadable_directory_is_named(tmp_path, monkeypatch):
    source = make_folder(tmp_path / "in", ["a/1.png", "locked/2.png"])
    scandir = os.scandir

    def refuse(path):  # permissions do not hold root back
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(VtccError) as caught:
        find(source, tmp_path)
    assert str(caught.value) == (
        f"{source}/locked: this directory cannot be read (Permission denied); change its "
        "permissions, or take it out of the folder"
    )


def test_what_a_disk_keeps_closed_for_itself_is_passed_over(tmp_path, monkeypatch):
    closed = ["lost+found", "System Volume Information", "$RECYCLE.BIN", "b/lost+found"]
    source = make_folder(tmp_path / "in", ["a/1.png", "b/2.png", *(f"{c}/3.png" for c in closed)])
    assert len(folder.listed(source)) == 6  # which are read where they can be
    scandir = os.scandir

    def refuse(path):
        if str(path).removeprefix(f"{source}/") in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    left_out = Counter()
    assert folder.listed(source, left_out) == ["a/1.png", "b/2.png"]
    assert walk.in_words(left_out) == (
        "1 closed $RECYCLE.BIN, 1 closed System Volume Information, 2 closed lost+found"
    )
    assert find(source, tmp_path).notes[1] == f"{source}: left out {walk.in_words(left_out)}"
    # The folder that was asked for is no other's business.
    monkeypatch.setattr(os, "scandir", lambda path: refuse(source / "lost+found"))
    with pytest.raises(VtccError, match="this directory cannot be read"):
        folder.listed(source / "lost+found")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no image in "),
        (["1.png"], "1 image in .*, and grouping needs at least 2"),
        (
            ["a.txt", "b.jxl", ".c.png"],
            "left out: 1 JPEG 2000 or XL .*, 1 hidden, 1 other file",
        ),
    ],
)
def test_too_few_images_are_refused(tmp_path, names, message):
    source = tmp_path / "in"
    source.mkdir()
    with pytest.raises(VtccError, match=message) as caught:
        find(make_folder(source, names), tmp_path)
    assert "\n" not in str(caught.value)


def test_names_that_are_not_utf8_become_text(tmp_path):
    source = make_folder(tmp_path / "in", ["a.png"])
    raw = os.fsencode(source) + b"/caf\xe9.png"
    Path(os.fsdecode(raw)).write_bytes(b"latin")
    found = find(source, tmp_path)
    assert names_of(found) == ["a.png", "caf%E9.png"]
    assert Path(found.read(found.paths.index("caf%E9.png"))).read_bytes() == b"latin"
    (source / "caf%E9.png").write_bytes(b"clash")
    with pytest.raises(VtccError, match="two files would both be called 'caf%E9"):
        folder.find(source, tmp_path)


def pack(source: Path, target: Path, top: str = "") -> Path:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(source.rglob("*")):
                packed.write(file, f"{top}{file.relative_to(source)}")
    else:
        modes = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}
        with tarfile.open(target, modes[target.suffix]) as packed:
            packed.add(source, top or ".")
    return target


@pytest.mark.parametrize(
    "name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2", "noname.zip"]
)
@pytest.mark.parametrize("top", ["", "photos/"])
def test_archives(tmp_path, name, top):
    source = make_folder(tmp_path / "in", ["b/2.PNG", "a/😀 1.jpg", "a/x/3.webp"])
    (source / "a/readme.txt").write_text("x")
    (source / ".hidden.png").write_text("x")
    found = find(pack(source, tmp_path / name, top), tmp_path)
    assert names_of(found) == [f"{top}a/x/3.webp", f"{top}a/😀 1.jpg", f"{top}b/2.PNG"]
    assert list(found.class_names) == ["a", "b"] and sorted(found.labels) == [0, 0, 1]
    assert found.notes[1].endswith("left out 1 hidden, 1 other file")
    for i, path in enumerate(found.paths):
        original = source / path.removeprefix(top)
        assert Path(found.read(i)).read_bytes() == original.read_bytes()


def tar_of(path: Path, *members: tuple[str, bytes, bytes]) -> Path:
    with tarfile.open(path, "w") as packed:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            packed.addfile(info, io.BytesIO(data))
    return path


REGULAR = tarfile.REGTYPE


@pytest.mark.parametrize(
    "name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "C:/evil.png"]
)
def test_paths_that_lead_outside_are_refused(tmp_path, name):
    tarred = tar_of(tmp_path / "a.tar", ("1.png", REGULAR, b"1"), (name, REGULAR, b"2"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("1.png", b"1")
        packed.writestr(name.replace("/", "\\") if name[0] != "/" else name, b"2")
    for i, path in enumerate((tarred, tmp_path / "a.zip")):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(VtccError, match="leads outside the archive; it is not unpacked"):
            folder.find(path, tmp_path / str(i))
    assert not list(tmp_path.rglob("evil.png"))


def test_a_colon_in_a_name_is_no_drive(tmp_path):
    path = tar_of(tmp_path / "a.tar", ("a: b.png", REGULAR, b"1"), ("c:d.png", REGULAR, b"2"))
    (tmp_path / "out").mkdir()
    assert sorted(folder.find(path, tmp_path / "out").paths) == ["a: b.png", "c:d.png"]


def test_a_zip_whose_names_are_not_what_they_claim_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("ä.png", b"1")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xfe"))
    (tmp_path / "out").mkdir()
    with pytest.raises(VtccError, match="cannot be unpacked"):
        folder.find(path, tmp_path / "out")


def test_links_and_devices_in_archives_are_left_out(tmp_path):
    path = tar_of(
        tmp_path / "a.tar",
        ("1.png", REGULAR, b"1"),
        ("2.png", REGULAR, b"2"),
        ("link.png", tarfile.SYMTYPE, b""),
        ("hard.png", tarfile.LNKTYPE, b""),
        ("device.png", tarfile.CHRTYPE, b""),
        ("pipe.png", tarfile.FIFOTYPE, b""),
    )
    found = find(path, tmp_path)
    assert names_of(found) == ["1.png", "2.png"]
    assert found.notes[1].endswith("left out 4 links and devices")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("1.png", b"1")
        packed.writestr("2.png", b"2")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, b"/etc/passwd")
    (tmp_path / "z").mkdir()
    assert names_of(folder.find(tmp_path / "a.zip", tmp_path / "z")) == ["1.png", "2.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar.xz"])
def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(bounds, "ARCHIVE_FREE_BYTES", 1 << 16)
    source = tmp_path / "in"
    source.mkdir()
    for i in range(4):
        (source / f"{i}.bmp").write_bytes(bytes(1 << 20))
    path = pack(source, tmp_path / f"a{suffix}")
    with pytest.raises(VtccError, match=r"unpacks to more than .* as no images do"):
        find(path, tmp_path)
    assert sum(f.stat().st_size for f in (tmp_path / "scratch").rglob("*.bmp")) < 2 << 20


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_damaged_archives_are_refused_in_one_line(tmp_path, name):
    path = pack(make_folder(tmp_path / "in", [f"{i}.png" for i in range(40)]), tmp_path / name)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VtccError, match=r"cannot be unpacked|damaged") as caught:
        find(path, tmp_path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_zip_with_a_damaged_member_is_refused(tmp_path):
    path = pack(make_folder(tmp_path / "in", ["1.png", "2.png"]), tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(VtccError, match="cannot be unpacked"):
        find(path, tmp_path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = pack(make_folder(tmp_path / "in", ["1.png", "2.png"]), tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(VtccError, match="encrypted; unpack it by hand"):
        find(path, tmp_path)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.rar").write_text("Rar!")
    with pytest.raises(VtccError, match=r"a\.rar is neither a dataset card .* nor a folder"):
        find(tmp_path / "a.rar", tmp_path)
