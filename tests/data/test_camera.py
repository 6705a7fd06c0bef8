"""Previews of RAW files and first frames of films: right way up once, within bounds."""

import io
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.camera_files import SIDES, dng, film, jpeg, seen
from tests.fakes import stand_in
from vtcc import bounds
from vtcc.data import camera, camera_child, decoding, images
from vtcc.data.budget import Share
from vtcc.data.images import UnreadableImage
from vtcc.data.stripped import stripped
from vtcc.extras import install
from vtcc.process import stopping

UPRIGHT = ["red", "green", "blue", "black"]
TURNED = {90: ["blue", "red", "black", "green"], 180: UPRIGHT[::-1],
          270: ["green", "black", "red", "blue"], 0: UPRIGHT}  # fmt: skip
DAMAGED = "damaged, or of a kind that is not read"


@pytest.fixture(scope="module", autouse=True)
def process_ends():
    yield
    camera.end()


@pytest.fixture
def limits(monkeypatch):
    """Sets bounds for a process that is started next."""
    camera.end()

    def set_to(**values):
        for name, value in values.items():
            monkeypatch.setattr(bounds, name, value)

    yield set_to
    camera.end()


def read(file, max_pixels=10_000):
    return images.decode(file, channels=3, max_pixels=max_pixels, size=8)


def why(file, max_pixels=10_000):
    try:
        read(file, max_pixels)
    except UnreadableImage as error:
        return error.reason
    return f"{file.name} was read"


def write(file, data):
    file.write_bytes(data)
    return file


HUGE = struct.pack(">HH", 30_000, 30_000)


def claiming(data):
    """Every JPEG in it says that it is 30,000 pixels wide and high."""
    sized = re.compile(rb"(\xff\xc0...)....", re.DOTALL)
    return sized.sub(lambda m: m[1] + HUGE, data)


def without_frames(mp4):
    """An MP4 whose frames are zeros."""
    at = mp4.index(b"mdat")
    (size,) = struct.unpack(">I", mp4[at - 4 : at])
    return mp4[: at + 4] + bytes(size - 8) + mp4[at + size - 4 :]


def said_by_xmp(data: bytes, orientation: int) -> bytes:
    """A JPEG whose XMP, and nothing else, says how to turn it."""
    xmp = b'http://ns.adobe.com/xap/1.0/\0<a tiff:Orientation="%d"/>' % orientation
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + data[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_raw_file_is_its_preview_turned_once(orientation, tmp_path):
    expected = read(write(tmp_path / "a.jpg", jpeg(orientation)))
    # The file alone says it; preview and file do; the preview does, and the file otherwise.
    for name, data in {
        "plain": dng(jpeg(), orientation),
        "both": dng(jpeg(orientation), orientation),
        "preview": dng(jpeg(orientation), orientation=3),
        "xmp": dng(said_by_xmp(jpeg(), orientation=3), orientation),  # which counts nowhere
    }.items():
        found = read(write(tmp_path / f"{name}.DNG", data))
        assert seen(found.pixels) == seen(expected.pixels), name
        assert (found.width, found.height) == (expected.width, expected.height)


@pytest.mark.parametrize(("orientation", "degrees"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_a_raw_file_without_preview_is_developed_in_half_size(orientation, degrees, tmp_path):
    found = read(write(tmp_path / "a.dng", dng(None, orientation)))
    assert seen(found.pixels) == TURNED[degrees]
    assert (found.width, found.height) == (SIDES if degrees % 180 == 0 else SIDES[::-1])


@pytest.mark.parametrize("bands", [1, 3])
def test_a_preview_that_is_no_jpeg_is_read(bands, tmp_path):
    grey = np.arange(SIDES[0] * SIDES[1], dtype=np.uint32).astype(np.uint8).reshape(SIDES[::-1])
    file = write(tmp_path / "a.dng", dng(np.repeat(grey[..., np.newaxis], bands, axis=2), 6))
    found = images.decode(file, channels=3, max_pixels=10_000, size=SIDES[0])
    assert (found.width, found.height) == SIDES[::-1]
    whole = np.asarray(Image.fromarray(grey).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(found.pixels[..., 1], np.rot90(whole, -1))


@pytest.mark.parametrize("degrees", TURNED)
def test_a_film_is_its_first_frame_turned_as_it_is_shown(degrees, tmp_path):
    found = read(film(tmp_path / "a.MP4", degrees))
    assert seen(found.pixels) == TURNED[degrees]
    assert (found.width, found.height) == (SIDES if degrees % 180 == 0 else SIDES[::-1])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mov", "mjpeg"), ("a.mkv", "mpeg4"), ("a.avi", "mpeg4"), ("a.webm", "libvpx"),
     ("a.mts", "mpeg2video"), ("a.mpg", "mpeg2video"), ("a.3gp", "mpeg4"), ("a.wmv", "wmv2")],
)  # fmt: skip
def test_films_of_each_container(name, codec, tmp_path):
    assert seen(read(film(tmp_path / name, codec=codec)).pixels) == UPRIGHT


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4"])
def test_a_title_of_another_encoding_is_no_damage(name, tmp_path):
    data = film(tmp_path / name).read_bytes()
    assert data.count(b"cafe") == 1
    found = read(write(tmp_path / name, data.replace(b"cafe", b"caf\xe9")))
    assert seen(found.pixels) == UPRIGHT


def test_any_matrix_of_a_film_is_the_nearest_turn():
    one = 1 << 16
    turns = {
        (one, 0, 0, one): 1, (-one, 0, 0, one): 2, (-one, 0, 0, -one): 3, (one, 0, 0, -one): 4,
        (0, one, one, 0): 5, (0, one, -one, 0): 6, (0, -one, -one, 0): 7, (0, -one, one, 0): 8,
        (one, 100, -100, one): 1, (9, one, -one, 9): 6, (0, 0, 0, 0): 1,
    }  # fmt: skip
    for (a, b, c, d), turn in turns.items():
        matrix = struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        assert camera_child._turn([matrix]) == turn
    assert camera_child._turn([]) == 1


def test_names_lead_to_no_other_file(tmp_path, monkeypatch):
    """A name is no address of FFmpeg's, and modules are not looked for among the images."""
    camera.end()
    monkeypatch.chdir(tmp_path)
    for module in ("av", "numpy", "json"):
        write(tmp_path / f"{module}.py", b"import sys; sys.exit(9)")
    for name in ("concat:a.mp4", "-i.mp4", "caf\udce9.mp4", "100%d.mp4"):
        assert seen(read(film(tmp_path / "good.mp4").rename(name)).pixels) == UPRIGHT
    assert seen(read(write(Path(os.fsdecode(b"caf\xe9.dng")), dng(jpeg()))).pixels) == UPRIGHT


@pytest.mark.parametrize("kind", ["hls", "concat", "dash"])
def test_a_list_of_other_files_is_no_film(kind, tmp_path):
    """FFmpeg would open what it names: `outside` is a good film."""
    outside = film(tmp_path / "outside.mp4")
    text = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{outside}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{outside}'\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        f"<Period><AdaptationSet><Representation><BaseURL>{outside}</BaseURL>"
        "</Representation></AdaptationSet></Period></MPD>",
    }[kind]
    assert why(write(tmp_path / "list.mp4", text.encode())).startswith(DAMAGED)


def test_damage_is_one_line(tmp_path, capfd):
    good, raw = film(tmp_path / "good.mp4").read_bytes(), dng(jpeg())
    for name, data, reason in [
        ("cut.mp4", good[: len(good) // 2], "a film without readable pictures, or a truncated one"),
        ("empty.mp4", b"", "empty file (0 bytes)"),
        ("page.mov", b"<html>" * 99, f"{DAMAGED} (Invalid data found when processing input)"),
        ("frames.mp4", without_frames(good), "no frame of it can be decoded"),
        ("empty.nef", b"", "empty file (0 bytes)"),
        ("page.cr2", b"<html>" * 99, f"{DAMAGED} (Unsupported file format or not RAW file)"),
    ]:  # fmt: skip
        assert why(write(tmp_path / name, data)) == reason
    # LibRaw says so, or hands out what its memory holds where the file ends.
    cut = why(write(tmp_path / "cut.dng", raw[:700]))
    assert cut in (f"{DAMAGED} (Input/output error)", "truncated: its preview is not whole")
    assert seen(read(tmp_path / "good.mp4").pixels) == UPRIGHT
    assert capfd.readouterr() == ("", "")


def test_the_end_of_a_preview_is_looked_for_in_its_file(monkeypatch):
    monkeypatch.setattr(camera_child, "_BLOCK", 10)
    data = bytes(range(64))
    for start in range(0, 60, 7):
        assert camera_child._holds(io.BytesIO(data), data[start : start + 4])
    assert not camera_child._holds(io.BytesIO(data[:63]), data[-4:])
    assert not camera_child._holds(io.BytesIO(b""), data[-4:])


def test_no_damage_ends_anything_else(tmp_path):
    """Bytes changed at random are a picture or one line, and the next good file is read."""
    files = [film(tmp_path / "good.mp4"), write(tmp_path / "good.dng", dng(jpeg()))]
    random = np.random.default_rng(0)
    for i in range(30):
        good = files[i % 2]
        data = np.frombuffer(good.read_bytes(), np.uint8).copy()
        data[random.integers(0, len(data), 40)] = random.integers(0, 256, 40)
        try:
            read(write(good.with_stem("odd"), data.tobytes()))
        except UnreadableImage as error:
            assert error.reason and "\n" not in error.reason and len(error.reason) < 300
    assert [seen(read(file).pixels) for file in files] == [UPRIGHT, UPRIGHT]


def test_bombs_are_refused(tmp_path, monkeypatch):
    claims = "30000 x 30000 pixels, more than validate.max_pixels (10000)"
    data = film(tmp_path / "a.mov", codec="mjpeg").read_bytes()
    at = data.index(b"Vjpeg") + 29
    reason = why(write(tmp_path / "a.mov", claiming(data[:at] + HUGE + data[at + 4 :])))
    assert reason == "no frame of it can be decoded"  # FFmpeg looked into them
    assert why(write(tmp_path / "a.dng", dng(claiming(jpeg())))) == claims
    assert why(write(tmp_path / "b.dng", dng(None, sides=(30_000, 30_000)))) == claims
    assert why(film(tmp_path / "c.mp4"), SIDES[0] * SIDES[1] - 1).startswith("32 x 24 pixels, more")
    assert read(tmp_path / "c.mp4", SIDES[0] * SIDES[1]).width == SIDES[0]
    monkeypatch.setattr(bounds, "CAMERA_PREVIEW_BYTES", 100)
    assert why(write(tmp_path / "c.dng", dng(jpeg()))) == "a preview of 0 MiB; allowed: 0"


def test_memory_has_a_bound(tmp_path, limits):
    limits(CAMERA_BYTES=32 * bounds.MIB)
    file = write(tmp_path / "a.dng", dng(None, sides=(8_000, 8_000)))  # 128 MB of 16 bits
    assert why(file, 10**8) == "decoding it takes more than 32 MiB of memory"
    assert seen(read(write(tmp_path / "b.dng", dng(jpeg()))).pixels) == UPRIGHT


def test_no_file_is_refused_for_the_memory_of_those_before(tmp_path, limits):
    limits(CAMERA_BYTES=32 * bounds.MIB)
    assert seen(read(write(tmp_path / "b.dng", dng(jpeg()))).pixels) == UPRIGHT
    first = camera._Child.one
    limits(CAMERA_BYTES=512 * bounds.MIB)  # of a process that is started now
    file = write(tmp_path / "a.dng", dng(None, sides=(8_000, 8_000)))
    assert why(file, 10**8).startswith(DAMAGED)  # looked at, and too short
    assert camera._Child.one is not first


def asked_of_a_pipe(tmp_path):
    """A pipe that nobody writes to stands for a decoder that waits for ever."""
    os.mkfifo(tmp_path / "pipe.mp4")
    with Share(100) as share, pytest.raises(UnreadableImage) as raised:
        camera.still(tmp_path / "pipe.mp4", share)
    return raised.value.reason


def test_patience_has_an_end(tmp_path, limits):
    limits(CAMERA_PATIENCE=1)
    started = time.monotonic()
    assert asked_of_a_pipe(tmp_path) == "decoding it takes more than 1 s"
    assert time.monotonic() - started >= 1
    assert camera._Child.one is None
    limits(CAMERA_PATIENCE=60)
    assert seen(read(film(tmp_path / "a.mp4")).pixels) == UPRIGHT


def test_processor_time_has_an_end():
    code = f"import {camera_child.__name__} as c; c._bound_time(0, 60)\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == -signal.SIGXCPU


def test_a_process_that_is_killed_costs_one_file(tmp_path, limits):
    reasons = []
    asking = threading.Thread(target=lambda: reasons.append(asked_of_a_pipe(tmp_path)))
    asking.start()
    while camera._Child.one is None:
        time.sleep(0.01)
    os.kill(camera._Child.one.process.pid, signal.SIGKILL)
    asking.join(30)
    assert reasons == ["damaged: its decoder ended (SIGKILL)"]
    assert seen(read(film(tmp_path / "a.mp4")).pixels) == UPRIGHT
    os.kill(camera._Child.one.process.pid, signal.SIGSEGV)  # between two files it costs none
    assert seen(read(tmp_path / "a.mp4").pixels) == UPRIGHT


def test_one_process_reads_all_in_order_and_other_processes_do_not_share_it(tmp_path):
    files = [film(tmp_path / "a.mp4", 90), write(tmp_path / "b.dng", dng(jpeg()))]
    Image.new("RGB", (8, 8), (0, 254, 0)).save(tmp_path / "c.png")
    files = [*files, tmp_path / "c.png", write(tmp_path / "d.mov", b"")] * 20
    read(files[0])
    process = camera._Child.one.process.pid
    how = {"channels": 3, "max_pixels": 1000, "size": 8}
    found = [image for _, image in decoding.decoded(files, **how)]
    assert [seen(image.pixels) for image in found[::4]] == [TURNED[90]] * 20
    assert [seen(image.pixels) for image in found[1::4]] == [UPRIGHT] * 20
    assert [image.reason for image in found[3::4]] == ["empty file (0 bytes)"] * 20
    assert camera._Child.one.process.pid == process
    assert Share._in_use == 0
    assert camera._Child.one.refused == 20
    for _ in range(camera._MOST_REFUSED):  # FFmpeg leaves files open
        why(tmp_path / "d.mov")
    assert camera._Child.one.process.pid != process and camera._Child.one.refused == 20
    forked = os.fork()
    if not forked:
        os._exit(0 if camera._Child.one is None and not camera._turn.locked() else 1)
    assert os.waitpid(forked, 0)[1] == 0


def test_without_the_extra_its_name_is_in_the_reason(tmp_path, monkeypatch):
    stand_in(monkeypatch, camera, "suffixes", lambda: frozenset())
    hint = f"; RAW files and films are read after {install('camera')}"
    assert why(film(tmp_path / "a.mp4")) == f"a video, or a damaged HEIC or AVIF{hint}"
    assert why(write(tmp_path / "a.nef", b"")) == f"empty file (0 bytes){hint}"
    assert why(write(tmp_path / "a.jpg", b"")) == "empty file (0 bytes)"
    assert images.suffixes() == images.SUFFIXES


def test_copies_of_what_cannot_be_cleaned_are_refused(tmp_path):
    assert stripped(film(tmp_path / "a.mp4")) is None
    assert stripped(write(tmp_path / "a.CR2", b"II*\0")) is None


def test_other_codecs_than_cameras_write_are_refused_before_they_decode(tmp_path):
    reason = why(film(tmp_path / "a.mkv", codec="ffv1"))
    assert reason == "a film in ffv1, which is not among what cameras write"


def test_a_library_that_cannot_be_loaded_is_said_and_memory_stays_bounded(
    tmp_path, monkeypatch, limits
):
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "__init__.py").write_text("raise ImportError('libfoo.so: no such file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file = film(tmp_path / "a.mp4")
    assert why(file).startswith("what reads it is installed and cannot be loaded (libfoo.so: no")
    limits = Path(f"/proc/{camera._Child.one.process.pid}/limits").read_text()
    (space,) = re.findall(r"Max address space +(\S+)", limits)
    assert int(space) < 8 * bounds.CAMERA_BYTES


@pytest.mark.parametrize("ended", [KeyboardInterrupt(), stopping.Stopped(signal.SIGTERM)])
def test_an_interruption_does_not_wait_for_the_decoder(tmp_path, ended):
    reasons = []
    asking = threading.Thread(target=lambda: reasons.append(asked_of_a_pipe(tmp_path)))
    asking.start()
    while camera._Child.one is None:
        time.sleep(0.01)

    def interrupted(item):
        raise ended

    with pytest.raises(type(ended)):
        list(decoding.in_threads(interrupted, [1]))
    asking.join(30)
    assert reasons == ["interrupted"]
    assert seen(read(film(tmp_path / "a.mp4")).pixels) == UPRIGHT
