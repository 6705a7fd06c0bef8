"""What a training leaves on disk: resumable state, and models that load without running code."""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vtcc import encoders, json_file, zip_file
from vtcc.atomic import atomic_directory, atomic_file, sync_files, umask
from vtcc.config import Model, from_dict
from vtcc.encoders.tensor_file import plain_name
from vtcc.engine import model_card
from vtcc.engine.model import VTCC, build
from vtcc.errors import VtccError, in_one_line, system_error
from vtcc.progress import note

WEIGHTS = "model.safetensors"
INFO = "model.json"
_BACKBONES = "encoder.model.", "encoder.backbone."  # names of a pretrained encoder's weights


def training_key(params: dict[str, Any], digest: str, kernels: dict[str, Any]) -> str:
    """Names the scratch directory: what would compute the same resumes, all else starts afresh.

    Args:
        params: the `train` section as a dict; what changes no weight is left out.
        digest: of the data cache.
        kernels: what `kernels.resolve` makes of `auto` on this machine. What is measured beyond
            that is kept in the directory: a measurement must not decide where a resume looks.

    Raises:
        VtccError: when the weights of an encoder that has a card are not on this machine.
    """
    source = hashlib.sha256(torch.__version__.encode())
    engine = Path(__file__).parent
    for file in sorted(engine.rglob("*.py")):
        source.update(file.relative_to(engine).as_posix().encode() + b"\0" + file.read_bytes())
    settings = {k: v for k, v in params.items() if k not in ("checkpoint_minutes", "collapse")}
    model = params.get("model", {})
    file = model.get("weights")
    if file:  # what counts is what the file holds, below
        settings["model"] = {k: v for k, v in model.items() if k != "weights"}
    if pretrained := encoders.encoder_record(model.get("encoder", "vit"), file or ""):
        source.update(pretrained["digest"].encode())
    elif file:
        weights = Path(file)
        source.update(weights.read_bytes() if weights.is_file() else b"")
    identity = json.dumps([settings, digest, kernels, source.hexdigest()], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values, atomically and flushed to the disk.

    Raises:
        OSError: when that fails, for example on a full disk; `path` is then what it was.
    """
    with atomic_file(path) as building, building.open("wb") as file, _own_errors(file) as target:
        torch.save(state, cast(IO[bytes], target))


def load_state(path: Path) -> dict[str, Any] | None:
    """Reads what `save_state` wrote, without running code.

    None when there is no file or it is damaged (its checksums are compared), which is noted.

    Raises:
        PermissionError: when it may not be read.
    """
    if not path.is_file():
        return None
    try:
        # torch does not compare the checksums that its archives hold.
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"wrong checksum of {broken}")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except PermissionError:
        raise
    except (*zip_file.DAMAGED, pickle.UnpicklingError) as error:
        note(f"{path}: damaged, not used ({in_one_line(error)})")
        return None


class _Target:
    """A file that remembers why it could not be written."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def _own_errors(file: IO[bytes]) -> Iterator[_Target]:
    """torch turns a full disk into a RuntimeError about positions: this gives the cause back."""
    target = _Target(file)
    try:
        yield target
    except RuntimeError:
        if target.error is None:
            raise
        raise target.error from None


def save_model(
    directory: Path, model: VTCC, info: dict[str, Any], *, with_encoder: bool = False
) -> None:
    """Writes `model.safetensors`, `model.json` and the cards, replacing the directory as a whole.

    The weights of a frozen encoder that has a card are those that everyone has: the model refers
    to them by the name and digest in `info["encoder"]` (`encoders.encoder_record`).

    Args:
        directory: of the model.
        model: with its selected head set.
        info: plain values; must hold `model`, `num_clusters`, `image_size` and `channels`,
            from which `read_model` rebuilds the module.
        with_encoder: keep such weights inside all the same, for a machine that lacks them.

    Raises:
        OSError: when that fails, for example on a full disk; the directory is then what it was.
    """
    with atomic_directory(directory) as fresh:
        write_model(fresh, model, info, with_encoder=with_encoder)


def write_model(
    fresh: Path, model: VTCC, info: dict[str, Any], *, with_encoder: bool = False
) -> None:
    """Writes what `save_model` does into a new directory, beside what else belongs in it."""
    state = stored(model.state_dict(), info, with_encoder=with_encoder)
    weights = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    try:
        save_file(weights, fresh / WEIGHTS)
    except SafetensorError as error:
        raise system_error(error, fresh / WEIGHTS) from None
    (fresh / WEIGHTS).chmod(0o666 & ~umask())  # safetensors writes for the owner alone
    text = json.dumps(info, indent=2, sort_keys=True, ensure_ascii=False)
    (fresh / INFO).write_text(text + "\n", encoding="utf-8")
    model_card.write(fresh, info)
    sync_files(fresh)


def stored(
    state: dict[str, torch.Tensor], info: dict[str, Any], *, with_encoder: bool = False
) -> dict[str, torch.Tensor]:
    """What of a model's state is written. Arguments as of `save_model`."""
    if with_encoder or not _referable(info):
        return state
    return {k: v for k, v in state.items() if not k.startswith(_BACKBONES)}


def _referable(info: dict[str, Any]) -> bool:
    """Whether a model's encoder can be had again by its name; a file of one's own cannot."""
    model = info["model"]
    return bool(info.get("encoder") and model.get("frozen") and not model.get("weights"))


_NEEDED = {
    "model": dict, "num_clusters": int, "image_size": int, "channels": int, "cache_size": int,
}  # fmt: skip


def read_info(directory: Path) -> dict[str, Any]:
    """The `model.json` of a model directory.

    Raises:
        VtccError: when the directory holds no vtcc model.
    """
    file = directory / INFO
    try:
        info: dict[str, Any] = json_file.parsed(file)
        missing = _NEEDED.keys() - set(info)
    except (FileNotFoundError, NotADirectoryError):
        raise VtccError(
            f"{directory}: no vtcc model here ({INFO} and {WEIGHTS} expected); "
            "`vtcc train` writes one to models/model, `vtcc cluster` to RESULTS/model"
        ) from None
    except OSError as error:
        raise VtccError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ValueError, TypeError) as error:
        raise VtccError(f"{file}: not readable as JSON: {error}") from None
    if missing:
        raise VtccError(f"{file}: incomplete, without {', '.join(sorted(missing))}")
    try:
        json_file.checked(info, _NEEDED)
        for key, kind in _NEEDED.items():
            if kind is int and info[key] < 1:
                raise ValueError(f"{key}: found {info[key]}, expected at least 1")
        return info
    except ValueError as error:
        raise VtccError(f"{file}: {error}; make the model again, or copy it again") from None


# Parameters that came later have a default: models without them were made as if by it.
_BEFORE = {f.name: f.default for f in fields(Model) if f.default is not MISSING}


def architecture(info: dict[str, Any]) -> Model:
    """The `train.model` section that a model was made with, from its `model.json`."""
    return from_dict(Model, _BEFORE | info["model"], "model")


def read_model(directory: Path) -> tuple[VTCC, dict[str, Any]]:
    """Rebuilds a saved model on the CPU, in eval mode, and returns it with its info.

    An encoder that the file leaves out is filled in from this machine (`encoders.resolve`).

    Raises:
        VtccError: when files are missing, damaged or do not belong together, or an encoder that
            is referred to is not on this machine or has another digest.
    """
    info = read_info(directory)
    file = directory / WEIGHTS
    try:
        with plain_name(file) as name:
            weights = load_file(name)
    except FileNotFoundError:
        raise VtccError(f"{file}: missing; the model directory is incomplete") from None
    except OSError as error:
        raise VtccError(f"{file}: cannot be read ({error.strerror or error})") from None
    except SafetensorError as error:
        raise _not_of_this_model(file, error) from None
    outside = _referable(info) and not any(name.startswith(_BACKBONES) for name in weights)
    resolved = _referred(directory, info["encoder"]) if outside else None
    model = build(
        architecture(info),
        info["num_clusters"],
        image_size=info["image_size"],
        channels=info["channels"],
        resolved=resolved,
    )
    state = model.state_dict()
    if outside:
        weights |= {name: value for name, value in state.items() if name.startswith(_BACKBONES)}
    if "encoder.positions" in state and "encoder.positions" not in weights:
        # Models were once saved without their table, which had its two axes the other way.
        table = state["encoder.positions"]
        weights["encoder.positions"] = table.roll(table.shape[2] // 2, dims=2)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise _not_of_this_model(file, error) from None
    return model.eval(), info


def _not_of_this_model(file: Path, error: Exception) -> VtccError:
    return VtccError(f"{file}: not the weights of this model ({in_one_line(error)})")


def _referred(directory: Path, encoder: dict[str, Any]) -> encoders.ResolvedWeights:
    name, digest = encoder["name"], encoder["digest"]
    try:
        resolved = encoders.resolve(name)
    except encoders.WeightsMissing as error:
        raise VtccError(f"{directory}: refers to a pretrained encoder: {error}") from None
    if resolved.digest != digest:
        raise VtccError(
            f"{directory}: made with weights of {name} whose digest is {digest} "
            f"({encoder['source']}), but those here have {resolved.digest} ({resolved.source}); "
            f"copy the former as {name}.safetensors into a directory that VTCC_WEIGHTS names, or "
            "save the model with its encoder inside (save_model(..., with_encoder=True))"
        )
    return resolved
