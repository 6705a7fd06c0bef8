"""Copies of pictures without what files say of them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from vtcc.data.exif import of_file
from vtcc.data.stripped import stripped

TURNED = 6
XMP = b"<x:xmpmeta exif:GPSLatitude='48,8N' owner='Ada'/>"
PRIVATE = (b"GPSL", b"Kamera", b"Ada", b"Vienna", b"\x25\x88\x04\x00\x01", b"\x88\x25\x00\x04\x00")


def exif(place=True, turn=TURNED):
    tags = Image.Exif()
    tags[0x010F] = "Kamera"
    tags[0x0112] = turn
    if place:
        tags[0x8825] = {1: "N", 2: (48.0, 12.0, 0.0), 3: "E", 4: (16.0, 22.0, 0.0)}
    return tags.tobytes()


@pytest.fixture
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    return Image.fromarray(pixels)


def shown(data):
    """The picture as a person sees it."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))


def write(file, picture, kind):
    if kind == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        text.add_text("Author", "Ada", zip=True)
        picture.save(file, kind, exif=exif(), pnginfo=text)
    else:
        picture.save(file, kind, exif=exif(), xmp=XMP)
    if kind == "JPEG":  # IPTC, a comment, and a picture behind the first as phones write it
        data = file.read_bytes()
        more = b"".join(
            b"\xff" + bytes([mark]) + struct.pack(">H", len(said) + 2) + said
            for mark, said in ((0xED, b"Photoshop 3.0\0Vienna"), (0xFE, b"by Ada"))
        )
        file.write_bytes(data[:2] + more + data[2:] + data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_nothing_private_is_left_and_the_picture_is_the_same(tmp_path, picture, kind):
    file = tmp_path / "a"
    write(file, picture, kind)
    assert of_file(file)["latitude"] == 48.2
    before = file.read_bytes()
    after = stripped(file)
    assert after is not None
    assert file.read_bytes() == before
    assert [said for said in PRIVATE if said in after] == []
    with Image.open(io.BytesIO(after)) as image:
        assert image.format == kind
        assert dict(Image.Image.getexif(image)) == {0x0112: TURNED}
    assert shown(after).shape == (40, 24, 3)
    assert np.array_equal(shown(after), shown(before))
    (tmp_path / "b").write_bytes(after)
    assert of_file(tmp_path / "b") == {}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_what_says_nothing_is_as_it_was(tmp_path, picture, kind):
    file = tmp_path / "a"
    picture.convert("P" if kind == "GIF" else "RGB").save(file, kind)
    assert stripped(file) == file.read_bytes()


@pytest.mark.parametrize("kind", ["TIFF", "HEIF"])
def test_a_place_that_cannot_be_taken_out_is_told(tmp_path, picture, kind):
    import pillow_heif

    pillow_heif.register_heif_opener()
    picture.save(tmp_path / "a", kind, exif=exif())
    assert stripped(tmp_path / "a") is None
    picture.save(tmp_path / "b", kind, exif=exif(place=False, turn=1))
    assert stripped(tmp_path / "b") == (tmp_path / "b").read_bytes()


def test_a_damaged_file_with_exif_is_none(tmp_path, picture):
    write(tmp_path / "a", picture, "JPEG")
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(data[:200])
    assert b"Exif" in data[:200]
    assert stripped(tmp_path / "b") is None
    (tmp_path / "b").write_bytes(data[:12])
    assert stripped(tmp_path / "b") == data[:12]
    at = data.index(b"\xff\xe1")  # padding before a segment is allowed
    (tmp_path / "b").write_bytes(data[:at] + b"\xff\xff" + data[at:])
    assert stripped(tmp_path / "b") == stripped(tmp_path / "a")
