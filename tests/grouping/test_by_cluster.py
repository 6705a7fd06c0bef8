"""Folders by cluster: a place for each image, and nothing lost that is there once only."""

import os
from pathlib import Path

import pytest

from tests.grouping.test_outputs import assigned
from vtcc.errors import VtccError
from vtcc.grouping import by_cluster


@pytest.mark.parametrize("copies", [False, True])
def test_every_image_has_a_place_of_its_own(odd_images, tmp_path, copies):
    results = tmp_path / "results"
    results.mkdir()
    names = list(odd_images)
    one = assigned(names, [0] * len(names), {0: "all"})
    by_cluster.write_folders(results, one, odd_images, copies=copies)
    placed = list((results / "folders" / "all").iterdir())
    assert sorted(file.read_text() for file in placed) == sorted(names)
    assert all(file.is_symlink() != copies for file in placed)
    shown = {file.name for file in placed}
    assert {"a__b.jpg", "a__b (2).jpg", "A__B (3).jpg", "plain", "%FF.jpg"} < shown
    assert len({name.casefold() for name in shown}) == len(names)
    assert max(len(os.fsencode(name)) for name in shown) <= 204


def test_images_that_are_gone_are_left_out_with_a_note(odd_images, tmp_path, capsys):
    names = list(odd_images)
    odd_images["plain"].unlink()
    by_cluster.write_folders(
        tmp_path, assigned(names, [0] * 6, {0: "all"}), odd_images, copies=True
    )
    assert len(list((tmp_path / "folders" / "all").iterdir())) == 5
    assert "without 1 image no longer in place;" in capsys.readouterr().out


def test_folders_that_cannot_be_written_leave_the_results(odd_images, tmp_path, monkeypatch):
    results = tmp_path / "results"
    results.mkdir()
    (results / "summary.json").write_text("{}")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(by_cluster.shutil, "copy2", full)
    one = assigned(list(odd_images), [0] * 6, {0: "all"})
    with pytest.raises(VtccError, match=r"No space left.* complete without it"):
        by_cluster.write_folders(results, one, odd_images, copies=True)
    assert [file.name for file in results.iterdir()] == ["summary.json"]


def places_of(one):
    return dict(by_cluster.places(one.rows(), one.applied.names))


def in_folders(results):
    folders = results / "folders"
    return {
        file.relative_to(folders).as_posix(): file.read_text()
        for file in sorted(folders.rglob("*"))
        if file.is_file() and file != folders / by_cluster.PLACES
    }


@pytest.mark.parametrize("shared", [False, True])
def test_a_picture_that_is_gone_is_taken_from_its_copy(odd_images, tmp_path, capsys, shared):
    names = [*odd_images]
    first = assigned(names, [0] * 6, {0: "all", 1: "few"})
    by_cluster.write_folders(tmp_path, first, odd_images, copies=True)
    copies = places_of(first)
    others = {"all/notes.txt": "my own", "all-clusters/report/page.html": "results", "x.csv": "t"}
    for path, text in others.items():
        (tmp_path / "folders" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folders" / path).write_text(text)
    (tmp_path / "folders" / "link").symlink_to("nowhere")
    (tmp_path / "folders" / "all" / "to").symlink_to(tmp_path, target_is_directory=True)
    for name in ("a/b.jpg", "A/B.jpg", "plain"):
        odd_images[name].unlink()
    # One moves, one stays, one is excluded, and one that never had a copy is gone as well.
    second = assigned([*names, "late.jpg"], [1, 0, 0, 0, -1, 0, 0], {0: "all", 1: "few"})
    by_cluster.write_folders(
        tmp_path,
        second,
        odd_images | {"late.jpg": tmp_path / "late.jpg"},
        copies=True,
        former=by_cluster.Former(tmp_path / "folders", copies, shared=shared),
    )
    where = places_of(second)
    texts = {where[name]: name for name in names if name != "plain"} | {"all/plain": "plain"}
    assert in_folders(tmp_path) == texts | others
    assert (tmp_path / "folders" / "link").readlink() == Path("nowhere")
    assert (tmp_path / "folders" / "all" / "to").readlink() == tmp_path
    said = capsys.readouterr().out
    assert "with the copies that were here of 3 images no longer in place" in said
    assert "without 1 image no longer in place;" in said
    assert "folders: with 5 other files that lay there" in said
    assert by_cluster.recorded(tmp_path / "folders") == {
        name: path for name, path in where.items() if name != "late.jpg"
    } | {"plain": "all/plain"}


def test_links_that_a_copying_made_files_are_not_lost(odd_images, tmp_path):
    """As of results that were taken along by a program that follows links."""
    names = [*odd_images]
    first = assigned(names, [0] * 6, {0: "all"})
    by_cluster.write_folders(tmp_path, first, odd_images, copies=True)
    odd_images["plain"].unlink()
    former = by_cluster.Former(tmp_path / "folders", places_of(first), shared=True)
    second = assigned(names, [0] * 6, {0: "boats"})
    by_cluster.write_folders(tmp_path, second, odd_images, copies=False, former=former)
    assert in_folders(tmp_path) == {where: name for name, where in places_of(second).items()}
    files = [file for file in (tmp_path / "folders").rglob("*/*") if not file.is_dir()]
    assert [file.name for file in files if not file.is_symlink()] == ["plain"]


def test_another_file_gives_way_to_an_image_of_its_name(odd_images, tmp_path):
    (tmp_path / "folders" / "all").mkdir(parents=True)
    (tmp_path / "folders" / "all" / "plain").write_text("my own")
    by_cluster.write_folders(
        tmp_path, assigned(["plain"], [0], {0: "all"}), odd_images, copies=True
    )
    assert in_folders(tmp_path) == {"all/plain": "plain", "all/plain (2)": "my own"}


@pytest.mark.parametrize("copies", [False, True])
def test_images_that_results_no_longer_have_leave_their_folders_but_for_the_last_copy(
    odd_images, tmp_path, copies
):
    first = assigned([*odd_images], [0] * 6, {0: "all"})
    by_cluster.write_folders(tmp_path, first, odd_images, copies=copies)
    odd_images["a/b.jpg"].unlink()
    former = by_cluster.Former(tmp_path / "folders", places_of(first), shared=True)
    names = [name for name in odd_images if name not in ("a/b.jpg", "plain")]
    second = assigned(names, [0] * 4, {0: "all"})
    by_cluster.write_folders(tmp_path, second, odd_images, copies=copies, former=former)
    # Another image has the place that its copy had.
    last = {"all/a__b (3).jpg": "a/b.jpg"} if copies else {}
    held = {where: name for name, where in places_of(second).items()} | last
    assert in_folders(tmp_path) == held
    assert len([*(tmp_path / "folders").rglob("*/*")]) == len(held)
    recorded = by_cluster.recorded(tmp_path / "folders")
    assert recorded == {name: where for where, name in held.items()}


@pytest.mark.parametrize("copies", [False, True])
def test_a_picture_that_people_changed_there_stays_beside_the_image(odd_images, tmp_path, copies):
    one = assigned([*odd_images], [0] * 6, {0: "all"})
    by_cluster.write_folders(tmp_path, one, odd_images, copies=copies)
    held = in_folders(tmp_path)
    retouched = tmp_path / "folders" / "all" / "plain"
    retouched.unlink()
    retouched.write_text("retouched")
    later = odd_images["plain"].stat().st_mtime_ns + 10**9
    os.utime(retouched, ns=(later, later))
    # An image that changed after it was copied leaves no second one.
    odd_images["a/b.jpg"].write_text("new")
    os.utime(odd_images["a/b.jpg"], ns=(later, later))
    held |= {places_of(one)["a/b.jpg"]: "new", "all/plain (2)": "retouched"}
    for _ in range(2):
        former = by_cluster.Former(tmp_path / "folders", places_of(one), shared=True)
        by_cluster.write_folders(tmp_path, one, odd_images, copies=copies, former=former)
        assert in_folders(tmp_path) == held


def put(file, text, second):
    """A file whose last change is said."""
    file.unlink(missing_ok=True)
    file.write_text(text)
    os.utime(file, ns=(second * 10**9, second * 10**9))


def write_again(results, files, names, *, copies=True):
    """Writes the folders of images in one cluster as a change of these results does."""
    places = by_cluster.recorded(results / "folders")
    former = by_cluster.Former(results / "folders", places or {}, shared=True)
    one = assigned(names, [0] * len(names), {0: "cat"})
    by_cluster.write_folders(results, one, files, copies=copies, former=former)


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("in_results", [False, True])
def test_the_last_copy_of_an_image_outlives_another_of_its_name(
    tmp_path, copies, in_results, capsys
):
    files = {name: tmp_path / name for name in ("a.jpg", "b.jpg")}
    put(files["a.jpg"], "old a", 1000)
    put(files["b.jpg"], "b", 1000)
    write_again(tmp_path, files, ["a.jpg", "b.jpg"])
    files["a.jpg"].unlink()
    write_again(tmp_path, files, ["b.jpg"], copies=copies)
    write_again(tmp_path, files, ["b.jpg"], copies=copies)
    assert in_folders(tmp_path) == {"cat/a.jpg": "old a", "cat/b.jpg": "b"}
    put(files["a.jpg"], "new a", 2000)  # cameras count from the first again
    capsys.readouterr()
    new = {"cat/a.jpg": "new a", "cat/a (2).jpg": "old a"} if in_results else {"cat/a.jpg": "old a"}
    for _ in range(2):
        write_again(tmp_path, files, ["b.jpg", *["a.jpg"] * in_results], copies=copies)
        assert in_folders(tmp_path) == {"cat/b.jpg": "b"} | new
        assert "with 1 other file that lay there" in capsys.readouterr().out


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("second", [500, 1000, 3000])
@pytest.mark.parametrize("text", ["by people", "c"])
def test_a_picture_in_the_place_of_an_image_stays_whatever_its_date(tmp_path, copies, second, text):
    files, place = {"c.jpg": tmp_path / "c.jpg"}, tmp_path / "folders" / "cat" / "c.jpg"
    put(files["c.jpg"], "c", 1000)
    write_again(tmp_path, files, ["c.jpg"], copies=copies)
    put(place, text, second)
    held = {"cat/c.jpg": "c"} | ({} if text == "c" else {"cat/c (2).jpg": text})
    for _ in range(2):
        write_again(tmp_path, files, ["c.jpg"], copies=copies)
        assert in_folders(tmp_path) == held


@pytest.mark.parametrize("second", [500, 3000])
def test_an_image_that_changed_leaves_no_second_copy_whatever_its_date(tmp_path, second):
    files = {"c.jpg": tmp_path / "c.jpg"}
    put(files["c.jpg"], "c", 1000)
    write_again(tmp_path, files, ["c.jpg"])
    put(files["c.jpg"], "before c", second)
    write_again(tmp_path, files, ["c.jpg"])
    assert in_folders(tmp_path) == {"cat/c.jpg": "before c"}


def test_a_record_without_stamps_takes_what_is_newer_for_people_s(tmp_path):
    files, folders = {name: tmp_path / name for name in ("a.jpg", "b.jpg")}, tmp_path / "folders"
    for name, file in files.items():
        put(file, name, 1000)
    write_again(tmp_path, files, [*files])
    record = folders / by_cluster.PLACES
    stamped = record.read_text()
    stamp = ",5 1000000000000"
    assert stamped == f"a.jpg,cat/a.jpg{stamp}\nb.jpg,cat/b.jpg{stamp}\n"
    record.write_text(stamped.replace(stamp, ""))
    put(folders / "cat" / "a.jpg", "older", 500)
    put(folders / "cat" / "b.jpg", "newer", 3000)
    write_again(tmp_path, files, [*files])
    held = {"cat/a.jpg": "a.jpg", "cat/b.jpg": "b.jpg", "cat/b (2).jpg": "newer"}
    assert in_folders(tmp_path) == held


def test_folders_that_cannot_be_written_are_what_they_were(odd_images, tmp_path, monkeypatch):
    first = assigned([*odd_images], [0] * 6, {0: "all"})
    by_cluster.write_folders(tmp_path, first, odd_images, copies=True)
    before = in_folders(tmp_path)
    assert len(before) == 6

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(by_cluster.shutil, "copy2", full)
    former = by_cluster.Former(tmp_path / "folders", places_of(first), shared=True)
    second = assigned([*odd_images], [0] * 6, {0: "boats"})
    with pytest.raises(VtccError, match=r"No space left.*; what it held stays\. The results in"):
        by_cluster.write_folders(tmp_path, second, odd_images, copies=True, former=former)
    assert in_folders(tmp_path) == before


def test_what_folders_hold_is_kept_with_them(odd_images, tmp_path):
    names = [*odd_images, 'line\nand "quotes", both']
    odd_images[names[-1]] = odd_images["plain"]
    one = assigned([*names, "gone"], [0, 1, 0, 1, 0, -1, 1, 0], {0: "all", 1: "places.csv"})
    assert by_cluster.recorded(tmp_path / "folders") is None
    files = odd_images | {"gone": tmp_path / "gone"}
    by_cluster.write_folders(tmp_path, one, files, copies=False)
    expected = {name: place for name, place in places_of(one).items() if name != "gone"}
    assert by_cluster.recorded(tmp_path / "folders") == expected
    assert len(expected) == 6


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("x,../summary.json", "found '../summary.json', expected FOLDER/FILE"),
        ("x,a/../b", "found 'a/../b'"),
        ("x,/etc", "found '/etc'"),
        ("x", "not enough values"),
        ("x,a/b,last,more", "too many values"),
        ("\udcff,a/b", "'utf-8' codec"),
    ],
)
def test_a_damaged_record_of_folders_is_told(tmp_path, row, found):
    record = tmp_path / by_cluster.PLACES
    record.write_bytes(f"{row}\n".encode(errors="surrogateescape"))
    with pytest.raises(VtccError) as told:
        by_cluster.recorded(tmp_path)
    assert f"{record}: not readable ({found}" in str(told.value)
    assert "; delete it, and the tables say which files are images" in str(told.value)


def test_nothing_is_taken_through_a_link_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.jpg").touch()
    former = by_cluster.Former(tmp_path / "folders", {"a.jpg": "cat/a.jpg"}, shared=True)
    former.directory.mkdir()
    (former.directory / "cat").symlink_to(tmp_path / "private")
    assert former.copy_of("a.jpg") is None
