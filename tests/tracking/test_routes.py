"""What `vtcc api --docs` says of its routes is what they answer."""

import jsonschema
import pytest
from starlette.testclient import TestClient

from tests.tracking.test_api import opened, server  # noqa: F401 - fixtures
from tests.tracking.test_serving import served  # noqa: F401 - a fixture
from vtcc.tracking import api


@pytest.fixture
def described(server):  # noqa: F811
    settings = api.Settings(docs=True, max_bytes=10_000)
    client = TestClient(
        api.application(server.model, "127.0.0.1", settings),
        base_url="http://127.0.0.1",
        client=("127.0.0.1", 50000),
    )
    return client, client.get("/openapi.json").json()["paths"]


def content(told):
    return told["content"]["application/json"]


def test_the_example_is_answered_as_described(described):
    client, paths = described
    route = paths["/invocations"]["post"]
    asked = content(route["requestBody"])
    jsonschema.validate(asked["example"], asked["schema"])
    answer = client.post("/invocations", json=asked["example"])
    assert answer.status_code == 200 and len(answer.json()["predictions"]) == 1
    answers = content(route["responses"]["200"])["schema"]
    jsonschema.validate(answer.json(), answers)
    for wrong in ({}, {"predictions": [{}]}, {"predictions": [{"cluster": "a"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, answers)
    assert [*route["requestBody"]["content"]] == ["application/json", "text/csv", "image/*"]
    table = route["requestBody"]["content"]["text/csv"]
    jsonschema.validate(table["example"], table["schema"])
    same = client.post(
        "/invocations", content=table["example"], headers={"Content-Type": "text/csv"}
    )
    assert (same.status_code, same.json()) == (200, answer.json())


def test_refusals_of_every_route_are_described(described):
    client, paths = described
    assert {*paths} == {"/ping", "/health", "/version", "/invocations", "/model", "/reload"}
    for path, routes in paths.items():
        for method, route in routes.items():
            said = content(route["responses"]["default"])["schema"]
            answers = [client.request(method, path, headers={"Origin": "http://evil.example"})]
            if method == "post":
                answers += [
                    client.post(path, content="{", headers={"Content-Type": "text/plain"}),
                    client.post(path, content=b"x" * 10_001, headers={"Content-Type": "a/b"}),
                ]
            assert all(answer.status_code >= 400 for answer in answers)
            for answer in answers:
                jsonschema.validate(answer.json(), said)


def test_a_reload_is_described(described):
    client, paths = described
    route = paths["/reload"]["post"]
    jsonschema.validate({}, content(route["requestBody"])["schema"])
    answer = client.post("/reload", json={})
    assert answer.status_code == 200
    jsonschema.validate(answer.json(), content(route["responses"]["200"])["schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([], content(route["responses"]["200"])["schema"])
