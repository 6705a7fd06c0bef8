"""Features of a folder's images by a pretrained encoder, straight from the files."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtcc import config, encoders
from vtcc.data.cache import Cache
from vtcc.engine import features, model
from vtcc.engine.kernels import resolve_device
from vtcc.engine.normalization import normalization
from vtcc.engine.runtime import runtime
from vtcc.grouping.intake import decoded
from vtcc.progress import note


def encoded(
    files: list[Path], cache: Cache, params: dict[str, Any], work: Path
) -> features.Features:
    """Embeds every image once, as it is and in augmented views; resumes what was interrupted.

    Each file is decoded at the encoder's own size, beside the encoder's work.

    Args:
        files: of the N images of the cache. cache: stands in for a file that is gone by now.
        params: nested, with a frozen encoder. work: the directory of this run.

    Returns:
        (N, V + 1, D) float16, a memory map, and what names it.

    Raises:
        VtccError: when the encoder's weights are not on this machine.
    """
    section = config.from_dict(config.Params, params)
    train, size = section.train, section.train.image_size
    device = resolve_device(train.device)
    if threads := train.threads:
        torch.set_num_threads(threads)
    record = encoder_of(train.model)
    note(f"encoder: {train.model.encoder}, {record['licence']}, {record['source']}")
    mean, std = normalization(train.normalize, cache, train.model.encoder)
    whole = model.build(
        train.model, train.num_clusters, image_size=size, channels=cache.channels, pretrained=True
    )
    how = {"channels": cache.channels, "size": size, "max_pixels": section.validate.max_pixels}

    def blocks(start: int) -> Iterator[np.ndarray]:
        block: list[np.ndarray] = []
        for row, pixels in enumerate(decoded(files[start:], how), start):
            if isinstance(pixels, str):
                note(
                    f"{cache.paths[row]!r} can no longer be read ({pixels}): its thumbnail is used"
                )
                pixels = _enlarged(np.array(cache.images[row]), size)
            block.append(pixels)
            if len(block) == features.BLOCK:
                yield np.stack(block)
                block = []
        if block:
            yield np.stack(block)

    return features.embed(
        work / "features",
        blocks,
        len(files),
        runtime=runtime(
            whole.encoder.backbone.eval(),  # type: ignore[union-attr]
            image_size=size,
            channels=cache.channels,
            device=device,
            kind=section.embed.runtime,
        ),
        drawing=features.Drawing(
            size, mean, std, train.augment, section.embed.views, section.embed.seed
        ),
        encoder=record,
        digest=cache.digest,
    )


def encoder_of(section: config.Model) -> dict[str, Any]:
    """Name, licence, digest and source of an encoder, whether it has a card or is a file's."""
    record = encoders.encoder_record(section.encoder, section.weights)
    if record is not None:
        return record
    digest = hashlib.sha256(Path(section.weights).read_bytes()).hexdigest()
    source = f"file {section.weights}"
    return {"name": section.encoder, "licence": "your own file", "digest": digest, "source": source}


def _enlarged(pixels: np.ndarray, size: int) -> np.ndarray:
    """(s, s, C) uint8 -> (size, size, C) uint8."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    x = torch.nn.functional.interpolate(x, (size, size), mode="bicubic").clamp(0, 255)
    return x[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
