"""The two contrastive losses of VTCC (arXiv 2206.12925, section 3), in fp32.

Rows are images, columns are clusters: the instance loss contrasts the rows of `z`, the cluster
loss contrasts the columns of `p`, both with the same function.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _contrasts(u_a: Tensor, u_b: Tensor, temperature: float) -> Tensor:
    """Normalised-temperature cross entropy between two views of M vectors.

    Each of the 2M vectors is pulled to its other view and pushed from the 2M - 2 others; the
    similarity is the cosine.

    Args:
        u_a: (..., M, D) float, M >= 1; row i and row i of `u_b` are views of one thing.
        u_b: (..., M, D) float.
        temperature: divides the similarities, above 0.

    Returns:
        (...) float32: the mean over 2M vectors.
    """
    M = u_a.shape[-2]
    u = F.normalize(torch.cat([u_a, u_b], dim=-2).float(), dim=-1)
    similarity = u @ u.mT / temperature  # (..., 2M, 2M)
    similarity.diagonal(dim1=-2, dim2=-1).fill_(-math.inf)
    partner = torch.arange(2 * M, device=u.device).roll(M).expand(similarity.shape[:-1])
    loss = F.cross_entropy(similarity.flatten(0, -2), partner.flatten(), reduction="none")
    return loss.view(partner.shape).mean(dim=-1)


def instance_loss(z_a: Tensor, z_b: Tensor, temperature: float = 0.5) -> Tensor:
    """Contrast between images (paper, section 3.2).

    Args:
        z_a: (N, D) float instance features of the first views; rows need not be unit.
        z_b: (N, D) float, of the second views of the same images.
        temperature: above 0 (paper: 0.5).

    Returns:
        Scalar float32.
    """
    return _contrasts(z_a, z_b, temperature)


def cluster_loss(
    p_a: Tensor,
    p_b: Tensor,
    temperature: float = 1.0,
    entropy_weight: float = 1.0,
    prior: Tensor | None = None,
) -> Tensor:
    """Contrast between clusters, with the entropy term of both views (paper, section 3.3).

    The columns of `p`, one per cluster, are contrasted as the rows of `z` are. The entropy
    term is `log K - H(mean assignment)` for each view, zero when clusters are equally large;
    with `prior` it is the divergence KL(mean assignment || prior) instead, which equals the
    former for a uniform prior.

    Args:
        p_a: (N, K) float assignments of the first views; rows sum to 1.
        p_b: (N, K) float, of the second views of the same images.
        temperature: above 0 (paper: 1.0).
        entropy_weight: at least 0 (paper: 1).
        prior: (K,) positive, sums to 1, or None for uniform.

    Returns:
        Scalar float32.
    """
    of_heads = None if prior is None else prior[None]
    return cluster_losses(p_a[None], p_b[None], temperature, entropy_weight, of_heads)[0]


def cluster_losses(
    p_a: Tensor,
    p_b: Tensor,
    temperature: float,
    entropy_weight: float,
    priors: Tensor | None = None,
) -> Tensor:
    """`cluster_loss` of several heads at once.

    Args:
        p_a: (heads, N, K) float. p_b: (heads, N, K) float.
        temperature, entropy_weight: as in `cluster_loss`.
        priors: (heads, K), or None for uniform ones.

    Returns:
        (heads,) float32; heads may be 0.
    """
    if not len(p_a):
        return p_a.new_zeros(0, dtype=torch.float32)
    contrast = _contrasts(p_a.mT, p_b.mT, temperature)
    return contrast + entropy_weight * (_divergences(p_a, priors) + _divergences(p_b, priors))


def _divergences(p: Tensor, priors: Tensor | None) -> Tensor:
    """KL(mean assignment || prior); xlogy makes an empty cluster's 0 log 0 a zero."""
    K = p.shape[2]
    mean = p.float().mean(dim=1)  # (heads, K)
    log_prior = -math.log(K) if priors is None else priors.to(p.device).float().log()
    return (torch.xlogy(mean, mean) - mean * log_prior).sum(dim=1)
