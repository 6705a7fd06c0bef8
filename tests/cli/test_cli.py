import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fakes import stand_in
from vtcc import bounds, cli, config
from vtcc.__main__ import main
from vtcc.config import compose
from vtcc.errors import TemporaryError, VtccError


def vtcc(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "vtcc", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(config.PRESETS.parents[1])},
    )


def test_help_loads_nothing_heavy():
    heavy = ["torch", "mlflow", "prefect", "pandas", "sklearn", "great_expectations", "numpy"]
    heavy += ["rich", "yaml", "vtcc.config"]
    code = (
        "import sys; from typer.testing import CliRunner; from vtcc.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A directory that passes for a clone."""
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_users_mistake_is_one_line_and_exit_1(clone):
    done = vtcc("use", "digitz", cwd=clone)
    assert done.returncode == 1
    assert done.stderr == (
        "error: preset 'digitz': unknown; did you mean 'digits'? "
        f"({', '.join(compose.names('run'))}); datasets, which it may name as well: "
        "`vtcc datasets`\n"
    )
    assert [file.name for file in clone.iterdir()] == ["dvc.yaml"]


@pytest.mark.parametrize(("error", "status"), [(VtccError, 1), (TemporaryError, 75)])
def test_the_exit_status_tells_whether_trying_again_may_help(error, status, monkeypatch, capsys):
    def fail():
        raise error("no route to host")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert capsys.readouterr().err == "error: no route to host\n"


@pytest.mark.parametrize("number", [errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG])
def test_a_path_that_cannot_be_is_one_line(monkeypatch, capsys, number):
    def fail():
        raise OSError(number, os.strerror(number), "out/x")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    words = f"error: [Errno {number}] {os.strerror(number)}: 'out/x'; name another place, then "
    assert capsys.readouterr().err == words + "re-run\n"


def test_a_link_to_itself_is_one_line(monkeypatch, capsys, tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    def fail():
        if loop.resolve() == loop:  # Python 3.13 does not mind
            raise RuntimeError(f"Symlink loop from {str(loop)!r}")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "loop'; name another place, then re-run" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_a_bug_is_not(monkeypatch, capsys):
    def fail(number):
        raise OSError(number, os.strerror(number), "data/cache")

    monkeypatch.setattr(cli, "app", lambda: fail(errno.ENOSPC))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "No space left on device: 'data/cache'; free space" in capsys.readouterr().err
    monkeypatch.setattr(cli, "app", lambda: fail(errno.EBADF))
    with pytest.raises(OSError, match="Bad file descriptor"):
        main()


def test_clean_keeps_what_is_in_use(tmp_path, monkeypatch):
    from filelock import FileLock

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VTCC_HOME", str(tmp_path))
    for name in ("scratch/live", "scratch/dead", "worktrees/dead"):
        (tmp_path / ".vtcc" / name).mkdir(parents=True)
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / ".vtcc/worktrees/link").symlink_to(photos)
    with FileLock(tmp_path / ".vtcc/scratch/live.lock"):
        result = CliRunner().invoke(cli.app, ["clean", "--yes"])
    assert result.exit_code == 0, result.output
    assert "in use, kept" in result.stdout
    left = sorted(p.name for p in (tmp_path / ".vtcc").glob("*/*") if p.suffix != ".lock")
    assert left == ["link", "live"]
    assert photos.is_dir()


def test_use_never_overwrites_the_only_copy_of_edited_params(clone):
    run = CliRunner().invoke
    run(cli.app, ["use", "digits", "--set", "train.epochs=77"])
    run(cli.app, ["use", "tiny"])
    run(cli.app, ["use", "digits"])
    kept = [p.read_text() for p in (clone / ".vtcc/params").iterdir()]
    assert len(kept) == 1  # presets as they come are not worth keeping
    assert "epochs: 77" in kept[0]


def test_use_keeps_what_it_cannot_read(clone):
    former = (config.PRESETS / "tiny.yaml").read_bytes() + b"# caf\xe9\n"
    (clone / "params.yaml").write_bytes(former)
    result = CliRunner().invoke(cli.app, ["use", "digits"])
    assert result.exit_code == 0, result.output
    [kept] = (clone / ".vtcc/params").iterdir()
    assert kept.read_bytes() == former
    assert f"kept as .vtcc/params/{kept.name}" in result.stdout
    assert (clone / "params.yaml").read_text() == compose.run_text("digits")


@pytest.mark.parametrize(
    ("in_the_way", "reason"), [("params.yaml/", "Is a directory"), (".vtcc", "Not a directory")]
)
def test_use_changes_nothing_where_the_former_cannot_be_kept(in_the_way, reason, clone):
    if in_the_way.endswith("/"):
        Path(in_the_way).mkdir()
    else:
        Path(in_the_way).touch()
        Path("params.yaml").write_text("mine: 1\n")
    before = [(p.name, p.is_dir() or p.read_text()) for p in sorted(clone.iterdir())]
    with pytest.raises(VtccError, match=rf"params.yaml: cannot be kept .*\({reason}\); move it"):
        CliRunner().invoke(cli.app, ["use", "digits"], catch_exceptions=False)
    assert [(p.name, p.is_dir() or p.read_text()) for p in sorted(clone.iterdir())] == before


@pytest.mark.parametrize(
    "verb", ["source", "download", "validate", "embed", "train", "evaluate", "params"]
)
def test_a_verb_outside_a_project_says_what_is_missing(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, [verb])
    assert isinstance(result.exception, VtccError)
    assert "params.yaml: no such file" in str(result.exception)


@pytest.mark.parametrize(
    "ignored",
    [["--model", "models:/x/3"], ["--threads", "1"], ["--max-pixels", "9"], ["--docs"]],
)
def test_a_running_server_takes_no_options_of_a_new_one(ignored, tmp_path, monkeypatch):
    from vtcc.tracking import api

    monkeypatch.chdir(tmp_path)
    asked = stand_in(monkeypatch, api, "reload", lambda host, port: None)
    reload = ["api", "--reload", "--port", "5003", "--host", "::1"]
    refused = CliRunner().invoke(cli.app, [*reload, *ignored])
    assert str(refused.exception).startswith(f"{ignored[0]} belongs to a server that starts; ")
    asked.assert_not_called()
    # What a variable says is of whatever starts next.
    name, value = ignored[0][2:].replace("-", "_").upper(), [*ignored[1:], "1"][0]
    assert CliRunner().invoke(cli.app, reload, env={f"VTCC_API_{name}": value}).exit_code == 0
    asked.assert_called_once_with("::1", 5003)


def test_use_writes_a_preset(clone):
    run = CliRunner().invoke
    assert run(cli.app, ["use", "digits"]).exit_code == 0
    assert (clone / "params.yaml").read_text() == (config.PRESETS / "digits.yaml").read_text()
    result = run(cli.app, ["use", "tiny", "--set", "train.epochs=5"])
    assert result.exit_code == 0
    assert config.load(clone / "params.yaml").train.epochs == 5
    assert not (clone / ".vtcc").exists()
    assert "preset tiny, train.epochs=5" in result.stdout


@pytest.mark.parametrize("name", ["tiny", "ucmerced"])
@pytest.mark.parametrize("former", [None, "mine: 1\n"])
def test_use_outside_a_clone_is_refused_and_writes_nothing(name, former, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if former:
        Path("params.yaml").write_text(former)
    refused = CliRunner().invoke(cli.app, ["use", name])
    assert isinstance(refused.exception, VtccError)
    assert str(refused.exception).startswith(f"{tmp_path} is no clone of vtcc (no dvc.yaml), and ")
    assert refused.output == ""
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == (
        {"params.yaml": former} if former else {}
    )


def test_use_with_a_wrong_value_changes_nothing(clone):
    CliRunner().invoke(cli.app, ["use", "digits"])
    result = CliRunner().invoke(cli.app, ["use", "tiny", "--set", "train.epochs=0"])
    assert isinstance(result.exception, VtccError)
    assert (clone / "params.yaml").read_text() == (config.PRESETS / "digits.yaml").read_text()


def test_params_explain_shows_value_limits_and_reason(clone, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    CliRunner().invoke(cli.app, ["use", "digits"])
    shown = CliRunner().invoke(cli.app, ["params", "--explain", "stem"]).stdout
    assert "train.model.stem" in shown
    assert "conv | patchify" in shown
    assert " ".join(shown.split()).count("as the paper") == 1
    assert "train.seed" not in shown and "Bounds" not in shown
    everything = CliRunner().invoke(cli.app, ["params", "--explain"]).stdout
    assert all(f"\n{what}:\n" in everything for what, _ in bounds.IN_WORDS)
    assert "at most 262144 pixels" in " ".join(everything.split())


def test_params_explain_answers_outside_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(cli.app, ["params", "--explain", "validate.max_pixels"])
    first, value, *_ = shown.stdout.splitlines()
    assert first == "no params.yaml here: these are the values of the preset `folder`"
    folder = compose.compose("folder")["validate"]["max_pixels"]
    assert value == f"validate.max_pixels: {folder}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("verb", [["presets"], ["params", "--explain"]])
def test_a_reader_that_leaves_ends_no_command(verb, unbuffered, tmp_path):
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "vtcc", *verb],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "PYTHONUNBUFFERED": unbuffered},
        stdout=written,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(written)
    assert (done.returncode, done.stderr) == (0, "")


def test_stages_run_from_below_the_project(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text((config.PRESETS / "digits.yaml").read_text())
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert CliRunner().invoke(cli.app, ["params"]).exit_code == 0


@pytest.mark.slow
def test_help_answers_in_half_a_second():
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert vtcc("--help").returncode == 0
        times.append(time.perf_counter() - start)
    assert sorted(times)[2] < 0.5, times
