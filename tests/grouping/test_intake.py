"""What comes off a phone: nothing refused that can be read, and the right way up."""

import zipfile

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

from tests.data.camera_files import dng, film, jpeg, quarters, seen
from tests.fakes import stand_in
from tests.tracking import toy
from vtcc.data import camera, inputs
from vtcc.engine import predict as prediction
from vtcc.extras import install
from vtcc.grouping import intake
from vtcc.grouping.add import reading
from vtcc.verbs import predict

UPRIGHT = ["red", "green", "blue", "black"]
RIGHT = ["blue", "red", "black", "green"]  # turned clockwise by a quarter
TURNED = UPRIGHT[::-1]
SHOWN = {
    "DCIM/IMG_0001.HEIC": UPRIGHT,
    "DCIM/IMG_0002.HEIC": RIGHT,
    "DCIM/IMG_0003.JPG": RIGHT,
    "DCIM/IMG_0004.JPG": TURNED,
    "DCIM/IMG_0005.DNG": RIGHT,
    "DCIM/IMG_0006.MOV": RIGHT,
    "DCIM/IMG_0007.mp4": UPRIGHT,
    "DCIM/IMG_0008.JPG": UPRIGHT,
    "DCIM/IMG_0009.dng": TURNED,
    "DCIM/IMG_0010.avif": UPRIGHT,
    "DCIM/IMG_20260101_120000_BURST002_COVER.jpg": TURNED,
    "Screenshot 1.png": UPRIGHT,
    "Screenshot 2.PNG": UPRIGHT,
}
OF_THE_EXTRA = [n for n in SHOWN if n.lower().endswith((".dng", ".mov", ".mp4"))]


@pytest.fixture(scope="module")
def phone(tmp_path_factory):
    root = tmp_path_factory.mktemp("a") / "phone"
    place = root / "DCIM"
    place.mkdir(parents=True)
    picture = Image.fromarray(quarters())
    for name, orientation in (("IMG_0001.HEIC", 1), ("IMG_0002.HEIC", 6)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = pillow_heif.from_pillow(picture)
        file.save(place / name, exif=exif.tobytes(), quality=95)
        film((place / name).with_suffix(".MOV"), 180)  # the film of a Live Photo
    (place / "IMG_0003.JPG").write_bytes(jpeg(6))
    (place / "IMG_0004.JPG").write_bytes(jpeg(3))
    (place / "IMG_0004.DNG").write_bytes(dng(jpeg(), 3))
    (place / "IMG_0005.DNG").write_bytes(dng(jpeg(), 6))
    film(place / "IMG_0006.MOV", 90)
    film(place / "IMG_0007.mp4")
    other = Image.new("RGB", picture.size, "white")
    picture.save(place / "IMG_0008.JPG", "MPO", save_all=True, append_images=[other], quality=95)
    (place / "IMG_0009.dng").write_bytes(dng(None, 3))
    picture.save(place / "IMG_0010.avif", quality=95, speed=10)
    picture.convert("RGBA").save(root / "Screenshot 1.png")
    picture.save(root / "Screenshot 2.PNG")
    (place / "IMG_20260101_120000_BURST001.jpg").write_bytes(jpeg())
    (place / "IMG_20260101_120000_BURST002_COVER.jpg").write_bytes(jpeg(3))
    (place / "IMG_0003.AAE").touch()
    (root / ".DS_Store").touch()
    yield root
    camera.end()


def read(given, tmp_path):
    found = intake.listed(given, place=tmp_path / "unpacked")
    how = {"channels": 3, "size": 16, "max_pixels": 10_000}
    cache, _, errors = intake.cached(found, tmp_path / "work" / "cache", name="x", **how)
    assert errors == {}
    pictures = dict(zip(found.names, np.asarray(cache.images), strict=True))
    return {name: seen(pixels) for name, pixels in pictures.items()}


def test_a_phones_folder_is_read_as_a_whole_right_way_up(phone, tmp_path, capsys):
    assert read(phone, tmp_path) == SHOWN
    assert "left out 1 further shot of a burst, 1 hidden\n" in capsys.readouterr().out
    entries = predict.entries(inputs.parts([phone], None))
    assert sorted(entry.path for entry in entries) == [f"{phone}/{name}" for name in SHOWN]


def test_a_phones_folder_in_a_zip_is_the_same(phone, tmp_path):
    with zipfile.ZipFile(tmp_path / "phone.zip", "w") as packed:
        for file in sorted(phone.rglob("*.*")):
            packed.write(file, file.relative_to(phone))
    found = read(tmp_path / "phone.zip", tmp_path)
    assert found == {f"phone.zip/{name}": colours for name, colours in SHOWN.items()}


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        ("cache/images.npy", b""),
        ("sketches.npy", b""),
        ("cache/quarantine.csv", b""),
        ("cache/quarantine.csv", b'"path"\n'),
        ("cache/quarantine.csv", b'"path","reason"\n"a.png"\n'),
        ("cache/quarantine.csv", b'"path","reason"\n' + 200_000 * b"x"),
        ("cache/quarantine.csv", b'"path","reason"\n"a.png","broken"\n'),
        ("sketches.npy", np.zeros((12, 8, 8), np.float32)),
        ("sketches.npy", np.float32(1)),
    ],
)
def test_images_of_a_damaged_cache_are_read_again(tmp_path, capsys, lost, left):
    """So are those whose sketches have another shape, or that are of other files."""
    root, cache = tmp_path / "photos", tmp_path / "work" / "cache"
    root.mkdir()
    for i, pixels in enumerate(toy.images(12)):
        Image.fromarray(pixels[..., 0]).save(root / f"{i:02d}.png")

    def read():
        found = intake.listed(root)
        return intake.cached(found, cache, name="a", channels=1, size=16, max_pixels=10**6)

    _, sketches, _ = read()
    place = tmp_path / "work" / lost
    place.write_bytes(left) if isinstance(left, bytes) else np.save(place, left)
    again, now, errors = read()
    np.testing.assert_array_equal(now, sketches)
    np.testing.assert_array_equal(again.images, toy.images(12))
    assert not errors
    assert "read again" in capsys.readouterr().out
    read()
    assert "read again" not in capsys.readouterr().out


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_file_has_one_sketch_whoever_reads_it(tmp_path, channels):
    root, predictor = tmp_path / "photos", prediction.load(toy.model(tmp_path, channels=channels))
    root.mkdir()
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, channels), np.uint8)
        planes = {"planarconfig": "contig"} if channels > 1 else {}
        tifffile.imwrite(root / f"{i}.tif", pixels.squeeze(), **planes)
    found = intake.listed(root)
    how = {"channels": channels, "size": toy.SIZE, "max_pixels": 10**6}
    _, sketches, _ = intake.cached(found, tmp_path / "cache", name="a", **how)
    files = dict(zip(found.names, found.files, strict=True))
    added = reading.read(files, predictor, side=toy.SIZE // 2, batch_size=4, room=tmp_path)
    np.testing.assert_array_equal(added.sketches, sketches)


def test_without_the_extra_the_rest_is_read_and_the_note_names_it(phone, monkeypatch, capsys):
    stand_in(monkeypatch, camera, "suffixes", lambda: frozenset())
    found = intake.listed(phone, least=1)
    assert found.names == [name for name in SHOWN if name not in OF_THE_EXTRA]
    assert (
        f"left out 2 RAW (their previews are read after {install('camera')}), "
        "1 further shot of a burst, 1 hidden, "
        f"2 videos (their first frames are read after {install('camera')})\n"
    ) in capsys.readouterr().out
