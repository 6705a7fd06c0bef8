"""`vtcc api` for as long as one likes, asked by good and hostile clients: does it stay what it is?

    python -m benchmarks.soak [--minutes 30] [--at-once 16] [--seed 0]

Starts `vtcc api` with a toy model in a process of its own, and keeps sixteen clients at it: images
of many sizes and formats, alone and in batches, slow bodies, clients that hang up, wrong content
types, lengths that lie, bombs, pages of other sites that ask for a reload. Every good request must
get the answer that `vtcc predict` gives, every other one a refusal of its kind, none a 5xx. A table
says what was asked and answered; latencies and memory over time follow. Exit status 1 where an
answer was wrong, or memory grew: the median of the last third is above that of the first by more
than a tenth.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil

from benchmarks.fuzz import pictures

MOST_GROWTH = 1.1
_PATIENCE = 120.0  # seconds until an answer counts as none
_EVERY = 0.5  # seconds between two looks at the memory
_LIMIT = 1 << 20  # bytes of a request: --max-mib
_HANG_UP = "hung up"
_JSON = {"Content-Type": "application/json"}

Answer = tuple[int | str, Any]  # status, or what happened instead; what was answered


@dataclass(frozen=True)
class Picture:
    """An image file and what the engine says of it."""

    kind: str  # such as `image/png`
    data: bytes
    cluster: int
    confidence: float


@dataclass
class Soak:
    """What is sent and what came of it.

    Attributes:
        statuses: kind of request -> status -> times. wrong: each bad answer, in words.
        seconds: of the good requests that nothing slowed down.
        memory: seconds since the beginning, bytes.
    """

    port: int
    pictures: list[Picture]
    draw: random.Random
    statuses: dict[str, Counter[int | str]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    async def ask(self, session: aiohttp.ClientSession, name: str) -> None:
        """Sends one request of a kind and judges the answer."""
        send, expected = KINDS[name][1:]
        try:
            async with asyncio.timeout(_PATIENCE):
                status, wrong = await send(self, session)
        except (OSError, aiohttp.ClientError, TimeoutError, EOFError) as error:
            status, wrong = type(error).__name__, f"no answer ({error})"
        if not wrong and status not in expected:
            wrong = f"answered {status}"
        self.statuses[name][status] += 1
        if wrong:
            self.wrong.append(f"{name}: {wrong}")


async def _post(
    session: aiohttp.ClientSession, body: Any, kind: str | None, path: str = "/invocations", **more
) -> tuple[int, bytes]:
    headers = {**({"Content-Type": kind} if kind else {}), **more}
    skip = () if kind else ("Content-Type",)
    async with session.post(path, data=body, headers=headers, skip_auto_headers=skip) as answer:
        return answer.status, await answer.read()


def _records(files: list[bytes]) -> bytes:
    rows = [{"image": base64.b64encode(data).decode()} for data in files]
    return json.dumps({"dataframe_records": rows}).encode()


def _differs(status: int, text: bytes, asked: list[Picture]) -> str:
    """What is wrong with the answer to a good request; empty where nothing is."""
    if status != 200:
        return f"answered {status}: {text[:200]!r}"
    rows = json.loads(text)["predictions"]
    if [row["cluster"] for row in rows] != [picture.cluster for picture in asked]:
        return "other clusters"
    gaps = [abs(r["confidence"] - p.confidence) for r, p in zip(rows, asked, strict=True)]
    return "other confidences" if max(gaps) > 1e-4 else ""


async def image(soak: Soak, session: aiohttp.ClientSession) -> Answer:
    """A file as it is."""
    picture, start = soak.draw.choice(soak.pictures), time.perf_counter()
    status, text = await _post(session, picture.data, picture.kind)
    soak.seconds.append(time.perf_counter() - start)
    return status, _differs(status, text, [picture])


async def batch(soak: Soak, session: aiohttp.ClientSession) -> Answer:
    """Some files in JSON."""
    asked, start = (
        soak.draw.choices(soak.pictures, k=soak.draw.randrange(1, 6)),
        time.perf_counter(),
    )
    status, text = await _post(session, _records([p.data for p in asked]), "application/json")
    soak.seconds.append(time.perf_counter() - start)
    return status, _differs(status, text, asked)


async def slow(soak: Soak, session: aiohttp.ClientSession) -> Answer:
    """A file in pieces, with pauses between them."""
    picture = soak.draw.choice(soak.pictures)

    async def pieces() -> Any:
        size = len(picture.data) // 4 + 1
        for at in range(0, len(picture.data), size):
            yield picture.data[at : at + size]
            await asyncio.sleep(soak.draw.uniform(0, 0.5))

    status, text = await _post(session, pieces(), picture.kind)
    return status, _differs(status, text, [picture])


async def about(soak: Soak, session: aiohttp.ClientSession) -> Answer:
    """What serves."""
    async with session.get("/model") as answer:
        told = await answer.json()
    return answer.status, "" if told.get("version") == "1" else f"version {told}"


async def reload(soak: Soak, session: aiohttp.ClientSession) -> Answer:
    """The model anew; answers go on meanwhile."""
    return (await _post(session, b"{}", "application/json", "/reload"))[0], ""


def posts(
    body: Callable[[Soak], bytes],
    kind: str | None = "application/json",
    path: str = "/invocations",
    **more,
) -> Callable[[Soak, aiohttp.ClientSession], Awaitable[Answer]]:
    """A request that is refused: what it says is one short line."""

    async def send(soak: Soak, session: aiohttp.ClientSession) -> Answer:
        status, text = await _post(session, body(soak), kind, path, **more)
        said = str(json.loads(text).get("error") or json.loads(text).get("message"))
        clear = said and said != "None" and "\n" not in said and len(said) <= 500
        return status, "" if clear and "Traceback" not in said else f"says {said[:200]!r}"

    return send


def gets(path: str, **headers: str) -> Callable[[Soak, aiohttp.ClientSession], Awaitable[Answer]]:
    """A request for a page."""

    async def send(soak: Soak, session: aiohttp.ClientSession) -> Answer:
        async with session.get(path, headers=headers) as answer:
            await answer.read()
            return answer.status, ""

    return send


def raw(
    head: str,
    body: Callable[[Soak], bytes] = lambda soak: b"",
    *,
    wait: bool = True,
    ends: bool = False,
) -> Callable[[Soak, aiohttp.ClientSession], Awaitable[Answer]]:
    """Lines of HTTP as they are; then an answer is waited for, or the client hangs up.

    Where it `ends`, no other answer comes behind it.
    """

    async def send(soak: Soak, session: aiohttp.ClientSession) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", soak.port)
        try:
            lines = head.replace("\n", "\r\n").replace("HOST", f"127.0.0.1:{soak.port}")
            writer.write(lines.encode() + body(soak))
            await writer.drain()
            if not wait:
                await asyncio.sleep(soak.draw.uniform(0, 0.3))
                return _HANG_UP, ""
            line = await reader.readline()
            more = await reader.read() if ends else b""
            wrong = "another answer behind it" if b"HTTP/1.1 " in more else ""
            return int(line.split()[1]) if line else "closed", wrong
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    return send


_POST = "POST /invocations HTTP/1.1\nHost: HOST\nContent-Type: {}\n{}\n\n"


_LENGTH, _CHUNKED = "Content-Length: 5", "Transfer-Encoding: chunked"


def _inside(soak: Soak) -> bytes:
    """By its chunks one request ends here and another begins; by its length it does not."""
    return f"0\r\n\r\nGET /model HTTP/1.1\r\nHost: 127.0.0.1:{soak.port}\r\n\r\n".encode()


def _half(soak: Soak) -> bytes:
    return soak.draw.choice(soak.pictures).data[:40]


_BOMBS = {
    "png": pictures.png(size=(60_000, 60_000)),
    "tiff": b"II*\0\x08\0\0\0"
    + pictures.exif(
        *((256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)),
        *((277, 3, 1, 1), (322, 4, 1, 60_000), (323, 4, 1, 60_000)),
        *((324, 4, 1, 8), (325, 4, 1, 99)),
    )[8:],
    "gif": b"GIF89a" + b"\xff" * 4 + b"\x80\0\0" + bytes(6) + b",\0\0\0\0\1\0\1\0\0\2\1\x2c\0;",
}


def _bomb(kind: str) -> Callable[[Soak], bytes]:
    return lambda soak: _BOMBS[kind]


# Kind -> how often, how it is sent, and which answers are right.
KINDS: dict[str, tuple[float, Callable[[Soak, aiohttp.ClientSession], Awaitable[Answer]], set]] = {
    "an image": (30, image, {200}),
    "some images": (15, batch, {200}),
    "a slow image": (4, slow, {200}),
    "GET /model": (3, about, {200}),
    "reload": (0.05, reload, {200}),
    "half a request": (
        *(4, raw(_POST.format("image/png", "Content-Length: 5000"), _half, wait=False)),
        {_HANG_UP},
    ),
    "half a header": (3, raw("POST /invocations HTTP/1.1\nHost: H", wait=False), {_HANG_UP}),
    "a request, no ear": (
        *(4, raw(_POST.format("image/png", "Content-Length: 40"), _half, wait=False)),
        {_HANG_UP},
    ),
    "chunks without end": (
        *(
            2,
            raw(_POST.format("image/png", "Transfer-Encoding: chunked") + "5\nabcde\n", wait=False),
        ),
        {_HANG_UP},
    ),
    "a chunk of no size": (
        *(2, raw(_POST.format("image/png", "Transfer-Encoding: chunked") + "xyz\nabcde\n")),
        {400},
    ),
    "a length of 1 TB": (2, raw(_POST.format("image/png", f"Content-Length: {10**12}")), {413}),
    "a length of 2^70": (2, raw(_POST.format("image/png", f"Content-Length: {2**70}")), {400, 413}),
    "a length below 0": (2, raw(_POST.format("image/png", "Content-Length: -5")), {400}),
    "two lengths": (
        *(2, raw(_POST.format("image/png", "Content-Length: 5\nContent-Length: 6"), _half)),
        {400},
    ),
    "a length and chunks": (
        *(2, raw(_POST.format("image/png", f"{_LENGTH}\n{_CHUNKED}"), _inside, ends=True)),
        {400},
    ),
    "chunks and a length": (
        *(2, raw(_POST.format("image/png", f"{_CHUNKED}\n{_LENGTH}"), _inside, ends=True)),
        {400},
    ),
    "no HTTP": (2, raw("\x16\x03\x01 hello\n\n"), {400}),
    "a header of 1 MB": (1, raw(_POST.format("image/png", "X: " + "x" * (1 << 20))), {400, 431}),
    "text": (2, posts(lambda s: b"a", "text/plain"), {415}),
    "a form": (2, posts(lambda s: b"a=b", "application/x-www-form-urlencoded"), {415}),
    "no type": (2, posts(lambda s: b"{}", None), {415}),
    "no image": (2, posts(lambda s: s.draw.randbytes(999), "image/jpeg"), {400}),
    "half an image": (2, posts(lambda s: s.draw.choice(s.pictures).data[:60], "image/png"), {400}),
    "bomb of png": (3, posts(_bomb("png"), "image/png"), {400}),
    "bomb of tiff": (3, posts(_bomb("tiff"), "image/tiff"), {400}),
    "bomb of gif": (3, posts(_bomb("gif"), "image/gif"), {400}),
    "deep JSON": (3, posts(lambda s: b"[" * 100_000), {400}),
    "JSON of many values": (3, posts(lambda s: b"[" + b"0," * 200_000 + b"0]"), {413}),
    "no JSON": (2, posts(lambda s: s.draw.randbytes(2000)), {400}),
    "JSON of no image": (2, posts(lambda s: _records([b"words"])), {400}),
    "a long number": (
        1,
        posts(lambda s: b'{"dataframe_records": [{"image": ' + b"9" * 9999 + b"}]}"),
        {400},
    ),
    "5,000 images": (1, posts(lambda s: _records([b"x"] * 5000)), {400}),
    "2 MiB": (1, posts(lambda s: b"x" * 2 * _LIMIT), {413}),
    "reload by a page": (
        *(3, posts(lambda s: b"{}", "application/json", "/reload", Origin="http://evil.example")),
        {403},
    ),
    "reload by a form": (2, posts(lambda s: b"a=b", "text/plain", "/reload"), {403}),
    "image by a page": (
        *(2, posts(lambda s: s.pictures[0].data, "image/png", Origin="http://evil.example")),
        {403},
    ),
    "another host": (2, gets("/model", Host="evil.example"), {400}),
    "no page": (1, gets("/../../etc/passwd"), {404}),
    "hidden pages": (1, gets("/docs"), {404}),
}


def toy_model(home: Path) -> tuple[str, list[Picture]]:
    """Registers a toy model in a project at `home`; its URI, and images with their answers."""
    import pillow_heif
    from PIL import Image

    from tests.tracking import toy
    from vtcc.data import images
    from vtcc.data.cache import open_cache
    from vtcc.engine import predict
    from vtcc.tracking import registry, runs

    pillow_heif.register_heif_opener()
    toy.project(home)
    model = toy.model(home / "models" / "model", 5)
    tracker = runs.TrainingRun(params=toy.params(), cache=open_cache(home / "data" / "cache"))
    tracker.on_start({"parameters": 1, "resumed_run_id": None})
    tracker.on_end("FINISHED", [], model)
    version = registry.register("soak", tracker.run_id, model)
    predictor = predict.load(model, "cpu")
    made = []
    for i, pixels in enumerate(toy.images(24)):
        size = [(16, 16), (40, 30), (640, 480), (900, 1000)][i % 4]
        kind = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")[i % 8]
        file = io.BytesIO()
        grey = Image.fromarray(pixels[..., 0]).resize(size)
        mode = "RGB" if kind in ("AVIF", "HEIF") or i % 3 == 0 else "L"
        grey.convert(mode).save(file, kind)
        if file.tell() < _LIMIT // 8:
            made.append((f"image/{kind.lower()}", file.getvalue()))
    decoded = np.stack([images.load(data, **predictor.decoding) for _, data in made])
    said = predictor.predict(decoded)
    return f"models:/{version.name}@champion", [
        Picture(kind, data, int(cluster), float(confidence))
        for (kind, data), cluster, confidence in zip(
            made, said.cluster, said.confidence, strict=True
        )
    ]


async def soaked(soak: Soak, server: psutil.Process, seconds: float, at_once: int) -> None:
    """Keeps so many clients asking for so long, each kind once before that."""
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    connector = aiohttp.TCPConnector(limit=at_once)
    base = f"http://127.0.0.1:{soak.port}"
    async with aiohttp.ClientSession(base, timeout=timeout, connector=connector) as session:
        for name in KINDS:  # all that is loaded at a first request is there
            await soak.ask(session, name)
        start = time.monotonic()
        names, weights = list(KINDS), [weight for weight, _, _ in KINDS.values()]

        async def client() -> None:
            while time.monotonic() - start < seconds and server.is_running():
                await soak.ask(session, soak.draw.choices(names, weights)[0])

        async def watch() -> None:
            while True:
                family = [server, *server.children(recursive=True)]
                memory = sum(process.memory_info().rss for process in family)
                soak.memory.append((time.monotonic() - start, memory))
                await asyncio.sleep(_EVERY)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(client() for _ in range(at_once)))
        watching.cancel()
        for name in ("an image", "some images"):
            await soak.ask(session, name)


@dataclass(frozen=True)
class Server:
    """A `vtcc api` that answers.

    Attributes:
        pictures: what it can be asked. wrong: tracebacks that it printed, told once it has ended.
    """

    process: subprocess.Popen[bytes]
    port: int
    pictures: list[Picture]
    wrong: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(*more: str) -> Iterator[Server]:
    """`vtcc api` of a toy model, with these arguments; a new current directory meanwhile."""
    with tempfile.TemporaryDirectory(prefix="vtcc-soak-") as name, contextlib.chdir(name):
        home = Path(name)
        os.environ["VTCC_HOME"] = name
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        uri, good = toy_model(home)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = Server(_started(home, uri, port, *more), port, good)
        try:
            yield server
            if (status := server.process.poll()) is not None:
                server.wrong.append(f"the server ended by status {status}")
        finally:
            server.process.send_signal(signal.SIGINT)
            server.process.wait(60)
        log = (home / "server.log").read_text(encoding="utf-8", errors="replace")
        if tracebacks := log.count("Traceback"):
            server.wrong.append(f"{tracebacks} tracebacks of the server: {log[-500:]}")


def _started(home: Path, uri: str, port: int, *more: str) -> subprocess.Popen[bytes]:
    """`vtcc api`, answering; what it says goes to `home`/server.log."""
    words = [sys.executable, "-m", "vtcc", "api", "--model", uri, "--port", str(port)]
    words += ["--max-mib", str(_LIMIT >> 20), *more]
    with (home / "server.log").open("wb") as log:
        env = os.environ | {"VTCC_HOME": str(home)}
        server = subprocess.Popen(words, cwd=home, env=env, stdout=log, stderr=log)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return server
        time.sleep(0.2)
    sys.exit("vtcc api did not start: " + (home / "server.log").read_text()[-500:])


def growth(memory: list[tuple[float, int]]) -> float:
    """The median of the last third over that of the first."""
    values, third = [value for _, value in memory], max(len(memory) // 3, 1)
    return float(np.median(values[-third:]) / np.median(values[:third]))


def report(soak: Soak) -> bool:
    """Prints what came of it; whether all is well."""
    print(f"{'request':22} {'sent':>7}  answers")
    for name, counts in soak.statuses.items():
        answers = ", ".join(f"{status}: {times}" for status, times in counts.most_common())
        print(f"{name:22} {counts.total():7}  {answers}")
    middle, slowest = np.percentile(soak.seconds, (50, 99))
    print(f"good requests: median {1e3 * middle:.0f} ms, p99 {1e3 * slowest:.0f} ms")
    for at in np.linspace(0, len(soak.memory) - 1, min(len(soak.memory), 12)).astype(int):
        seconds, memory = soak.memory[at]
        print(f"memory after {seconds:6.0f} s: {memory / 2**20:.0f} MiB")
    grown = growth(soak.memory)
    flat = grown <= MOST_GROWTH
    verdict = "flat" if flat else "not flat"
    print(f"memory: {verdict}, the last third's median is {grown:.3f} of the first's")
    for line, times in Counter(soak.wrong).most_common(20):
        print(f"failed, {times}: {line}")
    print(f"failed: {len(soak.wrong)} of {sum(c.total() for c in soak.statuses.values())}")
    return flat and not soak.wrong


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with serving() as server:
        draw = random.Random(options.seed)
        soak = Soak(server.port, server.pictures, draw, wrong=server.wrong)
        process = psutil.Process(server.process.pid)
        asyncio.run(soaked(soak, process, 60 * options.minutes, options.at_once))
    return int(not report(soak))


if __name__ == "__main__":
    sys.exit(main())
