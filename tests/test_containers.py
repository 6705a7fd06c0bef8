"""Dockerfile and compose.yaml, read: what they name is there, and what they promise is kept."""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from tests.imports import TOP
from vtcc.cli import app
from vtcc.cli.verbs import variables
from vtcc.version import __version__

DOCKERFILE = (TOP / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((TOP / "compose.yaml").read_text(encoding="utf-8"))
PUBLISHED = ("core", "pipeline", "servers")


def stages():
    """Name -> (base, instructions), in the order of the file."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE).replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = (base, [])
        else:
            list(found.values())[-1][1].append((word, rest))
    return found


def lineage(name):
    """All instructions of a stage, those it inherits first."""
    base, own = stages()[name]
    return (lineage(base) if base in stages() else []) + own


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_image_runs_without_rights(name):
    users = [rest for word, rest in lineage(name) if word == "USER"]
    assert users[-1] == "1000"  # by number: Kubernetes can see that it is not root
    assert ("RUN", "useradd --create-home --uid 1000 vtcc") in [
        (word, rest.partition("  ")[0].strip()) for word, rest in lineage(name)
    ]


def test_the_last_stage_is_the_core_and_starts_vtcc():
    known = stages()
    assert list(known)[-1] == "core"
    assert ("ENTRYPOINT", '["vtcc"]') in known["core"][1]
    assert {base for base, _ in known.values()} - known.keys() == {"python:3.11-slim"}
    assert not any("pipeline" in rest for _, rest in lineage("core"))
    [installed] = [rest for word, rest in known["build"][1] if "uv pip install" in rest]
    assert shlex.split(installed)[-1] == "."


def test_what_is_copied_is_there_and_sent():
    sent = (TOP / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for base, instructions in stages().values():
        assert base
        for word, rest in instructions:
            if word != "COPY":
                continue
            parts = rest.split()
            if parts[0].startswith("--from="):
                assert parts[0].removeprefix("--from=") in stages()
                continue
            for name in parts[:-1]:
                assert (TOP / name).exists()
                assert f"!{name}" in sent


def test_the_variables_of_the_image_are_options():
    named = {n for _, rest in lineage("core") for n in re.findall(r"\bVTCC_[A-Z_]+", rest)}
    assert named == {"VTCC_CLUSTER_OUT", "VTCC_PREDICT_OUT", "VTCC_DEMO_OUT"}
    assert named <= variables(get_command(app))


def test_services_are_pinned_closed_and_complete():
    services = COMPOSE["services"]
    assert {"prefect", "worker", "mlflow", "store"} <= services.keys()
    for name, service in services.items():
        image, _, tag = service["image"].rpartition(":")
        assert image and tag != "latest", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert set(service.get("depends_on", {})) <= services.keys(), name
        if build := service.get("build"):
            assert build["target"] in PUBLISHED
            assert tag == __version__
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in (".", "/dev/null", *COMPOSE["volumes"]), name
    # The checkout that the worker sees holds the passwords of the other services.
    assert "/dev/null:/project/.env:ro" in services["worker"]["volumes"]
    waits = {
        k: v["condition"] for s in services.values() for k, v in s.get("depends_on", {}).items()
    }
    for name, condition in waits.items():
        assert condition != "service_healthy" or "healthcheck" in services[name]


def test_no_password_is_in_the_file():
    for name, service in COMPOSE["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET", key):
                assert re.fullmatch(r"\$\{[A-Z_]+(:\?.*)?\}", str(value)), f"{name}: {key}"
            if "://" in str(value) and "@" in str(value):
                assert re.search(r":\$\{[A-Z_]+(:\?[^}]*)?\}@", value), f"{name}: {key}"
    assert "/.env" in (TOP / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_worker_serves_what_prefect_yaml_lists():
    command = COMPOSE["services"]["worker"]["command"][-1]
    listed = yaml.safe_load((TOP / "prefect.yaml").read_text(encoding="utf-8"))
    pools = {d["work_pool"]["name"] for d in listed["deployments"]}
    assert pools == {"vtcc"}
    assert "work-pool create vtcc " in command
    assert command.endswith("worker start --pool vtcc")


def test_a_linter_agrees():
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, "Dockerfile"], cwd=TOP, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_compose_agrees():
    compose = ["docker", "compose"]
    here = shutil.which("docker")
    if not here or subprocess.run([*compose, "version"], capture_output=True).returncode:
        pytest.skip("docker compose: not here, so the file was only read, see above")
    names = ("MLFLOW_DATABASE_PASSWORD", "PREFECT_DATABASE_PASSWORD", "STORE_PASSWORD")
    done = subprocess.run(
        [*compose, "--file", "compose.yaml", "config", "-q"],
        cwd=TOP,
        env=os.environ | dict.fromkeys(names, "secret-enough"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
