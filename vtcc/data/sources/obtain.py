"""Gets hold of a dataset's files: mirror, cache, network, and else says what a human must do."""

from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from vtcc import progress
from vtcc.data import archive, fetch, mirror
from vtcc.data.catalog import Card, Source
from vtcc.data.mirror import Held
from vtcc.data.sources.registry import Places
from vtcc.data.sources.tree import Tree
from vtcc.data.walk import is_hidden
from vtcc.errors import TemporaryError, VtccError, without_passwords
from vtcc.process import locks


def obtain(card: Card, places: Places, skip: frozenset[str]) -> Tree:
    """Finds or downloads a dataset's files and unpacks them.

    Args:
        card: of the dataset.
        places: to look in.
        skip: names of files and folders that are not unpacked.

    Raises:
        VtccError: when a file is wrong or damaged, or when nothing is found: then with what was
            tried and what to do; a TemporaryError if the network is to blame.
    """
    directory = places.mirror if isinstance(places.mirror, Path) else None
    if held := mirror.look_everywhere(card, directory):
        progress.note(f"{card.name}: read from {held.place}")
        return _open(card, held, places, skip)
    tried = [str(place) for place in mirror.local_places(directory)]
    # Whoever asks for the same dataset meanwhile waits; `vtcc clean` leaves it alone.
    with locks.exclusive(places.downloads / f"{card.name}.lock"):
        return _download(card, places, skip, tried)


def _download(card: Card, places: Places, skip: frozenset[str], tried: list[str]) -> Tree:
    failures: list[VtccError] = []
    if isinstance(places.mirror, str):
        try:
            if held := _from_address(card, places.mirror, places.downloads):
                return _open(card, held, places, skip)
            tried.insert(0, places.mirror)
        except TemporaryError as error:
            failures.append(error)
    if card.sources:
        try:
            return _open(card, _from_sources(card, places.downloads), places, skip)
        except (TemporaryError, fetch.NotServedError) as error:
            failures.append(error)
    raise _nothing(card, tried, failures)


def _from_address(card: Card, base: str, downloads: Path) -> Held | None:
    """The archive or the upstream files below an address; None where neither is served."""
    for suffix in mirror.SUFFIXES:
        with suppress(fetch.NotServedError):
            name = f"{card.name}{suffix}"
            target = downloads / card.name / "mirror" / name
            file = fetch.fetch(f"{base}/{quote(name)}", target, fetch.Expected())
            return Held(file, files=(file,), sources=(None,))
    files: list[Path] = []
    for choices in mirror.parts(card).values():
        upstream = _first(
            card,
            [(s, f"{b}/{quote(s.file)}") for s in choices for b in (f"{base}/{card.name}", base)],
            downloads,
        )
        if upstream is None:
            return None
        files.append(upstream)
    # Checked while they were fetched.
    return (
        Held(files[0].parent, files=tuple(files), sources=(None,) * len(files)) if files else None
    )


def _from_sources(card: Card, downloads: Path) -> Held:
    files: list[Path] = []
    for choices in mirror.parts(card).values():
        reasons: list[VtccError] = []
        file = _first(card, [(s, s.url) for s in choices], downloads, reasons)
        if file is None:
            kind = next(
                (type(r) for r in reasons if isinstance(r, TemporaryError)), fetch.NotServedError
            )
            raise kind("; ".join(map(str, reasons)))
        files.append(file)
    return Held(files[0].parent, files=tuple(files), sources=(None,) * len(files))


def _first(
    card: Card,
    choices: list[tuple[Source, str]],
    downloads: Path,
    reasons: list[VtccError] | None = None,
) -> Path | None:
    """Downloads the first of some alternatives that works; None where none does.

    With a list for `reasons`, a failing server or a wrong file is a reason to go on to the next;
    without one, only a file that is not served is.
    """
    for source, url in choices:
        target = downloads / card.name / source.file
        expected = fetch.Expected(bytes=source.bytes, sha256=source.sha256, md5=source.md5)
        try:
            return fetch.fetch(url, target, expected)
        except fetch.NotServedError as error:
            if reasons is not None:
                reasons.append(error)
        except VtccError as error:
            last = (source, url) == choices[-1]
            if reasons is None or (last and not isinstance(error, TemporaryError)):
                raise
            reasons.append(error)
    return None


def _open(card: Card, held: Held, places: Places, skip: frozenset[str]) -> Tree:
    """A tree of what is held: archives unpacked, plain files linked beside them."""
    if held.folder is not None:
        return Tree(held.folder, held.place)
    root = places.scratch / card.name
    root.mkdir(parents=True)
    for file, source in zip(held.files, held.sources, strict=True):
        if source is not None:
            known = fetch.Expected(bytes=source.bytes, sha256=source.sha256, md5=source.md5)
            fetch.verify(file, known, remove=False)
        if file.name.lower().endswith(mirror.SUFFIXES):
            if not archive.known(file):
                raise VtccError(f"{file}: not a zip or tar archive, or a damaged one; replace it")
            archive.unpack(file, root, wanted=lambda path: _unwanted(path, skip))
        else:
            (root / file.name).symlink_to(file.resolve())
    return Tree(root, held.place, ours=True)


def _unwanted(path: PurePosixPath, skip: frozenset[str]) -> str | None:
    if any(map(is_hidden, path.parts)):
        return "hidden"
    return "not needed" if skip.intersection(path.parts) else None


def _nothing(card: Card, tried: list[str], failures: list[VtccError]) -> VtccError:
    reasons = "; ".join(map(str, failures))
    text = f"dataset {card.name!r}: not found in {', '.join(tried)}"
    if reasons:
        text += f", and the download failed ({reasons})"
    if card.manual:
        text += f"; it must be fetched by hand: {card.manual}"
    else:
        lines = [" or ".join(s.url for s in choices) for choices in mirror.parts(card).values()]
        text += (
            f"; or fetch {', '.join(lines)} by hand and name the directory of the files in "
            "download.mirror or VTCC_MIRROR"
        )
        if card.name == "fashion-mnist":
            text += " (or install Debian's package dataset-fashion-mnist)"
    text = without_passwords(text)
    temporary = any(isinstance(f, TemporaryError) for f in failures)
    return TemporaryError(text) if temporary else VtccError(text)
