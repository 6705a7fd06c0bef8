"""How many clusters, and the verdict, on embeddings with known answers."""

import numpy as np
import pytest

from vtcc import config
from vtcc.data import duplicates
from vtcc.grouping import count, describe, trust
from vtcc.grouping.count import Criteria


def embedding(K, each=40, spread=0.15, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(K, 16))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    group = np.repeat(np.arange(K), each)
    return centres[group] + rng.normal(0, spread, (K * each, 16)), group


def test_finds_the_number_of_groups():
    h, _ = embedding(5)
    found = count.count(h, low=2, high=10, seed=0)
    assert found.clusters == 5
    assert found.low <= 5 <= found.high
    best = next(c for c in found.curve if c.clusters == 5)
    assert best.silhouette > 0.7
    assert best.stability > 0.95
    assert "5" in found.reasons[0]


def test_the_largest_seed_is_taken():
    h, _ = embedding(2, each=8)
    found = count.count(h, low=2, high=3, seed=config.MAX_SEED)
    assert [c.clusters for c in found.curve] == [2, 3]


def curve(*scores, start=2):
    return [Criteria(start + i, 0.5, 0.5, 0.5, s) for i, s in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "chosen", "low", "high"),
    [
        ((0.1, 0.2, 0.9, 0.3), 4, 4, 4),
        ((0.1, 0.88, 0.9, 0.88, 0.3), 4, 3, 5),
        ((0.1, 0.9, 0.5, 0.89, 0.875, 0.3), 5, 5, 6),  # a dip ends the range
        ((0.935, 0.953, 0.94, 0.935, 0.949, 0.926), 4, 2, 7),  # nearly level: the middle
        # 40 photographs each of a beach, a forest and a harbour.
        ((0.4, 0.932, 0.927, 0.889, 0.915, 0.918, 0.87), 3, 3, 4),
        # 65 of five kinds: the middle of 3 to 6 is 4, which nothing speaks for.
        ((0.765, 0.798, 0.559, 0.8, 0.782, 0.719), 5, 5, 6),
        ((0.9, 0.2, 0.2, 0.2, 0.85), 2, 2, 2),  # a far one is another structure
        ((0.2, 0.9, 0.2, 0.2, 0.89), 6, 6, 6),  # about as clear, and twice as fine
        ((0.2, 0.9, 0.2, 0.2, 0.2, 0.89), 3, 3, 3),  # more than twice: another structure
        ((0.9, 0.2, 0.2, 0.87, 0.2), 5, 5, 5),  # two must be ahead
        ((0.9, 0.89, 0.2, 0.86, 0.2), 3, 3, 3),  # and is in no range then
    ],
)
def test_recommends_the_middle_of_the_best_range(scores, chosen, low, high):
    found = count.recommend(curve(*scores))
    assert (found.clusters, found.low, found.high) == (chosen, low, high)


def test_says_what_the_range_is():
    (why, *_) = count.recommend(curve(0.932, 0.931, 0.93, 0.889, 0.918, start=3)).reasons
    assert why == (
        "K = 3 scores best (0.93 of 1); from 3 to 5 the score is within 3% of the best, "
        "and the middle, weighted by the scores, is 4"
    )
    (why, *_) = count.recommend(curve(0.2, 0.9, 0.2)).reasons
    assert why == "K = 3 scores best (0.90 of 1)"


def test_names_a_finer_structure_that_does_as_well():
    reasons = count.recommend(curve(0.2, 0.9, 0.2, 0.2, 0.89)).reasons
    assert "K = 3 scores best (0.90 of 1); K = 6 is finer and about as clear" in reasons[0]
    assert "other peaks of the curve, a coarser or finer structure: 3 (0.90)" in reasons
    reasons = count.recommend(curve(0.9, 0.2, 0.2, 0.87, 0.2)).reasons
    assert "K = 5 scores best (0.87 of 1) but for K = 2 (0.90), which is too little" in reasons[0]
    assert "other peaks of the curve, a coarser or finer structure: 2 (0.90)" in reasons
    # A lower peak is another structure as well; a slope is none.
    reasons = count.recommend(curve(0.2, 0.9, 0.2, 0.3, 0.5, 0.4)).reasons
    assert reasons[-1].endswith("finer structure: 6 (0.50)")


def test_a_number_at_the_end_of_the_range_is_told():
    told = "K = 7 is at the end of the range: more clusters may fit better"
    assert any(r.startswith(told) for r in count.recommend(curve(0.2, 0.3, 0.9, start=5)).reasons)
    told = "K = 5 is at the end of the range: fewer clusters may fit better"
    assert any(r.startswith(told) for r in count.recommend(curve(0.9, 0.3, 0.2, start=5)).reasons)
    # There are no fewer than two clusters.
    assert not any("end of the range" in r for r in count.recommend(curve(0.9, 0.3, 0.2)).reasons)


def test_a_range_that_the_images_cut_off_is_told_and_another_range_is_no_advice():
    rising = curve(0.2, 0.3, 0.9, start=5)
    (told,) = [r for r in count.recommend(rising, 35).reasons if "end of the range" in r]
    assert told == (
        "K = 7 is at the end of the range, and with 35 images no more are tried; if there are "
        "more kinds, give their number, not a range, by -k"
    )
    falling = count.recommend(curve(0.9, 0.3, 0.2, start=5), 35).reasons
    assert any(
        r.endswith("fewer clusters may fit better; ask for another range by -k") for r in falling
    )


@pytest.mark.parametrize(("N", "low", "high", "K"), [(12, 2, 40, 2), (20, 5, 30, 5)])
def test_of_a_single_number_nothing_is_said_that_compares_it(N, low, high, K):
    rng = np.random.default_rng(0)
    found = count.count(rng.normal(size=(N, 8)), low=low, high=high, seed=0)
    at = found.at(K)
    assert found.reasons == [
        f"K = {K} alone is tried with {N} images; if there are more kinds, give their number, not "
        "a range, by -k",
        f"at K = {K} the silhouette is {at.silhouette:.2f}, halves of the images agree by "
        f"{at.stability:.2f}",
    ]


def test_tried_numbers_leave_five_images_a_cluster():
    assert count.tried(1000, 2, 40)[-1] <= 40
    assert count.tried(40, 2, 40) == [2, 3, 4, 5, 6, 7, 8]
    assert count.tried(1000, 2, 40)[:14] == list(range(2, 16))
    assert count.tried(10, 3, 3) == [3]


def judged(**values):
    made = {
        "seeds": 0.9,
        "map_silhouette": 0.7,
        "halves": 0.9,
        "reference_silhouette": 0.1,
        "reference_kmeans": 0.2,
        "predicted": 0.8,
        "looks": 0.3,
        "confidence": 0.9,
        "balance": 0.9,
        "alike": 0.1,
        "confused": [],
        "level": "",
        "verdict": "",
    }
    images = values.pop("images", 500)
    return trust.judge(trust.Trust(**(made | values)), 5, images)


def test_verdicts_in_words():
    assert judged()[0] == "clear"
    level, text = judged(seeds=0.5, confused=[(3, 7, 0.6)])
    assert level == "weak"
    assert "clusters 3 and 7 are confused" in text
    level, text = judged(seeds=0.03)
    assert level == "chance"
    assert "no better than chance" in text
    assert judged(alike=0.95)[0] == "one kind"


def test_a_verdict_names_the_measure_that_failed():
    assert "a second training agrees by 0.50 of 1 (clear from 0.7)" in judged(seeds=0.5)[1]
    level, text = judged(map_silhouette=0.2)
    assert level == "weak"
    assert "the groups are 0.20 apart in the map (clear from 0.4)" in text
    assert "a second training" not in text  # it agrees
    level, text = judged(seeds=1.0, images=10)
    assert level == "weak"
    assert "10 images are too few to tell" in text


def test_a_split_by_brightness_or_colour_is_told_from_one_by_content():
    level, text = judged(looks=0.95, predicted=0.4)
    assert level == "weak"
    assert "follow brightness and colour" in text
    # Kinds may differ in colour as well, as long as content foretells them better.
    assert judged(looks=0.85, predicted=0.9)[0] == "clear"


def test_measures_of_a_known_grouping():
    h, group = embedding(3)
    found = trust.measure(
        group,
        np.full(len(group), 0.9),
        other=np.roll(np.arange(3), 1)[group],
        reference=h,
        looks=np.random.default_rng(1).normal(size=(len(h), 6)),
        map_silhouette=0.8,
        halves=1.0,
        alike=0.0,
        seed=0,
    )
    assert found.seeds == pytest.approx(1.0)
    assert found.predicted > 0.95
    assert found.reference_silhouette == pytest.approx(found.reference_kmeans, abs=0.01)
    assert found.balance == pytest.approx(1.0)
    assert found.level == "clear"
    rng = np.random.default_rng(0)
    noise = trust.measure(
        rng.integers(0, 3, 300),
        np.full(300, 0.5),
        other=rng.integers(0, 3, 300),
        reference=rng.normal(size=(300, 8)),
        looks=rng.normal(size=(300, 6)),
        map_silhouette=0.3,
        halves=0.2,
        alike=0.0,
        seed=0,
    )
    assert abs(noise.seeds) < 0.05
    assert abs(noise.predicted) < 0.15
    assert noise.level == "chance"


def test_confused_pairs_are_those_the_second_training_mixes():
    clusters = np.repeat([0, 1, 2], 10)
    other = np.r_[np.zeros(10), np.tile([1, 2], 10)].astype(int)
    assert trust.confused(clusters, other) == [(1, 2, 1.0)]


def test_alike_images_are_told():
    rng = np.random.default_rng(0)
    looks = rng.uniform(size=(50, 6))
    one = rng.normal(size=(8, 9)) * 40 + 100
    copies = (one + rng.normal(0, 3, (50, 8, 9))).astype(np.float32)
    assert trust.alike(copies, looks) == 1.0
    assert trust.alike((rng.normal(size=(50, 8, 9)) * 40).astype(np.float32), looks) < 0.2


def test_plain_images_are_alike_where_their_colours_are():
    colours = np.array([(90, 90, 90), (150, 90, 30), (30, 90, 150), (200, 200, 200)])
    swatches = colours.repeat(10, axis=0)
    swatches[9] += 3  # a shade of grey

    def share(rows):
        pixels = np.broadcast_to(swatches[rows, None, None], (len(rows), 16, 16, 3))
        images = pixels.astype(np.uint8)
        sketches = np.stack([duplicates.sketch(x) for x in images])
        return trust.alike(sketches, describe.looks(images))

    assert share(np.arange(10)) == 1.0
    assert share(np.arange(40)) == 0.25
    assert share(np.arange(10, 30)) <= 0.5  # two hues
