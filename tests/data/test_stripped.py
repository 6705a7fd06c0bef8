"""Copies of pictures without what files say of them."""

import io
import struct
import zlib

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
    assert stripped(tmp_path / "b") is None
    at = data.index(b"\xff\xe1")  # padding before a segment is allowed
    (tmp_path / "b").write_bytes(data[:at] + b"\xff\xff" + data[at:])
    assert stripped(tmp_path / "b") == stripped(tmp_path / "a")


@pytest.mark.parametrize("cut", [1, 4, 8, 11])
def test_a_png_that_is_cut_off_is_none(tmp_path, picture, cut):
    """It can be read, and nobody knows what it says."""
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    picture.save(tmp_path / "a", "PNG", pnginfo=text)
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(data[:-cut])
    assert np.array_equal(shown(data[:-cut]), shown(data))
    assert stripped(tmp_path / "b") is None
    (tmp_path / "b").write_bytes(data[:-12])  # all but its end, which is empty
    assert b"iTXt" not in stripped(tmp_path / "b")


@pytest.mark.parametrize("between", [b"\0", b"\xff\xd0", b"\xff\x01"])
def test_a_jpeg_with_bytes_between_its_segments_is_none(tmp_path, picture, between):
    picture.save(tmp_path / "a", "JPEG", xmp=b"<x dc:creator='Ada'/>")
    data = (tmp_path / "a").read_bytes()
    at = data.index(b"\xff\xdb")
    (tmp_path / "b").write_bytes(data[:at] + between + data[at:])
    assert stripped(tmp_path / "b") is None


def segment(kind, held):
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(held) + 2) + held


def test_jpegs_say_nothing_wherever_it_stands(tmp_path, picture):
    """In other application segments, between scans, and in a second picture behind the end."""
    file = tmp_path / "a.jpg"
    picture.save(file, "JPEG", progressive=True, icc_profile=b"a profile" * 100)
    plain = file.read_bytes()
    scan = plain.index(b"\xff\xda")
    between = plain.index(b"\xff\xc4", scan)
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    hidden = segment(0xE1, xmp) + segment(0xE1, exif()) + segment(0xFE, b"by Ada")
    second = plain[:2] + segment(0xE1, b"Ada in Vienna") + plain[2:]
    data = plain[:2] + segment(0xEB, b"JP" + xmp) + plain[2:between] + hidden + plain[between:]
    file.write_bytes(data + second)
    assert shown(data).shape == (24, 40, 3)  # as readers take it
    assert stripped(file) == plain


def test_exif_behind_the_pixels_of_a_png_turns_it(tmp_path, picture):
    file = tmp_path / "a.png"
    picture.save(file, "PNG", exif=exif())
    data = file.read_bytes()
    at = data.index(b"eXIf") - 4
    length = 12 + struct.unpack(">I", data[at : at + 4])[0]
    end = data.index(b"IEND") - 4
    late = data[:at] + data[at + length : end] + data[at : at + length] + data[end:]
    file.write_bytes(late)
    after = stripped(file)
    assert b"Kamera" not in after
    assert np.array_equal(shown(after), np.asarray(picture.transpose(Image.Transpose.ROTATE_270)))


def chunk(kind, held):
    return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))


def test_parts_that_no_picture_needs_are_left_out_whatever_they_are(tmp_path, picture):
    file = tmp_path / "a"
    picture.save(file, "PNG", icc_profile=b"a profile" * 9, dpi=(72, 72), transparency=(1, 2, 3))
    plain = file.read_bytes()
    file.write_bytes(plain[:33] + chunk(b"caBX", XMP) + plain[33:])
    assert stripped(file) == plain
    frames = [picture, picture.rotate(90)]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    assert stripped(file) == file.read_bytes()
    for more in ({"lossless": True}, {"save_all": True, "append_images": frames[1:]}):
        picture.save(file, "WEBP", icc_profile=b"a profile" * 9, **more)
        plain = file.read_bytes()
        odd = b"C2PA" + struct.pack("<I", len(XMP)) + XMP + b"\0" * (len(XMP) % 2)
        whole = struct.pack("<I", len(plain) - 8 + len(odd))
        file.write_bytes(plain[:4] + whole + plain[8:] + odd)
        assert stripped(file) == plain
        file.write_bytes(plain + b"behind Ada")
        assert stripped(file) == plain
        file.write_bytes(plain[:-4])
        assert stripped(file) is None


@pytest.mark.parametrize("kind", ["BMP", "GIF"])
def test_bytes_among_pixels_are_no_place(tmp_path, kind):
    line = np.frombuffer(b"GPSL" * 30, np.uint8)
    palette = Image.fromarray(np.tile(line, (30, 1)))
    palette.save(tmp_path / "a", kind)
    data = (tmp_path / "a").read_bytes()
    assert kind == "GIF" or b"GPSL" in data
    assert stripped(tmp_path / "a") == data


@pytest.mark.parametrize(
    "said", ["exif:GPSDestLatitude='48,8N'", "photoshop:City='Vienna'", "Iptc4xmpCore:Location='x'"]
)
@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "GIF"])
def test_xmp_that_says_a_place_is_told(tmp_path, picture, kind, said):
    import pillow_heif

    pillow_heif.register_heif_opener()
    for name, xmp in (("a", f"<x {said}/>"), ("b", "<x hdrgm:Version='1.0'/>")):
        picture.save(tmp_path / name, kind, xmp=xmp.encode())
    if kind == "GIF":  # which Pillow does not write
        data = (tmp_path / "a").read_bytes()
        more = b"!\xff\x0bXMP DataXMP" + f"<x {said}/>".encode() + b"\1\0\0"
        (tmp_path / "a").write_bytes(data[:-1] + more + data[-1:])
    assert stripped(tmp_path / "a") is None
    assert stripped(tmp_path / "b") == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("tag", [33550, 33922, 34735, 700, 33723, 34377])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_that_say_a_place_are_told(tmp_path, tag, big, order):
    import tifffile

    said = (tag, "d" if tag not in (700, 33723, 34377) else "B", 3, (8, 47, 0), True)
    pixels = np.zeros((8, 8, 3), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, bigtiff=big, byteorder=order, extratags=[said], metadata=None
    )
    assert stripped(tmp_path / "a.tif") is None
    tifffile.imwrite(tmp_path / "b.tif", pixels, bigtiff=big, byteorder=order, metadata=None)
    assert stripped(tmp_path / "b.tif") == (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize("tag", [33723, 34377, 33550])  # IPTC, Photoshop, GeoTIFF
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_smaller_pictures_in_tiffs_that_say_a_place_are_told(tmp_path, tag, big, order):
    import tifffile

    said = (tag, "B", 12, b"Vienna, Wien", True)
    pixels = np.zeros((16, 16), np.uint8)
    for name, tags in (("place", [said]), ("plain", [])):
        file = tmp_path / f"{name}.tif"
        with tifffile.TiffWriter(file, bigtiff=big, byteorder=order) as out:
            out.write(pixels, subifds=2, metadata=None)
            out.write(pixels[::2, ::2], subfiletype=1, metadata=None)
            out.write(pixels[::4, ::4], subfiletype=1, metadata=None, extratags=tags)
            out.write(pixels, metadata=None)
        with tifffile.TiffFile(file) as written:
            smaller = written.pages[0].pages[1].tags
            assert (tag in smaller, len(written.pages)) == (name == "place", 2)
    assert stripped(tmp_path / "place.tif") is None
    assert stripped(tmp_path / "plain.tif") == (tmp_path / "plain.tif").read_bytes()


def tiff(*entries, behind=b"", following=0):
    """A TIFF of one directory; entries: tag, type, number, value or where it is."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    directory = struct.pack("<H", len(entries)) + rows + struct.pack("<I", following)
    return b"II*\0\x08\0\0\0" + directory + behind


@pytest.mark.parametrize(
    "data, clear",
    [
        (tiff((256, 3, 1, 9)), True),
        (tiff((256, 3, 1, 9), following=8), True),  # the same page again
        (tiff((330, 4, 1, 8)), True),
        (tiff((330, 4, 1, 26), behind=struct.pack("<HHHIII", 1, 256, 3, 1, 9, 0)), True),
        (tiff((330, 4, 1, 26), behind=struct.pack("<HHHIII", 1, 33723, 7, 1, 9, 0)), False),
        (tiff((34665, 13, 1, 26), behind=struct.pack("<HHHIII", 1, 33723, 7, 1, 9, 0)), False),
        (tiff((330, 4, 1, 1 << 20)), False),  # behind the end
        (tiff((330, 3, 1, 26)), False),  # no number of bytes
        (tiff((330, 4, 1 << 31, 8)), False),
        (tiff((256, 99, 1, 9)), False),
        (tiff((270, 2, 99, 26)), False),
        (tiff((256, 3, 1, 9))[:20], False),
        (b"II*\0" + bytes(20), False),
        (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1 << 60) + bytes(90), False),
    ],
)
def test_tiffs_are_copied_where_all_their_directories_are_clear(tmp_path, data, clear):
    (tmp_path / "a.tif").write_bytes(data)
    assert stripped(tmp_path / "a.tif") == (data if clear else None)


def test_a_moving_webp_says_nothing_in_its_frames(tmp_path, picture):
    file = tmp_path / "a.webp"
    turned = picture.rotate(180)
    picture.save(file, save_all=True, append_images=[turned], lossless=True, duration=[50, 70])
    plain = file.read_bytes()
    assert plain.count(b"ANMF") == 2 and stripped(file) == plain
    said = b"".join(
        kind + struct.pack("<I", len(held)) + held + bytes(len(held) % 2)
        for kind, held in ((b"EXIF", exif()), (b"XMP ", XMP), (b"C2PA", b"by Ada"))
    )
    data = plain[:12]
    at = 12
    while at < len(plain):
        kind, length = struct.unpack_from("<4sI", plain, at)
        held = plain[at + 8 : at + 8 + length + length % 2]
        at += 8 + len(held)
        if kind == b"ANMF":
            length, held = len(held + said), held + said
        data += struct.pack("<4sI", kind, length) + held
    file.write_bytes(b"RIFF" + struct.pack("<I", len(data) - 8) + data[8:])
    with Image.open(file) as image:
        assert image.n_frames == 2
    assert stripped(file) == plain
    cut = data.replace(b"C2PA\x06", b"C2PA\x60")
    file.write_bytes(b"RIFF" + struct.pack("<I", len(cut) - 8) + cut[8:])
    assert stripped(file) is None


def test_long_exif_is_not_looked_through(tmp_path, picture, monkeypatch):
    file = tmp_path / "a.webp"
    picture.save(file, "WEBP", exif=exif())
    monkeypatch.setattr("vtcc.bounds.EXIF_BYTES", 10)
    with Image.open(io.BytesIO(stripped(file))) as image:
        assert dict(image.getexif()) == {}  # as `data.images` takes it: not turned
