"""Files from the web: resumed after a break, verified, and whole or not there at all.

Beside a download `NAME` lie `NAME.part`, what has arrived, and `NAME.json`, which version of the
server's file that is. Both survive a failed run, so that the next one goes on.
"""

import contextlib
import hashlib
import json
import random
import re
import shutil
import time
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from vtcc import json_file, progress
from vtcc.atomic import write_text
from vtcc.errors import TemporaryError, VtccError, without_passwords
from vtcc.regular import regular

ATTEMPTS = 5
_CHUNK = 1 << 20
_TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_PAUSE = 60.0


class NotServedError(VtccError):
    """The server answers, but has no such file for us."""


class _BrokenOffError(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is known of a file beforehand; None where nothing is."""

    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def proven(self) -> bool:
        """Whether a checksum can tell that a file is the right one."""
        return bool(self.sha256 or self.md5)


@dataclass(frozen=True)
class _Version:
    """Which state of the server's file a part belongs to."""

    url: str  # without user and password
    etag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """What If-Range takes: a strong ETag, else the time of the last change."""
        strong = self.etag and not self.etag.startswith("W/")
        return self.etag if strong else self.modified


def fetch(url: str, target: Path, expected: Expected) -> Path:
    """Downloads a file, or goes on where an earlier call was cut off.

    Only one call at a time may be at work on a target: callers see to that. A finished download
    is used again if its checksum is known, or if the server says that its file is unchanged.

    Args:
        url: http or https; redirects may lead to these only.
        target: where the file appears once it is complete and verified.
        expected: what it must be.

    Returns:
        `target`.

    Raises:
        NotServedError: when the server refuses the file or has none.
        TemporaryError: when the network or the server fails again and again; what has arrived
            is kept.
        VtccError: when the file is not what was expected (it is deleted), leads elsewhere than to
            the web, or does not fit on the disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file() and expected.proven:
        with contextlib.suppress(VtccError):
            verify(target, expected, remove=True)
            return target
    _persist(url, target, expected)
    verify(_part(target), expected, remove=True, source=without_passwords(url))
    _part(target).replace(target)
    return target


def verify(file: Path, expected: Expected, *, remove: bool, source: str | None = None) -> None:
    """Compares a file's size and checksum with what is known of them.

    Args:
        file: to check.
        expected: what is known.
        remove: delete it when it is wrong, so that nobody uses it again.
        source: where it came from, for the message; the file itself by default.

    Raises:
        VtccError: when it differs, naming what was expected and found.
    """
    pairs: list[tuple[str, Any, Any]] = [("bytes", expected.bytes, file.stat().st_size)]
    for kind in ("sha256", "md5"):
        if wanted := getattr(expected, kind):
            with regular(file).open("rb") as content:
                pairs.append((kind, wanted, hashlib.file_digest(content, kind).hexdigest()))
    for kind, wanted, actual in pairs:
        if wanted is not None and wanted != actual:
            if remove:
                file.unlink()
                _note(file).unlink(missing_ok=True)
            rest = "it was deleted; try again, or" if remove else "replace it, or"
            raise VtccError(
                f"{source or file}: expected {kind} {wanted}, found {actual}; damaged or changed: "
                f"{rest} correct the dataset's card if the new file is right"
            )


def _persist(url: str, target: Path, expected: Expected) -> None:
    """Attempts until the part is complete; an attempt that brought bytes does not count."""
    failures, shown = 0, without_passwords(url)
    while True:
        before = _size(_part(target))
        try:
            return _attempt(url, target, expected)
        except (_BrokenOffError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failures = 1 if _size(_part(target)) > before else failures + 1
            reason = _reason(error)
            if failures >= ATTEMPTS:
                have = _size(_part(target))
                kept = f"; {have} bytes are kept, run `vtcc download` again to go on"
                raise TemporaryError(
                    f"{shown}: cannot be downloaded ({reason}){kept if have else ''}"
                ) from None
            asked = error.pause if isinstance(error, _BrokenOffError) else 0.0
            progress.note(f"{shown}: {reason}; trying again")
            _pause(failures, asked)


def _reason(error: Exception) -> str:
    """What went wrong, without the wrappings of requests and urllib3."""
    inner = error.args[0] if error.args else error
    text = " ".join(str(getattr(inner, "reason", inner)).split())
    text = re.sub(r"^\w+\(host=.*?\): ", "", text) or type(error).__name__
    return without_passwords(text)


def _pause(failures: int, asked: float) -> None:
    """Waits twice as long after each failure, jittered so that clients do not come in step."""
    time.sleep(min(max(asked, 2.0**failures * random.uniform(0.5, 1.5)), _LONGEST_PAUSE))


def _attempt(url: str, target: Path, expected: Expected) -> None:
    part, version, shown = _part(target), _read_note(target), without_passwords(url)
    named = _known_by(url)
    have = _size(part)
    if version is None or version.url != named or not (version.validator or expected.proven):
        have = 0  # nothing would tell whether the rest belongs to it
    headers = {"Accept-Encoding": "identity"}
    if have and version:
        headers["Range"] = f"bytes={have}-"
        if version.validator:
            headers["If-Range"] = version.validator
    elif target.is_file() and version and version.url == named:
        headers |= _unchanged(version)
    with _open(url, headers) as answer:
        if answer.status_code == 304:
            target.replace(part)
            return
        if answer.status_code == 416:
            if _is_whole(answer, version, have):
                return
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server's file is shorter than what has arrived")
        _refuse(shown, answer)
        now = _version(named, answer)
        if answer.status_code == 206 and not _continues(answer, version, now, have):
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server's file has changed; starting afresh")
        start = have if answer.status_code == 206 else 0
        _check_size(shown, now, expected)
        _check_room(target, (now.total or 0) - start)
        target.unlink(missing_ok=True)
        write_text(_note(target), json.dumps(asdict(now)))
        _receive(answer, part, start, now.total)


def _receive(answer: requests.Response, part: Path, start: int, total: int | None) -> None:
    done, shown = start, time.monotonic()
    with part.open("ab" if start else "wb") as out:
        for block in answer.raw.stream(_CHUNK, decode_content=False):
            out.write(block)
            done += len(block)
            if total and time.monotonic() - shown > 2:
                shown = time.monotonic()
                progress.report("download", done, total, file=part.stem, unit="bytes")
    if total is not None and done != total:
        raise _BrokenOffError(f"{done} of {total} bytes arrived")


def _open(url: str, headers: dict[str, str]) -> requests.Response:
    """GETs with redirects followed by hand, each looked at first."""
    at, shown = url, without_passwords(url)
    for _ in range(10):
        session = requests.Session()
        # A proxy of the environment cannot reach, and must not see, what runs on this machine.
        session.trust_env = not _is_loopback(at)
        answer = session.get(
            at, headers=headers, stream=True, timeout=_TIMEOUT, allow_redirects=False
        )
        if answer.status_code not in _REDIRECTS or "Location" not in answer.headers:
            return answer
        answer.close()
        new = urljoin(at, answer.headers["Location"])
        parts, to = urlsplit(new), without_passwords(new)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise VtccError(f"{shown}: redirects to {to!r}, which is not on the web; not followed")
        if urlsplit(at).scheme == "https" and parts.scheme == "http":
            raise VtccError(f"{shown}: redirects from https to {to!r}; not followed")
        if _is_loopback(new) and not _is_loopback(at):
            raise VtccError(f"{shown}: redirects to this machine ({to!r}); not followed")
        at = new
    raise VtccError(f"{shown}: more than 10 redirects; correct the address")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _refuse(url: str, answer: requests.Response) -> None:
    status = answer.status_code
    if status in _PASSING:
        asked = answer.headers.get("Retry-After", "")
        raise _BrokenOffError(f"HTTP status {status}", float(asked) if _is_number(asked) else 0.0)
    if status not in (200, 206):
        raise NotServedError(f"{url}: HTTP status {status} {answer.reason}")


def _version(url: str, answer: requests.Response) -> _Version:
    total = answer.headers.get("Content-Length", "")
    if answer.status_code == 206:
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return _Version(
        url,
        answer.headers.get("ETag"),
        answer.headers.get("Last-Modified"),
        int(total) if _is_number(total) else None,
    )


def _continues(answer: requests.Response, old: _Version | None, now: _Version, have: int) -> bool:
    """Whether a 206 brings the rest of the very file that has begun to arrive."""
    starts = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    if old is None or not starts:
        return False
    same = [(old.etag, now.etag), (old.modified, now.modified), (old.total, now.total)]
    return all(a == b for a, b in same if a is not None and b is not None)


def _is_whole(answer: requests.Response, old: _Version | None, have: int) -> bool:
    """Whether nothing is left to ask for: a kill came between the last byte and the renaming."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    now = int(total) if _is_number(total) else old.total if old else None
    same = old is not None and now == have and old.total in (None, have)
    etag = answer.headers.get("ETag")
    return same and (etag is None or old is None or old.etag in (None, etag))


def _unchanged(version: _Version) -> dict[str, str]:
    if version.etag:
        return {"If-None-Match": version.etag}
    return {"If-Modified-Since": version.modified} if version.modified else {}


def _check_size(url: str, now: _Version, expected: Expected) -> None:
    if expected.bytes and now.total is not None and now.total != expected.bytes:
        raise VtccError(
            f"{url}: expected {expected.bytes} bytes, the server offers {now.total}; the file has "
            "changed: correct the dataset's card if the new one is right"
        )


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise VtccError(
            f"{target.parent}: {needed >> 20} MiB are still to come, but {free >> 20} MiB are "
            "free; make room, then re-run"
        )


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _note(target: Path) -> Path:
    return target.with_name(f"{target.name.removesuffix('.part')}.json")


def _known_by(url: str) -> str:
    """An address in the note: readable, without passwords, and another one for another query."""
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return f"{without_passwords(url)} {hashlib.sha256(bare.encode()).hexdigest()[:16]}"


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _read_note(target: Path) -> _Version | None:
    try:
        return _Version(**json_file.parsed(_note(target)))
    except (OSError, ValueError, TypeError):
        return None


def _is_number(header: str) -> bool:
    """Whether a header is decimal digits: `isdigit` alone takes superscripts too."""
    return header.isascii() and header.isdigit()
