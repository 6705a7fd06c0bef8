"""What is logged beside trainings: here an addition to results."""

import json
from pathlib import Path

from vtcc.tracking import evaluations


def test_an_addition_is_a_run_of_its_own(client, tmp_path):
    lines = [
        {"cluster": 0, "name": "boats", "images_now": 2, "share_now": 0.5, "confidence_now": None},
        {"cluster": None, "name": "all", "images_now": 4, "share_now": 1.0, "confidence_now": 0.8},
    ]
    drift = {"level": "look here", "verdict": "look here: 4", "lines": lines}
    made = {"new": 4, "changed": 0, "gone": 1, "unreadable": 0, "images": 64, "seconds": 2.5}
    made |= {"proposed": [7], "drift": drift, "files": {"new": ["a.png"]}}
    run_id = evaluations.log_addition("photos", made, tmp_path / "photos-clusters")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "photos"
    assert run.data.tags["vtcc.verdict"] == "look here: 4"
    assert run.data.tags["mlflow.runName"] == "add to photos-clusters"
    assert run.data.metrics["all.confidence_now"] == 0.8
    assert run.data.metrics["cluster_0.share_now"] == 0.5
    assert "cluster_0.confidence_now" not in run.data.metrics
    assert (run.data.metrics["new"], run.data.metrics["proposed"]) == (4, 1)
    kept = Path(client.download_artifacts(run_id, "addition.json", str(tmp_path)))
    assert json.loads(kept.read_text(encoding="utf-8")) == made
