"""The results page and the seeds' table, from records made up for the purpose."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import vtcc
from benchmarks import records, results, seeds
from vtcc import config
from vtcc.errors import VtccError

PRESETS = Path(vtcc.__file__).parent / "presets"
DIGITS = config.flatten(yaml.safe_load((PRESETS / "digits.yaml").read_text()))


def record(seed: int, acc: float, **changes: Any) -> dict[str, Any]:
    words = "python -m benchmarks.seeds --preset digits --seeds 0 --record digits"
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


def write(root: Path, name: str, *runs: dict[str, Any]) -> None:
    for run in runs:
        records.write(name, run, root)


def test_spread_is_the_samples() -> None:
    s = records.spread([0.9, 0.94, 0.98])
    assert s.mean == pytest.approx(0.94)
    assert s.std == pytest.approx(0.04)
    assert (s.low, s.high, s.n) == (0.9, 0.98, 3)
    assert math.isnan(records.spread([0.5]).std)
    assert str(records.spread([0.5])) == "0.5000"


def test_one_record(tmp_path: Path) -> None:
    write(tmp_path, "digits", record(0, 0.90), record(1, 0.94), record(2, 0.98))
    (tmp_path / "digits" / "note.md").write_text("The default recipe.\n")
    (tmp_path / "digits" / "quoted.yaml").write_text(
        "- {method: CC, acc: 0.48, nmi: 0.609, source: 'a paper, table 1'}\n"
    )
    page = results.render(tmp_path, PRESETS)
    assert page.startswith("# Results\n")
    assert "## digits\n\nThe default recipe.\n" in page
    row = "| **VTCC** | 0.9400 ± 0.0400 (0.9000–0.9800) | 0.8400 ± 0.0400 (0.8000–0.8800) |"
    assert row in page
    assert "| k-means on pixels | 0.7900 ± 0.0000 (0.7900–0.7900) |" in page
    assert "| CC (*quoted*: a paper, table 1) | 0.480 | 0.609 | – |" in page
    assert "- Configuration: preset `digits` as it is\n" in page
    assert "- Seeds: 0, 1, 2\n" in page
    assert "- Time: train 101 ± 1 s, evaluate 20 ± 0 s\n" in page
    assert "- Hardware: A processor, threads: 2\n" in page
    assert "- Commit: `0123456789ab`\n" in page
    assert "- Date: 2026-01-01 to 2026-01-03\n" in page
    again = "python -m benchmarks.seeds --preset digits --seeds 0,1,2 --record digits"
    assert f"- Again: `{again}`\n" in page


def test_what_differs_is_said(tmp_path: Path) -> None:
    changed = {"params": {"train.epochs": 7}, "dirty": True, "how": {"train": "restored"}}
    write(tmp_path, "digits", record(0, 0.9, **changed))
    page = results.render(tmp_path, PRESETS)
    assert "preset `digits` with `train.epochs` 7 (preset: 100)" in page
    assert "- Commit: `0123456789ab` with uncommitted changes\n" in page
    assert "- Time: not measured: every stage was cached\n" in page
    assert "| **VTCC** | 0.9000 | 0.8000 | 0.7000 |" in page


def test_variants_are_paired_by_seed(tmp_path: Path) -> None:
    other = {"params": {"train.model.stem": "patchify"}}
    write(tmp_path, "stem--conv", record(0, 0.90), record(1, 0.96), record(2, 0.5))
    write(tmp_path, "stem--patchify", record(0, 0.80, **other), record(1, 0.82, **other))
    (tmp_path / "stem").mkdir()
    (tmp_path / "stem" / "note.md").write_text("Does the stem matter?")
    page = results.render(tmp_path, PRESETS)
    assert "## stem\n\nDoes the stem matter?\n" in page
    assert "| `conv` | 3 | 0.7867 ± 0.2501 (0.5000–0.9600) |" in page
    assert "| `patchify` | 2 | 0.8100 ± 0.0141 (0.8000–0.8200) |" in page
    assert (
        "| 0 | -0.1000 | -0.1000 | -0.1000 |\n| 1 | -0.1400 | -0.1400 | -0.1400 |\n| mean" in page
    )
    assert "| mean | -0.1200 ± 0.0283 |" in page
    assert "Parameters that differ: `train.model.stem` conv → patchify\n" in page
    assert "### stem--conv\n" in page


def test_seeds_that_were_not_run_alike_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "digits", record(0, 0.9), record(1, 0.9, params={"train.epochs": 7}))
    with pytest.raises(VtccError, match=r"seeds 0 and 1 differ in train\.epochs"):
        results.render(tmp_path, PRESETS)
    write(tmp_path, "digits", record(1, 0.9, data_digest="other"))
    with pytest.raises(VtccError, match="seeds 0 and 1 differ in the images"):
        results.render(tmp_path, PRESETS)


def test_damaged_records_are_named(tmp_path: Path) -> None:
    write(tmp_path, "digits", record(0, 0.9))
    file = tmp_path / "digits" / "seed0.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in whole.items() if k != "params"}))
    with pytest.raises(VtccError, match=r"seed0\.json: params is None, expected dict"):
        results.render(tmp_path, PRESETS)
    file.write_text("{")
    with pytest.raises(VtccError, match="not a recorded run"):
        results.render(tmp_path, PRESETS)


def test_the_page_is_what_the_records_give() -> None:
    results.main(["--check"])


def test_check_notices_an_edited_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    (tmp_path / "vtcc").symlink_to(PRESETS.parent)
    write(tmp_path / "benchmarks" / "records", "digits", record(0, 0.9))
    results.main([])
    page = tmp_path / "docs" / "results.md"
    results.main(["--check"])
    page.write_text(page.read_text().replace("0.9000", "0.9900"))
    with pytest.raises(SystemExit, match="run `make results`"):
        results.main(["--check"])


def test_table_of_seeds() -> None:
    text = seeds.table({0: record(0, 0.90), 1: record(1, 0.94)})
    assert text.splitlines()[1].split() == [
        "vtcc", "acc", "0.9200", "0.0283", "0.9000", "0.9400", "2",
    ]  # fmt: skip
    assert text.splitlines()[4].split()[:3] == ["kmeans_pixels", "acc", "0.7900"]


def test_seed_ranges() -> None:
    assert seeds.parse_seeds("0-2,7") == [0, 1, 2, 7]
    for wrong in ("", "a", "3-1", "1,1", "-1", "1-"):
        with pytest.raises(VtccError, match="--seeds"):
            seeds.parse_seeds(wrong)


@pytest.mark.parametrize("name", ["", "../x", "Digits", "a b", "-a", "a/b"])
def test_names_that_are_no_directories(name: str) -> None:
    with pytest.raises(VtccError, match="lower-case letters"):
        records.directory(name)


def test_recorded_seeds_are_the_same_only_with_the_same_images_and_parameters() -> None:
    nested = yaml.safe_load((PRESETS / "digits.yaml").read_text())
    assert seeds._same(record(0, 0.9), nested, "abc")
    assert not seeds._same(record(0, 0.9), nested, "other")
    assert not seeds._same(record(1, 0.9), nested, "abc")
    assert not seeds._same(None, nested, "abc")


def test_command_is_one_line_a_shell_takes() -> None:
    words = seeds._command("digits", {"train.augment.crop_scale": [0.2, 1.0]}, [0, 3], "a--b", 2)
    assert words == (
        "python -m benchmarks.seeds --preset digits --seeds 0,3 --record a--b "
        "--set 'train.augment.crop_scale=[0.2, 1.0]' --threads 2"
    )
