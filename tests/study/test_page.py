"""The comparison: paired differences by hand, and a page that hostile text cannot break."""

import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from vtcc import provenance
from vtcc.study import page, plan, records, run, summary, tables
from vtcc.verbs import study as stage

HOSTILE = "<script>alert(1)</script>"


def played(file: Path, project: Path) -> tuple[plan.Study, list[summary.Row]]:
    study = plan.read(file, project)
    root = plan.root(project)
    run.run(study, study.settings, study.seeds, project=project, root=root)
    return study, summary.rows(study, root)


def test_differences_are_paired_by_seed(file: Path, project: Path, ran: list) -> None:
    _, rows = played(file, project)
    assert [row.name for row in rows] == ["conv", "patchify"]
    conv, patchify = rows
    s = conv.score("acc")
    assert s is not None
    assert (s.mean, s.std) == (pytest.approx(0.905), pytest.approx(0.0070711, abs=1e-6))
    gain = summary.difference(rows, "conv", patchify, "acc")
    # Seed 0 loses 0.20, seed 1 loses 0.22.
    assert gain is not None and gain.n == 2
    assert (gain.mean, gain.std) == (pytest.approx(-0.21), pytest.approx(0.0141421, abs=1e-6))
    assert summary.difference(rows, "conv", conv, "acc") is None
    assert patchify.changed == {"train.model.stem": ("conv", "patchify")}
    assert summary.figures(rows)["acc_mean/conv"] == pytest.approx(0.905)
    text = tables.plain(*summary.table(rows, "conv", "acc"))
    assert text.splitlines()[2].split()[-3:] == ["-0.2100", "±", "0.0141"]
    # A change of the file afterwards is noticed.
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 3"))
    later = summary.rows(plan.read(file, project), plan.root(project))
    assert [row.outdated for row in later] == [dict.fromkeys((0, 1), "other parameters")] * 2


def test_runs_of_other_code_or_images_are_said_and_not_paired(
    file: Path, project: Path, ran: list
) -> None:
    study, _ = played(file, project)
    root, now = plan.root(project), provenance.commit(project)
    runs = records.load("stems--patchify", root)

    def rows(seed: int, **changes: Any) -> tuple[list[summary.Row], summary.Row]:
        """What is shown once a record of `patchify` has changed."""
        records.write("stems--patchify", runs[seed] | changes, root)
        every = summary.rows(study, root, now)
        return every, next(row for row in every if row.name == "patchify")

    every, row = rows(1)
    assert (row.outdated, summary.unpaired(every, "conv", row)) == ({}, {})
    every, row = rows(1, data_digest="older", date="2020-01-01T00:00:00+00:00")
    assert row.outdated == summary.unpaired(every, "conv", row) == {1: "other images"}
    # Another limit gives other images: that is what such a study compares.
    limit = {"params": runs[1]["params"] | {"dataset.limit": 5}}
    every, row = rows(1, data_digest="of five", **limit)
    assert summary.unpaired(every, "conv", row) == {}
    every, row = rows(1, commit="0" * 12, code="other")
    assert row.outdated == summary.unpaired(every, "conv", row) == {1: "other code"}
    gain = summary.difference(every, "conv", row, "acc")
    assert gain is not None
    assert (gain.mean, gain.n) == (pytest.approx(-0.2), 1)  # that of seed 0
    html = page.render(study, every, {})
    assert "n 1; seeds 1: other code" in html
    assert "seeds 1: other code than the study has now" in html
    assert "(commit " in html and "000000000000: patchify seed 1)" in html
    every, row = rows(0, commit="0" * 12, code="other")
    assert summary.difference(every, "conv", row, "acc") is None
    cells = summary.table(every, "conv", "acc")[1][every.index(row)]
    assert (cells[-1].text, cells[-1].quiet) == (tables.DASH, "seeds 0, 1: other code")


def test_the_page_is_whole_and_escapes(file: Path, project: Path, ran: list) -> None:
    text = file.read_text().replace("Which stem", f"'{HOSTILE}'")
    file.write_text(text.replace("one linear map", f"'{HOSTILE}'"))
    study, rows = played(file, project)
    failure = {"seed": 7, "reason": HOSTILE}
    records.write("stems--conv", failure, plan.root(project), "failed")
    rows = summary.rows(study, plan.root(project))
    known = {"digits": [{"method": HOSTILE, "source": "a paper", "acc": 0.5}]}
    html = page.render(study, rows, known)
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 5  # title twice
    assert html.count('<circle class="dot"') == 4
    assert "seed 1: 0.6900" in html
    assert "-0.2100 ± 0.0141" in html
    assert "(quoted)" in html and "a paper" in html
    assert "vtcc study stems.yaml" in html
    for link in ("http://", "https://", "src="):
        assert link not in html


def test_a_difference_of_baselines_counts_once_per_seed_of_its_own(
    file: Path, project: Path, ran: list
) -> None:
    study, _ = played(file, project)
    root, key = plan.root(project), "baseline_ward_acc"
    for own, n in ((0, 1), (1, 2)):  # seed 1 evaluated with the same seed as seed 0, and another
        for name, figure in (("conv", 0.5), ("patchify", 0.6)):
            known = records.load(f"stems--{name}", root)
            for seed, other in ((0, 0), (1, own)):
                known[seed]["metrics"][key] = figure
                known[seed]["params"]["evaluate.seed"] = other
                records.write(f"stems--{name}", known[seed], root)
        rows = summary.rows(study, root)
        patchify = next(row for row in rows if row.name == "patchify")
        gain = summary.difference(rows, "conv", patchify, key)
        assert gain is not None
        assert (gain.mean, gain.n) == (pytest.approx(0.1), n)


def test_without_labels_label_free_figures_are_shown(file: Path, project: Path, ran: list) -> None:
    study, _ = played(file, project)
    root = plan.root(project)
    for setting in study.settings:
        for record in records.load(setting.record, root).values():
            del record["metrics"]["acc"]
            records.write(setting.record, record, root)
    rows = summary.rows(study, root)
    assert summary.columns(rows) == ["confidence"]
    assert summary.main_score(study, rows) == "confidence"
    assert "No labels" in page.render(study, rows, {})


def test_nothing_recorded_yet(file: Path, project: Path, capsys: pytest.CaptureFixture) -> None:
    study = plan.read(file, project)
    rows = summary.rows(study, plan.root(project))
    assert "0 recorded runs" in page.render(study, rows, {})
    stage.start(file, only=["patchify"], seeds="4", dry_run=True)
    out = capsys.readouterr().out
    assert "1 run; records in" in out
    assert not plan.root(project).exists()
    assert page.plot([], "acc") is None


@pytest.mark.parametrize("name", ["stems.yaml", "Stämme #1.yaml", "it's.yaml", '"a" & b.yaml'])
def test_the_command_that_does_it_again_can_be_pasted(file: Path, project: Path, name: str) -> None:
    study = plan.read(file.rename(project / name), project)
    text = page.render(study, summary.rows(study, plan.root(project)), {})
    [command] = re.findall(r"<code>(vtcc study .*?)</code>", text)
    assert shlex.split(unescape(command), comments=True) == ["vtcc", "study", name]
