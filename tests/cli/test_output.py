"""--json, --quiet, variables: what the verbs of the folder say, and where."""

import io
import json
import sys

import pytest
from typer.testing import CliRunner

from tests.fakes import stand_in
from vtcc import config, progress
from vtcc.cli import app
from vtcc.cli.output import answering
from vtcc.version import __version__

ANSWER = {"images": 3, "name": "Bäume", "passed": True}
VERBS = {
    "cluster": ("vtcc.verbs.cluster", "run", ["photos"]),
    "refine": ("vtcc.verbs.refine", "run", ["results", "--edits", "edits.json"]),
    "predict": ("vtcc.verbs.predict", "run", ["photos", "--out", "out.csv"]),
    "predict --ray": ("vtcc.scale.ray", "run", ["photos", "--out", "out.csv", "--ray"]),
    "check": ("vtcc.verbs.check", "run", ["results"]),
    "demo": ("vtcc.verbs.demo", "run", []),
    "encoders fetch": ("vtcc.verbs.encoders", "fetch", ["lite2"]),
}


def called(monkeypatch, verb, *more):
    """What the command line does with a verb that reports, notes and answers; and its fake."""

    def speaks(*given, **named):
        progress.report("train", 1, 2)
        progress.note("a note")
        return ANSWER

    module, function, arguments = VERBS[verb]
    fake = stand_in(monkeypatch, module, function, speaks)
    words = [word for word in verb.split() if not word.startswith("-")]
    result = CliRunner().invoke(app, [*words, *arguments, *more])
    assert result.exit_code == 0, result.output
    return result, fake


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """The inputs that are named are there."""
    for name in ("photos", "edits.json"):  # results may be half renamed by a kill
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", '"B\\u00e4ume \\u5199"'),
        ("latin-1", '"B\\u00e4ume \\u5199"'),
        ("UTF8", '"Bäume 写"'),
    ],
)
def test_json_is_json_in_every_encoding_of_stdout(encoding, shown, monkeypatch):
    answer = {"root": "Bäume 写", "file": "Fotos-\udce9"}  # the last of bytes that are not UTF-8
    # As the command line sets it up for what cannot be encoded.
    stdout = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stdout)
    with answering(as_json=True, quiet=False) as show:
        show(answer)
    written = stdout.buffer.getvalue().decode(encoding)
    assert json.loads(written) == answer
    assert shown in written


def test_quiet_takes_any_word(capsys):
    with answering(as_json=True, quiet=True) as show:
        print("odd \udce9", flush=True)
        show(ANSWER)
    assert json.loads(capsys.readouterr().out) == ANSWER


@pytest.mark.parametrize("verb", VERBS)
def test_json_stands_alone_on_stdout_and_quiet_says_nothing(verb, monkeypatch):
    result, _ = called(monkeypatch, verb)
    assert result.stdout.splitlines()[1:] == ["a note"]
    assert result.stderr == ""
    result, _ = called(monkeypatch, verb, "--json")
    assert json.loads(result.stdout) == ANSWER
    assert result.stderr.splitlines()[1:] == ["a note"]
    result, _ = called(monkeypatch, verb, "--quiet")
    assert (result.stdout, result.stderr) == ("", "")
    result, _ = called(monkeypatch, verb, "--json", "-q")
    assert json.loads(result.stdout) == ANSWER
    assert result.stderr == ""


def test_what_is_said_of_the_options_is_a_note_too(monkeypatch):
    params = str(config.PRESETS / "folder.yaml")
    given = ["--params", params, "--seed", "7"]
    words = f"{params}: its train.seed 0 is left out; --seed is 7\n"
    result, _ = called(monkeypatch, "cluster", *given, "--json")
    assert json.loads(result.stdout) == ANSWER
    assert result.stderr.startswith(words)
    result, _ = called(monkeypatch, "cluster", *given, "--quiet")
    assert (result.stdout, result.stderr) == ("", "")


def test_a_variable_stands_for_an_option_and_the_command_line_wins(monkeypatch):
    monkeypatch.setenv("VTCC_CLUSTER_MINUTES", "5")
    monkeypatch.setenv("VTCC_CLUSTER_CLUSTERS", "7")
    monkeypatch.setenv("VTCC_CLUSTER_SET", "train.epochs=3 train.batch_size=32")
    monkeypatch.setenv("VTCC_CLUSTER_QUIET", "1")
    result, fake = called(monkeypatch, "cluster", "--minutes", "6")
    [options] = fake.call_args.args
    assert (options.minutes, options.clusters) == (6.0, 7)
    assert options.overrides == {"train.epochs": 3, "train.batch_size": 32}
    assert result.stdout == ""
    monkeypatch.setenv("VTCC_DEMO_OPEN", "0")
    _, fake = called(monkeypatch, "demo")
    assert fake.call_args.kwargs == {"open_page": False}


def test_a_variable_that_is_wrong_is_refused(monkeypatch):
    monkeypatch.setenv("VTCC_CLUSTER_MINUTES", "soon")
    result = CliRunner().invoke(app, ["cluster", "photos"])
    assert result.exit_code == 2
    assert "VTCC_CLUSTER_MINUTES" in result.output or "--minutes" in result.output


def test_a_mistyped_verb_is_answered_with_the_nearest():
    result = CliRunner().invoke(app, ["clustre", "photos"])
    assert result.exit_code == 2
    assert "No such command 'clustre'. Did you mean 'cluster'" in result.output


def test_the_version_comes_with_torch_and_the_device(monkeypatch):
    stand_in(monkeypatch, "vtcc.verbs.doctor", "around", lambda: "torch 9.9, cpu, Python 3.11.0")
    monkeypatch.setenv("VTCC_VERSION", "1")  # containers set it
    assert CliRunner().invoke(app, ["--version"]).stdout == (
        f"vtcc {__version__} (torch 9.9, cpu, Python 3.11.0)\n"
    )
    assert "cluster" in CliRunner().invoke(app, ["--help"]).stdout


def test_completion_names_the_verbs(monkeypatch):
    environment = {"_VTCC_COMPLETE": "complete_bash", "COMP_WORDS": "vtcc cl", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], env=environment, prog_name="vtcc")
    assert result.stdout.split() == ["cluster", "clean"]
