"""The part of a large collection that clusters are made of; the others are assigned to them.

The draw is uniform: every measure without labels, the number of clusters and the shares of the
clusters are then those of the collection within chance. Choosing half of it evenly from the cells
of a k-means of all features finds hardly more of rare kinds (docs/design.md).
"""

import numpy as np

from vtcc.grouping.intake import Listed

_DRAW = 61  # apart from other draws of the same seed


def drawn(listed: Listed, most: int, seed: int) -> tuple[Listed, np.ndarray]:
    """The images that clusters are made of, and the rows of the others, ascending.

    Args:
        listed: N images. most: how many are looked at as a whole; 0: all. seed: of the draw.

    Returns:
        `listed` itself and no rows where it is not larger than `most`.
    """
    N = len(listed.names)
    if not most or most >= N:
        return listed, np.empty(0, np.int64)
    inside = np.zeros(N, bool)
    inside[np.random.default_rng([seed, _DRAW]).choice(N, most, replace=False)] = True
    return listed.part(np.flatnonzero(inside)), np.flatnonzero(~inside)
