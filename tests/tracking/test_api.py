import asyncio
import base64
import csv
import io
import json
import shutil
import socket
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.fakes import answering, stand_in
from tests.tracking import toy
from tests.tracking.test_serving import png, served  # noqa: F401 - a fixture
from vtcc import config, paths
from vtcc.analysis.features import unit_rows
from vtcc.data import inputs
from vtcc.engine import predict
from vtcc.errors import VtccError
from vtcc.grouping.clusters import EXCLUDED, Clusters, Split
from vtcc.tracking import api, evaluations, fetch, limits, promotion
from vtcc.verbs import predict as verb

SETTINGS = api.Settings(max_bytes=200_000, max_images=16, max_pixels=10_000)


def body(images):
    return {"dataframe_records": [{"image": base64.b64encode(i).decode()} for i in images]}


def asking(**params):
    return {**body([png(toy.images(1)[0])]), "params": params}


@pytest.fixture(scope="module")
def opened(served, shared_project):  # noqa: F811
    """One server for all: what a test changes, it brings back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared_project)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        model = api.Served(served[0], SETTINGS)
    with TestClient(
        api.application(model, "127.0.0.1", SETTINGS),
        base_url="http://127.0.0.1",
        client=("127.0.0.1", 50000),
        raise_server_exceptions=False,
    ) as made:
        made.model = model
        yield made


@pytest.fixture
def server(opened, client):
    return opened


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
        ({"json": asking(batch_size=0)}, 400, "batch_size: found 0; allowed: whole numbers from 1"),
        ({"json": asking(batch_size=-3)}, 400, "batch_size: found -3; allowed"),
        ({"json": asking(batch_size=2.5)}, 400, "batch_size: found 2.5; allowed"),
        ({"json": asking(batch_size=True)}, 400, "batch_size: found True; allowed"),
        ({"json": asking(batch_size="all")}, 400, "batch_size: found 'all'; allowed"),
        ({"json": asking(batchsize=8)}, 400, "params: found 'batchsize'; allowed: batch_size"),
        ({"json": asking(batch_size=10**400)}, 400, "allowed: whole numbers from 1 to 65536"),
        ({"json": {**body([b"x"]), "params": [1]}}, 400, ""),
        (
            {"content": b"[" * 50_000, "headers": {"Content-Type": "application/json"}},
            413,
            "the request holds more than 512 values; send fewer images at a time",
        ),
        ({"json": body([b"x"] * 17)}, 400, "17 images in a request; allowed: 16"),
        ({"content": b"", "headers": {"Content-Type": "application/json"}}, 400, ""),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, ""),
        ({"content": b"\x89PNG\xff", "headers": {"Content-Type": "application/json"}}, 400, ""),
        ({"content": b"{}"}, 415, "no Content-Type"),
        ({"content": b"a", "headers": {"Content-Type": "image/png"}}, 400, "row 0: not a"),
        ({"content": b"a", "headers": {"Content-Type": "text/plain"}}, 415, ""),
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


def test_what_is_nested_too_deep_is_refused(server):
    app = api.application(server.model, "127.0.0.1", replace(SETTINGS, max_images=4096))
    asks = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    nested = {"content": b"[" * 50_000, "headers": {"Content-Type": "application/json"}}
    answer = asks.post("/invocations", **nested)
    assert answer.status_code == 400
    assert 0 < len(answer.json()["error"]) <= 500


def test_a_body_of_unknown_length_is_cut_off(server):
    parts = (b"x" * 50_000 for _ in range(20))
    answer = server.post(
        "/invocations", content=parts, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_a_foreign_name_is_refused(server, host):
    asks = TestClient(api.application(server.model, host, SETTINGS), base_url="http://localhost")
    status = {
        name: asks.get("/model", headers={"Host": name}).status_code
        for name in ("attacker.example", "localhost.attacker.example", "localhost:5002", "[::1]:1")
    }
    assert list(status.values()) == [400, 400, 200, 200]


def test_an_image_as_the_body_is_answered(server, served):  # noqa: F811
    image = png(toy.images(1)[0])
    answer = server.post("/invocations", content=image, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["predictions"]
    assert row["cluster"] == served[1].cluster[0]
    assert row["name"] == f"cluster {row['cluster']}"
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(image)).save(jpeg, "JPEG")
    halves = iter([jpeg.getvalue()[:100], jpeg.getvalue()[100:]])  # of unknown length
    answer = server.post("/invocations", content=halves, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1
    large = iter([b"x" * 50_000] * 5)
    answer = server.post("/invocations", content=large, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 413


def reload(server, **headers):
    return server.post("/reload", content=b"{}", headers={**JSON, **headers})


JSON = {"Content-Type": "application/json"}


def test_a_new_champion_is_taken_up_and_none_is_lost(server, client, here, cache, monkeypatch):
    """Requests are answered by the former model while the new one is being loaded."""
    from tests.tracking.test_registry import trained
    from vtcc.tracking import registry

    assert server.get("/model").json()["version"] == "1"
    other = toy.model(here / "m" / "served2", 6)
    done = registry.register("served", trained(cache, other), other)
    if not done.champion:
        promotion.promote(done.name, done.version)
    loading, answered, real = threading.Event(), threading.Event(), api.Served._load

    def load(self):
        loading.set()
        assert answered.wait(60)
        return real(self)

    monkeypatch.setattr(api.Served, "_load", create_autospec(real, side_effect=load))
    answers = []
    reloading = threading.Thread(target=lambda: answers.append(reload(server).json()))
    reloading.start()
    assert loading.wait(60)
    asked = body([png(toy.images(1)[0])])
    assert [server.post("/invocations", json=asked).status_code for _ in range(3)] == [200] * 3
    assert server.get("/model").json()["version"] == "1"
    assert answers == []
    answered.set()
    reloading.join(60)
    assert [answer["version"] for answer in answers] == [done.version]
    assert server.get("/model").json() == server.model.version == answers[0]
    assert server.post("/invocations", json=asked).status_code == 200
    promotion.rollback(done.name)
    assert reload(server).json()["version"] == "1"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Origin": "http://attacker.example"}, "pages of other sites"),
        ({"Origin": "null"}, "pages of other sites"),
        ({"Content-Type": "text/plain"}, "send application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "send application/json"),
    ],
)
def test_what_a_page_of_another_site_can_send_changes_nothing(
    server, monkeypatch, headers, message
):
    spec = create_autospec(server.model.reload)
    monkeypatch.setattr(server.model, "reload", spec)
    answer = reload(server, **headers)
    assert answer.status_code == 403
    assert message in answer.json()["error"]
    spec.assert_not_called()
    spec.return_value = {"version": "1"}
    assert reload(server, Origin="http://127.0.0.1").status_code == 200


def test_another_machine_needs_the_token(server, monkeypatch):
    elsewhere = TestClient(
        api.application(server.model, "0.0.0.0", SETTINGS), client=("192.0.2.1", 50000)
    )
    answer = reload(elsewhere)
    assert answer.status_code == 403
    assert "from this machine only; for others set VTCC_API_TOKEN" in answer.json()["error"]
    named = TestClient(
        api.application(server.model, "0.0.0.0", SETTINGS),
        base_url="http://attacker.example",  # whose name was made to mean this machine
        client=("127.0.0.1", 50000),
    )
    answer = reload(named, Origin="http://attacker.example")
    assert (answer.status_code, "from this machine only" in answer.json()["error"]) == (403, True)
    monkeypatch.setenv("VTCC_API_TOKEN", "secret")
    guarded = api.Settings()
    assert (guarded.token, "secret" in repr(guarded)) == ("secret", False)
    for client in ("192.0.2.1", "127.0.0.1"):
        app = api.application(server.model, "0.0.0.0", guarded)
        asks = TestClient(app, client=(client, 50000))
        assert reload(asks).status_code == 403
        assert reload(asks, Authorization="Bearer wrong").status_code == 403
        assert reload(asks, Authorization="Bearer secret").status_code == 200


def test_the_token_is_for_the_reload_alone(server):
    """As docs/security.md and docs/tracking.md say of a server that is opened to others."""
    named = TestClient(
        api.application(server.model, "0.0.0.0", replace(SETTINGS, token="secret")),
        base_url="http://attacker.example",
        client=("192.0.2.1", 50000),
    )
    images = body([png(toy.images(1)[0])])
    assert named.get("/model").json() == server.model.version
    assert named.post("/invocations", json=images).status_code == 200
    own, other = ({"Origin": f"http://{site}.example"} for site in ("attacker", "other"))
    assert named.post("/invocations", json=images, headers=own).status_code == 200
    assert named.post("/invocations", json=images, headers=other).status_code == 403
    assert reload(named).status_code == 403


def test_pages_of_the_routes_are_off_unless_asked_for(server):
    pages = ("/docs", "/redoc", "/openapi.json")
    assert [server.get(page).status_code for page in pages] == [404] * 3
    asked = TestClient(api.application(server.model, "0.0.0.0", api.Settings(docs=True)))
    assert [asked.get(page).status_code for page in pages] == [200] * 3
    assert {"/invocations", "/model", "/reload"} < asked.get("/openapi.json").json()["paths"].keys()


def test_a_model_that_loads_for_long_is_taken_up_all_the_same(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "0")  # seconds, 60 by default
    app = api.application(server.model, "127.0.0.1", SETTINGS)
    slow = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
    answer = slow.post("/invocations", json=body([png(toy.images(1)[0])]))
    assert (answer.status_code, "time exceeded" in answer.json()["error"]) == (504, True)
    answer = reload(slow)
    assert (answer.status_code, answer.json()) == (200, server.model.version)


def test_the_server_goes_on_where_the_new_one_cannot_be_loaded(server, monkeypatch):
    failing = create_autospec(fetch.version, side_effect=VtccError("there is no champion"))
    monkeypatch.setattr(fetch, "version", failing)
    answer = reload(server)
    assert (answer.status_code, answer.json()["error"]) == (500, "there is no champion")
    assert server.get("/model").json()["version"] == "1"


def refined(directory, photos):
    """A model whose clusters people changed: two merged, one excluded, one split."""
    model = toy.model(directory, 5)
    images = toy.images(64)
    found = predict.load(model, "cpu").predict(images)
    used = np.bincount(found.cluster, minlength=toy.K).argsort()[::-1]
    known = Clusters.fit(found.probabilities, found.embedding)
    of_base = [0] * toy.K
    of_base[used[1]] = EXCLUDED
    rows = found.cluster == used[0]
    # Its two surest images: a merged cluster has more than most others are sure of.
    h, sure = unit_rows(found.embedding[rows]), found.confidence[rows].argsort()
    halves = Split((5, 6), h[sure[-2:]])
    known = replace(
        known,
        of_base=tuple(of_base),
        splits={int(used[0]): halves},
        names={0: "rest", 5: "first", 6: "second"},
        tree=(),
    )
    known = known.measured(
        found.embedding, known.apply(found.probabilities, found.embedding).cluster
    )
    known.write(model)
    photos.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(photos / f"{i:02d}.png")
    return model


def test_every_reader_of_a_refined_model_says_the_same(here, cache, tmp_path, monkeypatch):
    """Command line, pyfunc, assess, Ray's worker and the estimator: one function decides."""
    from vtcc.grouping.estimator import ImageClusterer
    from vtcc.scale import ray, shard_files
    from vtcc.tracking.serving import ClusterImages
    from vtcc.verbs import assess

    photos = tmp_path / "photos"
    model = refined(tmp_path / "model", photos)
    files = sorted(photos.iterdir())
    verb.run([photos], str(model), out=tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = [row["cluster"] for row in rows]
    assert set(told) == {"", "0", "5", "6"} and len({row["name"] for row in rows}) == 4

    pyfunc = ClusterImages()
    pyfunc.load_context(SimpleNamespace(artifacts={"model": str(model)}))
    answers = pyfunc.predict(None, pd.DataFrame({"image": [f.read_bytes() for f in files]}))
    assert ["" if k < 0 else str(k) for k in answers["cluster"]] == told
    assert answers["name"].tolist() == [row["name"] for row in rows]
    for answer, row in zip(answers["confidence"], rows, strict=True):
        assert answer == pytest.approx(float(row["confidence"]), abs=1e-5)
    assert {len(p) for p in answers["probabilities"]} == {3}

    monkeypatch.setattr(evaluations, "log_assessment", create_autospec(evaluations.log_assessment))
    text = config.edit(paths.PARAMS.read_text(), {"evaluate.projection": "pca"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(text)
    shutil.copytree(here / paths.CACHE, tmp_path / paths.CACHE)
    assess.run(str(model))
    # The reports of the pipeline's own model, which `vtcc register` reads, stay.
    assert [file.name for file in paths.REPORTS.iterdir()] == ["assess"]
    with (paths.ASSESSED / "assignments.csv").open(encoding="utf-8", newline="") as file:
        assert [row["cluster"] for row in csv.DictReader(file)] == told
    metrics = json.loads((paths.ASSESSED / "metrics.json").read_text())
    assert (metrics["num_clusters"], metrics["images"]) == (3, 64 - told.count(""))
    (logged,) = evaluations.log_assessment.call_args_list
    assert logged.args[:2] == (str(model), "my toys")
    assert paths.ASSESSED / "metrics.json" in logged.args[4]

    parts = tmp_path / "parts"
    ray._plan(parts, inputs.parts([photos], None), model, {"shard": 64})
    ray.Shards(str(parts), str(model), 512)({"shard": np.array([0])})
    made = pd.read_parquet(shard_files.rows_file(parts, 0))
    assert ["" if pd.isna(k) else str(int(k)) for k in made["cluster"]] == told

    estimator = ImageClusterer()
    estimator.predictor_ = verb.load(str(model), tmp_path)
    estimator.embedding_ = np.zeros((1, estimator.predictor_.clusters.means.means.shape[1]))
    assert ["" if k < 0 else str(k) for k in estimator.predict(files)] == told


def test_results_of_a_folder_are_served(tmp_path):
    """Without a registry; what edits made of the clusters is answered, and taken up again."""
    photos, results = tmp_path / "photos", tmp_path / "photos-clusters"
    results.mkdir()
    model = refined(results / "model", photos)
    verb.run([photos], str(model), out=tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        told = [row["cluster"] for row in csv.DictReader(file)]
    model_served = api.Served(str(results), replace(SETTINGS, max_images=64))
    files = [file.read_bytes() for file in sorted(photos.iterdir())]
    answers = model_served.predict(pd.DataFrame({"image": files}))
    assert ["" if k < 0 else str(k) for k in answers["cluster"]] == told
    before = model_served.version
    assert before["name"] == "photos-clusters" and str(tmp_path) not in str(before)
    shutil.copy(toy.model(tmp_path / "other", 6) / "model.safetensors", model)
    (model / "clusters.json").unlink()
    assert model_served.reload()["version"] != before["version"]
    with pytest.raises(VtccError, match="/none: no such model; give --model RESULTS/model"):
        api.Served(str(tmp_path / "none"), SETTINGS)


def test_a_busy_port_and_a_missing_model_are_one_line(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(VtccError, match=rf"127.0.0.1:{port} is in use; .*vtcc api --port"):
            api.serve("models:/vtcc-served@champion", "127.0.0.1", port, SETTINGS)
        taken.close()
        with pytest.raises(VtccError, match="no `vtcc api` answers"):
            api.reload("127.0.0.1", port)
    with pytest.raises(VtccError, match="vtcc-none"):
        api.Served("models:/vtcc-none@champion", SETTINGS)


@pytest.mark.parametrize(
    "line",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n[1]",
        b"HTTP/1.0 200 OK\r\n\r\n<html>",
    ],
)
def test_what_is_no_api_is_not_reloaded(line):
    with (
        answering(line) as port,
        pytest.raises(VtccError, match=rf"127.0.0.1:{port}/reload: no `vtcc api` answers \(.+\)"),
    ):
        api.reload("127.0.0.1", port)


def test_a_server_that_still_loads_is_not_called_missing(monkeypatch):
    monkeypatch.setattr(api, "_PATIENCE", 0.05)
    loading = "it may still be loading; GET /model says which version answers"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(VtccError, match=f":{port}/reload: no answer in 0.05 s: {loading}"):
            api.reload("127.0.0.1", port)
    monkeypatch.setattr(api, "_PATIENCE", 60)
    with (
        answering(b"HTTP/1.0 504 Gateway Timeout\r\n\r\n<html>") as port,  # of a proxy
        pytest.raises(VtccError, match=f":{port}/reload: HTTP status 504: {loading}"),
    ):
        api.reload("127.0.0.1", port)


def test_a_served_model_runs_none_of_the_code_it_brings(client, served, tmp_path, monkeypatch):  # noqa: F811
    real = fetch.download

    def hostile(uri, room):
        where = real(uri, room)
        brought = list(room.rglob("*.py"))
        assert {"serving.py", "clusters.py"} <= {code.name for code in brought}
        for code in brought:
            code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        return where

    stand_in(monkeypatch, fetch, "download", hostile)
    before, model = list(sys.path), api.Served(served[0], SETTINGS)
    answer = model.predict(pd.DataFrame({"image": [png(toy.images(1)[0])]}))
    assert answer["cluster"].tolist() == [served[1].cluster[0]]
    assert not (tmp_path / "ran").exists()
    assert sys.path == before


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


def test_media_types_have_no_case(server):
    image = png(toy.images(1)[0])
    expected = server.post("/invocations", json=body([image])).json()
    for kind, content in (("Image/PNG", image), ("APPLICATION/JSON", json.dumps(body([image])))):
        answer = server.post("/invocations", content=content, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()) == (200, expected)


def test_an_image_in_small_parts_is_not_copied_for_each():
    parts = [{"type": "http.request", "body": b"x" * 1024, "more_body": True}] * 3
    parts.append({"type": "http.request", "body": b"y"})

    async def receive():
        return parts.pop(0)

    async def run():
        row = limits._AsRow(receive)
        kept = row._image
        messages = [await row() for _ in range(4)]
        return kept is row._image, messages

    in_place, messages = asyncio.run(run())
    assert in_place and [m["body"] for m in messages[:3]] == [b""] * 3
    (sent,) = json.loads(messages[3]["body"])["dataframe_records"]
    assert base64.b64decode(sent["image"]) == b"x" * 3072 + b"y"
