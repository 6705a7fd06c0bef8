"""What the HTTP server refuses before MLflow sees it, and how it says what was wrong.

Plain ASGI, around MLflow's scoring server: that reads a body of any size, makes objects of all
that it holds before any is counted, fails on a request without a content type, knows no image as
a body, answers pages of any site, and a mistake with the whole input and a traceback.
"""

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from numbers import Integral
from typing import Any

from vtcc import bounds
from vtcc.tracking.room import BusyError, Room, Share

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# That describe the routes.
PAGES = ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect")
# Of the media types that MLflow reads; a small Parquet file may unpack to any size.
_TEXTS = (b"application/json", b"text/csv")
# Each value of those texts has one of these before or behind it; base64 has none. A value of two
# bytes becomes an object of a hundred and more, and a record of an image has three to ten.
_MARKS = (b",", b":", b"[", b"{", b"\n", b"\r")
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


class RefusedError(Exception):
    """A body that is not read to its end: it is above a limit, late, or finds no room."""

    def __init__(self, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers


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
        headers = dict(scope["headers"])
        asked = scope["method"], scope["path"]
        length = headers.get(b"content-length", b"")
        declared = int(length) if length.isdigit() else 0
        kind = headers.get(b"content-type", b"").lower()  # media types have no case
        media = kind.partition(b";")[0].strip()
        if scope["path"] in self.hidden:
            await refuse(send, 404, "not found")
        elif foreign(headers):
            await refuse(send, 403, "pages of other sites may not ask")
        elif declared > self.max_bytes:
            await _stop(_too_long(self.max_bytes), receive, send)
        elif asked == ("POST", "/invocations") and media.startswith(b"image/"):
            scope = _typed(scope, b"application/json")
            await self._serve(scope, _AsRow(receive), send, declared)
        elif asked == ("POST", "/invocations") and media not in _TEXTS:
            shown = media[:100].decode("latin-1")
            found = f"found the Content-Type {shown}" if media else "no Content-Type"
            await refuse(send, 415, f"{found}; send application/json, text/csv or an image/*")
        else:
            await self._serve(_typed(scope, kind) if kind else scope, receive, send, declared)

    async def _serve(self, scope: Message, receive: Receive, send: Send, declared: int) -> None:
        answer, share = _Answer(send), Share(self.room)
        body = _Body(receive, share, declared, self.max_bytes, self.max_values)
        try:
            with share:
                await self.app(scope, body, answer)
        except Exception as error:
            if body.refused:
                await _stop(body.refused, receive, send)
            elif answer.under_way:
                raise
            else:
                # Only reading a request can fail here: the model's own errors are answers.
                why = type(error).__name__
                await refuse(send, 400, f"the request could not be read ({why})")
        else:
            await answer.end()


def _too_much(excess: str) -> RefusedError:
    return RefusedError(413, f"the request {excess}; send fewer images at a time")


def _too_long(most: int) -> RefusedError:
    return _too_much(f"is larger than {most / 2**20:g} MiB")


async def _stop(refused: RefusedError, receive: Receive, send: Send) -> None:
    """Answers a request whose body is not there yet, and drops the rest of it."""
    await refuse(send, refused.status, refused.why, *refused.headers)
    seen = 0
    while seen < _DRAINED:
        message = await receive()
        seen += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


class _Body:
    """The body of a request, within the limits.

    Attributes:
        refused: why it is not read to its end.
    """

    def __init__(
        self, receive: Receive, share: Share, declared: int, max_bytes: int, max_values: int
    ) -> None:
        self._receive, self._share, self._declared = receive, share, declared
        self._max_bytes, self._max_values = max_bytes, max_values
        self._seen, self._values, self._whole = 0, 0, False
        self._end = asyncio.get_running_loop().time() + bounds.REQUEST_SECONDS
        self.refused: RefusedError | None = None

    async def __call__(self) -> Message:
        if self._whole:  # what follows is that the client is gone
            return await self._receive()
        try:
            return await self._part()
        except BusyError:
            after = str(bounds.REQUEST_PATIENCE)
            why = f"no room beside other large requests; send it again in {after} s"
            self.refused = RefusedError(503, why, (b"retry-after", after.encode()))
        except TimeoutError:
            why = f"the request was not there after {bounds.REQUEST_SECONDS} s"
            self.refused = RefusedError(
                408, f"{why}; send fewer images at a time", (b"connection", b"close")
            )
        except RefusedError as refused:
            self.refused = refused
        raise self.refused

    async def _part(self) -> Message:
        await self._share.cover(self._declared)
        async with asyncio.timeout_at(self._end):
            message = await self._receive()
        body = message.get("body", b"")
        self._seen += message.get("image_bytes", len(body))
        self._values += sum(body.count(mark) for mark in _MARKS)
        if self._seen > self._max_bytes:
            raise _too_long(self._max_bytes)
        if self._values > self._max_values:
            raise _too_much(f"holds more than {self._max_values} values")
        self._whole = not message.get("more_body")
        if self._whole:
            await self._share.cover(self._seen)
            self._share.shrink(self._seen)
        elif not self._share.covers(self._seen):  # it told no length: it may be of any
            await self._share.cover(self._max_bytes)
        return message


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


async def refuse(send: Send, status: int, message: str, *more: tuple[bytes, bytes]) -> None:
    """Answers `{"error": message}`, with `more` headers."""
    body = json.dumps({"error": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
