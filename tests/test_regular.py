"""Pipes, devices and directories where a file is expected: refused, never waited for."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.grouping import toy_results
from vtcc import yaml_file
from vtcc.__main__ import main
from vtcc.grouping import result
from vtcc.regular import regular

TOP = Path(__file__).parents[1]
PIPE = "a pipe or a device, not a file"
# Calls that open what their first argument names.
_BY_NAME = {
    "load": ("np.load", "torch.load"),
    "ZipFile": ("zipfile.ZipFile",),
    "is_zipfile": ("zipfile.is_zipfile",),
    "read_csv": ("pd.read_csv",),
}
_WAYS = (*_BY_NAME, "read_text", "read_bytes", "open")
# What is read as it stands, and why. What asks `is_file` in the same function is not listed.
PLAIN = {
    "vtcc/atomic.py": "what it has just written",
    "vtcc/data/archive.py": "`unpack` and `known` ask `is_file` first",
    "vtcc/data/cache.py: self._building / IMAGES": "what it has just written",
    "vtcc/encoders/tensor_file.py: zipfile.ZipFile": "`_open` asks `is_file` first",
    "vtcc/encoders/tensor_file.py: torch.load": "`_open` asks `is_file` first",
    "vtcc/data/tars.py: tarfile": "a file that is open",
    "vtcc/engine/memory.py": "files of the kernel",
    "vtcc/provenance.py: Path('/proc/cpuinfo')": "a file of the kernel",
    "vtcc/pages/render.py": "templates of the package",
    "vtcc/process/locks.py": "locks and marks",
    "vtcc/tracking/compare.py": "what MLflow has just fetched",
    "flows/processes.py": "logs of its own",
    "flows/server.py": "the project's pyproject.toml",
    "flows/artifacts.py": "pictures that the flow has drawn",
}


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_only_files_may_be_opened(tmp_path, pipe):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("pipe")
    assert regular(tmp_path / "file") == tmp_path / "file"
    for odd in (pipe, tmp_path / "link", Path(os.devnull)):
        with pytest.raises(OSError, match=PIPE):
            regular(odd)
    with pytest.raises(FileNotFoundError):
        regular(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        regular(tmp_path).open("rb")


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no /dev/fd")
def test_a_pipe_that_is_open_already_is_read(tmp_path, pipe):
    """As bash's `<(...)` and `| vtcc ... /dev/stdin`."""
    reading, writing = os.pipe()
    os.write(writing, b"a: 1")
    os.close(writing)
    (tmp_path / "stdin").symlink_to(f"/dev/fd/{reading}")
    for name in (f"/dev/fd/{reading}", f"/proc/self/fd/{reading}", tmp_path / "stdin"):
        assert regular(Path(name)) == Path(name)
    assert yaml_file.read(Path(f"/dev/fd/{reading}")) == {"a": 1}
    os.close(reading)
    opened = os.open(pipe, os.O_RDWR)  # a pipe with a name stays one, whoever has it open
    with Path(os.devnull).open() as null:
        for name in (pipe, f"/dev/fd/{opened}", f"/dev/fd/{null.fileno()}"):
            with pytest.raises(OSError, match=PIPE):
                regular(Path(name))
    os.close(opened)


def reads(text):
    """Each call that opens a file by its name to read it: how, and the name."""
    lines = text.splitlines()
    for function in (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)):
        if any(".is_file()" in line for line in lines[function.lineno : function.end_lineno]):
            continue
        for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
            by, mode = getattr(call.func, "attr", ""), [getattr(a, "value", 0) for a in call.args]
            if by in ("read_text", "read_bytes") or (by == "open" and mode in ([], ["r"], ["rb"])):
                yield ast.unparse(call.func.value), ast.unparse(call.func.value)
            elif by in _BY_NAME and (name := ast.unparse(call.func)) in _BY_NAME[by]:
                yield name, ast.unparse(call.args[0])


def test_what_is_read_by_its_name_is_a_file():
    found, needed = [], set()
    for file in (*(TOP / "vtcc").rglob("*.py"), *(TOP / "flows").rglob("*.py")):
        text, name = file.read_text(encoding="utf-8"), file.relative_to(TOP).as_posix()
        for what, path in reads(text) if any(way in text for way in _WAYS) else ():
            if not path.startswith("regular("):
                known = {name, f"{name}: {what}"} & PLAIN.keys()
                needed |= known
                found += [] if known else [f"{name}: {what}"]
    assert found == []
    assert needed == PLAIN.keys()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of images and results of it."""
    place = tmp_path_factory.mktemp("whole")
    toy_results.folder_of(place / "photos", 6)
    toy_results.write(place / "photos", place / "results")
    return place


PREDICT = ("predict", "photos", "--model", "results/model", "--out", "out.csv")
EXPORT = ("export", "results", "--to", "coco", "--out", "out.json")
REFINE = ("refine", "results", "--edits", "edits.json")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("odd", [PIPE, "Is a directory"])
@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("results/model/model.json", PREDICT),
        ("results/model/clusters.json", PREDICT),
        ("results/model/clusters.safetensors", PREDICT),
        ("results/summary.json", ("check", "results")),
        ("results/summary.json", REFINE),
        ("results/embedding.npz", REFINE),
        ("results/model/model.safetensors", REFINE),
        ("results/assignments.parquet", EXPORT),
        ("edits.json", REFINE),
        ("p.yaml", ("cluster", "photos", "--out", "out", "--params", "p.yaml")),
        ("params.yaml", ("params",)),
        ("params.yaml", ("use", "digits")),
        ("data/catalog/own.yaml", ("datasets", "own")),
    ],
)
def test_each_verb_refuses_it_in_one_line(name, verb, odd, whole, tmp_path, monkeypatch, capsys):
    said = refusal(name, verb, odd, whole, tmp_path, monkeypatch, capsys)
    place = "results/model" if "clusters." in name else name
    assert said.startswith(("error: --edits: " if name == "edits.json" else "error: ") + place)
    assert odd in said


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("name", "verb", "of_pipe", "of_directory"),
    [
        (
            "results/model/model.safetensors",
            PREDICT,
            *("results/model: not a vtcc model (no model.safetensors in it); `vtcc train` ",) * 2,
        ),
        (
            "out.json",
            (*EXPORT, "--overwrite"),
            f"[Errno 6] {PIPE}: 'out.json'; name another place, then re-run",
            "--out: out.json is a folder; name another",
        ),
        (
            "ckpt.pth",
            ("import-checkpoint", "ckpt.pth", "--out", "out"),
            f"ckpt.pth: {PIPE}; give the checkpoint file",
            "ckpt.pth: a directory; give the checkpoint file in it",
        ),
    ],
)
def test_what_is_refused_by_other_words(
    name, verb, of_pipe, of_directory, whole, tmp_path, monkeypatch, capsys
):
    for odd, words in ((PIPE, of_pipe), ("", of_directory)):
        place = tmp_path / (odd or "directory")[:9]
        assert f"error: {words}" in refusal(name, verb, odd, whole, place, monkeypatch, capsys)


def refusal(name, verb, odd, whole, place, monkeypatch, capsys):
    """The one line that a verb ends with where one of its files is a pipe or a directory."""
    shutil.copytree(whole, place, dirs_exist_ok=True)
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.argv", ["vtcc", *verb])
    Path("dvc.yaml").touch()  # as in a clone
    edits = [{"do": "rename", "cluster": 0, "name": "boats"}]
    digest = result.digest(Path("results/model"))
    Path("edits.json").write_text(json.dumps({"format": 1, "model": digest, "edits": edits}))
    file = Path(name)
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(file) if odd == PIPE else file.mkdir()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    line, end = capsys.readouterr().err.split("\n")
    assert end == ""
    return line
