"""Images at an address, copied to this disk before anything is done with them."""

import os
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from vtcc import bounds
from vtcc.atomic import atomic_file
from vtcc.data import camera, folder
from vtcc.data.decoding import in_threads
from vtcc.data.walk import RESULTS, STAMP, in_words, marks_results, results_in, unwanted
from vtcc.errors import TemporaryError, VtccError, in_one_line
from vtcc.extras import MissingExtra, install
from vtcc.progress import note, several, track

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

    Of an earlier copy of a folder goes what is no longer there.

    Args:
        address: `s3://`, `gs://`, `hf://`, `http://` or `https://`; one whose last part has none
            of the suffixes is a folder, by `http` a page of links.
        place: a folder for copies, where this one is called by its host or bucket and its path.
        wanted: suffixes of files to copy beside images.

    Raises:
        VtccError: when it is of another kind, a package is missing, nothing is there, or more
            than `vtcc.bounds` allows.
        TemporaryError: when it cannot be reached.
    """
    parts = _split(address)
    if parts.scheme.lower() not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise VtccError(f"{parts.scheme}://: no kind of address that is read; known: {known}")
    shown_as = shown(address)
    host = unquote(parts.netloc.rpartition("@")[2])
    if host in ("", ".", "..") or "/" in host:  # it would lead out of its place
        raise VtccError(f"{shown_as}: no host or bucket; write it behind {parts.scheme}://")
    named = PurePosixPath(host + unquote(parts.path))
    if named.is_absolute() or ".." in named.parts or "\0" in str(named):
        raise VtccError(f"{shown_as}: leads through '..'; give the address itself")
    target = place / named
    try:
        import fsspec
        from fsspec.callbacks import Callback

        system, root = fsspec.url_to_fs(address)
        system.invalidate_cache()  # lists are kept as long as the process lives
        if is_file := _is_wanted(named.name, wanted):
            found = {named.name: (root, system.info(root).get("size"))}
            target = target.parent
        else:
            found = {}
            marks = []
            for name, entry in _below(system, root):
                path = PurePosixPath(name)
                if marks_results(path):
                    marks.append(path)
                if _is_wanted(name, wanted):
                    found[name] = entry
                _check_count(shown_as, len(found) + len(marks))
            there = found.keys()  # what is left out as well: another address may lead to it
            if results := results_in(marks):
                found = {
                    n: e for n, e in found.items() if results.isdisjoint(PurePosixPath(n).parents)
                }
                note(f"{shown_as}: left out {in_words(Counter({RESULTS: len(results)}))}")
        if not found:
            raise VtccError(
                f"{shown_as}: no images there; give a folder, a file or a page of links"
            )
        room = _Room(shown_as)
        room.take(sum(size or 0 for _, size in found.values()))  # before the first is copied
        note(f"{shown_as}: {several(len(found), 'files')}, copied to {target}")
        if not is_file and (gone := _delete_others(target, place, there)):
            note(f"{shown_as}: {several(gone, 'files')} of an earlier copy deleted, as gone there")

        long_films: list[str] = []

        def copy(name: str) -> None:
            file, (source, size) = target / name, found[name]
            if size is None and file.is_file():  # as in a page of links
                size = system.info(source).get("size")
            if size is not None and file.is_file() and file.stat().st_size == size:
                return
            counted = size or 0

            def check(_: int | None, copied_bytes: int, **__: Any) -> None:
                nonlocal counted
                room.check_file(name, copied_bytes, is_image=not name.lower().endswith(wanted))
                room.take(max(copied_bytes - counted, 0))
                counted = max(copied_bytes, counted)

            try:
                check(None, counted)
                with atomic_file(file) as building:  # checked after each piece, to stop on the way
                    system.get_file(source, str(building), callback=Callback(hooks={"size": check}))
                    folder.keep_time(building, file)  # of what is of unknown size, and the same
            except _LongFilmError:
                if is_file:
                    raise
                long_films.append(name)

        for _ in track(in_threads(copy, found, batch=1), "copy", len(found), every=100):
            pass
        if long_films:
            most = f"{bounds.DATASET_FILE_BYTES // bounds.MIB} MiB"
            note(f"{shown_as}: {several(len(long_films), 'videos')} left out, longer than {most}")
    except VtccError:
        raise
    except ImportError as error:
        why = in_one_line(error)
        raise MissingExtra(f"{shown_as}: {why}: {install('remote')}") from None
    except Exception as error:  # each kind of storage has errors of its own
        cause = error.__cause__ or error  # by http anything is a FileNotFoundError
        why = bare(in_one_line(cause, 1000).replace(address, shown_as))[:200]
        refused = 400 <= getattr(cause, "status", 0) < 500
        if refused or isinstance(cause, FileNotFoundError | PermissionError):
            raise VtccError(f"{shown_as}: cannot be read ({why})") from None
        raise TemporaryError(f"{shown_as}: cannot be reached ({why})") from None
    return target / named.name if is_file else target


class _LongFilmError(VtccError):
    """A film is too long to be copied for one picture, which costs the others nothing."""


class _Room:
    """Counts what is copied from an address, in any number of threads, and stops at a bound."""

    def __init__(self, shown_as: str):
        self.shown_as = shown_as
        self.taken = 0
        self.lock = threading.Lock()

    def take(self, size: int) -> None:
        with self.lock:
            self.taken += size
            taken = self.taken
        if taken > bounds.COPIED_BYTES:
            raise VtccError(
                f"{self.shown_as}: more than {bounds.COPIED_BYTES // bounds.MIB} MiB; copy what "
                "you need of it by hand, and name the folder"
            )

    def check_file(self, name: str, size: int, *, is_image: bool) -> None:
        if is_image and size > bounds.DATASET_FILE_BYTES:
            refused = _LongFilmError if name.lower().endswith(camera.FILMS) else VtccError
            raise refused(
                f"{self.shown_as}: {name!r} has more than {bounds.DATASET_FILE_BYTES // bounds.MIB}"
                " MiB, as no image has that is read; copy the others by hand, and name the folder"
            )


def _check_count(shown_as: str, names: int) -> None:
    if names > bounds.ARCHIVE_ENTRIES:
        raise VtccError(
            f"{shown_as}: more than {bounds.ARCHIVE_ENTRIES} names; give addresses of parts of it"
        )


def _delete_others(target: Path, place: Path, names: Collection[str]) -> int:
    """Deletes the files of a copy of a folder that have none of the names, and counts them."""
    if target.resolve() != place.resolve() / target.relative_to(place):  # by a link, elsewhere
        return 0
    kept, deleted = {str(PurePosixPath(name)) for name in names}, 0
    for top, folders, files in os.walk(target):
        if STAMP in files:  # images of a shard, which are no copies
            folders.clear()
            continue
        # Nothing hidden is listed; what is there is the copy of another address.
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(top, name) for name in files):
            if file.relative_to(target).as_posix() not in kept:
                file.unlink()
                deleted += 1
    return deleted


def _is_wanted(name: str, wanted: tuple[str, ...]) -> bool:
    return unwanted(PurePosixPath(name)) is None or name.lower().endswith(wanted)


def _below(system: Any, root: str) -> Iterator[tuple[str, tuple[str, int | None]]]:
    """Name below the root -> where it is, and its size, of the files that are not hidden."""
    top = root.rstrip("/") + "/"
    is_page = "://" in root
    listed = _linked(system, top) if is_page else system.find(root, detail=True).items()
    for source, about in listed:
        name = unquote(source.removeprefix(top)) if is_page else source.removeprefix(top)
        parts = PurePosixPath(name).parts
        inside = source.startswith(top) and not {"..", "/"} & set(parts) and "\0" not in name
        if inside and not any(p.startswith(".") for p in parts):
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
            _check_count(shown(top), len(seen))
            if about["type"] == "directory":
                waiting.append(name)
            else:
                yield name, about
