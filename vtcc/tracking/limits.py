"""What the HTTP server refuses before MLflow sees it, and how it says what was wrong.

Plain ASGI, around MLflow's scoring server: that reads a body of any size, makes objects of all
that it holds before any is counted, fails on a request without a content type, knows no image as
a body, answers pages of any site, and a mistake with the whole input and a traceback.
"""

import base64
import contextlib
import json
import re
from collections.abc import Collection, Mapping
from numbers import Integral
from typing import Any

from vtcc.tracking.room import (
    CLOSE,
    Body,
    Header,
    Message,
    Pace,
    Receive,
    RefusedError,
    Room,
    Send,
    Share,
    too_long,
)

# That describe the routes.
PAGES = ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect")
# Of the media types that MLflow reads; a small Parquet file may unpack to any size.
_TEXTS = (b"application/json", b"text/csv")
_VALUES_PER_IMAGE = 32
LONGEST = 500  # characters of an error
LARGEST_BATCH = 1 << 16  # images of a forward pass
_DRAINED = 256 << 20  # bytes read and dropped, so that a client hears why it was refused


def batch_size(params: Mapping[str, Any] | None, default: int = 512) -> int:
    """The only parameter of a prediction: images per forward pass.

    Raises:
        ValueError: on another parameter, or a value that is no whole number from 1 to 65536.
    """
    asked = dict(params or {})
    size = asked.pop("batch_size", None)
    if asked:
        raise ValueError(f"params: found {next(iter(asked))!r:.100}; allowed: batch_size")
    if size is None:
        return default
    whole = isinstance(size, Integral) and not isinstance(size, bool)
    if not whole or not 1 <= size <= LARGEST_BATCH:
        raise ValueError(
            f"batch_size: found {_shown(size)}; allowed: whole numbers from 1 to {LARGEST_BATCH}"
        )
    return int(size)


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.100}"
    except ValueError:  # an integer of more digits than Python prints
        return "a number of thousands of digits"


class Limits:
    """Wraps an ASGI app: bodies up to `max_bytes`, errors as one short JSON line.

    A text holds at most as many values as `max_images` may need, counted before any is read. A body
    waits until there is `room` for it beside the others. An image as a body becomes a row of JSON.
    Pages of other sites are refused, and so is what lies at the `hidden` paths.
    """

    def __init__(
        self, app: Any, max_bytes: int, max_images: int, hidden: Collection[str] = ()
    ) -> None:
        self.app, self.max_bytes, self.hidden = app, max_bytes, hidden
        self.room = Room(max_bytes)
        self.max_values = max_images * _VALUES_PER_IMAGE

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        receive = Pace(receive)
        headers = dict(scope["headers"])
        invoked = (scope["method"], scope["path"]) == ("POST", "/invocations")
        length = headers.get(b"content-length", b"")
        declared = int(length) if length.isdigit() else 0
        kind = headers.get(b"content-type", b"").lower()  # media types have no case
        media = kind.partition(b";")[0].strip()
        if refused := self._refused(scope["path"], headers, declared):
            await _stop(refused, receive, send, rest=not _waits(headers))
        elif invoked and media.startswith(b"image/"):
            scope = _typed(scope, b"application/json")
            await self._serve(scope, _AsRow(receive), send, declared)
        elif invoked and media not in _TEXTS:
            shown = media[:100].decode("latin-1")
            found = f"found the Content-Type {shown}" if media else "no Content-Type"
            why = f"{found}; send application/json, text/csv or an image/*"
            await _stop(RefusedError(415, why), receive, send, rest=not _waits(headers))
        else:
            await self._serve(_typed(scope, kind) if kind else scope, receive, send, declared)

    def _refused(
        self, path: str, headers: dict[bytes, bytes], declared: int
    ) -> RefusedError | None:
        if path in self.hidden:
            return RefusedError(404, "not found")
        if foreign(headers):
            return RefusedError(403, "pages of other sites may not ask")
        if b"transfer-encoding" in headers and b"content-length" in headers:
            # A proxy may take the other one for the end of this request.
            why = "found Content-Length and Transfer-Encoding; send one of them"
            return RefusedError(400, why, CLOSE)
        return too_long(self.max_bytes) if declared > self.max_bytes else None

    async def _serve(self, scope: Message, receive: Receive, send: Send, declared: int) -> None:
        answer, share = _Answer(send), Share(self.room, declared or self.max_bytes)
        body = Body(receive, share, self.max_bytes, self.max_values)
        try:
            with share:
                await self.app(scope, body, answer)
        except Exception as error:
            if body.refused:
                await _stop(body.refused, receive, send, rest=not body.whole)
            elif answer.under_way:
                raise
            else:
                # Only reading a request can fail here: the model's own errors are answers.
                why = type(error).__name__
                await refuse(send, 400, f"the request could not be read ({why})")
        else:
            await answer.end()


def _waits(headers: dict[bytes, bytes]) -> bool:
    """Whether the client sends no body before it is told to, and none when it is refused."""
    return headers.get(b"expect", b"").lower() == b"100-continue"


async def _stop(refused: RefusedError, receive: Receive, send: Send, *, rest: bool) -> None:
    """Answers a request, and drops the rest of its body where one is under way.

    The answer ends behind that: a client that reads it last would find the connection broken.
    """
    rest = rest and CLOSE not in refused.headers
    await refuse(send, refused.status, refused.why, *refused.headers, more=rest)
    if not rest:
        return
    with contextlib.suppress(RefusedError):
        seen, more = 0, True
        while more and seen < _DRAINED:
            message = await receive()
            seen += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
    await send({"type": "http.response.body"})


class _AsRow:
    """The body of a request, an image, as the JSON of one row."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._image, self._sent = receive, bytearray(), False

    async def __call__(self) -> Message:
        message = await self._receive()
        if self._sent or message["type"] != "http.request":
            return message
        self._image += message.get("body", b"")
        if message.get("more_body"):  # an empty part: the whole is sent at the end
            return {**message, "body": b"", "image_bytes": len(message.get("body", b""))}
        self._sent = True
        row = {"image": base64.b64encode(self._image).decode()}
        body = json.dumps({"dataframe_records": [row]}).encode()
        return {**message, "body": body, "image_bytes": len(message.get("body", b""))}


def _typed(scope: Message, kind: bytes) -> Message:
    """The request with this media type, and without a length that may be of another body."""
    kept = [(k, v) for k, v in scope["headers"] if k not in (b"content-type", b"content-length")]
    return {**scope, "headers": [*kept, (b"content-type", kind)]}


def foreign(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser says that the page which asks is of another site."""
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


class _Answer:
    """Passes an answer on, but for one that says what was wrong: that is shortened by `end`."""

    def __init__(self, send: Send) -> None:
        self._send, self.under_way = send, False
        self._status, self._body = 0, b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._status = message["status"]
        elif self._status:
            self._body += message.get("body", b"")
        else:
            self.under_way = True
            await self._send(message)

    async def end(self) -> None:
        if self._status:
            await refuse(self._send, self._status, shortened(self._body))


def shortened(body: bytes) -> str:
    """The reason in an error of MLflow's: without the input, the traceback and the advice."""
    text = body.decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
        text = parsed.get("message") or parsed.get("detail") or text
    except (ValueError, AttributeError):
        pass
    text = str(text).rpartition("\nError: ")[2]
    text = re.sub(r"\nInput: \n.*|\. IMPORTANT: .*", "", text, flags=re.DOTALL)
    if found := re.search(r"Failed to convert column (\S+) to type", text):
        text = f"column {found[1]}: expected base64 text in every row"
    # The server has a limit of its own, which is lower than the model's.
    text = text.replace("validate.max_pixels", "the limit")
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def worded(message: str, *headers: Header) -> tuple[list[Header], bytes]:
    """Headers and body of a refusal."""
    body = json.dumps({"error": message}).encode()
    length = b"%d" % len(body)
    return [(b"content-type", b"application/json"), (b"content-length", length), *headers], body


async def refuse(
    send: Send, status: int, message: str, *headers: Header, more: bool = False
) -> None:
    """Answers `{"error": message}`; the answer ends with it unless there is `more`."""
    every, body = worded(message, *headers)
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body, "more_body": more})
