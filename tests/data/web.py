"""A web server on loopback that behaves, or not."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """One file and how it is served.

    Attributes:
        data: of the file, which every path leads to.
        etag: of it; None for none.
        ranges: whether Range is understood.
        cuts: after so many bytes the connection breaks, once for each entry.
        statuses: answered before anything else, one for each request.
        location: for redirects.
        asked: headers of all requests.
    """

    data: bytes = b""
    etag: str | None = '"1"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    address: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self):
        site = self.site
        site.asked.append(dict(self.headers))
        if site.statuses:
            self.send_response(site.statuses.pop(0))
            if site.location:
                self.send_header("Location", site.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if site.etag and self.headers.get("If-None-Match") == site.etag:
            self.send_response(304)
            self.end_headers()
            return
        start = 0
        wanted = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        if wanted and site.ranges and self.headers.get("If-Range", site.etag) == site.etag:
            start = int(wanted[1])
        if start >= max(len(site.data), 1):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(site.data) - 1}/{len(site.data)}"
            )
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(site.data) - start))
        self.end_headers()
        end = start + site.cuts.pop(0) if site.cuts else len(site.data)
        self.wfile.write(site.data[start:end])

    def log_message(self, *args):
        pass


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def serving(handler) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    with serving(type("Handler", (_Handler,), {"site": site})) as address:
        site.address = address
        yield site


@contextmanager
def serve_directory(directory: Path) -> Iterator[str]:
    """Python's own server, which knows no Range."""
    with serving(partial(_Quiet, directory=str(directory))) as address:
        yield address
