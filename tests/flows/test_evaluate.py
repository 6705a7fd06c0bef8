"""What `vtcc/evaluate` makes of a folder's name and of a params.yaml that is wrong."""

from pathlib import Path

import pytest

from flows import evaluate, models
from vtcc.errors import VtccError

INFO = {"channels": 1, "cache_size": 16, "max_pixels": 1000}


@pytest.mark.parametrize(
    ("name", "called"), [("2024:01", "2024-01"), (".hidden", "hidden"), ("a" * 150, "a" * 100)]
)
def test_a_folder_of_any_name_is_evaluated(name: str, called: str, project: Path) -> None:
    params = evaluate.parameters(INFO, project, None, name, baselines=False)
    assert (params["dataset"]["name"], params["dataset"]["source"]) == (called, name)


@pytest.mark.parametrize("text", ["", "dataset: 3\n", "dataset: {source: x}\n"])
def test_a_wrong_params_yaml_is_one_line(text: str, project: Path) -> None:
    (project / "params.yaml").write_text(text)
    with pytest.raises(VtccError):
        models.uri(None, None, None, project)
    with pytest.raises(VtccError):
        evaluate.parameters(INFO, project, None, None, baselines=False)
