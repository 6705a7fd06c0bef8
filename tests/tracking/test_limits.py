import asyncio
import json

import pytest

from vtcc.tracking import limits

MOST = 4  # images of a request
VALUES = MOST * 32


def ask(parts, kind="application/json", path="/invocations", max_bytes=100_000):
    """Status and body of the answer to a POST of these parts, of an app that says what it read."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b""})
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    async def app(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d bytes" % len(body)})

    scope = {"type": "http", "method": "POST", "path": path}
    scope["headers"] = [(b"content-type", kind.encode())] if kind else []
    asyncio.run(limits.Limits(app, max_bytes, MOST)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode()


@pytest.mark.parametrize(
    ("kind", "most", "more"),
    [
        ("application/json", b"[" + b"{}," * (VALUES // 2 - 1) + b"{}]", b"{}, {}"),
        ("application/json", b'{"":0' + b',"":0' * (VALUES // 2 - 1) + b"}", b","),
        ("application/json", b"[" * VALUES, b"["),
        ("text/csv; charset=utf-8", b"image" + b"\na" * VALUES, b"\n"),
        ("text/csv", b"a," * VALUES, b","),
        ("text/csv", b"a\r" * VALUES, b"\r"),
    ],
)
def test_values_are_counted_before_anything_is_made_of_them(kind, most, more):
    assert ask([most], kind) == (200, f"{len(most)} bytes")
    why = f"the request holds more than {VALUES} values; send fewer images at a time"
    for parts in ([most + more], [most, more], [*[bytes([b]) for b in most], more]):
        status, answer = ask(parts, kind)
        assert (status, json.loads(answer)) == (413, {"error": why})


def test_as_many_images_as_are_allowed_pass_in_every_form():
    record = {"image": "iVBORw0KGgo" * 1000, "id": 1, "place": "Bern, Switzerland", "year": 2024}
    for body in (
        json.dumps({"dataframe_records": [record] * MOST}, indent=2),
        json.dumps(
            {
                "dataframe_split": {
                    "columns": list(record),
                    "index": list(range(MOST)),
                    "data": [list(record.values())] * MOST,
                },
                "params": {"batch_size": 64},
            },
            indent=2,
        ),
    ):
        assert ask([body.encode()]) == (200, f"{len(body)} bytes")


def test_an_image_is_no_text_whatever_its_bytes_are():
    image = b",:[{\n" * 1000
    row = '{"dataframe_records": [{"image": ""}]}'
    expected = len(row) + -(-len(image) // 3) * 4
    assert ask([image], "image/png") == (200, f"{expected} bytes")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("application/vnd.apache.parquet", "found the Content-Type application/vnd.apache.parquet"),
        ("text/plain; charset=utf-8", "found the Content-Type text/plain"),
        ("x" * 300, f"found the Content-Type {'x' * 100}"),
        ("", "no Content-Type"),
    ],
)
def test_what_may_unpack_to_any_size_is_refused(kind, told):
    status, answer = ask([b"x"], kind)
    assert status == 415
    assert json.loads(answer) == {"error": f"{told}; send application/json, text/csv or an image/*"}
    assert ask([b"x"], kind, path="/reload") == (200, "1 bytes")
