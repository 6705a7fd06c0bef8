"""The encoder: a pre-norm vision transformer with a convolutional stem, on timm's blocks.

Source: VTCC (arXiv 2206.12925), section 3.1; the stem follows "Early convolutions help
transformers see better" (arXiv 2106.14881), the fixed positions MoCo v3 (arXiv 2104.02057).
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

# A 16-bit softmax over rows shorter than a vector register (AVX-512: 32 numbers) goes number by
# number, at three times the time of an fp32 one.
SHORT_ROW = 32


def conv_stem(channels: int, embed_dim: int, patch_size: int) -> nn.Sequential:
    """Stride-2 3x3 convolutions, each with BatchNorm and ReLU, then a 1x1 convolution.

    Patch 16 gives the paper's four convolutions of d/8, d/4, d/2 and d channels; a smaller
    patch (a power of two) has fewer, and ends at d as well.
    """
    steps = patch_size.bit_length() - 1
    layers: list[nn.Module] = []
    width = channels
    for step in range(steps):
        out = embed_dim >> (steps - 1 - step)
        layers += [nn.Conv2d(width, out, 3, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        width = out
    return nn.Sequential(*layers, nn.Conv2d(width, embed_dim, 1))


def sincos_positions(grid: int, embed_dim: int) -> Tensor:
    """Fixed 2-D sine-cosine positions, channels ordered [sin w, cos w, sin h, cos h].

    As in MoCo v3 and the authors' code, "w" counts rows and "h" columns: their grid is indexed
    so. For a training it is a renaming; for a checkpoint of theirs it decides.

    Args:
        grid: tokens per side.
        embed_dim: d, a multiple of 4.

    Returns:
        (1, 1 + grid * grid, d) float32; the class token's row, the first, is zero.
    """
    quarter = embed_dim // 4
    omega = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    at = torch.arange(grid, dtype=torch.float64)
    w, h = torch.meshgrid(at, at, indexing="ij")  # w: row, h: column
    angle_w, angle_h = w.flatten()[:, None] * omega, h.flatten()[:, None] * omega
    positions = torch.cat([angle_w.sin(), angle_w.cos(), angle_h.sin(), angle_h.cos()], dim=1)
    return torch.cat([torch.zeros(1, embed_dim), positions.float()])[None]


class VisionTransformer(nn.Module):
    """Image -> class token h.

    Args:
        image_size: side in pixels, a multiple of `patch_size`.
        channels: of the images.
        stem: "conv" or "patchify".
        patch_size: pixels per token side; a power of two for the conv stem.
        embed_dim: d. depth: blocks. num_heads: per block. mlp_ratio: MLP width over d.
        positions: "fixed" sine-cosine as the paper, or "learned".
        fused_attention: torch's fused kernel instead of the plain matrix product.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        stem: str,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        positions: str = "fixed",
        fused_attention: bool = True,
    ):
        super().__init__()
        self.embed_dim = embed_dim
        self.stem: nn.Module
        if stem == "conv":
            self.stem = conv_stem(channels, embed_dim, patch_size)
        else:
            self.stem = nn.Conv2d(channels, embed_dim, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        table = sincos_positions(image_size // patch_size, embed_dim)
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty_like(table))
        else:
            self.register_buffer("positions", table)
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(
            *(
                Block(embed_dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm)
                for _ in range(depth)
            )
        )
        for block in self.blocks:
            block.attn = _Attention(embed_dim, num_heads, qkv_bias=True)
        self.norm = norm(embed_dim)
        self.use_fused_attention(fused_attention)
        self._initialize()

    def use_fused_attention(self, fused: bool) -> None:
        """Chooses the attention kernel; results differ by rounding only."""
        for module in self.blocks.modules():
            if isinstance(module, Attention):
                module.fused_attn = fused  # type: ignore[misc]

    def _initialize(self) -> None:
        """Xavier-uniform linear layers, q, k and v as separate matrices; zero biases."""
        nn.init.normal_(self.class_token, std=1e-6)
        if isinstance(self.positions, nn.Parameter):
            nn.init.trunc_normal_(self.positions, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                if name.endswith("qkv"):
                    bound = math.sqrt(6.0 / (module.in_features + module.out_features // 3))
                    nn.init.uniform_(module.weight, -bound, bound)
                else:
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if isinstance(self.stem, nn.Conv2d):
            nn.init.xavier_uniform_(self.stem.weight.data.flatten(1))
            nn.init.zeros_(self.stem.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, S, S) float -> h: (N, d), the normalised class token."""
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # (N, T, d)
        class_token = self.class_token.expand(x.shape[0], -1, -1)
        tokens = torch.cat([class_token, tokens], dim=1) + self.positions
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        h: Tensor = self.norm(class_token_of(self.blocks[-1], tokens))
        return h


class _Attention(Attention):
    """timm's, with `mix` where it multiplies matrices itself."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.fused_attn or args or kwargs:
            return super().forward(x, *args, **kwargs)
        N, T, d = x.shape
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed: Tensor = self.proj(mix(q * self.scale, k, v).transpose(1, 2).reshape(N, T, d))
        return mixed


def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Values by the similarity of scaled queries and keys: (N, heads, T, d / heads) each."""
    scores = q @ k.transpose(2, 3)
    precise = torch.float32 if scores.shape[3] < SHORT_ROW else None
    return scores.softmax(dim=3, dtype=precise).to(v.dtype) @ v


def class_token_of(block: nn.Module, tokens: Tensor) -> Tensor:
    """What `block(tokens)[:, 0]` is, without computing the other tokens.

    Only the class token leaves the encoder, so in the last block the others are needed as
    keys and values alone: a sixth of the block's arithmetic.

    Args:
        block: a timm `Block`. tokens: (N, T, d).

    Returns:
        (N, d).
    """
    attention: Any = block.attn
    weight, bias = attention.qkv.weight, attention.qkv.bias
    N, _, d = tokens.shape
    heads = attention.num_heads
    y = block.norm1(tokens)  # type: ignore[operator]
    q = F.linear(y[:, :1], weight[:d], bias[:d])
    k, v = F.linear(y, weight[d:], bias[d:]).chunk(2, dim=2)
    q, k, v = (u.unflatten(2, (heads, d // heads)).transpose(1, 2) for u in (q, k, v))
    if attention.fused_attn:
        mixed = F.scaled_dot_product_attention(q, k, v)
    else:
        mixed = mix(q * attention.scale, k, v)
    h: Tensor = tokens[:, 0] + attention.proj(mixed.transpose(1, 2).reshape(N, d))
    return h.add(block.mlp(block.norm2(h)))  # type: ignore[operator]
