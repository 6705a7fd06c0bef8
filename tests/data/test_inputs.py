"""Images in any form are the same images; what is wrong with a form is one line."""

import csv
import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.callbacks import Callback
from PIL import Image
from typer.testing import CliRunner

from tests.data.web import serve_directory, serving
from tests.fakes import stand_in, uninstall
from vtcc import bounds
from vtcc.cli import app
from vtcc.data import inputs, remote
from vtcc.data.walk import RESULTS, in_words
from vtcc.errors import TemporaryError, VtccError
from vtcc.extras import MissingExtra
from vtcc.grouping import intake, workdir
from vtcc.grouping.options import Options
from vtcc.verbs import cluster, predict

N = 12
NAMES = [f"{'ab'[i % 2]}/{i:02d}.png" for i in range(N)]


@pytest.fixture
def photos(tmp_path):
    """12 pictures in two folders."""
    root = tmp_path / "photos"
    for i, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def as_list(photos):
    (photos / "list.txt").write_text("\n".join(reversed(NAMES)) + "\n\n", encoding="utf-8")
    return [photos / "list.txt"]


def as_csv(photos):
    rows = [f"{photos / name},{i},Gr\xfc\xdfe" for i, name in enumerate(NAMES)]
    text = "\n".join(["path,number,words", *rows])
    (photos / "t.csv").write_text(text, encoding="utf-8-sig")
    return [photos / "t.csv"]


def as_parquet(photos):
    pq.write_table(pa.table({"path": NAMES, "n": range(N)}), photos / "t.parquet")
    return [photos / "t.parquet"]


def as_files(photos):
    return [photos / name for name in NAMES]


def as_folders(photos):
    return [photos / "b", photos / "a", photos / NAMES[0]]


def as_tars(photos):
    """As WebDataset writes them: a key for each sample, its label beside it."""
    place = photos.with_name("shards")
    place.mkdir()
    for kind in "ab":
        with tarfile.open(place / f"{kind}.tar", "w") as tar:
            for name in NAMES:
                if name.startswith(kind):
                    tar.add(photos / name, name[2:])
                    label = tarfile.TarInfo(f"{name[2:-4]}.cls")
                    label.size = 1
                    tar.addfile(label, io.BytesIO(b"7"))
    return [place]


def as_zip(photos):
    with zipfile.ZipFile(photos.with_name("all.zip"), "w") as archive:
        for name in NAMES:
            archive.write(photos / name, name)
    return [photos.with_name("all.zip")]


def as_hub_parquet(photos):
    """As datasets of the Hugging Face hub are."""
    place = photos.with_name("hub")
    place.mkdir()
    for kind in "ab":
        cells = [
            {"bytes": (photos / name).read_bytes(), "path": name}
            for name in NAMES
            if name.startswith(kind)
        ]
        pq.write_table(pa.table({"image": cells, "label": [3] * 6}), place / f"{kind}.parquet")
    return [place]


def as_binary_column(photos):
    data = [(photos / name).read_bytes() for name in sorted(NAMES)]
    pq.write_table(pa.table({"img": [*data, None]}), photos.with_name("one.parquet"))
    return [photos.with_name("one.parquet")]


FORMS = [
    *(as_list, as_csv, as_parquet, as_files, as_folders),
    *(as_tars, as_zip, as_hub_parquet, as_binary_column),
]


def read(given, place):
    found = intake.listed(*given, place=place / "images")
    how = {"channels": 3, "size": 16, "max_pixels": 1000}
    return found, intake.cached(found, place / "work" / "cache", name="x", **how)[0]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images_in_the_same_order(form, photos, tmp_path):
    plain, expected = read([photos], tmp_path / "plain")
    found, cache = read(form(photos), tmp_path / "other")
    assert (cache.images == expected.images).all()
    if "images" not in str(found.root):  # the same names as well
        assert cache.digest == expected.digest
        assert found.names == plain.names == sorted(NAMES)
    assert found.labels is None  # the sub-folders of a folder alone are classes
    assert plain.classes == ["a", "b"]


def test_names_of_shards_are_their_paths_and_what_is_inside(photos, tmp_path, capsys):
    place = tmp_path / "p"
    (shards,) = as_tars(photos)
    assert intake.listed(shards, place=place).names[:2] == ["a.tar/00.png", "a.tar/02.png"]
    told = capsys.readouterr()
    assert "hidden" not in told.out + told.err  # what says that a shard is unpacked is none
    assert not list(place.rglob("*.cls"))
    (shards / "val").mkdir()
    (shards / "b.tar").rename(shards / "val" / "a.tar")  # two of one name
    found = intake.listed(shards, place=place)
    assert found.names[5:8] == ["a.tar/10.png", "val/a.tar/01.png", "val/a.tar/03.png"]
    before = [file.stat().st_mtime_ns for file in found.files]
    again = intake.listed(shards / "val" / "a.tar", photos, place=place)
    assert [again.names[0], again.names[-1]] == ["p" + str(shards / "val" / "a.tar/01.png"),
                                                 "photos/b/11.png"]  # fmt: skip
    assert [file.stat().st_mtime_ns for file in found.files] == before  # not unpacked again
    (hub,) = as_hub_parquet(photos)
    assert intake.listed(hub, place=place).names[6] == "b.parquet/00000000.png"


def test_a_folder_of_images_keeps_its_archives_packed(photos, tmp_path):
    as_zip(photos)[0].rename(photos / "backup.zip")
    assert len(intake.listed(photos, place=tmp_path / "p").names) == N
    assert not (tmp_path / "p").exists()


def test_a_shard_that_changed_is_unpacked_again(photos, tmp_path):
    (shard,) = as_binary_column(photos)
    assert len(intake.listed(shard, place=tmp_path / "p").names) == N
    data = [(photos / name).read_bytes() for name in NAMES[:10]]
    pq.write_table(pa.table({"image": data}), shard)
    assert len(intake.listed(shard, place=tmp_path / "p").names) == 10


@pytest.mark.parametrize("form", ["zip", "tar", "parquet"])
def test_images_of_a_shard_that_grew_keep_their_stamps(form, photos, tmp_path):
    """Or `vtcc add` would take each of them for a changed one."""
    shard, later = tmp_path / f"all.{form}", b"P5 1 1 255 "

    def write(data):
        if form == "parquet":
            pq.write_table(pa.table({"image": list(data.values())}), shard)
        elif form == "zip":
            with zipfile.ZipFile(shard, "w") as archive:
                for name, content in data.items():
                    archive.writestr(name, content)
        else:
            with tarfile.open(shard, "w") as archive:
                for name, content in data.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))

    data = {name: (photos / name).read_bytes() for name in NAMES}
    write(data)
    before = intake.listed(shard, place=tmp_path / "p")
    other = data[NAMES[3]][:-1] + b"\1"
    write(data | {NAMES[3]: other, "z/last.png": later})
    after = intake.listed(shard, place=tmp_path / "p")
    stamps = dict(zip(before.names, before.stamps, strict=True))
    now = dict(zip(after.names, after.stamps, strict=True))
    assert len(now) == N + 1
    changed = [name for name in stamps if now[name] != stamps[name]]
    assert len(changed) == 1
    file = dict(zip(after.names, after.files, strict=True))[changed[0]]
    assert file.read_bytes() == other


def test_columns_of_a_table_come_along(photos):
    found = intake.listed(*as_csv(photos), photos / "a")
    assert found.columns["number"] == {name: str(i) for i, name in enumerate(NAMES)}
    assert set(found.columns["words"].values()) == {"Grüße"}
    assert intake.listed(*as_parquet(photos)).columns == {
        "n": {name: i for i, name in enumerate(NAMES)}
    }


BAD = {
    "l.txt": {
        "": "l.txt: names no image",
        "a/00.png\n./a//00.png": "image 2, 'a/00.png', is image 1 as well; take one out",
        "../secret.png": r"image 1 is '\.\./secret.png'; paths lead to files in the folder",
        "a/00.png\n/etc/passwd": "image 2 is '/etc/passwd'; paths lead to files in the folder",
        "https://x.org/a.png": "image 1 is 'https://x.org/a.png'; paths lead to files",
        b"a/00.png\ncaf\xe9.png": "l.txt: line 2 is not UTF-8; save it as UTF-8",
    },
    "t.csv": {
        "": "no column 'path', which says where each image is .found: nothing",
        "image,x\na.png,1": r"no column 'path', .*\(found: image, x\)$",
        "file,cluster\na.png,1": r"\(found: file, cluster\); rename 'file' to 'path', and leave ",
        "path,x": "t.csv: names no image",
        "path,x,x\na,1,2": "two columns are called 'x'; rename one",
        "path,x\na.png,1,2": "row 2 has 3 cells, the header 2; write them alike",
        "path\na.png\na.png": "image 2, 'a.png', is image 1 as well",
        "path,x\n,1": "image 1 is ''; paths lead to files",
        b"path\n\xff.png": "line 2 is not UTF-8",
    },
    "t.parquet": {"PAR1 of nothing": "t.parquet: cannot be read as Parquet"},
    "t.tar": {"no tar": r"^\S+t\.tar: not a zip or tar archive, or a damaged one; replace it$"},
    "t.docx": {"": "t.docx: not an input by its name; give a folder, an image, a list"},
}


@pytest.mark.parametrize(
    ("name", "content", "message"), [(n, c, m) for n, of in BAD.items() for c, m in of.items()]
)
def test_what_is_wrong_is_one_line(name, content, message, photos):
    file = photos / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VtccError, match=message) as caught:
        intake.listed(file, place=photos.with_name("p"))
    assert "\n" not in str(caught.value)
    assert not list(photos.parent.glob("p/**/*.png"))


def test_a_parquet_without_paths_or_images_is_refused(photos):
    pq.write_table(pa.table({"text": ["a"], "image": [7]}), photos / "t.parquet")
    with pytest.raises(VtccError, match=r"no column 'path'.*found: text, image"):
        intake.listed(photos / "t.parquet")


def test_a_parquet_that_grows_without_end_is_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "ARCHIVE_FREE_BYTES", 1 << 20)
    monkeypatch.setattr(bounds, "ARCHIVE_RATIO", 10)
    same = [(photos / NAMES[0]).read_bytes() + bytes(10_000)] * 2000  # one value in the file
    pq.write_table(pa.table({"image": same}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 50_000
    with pytest.raises(VtccError, match="unpacks to more than 1 MiB"):
        intake.listed(tmp_path / "t.parquet", place=tmp_path / "p")
    assert not list((tmp_path / "p").rglob("*.png"))


def test_a_table_that_repeats_one_path_without_end_is_refused(photos, monkeypatch):
    monkeypatch.setattr(bounds, "EXPANDED_BYTES", 4 << 20)
    table = pa.table({"path": ["x" * 1000] * 20_000, "n": range(20_000)})
    pq.write_table(table.select(["path"]), photos / "t.parquet")
    assert (photos / "t.parquet").stat().st_size < 5000
    read = 0

    def counted(file, names):
        nonlocal read
        read += len(names)
        return names

    stand_in(monkeypatch, inputs, "_checked", counted)
    with pytest.raises(VtccError, match="table of more than 4 MiB, 100 times the size of its file"):
        inputs.parts([photos / "t.parquet"], None)
    assert read == 0
    pq.write_table(table.select(["n"]).rename_columns(["path"]), photos / "n.parquet")
    inputs.parts([photos / "n.parquet"], None)
    assert read == 20_000
    monkeypatch.setattr(bounds, "ARCHIVE_ENTRIES", 19_999)
    with pytest.raises(VtccError, match="20000 rows, more than 19999; give it in parts"):
        inputs.parts([photos / "n.parquet"], None)


def test_results_are_called_after_the_first_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v1.zip").mkdir()
    for given, called in {
        "v1.zip": "v1.zip",
        "a/photos.tar.gz": "a/photos",
        "list.txt": "list",
        "s3://bucket/trip/": "trip",
        "https://x.org/d/shard.tar?key=s%2Fecret": "shard",
    }.items():
        assert inputs.home(given) == tmp_path / called
    options = cluster.options(["list.txt", "b", "c"], "auto", params=None, assignments=[])
    assert (options.title, options.name) == ("list and 2 more", "list and 2 more")
    options = cluster.options(["https://x.org/a.tar"], "auto", params=None, assignments=[])
    assert workdir.place(options) == tmp_path / "a-clusters"


def test_results_lie_beside_what_is_meant_however_it_is_named(photos, tmp_path, monkeypatch):
    def asked(given, out=None):
        return cluster.options([str(given)], "auto", params=None, assignments=[], out=out)

    (photos / "a" / "deep").mkdir()
    (tmp_path / "l.txt").write_text("photos/a")
    (tmp_path / "linked").symlink_to(photos / "a" / "deep")
    beside = photos.with_name("photos-clusters")
    assert photos.parent == tmp_path
    for standing, given in (
        (photos / "a", ".."),
        (photos / "a", "deep/../.."),
        (photos, "a/.."),
        (photos, "."),
        (tmp_path, "linked/../.."),  # where the link leads to, as `ls` has it
        (photos / "a", f"../../{photos.name}/"),
    ):
        monkeypatch.chdir(standing)
        options = asked(given)
        assert (workdir.place(options), options.title) == (beside, "photos")
        workdir.refuse_inside(options, workdir.place(options))
        assert inputs.kept(given) == str(photos)
    monkeypatch.chdir(photos)
    assert workdir.place(asked("../l.txt")) == tmp_path.with_name("l-clusters")
    assert workdir.place(asked("a", Path("../b/../r"))) == tmp_path / "r"


def test_the_root_has_nothing_beside_it(photos, tmp_path, monkeypatch):
    def asked(given, out=None):
        return cluster.options([str(given)], "auto", params=None, assignments=[], out=out)

    for given in ("/", "/..", "/tmp/.."):
        with pytest.raises(VtccError, match=r"^/: is all there is, which leaves no place"):
            workdir.place(asked(given, tmp_path / "r"))
    with pytest.raises(VtccError, match=r"^--out: / cannot be a folder of results; name one in it"):
        workdir.place(asked(photos, Path("/")))
    assert workdir.place(asked("/in")) == Path("/in-clusters")  # a folder that is mounted there
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda self: str(self) == "/a.zip" or is_file(self))
    assert workdir.place(asked("/a.zip")) == Path("/a-clusters")


@pytest.mark.parametrize("form", [as_list, as_csv, as_parquet, as_zip, as_files])
def test_results_of_a_file_are_not_among_the_images_of_its_folder(form, photos, monkeypatch):
    def place(given):
        return workdir.place(cluster.options(given, "auto", params=None, assignments=[]))

    given = form(photos)[0]
    inside = Path(shutil.move(given, photos / given.name))
    called = f"{inputs.home(inside).name}-clusters"
    assert place([str(inside)]) == photos.with_name(called)
    monkeypatch.chdir(photos)
    assert place([inside.name, "a"]) == photos.with_name(called)
    assert place(["."]) == photos.with_name("photos-clusters")


def test_results_may_lie_beside_a_list_and_not_in_a_folder_of_images(photos):
    workdir.refuse_inside(Options(photos / "l.txt"), photos / "l-clusters")
    with pytest.raises(VtccError, match="lies inside the images' folder"):
        workdir.refuse_inside(Options(photos / "l.txt", others=(photos,)), photos / "l-clusters")


def test_a_server_of_this_machine_is_copied_once(photos, tmp_path, capsys):
    (photos / ".hidden.png").write_bytes(b"x")
    (photos / "notes.doc").write_bytes(b"x")
    with serve_directory(photos.parent) as address:
        found = intake.listed(f"{address}/photos", place=tmp_path / "p")
        host = address.removeprefix("http://")
        assert found.root == tmp_path / "p" / host / "photos"
        assert found.names == sorted(NAMES)
        assert found.classes == ["a", "b"]  # a folder as any other
        assert found.files[0].read_bytes() == (photos / "a/00.png").read_bytes()
        assert f"{address}/photos: 12 files, copied to" in capsys.readouterr().out
        shards = as_zip(photos)[0]
        packed = intake.listed(f"{address}/{shards.name}", place=tmp_path / "p")
        assert packed.names[0] == "all.zip/a/00.png"
        with pytest.raises(VtccError, match="a list at an address"):
            as_list(photos)
            intake.listed(f"{address}/photos/list.txt", place=tmp_path / "p")
        with pytest.raises(VtccError, match=r"gone\.png: cannot be read") as gone:
            intake.listed(f"{address}/gone.png?key=secret", place=tmp_path / "p")
        assert "secret" not in str(gone.value)
        with pytest.raises(VtccError, match="copy it first, and name the folder"):
            inputs.parts([f"{address}/photos"], None)
    with pytest.raises(TemporaryError, match="cannot be reached"):
        intake.listed(f"{address}/other.png", place=tmp_path / "p")


@pytest.mark.parametrize("says_size", [True, False])
def test_a_page_of_links_is_copied_once(says_size, photos, tmp_path):
    """A page does not say sizes, and some servers do not say them of a file either."""
    fetched = []

    class Server(SimpleHTTPRequestHandler):
        def do_GET(self):
            fetched.append(self.path)
            super().do_GET()

        def send_header(self, keyword, value):
            if says_size or keyword != "Content-Length":
                super().send_header(keyword, value)

        def log_message(self, *args):
            pass

    with serving(partial(Server, directory=str(photos))) as address:
        first = intake.listed(f"{address}/a", place=tmp_path / "p", least=1)
        fetched.clear()
        again = intake.listed(f"{address}/a", place=tmp_path / "p", least=1)
        assert again.stamps == first.stamps
        files = {path for path in fetched if path.endswith(".png")}
        assert len(files) == (0 if says_size else N // 2)
        changed = photos / "a" / "00.png"
        changed.write_bytes(changed.read_bytes() + b"more")
        later = intake.listed(f"{address}/a", place=tmp_path / "p", least=1)
        assert later.stamps[1:] == first.stamps[1:]
        assert later.stamps[0] != first.stamps[0]
        assert later.files[0].read_bytes() == changed.read_bytes()


def test_an_address_that_cannot_be_read_names_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(VtccError, match="ftp://: no kind of address that is read; known: s3://"):
        remote.copied("ftp://host/x", tmp_path, ())
    with pytest.raises(VtccError, match=r"leads through '\.\.'"):
        remote.copied("s3://bucket/../../x", tmp_path, ())
    uninstall(monkeypatch, "s3fs")
    message = r"s3://bucket/x: Install s3fs to access S3: pip install 'vtcc\[remote\]'"
    with pytest.raises(MissingExtra, match=message) as caught:
        remote.copied("s3://me:secret@bucket/x", tmp_path, ())
    assert "secret" not in str(caught.value)
    assert re.match(r"^[^\n]+$", str(caught.value))
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        *("s3:///home/me/x.jpg", "hf:///datasets/a/b", "https://%2Fetc/x.jpg", "https://me@/x.jpg"),
        *("https://./", "https://%2E%2E/x.jpg", "https://a%2F..%2F..%2Fb/x.jpg"),
    ],
)
def test_no_copy_lands_outside_its_place(address, tmp_path):
    with pytest.raises(VtccError, match="no host or bucket; write it behind"):
        remote.copied(address, tmp_path, ())
    with pytest.raises(VtccError, match=r"leads through '\.\.'"):
        remote.copied("https://host/a%2F..%2F..%2Fb.jpg", tmp_path, ())
    assert list(tmp_path.iterdir()) == []


def says_one_byte(server):
    server.send_response(200)
    server.send_header("Content-Length", "1")
    server.end_headers()


def test_copying_stops_at_its_bounds(photos, tmp_path, monkeypatch):
    size = (photos / NAMES[0]).stat().st_size
    (photos / "big.jpg").write_bytes(bytes(20 << 20))
    place, name = tmp_path / "p", photos.name
    with serve_directory(photos.parent) as address:
        monkeypatch.setattr(bounds, "DATASET_FILE_BYTES", 19 << 20)
        with pytest.raises(VtccError, match=r"'big\.jpg' has more than 19 MiB"):
            remote.copied(f"{address}/{name}", place, ())
        assert not list(place.rglob("*big*"))
        monkeypatch.setattr(bounds, "COPIED_BYTES", 7 << 20)  # of an archive alone this one holds
        monkeypatch.setattr(SimpleHTTPRequestHandler, "do_HEAD", says_one_byte)
        updated, pieces = Callback.relative_update, []
        monkeypatch.setattr(
            Callback, "relative_update", lambda self, n: (pieces.append(n), updated(self, n))
        )
        with pytest.raises(VtccError, match=r"/big\.jpg: more than 7 MiB; copy what you need"):
            remote.copied(f"{address}/{name}/big.jpg", place, (".jpg",))
        assert 7 << 20 < sum(pieces) < 15 << 20  # it stopped on the way
        assert not list(place.rglob("*big*"))
        (photos / "big.jpg").unlink()
        monkeypatch.setattr(bounds, "COPIED_BYTES", 11 * size)
        with pytest.raises(VtccError, match="more than 0 MiB"):
            remote.copied(f"{address}/{name}", place, ())
        monkeypatch.undo()
        monkeypatch.setattr(bounds, "ARCHIVE_ENTRIES", 14)  # two folders, 12 images, and the page
        with pytest.raises(VtccError, match="more than 14 names; give addresses of"):
            remote.copied(f"{address}/{name}", place, ())
        monkeypatch.setattr(bounds, "ARCHIVE_ENTRIES", 15)
        remote.copied(f"{address}/{name}", place, ())


def test_a_long_film_at_an_address_costs_the_images_nothing(photos, tmp_path, monkeypatch, capsys):
    (photos / "long.MP4").write_bytes(bytes(2 << 20))
    (photos / "short.mp4").write_bytes(bytes(1 << 19))
    monkeypatch.setattr(bounds, "DATASET_FILE_BYTES", 1 << 20)
    with serve_directory(photos.parent) as address:
        copy = inputs.parts([f"{address}/{photos.name}"], tmp_path / "p")[0].top
        assert (copy / "short.mp4").stat().st_size == 1 << 19
        assert (copy / NAMES[0]).exists() and not (copy / "long.MP4").exists()
        assert "1 video left out, longer than 1 MiB" in capsys.readouterr().out
        with pytest.raises(VtccError, match=r"'long\.MP4' has more than 1 MiB"):
            inputs.parts([f"{address}/{photos.name}/long.MP4"], tmp_path / "q")


def test_results_of_vtcc_at_an_address_are_not_copied(photos, tmp_path, capsys):
    made = photos / "made"
    for name in (
        "summary.json",
        "report.html",
        "embedding.npz",
        "report/s0.jpg",
        "clusters.parquet",
    ):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"x")
    (photos / "b" / "summary.json").touch()
    with serve_directory(photos.parent) as address:
        found = intake.listed(f"{address}/photos", place=tmp_path / "p")
        assert found.names == sorted(NAMES)
        assert not list((tmp_path / "p").rglob("made"))
        said = in_words(Counter({RESULTS: 1}))
        assert f"{address}/photos: left out {said}" in capsys.readouterr().out
        with pytest.raises(VtccError, match="/made: no images there"):
            intake.listed(f"{address}/photos/made", place=tmp_path / "p")


def test_what_is_deleted_at_an_address_goes_from_its_copy(photos, tmp_path, capsys):
    place = tmp_path / "p"
    with serve_directory(photos.parent) as address:
        given = [f"{address}/photos/{NAMES[1]}", f"{address}/photos"]
        copy = inputs.parts(given, place)[1].top
        others = [copy.with_name("other") / "x.png", copy / "s.tar" / "0.png"]
        for file in (*others, copy / "s.tar" / ".stamp"):  # of another address, of a shard
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"x")
        (photos / NAMES[0]).unlink()
        (photos / NAMES[1]).rename(photos / "b/new.png")
        found = intake.listed(f"{address}/photos/b", place=place, least=2)
        assert found.names == [*(n[2:] for n in sorted(NAMES)[7:]), "new.png"]
        assert (copy / NAMES[0]).exists()  # below another address
        inputs.parts([f"{address}/photos"], place)
        assert not (copy / NAMES[0]).exists()
        assert (
            "photos: 1 file of an earlier copy deleted, as gone there\n" in capsys.readouterr().out
        )
    assert all(file.exists() for file in others)


def test_a_table_of_our_own_is_an_input(photos):
    """A path that a spreadsheet would run is written as another one of the same file."""
    (photos / "=1.png").write_bytes((photos / NAMES[0]).read_bytes())
    with (photos / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path"], ["./=1.png"], *([name] for name in NAMES)])
    assert intake.listed(photos / "t.csv").names[0] == "=1.png"


def test_links_out_of_a_page_are_not_followed(tmp_path, photos):
    (photos / "index.html").write_text(
        '<a href="/">up</a> <a href="a/00.png">a</a> <a href="../other.png">b</a> '
        '<a href="a/">a</a> <a href="?C=N">sorted</a> <a href="http://127.0.0.1:9/x.png">c</a>'
    )
    (photos.parent / "other.png").write_bytes(b"x")
    with serve_directory(photos.parent) as address:
        copied = remote.copied(f"{address}/photos/", tmp_path / "p", ())
    assert sorted(f.relative_to(copied).as_posix() for f in copied.rglob("*") if f.is_file()) == [
        name for name in sorted(NAMES) if name.startswith("a/")
    ]


def test_what_results_keep_of_an_address_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inputs.kept("https://me:pw@x.org/a.tar?key=1") == "https://x.org/a.tar"
    assert inputs.kept("photos") == str(tmp_path / "photos")
    odd = tmp_path / os.fsdecode(b"Fotos-\xe9")
    odd.mkdir()
    kept = json.loads(json.dumps([inputs.kept(odd.name)]))  # leads there still
    assert [Path(path).is_dir() for path in kept] == [True]
    (tmp_path / "empty").mkdir()
    with pytest.raises(VtccError, match=r"/Fotos-%E9, .*/empty: .*, and grouping needs"):
        intake.listed(odd, tmp_path / "empty")


def test_no_secret_of_an_address_is_in_names_or_messages(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret = "https://user:pw@host/photos{}?X-Amz-Signature=a/bc"
    stand_in(monkeypatch, remote, "copied", lambda address, place, wanted: photos)
    (part,) = inputs.parts([secret.format("")], tmp_path / "p")
    assert part.given == part.shown == "https://host/photos"
    assert next(e.path for e in predict.entries([part])) == "https://host/photos/a/00.png"
    stand_in(monkeypatch, remote, "copied", lambda address, place, wanted: photos / NAMES[0])
    (part,) = inputs.parts([secret.format("/00.png")], tmp_path / "p")
    assert [e.path for e in predict.entries([part])] == ["https://host/photos/00.png"]
    assert inputs.home("https://user:pw@host?X-Amz-Signature=a/bc") == tmp_path / "host"
    messages = []
    for call in (
        lambda: intake.listed(secret.format("/00.png"), place=tmp_path / "p"),
        lambda: inputs.parts([secret.format("/list.txt")], tmp_path),
        lambda: inputs.parts([secret.format("")], None),
        lambda: inputs.home("https://user:pw@[x/?X-Amz-Signature=abc"),
        lambda: inputs.home("https://user:p/w@host/?X-Amz-Signature=abc"),
    ):
        with pytest.raises(VtccError, match=r"host|\[x/") as caught:
            call()
        messages.append(str(caught.value))
    (photos / "l.txt").write_text(secret.format("/00.png"))
    with pytest.raises(VtccError, match=r"image 1 is 'https://host/photos/00\.png'") as caught:
        intake.listed(photos / "l.txt")
    for message in (*messages, str(caught.value)):
        assert not re.search("user|pw|p/w|Amz", message), message


@pytest.mark.parametrize("address", ["https://[x/", "s3://[x", "http://host:port/a.jpg"])
def test_a_mistyped_address_is_one_line(address, tmp_path):
    with pytest.raises(VtccError, match=f"'{re.escape(address)}': no address that can be read"):
        inputs.parts([address], tmp_path)
    with pytest.raises(VtccError, match="no address that can be read"):
        inputs.kept(address)


@pytest.mark.parametrize(
    ("flags", "columns"),
    [
        ([], ()),
        (["--exif"], ("taken_at", "camera")),
        (["--exif", "--place"], ("taken_at", "camera", "latitude", "longitude")),
    ],
)
def test_the_command_line_takes_several_inputs_and_columns(flags, columns, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = stand_in(monkeypatch, cluster, "run", lambda options: {})
    ran = CliRunner().invoke(app, ["cluster", "a", "s3://b/c", *flags, "--json"])
    assert ran.exit_code == 0, ran.output
    (options,) = asked.call_args.args
    assert (options.folder, options.others, options.exif) == ("a", ("s3://b/c",), columns)


@pytest.mark.parametrize(
    "pair", [("http://h/i.jpg?id=1", "http://h/i.jpg?id=2"), ("s3://b/x", "gs://b/x")]
)
def test_addresses_with_one_place_are_refused(pair, tmp_path):
    with pytest.raises(VtccError, match="copies would lie in one place") as refused:
        inputs.parts(pair, tmp_path)
    assert "id=" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["l.txt", "l.csv", "l.parquet"])
def test_a_pipe_called_like_a_list_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(VtccError, match=r"a pipe or a device, not a list or table"):
        inputs.parts([tmp_path / name], None)


def test_paths_as_bytes_in_parquet_are_paths(tmp_path):
    file = tmp_path / "b.parquet"
    pq.write_table(pa.table({"path": pa.array(["\u00e9.jpg".encode()])}), file)
    assert inputs.parts([file], None)[0].names == ["\u00e9.jpg"]
    pq.write_table(pa.table({"path": pa.array([b"\xe9.jpg"])}), file)
    with pytest.raises(VtccError, match="cannot be read as Parquet"):
        inputs.parts([file], None)


def test_a_parquet_of_paths_at_an_address_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"path": ["a.jpg"]}), file)
    monkeypatch.setattr(inputs, "_copied", create_autospec(inputs._copied, return_value=file))
    with pytest.raises(VtccError, match=r"https://h/t.parquet: a list at an address; copy it"):
        inputs.parts(["https://h/t.parquet"], tmp_path / "place")
