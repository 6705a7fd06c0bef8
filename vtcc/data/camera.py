"""What cameras write beside pictures: the previews of RAW files, the first frames of films.

Of the extra `vtcc[camera]`: LibRaw (rawpy) and FFmpeg (PyAV). Both work in a process of their own
(`camera_child`), whose memory and time are bounded and whose end costs one file. What comes back
is a picture, JPEG or BMP, which the one decoder (`vtcc.data.images`) reads with all its bounds.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from vtcc import bounds
from vtcc.data import camera_child
from vtcc.data.budget import Share
from vtcc.data.raster import UnreadableImage, check_size
from vtcc.extras import install

RAW = (
    *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".orf", ".raf", ".rw2"),
    *(".rwl", ".pef", ".srw", ".3fr", ".iiq", ".erf", ".mrw"),
)
FILMS = (
    *(".mov", ".mp4", ".m4v", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".mpg"),
    *(".mpeg", ".wmv"),
)
INSTALL = install("camera")
_PACKAGES = {"rawpy": RAW, "av": FILMS}
_ANSWER_BYTES = 4096
_MOST_REFUSED = 50  # of one process: of some damaged films FFmpeg leaves the file open


@dataclass(frozen=True)
class Still:
    """The picture that stands for a file.

    Attributes:
        data: a JPEG or BMP.
        orientation: EXIF's number, whatever the picture says itself; 0: as that says.
    """

    data: bytes
    orientation: int


@cache
def suffixes() -> frozenset[str]:
    """Suffixes, in small letters, of what can be read with what is installed."""
    return frozenset(s for package, of in _PACKAGES.items() if find_spec(package) for s in of)


def hint(file: Path) -> str:
    """What would read a file that cannot be read; empty where that is not the extra."""
    suffix = file.suffix.lower()
    is_ours = suffix in (*RAW, *FILMS) and suffix not in suffixes()
    return f"; RAW files and films are read after {INSTALL}" if is_ours else ""


def still(file: Path, share: Share) -> Still:
    """The preview of a RAW file, or the first frame of a film.

    Args:
        file: with one of the `suffixes`.
        share: of what is decoded at a time; holds the picture that comes back.

    Raises:
        UnreadableImage: with the reason.
    """
    return _asked("film" if file.suffix.lower() in FILMS else "raw", file, share)


def film_time(file: Path, share: Share) -> str:
    """When a film was taken, in the words of its container. Arguments as of `still`.

    Raises:
        UnreadableImage: with the reason; where nothing is said, too.
    """
    return _asked("time of a film", file, share).data.decode()


def _asked(kind: str, file: Path, share: Share) -> Still:
    question = {
        "kind": kind,
        "file": os.path.abspath(file),  # noqa: PTH100 - with `..` as it is, links stay
        "max_pixels": share.max_pixels,
        "most": bounds.CAMERA_PREVIEW_BYTES,
    }
    with _turn:
        while True:
            child = _Child.running()
            try:
                return child.asked(question, share)
            except UnreadableImage:
                child.refused += 1
                if child.refused == _MOST_REFUSED:
                    end()
                raise
            except BaseException as ended:  # half of an answer may be left
                end()
                if not isinstance(ended, _EndedError):
                    raise
                if child.stopped:
                    raise UnreadableImage("interrupted") from None
                # No file is refused for what the files before it have left there.
                if child.answered == 0:
                    raise UnreadableImage(str(ended)) from None


def end() -> None:
    """Ends the process, if there is one; the next file starts another."""
    child, _Child.one = _Child.one, None
    if child is not None:
        child.process.kill()
        child.process.wait()
        for pipe in (child.process.stdin, child.process.stdout):
            with contextlib.suppress(OSError):  # a question that was never read
                pipe.close()  # type: ignore[union-attr]


def stop() -> None:
    """Ends the process in the midst of a file, for a caller that no longer waits for it."""
    if (child := _Child.one) is not None:
        child.stopped = True
        child.process.kill()


class _EndedError(Exception):
    """The process has ended, or should: why."""


class _Child:
    """The process.

    Attributes:
        one: that of this process, while it runs.
        answered: how many files it has told of. refused: how many of these are unreadable.
        stopped: nobody waits for its answer.
    """

    one: "_Child | None" = None

    def __init__(self) -> None:
        limits = (bounds.CAMERA_BYTES, bounds.CAMERA_SECONDS, bounds.CAMERA_PATIENCE)
        self.answered = self.refused = 0
        self.stopped = False
        self.process = subprocess.Popen(
            # -P: no folder that may hold strangers' files is looked through for modules.
            [sys.executable, "-P", camera_child.__file__, *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # LibRaw takes a camera's clock for one of this place, whose summer time has a gap.
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TZ": "UTC"},
            process_group=0,  # Ctrl-C is for this process, which then stops the other
        )

    @classmethod
    def running(cls) -> "_Child":
        if cls.one is None:
            cls.one = cls()
        return cls.one

    def asked(self, question: dict[str, Any], share: Share) -> Still:
        """Raises UnreadableImage, or _EndedError where the process is of no more use."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
            answer = json.loads(stdout.readline(_ANSWER_BYTES))
            size = int(answer.get("bytes", 0))
            if size > bounds.image_file_bytes(share.max_pixels):
                raise _EndedError(f"a picture of {size >> 20} MiB inside")
            share(max(1, size // 3))  # of a BMP its pixels
            data = stdout.read(size)
        except (OSError, ValueError):
            raise _EndedError(self._why()) from None
        if len(data) < size:
            raise _EndedError(self._why())
        if "memory" in answer:
            raise _EndedError(_more_than(f"{bounds.CAMERA_BYTES >> 20} MiB of memory"))
        self.answered += 1
        if "missing" in answer:
            raise UnreadableImage(
                f"what reads it is installed and cannot be loaded ({answer['missing']}); again: "
                f"{INSTALL}"
            )
        if "width" in answer:
            check_size(int(answer["width"]), int(answer["height"]), share.max_pixels)
        if not size:
            raise UnreadableImage(str(answer.get("reason") or "no picture in it"))
        return Still(data, int(answer.get("orientation", 0)))

    def _why(self) -> str:
        self.process.kill()  # of no effect where it has ended by itself
        status = self.process.wait()
        if status == -signal.SIGXCPU:
            return _more_than(f"{bounds.CAMERA_SECONDS} s of processor time")
        if status == -signal.SIGALRM:
            return _more_than(f"{bounds.CAMERA_PATIENCE} s")
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"damaged: its decoder ended ({how})"


def _more_than(limit: str) -> str:
    return f"decoding it takes more than {limit}"


def _forget() -> None:
    global _turn
    _turn, _Child.one = Lock(), None


_turn = Lock()  # of asking: one file at a time
os.register_at_fork(after_in_child=_forget)  # the process answers the one that started it
atexit.register(end)
