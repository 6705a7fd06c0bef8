import dataclasses

import numpy as np
import pytest

from vtcc import config
from vtcc.analysis import baselines
from vtcc.analysis.metrics import clustering_accuracy


def blobs(n=90, side=8, channels=1, groups=3):
    """Images that are one bright stripe each, at a place that tells their group."""
    generator = np.random.default_rng(0)
    labels = np.arange(n) % groups
    images = generator.integers(0, 40, (n, side, side, channels))
    for i, label in enumerate(labels):
        images[i, label * 2 : label * 2 + 2] += 200
    return images.astype(np.uint8), labels


def inputs(images, *, clusters=3, limit=10_000, rows=None, seed=0):
    rows = np.arange(len(images)) if rows is None else rows
    flat = images[rows].reshape(len(rows), -1).astype(np.float32)
    return baselines.Inputs(
        images=images,
        rows=rows,
        embedding=flat,
        untrained=lambda: flat[:, :10],
        num_clusters=clusters,
        seed=seed,
        quadratic_limit=limit,
        frozen=flat + 1,
    )


def test_hdbscan_finds_its_own_number_and_noise_is_one_cluster(monkeypatch):
    generator = np.random.default_rng(0)
    # Three groups and, far from them and from each other, seven points.
    points = generator.normal(0, 0.1, (127, 2)) + np.arange(127)[:, None] % 3 * 10
    points[120:] = np.array([[i * 40 + 100, (-1) ** i * 900] for i in range(7)])
    monkeypatch.setattr(baselines.Inputs, "feature_map", points.astype(np.float32))
    images, _ = blobs(127)
    found = baselines.run("umap_hdbscan_features", inputs(images, clusters=2))
    groups = found.clusters[:120]
    assert clustering_accuracy(np.arange(120) % 3, groups) == 1
    assert set(found.clusters.tolist()) == {0, 1, 2, 3}  # whatever K is
    assert set(found.clusters[120:].tolist()) == {0} and 0 not in groups


def test_baselines_of_features_are_left_out_where_there_are_none():
    images, _ = blobs()
    given = dataclasses.replace(inputs(images), frozen=None)
    for name in (n for n, known in baselines.BASELINES.items() if known.of_features):
        assert baselines.run(name, given) is None
        assert "features of a frozen encoder" in baselines.missing(name, given)
    few = inputs(images, rows=np.arange(9))
    assert baselines.missing("umap_kmeans_features", few) == "it needs 10 images"
    assert baselines.missing("kmeans_features", few) == ""


def test_every_name_of_the_configuration_has_a_method_and_a_title():
    (field,) = [f for f in config.explain(config.Evaluate) if f.key == "baselines"]
    names = set(config.Evaluate.__dataclass_fields__["baselines"].metadata["choices"])
    assert set(baselines.BASELINES) == names
    assert all(baseline.title for baseline in baselines.BASELINES.values())
    assert field.kind == "list"


@pytest.mark.parametrize(
    "name",
    [
        *("kmeans_pixels", "pca_kmeans", "ward", "kmeans_embedding", "kmeans_features"),
        # UMAP compiles for half a minute.
        pytest.param("umap_kmeans", marks=pytest.mark.slow),
        pytest.param("umap_kmeans_features", marks=pytest.mark.slow),
        pytest.param("umap_hdbscan_features", marks=pytest.mark.slow),
    ],
)
def test_clear_groups_are_found_and_the_seed_fixes_the_result(name):
    images, labels = blobs()
    found = baselines.run(name, inputs(images))
    assert clustering_accuracy(labels, found.clusters) == 1
    np.testing.assert_array_equal(found.places, np.arange(90))
    again = baselines.run(name, inputs(images))
    np.testing.assert_array_equal(found.clusters, again.clusters)


def test_untrained_features_are_what_is_clustered():
    images, _ = blobs()
    features = np.repeat([[0.0], [5.0]], 45, axis=0).astype(np.float32)
    given = baselines.Inputs(images, np.arange(90), features, lambda: features, 2, 0, 100)
    found = baselines.run("kmeans_untrained", given)
    assert clustering_accuracy([0] * 45 + [1] * 45, found.clusters) == 1


def test_ward_sees_a_seeded_subsample_above_the_limit():
    images, labels = blobs()
    found = baselines.run("ward", inputs(images, limit=30))
    assert len(found.places) == len(found.clusters) == 30
    assert (np.diff(found.places) > 0).all()
    assert clustering_accuracy(labels[found.places], found.clusters) == 1
    again = baselines.run("ward", inputs(images, limit=30))
    other = baselines.run("ward", inputs(images, limit=30, seed=1))
    np.testing.assert_array_equal(found.places, again.places)
    assert (found.places != other.places).any()
    assert len(baselines.run("kmeans_pixels", inputs(images, limit=30)).places) == 90


def test_only_the_given_rows_are_clustered():
    images, labels = blobs()
    rows = np.arange(5, 50)
    found = baselines.run("kmeans_pixels", inputs(images, rows=rows))
    assert clustering_accuracy(labels[rows], found.clusters) == 1


@pytest.mark.parametrize("name", ["kmeans_pixels", "pca_kmeans", "ward", "kmeans_embedding"])
@pytest.mark.parametrize("images", [1, 2, 4])
def test_fewer_images_than_clusters(name, images):
    x, _ = blobs(images)
    found = baselines.run(name, inputs(x, clusters=5))
    assert len(set(found.clusters.tolist())) == images


def test_umap_needs_ten_images():
    x, _ = blobs(9)
    assert baselines.run("umap_kmeans", inputs(x)) is None


def test_equal_images_do_not_warn(recwarn):
    x = np.full((20, 4, 4, 1), 7, np.uint8)
    found = baselines.run("kmeans_pixels", inputs(x, clusters=3))
    assert set(found.clusters.tolist()) == {0}
    assert not recwarn.list
