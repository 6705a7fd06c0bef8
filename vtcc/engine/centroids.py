"""k-means in torch, for models without cluster projectors.

The engine runs where scikit-learn is not installed, hence a small one of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit_kmeans(points: Tensor, K: int, *, seed: int = 0, starts: int = 10) -> Tensor:
    """Lloyd's algorithm on unit vectors from k-means++ starts; the start of least inertia wins.

    Args:
        points: (N, d) float with N >= K; rows are scaled to unit length.
        K: clusters. seed: of the starts. starts: how many.

    Returns:
        (K, d) float32 centroids of unit length, so that the largest dot product is the nearest.
    """
    x = F.normalize(points.float(), dim=1).cpu()
    g = torch.Generator().manual_seed(seed)
    best, lowest = x[:K], float("inf")
    for _ in range(starts):
        centres = _spread(x, K, g)
        for _ in range(100):
            nearest = (x @ centres.T).argmax(dim=1)
            sums = torch.zeros(K, x.shape[1]).index_add(0, nearest, x)
            # A cluster that lost all its points keeps its centre.
            moved = torch.where(
                sums.norm(dim=1, keepdim=True) > 0, F.normalize(sums, dim=1), centres
            )
            if torch.allclose(moved, centres, atol=1e-6):
                break
            centres = moved
        inertia = float((1 - (x @ centres.T).amax(dim=1)).sum())
        if inertia < lowest:
            best, lowest = centres, inertia
    return best


def _spread(x: Tensor, K: int, g: torch.Generator) -> Tensor:
    """k-means++: each next centre is drawn by its squared distance to those before."""
    chosen = [int(torch.randint(len(x), (1,), generator=g))]
    distance = (2 - 2 * x @ x[chosen[0]]).clamp(min=0)
    for _ in range(K - 1):
        weight = distance if float(distance.sum()) > 0 else torch.ones(len(x))
        chosen.append(int(torch.multinomial(weight, 1, generator=g)))
        distance = torch.minimum(distance, (2 - 2 * x @ x[chosen[-1]]).clamp(min=0))
    return x[chosen].clone()
