"""MLflow's pages as a person sees them, in headless Chromium.

The screenshots are kept in $VTCC_SCREENSHOTS when it is set.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.tracking import toy
from vtcc import config, paths
from vtcc.tracking import evaluations, registry, runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def trainings(here, cache):
    """Two trainings that differ in a parameter, evaluated and registered."""
    made = []
    for epochs in (2, 3):
        values = config.override(config.to_dict(toy.params()), {"train.epochs": epochs})
        tracker = runs.TrainingRun(config.from_dict(config.Params, values), cache)
        tracker.on_start({"parameters": 31004, "resumed_run_id": None})
        for epoch in range(1, epochs + 1):
            tracker.on_epoch(epoch, {"instance_loss": 5 / epoch, "cluster_loss": 3 / epoch})
        model = toy.model(here / f"model-{epochs}", seed=epochs)
        tracker.on_end("FINISHED", [paths.PARAMS], model)
        scores = {"acc": 0.5 + epochs / 10, "nmi": 0.25}
        picture = here / "confusion.png"
        _picture(picture)
        evaluations.log_evaluation(tracker.record(), {"evaluate.seed": epochs}, scores, [picture])
        registry.register("my toys", tracker.run_id, model, scores, {}, cache_dir=paths.CACHE)
        made.append(tracker.run_id)
    return made


def _picture(path):
    from PIL import Image

    Image.new("RGB", (64, 64), "steelblue").save(path)


@pytest.fixture
def server(here, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", f"from vtcc.tracking import ui; ui.launch({port})"],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=5).read()
            break
        except OSError:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.5)
    yield url
    process.send_signal(signal.SIGTERM)
    process.wait(40)


def test_run_curves_comparison_and_registry_pages(trainings, server, client, tmp_path):
    experiment = client.get_run(trainings[0]).info.experiment_id
    model = registry.model_name("my toys")
    run = f"{server}/#/experiments/{experiment}/runs/{trainings[0]}"
    both = json.dumps(trainings).replace(" ", "").replace('"', "%22")
    compare = f"{server}/#/compare-runs?runs={both}&experiments=[%22{experiment}%22]"
    with Browser(Path(os.environ.get("VTCC_SCREENSHOTS", tmp_path))) as browser:
        browser.look(run, "run", ("cluster_loss", "acc", "train.epochs", "my toys", model))
        browser.look(f"{run}/model-metrics", "curves", ("cluster_loss", "js-plotly-plot"))
        browser.look(compare, "compare", ("Comparing 2 Runs", "train.epochs", "acc"))
        browser.look(f"{run}/artifacts", "artifacts", ("params.yaml", "environment.txt"))
        browser.look(f"{server}/#/models/{model}", "model", (model, "champion", "challenger"))
