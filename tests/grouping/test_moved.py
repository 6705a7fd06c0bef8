"""`vtcc add` where folders of images were moved or deleted: what becomes of their names."""

import os
import shutil

import pytest

from vtcc.data import folder, walk
from vtcc.errors import VtccError
from vtcc.grouping.add import changes

NAMES = [f"{i}.jpg" for i in range(4)]


@pytest.fixture
def photos(tmp_path):
    """A folder of four files."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in NAMES:
        (photos / name).write_bytes(name.encode() * 9)
    return photos


def summary_of(root, names=NAMES):
    """What results say of files that are there."""
    stamps = [folder.stamp(root / name) for name in names]
    return {"root": str(root), "files": list(names), "stamps": stamps}


def test_a_folder_that_was_moved_to_below_what_is_given_is_known(photos, capsys):
    summary, pics = summary_of(photos), photos.with_name("pics")
    (pics / "more").mkdir(parents=True)
    (pics / "more" / "x.jpg").write_bytes(b"x")
    photos.rename(pics / "photos")
    found = changes.find([pics], summary, photos.with_name("results"))
    assert (found.root, found.moved) == (pics / "photos", True)
    assert (found.new, found.changed, found.gone) == (["../more/x.jpg"], [], [])
    assert f"the images' folder {photos} is now {pics / 'photos'}" in capsys.readouterr().out


def test_images_that_are_nowhere_are_not_taken_for_new_ones(photos, capsys):
    """Below another name, in another folder, they would count twice."""
    summary, pics = summary_of(photos), photos.with_name("pics")
    shutil.copytree(photos, pics / "2024" / "trip")
    shutil.rmtree(photos)
    said = "none of the results' images is there; if the folder was moved, say where it is: --root"
    with pytest.raises(VtccError, match=f"^{photos}: {said} FOLDER; .* --allow-gone"):
        changes.find([pics], summary, photos.with_name("results"))
    found = changes.find([pics], summary, photos.with_name("results"), root=pics / "2024" / "trip")
    assert (found.new, found.changed, found.gone) == ([], [], [])
    capsys.readouterr()
    found = changes.find([pics], summary, photos.with_name("results"), allow_gone=True)
    assert f"{photos}: {said} FOLDER\n" in capsys.readouterr().out
    assert found.new == [f"../pics/2024/trip/{name}" for name in NAMES]


def test_what_was_added_can_be_taken_out_once_it_is_deleted(photos):
    """A folder, a part of it, or a file; but not for a disk that is not there."""
    home = photos.parent
    for name in ("more/a.jpg", "more/b.jpg", "x.jpg"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(name.encode())
    summary = summary_of(photos, [*NAMES, "../more/a.jpg", "../more/b.jpg", "../x.jpg"])
    shutil.rmtree(home / "more")
    (home / "x.jpg").unlink()
    there = "no such file or directory; 2 images of the results lay there; .* --allow-gone"
    with pytest.raises(VtccError, match=f"^{home / 'more'}: {there}"):
        changes.find([home / "more", photos], summary, home / "results")
    with pytest.raises(VtccError, match=f"^{home / 'none'}: no such file or directory$"):
        changes.find([home / "none"], summary, home / "results", allow_gone=True)
    gone = {
        "more": ["../more/a.jpg", "../more/b.jpg"],
        "more/b.jpg": ["../more/b.jpg"],
        "x.jpg": ["../x.jpg"],
    }
    for given, names in gone.items():
        found = changes.find([home / given], summary, home / "results", allow_gone=True)
        assert (found.new, found.changed, found.gone) == ([], [], names)
    found = changes.find([home / "more", photos], summary, home / "results", allow_gone=True)
    assert (found.new, found.gone) == ([], gone["more"])


def test_a_folder_of_shards_that_was_deleted(photos):
    home = photos.parent
    unpacked = home / "results-images" / (home / "shards" / "a.tar").relative_to("/")
    unpacked.mkdir(parents=True)
    (unpacked / "y.jpg").write_bytes(b"y")
    (unpacked / walk.STAMP).touch()
    name = os.path.relpath(unpacked / "y.jpg", photos)
    summary = summary_of(photos, [*NAMES, name])
    for given in ("shards", "shards/a.tar"):
        with pytest.raises(VtccError, match=r"; 1 image of the results lay there; .* --allow-gone"):
            changes.find([home / given], summary, home / "results")
        found = changes.find([home / given], summary, home / "results", allow_gone=True)
        assert (found.gone, found.orphaned) == ([name], [unpacked])


@pytest.mark.parametrize("linked", ["photos", "."])
def test_a_link_where_the_folder_was_leads_to_the_same_images(tmp_path, linked):
    """As when a disk was too small: the folder itself, or one above it, is elsewhere by now."""
    home = tmp_path / "home"
    for name in ("photos/a.jpg", "photos/b.jpg", "more/x.jpg"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(name.encode())
    known = ["a.jpg", "b.jpg", "../more/x.jpg"]
    summary = summary_of(home / "photos", known)
    (tmp_path / "disk").mkdir()
    place = home / linked
    place.rename(tmp_path / "disk" / "here")
    place.symlink_to(tmp_path / "disk" / "here")
    given = [home / "photos", home / "more"]
    found = changes.find(given, summary, tmp_path / "results")
    assert (found.new, found.changed, found.gone, found.moved) == ([], [], [], False)
    (home / "photos" / "b.jpg").unlink()
    (home / "more" / "x.jpg").unlink()
    (home / "more" / "y.jpg").write_bytes(b"y")
    found = changes.find(given, summary, tmp_path / "results")
    assert (found.new, found.gone) == (["../more/y.jpg"], ["b.jpg", "../more/x.jpg"])
    shutil.rmtree(home / "more")
    found = changes.find([home / "more"], summary, tmp_path / "results", allow_gone=True)
    assert found.gone == ["../more/x.jpg"]


@pytest.mark.parametrize(
    "given",
    ["photos/2019", "photos", "big/2019", "big", "photos/2019/all.txt", "big/all.txt", "by/2019"],
)
def test_a_link_where_a_sub_folder_was_leads_to_the_same_images(tmp_path, given):
    """Images have one name, by whatever way they are given."""
    for name in ("photos/2019/a.jpg", "photos/2019/b.jpg", "photos/2020/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    summary = summary_of(tmp_path / "photos", ["2019/a.jpg", "2019/b.jpg", "2020/c.jpg"])
    big, link = tmp_path / "big" / "2019", tmp_path / "photos" / "2019"
    big.parent.mkdir()
    link.rename(big)
    link.symlink_to(big)
    (tmp_path / "by").symlink_to("photos")
    (big / "new").mkdir()
    (big / "new" / "d.jpg").write_bytes(b"d")
    names = ["a.jpg", "b.jpg", "new/d.jpg"]
    (big / "all.txt").write_text("\n".join(names))
    (big.parent / "all.txt").write_text("\n".join(f"2019/{name}" for name in names))
    found = changes.find([tmp_path / given], summary, tmp_path / "results")
    assert (found.new, found.changed, found.gone) == (["2019/new/d.jpg"], [], [])
    assert found.files["2019/new/d.jpg"].resolve() == big / "new" / "d.jpg"
    if not given.endswith(".txt"):
        (big / "b.jpg").unlink()
        found = changes.find([tmp_path / given], summary, tmp_path / "results")
        assert (found.new, found.gone) == (["2019/new/d.jpg"], ["2019/b.jpg"])
    (big / "a.jpg").unlink()
    for place in (link, big):
        found = changes.find([place / "a.jpg"], summary, tmp_path / "results", allow_gone=True)
        assert found.gone == ["2019/a.jpg"]


@pytest.mark.parametrize("above", ["photos", "by"])
def test_a_new_link_below_the_folder_is_named_as_one(photos, above):
    """As where the folder is searched; but what is in the folder by another way is named by it."""
    home = photos.parent
    summary = summary_of(photos)
    (home / "by").symlink_to("photos")
    for place in (home / "more", photos / "real"):
        place.mkdir()
        (place / "x.jpg").write_bytes(b"x")
    (photos / "link").symlink_to(home / "more")
    (photos / "twice").symlink_to("real")
    found = changes.find([home / above / "link"], summary, home / "results")
    assert found.new == ["link/x.jpg"]
    found = changes.find([home / above / "twice"], summary, home / "results")
    assert found.new == ["real/x.jpg"]


def test_a_link_to_a_folder_above_renames_nothing(photos):
    """Images beside the folder keep their names, though a link in the folder leads there too."""
    home = photos.parent
    for name in ("more/x.jpg", "up.jpg"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(name.encode())
    (photos / "up").symlink_to(home)
    summary = summary_of(photos, [*NAMES, "../more/x.jpg", "up/up.jpg"])
    found = changes.find([photos / "0.jpg", home / "more"], summary, home / "results")
    assert (found.new, found.changed, found.gone) == ([], [], [])


def test_a_link_to_images_that_are_known_renames_none(photos):
    home = photos.parent
    (home / "more").mkdir()
    for name in "xy":
        (home / "more" / f"{name}.jpg").write_bytes(name.encode())
    summary = summary_of(photos, [*NAMES, "../more/x.jpg", "../more/y.jpg"])
    (photos / "link").symlink_to(home / "more")
    (home / "more" / "y.jpg").unlink()
    for given in (photos / "link", home / "more"):
        found = changes.find([given], summary, home / "results")
        assert (found.new, found.changed, found.gone) == ([], [], ["../more/y.jpg"])


@pytest.mark.parametrize(
    "names", [["../more/x.jpg", "../more/y.jpg"], ["link/x.jpg", "../more/y.jpg"], ["link/x.jpg"]]
)
def test_an_image_that_is_known_has_its_name_by_whatever_way_it_is_found(photos, names):
    """Also where results have names by two ways, as an earlier vtcc left them."""
    home, more = photos.parent, photos.parent / "more"
    more.mkdir()
    for name in "xyz":
        (more / f"{name}.jpg").write_bytes(name.encode())
    for link, to in (("photos/link", more), ("photos/0", more), ("more/back", photos)):
        (home / link).symlink_to(to)
    (more / "list.txt").write_text("x.jpg\ny.jpg\n")
    summary = summary_of(photos, [*NAMES, *names])
    for given in ("photos", "more", "photos/link", "photos/0", "more/back", "more/list.txt"):
        found = changes.find([home / given], summary, home / "results")
        assert (found.changed, found.gone) == ([], [])
        new = {"z.jpg"} if given != "more/list.txt" else set()
        new |= {"y.jpg"} if len(names) == 1 else set()
        assert {name.rpartition("/")[2] for name in found.new} == new, given
        assert len(found.new) == len(new)


def test_a_folder_that_moved_within_what_is_searched_is_asked_for(photos, capsys):
    summary = summary_of(photos)
    photos.rename(photos.with_name("renamed"))
    found = changes.find([photos.parent], summary, photos.parent.parent / "results")
    assert found.gone == NAMES  # more than half, which `vtcc add` refuses then
    assert f"{photos}: none of the results' images is there; if the f" in capsys.readouterr().out
