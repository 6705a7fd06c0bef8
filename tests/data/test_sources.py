import gzip
import io
import struct
import sys
import types

import numpy as np
import pytest
from PIL import Image

from tests.data.project import ROOT
from vtcc.data import sources
from vtcc.data.catalog import Card, load_card
from vtcc.data.sources import Places, find, mirror, png, read_idx
from vtcc.errors import VtccError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
LABELS = np.arange(10, dtype=np.uint8)[::-1]


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.tobytes()


def write_mirror(directory, packed=True):
    directory.mkdir(parents=True, exist_ok=True)
    for stem, rows in (("train", slice(0, 6)), ("t10k", slice(6, 10))):
        for name, values in (("images-idx3", IMAGES[rows]), ("labels-idx1", LABELS[rows])):
            data = idx(values)
            file = directory / f"{stem}-{name}-ubyte{'.gz' if packed else ''}"
            file.write_bytes(gzip.compress(data) if packed else data)


@pytest.fixture
def fashion(monkeypatch, tmp_path) -> Card:
    monkeypatch.setattr(sources, "DEBIAN_FASHION", tmp_path / "debian")
    return load_card(ROOT / "data/catalog/fashion-mnist.yaml")


def unpack(content) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_png_is_read_by_pillow_and_the_same_everywhere():
    for shape in ((8, 8), (1, 1), (28, 28), (300, 301), (2, 70_000)):
        image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        opened = Image.open(io.BytesIO(png(image)))
        assert opened.mode == "L" and (np.asarray(opened) == image).all()
    assert png(np.array([[7]], dtype=np.uint8)).hex() == (
        "89504e470d0a1a0a"
        "0000000d4948445200000001000000010800000000"
        "3a7e9b55"
        "0000000d494441547801010200fdff000700090008"
        "b9ac8687"
        "0000000049454e44ae426082"
    )


def test_digits_are_lossless_invertible_and_silent_about_classes(tmp_path):
    from sklearn.datasets import load_digits

    card = load_card(ROOT / "data/catalog/digits.yaml")
    found = find(card, Places(None, tmp_path))
    bunch = load_digits()
    assert len(found.paths) == 1797 and found.paths[1234] == "digits/01234.png"
    for i in range(0, 1797, 50):
        values = np.rint(unpack(found.read(i)).astype(float) * 16 / 255)
        assert (values == bunch.images[i]).all()
    assert list(found.labels) == bunch.target.tolist()
    assert list(found.class_names) == list(card.class_counts or {})


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("sub", ["", "usr/share/datasets/fashion-mnist", "FashionMNIST/raw"])
def test_fashion_mnist_from_a_mirror(fashion, tmp_path, packed, sub):
    write_mirror(tmp_path / "mirror" / sub, packed)
    found = find(fashion, Places(tmp_path / "mirror", tmp_path))
    assert found.paths[0] == "fashion-mnist/train/00000.png"
    assert found.paths[6:] == [f"fashion-mnist/test/{i:05d}.png" for i in range(4)]
    assert all((unpack(found.read(i)) == IMAGES[i]).all() for i in range(10))
    assert found.labels == LABELS.tolist() and found.class_names[9] == "Ankle boot"
    assert found.notes == [f"fashion-mnist: read from {tmp_path / 'mirror' / sub}"]


def test_fashion_mnist_from_debians_package(fashion, tmp_path):
    write_mirror(tmp_path / "debian")
    assert len(find(fashion, Places(tmp_path, tmp_path)).paths) == 10


def fake_torchvision(monkeypatch, constructor):
    package, module = types.ModuleType("torchvision"), types.ModuleType("torchvision.datasets")
    module.FashionMNIST = constructor
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)


def test_fashion_mnist_is_downloaded_when_no_mirror_has_it(fashion, monkeypatch, tmp_path):
    calls = []

    def download(root, download):
        calls.append(download)
        write_mirror(tmp_path / "scratch/FashionMNIST/raw", packed=False)

    fake_torchvision(monkeypatch, download)
    found = find(fashion, Places(None, tmp_path / "scratch"))
    assert calls == [True] and len(found.paths) == 10


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("not found or corrupted")])
def test_without_a_network_the_error_says_what_to_fetch(fashion, monkeypatch, tmp_path, error):
    def download(root, download):
        raise error

    fake_torchvision(monkeypatch, download)
    with pytest.raises(VtccError) as caught:
        find(fashion, Places(tmp_path / "m", tmp_path))
    text = str(caught.value)
    for part in (str(error), str(tmp_path / "m"), "ubyte.gz", "download.mirror", "VTCC_MIRROR"):
        assert part in text
    assert "\n" not in text


def test_fashion_mnist_with_other_contents_is_refused(fashion, tmp_path):
    write_mirror(tmp_path)
    file = tmp_path / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(idx(np.array([1, 2, 3, 10], dtype=np.uint8))))
    with pytest.raises(VtccError, match="found the label 10, but card fashion-mnist names 10"):
        find(fashion, Places(tmp_path, tmp_path))
    file.write_bytes(gzip.compress(idx(np.zeros(3, dtype=np.uint8))))
    with pytest.raises(VtccError, match="holds 4 images but t10k-labels-idx1-ubyte 3 labels"):
        find(fashion, Places(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an idx file"),
        (idx(IMAGES)[:-1], "truncated"),
        (idx(IMAGES) + b"0", "truncated"),
        (idx(LABELS), "with 3 dimensions"),
        (gzip.compress(idx(IMAGES))[:-9], "cannot be read"),
        (b"<html>", "not an idx file"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(VtccError, match=message):
        read_idx(tmp_path / "a", dimensions=3)


def test_unknown_loader_is_refused(fashion, tmp_path):
    import dataclasses

    with pytest.raises(VtccError, match="found loader 'x'; allowed: digits"):
        find(dataclasses.replace(fashion, loader="x"), Places(None, tmp_path))


def test_mirror_comes_from_the_environment_first(monkeypatch, tmp_path):
    monkeypatch.delenv("VTCC_MIRROR", raising=False)
    (tmp_path / "a").mkdir()
    assert mirror("") is None
    assert mirror(str(tmp_path / "a")) == tmp_path / "a"
    with pytest.raises(VtccError, match=r"download\.mirror: .*b' is not a directory"):
        mirror(str(tmp_path / "b"))
    monkeypatch.setenv("VTCC_MIRROR", str(tmp_path))
    assert mirror(str(tmp_path / "b")) == tmp_path
    monkeypatch.setenv("VTCC_MIRROR", str(tmp_path / "c"))
    with pytest.raises(VtccError, match="VTCC_MIRROR: "):
        mirror("")
