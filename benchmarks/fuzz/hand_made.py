"""Runs the hostile files that are made by hand, and says what became of them."""

import functools
import importlib
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.fuzz import pictures, tars, zips
from benchmarks.fuzz.case import Case, Measured, measured

ROOMS: dict[str, Callable[[], Iterable[Case]]] = {
    "zip": zips.cases,
    "tar": tars.cases,
    "image": pictures.cases,
}


def unpacked(sample: Path, target: Path) -> str:
    """Unpacks an archive; the line that refuses it, or none."""
    from vtcc.data import archive
    from vtcc.errors import VtccError

    try:
        archive.known(sample)
        archive.unpack(sample, target, wanted=lambda name: None)
    except VtccError as error:
        return str(error)
    return ""


def wrong_with_archive(case: Case, place: Path) -> tuple[Measured, str]:
    """Unpacks it in a process of its own; what that took, and what is wrong with it."""
    sample, target = place / "sample", place / "around" / "out"
    sample.write_bytes(case.build())
    target.mkdir(parents=True)
    took = measured(functools.partial(unpacked, sample, target))
    strays = {p.name for p in (place, place / "around") for p in p.iterdir()}
    if strays != {"sample", "around", "out"}:
        return took, f"written outside: {sorted(strays - {'sample', 'around', 'out'})}"
    special = [p for p in target.rglob("*") if p.is_symlink() or not (p.is_file() or p.is_dir())]
    if special:
        return took, f"no file: {special[0]}"
    if wrong := wrong_with_line(case, took):
        return took, wrong
    if case.files is not None and not took.value:
        there = {p.relative_to(target).as_posix(): p for p in target.rglob("*") if p.is_file()}
        if set(there) != set(case.files):
            odd = sorted(set(there) ^ set(case.files))[:3]
            return took, f"{len(there)} files instead of {len(case.files)}: {odd}"
        other = [name for name, path in there.items() if path.read_bytes() != case.files[name]]
        if other:
            return took, f"another content of {other[0]!r}"
    return took, ""


def decoded(sample: Path) -> str:
    """Decodes an image and reads its EXIF; the line that refuses it, or none."""
    from vtcc.data import exif, images

    exif.of_file(sample)
    try:
        pixels = images.load(sample, channels=3, max_pixels=pictures.MAX_PIXELS, size=64)
    except images.UnreadableImage as error:
        return error.reason
    return "" if pixels.shape == (64, 64, 3) else f"pixels of shape {pixels.shape}"


def wrong_with_image(case: Case, place: Path) -> tuple[Measured, str]:
    """Decodes it in a process of its own; what that took, and what is wrong with it."""
    sample = place / "sample.jpg"
    sample.write_bytes(case.build())
    took = measured(functools.partial(decoded, sample))
    return took, wrong_with_line(case, took)


def wrong_with_line(case: Case, took: Measured) -> str:
    """What is wrong with what was said, and with the time and memory it took."""
    if took.wrong:
        return took.wrong
    line = took.value
    if not isinstance(line, str) or not line.isprintable() or len(line) > 1000:
        return f"not one clear line: {line!r}"
    if case.refused is not None and not line:
        return "not refused"
    if case.refused is not None and case.refused not in line:
        return f"other words: {line}"
    if case.refused is None and case.files is not None and line:
        return f"refused: {line}"
    if took.seconds > case.seconds or took.mib > case.mib:
        return f"took {took.seconds:.1f} s and {took.mib} MiB"
    return ""


CHECKS: dict[str, Callable[[Case, Path], tuple[Measured, str]]] = {
    "zip": wrong_with_archive,
    "tar": wrong_with_archive,
    "image": wrong_with_image,
}


def run(rooms: Iterable[str], *, every: int = 1, slow: bool = False) -> bool:
    """Prints a row per kind; whether one case was bad.

    Args:
        rooms: of ROOMS. every: only one of so many cases of a kind. slow: those that take long
            as well.
    """
    import pillow_heif
    from PIL import Image

    for name in ("imagecodecs", "tifffile", "vtcc.data.archive", "vtcc.data.exif"):
        importlib.import_module(name)  # once, not in each process
    Image.init()
    pillow_heif.register_heif_opener()
    bad = 0
    print(f"{'made by hand':28} {'files':>6} {'refused':>8} {'failed':>7} {'longest s':>10} MiB")
    for room in rooms:
        seen: Counter[str] = Counter()
        rows: dict[str, list[tuple[Measured, str]]] = defaultdict(list)
        for case in ROOMS[room]():
            if case.slow and not slow:
                continue
            seen[case.kind] += 1
            if (seen[case.kind] - 1) % every:
                continue
            with tempfile.TemporaryDirectory() as name:
                took, wrong = CHECKS[room](case, Path(name))
            rows[case.kind].append((took, wrong))
            if wrong:
                print(f"{case.kind}, {case.name}: {wrong!r:.400}", file=sys.stderr, flush=True)
        for kind, ran in rows.items():
            failed = sum(bool(wrong) for _, wrong in ran)
            refused = sum(bool(took.value) for took, _ in ran)
            longest = max(took.seconds for took, _ in ran)
            mib = max(took.mib for took, _ in ran)
            print(f"{kind:28} {len(ran):6} {refused:8} {failed:7} {longest:10.2f} {mib:3}")
            bad += failed
    return bool(bad)
