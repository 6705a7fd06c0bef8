"""`vtcc api` under load: answers, times and images per second of the served champion.

    python -m benchmarks.serving

Needs a registered champion (`make repro`). Starts `vtcc api`, compares its answers with those of
`vtcc predict`, sends 200 requests, eight at a time, then bodies that are no request, and writes
benchmarks/records/serving.json.
"""

import argparse
import base64
import csv
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from vtcc import paths

OUT = Path("benchmarks/records/serving.json")
Answer = tuple[int, Any, float]


def ask(port: int, body: bytes, kind: str | None = "application/json") -> Answer:
    """POSTs to /invocations: status, what came back, seconds."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(text or b"null"), time.perf_counter() - start


def request(files: list[Path]) -> bytes:
    """The body that asks for these images."""
    images = [base64.b64encode(file.read_bytes()).decode() for file in files]
    return json.dumps({"dataframe_records": [{"image": image} for image in images]}).encode()


def load(port: int, files: list[Path], each: int, requests: int, at_once: int) -> dict[str, Any]:
    """Sends `requests` bodies of `each` images, `at_once` at a time."""
    rng = random.Random(0)
    bodies = [request(rng.sample(files, each)) for _ in range(requests)]
    for body in bodies[:at_once]:
        ask(port, body)
    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(lambda body: ask(port, body), bodies))
    seconds = time.perf_counter() - start
    times = [t for _, _, t in answers]
    return {
        "images_per_request": each,
        "requests": requests,
        "at_once": at_once,
        "failed": sum(status != 200 for status, _, _ in answers),
        "p50_ms": round(1e3 * float(np.percentile(times, 50)), 1),
        "p95_ms": round(1e3 * float(np.percentile(times, 95)), 1),
        "images_per_second": round(each * requests / seconds, 1),
    }


def refused(port: int) -> dict[str, int]:
    """Status of the answer to what is no request."""
    record = b'{"dataframe_records": [{"image": "%s"}]}'
    deep = b"[" * 100_000
    given = {
        "empty": (b"", "application/json"),
        "no JSON": (os.urandom(1000), "application/json"),
        "deep JSON": (deep, "application/json"),
        "no content type": (b"{}", None),
        "another content type": (b"x", "image/png"),
        "no base64": (record % b"###", "application/json"),
        "no image": (record % base64.b64encode(b"hello"), "application/json"),
        "half an image": (record % base64.b64encode(_png()[:200]), "application/json"),
        "65 MiB": (b"x" * (65 << 20), "application/json"),
    }
    return {name: ask(port, *body)[0] for name, body in given.items()}


def _png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()


def predicted(files: list[Path]) -> list[tuple[int, float]]:
    """What `vtcc predict` says of them."""
    with tempfile.TemporaryDirectory() as room:
        out = Path(room) / "found.csv"
        from vtcc.tracking import registry

        uri = f"models:/{registry.of_project()}@champion"
        words = ["vtcc", "predict", *map(str, files), "--model", uri, "--out", str(out)]
        subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)
        with out.open(encoding="utf-8", newline="") as table:
            rows = list(csv.DictReader(table))
    return [(int(row["cluster"]), float(row["confidence"])) for row in rows]


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes the record, prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    files = sorted(paths.IMAGES.rglob("*.png"))[:512]
    expected = predicted(files[:64])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-m", "vtcc", "api", "--port", str(port)])
    try:
        while True:
            try:
                ask(port, b"{}")
                break
            except OSError:
                if server.poll() is not None:
                    sys.exit("vtcc api did not start")
                time.sleep(0.2)
        ready = time.perf_counter() - started
        found = ask(port, request(files[:64]))[1]["predictions"]
        same = [row["cluster"] for row in found] == [cluster for cluster, _ in expected]
        gaps = [abs(f["confidence"] - c) for f, (_, c) in zip(found, expected, strict=True)]
        record = {
            **timing.facts(),
            "command": "python -m benchmarks.serving",
            "ready_seconds": round(ready, 1),
            "clusters_as_predict": same,
            "confidence_differs_by_at_most": float(f"{max(gaps):.2g}"),
            "under_load": [
                load(port, files, each, given.requests, given.at_once) for each in (1, 16)
            ],
            "refused": refused(port),
            "then_answers": ask(port, request(files[:1]))[0],
        }
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
