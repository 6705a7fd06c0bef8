"""Images at an address, copied to this disk before anything is done with them."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from vtcc import bounds
from vtcc.atomic import atomic_file
from vtcc.data.decoding import in_threads
from vtcc.data.walk import unwanted
from vtcc.errors import TemporaryError, VtccError, in_one_line
from vtcc.extras import MissingExtra
from vtcc.progress import note, track

SCHEMES = ("s3", "gs", "hf", "http", "https")


def is_address(given: str) -> bool:
    """Whether it is one, of a kind that is read or not."""
    return re.match("[a-z][a-z0-9+.-]*://", given, re.IGNORECASE) is not None


def shown(address: str) -> str:
    """An address without user, password and query, fit for messages and files."""
    parts = _split(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port  # of a password with a slash that is not written as %2F it is no number
    except ValueError:  # whose text may hold the user and password
        where = bare(re.sub(r"://\S*@", "://", address))
        raise VtccError(f"{where!r}: no address that can be read; correct it") from None
    return parts


def bare(text: str) -> str:
    """Text without what may be user, password or query of addresses in it."""
    return re.sub(r"\?\S*", "", re.sub(r"://[^/\s]*@", "://", text))


def copied(address: str, place: Path, wanted: tuple[str, ...]) -> Path:
    """Copies a file, or the files below a folder; what is there with the same size already stays.

    Args:
        address: `s3://`, `gs://`, `hf://`, `http://` or `https://`; one whose last part has none
            of the suffixes is a folder, by `http` a page of links.
        place: a folder for copies, where this one is called by its host or bucket and its path.
        wanted: suffixes of files to copy beside images.

    Raises:
        VtccError: when it is of another kind, a package is missing, or nothing is there.
        TemporaryError: when it cannot be reached.
    """
    parts = _split(address)
    if parts.scheme.lower() not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise VtccError(f"{parts.scheme}://: no kind of address that is read; known: {known}")
    shown_as = shown(address)
    named = PurePosixPath(unquote(parts.netloc.rpartition("@")[2] + parts.path))
    if ".." in named.parts:
        raise VtccError(f"{shown_as}: leads through '..'; give the address itself")
    target = place / named
    try:
        import fsspec

        system, root = fsspec.url_to_fs(address)
        if _is_wanted(named.name, wanted):
            found = {named.name: (root, system.info(root).get("size"))}
            target = target.parent
        else:
            found = dict(_below(system, root, wanted))
        if not found:
            raise VtccError(
                f"{shown_as}: no images there; give a folder, a file or a page of links"
            )
        note(f"{shown_as}: {len(found)} files, copied to {target}")

        def copy(name: str) -> None:
            file, (source, size) = target / name, found[name]
            if not (size is not None and file.is_file() and file.stat().st_size == size):
                with atomic_file(file) as building:
                    system.get_file(source, str(building))

        for _ in track(in_threads(copy, found, batch=1), "copy", len(found), every=100):
            pass
    except VtccError:
        raise
    except ImportError as error:
        why = in_one_line(error)
        raise MissingExtra(f"{shown_as}: {why}: pip install 'vtcc[remote]'") from None
    except Exception as error:  # each kind of storage has errors of its own
        cause = error.__cause__ or error  # by http anything is a FileNotFoundError
        why = bare(in_one_line(cause, 1000).replace(address, shown_as))[:200]
        refused = 400 <= getattr(cause, "status", 0) < 500
        if refused or isinstance(cause, FileNotFoundError | PermissionError):
            raise VtccError(f"{shown_as}: cannot be read ({why})") from None
        raise TemporaryError(f"{shown_as}: cannot be reached ({why})") from None
    return target / named.name if _is_wanted(named.name, wanted) else target


def _is_wanted(name: str, wanted: tuple[str, ...]) -> bool:
    return unwanted(PurePosixPath(name)) is None or name.lower().endswith(wanted)


def _below(
    system: Any, root: str, wanted: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, int | None]]]:
    """Name below the root -> where it is, and its size, of the files that are wanted."""
    top = root.rstrip("/") + "/"
    is_page = "://" in root
    listed = _linked(system, top) if is_page else system.find(root, detail=True).items()
    for source, about in listed:
        name = unquote(source.removeprefix(top)) if is_page else source.removeprefix(top)
        parts = PurePosixPath(name).parts
        inside = source.startswith(top) and not {"..", "/"} & set(parts)
        if inside and not any(p.startswith(".") for p in parts) and _is_wanted(name, wanted):
            yield name, (source, about.get("size"))


def _linked(system: Any, top: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address and facts of what pages of links lead to; `find` would follow links out of `top`."""
    waiting, seen = [top], {top}
    while waiting:
        for about in system.ls(waiting.pop(), detail=True):
            name = about["name"]
            if name in seen or not name.startswith(top) or name.count("/") > bounds.ARCHIVE_DEPTH:
                continue
            seen.add(name)
            if about["type"] == "directory":
                waiting.append(name)
            else:
                yield name, about
