"""What surrounds the process: its streams, its user, its proxies."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vtcc import __main__, cli, paths, progress, provenance, quiet
from vtcc.cli.options import enter_project
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.grouping import options, workdir
from vtcc.process import git

REPORT = "from vtcc import progress; progress.report('train', 1, 2); progress.note('café 写真')"


def run(code, **how):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, errors="replace", **how
    )


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full"])
def test_streams_that_take_nothing_end_no_work(tmp_path, redirected):
    code = f"{REPORT}; open('done', 'w').close()"
    command = f'"{sys.executable}" -c "{code}" {redirected}'
    status = subprocess.run(command, shell=True, cwd=tmp_path, env=_env()).returncode
    assert (tmp_path / "done").exists()
    assert status == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_what_cannot_be_encoded_is_escaped(encoding):
    code = REPORT + "; progress.note('odd \\udce9')"
    done = run(code, env=_env(PYTHONIOENCODING=encoding))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["progress"]["done"] == 1
    assert "odd \\udce9" in done.stdout


@pytest.mark.parametrize("redirected", [">&-", "2>&-"])
def test_a_closed_stream_takes_any_word(tmp_path, redirected):
    code = (
        "import vtcc.__main__ as m, sys; m._have_streams(); print('odd \\udce9', flush=True); "
        "print('odd \\udce9', file=sys.stderr, flush=True); open('done', 'w').close()"
    )
    command = f'"{sys.executable}" -c "{code}" {redirected}'
    status = subprocess.run(command, shell=True, cwd=tmp_path, env=_env()).returncode
    assert (status, (tmp_path / "done").exists()) == (0, True)


def test_the_command_line_opens_no_file_under_a_closed_streams_number(tmp_path):
    code = (
        "import vtcc.__main__ as m, os; m._have_streams(); "
        "n = os.open('first', os.O_CREAT | os.O_WRONLY); open('number', 'w').write(str(n)); "
        "print('é', flush=True)"
    )
    command = f'"{sys.executable}" -c "{code}" >&- 2>&- <&-'
    env = _env(PYTHONIOENCODING="ascii")
    assert subprocess.run(command, shell=True, cwd=tmp_path, env=env).returncode == 0
    assert int((tmp_path / "number").read_text()) > 2
    assert (tmp_path / "first").read_text() == ""


def _env(**more):
    return os.environ | {"PYTHONPATH": str(Path.cwd())} | more


@pytest.fixture
def deleted_directory(tmp_path, monkeypatch):
    """A working directory that is gone, as after `rm -r` in another terminal."""
    place = tmp_path / "gone"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    yield place
    os.chdir(tmp_path)


def _no_looking_in(monkeypatch, closed):
    """Path's own questions raise below `closed`, as for who may not search it; os.path's do not."""
    looked = Path.stat

    def stat(self, **how):
        if self.absolute().is_relative_to(closed):
            raise PermissionError(13, "Permission denied", str(self))
        return looked(self, **how)

    monkeypatch.setattr(Path, "stat", stat)


def test_a_deleted_working_directory_matters_to_no_absolute_path(deleted_directory, tmp_path):
    (tmp_path / "photos").mkdir()
    asked = options.Options(folder=tmp_path / "photos", overrides={"train.epochs": 2})
    options.check(asked)
    assert asked.decoding()["max_pixels"] == compose.compose("folder")["validate"]["max_pixels"]
    assert workdir.place(asked) == tmp_path / "photos-clusters"
    assert provenance.git_state() == (None, False)
    assert list(paths.of_the_user()) == ["your home directory"]


def test_who_needs_a_deleted_working_directory_says_so_in_one_line(deleted_directory, monkeypatch):
    monkeypatch.delenv("VTCC_HOME", raising=False)
    for needs in (paths.home, enter_project):
        with pytest.raises(VtccError, match=r"^the working directory has been deleted; change"):
            needs()


def _main(monkeypatch, *arguments):
    """The exit status of the command line."""
    monkeypatch.setattr(sys, "argv", ["vtcc", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        __main__.main()
    return end.value.code


@pytest.mark.parametrize("verb", ["doctor", "cluster", "presets", "--version"])
def test_every_verb_refuses_a_deleted_working_directory_before_torch_does(
    verb, deleted_directory, tmp_path, monkeypatch, capsys
):
    """MKL, which torch loads, ends the process where it cannot ask for the directory."""
    more = [tmp_path, "--out", tmp_path / "results"] if verb == "cluster" else []
    assert _main(monkeypatch, verb, *more) == 1
    assert capsys.readouterr().err == f"error: {paths.NOWHERE}\n"


@pytest.mark.parametrize("asked", [["--help"], ["cluster", "--help"], []])
def test_help_is_there_in_a_deleted_working_directory(
    asked, deleted_directory, monkeypatch, capsys
):
    assert _main(monkeypatch, *asked) in (0, 2)
    assert "Usage: " in "".join(capsys.readouterr())


def test_a_working_directory_that_goes_meanwhile_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")

    def app():
        (tmp_path / "gone").rmdir()
        Path("results").absolute()

    monkeypatch.setattr(cli, "app", app)
    assert _main(monkeypatch) == 1
    assert capsys.readouterr().err == f"error: {paths.NOWHERE}\n"


def test_no_place_for_temporary_files_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "no")])
    monkeypatch.setattr(cli, "app", tempfile.TemporaryDirectory)
    assert _main(monkeypatch) == 1
    assert capsys.readouterr().err == (
        "error: no directory for temporary files can be written to; set TMPDIR to one that can\n"
    )
    monkeypatch.setattr(cli, "app", Path("missing").read_text)  # a bug keeps its traceback
    with pytest.raises(FileNotFoundError, match="missing"):
        __main__.main()


def test_a_working_directory_that_cannot_be_searched_holds_no_project(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    (closed / "inside").mkdir(parents=True)
    monkeypatch.chdir(closed / "inside")
    _no_looking_in(monkeypatch, closed)
    with pytest.raises(PermissionError):
        Path("params.yaml").is_file()
    with pytest.raises(VtccError, match=r"git: cannot run in .*nowhere \(No such file"):
        git.git(tmp_path / "nowhere", "status")
    assert paths.project() == closed / "inside"
    asked = options.Options(folder=tmp_path, overrides={"train.epochs": 2})
    options.check(asked)
    assert asked.decoding()["stretch"] == "type"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [200, 100, 60, 38])
def test_the_bar_fits_and_shows_the_time_left(columns, monkeypatch):
    monkeypatch.setattr(
        progress.shutil, "get_terminal_size", lambda _: os.terminal_size((columns, 24))
    )
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    figures = {f"figure_{i}": i / 7 for i in range(12)}
    progress.report("train", 1234, 56789, **figures, seconds_left=7384.2)
    line = out.getvalue().removeprefix("\r\033[K")
    assert len(line) < columns
    assert "2 h 03 min left" in line
    assert "figure_11" not in line
    assert ("figure_0 0" in line) == (columns >= 60)


def test_no_terminal_gets_about_a_line_a_second(monkeypatch, capsys):
    """Of each phase the first line and the last one, whether it comes to its end or not."""
    now = [0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0] / 128)
    for total, last in ((300, 300), (300, 290)):
        for done in range(1, last + 1):
            progress.report("train", done, total, loss=1 / done)
            now[0] += 1
    progress.report("count", 1, 9)
    progress.report("count", 2, 9)
    progress.report("count", 3, 9)
    progress.note("K = 3")
    said = capsys.readouterr().out.splitlines()
    assert said.pop() == "K = 3"
    shown = [json.loads(line)["progress"] for line in said]
    assert [(of["stage"], of["done"]) for of in shown] == [
        *(("train", done) for done in (1, 129, 257, 300)),
        *(("train", done) for done in (1, 129, 257, 290)),
        *(("count", done) for done in (1, 3)),
    ]


def test_what_waits_is_not_said_to_another_reader(capsys):
    progress.report("train", 1, 9)
    progress.report("train", 2, 9)
    with contextlib.redirect_stdout(io.StringIO()) as other:
        progress.note("a")
        progress.report("train", 3, 9)
    assert other.getvalue().splitlines()[0] == "a"
    assert [json.loads(line)["progress"]["done"] for line in other.getvalue().splitlines()[1:]] == [
        3
    ]
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_no_terminal_gets_whole_json_lines(capsys):
    progress.report("predict", 1, 3, seconds_left=2.5)
    assert json.loads(capsys.readouterr().out) == {
        "progress": {"stage": "predict", "done": 1, "total": 3, "seconds_left": 2.5}
    }


@pytest.fixture
def bare(monkeypatch):
    """An environment in which nothing of what `quiet` sets is there."""
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("all_proxy", "ALL_PROXY", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return os.environ


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"no_proxy": "example.org, localhost"}, "example.org,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "example.org"}, "example.org,127.0.0.1,localhost,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_proxies_are_not_asked_for_this_machine(bare, variable, own, expected):
    bare |= {variable: "http://proxy.example.org:3128", **own}
    quiet.apply()
    assert bare["no_proxy"] == bare["NO_PROXY"] == expected
    code = (
        "import sys; from requests.utils import should_bypass_proxies as passed; "
        "print([passed(url, None) for url in sys.argv[1:]])"
    )
    urls = ["http://127.0.0.1:5000/a", "http://localhost:4200", "http://far.example.com"]
    done = subprocess.run(
        [sys.executable, "-c", code, *urls], env=bare, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"[True, True, {expected == '*'}]"


def test_without_a_proxy_nothing_is_said_of_proxies(bare):
    quiet.apply()
    assert "no_proxy" not in bare  # on a Mac it would hide the system's own proxies


def test_caches_go_where_a_user_without_a_home_can_write(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(quiet.os, "access", lambda path, mode: False)
    monkeypatch.setattr(quiet.tempfile, "gettempdir", lambda: str(tmp_path))
    quiet.apply()
    room = tmp_path / f"vtcc-{os.getuid()}"
    assert bare["NUMBA_CACHE_DIR"] == f"{room}/numba"
    assert room.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_looked_into_is_no_error(bare, tmp_path, monkeypatch):
    """Path.exists and is_dir raise what is not "no such file", here of too long a name."""
    from vtcc.data import catalog, mirror
    from vtcc.encoders import conversion

    for name in ("TORCH_HOME", "VTCC_CACHE", "VTCC_MIRROR"):
        bare.pop(name, None)
    bare["HOME"] = f"/{'h' * 300}"
    with pytest.raises(OSError, match="too long"):
        Path.home().exists()
    monkeypatch.setattr(quiet.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(mirror, "DEBIAN_FASHION", tmp_path / "debian")
    with monkeypatch.context() as patch:
        patch.setattr(quiet.os, "access", lambda path, mode: False)
        quiet.apply()
    assert bare["NUMBA_CACHE_DIR"].startswith(str(tmp_path))
    assert not conversion._whole(conversion.cache_directory() / "a.safetensors")
    card = catalog.load_card(Path(__file__).parents[1] / "data" / "catalog" / "fashion-mnist.yaml")
    assert mirror.look_everywhere(card, None) is None


def test_a_cache_that_others_prepared_is_not_used(bare, tmp_path, monkeypatch):
    """numba runs what it finds in its cache."""
    monkeypatch.setattr(quiet.os, "access", lambda path, mode: False)
    monkeypatch.setattr(quiet.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(quiet.tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"vtcc-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"vtcc-{os.getuid()}").chmod(0o777)
    quiet.apply()
    assert not bare["NUMBA_CACHE_DIR"].startswith(f"{tmp_path}/vtcc-{os.getuid()}/")
    assert bare["NUMBA_CACHE_DIR"].startswith(f"{tmp_path}/vtcc-")


def test_a_user_whose_home_can_be_written_keeps_the_usual_places(bare, tmp_path):
    bare["HOME"] = str(tmp_path)
    quiet.apply()
    assert "NUMBA_CACHE_DIR" not in bare


def test_a_number_without_a_name_is_a_user(bare, monkeypatch):
    import getpass
    import pwd

    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        bare.pop(name, None)
    quiet.apply()
    assert getpass.getuser() == str(os.getuid())
    assert Path(bare["HOME"]).is_dir()


def test_a_project_whose_path_is_not_utf8_is_its_own_home(tmp_path, monkeypatch):
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.mkdir()
    (place / "params.yaml").touch()
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    monkeypatch.delenv("VTCC_HOME", raising=False)
    monkeypatch.chdir(place)
    assert paths.home() == place


def test_make_keeps_compiled_modules_whatever_the_surroundings_say():
    command = ["make", "-s", "--eval", "show:;@env", "show"]
    said = subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "PATH=" in said
    assert "PYTHONDONTWRITEBYTECODE" not in said


def test_make_help_needs_no_more_than_slim_images_have(tmp_path):
    for name in ("awk", "grep", "sed"):
        (tmp_path / name).symlink_to(shutil.which(name))
    lines = subprocess.run(
        [shutil.which("make"), "help"],
        cwd=Path(__file__).parents[1],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "help         this list" in lines
    assert "test-oldest  the core's quick tests with the lowest versions" in "\n".join(lines)
    assert {line[:13].endswith(" ") and line[13] != " " for line in lines} == {True}
