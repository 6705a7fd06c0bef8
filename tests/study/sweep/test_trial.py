"""Scores of what trials kept, against labels."""

from pathlib import Path

import numpy as np
import pytest

from tests.tracking import toy
from vtcc import paths
from vtcc.study.sweep import trial


def test_a_trial_of_which_a_damaged_file_is_left_has_no_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = toy.project(tmp_path)
    rows = "".join(f"{name},{i % 4},kind {i % 4}\n" for i, name in enumerate(cache.paths))
    (tmp_path / paths.LABELS).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / paths.LABELS).write_text(f"path,label,class_name\n{rows}")
    kept = {number: tmp_path / f"{number}.npz" for number in (0, 1)}
    np.savez(kept[0], cluster=np.arange(len(cache.paths)) % 4)
    kept[1].write_bytes(b"PK")
    assert trial.scores(tmp_path, kept) == {0: {"acc": 1, "nmi": 1, "ari": 1, "fmi": 1}}
    assert f"{kept[1]}: damaged" in capsys.readouterr().out
