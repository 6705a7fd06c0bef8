"""Features, maps and k-means that baselines, plots and grouping share."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vtcc.analysis import features


def test_kmeans_finds_groups_and_places_other_points():
    rng = np.random.default_rng(0)
    points = np.repeat([[0.0, 0], [9, 0], [0, 9]], 20, axis=0) + rng.normal(0, 0.1, (60, 2))
    model = features.kmeans(points, 3, seed=0, starts=2)
    groups = model.labels_.reshape(3, 20)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0].tolist())) == 3
    assert model.predict(np.float32([[8, 1]]))[0] == groups[1, 0]
    again = features.kmeans(points, 3, seed=0, starts=2)
    assert again.labels_.tolist() == model.labels_.tolist()


def test_kmeans_of_fewer_points_than_clusters_does_not_warn(recwarn):
    assert sorted(features.kmeans(np.eye(2), 5, 0, 1).labels_.tolist()) == [0, 1]
    assert set(features.kmeans(np.zeros((9, 2)), 3, 0, 1).labels_.tolist()) == {0}
    assert not recwarn.list


def test_unit_rows_have_length_one_or_are_zero():
    rows = features.unit_rows(np.float32([[3, 4], [0, 0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_subsample_is_ascending_and_seeded():
    assert features.subsample(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    drawn = features.subsample(100, 7, 3)
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() == features.subsample(100, 7, 3).tolist()
    assert drawn.tolist() == sorted(np.random.default_rng(3).permutation(100)[:7].tolist())


def test_gradients_tell_directions_whatever_the_brightness():
    lying = np.zeros((1, 32, 32, 1), np.uint8)
    lying[:, 14:18] = 200
    standing = lying.transpose(0, 2, 1, 3)
    found = features.gradients(np.concatenate([lying, standing, lying // 2, standing // 2]))
    assert found.dtype == np.float32
    # 32 pixels: cells of 4, so 8 x 8 cells, 7 x 7 blocks of 2 x 2 cells, 9 directions.
    assert found.shape == (4, 7 * 7 * 4 * 9)
    np.testing.assert_allclose(found[0], found[2], atol=1e-2)
    np.testing.assert_allclose(found[1], found[3], atol=1e-2)
    assert np.linalg.norm(found[0] - found[1]) > 1


def test_gradients_of_large_images_are_those_of_their_averages():
    small = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(features.gradients(large), features.gradients(small), atol=1e-5)


@pytest.mark.slow
def test_cosine_maps_of_few_images_have_the_neighbours_of_umaps_own(monkeypatch):
    from sklearn.metrics import adjusted_rand_score

    random = np.random.default_rng(0)
    centres = random.normal(size=(5, 20))
    x = (centres[np.arange(200) % 5] + random.normal(size=(200, 20)) * 0.4).astype(np.float32)
    x *= random.uniform(0.1, 10, (200, 1)).astype(np.float32)  # lengths mean nothing
    ours = features.umap(x, 0, metric="cosine")
    monkeypatch.setattr(features, "_UMAP_APPROXIMATE", 0)
    theirs = features.umap(x, 0, metric="cosine")
    labels = [features.kmeans(points, 5, 0, 3).labels_ for points in (ours, theirs)]
    assert adjusted_rand_score(labels[0], np.arange(200) % 5) == 1
    assert adjusted_rand_score(*labels) == 1


def test_umap_of_few_and_of_equal_images_is_finite():
    x = np.zeros((10, 4), np.float32)
    assert np.isfinite(features.umap(x, 0)).all()
    assert features.umap(np.eye(12, dtype=np.float32), 0).shape == (12, 2)


def test_what_umap_compiles_is_kept_for_the_next_process():
    from umap import layouts

    features.umap(np.eye(12, dtype=np.float32), 0)
    compiled = layouts._nb_optimize_layout_euclidean_single_epoch
    (kept, *_) = Path(compiled.stats.cache_path).glob("layouts._optimize_layout_euclidean*.nbi")
    assert kept.is_file()


def printed(code, numba=None):
    """By a process of its own, to which one thread is given; numba may get others."""
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    surroundings.pop("NUMBA_NUM_THREADS", None)
    surroundings |= {"NUMBA_NUM_THREADS": numba} if numba else {}
    return subprocess.check_output([sys.executable, "-c", code], env=surroundings, text=True)


def test_umap_leaves_torch_the_threads_that_it_had():
    code = (
        "import numpy as np, torch; from vtcc.analysis import features; "
        "features.umap(np.random.default_rng(0).normal(size=(100, 8)).astype('f'), 0); "
        "print(torch.get_num_threads())"
    )
    assert printed(code, numba="2") == "1\n"


def test_a_map_is_made_where_numba_has_its_threads_already():
    code = (
        "import numba; from numba.np.ufunc import parallel; parallel._launch_threads(); "
        "import numpy as np; from vtcc.analysis import features; "
        "x = np.random.default_rng(0).normal(size=(100, 8)).astype('f'); "
        "print(numba.config.NUMBA_NUM_THREADS, features.umap(x, 0).shape)"
    )
    own = len(os.sched_getaffinity(0))
    assert printed(code) == f"{own} (100, 2)\n"


def test_small_images_keep_every_pixel():
    x = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)
    found = features.pixel_features(x, np.array([1]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [np.arange(9, 18) / 255], rtol=1e-6)


def test_large_images_are_averaged_over_areas():
    x = np.zeros((1, 4, 4, 1), np.uint8)
    x[0, :2, 2:] = [[[10], [20]], [[30], [40]]]
    found = features.pixel_features(x, np.array([0]), side=2)
    np.testing.assert_allclose(found, [[0, 25 / 255, 0, 0]], rtol=1e-6)
    odd = np.full((3, 7, 7, 3), 51, np.uint8)
    np.testing.assert_allclose(
        features.pixel_features(odd, np.arange(3), side=3), np.full((3, 27), 0.2), rtol=1e-6
    )


def test_the_budget_shrinks_the_pixels():
    x = np.zeros((10, 32, 32, 1), np.uint8)
    assert features.pixel_features(x, np.arange(10), budget=10 * 100 * 4).shape == (10, 100)


@pytest.mark.parametrize("shape", [(60, 8), (20, 100), (6, 30), (1, 5)])
def test_principal_components_keep_distances(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = features.pca(x, 50, 0)
    assert found.shape == (shape[0], min(50, *shape))
    gap = np.linalg.norm(x[0] - x[-1])
    assert np.linalg.norm(found[0] - found[-1]) == pytest.approx(gap, rel=1e-3, abs=1e-4)
