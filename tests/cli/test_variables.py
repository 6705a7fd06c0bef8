"""Variables of options: said once for all uses of a verb, they stand in the way of none."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fakes import stand_in
from vtcc import config
from vtcc.cli import app
from vtcc.errors import VtccError


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "params.yaml").write_text((config.PRESETS / "folder.yaml").read_text())
    monkeypatch.chdir(tmp_path)


def called(monkeypatch, where, words, **variables):
    """The arguments that a function gets from a command line beside variables."""
    module, _, function = where.rpartition(".")
    fake = stand_in(monkeypatch, module, function, lambda *given, **named: {})
    env = {f"VTCC_{name}": value for name, value in variables.items()}
    result = CliRunner().invoke(app, words, env=env)
    assert result.exit_code == 0, result.exception
    return fake.call_args


def test_a_variable_of_another_use_of_the_verb_is_left_out(monkeypatch):
    given = called(
        monkeypatch,
        "vtcc.verbs.export.run",
        ["export", "--model", "models/model", "--onnx", "m.onnx"],
        EXPORT_JSON="1",
        EXPORT_IMAGES="copies",
        EXPORT_PLACE="1",
    )
    assert given.kwargs == {"onnx": Path("m.onnx"), "with_encoder": None}
    given = called(
        monkeypatch,
        "vtcc.verbs.export.hand_over",
        ["export", "results", "--to", "coco", "--out", "c.json"],
        EXPORT_ONNX="m.onnx",
        EXPORT_MODEL="m",
        EXPORT_IMAGES="copies",  # which COCO has none of
    )
    assert given.args == (Path("results"), "coco", Path("c.json"))
    assert given.kwargs["images"] is None
    given = called(
        monkeypatch,
        "vtcc.verbs.export.hand_over",
        ["export", "results", "--to", "imagefolder", "--out", "out"],
        EXPORT_IMAGES="copies",
    )
    assert given.kwargs["images"] == "copies"
    out = ["predict", "photos", "--out", "out.csv"]
    of_ray = {"PREDICT_WORKERS": "4", "PREDICT_SHARD": "9", "PREDICT_RAY_ADDRESS": "auto"}
    assert "workers" not in called(monkeypatch, "vtcc.verbs.predict.run", out, **of_ray).kwargs
    assert called(monkeypatch, "vtcc.scale.ray.run", [*out, "--ray"], **of_ray).kwargs["shard"] == 9
    given = called(
        monkeypatch, "vtcc.verbs.plan.run", ["plan", "--images", "9"],
        PLAN_MINUTES="5", PLAN_SAMPLE="20", PLAN_ENCODER="lite2",
    )  # fmt: skip
    assert given.kwargs == {"preset": None, "overrides": {}, "images": 9}
    [planned] = called(
        monkeypatch, "vtcc.verbs.plan_collection.run", ["plan", "photos"],
        PLAN_PRESET="paper", PLAN_IMAGES="9", PLAN_MINUTES="5",
    ).args  # fmt: skip
    assert planned.minutes == 5.0


ENCODER = "train.model.encoder"


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        ([], {"UNCLUSTERED_AT_MOST": "0.1"}, {"unclustered": False}),
        (
            ["--unclustered"],
            {"UNCLUSTERED_AT_MOST": "0.1"},
            {"unclustered": True, "unclustered_at_most": 0.1},
        ),
        (["--params", "params.yaml"], {"ENCODER": "lite2"}, {"encoder": "auto"}),
        (
            ["--set", f"{ENCODER}=lite2"],
            {"ENCODER": "timm:resnet18", "WEIGHTS": "w.pth", "FINETUNE": "1"},
            {"encoder": "auto", "weights": None, "finetune": False},
        ),
        (
            ["--encoder", "none"],
            {"WEIGHTS": "w.pth", "FINETUNE": "1", "ACCEPT_LICENCE": "x"},
            {"encoder": "none", "weights": None, "finetune": False, "accept_licence": ()},
        ),
        (
            [],
            {"ENCODER": "lite2", "FINETUNE": "1", "ACCEPT_LICENCE": "x lite2"},
            {"encoder": "lite2", "finetune": True, "accept_licence": ("lite2",)},
        ),
        (
            ["--encoder", "lite2"],
            {"ENCODER": "timm:resnet18", "WEIGHTS": "w.pth", "FINETUNE": "1"},
            {"encoder": "lite2", "weights": None, "finetune": False},
        ),
        (
            ["--encoder", "lite2", "--finetune"],
            {"ENCODER": "timm:resnet18", "WEIGHTS": "w.pth"},
            {"encoder": "lite2", "weights": None, "finetune": True},
        ),
        (
            ["--encoder", "lite2"],
            {"ENCODER": "lite2", "FINETUNE": "1"},
            {"encoder": "lite2", "finetune": True},
        ),
        (["--encoder", "lite2"], {"FINETUNE": "1"}, {"encoder": "lite2", "finetune": True}),
        (
            ["--encoder", "lite2"],
            {"SET": f"{ENCODER}=timm:x train.model.frozen=1 train.model.weights=w train.epochs=3"},
            {"encoder": "lite2", "overrides": {"train.epochs": 3}},
        ),
    ],
)
def test_the_command_line_wins_over_variables_of_cluster(words, variables, expected, monkeypatch):
    named = {f"CLUSTER_{name}": value for name, value in variables.items()}
    given = called(monkeypatch, "vtcc.verbs.cluster.run", ["cluster", "photos", *words], **named)
    [options] = given.args
    assert {name: getattr(options, name) for name in expected} == expected


def test_a_plan_takes_the_encoder_that_is_set(monkeypatch):
    words = ["plan", "photos", "--set", f"{ENCODER}=lite2"]
    where = "vtcc.verbs.plan_collection.run"
    [planned] = called(monkeypatch, where, words, PLAN_ENCODER="none").args
    assert planned.encoder == "auto"
    words = ["plan", "photos", "--encoder", "lite2"]
    [planned] = called(monkeypatch, where, words, PLAN_SET=f"{ENCODER}=none train.epochs=2").args
    assert (planned.encoder, planned.overrides) == ("lite2", {"train.epochs": 2})


def test_params_are_written_with_the_encoder_that_is_typed(monkeypatch):
    words, variable = ["use", "folder", "--encoder", "lite2"], f"{ENCODER}=vit train.epochs=2"
    given = called(monkeypatch, "vtcc.verbs.use.run", words, USE_SET=variable)
    assert (given.kwargs["encoder"], given.kwargs["assignments"]) == ("lite2", ["train.epochs=2"])
    words = ["use", "folder", "--set", f"{ENCODER}=vit"]
    given = called(monkeypatch, "vtcc.verbs.use.run", words, USE_ENCODER="lite2")
    assert given.kwargs.get("encoder") is None
    assert given.kwargs["assignments"] == [f"{ENCODER}=vit"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "photos", "--out", "o.csv", "--shard", "9"], "--shard and --ray-address bel"),
        (["plan", "--minutes", "5"], "--minutes: belongs to a plan of inputs"),
        (["plan", "photos", "--preset", "paper"], "--preset: of a training's plan"),
        (["cluster", "photos", "--unclustered-at-most", "0.1"], "belongs to --unclustered; add it"),
        (["cluster", "photos", "--encoder", "none", "--finetune"], "--finetune: belongs to an enc"),
        (
            ["cluster", "photos", "--encoder", "lite2", "--set", f"{ENCODER}=none"],
            "--encoder lite2: --params or --set has train.model.encoder as well",
        ),
        (["cluster", "photos", "--accept-licence", "lite2"], "--accept-licence lite2: belongs to"),
        (["export", "--onnx", "m.onnx", "--json"], "--json belongs to results, --onnx and"),
        (["export", "results", "--images", "links", "--model", "m"], "RESULTS belongs to results"),
    ],
)
def test_what_is_typed_without_effect_is_refused(words, message):
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, VtccError) and message in str(error)


def test_weights_without_an_encoder_are_refused_from_a_variable_too():
    """Nothing that is typed says otherwise, and another model than the wished for would be made."""
    result = CliRunner().invoke(app, ["cluster", "photos"], env={"VTCC_CLUSTER_WEIGHTS": "w.pth"})
    assert str(result.exception).startswith("--weights: belongs to an encoder")


@pytest.mark.parametrize(
    ("name", "value", "words", "message"),
    [
        ("MINUTES", "abc", ["cluster", "photos"], "Invalid value for '--minutes': Input should "),
        ("FOLDERS", "bogus", ["cluster", "photos"], "--folders: found 'bogus'; allowed: links, "),
        ("CLUSTERS", "1", ["cluster", "photos"], "-k: found '1'; allowed: a number from 2"),
    ],
)
def test_what_is_wrong_with_an_option_names_its_variable_where_that_is_set(
    name, value, words, message
):
    option, variable = f"--{name.lower()}", f"VTCC_CLUSTER_{name}"
    says = f" ({variable} is set; {option} on the command line wins)"
    others = {"VTCC_CLUSTER_SAMPLE": "20", "VTCC_PLAN_MINUTES": "3"}
    for line, env, told in (
        (words, {variable: value} | others, True),
        ([*words, option, value], {variable: "4"}, True),
        ([*words, option, value], {variable: ""} | others, False),
    ):
        result = CliRunner().invoke(app, line, env=env)
        text = f"{result.exception} {result.output}"
        assert message in text and (says in text) == told, line
        assert "VTCC_CLUSTER_SAMPLE" not in text and "VTCC_PLAN" not in text
    assert "VTCC_CLUSTER" not in CliRunner().invoke(app, ["cluster", "--help"]).output
