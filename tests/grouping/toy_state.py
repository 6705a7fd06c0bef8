"""Four groups of images, for edits."""

import numpy as np

from vtcc.grouping.clusters import Clusters
from vtcc.grouping.edit_state import State

K, D, EACH = 4, 6, 20
FILES = {f"f{i:02d}.png": i for i in range(K * EACH)}
LATE = [f"f{i}.png" for i in range(70, 80)]


def four_groups():
    """Four groups of 20 along four axes; group 3 consists of two halves."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(K), EACH)
    h = np.eye(D)[group] * 5 + rng.normal(0, 0.1, (K * EACH, D))
    h[70:, 4] += 2
    p = np.full((K * EACH, K), 0.02)
    p[np.arange(K * EACH), group] = 0.94
    clusters = Clusters.fit(p.astype(np.float32), h.astype(np.float32))
    files = dict(FILES)
    made = State(clusters, files, h.astype(np.float32), group.copy(), {})
    made.p = p.astype(np.float32)
    return made


def predicted(state, after):
    return after.clusters.apply(state.p, state.h).cluster


def direction(rows):
    mean = rows.mean(axis=0)
    return mean / np.linalg.norm(mean)
