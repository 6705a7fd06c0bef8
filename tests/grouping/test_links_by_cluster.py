"""Folders by cluster: links that people put in the place of an image's copy or link."""

import shutil
from pathlib import Path

import pytest

from tests.grouping.test_by_cluster import in_folders, put, write_again
from vtcc.grouping import by_cluster

BOTH = pytest.mark.parametrize("copies", [False, True])


@pytest.fixture
def files(tmp_path):
    files = {name: tmp_path / "photos" / name for name in ("a.jpg", "b.jpg")}
    (tmp_path / "photos").mkdir()
    for name, file in files.items():
        put(file, name, 1000)
    return files


def linked(results, to, directory=False):
    """The place of a.jpg, which is a link of people's now."""
    place = results / "folders" / "cat" / "a.jpg"
    place.unlink()
    place.symlink_to(to, target_is_directory=directory)
    return place.with_name("a (2).jpg")


@BOTH
@pytest.mark.parametrize("stamped", [True, False])
def test_a_link_to_another_file_in_the_place_of_an_image_stays(files, tmp_path, copies, stamped):
    write_again(tmp_path, files, [*files], copies=copies)
    record = tmp_path / "folders" / by_cluster.PLACES
    if not stamped:  # as older records
        rows = [row.rsplit(",", 1)[0] for row in record.read_text().splitlines()]
        record.write_text("".join(f"{row}\n" for row in rows))
    put(tmp_path / "mine.jpg", "retouched", 500)
    second = linked(tmp_path, Path("..", "..", "mine.jpg"))
    held = {"cat/a.jpg": "a.jpg", "cat/b.jpg": "b.jpg", "cat/a (2).jpg": "retouched"}
    for _ in range(2):
        write_again(tmp_path, files, [*files], copies=copies)
        assert in_folders(tmp_path) == held
        assert second.readlink() == Path("..", "..", "mine.jpg")


@BOTH
def test_so_does_one_to_a_folder_and_one_in_the_place_of_an_image_that_is_gone(
    files, tmp_path, copies
):
    write_again(tmp_path, files, [*files], copies=copies)
    (tmp_path / "mine").mkdir()
    second = linked(tmp_path, tmp_path / "mine", directory=True)
    write_again(tmp_path, files, [*files], copies=copies)
    assert second.readlink() == tmp_path / "mine"
    put(tmp_path / "mine.jpg", "retouched", 500)
    second.unlink()
    linked(tmp_path, tmp_path / "mine.jpg")
    files["a.jpg"].unlink()
    write_again(tmp_path, files, [*files], copies=copies)
    assert in_folders(tmp_path) == {"cat/a.jpg": "retouched", "cat/b.jpg": "b.jpg"}


@BOTH
def test_a_link_that_leads_nowhere_stays_where_a_copy_was(files, tmp_path, copies):
    """One in the place of a link may be ours, of an image that has moved."""
    write_again(tmp_path, files, [*files], copies=copies)
    second = linked(tmp_path, "nowhere")
    write_again(tmp_path, files, [*files], copies=copies)
    assert second.is_symlink() == copies
    assert in_folders(tmp_path) == {"cat/a.jpg": "a.jpg", "cat/b.jpg": "b.jpg"}


@BOTH
def test_a_link_to_the_image_or_to_the_same_picture_leaves_no_second_one(files, tmp_path, copies):
    write_again(tmp_path, files, [*files], copies=copies)
    linked(tmp_path, files["a.jpg"])  # as programs that save space make them
    held = {"cat/a.jpg": "a.jpg", "cat/b.jpg": "b.jpg"}
    write_again(tmp_path, files, [*files], copies=copies)
    assert in_folders(tmp_path) == held
    # The images went elsewhere, and are still where they were.
    shutil.copytree(tmp_path / "photos", tmp_path / "moved")
    there = {name: tmp_path / "moved" / name for name in files}
    write_again(tmp_path, there, [*files], copies=copies)
    assert in_folders(tmp_path) == held
    shutil.rmtree(tmp_path / "photos")
    write_again(tmp_path, there, [*files], copies=copies)
    assert in_folders(tmp_path) == held
