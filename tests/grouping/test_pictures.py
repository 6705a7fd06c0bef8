"""`vtcc add` counts a picture once, of which a walk takes another file than before."""

from types import SimpleNamespace

import pytest
from PIL import Image

from vtcc.data import folder
from vtcc.grouping.add import changes

BURST = "IMG_20180914_094602_BURST{}.jpg"
FIRST, SECOND, THIRD = (BURST.format(shot) for shot in ("001", "002", "003"))
COVER = BURST.format("002_COVER")


@pytest.fixture
def found(tmp_path):
    """What `changes.find` says where some files are known, and others are there then."""

    def find(known, now, *named):
        (photos := tmp_path / "photos").mkdir()
        for name in known:
            (photos / name).write_bytes(name.encode())
        stamps = [folder.stamp(photos / name) for name in known]
        summary = {"root": str(photos), "files": known, "stamps": stamps}
        for name in {*known} - {*now}:
            (photos / name).unlink()
        for name in {*now} - {*known}:
            (photos / name).write_bytes(name.encode())
        given = [photos / name for name in named] or [photos]
        return changes.find(given, summary, tmp_path / "results")

    return find


@pytest.mark.parametrize(
    "known, now, new, gone",
    [
        ([FIRST], [FIRST, COVER], COVER, FIRST),
        ([SECOND], [FIRST, SECOND], FIRST, SECOND),
        ([COVER], [FIRST, SECOND], FIRST, COVER),
        (["a.cr2"], ["a.arw", "a.cr2"], "a.arw", "a.cr2"),
        (["a.arw"], ["a.cr2"], "a.cr2", "a.arw"),
        (["a.mov"], ["a.cr2", "a.mov"], "a.cr2", "a.mov"),
        ([FIRST[:-3] + "dng"], [FIRST[:-3] + "dng", COVER], COVER, FIRST[:-3] + "dng"),
    ],
)
def test_the_file_that_a_walk_takes_now_is_the_one_row(found, known, now, new, gone):
    other = ["IMG_20180914_094602.jpg", "IMG_20180914_094603_BURST001.jpg", "b.arw"]
    changed = found([*known, *other], [*now, *other])
    assert (changed.new, changed.changed, changed.gone) == ([new], [], [gone])
    assert changed.replaced == {gone: new}


@pytest.mark.parametrize(
    "known, now",
    [([COVER], [FIRST, COVER]), ([FIRST], [FIRST, SECOND]), (["a.arw"], ["a.arw", "a.cr2"])],
)
def test_a_further_file_of_a_picture_changes_nothing(found, known, now):
    changed = found(known, now)
    assert (changed.new, changed.changed, changed.gone) == ([], [], [])


@pytest.mark.parametrize(
    "known, now, gone",
    [
        ([FIRST, SECOND], [FIRST, SECOND, COVER], []),
        ([FIRST, SECOND], [SECOND, COVER], [FIRST]),
        (["a.arw", "a.cr2"], ["a.arw", "a.cr2", "a.jpg"], []),
    ],
)
def test_of_several_known_files_of_a_picture_none_goes_for_a_new_one(found, known, now, gone):
    changed = found(known, now)
    assert (changed.new, changed.gone, changed.replaced) == ([now[-1]], gone, {})
    assert changed.lost == gone


@pytest.mark.parametrize("there", [True, False])
def test_no_file_goes_for_one_that_cannot_be_read(found, there, tmp_path):
    predictor = SimpleNamespace(decoding={"size": 8, "channels": 3, "max_pixels": 99})
    changed = found([FIRST], [FIRST, COVER] if there else [COVER])
    assert (changed.gone, changed.replaced, changed.lost) == ([FIRST], {FIRST: COVER}, [])
    after = changes.without_unreadable(changed, predictor)
    gone = [] if there else [FIRST]
    assert (after.new, after.gone, after.replaced, after.lost) == ([COVER], gone, {}, gone)
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / COVER)
    assert changes.without_unreadable(changed, predictor) == changed


def test_a_file_that_can_be_read_now_is_the_one_row(tmp_path):
    for name in (FIRST, COVER):
        (tmp_path / name).write_bytes(name.encode())
    summary = {"root": str(tmp_path), "files": [FIRST, COVER], "stamps": ["1 1", "1 1"]}
    summary |= {"errors": {COVER: "truncated"}}
    changed = changes.find([tmp_path], summary, tmp_path.parent / "results")
    assert (changed.changed, changed.gone, changed.replaced) == ([COVER], [FIRST], {FIRST: COVER})


@pytest.mark.parametrize("known, new", [(FIRST, THIRD), ("a.cr2", "a.arw")])
def test_a_file_that_is_named_is_an_image_of_its_own(found, known, new):
    changed = found([known], [known, new], new)
    assert (changed.new, changed.gone, changed.replaced) == ([new], [], {})


def test_a_picture_of_the_same_name_in_another_folder_is_another(found, tmp_path):
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in (COVER, "a.arw"):
        (tmp_path / "photos" / "sub" / name).write_bytes(b"1")
    summary = {"root": str(tmp_path / "photos"), "files": [FIRST, "a.cr2"]}
    for name in summary["files"]:
        (tmp_path / "photos" / name).write_bytes(b"2")
    changed = changes.find([tmp_path / "photos"], summary, tmp_path / "results")
    assert (changed.new, changed.gone) == ([f"sub/{COVER}", "sub/a.arw"], [])
