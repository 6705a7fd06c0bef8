"""Takes the picture out of RAW files and films: the program of a process of its own.

LibRaw and FFmpeg read what strangers wrote, and nothing in a file's header says what that takes.
So `vtcc.data.camera` runs this file as a process whose memory, processor time and patience the
kernel bounds; where one of them ends, the process does. It imports nothing of vtcc.

It reads a JSON object a line from stdin and answers each with one, which says why there is no
picture, or how many bytes follow: a JPEG as it lay in the file, or a BMP.
"""

import contextlib
import io
import json
import math
import os
import resource
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, BinaryIO

# What films of cameras and phones are, and nothing else: each further format is more code open to
# attack, and playlists among them lead to other files and addresses.
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,asf"
_CODECS = (
    "h264,hevc,libdav1d,av1,vp8,vp9,libvpx,libvpx-vp9,mpeg4,mpeg2video,mpeg1video,h263,mjpeg,"
    "prores,dvvideo,msmpeg4,msmpeg4v2,wmv1,wmv2,wmv3,vc1"
)
_OPTIONS = {
    "format_whitelist": _CONTAINERS,
    "codec_whitelist": _CODECS,
    "protocol_whitelist": "file",
}
# LibRaw's ways to turn a picture, as EXIF numbers them.
_FLIPS = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}
# Likewise of a film's matrix: the signs of what leads from x and from y to x, from both to y.
_TURNS: dict[tuple[int, ...], int] = {
    (1, 0, 0, 1): 1, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5, (0, -1, 1, 0): 6, (0, -1, -1, 0): 7, (0, 1, -1, 0): 8,
}  # fmt: skip
_ORIENTATION = 0x0112
_EDGES, _MOST = 1 << 20, (1 << 31) - 1  # pixels
_AS_SAID = 0  # an orientation: as the picture's own EXIF says
_NO_MEMORY = {"MemoryError", "LibRawUnsufficientMemoryError", "LibRawMemPoolOverflowError"}
_END, _BLOCK = 4096, 1 << 22  # bytes of a preview that are looked for in its file, read at a time
_LONGEST = 200  # characters of what a library says

Picture = tuple[int, int, Iterable[bytes | memoryview]]  # orientation, bytes, and these in pieces


class NoPicture(Exception):  # noqa: N818
    """Why there is none; `facts` are what the answer says beside that."""

    def __init__(self, reason: str = "", **facts: Any) -> None:
        super().__init__(reason)
        self.facts = {"reason": reason, **facts}


def _main() -> None:
    memory, seconds, patience = map(int, sys.argv[1:])
    with os.fdopen(os.dup(1), "wb") as answers:
        nothing = os.open(os.devnull, os.O_RDWR)  # what the libraries print
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        for line in sys.stdin.buffer:
            asked = json.loads(line)
            pieces: Iterable[bytes | memoryview] = ()
            try:
                read = _reader(asked["kind"], memory)
                _bound_time(seconds, patience)
                with open(asked["file"], "rb") as file:  # noqa: PTH123
                    orientation, size, pieces = read(file, asked["max_pixels"], asked["most"])
                answer: dict[str, Any] = {"bytes": size, "orientation": orientation}
            except NoPicture as none:
                answer = none.facts
            except ImportError as error:
                answer = {"missing": " ".join(str(error).split())[:_LONGEST]}
            except Exception as error:  # whatever the libraries raise
                names = {kind.__name__ for kind in type(error).__mro__}
                answer = {"memory": True} if names & _NO_MEMORY else {"reason": _in_words(error)}
            signal.setitimer(signal.ITIMER_REAL, 0)  # who asked may let it wait
            answers.write(json.dumps(answer).encode() + b"\n")
            left = answer.get("bytes", 0)
            for piece in pieces:
                left -= answers.write(piece)
            answers.flush()
            if left:  # who asked would wait for ever: better to end
                sys.exit(1)


Reader = Callable[[BinaryIO, int, int], Picture]
_readers: dict[str, Reader] = {}


def _reader(kind: str, memory: int) -> Reader:
    """How files of a kind are read; once its library is there, memory has a bound."""
    if kind not in _readers:
        _unbound_memory()
        try:
            if kind != "raw":
                import av

                av.logging.set_level(None)
                _readers[kind] = partial(_of_film if kind == "film" else _time_of_film, av)
            else:
                import rawpy
                from PIL import Image

                _readers[kind] = partial(_of_raw, rawpy, Image)
        finally:
            _bound_memory(memory)
    return _readers[kind]


def _unbound_memory() -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _bound_memory(more: int) -> None:
    """As many bytes as there are now and so many more; no file can be written, no core left."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:  # noqa: PTH123
        now = int(file.read().split()[0]) * resource.getpagesize()
        _set_limit(resource.RLIMIT_AS, now + more)
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        _set_limit(limit, 0)


def _bound_time(seconds: int, patience: int) -> None:
    """Seconds of processor time, and of any time, until the kernel ends this process."""
    _set_limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
    signal.setitimer(signal.ITIMER_REAL, patience)


def _set_limit(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    within = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (within, hard))


def _of_film(av: Any, file: BinaryIO, max_pixels: int, _most: int) -> Picture:
    """The first frame of the first stream of pictures that can be decoded."""
    # Titles and the like are of any encoding.
    with av.open(_path(file), options=_OPTIONS, metadata_errors="replace") as film:
        stream = film.streams.best("video")
        coder = stream and stream.codec_context
        if coder is None:
            raise NoPicture("a film without readable pictures, or a truncated one")
        if coder.name not in _CODECS.split(","):  # the list above is for finding streams alone
            raise NoPicture(f"a film in {coder.name}, which is not among what cameras write")
        _check_size(coder.width, coder.height, max_pixels)
        # FFmpeg counts the edges that it decodes into as well.
        coder.options = {"max_pixels": str(min(2 * max_pixels + _EDGES, _MOST))}
        coder.thread_count = 1
        for packet in film.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue  # of a film that was cut out of another one the first ones lack a start
            for frame in frames:
                if frame.is_corrupt:
                    continue
                _check_size(frame.width, frame.height, max_pixels)
                sides = [bytes(s) for s in frame.side_data if s.type.name == "DISPLAYMATRIX"]
                shown = frame.reformat(format="bgr24").planes[0]
                rows = memoryview(shown).cast("B")
                step, width = shown.line_size, 3 * frame.width
                lines = (rows[y * step : y * step + width] for y in range(frame.height))
                return _bmp(_turn(sides), frame.width, frame.height, lines)
    raise NoPicture("no frame of it can be decoded")


def _time_of_film(av: Any, file: BinaryIO, _max_pixels: int, _most: int) -> Picture:
    """When it was taken, as text in the place of a picture: a phone's clock, else the world's."""
    with av.open(_path(file), options=_OPTIONS, metadata_errors="replace") as film:
        said = film.metadata
    text = said.get("com.apple.quicktime.creationdate") or said.get("creation_time", "")
    data = text[:_LONGEST].encode()
    return _AS_SAID, len(data), [data]


def _turn(matrices: list[bytes]) -> int:
    """EXIF's number for a display matrix, to the nearest right angle; 1 without one."""
    if not matrices:
        return 1
    a, b, _, c, d, *_ = struct.unpack("=9i", matrices[0])
    upright = abs(a) + abs(d) >= abs(b) + abs(c)
    signs = tuple((v > 0) - (v < 0) for v in ((a, 0, 0, d) if upright else (0, c, b, 0)))
    return _TURNS.get(signs, 1)


def _of_raw(rawpy: Any, pillow: Any, file: BinaryIO, max_pixels: int, most: int) -> Picture:
    """The largest preview, as the camera made it; without one LibRaw's picture in half size."""
    with rawpy.imread(_path(file)) as raw:
        turn = _FLIPS.get(raw.sizes.flip, 1)
        try:
            preview = raw.extract_thumb()
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
            _check_size(raw.sizes.raw_width, raw.sizes.raw_height, max_pixels)
            pixels = raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8)
            turn = 1  # LibRaw has turned it
        else:
            if preview.format == rawpy.ThumbFormat.JPEG:
                data = preview.data
                if len(data) > most:
                    raise NoPicture(f"a preview of {len(data) >> 20} MiB; allowed: {most >> 20}")
                # Of a file that is cut off LibRaw may hand out memory that it never filled. It puts
                # EXIF of its own, 1.4 kB, into a preview's beginning.
                if not _holds(file, data[-min(_END, max(len(data) - 2048, 64)) :]):
                    raise NoPicture("truncated: its preview is not whole")
                return _AS_SAID if _says_turn(pillow, data) else turn, len(data), [data]
            pixels = preview.data
    height, width, bands = pixels.shape
    _check_size(width, height, max_pixels)
    if bands not in (1, 3):
        raise NoPicture(f"a picture of {bands} colours")
    order = [2, 1, 0] if bands == 3 else [0, 0, 0]
    lines = (pixels[y][:, order].tobytes() for y in range(height))
    return _bmp(turn, width, height, lines)


def _holds(file: BinaryIO, end: bytes) -> bool:
    """Whether these bytes lie somewhere in a file."""
    file.seek(0)
    before = b""
    while block := file.read(_BLOCK):
        if end in before + block:
            return True
        before = block[-len(end) :]
    return False


def _says_turn(pillow: Any, jpeg: bytes) -> bool:
    """Whether a preview says itself how it is turned, as those of some cameras do."""
    try:
        with pillow.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            image.info.pop("xmp", None)  # only EXIF turns a picture (`images.orientation`)
            return image.getexif().get(_ORIENTATION) in range(1, 9)
    except Exception:  # damage shows when it is decoded
        return False


def _bmp(orientation: int, width: int, height: int, lines: Iterable[bytes | memoryview]) -> Picture:
    """A BMP of lines from above, blue, green and red a byte each."""
    padding = bytes(-3 * width % 4)
    size = 54 + height * (3 * width + len(padding))

    def pieces() -> Iterable[bytes | memoryview]:
        yield struct.pack("<2sIII", b"BM", size, 0, 54)
        yield struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, 0, 0, 0, 0, 0)
        for line in lines:
            yield line
            yield padding

    return orientation, size, pieces()


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise NoPicture(width=width, height=height)


def _path(file: BinaryIO) -> str:
    """A name without a colon or odd bytes, by which a library opens the very same file."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise NoPicture("a pipe or a device, not a file")
    if not status.st_size:
        raise NoPicture("empty file (0 bytes)")
    return f"/dev/fd/{file.fileno()}"


def _in_words(error: Exception) -> str:
    said = getattr(error, "strerror", None) or error
    if isinstance(said, Exception) and said.args and isinstance(said.args[0], bytes):
        said = said.args[0].decode("utf-8", "replace")  # LibRaw's
    text = " ".join(str(said).split())[:_LONGEST] or type(error).__name__
    return f"damaged, or of a kind that is not read ({text})"


if __name__ == "__main__":
    _main()
