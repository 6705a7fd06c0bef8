import base64
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.tracking import toy
from tests.tracking.test_serving import png, served  # noqa: F401 - a fixture
from vtcc.errors import VtccError
from vtcc.tracking import api, limits, promotion

pytestmark = pytest.mark.xdist_group("tracking")

SETTINGS = api.Settings(max_bytes=200_000, max_images=16, max_pixels=10_000)


def body(images):
    return {"dataframe_records": [{"image": base64.b64encode(i).decode()} for i in images]}


@pytest.fixture
def server(served, client):  # noqa: F811
    model = api.Served(served[0], SETTINGS)
    with TestClient(
        api.application(model, "127.0.0.1", SETTINGS),
        base_url="http://127.0.0.1",
        raise_server_exceptions=False,
    ) as made:
        made.model = model
        yield made


def test_answers_are_those_of_the_engine(server, served):  # noqa: F811
    answer = server.post("/invocations", json=body([png(i) for i in toy.images(8)]))
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    assert [row["cluster"] for row in found] == served[1].cluster.tolist()
    assert np.allclose([row["confidence"] for row in found], served[1].confidence, atol=1e-6)
    assert np.allclose([sum(row["probabilities"]) for row in found], 1)


def large():
    file = io.BytesIO()
    Image.new("L", (200, 200)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        ({"json": body([b"no picture"])}, 400, "row 0: not a readable image"),
        ({"json": body([])}, 400, ""),
        ({"json": {"dataframe_records": [{"x": "1"}]}}, 400, "image"),
        ({"json": {"dataframe_records": [{"image": 7}]}}, 400, ""),
        ({"json": {"dataframe_records": [{"image": "###"}]}}, 400, "row 0"),
        ({"json": body([large()])}, 400, "pixels"),
        ({"json": body([b"x"] * 17)}, 400, "17 images in a request; allowed: 16"),
        ({"content": b"", "headers": {"Content-Type": "application/json"}}, 400, ""),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, ""),
        ({"content": b"\x89PNG\xff", "headers": {"Content-Type": "application/json"}}, 400, ""),
        ({"content": b"{}"}, 415, "no Content-Type"),
        ({"content": b"a", "headers": {"Content-Type": "image/png"}}, 415, ""),
        ({"json": body([b"x" * 200_000])}, 413, "larger than 0.19"),
    ],
)
def test_what_cannot_be_answered_is_4xx_and_one_short_line(server, given, status, message):
    answer = server.post("/invocations", **given)
    assert answer.status_code == status, answer.text
    told = answer.json()["error"]
    assert message in told
    assert 0 < len(told) <= 500
    assert "\n" not in told
    assert "Traceback" not in told
    assert server.get("/ping").status_code == 200


def test_a_body_of_unknown_length_is_cut_off(server):
    parts = (b"x" * 50_000 for _ in range(20))
    answer = server.post(
        "/invocations", content=parts, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_foreign_name_is_refused(server):
    assert server.get("/model", headers={"Host": "attacker.example"}).status_code == 400


def test_a_new_champion_is_taken_up_and_none_is_lost(server, client, here, cache):
    from tests.tracking.test_registry import trained
    from vtcc.tracking import registry

    assert server.get("/model").json()["version"] == "1"
    other = toy.model(here / "m" / "served2", 6)
    done = registry.register("served", trained(cache, other), other)
    if not done.champion:
        promotion.promote(done.name, done.version)
    answers = []
    asking = threading.Thread(
        target=lambda: answers.extend(
            server.post("/invocations", json=body([png(toy.images(1)[0])])).status_code
            for _ in range(5)
        )
    )
    asking.start()
    assert server.post("/reload").json()["version"] == done.version
    asking.join()
    assert answers == [200] * 5
    assert server.get("/model").json() == server.model.version
    promotion.rollback(done.name)
    assert server.post("/reload").json()["version"] == "1"


def test_the_server_goes_on_where_the_new_one_cannot_be_loaded(server, monkeypatch):
    def missing(_uri):
        raise VtccError("there is no champion")

    monkeypatch.setattr(api.fetch, "version", missing)
    answer = server.post("/reload")
    assert (answer.status_code, answer.json()["error"]) == (500, "there is no champion")
    assert server.get("/model").json()["version"] == "1"


def test_a_busy_port_and_a_missing_model_are_one_line(client):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(VtccError, match=rf"127.0.0.1:{port} is in use; .*vtcc api --port"):
            api.serve("models:/vtcc-served@champion", "127.0.0.1", port, SETTINGS)
        taken.close()
        with pytest.raises(VtccError, match="no server answers"):
            api.reload("127.0.0.1", port)
    with pytest.raises(VtccError, match="vtcc-none"):
        api.Served("models:/vtcc-none@champion", SETTINGS)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (json.dumps({"message": "row 3: no"}), "row 3: no"),
        ("Error: \nError: x\nInput: \n secret", "x"),
        ("y" * 600, "y" * 497 + "..."),
        ("[1]", "[1]"),
    ],
)
def test_errors_are_shortened(text, short):
    assert limits.shortened(text.encode()) == short
