import dataclasses
import gzip
import io
import pickle

import numpy as np
import pytest
from PIL import Image

from tests.data import layouts
from tests.data.layouts import NAMES, idx, shrink, upstream, write
from vtcc.data import mirror
from vtcc.data.catalog import Card
from vtcc.data.found import Found
from vtcc.data.sources import Places, find, pickles
from vtcc.data.sources.arrays import png, read_idx
from vtcc.errors import VtccError
from vtcc.stages.download import check_card

FILES = [name for name in NAMES if name != "digits"]


@pytest.fixture(autouse=True)
def nothing_else_here(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(mirror, "DEBIAN_FASHION", tmp_path / "debian")


@pytest.fixture
def places(tmp_path) -> Places:
    for name in ("mirror", "scratch"):
        (tmp_path / name).mkdir()
    return Places(tmp_path / "mirror", tmp_path / "scratch", tmp_path / "downloads")


def unpack(content) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def by_path(found: Found) -> dict[str, tuple[bytes, str]]:
    """path -> content, class name"""
    rows = {}
    for i, path in enumerate(found.paths):
        data = found.read(i)
        data = data if isinstance(data, bytes) else data.read_bytes()
        rows[path] = (data, found.class_names[(found.labels or [])[i]])
    return rows


def check(card: Card, found: Found) -> dict[str, tuple[bytes, str]]:
    known = bool(card.class_counts)
    assert check_card(card, found, allow_missing=False) is known
    rows = by_path(found)
    assert len(rows) == card.images and len({data for data, _ in rows.values()}) == card.images
    assert len({name for _, name in rows.values()}) == card.classes
    return rows


def test_digits(places):
    found = find(layouts.load_card(layouts.ROOT / "data/catalog/digits.yaml"), places)
    assert (
        len(found.paths) == 1797 == len(set(found.paths)) and found.paths[0] == "digits/00000.png"
    )
    first = unpack(found.read(0))
    assert first.shape == (8, 8) and first.dtype == np.uint8 and first.max() == 239
    assert np.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("name", FILES)
def test_the_upstream_layout(name, places):
    card = shrink(name)
    write(upstream(card), places.mirror)
    rows = check(card, find(card, places))
    if card.loader == "class-folders":
        # The wrapping folders are gone, and the class is the folder's.
        assert all(path.split("/")[0] == label for path, (_, label) in rows.items())


@pytest.mark.parametrize("name", [n for n in FILES if n != "omniglot"])
@pytest.mark.parametrize("packed", ["zip", "tar", None])
def test_class_folders_from_the_mirror(name, packed, places):
    card = shrink(name)
    top = name.upper().replace("-", "_")
    files = layouts.folders(card, f"{top}/{{c}}/{{i}}.jpg")
    if packed is None:
        write(files, places.mirror)
    else:
        ending = {"zip": ".zip", "tar": ".tgz"}[packed]
        write({top + ending: layouts.pack(files, packed)}, places.mirror)
    rows = check(card, find(card, places))
    assert {data for data, _ in rows.values()} == {layouts.content(i) for i in range(card.images)}


def test_omniglot_as_one_folder_of_alphabets(places):
    card = shrink("omniglot")
    files = {
        f"omniglot/A{a}/character0{c}/{i}.png": layouts.content(4 * a + 2 * c + i)
        for a in range(2)
        for c in range(2)
        for i in range(2)
    }
    write(files, places.mirror)
    rows = check(card, find(card, places))
    assert rows["A1/character00/1.png"][1] == "A1/character00"


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_pickles_and_binaries_of_cifar_give_the_same(name, places, tmp_path):
    card = shrink(name)
    write(upstream(card), places.mirror)
    write(layouts.cifar_binary(card), tmp_path / "other")
    (tmp_path / "scratch2").mkdir()
    other = Places(tmp_path / "other", tmp_path / "scratch2", tmp_path / "downloads")
    first, second = (by_path(find(card, where)) for where in (places, other))
    assert first == second
    rows = layouts.pixels(card.images, 3072)
    image = unpack(first[f"{name}/train/00000.png"][0])
    assert (image == rows[0].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert first[f"{name}/train/00001.png"][1] == layouts.class_names(card)[1]


def test_cifar100_by_superclass_and_fine_class(places):
    card = shrink("cifar100")
    write(layouts.folders(card, "cifar100/{c}/fine/{i}.png"), places.mirror)
    assert check(card, find(card, places))["fish/fine/0.png"][1] == "fish"


def test_stl10_and_svhn_are_turned_the_right_way(places):
    for name in ("stl10", "svhn"):
        card = shrink(name)
        write(upstream(card), places.mirror)
        rows = by_path(find(card, places))
        image = unpack(rows[f"{name}/train/00001.png"][0])
        stored = layouts.pixels(card.images, *{"stl10": (3, 96, 96), "svhn": (32, 32, 3)}[name])[1]
        assert (image == (stored.transpose(2, 1, 0) if name == "stl10" else stored)).all()
        assert rows[f"{name}/train/00000.png"][1] == layouts.class_names(card)[0]


def test_the_mirror_may_hold_upstream_files_in_a_folder(places):
    card = shrink("flowers102")
    write(upstream(card), places.mirror / "Flowers_102")
    check(card, find(card, places))


def test_torchvisions_cache_is_found(places, tmp_path):
    card = shrink("mnist")
    write(upstream(card), tmp_path / "torch/datasets/MNIST/raw")
    check(card, find(card, places))


def test_fashion_mnist_raw_and_from_debians_package(places, tmp_path):
    card = shrink("fashion-mnist")
    files = {n.removesuffix(".gz"): gzip.decompress(d) for n, d in upstream(card).items()}
    write(files, tmp_path / "debian")
    debian = by_path(find(card, places))
    write(files, places.mirror / "usr/share/datasets/fashion-mnist")
    assert by_path(find(card, places)) == debian
    assert unpack(debian["fashion-mnist/train/00003.png"][0]).tolist() == (
        layouts.pixels(card.images, 28, 28)[3].tolist()
    )


def test_what_is_missing_is_named(places):
    card = shrink("ucmerced")
    files = layouts.folders(card, "ucmerced/{c}/{i}.jpg")
    lacking = {n: d for n, d in files.items() if "/river/" not in n}
    write(lacking, places.mirror)
    found = find(card, places)
    with pytest.raises(VtccError, match="expected 42 images, found 40"):
        check_card(card, found, allow_missing=False)
    card = dataclasses.replace(card, images=40)
    with pytest.raises(VtccError, match=r"expected 21 classes, found 20 \(missing: river\)"):
        check_card(card, found, allow_missing=False)


def test_a_wrong_class_count_may_be_a_warning(places, capsys):
    card = shrink("dtd")
    files = layouts.folders(card, "dtd/{c}/{i}.jpg")
    files["dtd/woven/9.jpg"] = files.pop("dtd/zigzagged/1.jpg")
    write(files, places.mirror)
    found = find(card, places)
    with pytest.raises(VtccError, match="expected 2 images of class 'woven', found 3"):
        check_card(card, found, allow_missing=False)
    soft = dataclasses.replace(
        card.expectations, severity=card.expectations.severity | {"classes": "warn"}
    )
    assert not check_card(dataclasses.replace(card, expectations=soft), found, allow_missing=False)
    assert "warning: dataset 'dtd': expected 2 images of class 'woven'" in capsys.readouterr().out


def test_images_outside_class_folders_are_left_out_and_said(places):
    card = shrink("eurosat")
    files = layouts.folders(card, "eurosat/{c}/{i}.jpg") | {"eurosat/preview.jpg": b"x"}
    found = find(card, Places(write(files, places.mirror), places.scratch, places.downloads))
    assert len(found.paths) == card.images
    assert found.notes == ["eurosat: left out images outside the card's class folders: 1 in ."]


def test_another_layout_is_named(places):
    card = shrink("stl10")
    write({"stl10/a/readme.txt": b"x", "stl10/b/c.jpg": b"x"}, places.mirror)
    with pytest.raises(
        VtccError, match=r"stl10 holds 2 files \(1 \.txt, 1 \.jpg\) in a, b; expected"
    ):
        find(card, places)


@pytest.mark.parametrize(
    ("name", "lacking", "message"),
    [
        ("stl10", "stl10/test_y.bin", "lacks test_y.bin; it needs train_X.bin"),
        ("chaoyang", "chaoyang/test.json", "has only one of train.json, test.json"),
        ("d0", "d0/kind 3/", "expected 40 class folders, found 39"),
        ("omniglot", "omniglot/images_evaluation", "expected 4 characters, found 2"),
    ],
)
def test_half_a_data_set_is_refused(name, lacking, message, places, tmp_path):
    from vtcc.data import archive

    card = shrink(name)
    whole = places.mirror / name
    for data in upstream(card).values():
        (tmp_path / "packed").write_bytes(data)
        whole.mkdir(exist_ok=True)
        archive.unpack(tmp_path / "packed", whole, wanted=lambda p: None)
    for file in [p for p in whole.rglob("*") if p.is_file()]:
        inside = file.relative_to(whole).as_posix()
        short = f"{name}/{inside.partition('/')[2] if name != 'omniglot' else inside}"
        if short.startswith(lacking):
            file.unlink()
    with pytest.raises(VtccError, match=message):
        find(card, places)


def test_listed_images_that_are_missing_are_named(places):
    card = shrink("chaoyang")
    entries = b'[{"name": "train/0.jpg", "label": 0}]'
    write({"chaoyang/train.json": entries, "chaoyang/test.json": b"[]"}, places.mirror)
    found = find(card, places)
    assert found.missing == ["train/0.jpg"] and not found.paths
    with pytest.raises(VtccError, match=r"found 0 \(missing: train/0.jpg\)"):
        check_card(card, found, allow_missing=False)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (b"{", "not JSON"),
        (b'[{"name": 1, "label": 0}]', "expected a list of"),
        (
            b'[{"name": "../../etc/passwd", "label": 9}]',
            "has the label 9, but card chaoyang names 4",
        ),
    ],
)
def test_a_wrong_list_is_refused(places, entries, message):
    write({"chaoyang/train.json": entries, "chaoyang/test.json": b"[]"}, places.mirror)
    with pytest.raises(VtccError, match=message):
        find(shrink("chaoyang"), places)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused(places, capsys, protocol):
    data = pickle.dumps({b"data": Evil()}, protocol=protocol)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    write({f"cifar10/{name}": data for name in names}, places.mirror)
    with pytest.raises(VtccError, match=r"data_batch_1: names (builtins|__builtin__)\.print"):
        find(shrink("cifar10"), places)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable pickle"),
        (b"\x80\x02}q\x00.", "expected data .N, 3072. in bytes and N labels, found"),
        (pickle.dumps([1]), "found list"),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, 2),
            "expected data",
        ),
        (pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [1]}, 2), "expected data"),
    ],
)
def test_a_wrong_pickle_is_refused(places, data, message):
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    write({f"cifar10/{name}": data for name in names}, places.mirror)
    with pytest.raises(VtccError, match=message):
        find(shrink("cifar10"), places)


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def array_of(state):
    reconstruct = np.zeros(1).__reduce__()[0]
    return pickle.dumps(Calls(reconstruct, (np.ndarray, (0,), b"b"), state), 2)


WIDE = (40_000, 40_000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(Calls(np.ndarray, (WIDE,)), 2), "not callable"),
        (array_of((1, WIDE, np.dtype("u1"), False, b"x")), "buffer size does not match"),
        (array_of((1, WIDE, np.dtype("O"), False, [])), "something other than numbers"),
        (array_of((1, WIDE, np.dtype("u1"), False, [])), "content is not bytes"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "index 2147483647 in a file of 9 bytes"),
        (b"\x80\x02B\xff\xff\xff\x7f.", "not a readable pickle"),
        (b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", "nested more than 20 deep"),
        (b"\x80\x02})" + b"\x85" * 500_000 + b"K\x01s.", "nested more than 20 deep"),
        (b"\x80\x02})" + b"2\x86" * 7 + b"K\x01s.", "a key that is not plain"),
        (b"\x80\x04\x8f(K\x01\x90.", "a set, or a key that is not plain"),
    ],
)
def test_a_small_pickle_takes_no_more_than_its_size(tmp_path, data, message):
    import tracemalloc

    (tmp_path / "batch").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(VtccError, match=message):
            pickles.read(tmp_path / "batch")
        assert tracemalloc.get_traced_memory()[1] < 10 * len(data) + 1_000_000
    finally:
        tracemalloc.stop()


def test_a_pickle_of_python_2_is_read(tmp_path):
    # As cPickle of Python 2 wrote CIFAR: str for keys and for the array's bytes.
    text = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        b"U\x01b\x87R(K\x01K\x03\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x03\x01\x02\x03tbu."
    )
    (tmp_path / "a").write_bytes(text)
    read = pickles.read(tmp_path / "a")
    assert list(read) == [b"data"] and read[b"data"].tolist() == [1, 2, 3]


def test_labels_that_do_not_fit_are_refused(places):
    card = shrink("kmnist")
    files = upstream(card)
    wrong = np.full(card.images - card.images // 2, 10, dtype=np.uint8)
    files["t10k-labels-idx1-ubyte.gz"] = gzip.compress(idx(wrong), mtime=0)
    write(files, places.mirror)
    with pytest.raises(VtccError, match="found the label 10, but card kmnist names 10 classes"):
        find(card, places)
    files["t10k-labels-idx1-ubyte.gz"] = gzip.compress(idx(wrong[:3]), mtime=0)
    write(files, places.mirror / "kmnist")
    other = places.scratch / "again"
    other.mkdir()
    with pytest.raises(VtccError, match="test part holds 10 images but 3 labels"):
        find(card, Places(places.mirror, other, places.downloads))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an idx file"),
        (idx(layouts.pixels(3, 4, 4))[:-1], "truncated"),
        (idx(layouts.pixels(3, 4, 4)) + b"0", "truncated"),
        (idx(layouts.pixels(3)), "with 3 dimensions"),
        (gzip.compress(idx(layouts.pixels(3, 4, 4)), mtime=0)[:-9], "cannot be read"),
        (b"<html>", "not an idx file"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(VtccError, match=message):
        read_idx(tmp_path / "a", dimensions=3)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_keeps_every_pixel(shape):
    image = layouts.pixels(1, *shape)[0]
    assert (unpack(png(image)) == image).all()


def test_unknown_loader_is_refused(places):
    card = dataclasses.replace(shrink("mnist"), loader="x")
    with pytest.raises(VtccError, match=r"found loader 'x'; allowed: .*digits"):
        find(card, places)


@pytest.mark.parametrize("name", ["rsod", "siri-whu", "aid", "d0", "chaoyang"])
def test_what_a_human_must_fetch_is_said(name, places):
    card = shrink(name)
    with pytest.raises(VtccError) as caught:
        find(card, places)
    text = str(caught.value)
    assert text.startswith(f"dataset {name!r}: not found in {places.mirror}, ")
    assert ("must be fetched by hand" in text and "https://" in text) or "http://" in text
    assert "VTCC_MIRROR" in text and "\n" not in text
