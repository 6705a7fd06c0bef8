"""The objective: what its figures are, and that it cannot be had by collapse or by merging."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from vtcc import config
from vtcc.engine.model import build
from vtcc.engine.predict import Predictor
from vtcc.study.sweep import objective

K = 5


def partition(noise: float, seed: int = 0, images: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """A balanced partition, and one that differs in a share of the images."""
    rng = np.random.default_rng(seed)
    a = rng.permutation(np.arange(images) % K)
    return a, np.where(rng.random(images) < noise, rng.integers(0, K, images), a)


def test_shared_information_is_mutual_information_over_log_k() -> None:
    a, b = partition(0.4)
    both = np.concatenate([a, b]), np.concatenate([b, a])
    expected = mutual_info_score(*both) / np.log(K)
    assert objective.shared_information(a, b, K) == pytest.approx(expected)
    assert objective.shared_information(b, a, K) == pytest.approx(expected)
    names = np.random.default_rng(1).permutation(K)
    assert objective.shared_information(names[a], names[b], K) == pytest.approx(expected)


def test_extremes() -> None:
    a, _ = partition(0.0)
    one = np.zeros_like(a)
    assert objective.shared_information(a, a, K) == pytest.approx(1)
    assert objective.shared_information(one, one, K) == 0
    independent = np.random.default_rng(2).permutation(a)
    assert objective.shared_information(a, independent, K) < 0.02


@pytest.mark.parametrize("noise", [0.05, 0.3, 0.6])
def test_merging_the_most_confused_clusters_never_pays(noise: float) -> None:
    """An index corrected for chance rises instead, and would lead a search to few clusters."""
    from vtcc.analysis.selection import adjusted_rand_index

    rng = np.random.default_rng(3)
    a, _ = partition(0.0)
    # Clusters 0 and 1 are taken for each other; the rest is told apart.
    b = np.where((a < 2) & (rng.random(len(a)) < noise), 1 - a, a)
    merged = [np.where(x == 1, 0, x) for x in (a, b)]
    assert objective.shared_information(*merged, K) < objective.shared_information(a, b, K)
    assert adjusted_rand_index(*merged) > adjusted_rand_index(a, b)


def test_figures_join_views_and_neighbours() -> None:
    a, b = partition(0.3)
    rng = np.random.default_rng(4)
    neighbours = np.stack([rng.choice(np.flatnonzero(a == c), 3) for c in a])
    found = objective.figures(a, b, a, neighbours, K)
    assert found["neighbour_information"] == pytest.approx(1)
    assert found["view_information"] == pytest.approx(objective.shared_information(a, b, K))
    assert found["objective"] == pytest.approx((1 + found["view_information"]) / 2)
    assert found["effective_clusters"] == pytest.approx(K)


def test_nearest_others() -> None:
    points = np.array([[0.0], [1.0], [3.0], [3.5]])
    assert objective.nearest(points, 2).tolist() == [[1, 2], [0, 2], [3, 1], [2, 1]]
    assert objective.nearest(points, 15).shape == (4, 3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vtcc.data.cache import CacheWriter

    directory = tmp_path_factory.mktemp("cache") / "cache"
    rng = np.random.default_rng(5)
    names = [f"{i:03d}.png" for i in range(60)]
    with CacheWriter(directory, name="toy", image_size=16, channels=1) as writer:
        for name in names:
            writer.add(name, "train", rng.integers(0, 255, (16, 16, 1), dtype=np.uint8))
        writer.finish()
    return directory


def test_a_checkpoint_scores_as_its_model_does(cache: Path) -> None:
    import torch

    model = config.Model(
        stem="conv", patch_size=4, embed_dim=16, depth=1, num_heads=2, mlp_ratio=2.0,
        feature_dim=8, num_cluster_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    made = build(model, K, image_size=16, channels=1)
    for head in made.cluster_projectors:
        torch.nn.init.zeros_(head[-1].bias)  # else an untrained head puts all into one cluster
        for layer in (head[0], head[3], head[6]):
            layer.weight.data.mul_(20)
            layer.bias.data.zero_()
    info = {
        "model": config.to_dict(model), "num_clusters": K, "image_size": 16, "cache_size": 16,
        "channels": 1, "max_pixels": 10**6, "mean": [0.5], "std": [0.3],
    }  # fmt: skip
    yardstick = objective.Yardstick(cache)
    scores = []
    for head in range(2):
        made.selected_head.fill_(head)
        scores.append(yardstick.score(Predictor(made, info))["objective"])
    assert len(set(scores)) == 2
    state = {"model": made.state_dict(), "average": None}
    assert objective.of_checkpoint(yardstick, state, info) == pytest.approx(np.mean(scores))
    # An average of weights is what is judged where there is one.
    average = {f"module.{k}": v for k, v in made.state_dict().items()} | {"n_averaged": 3}
    other = build(model, K, image_size=16, channels=1).state_dict()
    state = {"model": other, "average": average}
    assert objective.of_checkpoint(yardstick, state, info) == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("option", [{"assign": "instance"}, {"projectors": "instance"}])
def test_a_checkpoint_without_centroids_yet_is_scored_by_its_own(
    cache: Path, option: dict[str, str]
) -> None:
    import torch

    from vtcc.engine.centroids import unit_kmeans

    model = config.Model(
        stem="conv", patch_size=4, embed_dim=16, depth=1, num_heads=2, mlp_ratio=2.0,
        feature_dim=8, num_cluster_heads=2, **option,
    )  # fmt: skip
    torch.manual_seed(0)
    made = build(model, K, image_size=16, channels=1)
    info = {
        "model": config.to_dict(model), "num_clusters": K, "image_size": 16, "cache_size": 16,
        "channels": 1, "max_pixels": 10**6, "mean": [0.5], "std": [0.3],
    }  # fmt: skip
    yardstick = objective.Yardstick(cache)
    state = {"model": {k: v.clone() for k, v in made.state_dict().items()}, "average": None}
    assert not state["model"]["centroids"].any()
    found = objective.of_checkpoint(yardstick, state, info)
    predictor = Predictor(made, info)
    with torch.no_grad():
        h = torch.from_numpy(predictor.predict(yardstick.images).embedding)
        made.centroids.copy_(unit_kmeans(made.centroid_space(h), K))
    assert found == pytest.approx(yardstick.score(predictor)["objective"])
    made.centroids.zero_()  # all images in one cluster: what it must not be scored by
    assert found > yardstick.score(predictor)["objective"]


def test_every_trial_sees_the_same(cache: Path) -> None:
    one, two = objective.Yardstick(cache), objective.Yardstick(cache)
    for a, b in zip(one.views, two.views, strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(one.neighbours, two.neighbours)
    assert not np.array_equal(one.views[0], one.views[1])
