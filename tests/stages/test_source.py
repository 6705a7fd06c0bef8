"""What `dvc repro` looks at to notice new images."""

import json
import os
import zipfile

import pytest
from PIL import Image

from tests.data import project as toy
from vtcc import paths
from vtcc.errors import VtccError
from vtcc.stages import embed, source


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    for name in ("a.png", "sub/b.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 9).save(photos / name)
    return tmp_path


def look(place, origin):
    toy.make_project(place, dataset__source=str(origin))
    source.run()
    return json.loads(paths.SOURCE.read_text())


def test_a_folder_is_known_by_its_images(place):
    photos = place / "photos"
    first = look(place, photos)
    assert (first["kind"], first["files"]) == ("folder", 2)
    (photos / "notes.txt").write_text("no image")
    (photos / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "pipe.png")
    assert look(place, photos) == first
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    second = look(place, photos)
    assert second["files"] == 3
    os.utime(photos / "a.png", (5, 5))
    third = look(place, photos)
    assert len({x["digest"] for x in (first, second, third)}) == 3
    # The same photos elsewhere are the same: worktrees reach them by other paths.
    (place / "linked").symlink_to(photos)
    assert look(place, "linked") == third


def test_a_card_is_known_by_its_text_and_an_archive_by_its_time(place):
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        archive.write(place / "photos/a.png", "a.png")
    first = look(place, place / "a.zip")
    assert (first["kind"], first["files"]) == ("archive", 1)
    os.utime(place / "a.zip", (5, 5))
    assert look(place, place / "a.zip") != first
    card = place / "digits.yaml"
    card.write_bytes((toy.ROOT / "data/catalog/digits.yaml").read_bytes())
    first = look(place, card)
    os.utime(card, (5, 5))
    assert look(place, card) == first
    assert first["kind"] == "card"
    card.write_text(card.read_text() + "# another word\n")
    assert look(place, card)["digest"] != first["digest"]


def test_no_source_is_one_line_and_writes_nothing(place):
    with pytest.raises(VtccError, match=r"dataset\.source: .*nowhere' does not exist"):
        look(place, place / "nowhere")
    assert not paths.SOURCE.exists()


def test_a_file_of_weights_is_known_by_what_it_holds(place):
    """Also where the encoder is trained on: `train` follows what `embed` writes."""

    def look_at_weights(name):
        toy.make_project(
            place, dataset__source="photos", train__model__encoder="timm:test_vit",
            train__model__weights=name,
        )  # fmt: skip
        source.run()
        embed.run()
        noted = json.loads((paths.FEATURES / embed.INFO).read_text())
        return json.loads(paths.WEIGHTS.read_text())["digest"], noted

    file = place / "w.safetensors"
    file.write_bytes(b"first")
    first, noted = look_at_weights("w.safetensors")
    assert noted == {"needed": False, "weights": first}
    os.utime(file, (5, 5))
    assert look_at_weights("w.safetensors") == (first, noted)
    file.write_bytes(b"second")
    second, noted = look_at_weights("w.safetensors")
    assert second != first and noted == {"needed": False, "weights": second}
    with pytest.raises(VtccError, match="no features here"):
        embed.opened(embed.Wanted(None, {}, "key"))
    file.unlink()  # that it lacks is for those to say who read it
    assert look_at_weights("w.safetensors") == ("", {"needed": False})
