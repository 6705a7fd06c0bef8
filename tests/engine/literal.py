"""The paper's network and losses written out, slowly, in float64: what ours must compute.

Weights are a dict under the names of the authors' checkpoint. Nothing here is a torch module.
"""

import math

import torch


def positions(grid, d):
    """(1 + grid^2, d): a zero row, then [sin w, cos w, sin h, cos h] per token, row by row.

    The authors take w from the first axis of a grid indexed "ij": it counts rows, h columns.
    """
    rows = [[0.0] * d]
    omega = [1 / 10000 ** (i / (d // 4)) for i in range(d // 4)]
    for w in range(grid):
        for h in range(grid):
            rows.append(
                [math.sin(w * o) for o in omega]
                + [math.cos(w * o) for o in omega]
                + [math.sin(h * o) for o in omega]
                + [math.cos(h * o) for o in omega]
            )
    return torch.tensor(rows, dtype=torch.float64)


def convolution(x, weight, stride):
    """3x3 with a border of one zero, as a sum over the nine shifts."""
    N, _, H, W = x.shape
    padded = torch.zeros(N, x.shape[1], H + 2, W + 2, dtype=x.dtype)
    padded[:, :, 1:-1, 1:-1] = x
    out = 0
    for i in range(3):
        for j in range(3):
            moved = padded[:, :, i : i + H : stride, j : j + W : stride]
            out = out + torch.einsum("oc,nchw->nohw", weight[:, :, i, j], moved)
    return out


def batchnorm(w, name, x, training):
    """Statistics of the batch (divided by its size) when training, else the running ones."""
    others = [i for i in range(x.ndim) if i != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    if training:
        mean = x.mean(others)
        variance = ((x - mean.view(shape)) ** 2).mean(others)
    else:
        mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    x = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
    return x * w[f"{name}.weight"].view(shape) + w[f"{name}.bias"].view(shape)


def layernorm(w, name, x):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def relu(x):
    return x * (x > 0)


def attention(w, name, x, heads):
    """One head after the other: softmax(q k^T / sqrt(d / heads)) v."""
    d = x.shape[-1]
    width = d // heads
    q, k, v = linear(w, f"{name}.qkv", x).split(d, dim=-1)
    mixed = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(width)
        e = scores.exp()
        mixed.append(e / e.sum(-1, keepdim=True) @ v[..., part])
    return linear(w, f"{name}.proj", torch.cat(mixed, dim=-1))


def stem(w, x, training):
    """Convolutions with BatchNorm and ReLU, then 1x1; or one linear map per patch."""
    name = "vtcc.patch_embed.proj"
    if f"{name}.weight" in w:
        weight = w[f"{name}.weight"]
        patches = x.unfold(2, weight.shape[2], weight.shape[2]).unfold(
            3, weight.shape[3], weight.shape[3]
        )
        x = torch.einsum("ocij,nchwij->nohw", weight, patches)
        return x + w[f"{name}.bias"].view(1, -1, 1, 1)
    at = 0
    while w[f"{name}.{at}.weight"].shape[-1] == 3:
        x = convolution(x, w[f"{name}.{at}.weight"], stride=2)
        x = relu(batchnorm(w, f"{name}.{at + 1}", x, training))
        at += 3
    x = torch.einsum("oc,nchw->nohw", w[f"{name}.{at}.weight"][:, :, 0, 0], x)
    return x + w[f"{name}.{at}.bias"].view(1, -1, 1, 1)


def encoder(w, x, heads, training):
    """(N, C, S, S) -> h (N, d)."""
    x = stem(w, x, training)
    N, d, grid, _ = x.shape
    tokens = torch.stack([x[:, :, i, j] for i in range(grid) for j in range(grid)], dim=1)
    tokens = torch.cat([w["vtcc.cls_token"].repeat(N, 1, 1), tokens], dim=1)
    tokens = tokens + w.get("vtcc.pos_embed", positions(grid, d)[None])
    depth = len({k.split(".")[2] for k in w if k.startswith("vtcc.blocks.")})
    for i in range(depth):
        block = f"vtcc.blocks.{i}"
        y = layernorm(w, f"{block}.norm1", tokens)
        tokens = tokens + attention(w, f"{block}.attn", y, heads)
        y = layernorm(w, f"{block}.norm2", tokens)
        tokens = tokens + linear(w, f"{block}.mlp.fc2", gelu(linear(w, f"{block}.mlp.fc1", y)))
    return layernorm(w, "vtcc.norm", tokens)[:, 0]


def projector(w, name, h, training):
    h = relu(batchnorm(w, f"{name}.1", linear(w, f"{name}.0", h), training))
    h = relu(batchnorm(w, f"{name}.4", linear(w, f"{name}.3", h), training))
    return linear(w, f"{name}.6", h)


def forward(w, x, heads, *, training):
    """One view (N, C, S, S) -> z (N, D) with unit rows, p (N, K)."""
    w = {k: v.double() for k, v in w.items()}
    h = encoder(w, x.double(), heads, training)
    z = projector(w, "instance_projector", h, training)
    e = projector(w, "cluster_projector", h, training).exp()
    return z / (z**2).sum(1, keepdim=True).sqrt(), e / e.sum(1, keepdim=True)


def cosine(u, v):
    return (u @ v) / ((u @ u).sqrt() * (v @ v).sqrt())


def contrast(a, b, temperature):
    """Mean over 2M vectors of -log(exp s(partner) / sum over the 2M - 1 others of exp s)."""
    u, M = [*a, *b], len(a)
    total = 0
    for i in range(2 * M):
        partner = (i + M) % (2 * M)
        others = sum((cosine(u[i], u[j]) / temperature).exp() for j in range(2 * M) if j != i)
        total = total - ((cosine(u[i], u[partner]) / temperature).exp() / others).log()
    return total / (2 * M)


def entropy(p):
    """-sum over clusters of P log P, with P the mean assignment."""
    N, K = p.shape
    total = 0
    for k in range(K):
        share = sum(p[i, k] for i in range(N)) / N
        total = total - share * share.log()
    return total


def instance_loss(z_a, z_b, temperature=0.5):
    return contrast(z_a, z_b, temperature)


def cluster_loss(p_a, p_b, temperature=1.0):
    K = p_a.shape[1]
    return contrast(p_a.T, p_b.T, temperature) + 2 * math.log(K) - entropy(p_a) - entropy(p_b)
