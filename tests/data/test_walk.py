"""One way through a folder: download, cluster and predict find the same images."""

import itertools
import os
import shutil
import threading
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.fakes import stand_in
from tests.grouping import toy_results
from vtcc.data import archive, camera, decoding, folder, images, inputs, peek, walk
from vtcc.data.sources.tree import Tree
from vtcc.errors import VtccError
from vtcc.extras import install
from vtcc.grouping import intake
from vtcc.grouping.estimator import _items
from vtcc.verbs import predict


@pytest.fixture
def odd(tmp_path):
    """A folder with all that people's folders hold; 5 images."""
    root = tmp_path / "odd"
    for name in ("a.png", "b/c.JPG", "z/real.png", "z/deep/e.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 99).save(root / name, "PNG")
    (root / os.fsdecode(b"caf\xe9.png")).write_bytes((root / "a.png").read_bytes())
    (root / "a-link").symlink_to(root / "z")  # before z in name order
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to(root)
    (root / "self.png").symlink_to("self.png")
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "dir.png").mkdir()
    os.mkfifo(root / "camera.png")
    (root / ".hidden.png").touch()
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "m.png").touch()
    (root / "scan.jp2").touch()
    (root / "notes.txt").touch()
    return root


NAMES = ["a.png", "b/c.JPG", os.fsdecode(b"caf\xe9.png"), "z/deep/e.png", "z/real.png"]


def test_the_walk_counts_what_it_leaves_out(odd):
    left_out = Counter()
    assert sorted(e.path for e in walk.walk(odd, left_out)) == sorted(NAMES)
    assert left_out == {
        "hidden": 2,
        walk.SPECIAL: 3,
        "other files": 2,  # notes.txt, and a link to itself without a suffix
        "JPEG 2000 or XL (convert to JPEG or PNG)": 1,
    }


def test_every_verb_finds_the_same_images(odd, capsys):
    found = folder.find(odd)
    assert sorted(found.read(i) for i in range(5)) == sorted(odd / name for name in NAMES)
    assert sorted(found.paths) == sorted(walk.as_text(name) for name in NAMES)
    by_cluster = intake.listed(odd, least=1)
    assert sorted(by_cluster.files) == sorted(odd / name for name in NAMES)
    assert sorted(e.path for e in predict.entries(inputs.parts([odd], None))) == sorted(
        f"{odd}/{n}" for n in NAMES
    )
    assert Tree(odd, "here").images == sorted(NAMES)
    assert sorted(_items(odd)) == sorted(odd / name for name in NAMES)


def test_a_link_to_a_folder_is_the_same_folder_and_one_to_a_file_is_another_image(tmp_path):
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "a.png").touch()
    (tmp_path / "album").symlink_to("z")
    (tmp_path / "b.png").symlink_to("z/a.png")
    assert sorted(e.path for e in walk.walk(tmp_path)) == ["b.png", "z/a.png"]


def test_results_of_vtcc_are_no_images(tmp_path):
    """The page's pictures, links by cluster, and tables that would be read as shards."""
    photos, inside = tmp_path / "photos", tmp_path / "photos" / "2023-clusters"
    for name in ("2023/a.png", "2023/b.png", "mine/c.png"):
        toy_results.draw(photos / name, 0, 0)
    toy_results.folder_of(tmp_path / "others", 2)
    toy_results.write(tmp_path / "others", inside)
    (inside / "folders").mkdir()
    (inside / "folders" / "a.png").symlink_to(photos / "2023" / "a.png")
    (photos / "mine" / "summary.json").touch()
    (photos / "mine" / "report.html").touch()
    left_out = Counter()
    found = sorted(e.path for e in walk.walk(photos, left_out))
    assert found == ["2023/a.png", "2023/b.png", "mine/c.png"]
    assert left_out == {walk.RESULTS: 1, "other files": 2}
    assert folder.find(photos).class_names == ["2023", "mine"]
    assert [*walk.walk(photos, images_only=False)] != []
    assert not any(e.path.startswith("2023-c") for e in walk.walk(photos, images_only=False))
    why = r"^no image in .*\(left out: 1 folder of results of vtcc\)$"
    with pytest.raises(VtccError, match=why):
        folder.find(inside)


@pytest.mark.parametrize(("kind", "top"), [("zip", "photos"), ("tar", "photos"), ("gztar", ".")])
def test_results_of_vtcc_in_an_archive_are_no_images(tmp_path, capsys, kind, top):
    photos = tmp_path / "photos"
    for name in ("a.png", "b.png", "made/report/s0.jpg", "made/folders/0/a.png", "mine/c.png"):
        toy_results.draw(photos / name, 0, 0)
    for name in ("made/summary.json", "made/report.html", "made/embedding.npz"):
        (photos / name).write_bytes(b"x")
    (photos / "mine" / "summary.json").touch()
    base = tmp_path if top == "photos" else photos
    packed = Path(shutil.make_archive(str(tmp_path / "all"), kind, base, top))
    names = [str(Path(top, name)) for name in ("a.png", "b.png", "mine/c.png")]
    (tmp_path / "room").mkdir()
    assert peek.peeked([packed], tmp_path / "room", 9).images == 3
    for _ in range(2):  # the second time it is unpacked already
        capsys.readouterr()
        assert len(intake.listed(packed, place=tmp_path / "place", least=1).names) == 3
        assert walk.in_words(Counter({walk.RESULTS: 1})) in capsys.readouterr().out
    (tmp_path / "scratch").mkdir()
    found = folder.find(packed, tmp_path / "scratch")
    assert sorted(found.paths) == names
    assert walk.in_words(Counter({walk.RESULTS: 1})) in found.notes[-1]


def test_an_archive_of_results_alone_holds_no_image(tmp_path):
    names = ("summary.json", "report.html", "embedding.npz", "report/s0.jpg", "x.jpg/summary.json")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in (*names, "x.jpg", "x.jpg/report.html", "x.jpg/embedding.npz"):
            packed.writestr(name, b"x")
    (tmp_path / "scratch").mkdir()
    said = walk.in_words(Counter({walk.RESULTS: 1}))
    with pytest.raises(VtccError, match=rf"^no image in .*{said}"):
        folder.find(tmp_path / "a.zip", tmp_path / "scratch")


def test_a_folder_that_is_read_is_never_ours_to_move(odd):
    """Ownership is said by who unpacked, however the scratch directory is given."""
    assert not folder.find(odd).ours
    assert not folder.find(odd, odd).ours


def test_a_pipe_that_is_named_is_refused_at_once(odd):
    reasons = []

    def read():
        try:
            images.load(odd / "camera.png", channels=1, max_pixels=9, size=8)
        except images.UnreadableImage as error:
            reasons.append(error.reason)

    opened = threading.Thread(target=read, daemon=True)
    opened.start()
    opened.join(10)
    assert reasons == ["cannot be opened (a pipe or a device, not a file)"]


@pytest.fixture
def without_extra(monkeypatch):
    stand_in(monkeypatch, camera, "suffixes", lambda: frozenset())


@pytest.fixture
def card(tmp_path):
    """A camera's folder, with pairs of each kind."""
    for name in ("IMG_1.HEIC", "IMG_2.jpg", "IMG_3.JPG", "sub/IMG_4.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    paired = ["img_1.mov", "IMG_1.AAE", "IMG_2.CR2", "IMG_3.dng", "IMG_3.xmp"]
    alone = ["IMG_9.NEF", "IMG_4.ARW", "film.MOV", "notes.xmp"]
    # Without a picture of that name a RAW file is it, the first of two.
    of_raw = ["IMG_7.dng", "IMG_7.cr3", "img_7.MP4", "IMG_7.xmp"]
    for name in [*paired, *alone, *of_raw]:
        (tmp_path / name).touch()
    return tmp_path


PICTURES = ["IMG_1.HEIC", "IMG_2.jpg", "IMG_3.JPG", "sub/IMG_4.jpg"]


def test_pairs_of_a_camera_count_as_one_image(card):
    left_out = Counter()
    found = sorted(e.path for e in walk.walk(card, left_out))
    # A RAW file's JPEG lies beside it, not in a folder below.
    assert found == sorted([*PICTURES, "IMG_4.ARW", "IMG_7.cr3", "IMG_9.NEF", "film.MOV"])
    assert left_out == {"other files": 1}


def test_of_a_burst_its_cover_stands_for_it(tmp_path):
    bursts = {
        "00002IMG_00002_BURST20171111030039_COVER.jpg": [
            "00000IMG_00000_BURST20171111030039.jpg",
            "00001IMG_00001_BURST20171111030039.jpg",
        ],
        "IMG_20180914_094602055_BURST000_COVER.jpg": ["IMG_20180914_094602055_BURST001.JPG"],
        "IMG_20180914_094602777_BURST001.jpg": ["IMG_20180914_094602777_BURST002.jpg"],
        "20160101_120000_Burst01.jpg": ["20160101_120000_Burst02.jpg"],
    }
    # The word alone makes no burst, and another folder is another burst.
    single = ["balloon burst 1.jpg", "balloon burst 2.jpg", "sub/20160101_120000_Burst02.jpg"]
    for name in [*bursts, *itertools.chain(*bursts.values()), *single]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    left_out = Counter()
    assert sorted(e.path for e in walk.walk(tmp_path, left_out)) == sorted([*bursts, *single])
    assert walk.in_words(left_out) == "5 further shots of a burst"
    everything = {e.path for e in walk.walk(tmp_path, images_only=False)}
    assert len(everything) == 4 + 5 + 3


def test_without_the_extra_raw_files_and_films_are_counted(card, without_extra):
    left_out = Counter()
    assert sorted(e.path for e in walk.walk(card, left_out)) == PICTURES
    assert walk.in_words(left_out) == (
        f"4 RAW (their previews are read after {install('camera')}), 2 other files, "
        f"2 videos (their first frames are read after {install('camera')})"
    )


def test_of_one_file_is_said_as_of_one():
    """Every reason that a plural has, those of archives and shards too."""
    reasons = ["other files", walk.SPECIAL, walk.OF_A_BURST, walk.UNSUPPORTED[".cr2"]]
    reasons += [walk.UNSUPPORTED[".mov"], "links and devices", "sparse files", archive._AGAIN]
    reasons += ["rows without an image", "hidden"]
    after = f"is read after {install('camera')})"
    assert walk.in_words(Counter(reasons)) == (
        f"1 RAW (its preview {after}, 1 broken link, pipe or device, "
        "1 earlier file of the same name, 1 further shot of a burst, 1 hidden, 1 link or device, "
        f"1 other file, 1 row without an image, 1 sparse file, 1 video (its first frame {after}"
    )
    assert walk.in_words(Counter([*reasons, *reasons])).startswith("2 RAW (their previews are")


def test_data_sets_of_cards_hold_pictures_alone(card):
    assert Tree(card, "here").images == PICTURES  # whatever is installed


def test_what_is_not_read_is_named(tmp_path, without_extra):
    for i in range(3):
        (tmp_path / f"{i}.nef").touch()
    message = r"no image in .*left out: 3 RAW \(their previews are read after pip install 'vtcc\[ca"
    with pytest.raises(VtccError, match=message):
        intake.listed(tmp_path)
    with pytest.raises(VtccError, match=r"^no image in"):  # nobody has set a parameter
        intake.listed(tmp_path)
    with pytest.raises(VtccError, match=message):
        predict.run([tmp_path], "none", out=tmp_path.parent / "t.csv")


def test_threads_keep_the_order_and_stop_early():
    started = []

    def slow(i):
        started.append(i)
        return i * i

    squares = decoding.in_threads(slow, range(10**6), batch=2)
    assert [next(squares) for _ in range(7)] == [(i, i * i) for i in range(7)]
    squares.close()
    assert len(started) < 10**4  # what waits is bounded


def test_decoded_tells_why_beside_what(odd):
    files = [odd / "a.png", odd / "notes.txt", odd / "dir.png", Path("nowhere.png")]
    how = {"channels": 1, "max_pixels": 100, "size": 4}
    pairs = list(decoding.decoded(files, **how))
    assert [file for file, _ in pairs] == files
    assert pairs[0][1].pixels.shape == (4, 4, 1)
    assert [image.reason for _, image in pairs[1:]] == [
        "empty file (0 bytes)",
        "cannot be opened (Is a directory)",
        "cannot be opened (No such file or directory)",
    ]


def test_a_folder_or_a_link_to_nowhere_is_no_picture_beside_a_raw_file(tmp_path):
    (tmp_path / "IMG_1.jpg").mkdir()
    (tmp_path / "IMG_2.jpg").symlink_to("nowhere")
    Image.new("RGB", (8, 8)).save(tmp_path / "IMG_3.jpg")
    for number in (1, 2, 3):
        (tmp_path / f"IMG_{number}.cr2").touch()
    found = {e.path for e in walk.walk(tmp_path, Counter())}
    assert {"IMG_1.cr2", "IMG_2.cr2", "IMG_3.jpg"} <= found
    assert "IMG_3.cr2" not in found
