"""The second phase: a model that learns from its own confident predictions.

After SCAN (Van Gansbeke et al., arXiv 2005.12320, section 2.3), which trains this way after
clustering; the VTCC paper does not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def self_label_loss(weak: Tensor, strong: Tensor, threshold: float) -> Tensor:
    """Cross entropy of augmented images against confident predictions on plain ones.

    Each cluster weighs the same, however many confident images it has, so that large ones do
    not swallow the rest. Without a confident image the loss is 0.

    Args:
        weak: (N, K) probabilities of the plain images; no gradient flows into them.
        strong: (N, K) probabilities of a view of the same images.
        threshold: an image counts where its largest `weak` probability is at least this.

    Returns:
        Scalar float32.
    """
    confidence, label = weak.detach().max(dim=1)
    sure = (confidence >= threshold).float()
    counts = torch.zeros(weak.shape[1], device=weak.device).index_add(0, label, sure)
    weight = sure / counts.clamp(min=1)[label] / (counts > 0).sum().clamp(min=1)
    picked = strong.float().clamp(min=1e-12).log()
    return (weight * F.nll_loss(picked, label, reduction="none")).sum()
