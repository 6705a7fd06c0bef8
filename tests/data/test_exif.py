"""What EXIF says of time, camera and place, and nothing where it says it badly."""

import io
import os
import struct
import threading

import pillow_heif
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tests.data.camera_files import dng, film, jpeg
from vtcc.data import camera, exif
from vtcc.data.budget import Share

SAID = {
    "taken_at": "2024-05-01T12:34:56",
    "camera": "Canon EOS R6",
    "latitude": -33.856667,
    "longitude": 151.215,
}


def written(**changes) -> Image.Exif:
    values = {
        "make": "Canon\0",
        "model": "Canon EOS R6",
        "taken": "2024:05:01 12:34:56",
        "latitude": (33, 51, IFDRational(24)),
        "south": "S",
        "longitude": (151, 12, 54),
    } | changes
    tags = Image.Exif()
    tags[0x010F], tags[0x0110] = values["make"], values["model"]
    tags[0x0132] = "2025:01:01 00:00:00"  # of the last change
    tags.get_ifd(0x8769)[0x9003] = values["taken"]
    gps = tags.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = values["south"], values["latitude"], "E", values["longitude"]
    return tags


def saved(file, kind, tags):
    picture = Image.new("RGB", (32, 32), "red")
    if kind == "HEIF":
        pillow_heif.from_pillow(picture).save(file, exif=tags.tobytes())
    else:
        picture.save(file, kind, exif=tags)
    return file


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "MPO"])
def test_what_a_file_says(kind, tmp_path):
    assert exif.of_file(saved(tmp_path / "a", kind, written())) == SAID


def test_a_pipe_and_a_file_that_is_gone_say_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    files = {"pipe.jpg": tmp_path / "pipe.jpg", "b.jpg": tmp_path / "b.jpg"}
    files["a"] = saved(tmp_path / "a", "JPEG", written())
    columns: list[dict] = []
    reading = threading.Thread(
        target=lambda: columns.append(exif.columns(files, exif.TAKEN)), daemon=True
    )
    reading.start()
    reading.join(timeout=20)
    if reading.is_alive():  # whoever waits for a writer goes on once there is one
        os.close(os.open(tmp_path / "pipe.jpg", os.O_RDWR))
        pytest.fail("waits at a pipe")
    assert columns == [{"taken_at": {"a": SAID["taken_at"]}, "camera": {"a": SAID["camera"]}}]


def test_what_is_said_badly_lacks(tmp_path):
    for changes, lacks in (
        ({"latitude": (91, 0, 0)}, "latitude"),
        ({"longitude": (151, IFDRational(1, 0), 0)}, "longitude"),
        ({"make": "", "model": "\x01\x02"}, "camera"),
    ):
        said = exif.of_file(saved(tmp_path / "a", "JPEG", written(**changes)))
        assert said == {name: value for name, value in SAID.items() if name != lacks}
    odd = exif.of_file(saved(tmp_path / "a", "JPEG", written(taken="yesterday", make="Leica")))
    assert (odd["taken_at"], odd["camera"]) == ("2025-01-01T00:00:00", "Leica Canon EOS R6")
    long = exif.of_file(saved(tmp_path / "a", "JPEG", written(make="x" * 500)))
    assert len(long["camera"]) == 100


def test_files_that_say_nothing(tmp_path):
    plain = io.BytesIO()
    Image.new("L", (8, 8)).save(plain, "PNG")
    whole = saved(tmp_path / "a", "JPEG", written()).read_bytes()
    for i, data in enumerate((plain.getvalue(), b"", b"no image", b"II*\0" + bytes(99))):
        (tmp_path / str(i)).write_bytes(data)
        assert exif.of_file(tmp_path / str(i)) == {}
    for length in range(0, len(whole), 7):
        (tmp_path / "cut").write_bytes(whole[:length])
        assert exif.of_file(tmp_path / "cut").keys() <= SAID.keys()
    assert exif.of_file(tmp_path / "gone") == {}


def test_columns_of_what_is_asked_for(tmp_path):
    files = {"a": saved(tmp_path / "a", "JPEG", written()), "b": tmp_path / "gone"}
    assert exif.columns(files, ()) == {}
    assert exif.columns(files, exif.PLACE) == {
        "latitude": {"a": SAID["latitude"]},
        "longitude": {"a": SAID["longitude"]},
    }


def test_a_png_that_says_nothing_is_not_decoded(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    Image.new("L", (64, 64)).save(file)
    decoded = []
    monkeypatch.setattr(
        "PIL.PngImagePlugin.PngImageFile.load", lambda self: decoded.append(self.size)
    )
    assert exif.of_file(file) == {}
    assert decoded == []


@pytest.fixture
def camera_process(monkeypatch):
    """A process of its own reads RAW files, where clocks go forward at two on that day."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    camera.end()
    yield
    camera.end()


def test_what_a_raw_file_says(tmp_path, camera_process):
    (file := tmp_path / "a.DNG").write_bytes(dng(jpeg(), 6, taken="2024:03:31 02:30:00"))
    assert exif.of_file(file) == {"taken_at": "2024-03-31T02:30:00", "camera": "Nobody Box"}
    file.write_bytes(dng(jpeg()))
    assert exif.of_file(file) == {"camera": "Nobody Box"}
    preview = saved(tmp_path / "a.jpg", "JPEG", written()).read_bytes()
    preview = preview[:2] + preview[20:]  # without JFIF's segment, as cameras have it
    file.write_bytes(dng(preview, taken="2023:01:01 00:00:00"))
    assert exif.of_file(file) == SAID
    assert exif.columns({"a": file}, exif.TAKEN) == {
        "taken_at": {"a": SAID["taken_at"]},
        "camera": {"a": SAID["camera"]},
    }


def test_of_a_raw_file_no_place_by_libraw_that_lacks_north_or_south(tmp_path, camera_process):
    at = len(dng(jpeg(), gps=1))
    angles = at + 2 + 12 * 4 + 4
    rows = [(1, 2, 2, ord("S")), (2, 5, 3, angles), (3, 2, 2, ord("E")), (4, 5, 3, angles + 24)]
    place = struct.pack("<H", 4) + b"".join(struct.pack("<HHII", *row) for row in rows)
    place += struct.pack("<I12I", 0, 33, 1, 51, 1, 24, 1, 151, 1, 12, 1, 54, 1)
    (file := tmp_path / "a.dng").write_bytes(dng(jpeg(), gps=at) + place)
    with Share(1) as share:  # LibRaw has understood it
        found = Image.open(io.BytesIO(camera.still(file, share).data)).getexif().get_ifd(0x8825)
    assert found[2] == (33, 51, 24)
    assert exif.of_file(file) == {"camera": "Nobody Box"}


@pytest.mark.parametrize(
    ("name", "said", "taken"),
    [
        ("a.mp4", {"creation_time": "2024-05-01T10:34:56.7Z"}, "2024-05-01T10:34:56+00:00"),
        ("a.MOV", {"com.apple.quicktime.creationdate": "2024-05-01T12:34:56+0200",
                   "creation_time": "2024-05-01T10:34:56Z"}, "2024-05-01T12:34:56"),
        ("a.mov", {"com.apple.quicktime.creationdate": "in May"}, None),
        ("a.mp4", {"creation_time": "1970-01-01T00:00:09Z"}, None),
    ],
)  # fmt: skip
def test_a_film_says_when_it_was_taken(tmp_path, camera_process, name, said, taken):
    place = {"com.apple.quicktime.location.ISO6709": "-33.85+151.21/"}
    file = film(tmp_path / name, **said, **place)
    assert exif.of_file(file) == ({"taken_at": taken} if taken else {})


def test_raw_files_that_say_nothing_and_films(tmp_path, camera_process, monkeypatch):
    (file := tmp_path / "a.dng").write_bytes(dng(None, taken="2024:03:31 02:30:00"))
    assert exif.of_file(file) == {}
    file.write_bytes(dng(jpeg())[:600])
    assert exif.of_file(file) == {}
    assert exif.of_file(film(tmp_path / "a.mp4")) == {}
    file.write_bytes(dng(jpeg()))
    monkeypatch.setattr(camera, "suffixes", lambda: frozenset())  # without the extra
    assert exif.of_file(file) == {}
