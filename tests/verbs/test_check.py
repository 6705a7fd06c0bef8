import json

import pytest
from typer.testing import CliRunner

from vtcc.cli import app
from vtcc.errors import BELOW, VtccError
from vtcc.verbs import check


def results(place, level):
    place.mkdir()
    cluster = {"id": 0, "name": "boats", "size": 2, "spread": 0.1, "confidence": 0.9, "nearest": 1}
    summary = {
        "files": ["a", "b", "c"],
        "errors": {"c": "truncated"},
        "clusters": [cluster],
        "trust": {"level": level, "verdict": f"{level}: of three words"},
        "minutes": 0.2,
        "seconds": 12.5,
    }
    (place / "summary.json").write_text(json.dumps(summary))
    return place


@pytest.mark.parametrize(
    ("level", "clear", "weak"),
    [
        ("clear", True, True),
        ("weak", False, True),
        ("chance", False, False),
        ("one kind", False, False),
    ],
)
def test_the_verdict_decides_the_status(level, clear, weak, tmp_path):
    place = str(results(tmp_path / "r", level))
    run = CliRunner().invoke
    assert run(app, ["check", place]).exit_code == (0 if clear else BELOW)
    result = run(app, ["check", place, "--require", "weak", "--json"])
    assert result.exit_code == (0 if weak else BELOW)
    answer = json.loads(result.stdout)
    assert answer["passed"] is weak
    assert (answer["required"], answer["level"]) == ("weak", level)
    assert (answer["images"], answer["unreadable"]) == (2, 1)
    assert (answer["minutes"], answer["seconds"]) == (0.2, 12.5)
    assert answer["clusters"][0]["name"] == "boats"
    assert answer["report"] == f"{place}/report.html"
    word = "passed" if weak else "failed"
    assert result.stderr == f"{word}, weak required: {level}: of three words\n"


def test_mistakes_are_one_line(tmp_path):
    place = results(tmp_path / "r", "clear")
    with pytest.raises(VtccError, match="--require: found 'good'; allowed: clear, weak"):
        check.run(place, "good")
    with pytest.raises(VtccError, match="no results of `vtcc cluster`"):
        check.run(tmp_path, "weak")
    with pytest.raises(VtccError, match=f"^{tmp_path / 'none'}: no such folder; give one of `vtcc"):
        check.run(tmp_path / "none", "weak")
    for damaged in ("{", "[]", "{}"):
        (place / "summary.json").write_text(damaged)
        with pytest.raises(VtccError, match=r"summary\.json: damaged"):
            check.run(place, "weak")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trust": {}}, "damaged .without trust.level.; run `vtcc cluster` again"),
        ({"trust": []}, r"damaged .trust: found \[\]"),
        ({"errors": None}, "damaged .errors: found None"),
        ({"seconds": "long"}, "damaged .seconds: found 'long'"),
        ({"collection": [1]}, r"damaged .collection: found \[1\]"),
        ({"trust": {"level": "clearer", "verdict": ""}}, "level: found 'clearer'; known: chance,"),
    ],
)
def test_a_summary_that_is_not_ours_is_one_line(change, words, tmp_path):
    file = results(tmp_path / "r", "clear") / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(VtccError, match=rf"summary\.json: .*{words}"):
        check.run(tmp_path / "r", "weak")
