"""`vtcc import-checkpoint`: a checkpoint of the authors' code becomes a vtcc model directory."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from vtcc import paths
from vtcc.atomic import refuse_link
from vtcc.errors import VtccError
from vtcc.grouping import summary
from vtcc.progress import note, several

MAX_PIXELS = 100_000_000  # as the presets' validate.max_pixels


def run(
    file: Path,
    *,
    out: Path,
    num_heads: int = 12,
    image_size: int | None = None,
    force: bool = False,
) -> None:
    """Writes `out`, with all that `vtcc predict` needs.

    Images are decoded straight to the size of the encoder, as the paper evaluates, and
    normalised by ImageNet's mean and deviation.

    Args:
        file: torch file or safetensors.
        out: the directory; a vtcc model in it is replaced.
        num_heads: attention heads, which the file does not tell.
        image_size: side in pixels; by default what the file's positions were made for.
        force: replace a directory of something else as well.

    Raises:
        VtccError: when the file is no such checkpoint, or `out` holds something else.
    """
    check_out("--out", out, {f"{file}, which is to be imported": file}, force=force)
    from vtcc.digests import sha256
    from vtcc.engine import checkpoint, upstream
    from vtcc.engine.model import parameter_count
    from vtcc.engine.model_info import imported_info, model_info
    from vtcc.engine.normalization import imagenet

    model, architecture = upstream.read_upstream(file, num_heads, image_size)
    mean, std = imagenet(architecture.channels)
    reading = model_info(
        model=architecture.model,
        num_clusters=architecture.num_clusters,
        image_size=architecture.image_size,
        cache_size=architecture.image_size,
        channels=architecture.channels,
        max_pixels=MAX_PIXELS,
        mean=mean,
        std=std,
    )
    info = imported_info(reading, file=file.name, sha256=sha256(file))
    checkpoint.save_model(out, model, info)
    note(
        f"{out}: {parameter_count(model):,} parameters, K = {architecture.num_clusters}, "
        f"{architecture.image_size} px, {several(num_heads, 'heads')}; "
        f"try `vtcc predict IMAGES --model {shlex.quote(str(out))} --out clusters.csv`"
    )


def check_out(
    option: str, out: Path, sources: Mapping[str, Path], *, force: bool | None = None
) -> None:
    """Refuses to replace a directory of something else than a model, or a link.

    Args:
        option: that named it. out: the directory. sources: what is read, which must not be in it.
        force: replace it whatever is in it; None where there is no such option.
    """
    refuse_link(option, out)
    if out.is_dir():
        whole = out.resolve()
        # Replaced as a whole, so what the user stands in, lives in or imports is never meant.
        for what, inside in (*paths.of_the_user().items(), *sources.items()):
            if inside.resolve().is_relative_to(whole):
                raise VtccError(f"{option} {out}: holds {what}; name a new directory")
        if not force and (whole.parent / summary.FILE).is_file():
            raise VtccError(
                f"{option} {out}: lies in the results in {whole.parent}; name a directory beside "
                "them"
            )
        if not force and any(out.iterdir()) and not (out / "model.safetensors").is_file():
            more = "" if force is None else ", or replace all that is in it with --force"
            raise VtccError(
                f"{option} {out}: not empty and no vtcc model; name another directory{more}"
            )
    elif out.exists():
        raise VtccError(f"{option} {out}: a file; name a directory")
