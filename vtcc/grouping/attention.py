"""Where the class token looks, of some images."""

import numpy as np
import torch
import torch.nn.functional as F

from vtcc.engine.augment import normalize, plain
from vtcc.engine.predict import Predictor
from vtcc.engine.vit import VisionTransformer


@torch.inference_mode()
def of(predictor: Predictor, images: np.ndarray) -> np.ndarray | None:
    """Attention of the class token in the last block, the mean over heads.

    Args:
        predictor: of a model. images: (N, S, S, C) uint8 with S its `cache_size`.

    Returns:
        (N, g, g) float32, largest value 1 in each, for g x g patches; None for encoders that
        are not ours.
    """
    encoder = predictor.model.encoder
    if not isinstance(encoder, VisionTransformer):
        return None
    info = predictor.info
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(predictor.device)
    x = normalize(plain(x, info["image_size"]), tuple(info["mean"]), tuple(info["std"]))
    tokens = encoder.stem(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([encoder.class_token.expand(len(x), -1, -1), tokens], dim=1)
    tokens = tokens + encoder.positions
    for block in encoder.blocks[:-1]:
        tokens = block(tokens)
    last = encoder.blocks[-1]
    attention = last.attn
    y = last.norm1(tokens)  # type: ignore[operator]
    d, heads = y.shape[2], attention.num_heads  # type: ignore[union-attr]
    q, k, _ = attention.qkv(y).split(d, dim=2)  # type: ignore[union-attr,operator]
    q, k = (u.unflatten(2, (heads, d // heads)).transpose(1, 2) for u in (q[:, :1], k))
    weights = (q @ k.transpose(2, 3) / (d // heads) ** 0.5).softmax(dim=3).mean(dim=1)[:, 0, 1:]
    side = int(weights.shape[1] ** 0.5)
    grid = weights.view(-1, side, side)
    return F.normalize(grid.flatten(1), p=float("inf"), dim=1).view_as(grid).cpu().numpy()
