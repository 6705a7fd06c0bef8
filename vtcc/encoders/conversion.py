"""Weights as safetensors with timm's names, and the digest that names them."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc.atomic import atomic_file
from vtcc.digests import sha256, version
from vtcc.encoders import catalog
from vtcc.encoders.catalog import EncoderCard
from vtcc.errors import VtccError, in_one_line, shown, system_error
from vtcc.progress import note
from vtcc.regular import regular

if TYPE_CHECKING:
    from torch import Tensor

_DIGEST = "vtcc_digest"  # in the header of a converted file


def cache_directory() -> Path:
    """Where converted weights are kept: `$VTCC_CACHE/weights`, else in the user's cache."""
    if own := os.environ.get("VTCC_CACHE"):
        return Path(own) / "weights"
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "vtcc" / "weights"


def tensor_digest(file: Path) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors of a safetensors file.

    The same for the same numbers, however the file came about. Remembered while the file is
    unchanged.

    Raises:
        VtccError: when the file is no safetensors.
    """
    return _tensor_digest(file, *version(file))


def digest_of(tensors: Mapping[str, "Tensor"]) -> str:
    """`tensor_digest` of tensors in memory, in any order."""
    import torch

    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def as_safetensors(file: Path, card: EncoderCard) -> Path:
    """The file itself where it is safetensors, else its conversion, made once and then kept.

    Args:
        file: safetensors, or what `torch.save` wrote of a state dict.
        card: of the encoder, whose timm model says what the tensors are called.

    Raises:
        VtccError: when it is neither, holds more than tensors, or is of another model.
    """
    if _is_safetensors(file):
        return file
    name = f"{card.name}-{sha256(file)[:16]}.safetensors"
    if _whole(kept := cache_directory() / name):
        return kept
    from vtcc.encoders.tensor_file import check_numbers, read_tensors

    tensors = _renamed(read_tensors(file), card, file)
    check_numbers(tensors, file)
    try:
        return _write(tensors, kept)
    except OSError as error:
        aside = _process_directory() / name
        note(
            f"{kept.parent}: cannot be written to ({error.strerror or error}); the converted "
            f"weights of {card.name} last for this run only. Set VTCC_CACHE to keep them"
        )
        return aside if aside.is_file() else _write(tensors, aside)


def _renamed(tensors: dict[str, "Tensor"], card: EncoderCard, file: Path) -> dict[str, "Tensor"]:
    """The tensors under timm's names, which a package may have replaced by its own."""
    whole, backbone = _timm_shapes(card.timm)
    if backbone.keys() <= tensors.keys():
        return tensors
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    for expected in (whole, backbone):
        if list(expected.values()) == shapes:
            return dict(zip(expected, tensors.values(), strict=True))
    unlike = next(
        (
            f"{shown(name)} is {mine} there, {theirs} in timm"
            for name, mine, theirs in zip(tensors, shapes, whole.values(), strict=False)
            if mine != theirs
        ),
        "the first ones agree",
    )
    raise VtccError(
        f"{file}: not the weights of {card.name} (timm's {card.timm}): {len(shapes)} tensors, "
        f"expected {len(whole)}; {unlike}; "
        f"{whose(tensors, card.timm) or 'give a file of that model'}"
    )


def whose(tensors: Mapping[str, "Tensor"], besides: str) -> str:
    """The encoders whose weights have these names and shapes, for a message; empty for none.

    Args:
        besides: timm's name of the one that they were meant for.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    known = [
        name
        for name in catalog.names()
        if catalog.card(name).timm != besides
        and _timm_shapes(catalog.card(name).timm)[1].items() <= shapes.items()
    ]
    return f"by its names and shapes it is a file of {' or '.join(known)}" if known else ""


def resembles(file: Path, name: str) -> bool:
    """Whether most tensors of a file are a timm model's; others may be for other images."""
    from timm.models import clean_state_dict

    from vtcc.encoders import models, tensor_file

    try:
        models.check(name, str(file))
        shapes = _timm_shapes(name)[1].items()
        tensors = clean_state_dict(tensor_file.read_tensors(file))
    except (VtccError, RuntimeError):  # timm's, of a tag that it does not know
        return False
    same = sum(key in tensors and tuple(tensors[key].shape) == shape for key, shape in shapes)
    return same > 0.6 * len(shapes)  # of gmlp's and mixers', a third depends on the size


@cache
def _timm_shapes(name: str) -> tuple[dict[str, tuple], dict[str, tuple]]:
    """Names and shapes, in order, of timm's model with its classifier and without."""
    import timm
    import torch

    def shapes(**options: Any) -> dict[str, tuple]:
        # No memory and no draws: what comes after must not depend on whether this ran.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = timm.create_model(name, **options)
        return {key: tuple(value.shape) for key, value in model.state_dict().items()}

    return shapes(), shapes(num_classes=0)


def _write(tensors: dict[str, "Tensor"], target: Path) -> Path:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Several processes may convert at once: each has a name of its own until the end.
    own = target.with_name(f"{os.getpid()}-{target.name}")
    try:
        with atomic_file(own) as building:
            plain = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
            try:
                save_file(plain, building, metadata={_DIGEST: digest_of(plain)})
            except SafetensorError as error:
                raise system_error(error, target) from None
        own.replace(target)
    finally:
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)
    return target


def _whole(file: Path) -> bool:
    """Whether a converted file is there and undamaged."""
    from safetensors import SafetensorError, safe_open

    from vtcc.encoders.tensor_file import plain_name

    try:
        if not file.is_file():
            return False
        with plain_name(file) as name, safe_open(name, "pt") as content:
            promised = (content.metadata() or {}).get(_DIGEST)
        return promised == tensor_digest(file)
    except (SafetensorError, OSError, VtccError):
        return False


@cache
def _process_directory() -> Path:
    import atexit
    import shutil

    directory = Path(tempfile.mkdtemp(prefix="vtcc-weights-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _is_safetensors(file: Path) -> bool:
    if file.suffix == ".safetensors":
        return True
    with regular(file).open("rb") as opened:
        return opened.read(9)[8:] == b"{"


@cache
def _tensor_digest(file: Path, *version: int) -> str:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from vtcc.encoders.tensor_file import plain_name

    try:
        with plain_name(file) as name:
            return digest_of(load_file(name))
    except SafetensorError as error:
        reason = in_one_line(error)
        raise VtccError(f"{file}: damaged safetensors ({reason}); copy or fetch it again") from None
