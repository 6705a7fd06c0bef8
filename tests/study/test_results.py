"""The results page, from records made up for the purpose."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import vtcc
from vtcc import config
from vtcc.errors import VtccError
from vtcc.study import records, results

PRESETS = Path(vtcc.__file__).parent / "presets"
DIGITS = config.flatten(yaml.safe_load((PRESETS / "digits.yaml").read_text()))


def record(seed: int, acc: float, **changes: Any) -> dict[str, Any]:
    words = "vtcc study benchmarks/studies/digits.yaml"
    return {
        "command": words,
        "preset": "digits",
        "overrides": {},
        "seed": seed,
        "params": DIGITS | {"train.seed": seed} | changes.pop("params", {}),
        "metrics": {
            "acc": acc,
            "nmi": acc - 0.1,
            "ari": acc - 0.2,
            "baseline_kmeans_pixels_acc": 0.79,
            "baseline_kmeans_pixels_nmi": 0.74,
            "baseline_kmeans_pixels_ari": 0.67,
            "images": 1797,
        },
        "training": {},
        "seconds": {"download": 1.0, "validate": 2.0, "train": 100.0 + seed, "evaluate": 20.0},
        "how": {"train": "ran", "evaluate": "ran"},
        "commit": "0123456789ab",
        "dirty": False,
        "versions": {"torch": "2.15.0", "timm": "1.0.31"},
        "cpu": "A processor",
        "threads": 2,
        "date": f"2026-01-0{seed + 1}T00:00:00+00:00",
        "data_digest": "abc",
    } | changes


def write(project: Path, name: str, *runs: dict[str, Any]) -> Path:
    for run in runs:
        records.write(name, run, project / records.RECORDS)
    return project / records.RECORDS / name


def test_spread_is_the_samples() -> None:
    s = records.spread([0.9, 0.94, 0.98])
    assert s.mean == pytest.approx(0.94)
    assert s.std == pytest.approx(0.04)
    assert (s.low, s.high, s.n) == (0.9, 0.98, 3)
    assert math.isnan(records.spread([0.5]).std)
    assert str(records.spread([0.5])) == "0.5000"


def test_one_record(tmp_path: Path) -> None:
    folder = write(tmp_path, "digits", record(0, 0.90), record(1, 0.94), record(2, 0.98))
    (folder / "note.md").write_text("The default recipe.\n")
    (folder / "quoted.yaml").write_text(
        "- {method: CC, acc: 0.48, nmi: 0.609, source: 'a paper, table 1'}\n"
    )
    page = results.render(tmp_path)
    assert page.startswith("# Results\n")
    assert "## digits\n\nThe default recipe.\n" in page
    row = "| **VTCC** | 0.9400 ± 0.0400 (0.9000–0.9800) | 0.8400 ± 0.0400 (0.8000–0.8800) |"
    assert row in page
    assert "| k-means on pixels | 0.7900 | 0.7400 | 0.6700 |" in page
    assert "| CC (*quoted*: a paper, table 1) | 0.480 | 0.609 | – |" in page
    assert "- Configuration: preset `digits` as it is\n" in page
    assert "- Seeds: 0, 1, 2\n" in page
    assert "- Time: train 101 ± 1 s, evaluate 20 ± 0 s\n" in page
    assert "- Hardware: A processor, threads: 2\n" in page
    assert "- Commit: `0123456789ab`\n" in page
    assert "- Date: 2026-01-01 to 2026-01-03\n" in page
    assert "- Again: `vtcc study benchmarks/studies/digits.yaml`\n" in page


def test_a_baseline_that_no_training_changes_counts_once_per_seed_of_its_own(
    tmp_path: Path,
) -> None:
    def run(seed: int, own: int, figure: float) -> dict[str, Any]:
        made = record(seed, 0.9 + seed / 100, params={"evaluate.seed": own})
        made["metrics"] |= {f"baseline_kmeans_pixels_{s}": figure for s in ("acc", "nmi", "ari")}
        made["metrics"]["baseline_kmeans_embedding_acc"] = 0.8 + seed / 100
        return made

    # Four runs from before a study's seeds were those of the evaluation too.
    old = [run(seed, 0, 0.70) for seed in range(4)]
    key = "baseline_kmeans_pixels_acc"
    assert str(records.scores(old, key)) == "0.7000"
    assert records.scores(old, "baseline_kmeans_embedding_acc").n == 4
    assert records.scores(old, "acc").n == 4
    s = records.scores([*old, run(4, 4, 0.74)], key)
    assert (s.mean, s.n) == (pytest.approx(0.72), 2)
    write(tmp_path, "digits", *old, run(4, 4, 0.74))
    page = results.render(tmp_path)  # seeds differ, parameters do not
    assert "| k-means on pixels | 0.7200 ± 0.0283 (0.7000–0.7400) |" in page
    assert "| k-means on the trained embedding | 0.8200 ± 0.0158 (0.8000–0.8400) |" in page


def test_what_differs_is_said(tmp_path: Path) -> None:
    changed = {"params": {"train.epochs": 7}, "dirty": True, "how": {"train": "restored"}}
    write(tmp_path, "digits", record(0, 0.9, **changed))
    page = results.render(tmp_path)
    assert "preset `digits` with `train.epochs` 7 (preset: 75)" in page
    assert "- Commit: `0123456789ab` with uncommitted changes\n" in page
    assert "- Time: not measured: every stage was cached\n" in page
    assert "| **VTCC** | 0.9000 | 0.8000 | 0.7000 |" in page


def test_settings_are_paired_by_seed(tmp_path: Path) -> None:
    other = {"params": {"train.model.stem": "patchify", "evaluate.projection": "pca"}}
    folder = write(tmp_path, "stem--conv", record(0, 0.90), record(1, 0.96), record(2, 0.5))
    write(tmp_path, "stem--a", record(0, 0.80, **other), record(1, 0.82, **other))
    (folder.parent / "stem").mkdir()
    (folder.parent / "stem" / "note.md").write_text("Does the stem matter?")
    studies = tmp_path / "benchmarks" / "studies"
    studies.mkdir()
    (studies / "stem.yaml").write_text("baseline: conv\nsettings: {conv: {}, a: {}}\n")
    page = results.render(tmp_path)
    assert "## stem\n\nDoes the stem matter?\n" in page
    first = page.index("| `conv` | 3 | 0.7867 ± 0.2501 (0.5000–0.9600) |")
    assert first < page.index("| `a` | 2 | 0.8100 ± 0.0141 (0.8000–0.8200) |")
    assert "| -0.1200 ± 0.0283 (n 2) |\n" in page
    assert "- `a`: `train.model.stem` conv → patchify\n" in page
    assert "| k-means on pixels | 0.7900 | 0.7400 | 0.6700 |" in page
    assert page.count("| baseline |\n") == 1


def test_runs_of_other_code_are_shown_with_a_note_and_not_paired(tmp_path: Path) -> None:
    write(tmp_path, "stem--a", record(0, 0.90), record(1, 0.94))
    folder = write(tmp_path, "stem--b", record(0, 0.80), record(1, 0.84, commit="another"))
    page = results.render(tmp_path)
    assert "| -0.1000 (n 1; seeds 1: other code) |\n" in page
    assert (
        "Not all of these runs are of the same code, which figures may show (commit 0123456789ab: "
        "a seed 0, a seed 1, b seed 0; commit another: b seed 1).\n"
    ) in page
    # The same digest of the code: what lies between the commits matters to no figure.
    write(tmp_path, "stem--b", record(1, 0.84, commit="another", code="c"))
    write(tmp_path, "stem--a", record(0, 0.90, code="c"), record(1, 0.94, code="c"))
    write(tmp_path, "stem--b", record(0, 0.80, code="c"))
    assert "not all of these" not in results.render(tmp_path).lower()
    for seed in (0, 1):
        other = record(seed, 0.8, commit="another", dirty=True)
        records.write("stem--b", other, folder.parent)
    assert "| – (seeds 0, 1: other code) |\n" in results.render(tmp_path)


def test_records_of_the_former_tool_stay_readable(tmp_path: Path) -> None:
    write(tmp_path, "digits", record(0, 0.9, command="python -m benchmarks.seeds --seeds 0"))
    said = "- Recorded by: `python -m benchmarks.seeds --seeds 0`, at that commit\n"
    assert said in results.render(tmp_path)


def test_quoted_figures_stand_beside_ours_or_alone(tmp_path: Path) -> None:
    write(tmp_path, "ours", record(0, 0.9))
    write(tmp_path, "part", record(0, 0.9, params={"dataset.limit": 10, "dataset.source": "aid"}))
    (tmp_path / "benchmarks" / "quoted.yaml").write_text(
        "digits: [{method: CC, acc: 0.5, source: a paper}]\n"
        "aid: [{method: PICI, acc: 0.748, nmi: 0.8, ari: 0.663, source: another}]\n"
    )
    page = results.render(tmp_path)
    assert page.count("| CC (*quoted*: a paper) | 0.500 | – | – |") == 1
    assert "## Reference figures of the literature\n" in page
    assert "| aid | PICI | 0.748 | 0.800 | 0.663 | another |" in page
    assert page.count("PICI") == 1


def test_seeds_that_were_not_run_alike_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "digits", record(0, 0.9), record(1, 0.9, params={"train.epochs": 7}))
    with pytest.raises(VtccError, match=r"seeds 0 and 1 differ in train\.epochs"):
        results.render(tmp_path)
    write(tmp_path, "digits", record(1, 0.9, data_digest="other"))
    with pytest.raises(VtccError, match="seeds 0 and 1 differ in the images"):
        results.render(tmp_path)


def test_damaged_records_are_named(tmp_path: Path) -> None:
    file = write(tmp_path, "digits", record(0, 0.9)) / "seed0.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in whole.items() if k != "params"}))
    with pytest.raises(VtccError, match=r"seed0\.json: params is None, expected dict"):
        results.render(tmp_path)
    file.write_text("{")
    with pytest.raises(VtccError, match="not a recorded run"):
        results.render(tmp_path)


def test_the_page_is_what_the_records_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    results.main(["--check"])


def test_check_notices_an_edited_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("")
    write(tmp_path, "digits", record(0, 0.9))
    results.main([])
    page = tmp_path / "docs" / "results.md"
    results.main(["--check"])
    page.write_text(page.read_text().replace("0.9000", "0.9900"))
    with pytest.raises(SystemExit, match="run `make results`"):
        results.main(["--check"])


@pytest.mark.parametrize("name", ["", "../x", "Digits", "a b", "-a", "a/b"])
def test_names_that_are_no_directories(name: str) -> None:
    with pytest.raises(VtccError, match="lower-case letters"):
        records.directory(name)
