import numpy as np
import pytest
from PIL import Image

from vtcc.analysis import plots


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_palette_is_distinct_and_stable():
    colours = plots.palette(100)
    assert len(set(colours)) == 100
    assert plots.palette(7) == colours[:7]
    assert all(len(c) == 7 and c[0] == "#" for c in colours)


def test_natural_order():
    assert sorted(["class 10", "class 2", "b", "10", "9"], key=plots.natural) == [
        *("9", "10"),
        *("b", "class 2", "class 10"),
    ]


def test_pictures_are_written_and_are_the_same_bytes_again(tmp_path):
    generator = np.random.default_rng(0)
    points, clusters = generator.normal(size=(40, 2)), np.arange(40) % 3
    names = ["$\\frac{", "a\nb\u2603" * 20, ""]
    classes = [names[i] for i in clusters]
    for turn in ("a", "b"):
        plots.sizes(tmp_path / f"sizes-{turn}.png", [3, 0, 9], [0, 1, 2])
        plots.embedding(tmp_path / f"embedding-{turn}.png", points, clusters, 4, classes)
        plots.confusion(tmp_path / f"confusion-{turn}.png", classes, clusters.tolist(), range(4))
    for name in ("sizes", "embedding", "confusion"):
        first, second = (tmp_path / f"{name}-{turn}.png" for turn in "ab")
        assert first.read_bytes() == second.read_bytes()
        assert len(np.unique(pixels(first).reshape(-1, 3), axis=0)) > 10


def test_the_match_lies_on_the_diagonal(tmp_path):
    # Cluster 2 is class a, cluster 0 class b, cluster 1 empty: two dark cells, both diagonal.
    plots.confusion(tmp_path / "c.png", ["a"] * 4 + ["b"] * 4, [2] * 4 + [0] * 4, range(3))
    image = pixels(tmp_path / "c.png").astype(int)
    full = abs(image - [8, 48, 107]).sum(2) < 12  # the colour of a share of 1
    full[:, int(image.shape[1] * 0.8) :] = False  # the colour bar
    ys, xs = np.nonzero(full)
    upper = xs[ys < np.median(ys)]
    lower = xs[ys > np.median(ys)]
    assert upper.max() <= lower.min() + 2


def test_many_classes_make_no_larger_picture(tmp_path):
    count = 400
    names = [f"{i:03d}" for i in range(count)]
    plots.confusion(tmp_path / "c.png", names, [i % 3 for i in range(count)], range(3))
    assert pixels(tmp_path / "c.png").shape[0] == 2600
    plots.confusion(tmp_path / "c.png", ["a"] * count, range(count), range(count))
    assert pixels(tmp_path / "c.png").shape[1] == 2600
    plots.sizes(tmp_path / "s.png", [1] * count, range(count))
    assert pixels(tmp_path / "s.png").shape == (442, 2600, 3)


@pytest.mark.parametrize(
    ("count", "shown"), [(1, 1), (90, 90), (91, 46), (1623, 86)], ids=lambda number: str(number)
)
def test_every_name_or_every_nth_stands_at_an_axis(count, shown):
    ticks = plots._ticks(list(map(str, range(count))))
    assert len(ticks["labels"]) == shown
    assert [str(at) for at in ticks["ticks"]] == ticks["labels"]


@pytest.mark.parametrize("rows", [1, 5])
def test_curves(tmp_path, rows):
    table = tmp_path / "curves.csv"
    head = "epoch,instance_loss,cluster_loss,entropy,smallest_cluster,confidence\n"
    table.write_text(head + "".join(f"{i},5,{3 - i},0.9,,nan\n" for i in range(rows)))
    plots.curves(tmp_path / "c.png", table)
    assert pixels(tmp_path / "c.png").shape[1] == 1430


def test_curves_without_rows_leave_no_picture(tmp_path):
    (tmp_path / "curves.csv").write_text("epoch\n")
    plots.curves(tmp_path / "c.png", tmp_path / "curves.csv")
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (9, 4)])
def test_few_images_are_projected_by_principal_components(shape):
    found = plots.project(np.random.default_rng(0).normal(size=shape).astype(np.float32), 0)
    assert found.shape == (shape[0], 2)
    assert np.isfinite(found).all()
