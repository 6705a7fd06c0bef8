"""What appears whole or not at all: one writer at a time, and back after a kill at any moment."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from vtcc import atomic
from vtcc.errors import VtccError
from vtcc.process import locks
from vtcc.process.stopping import Stopped

TOP = Path(__file__).parents[1]


def contents(directory):
    """Path -> text of every file below a directory, hidden ones too."""
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


class Killed(BaseException):
    """Stands for SIGKILL: nothing that follows is run."""


def kill_at(monkeypatch, number):
    """The process ends instead of its renaming of that number, and cleans nothing up."""
    real, count = os.replace, iter(range(100))

    def replaced(source, target, **options):
        if next(count) == number:
            raise Killed
        return real(source, target, **options)

    spied = create_autospec(os.replace, side_effect=replaced)
    monkeypatch.setattr("os.replace", spied)
    for cleaning in ("remove", "_bring_back"):
        left = create_autospec(getattr(atomic, cleaning))
        monkeypatch.setattr(atomic, cleaning, left)


def write(target, text):
    with atomic.atomic_directory(target) as place:
        (place / "a").write_text(text)
        (place / "b").write_text(text)


@pytest.mark.parametrize("renamings", [0, 1, 2])
def test_after_a_kill_between_renamings_one_whole_directory_is_there(
    tmp_path, monkeypatch, renamings
):
    target = tmp_path / "results"
    write(target, "old")
    with monkeypatch.context() as patch:
        kill_at(patch, renamings)
        with pytest.raises(Killed):
            write(target, "new")
    # The last renaming only takes the old one away: by then the new one is in its place.
    there = "new" if renamings == 2 else "old"
    assert target.exists() == (renamings != 1)
    with atomic.sole_writer(target):
        assert contents(target) == {"a": there, "b": there}
        assert sorted(p.name for p in tmp_path.iterdir()) == [".results.lock", "results"]
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_one_who_only_reads_finds_it_too(tmp_path, monkeypatch):
    target = tmp_path / "results"
    write(target, "old")
    with monkeypatch.context() as patch:
        kill_at(patch, 1)
        with pytest.raises(Killed):
            write(target, "new")
    atomic.restore(target)
    assert contents(target) == {"a": "old", "b": "old"}
    atomic.restore(tmp_path / "never")
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_renaming_that_fails_leaves_what_was_there(tmp_path, monkeypatch, number):
    target = tmp_path / "results"
    write(target, "old")
    real, count = os.replace, iter(range(100))

    def replaced(source, target):
        if next(count) == number:
            raise OSError(errno.EIO, "broken disk")
        real(source, target)

    monkeypatch.setattr("os.replace", create_autospec(os.replace, side_effect=replaced))
    with pytest.raises(OSError, match="broken disk"):
        write(target, "new")
    assert contents(tmp_path) == {"results/a": "old", "results/b": "old"}


@pytest.mark.parametrize("signalled", [KeyboardInterrupt, Stopped(2)])
@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_while_it_is_cleared_up_leaves_nothing_beside_it(
    tmp_path, monkeypatch, fails, signalled
):
    target = tmp_path / "results"
    write(target, "old")
    real, calls = atomic.shutil.rmtree, []

    def interrupted(path, **options):
        calls.append(path)
        if len(calls) == 1:
            (Path(path) / "a").unlink()
            raise signalled
        return real(path, **options)

    monkeypatch.setattr(atomic.shutil, "rmtree", create_autospec(real, side_effect=interrupted))
    kind = signalled if isinstance(signalled, type) else type(signalled)
    with pytest.raises(kind), atomic.atomic_directory(target) as place:
        (place / "a").write_text("new")
        if fails:
            raise VtccError("before it is whole")
    assert len(calls) == 2 and calls[0] == calls[1]
    assert contents(target) == ({"a": "old", "b": "old"} if fails else {"a": "new"})
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_two_writers_of_one_directory_never_mix(tmp_path):
    """Each is cut in the middle of its writing; the others' files must not be in its directory."""
    target, wrong = tmp_path / "results", []
    start = threading.Barrier(4)

    def work(name):
        start.wait()
        for i in range(5):
            with atomic.atomic_directory(target) as place:
                (place / "a").write_text(f"{name} {i}")
                if (there := [p.name for p in place.iterdir()]) != ["a"]:
                    wrong.append(there)
                (place / "b").write_text(f"{name} {i}")

    writers = [threading.Thread(target=work, args=(name,)) for name in "wxyz"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = contents(target)
    assert wrong == []
    assert sorted(found) == ["a", "b"]
    assert found["a"] == found["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_another_process_is_refused_or_waited_for(tmp_path):
    """Two processes: the second one's results stand, and nothing of the first is lost before."""
    target = tmp_path / "results"
    code = (
        "import sys\nfrom pathlib import Path\nfrom vtcc.atomic import atomic_directory\n"
        "with atomic_directory(Path(sys.argv[1])) as place:\n"
        "    (place / 'a').write_text('theirs')\n    print('inside', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target)],
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "inside\n"
        with (
            pytest.raises(VtccError, match=r"^somebody writes there$"),
            atomic.sole_writer(target, "somebody writes there"),
        ):
            pass
        assert not target.exists()
        waiting = threading.Thread(target=write, args=(target, "ours"))
        waiting.start()
        other.stdin.close()
        waiting.join(60)
        assert other.wait(60) == 0
    assert contents(tmp_path) == {"results/a": "ours", "results/b": "ours"}


def test_what_others_have_beside_it_stays(tmp_path):
    """Names that begin alike belong to other directories, whose writers may be at work."""
    target = tmp_path / "a"
    other = tmp_path / ".a.b.0123abcd.building"
    for name in (".a.b.0123abcd.building", ".a.0123abcd.building", ".a.mine.building", ".a.b.old"):
        (tmp_path / name).mkdir()
    atomic.sweep(target)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".a.b.0123abcd.building",
        ".a.b.old",
        ".a.mine.building",
    ]
    assert other.is_dir()


def test_the_same_thread_enters_again_and_the_lock_goes_with_the_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Path("results")
    with atomic.sole_writer(tmp_path / "results"):
        with atomic.sole_writer(here, "busy"), atomic.atomic_directory(here):
            pass
        lock = tmp_path / ".results.lock"
        assert lock.exists()
        with pytest.raises(VtccError, match="busy"):
            in_a_thread(lambda: entered(tmp_path / "results"))
    assert [p.name for p in tmp_path.iterdir()] == ["results"]
    with pytest.raises(VtccError, match="cannot be replaced; name a folder"):
        entered(Path("/"))


def entered(target):
    with atomic.sole_writer(target, "busy"):
        pass


def in_a_thread(work):
    errors = []

    def run():
        try:
            work()
        except VtccError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error


def test_where_there_are_no_locks_names_keep_writers_apart(tmp_path, monkeypatch):
    def none(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "exclusive", create_autospec(locks.exclusive, side_effect=none))
    target = tmp_path / "results"
    with atomic.atomic_directory(target) as ours, atomic.atomic_directory(target) as theirs:
        (ours / "a").write_text("ours")
        (theirs / "a").write_text("theirs")
    assert contents(tmp_path) == {"results/a": "ours"}


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000])
def test_permissions_are_those_that_the_umask_asks_for(tmp_path, mask):
    """The safetensors file of a model: tests/engine/test_checkpoint.py."""
    import numpy as np

    from vtcc.data.cache import CacheWriter
    from vtcc.grouping import assignments
    from vtcc.pages import thumbnails

    before = os.umask(mask)
    try:
        root = tmp_path / "root"
        atomic.write_text(root / "deep" / "text", "x")
        write(root / "results", "x")
        for suffix in assignments.SUFFIXES:
            with assignments.writing(root / f"table{suffix}") as table:
                table.write([assignments.Row("a.png", 1, 0.5, "")])
        pixels = np.zeros((3, 8, 8, 1), np.uint8)
        with CacheWriter(root / "cache", name="t", image_size=8, channels=1) as writer:
            writer.add("a.png", "train", pixels[0])
            writer.finish()
        (root / "sprites").mkdir()
        thumbnails.write_sprites(root / "sprites", lambda rows: pixels[rows], np.arange(3))
        locks.Mark(root / "marks" / "a.lock", "text")
        with locks.exclusive(root / "kept.lock"):
            pass
        modes = {p: stat.S_IMODE(p.stat().st_mode) for p in [root, *root.rglob("*")]}
    finally:
        os.umask(before)
    assert len(modes) > 15
    wrong = {
        str(path.relative_to(tmp_path)): oct(mode)
        for path, mode in modes.items()
        if mode != (0o777 if path.is_dir() else 0o666) & ~mask
    }
    assert wrong == {}


@pytest.mark.parametrize(
    "name",
    ["n" * 233, "n" * 255, "\N{SNOWMAN}" * 85, os.fsdecode(b"\xe9" * 255)],
    ids=["233", "255", "characters of 3 bytes", "no UTF-8"],
)
def test_the_longest_names_are_written_and_settled(tmp_path, name):
    target, other = tmp_path / name, tmp_path / f"{name[:-1]}o"
    write(target, "old")
    with atomic.sole_writer(target), atomic.sole_writer(other, "busy"):
        assert len(list(tmp_path.glob(".*.lock"))) == 2
    atomic._unused(target).mkdir()  # by a killed writer, as is the next
    target.rename(atomic._beside(target, "old"))
    atomic.restore(target)
    atomic.write_text(target / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert contents(target) == {"a": "old", "b": "old", name: "text"}


def as_another_user(real):
    """rmtree as of one who is not root: modes count."""

    def removed(path, **options):
        below = [Path(path), *Path(path).rglob("*")]
        closed = [p for p in below if p.is_dir() and not p.is_symlink()]
        if any(not p.stat().st_mode & stat.S_IWUSR for p in closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, **options)

    return removed


def test_what_has_the_modes_of_write_protected_files_is_removed(tmp_path, monkeypatch):
    target, left = tmp_path / "results", tmp_path / ".results.0123abcd.building"
    write(left / "model" / "deep", "half")
    (left / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir(mode=0o555)
    for path in (left / "model" / "deep", left / "model", left):
        path.chmod(0o555)
    real = atomic.shutil.rmtree
    instead = create_autospec(real, side_effect=as_another_user(real))
    monkeypatch.setattr(atomic.shutil, "rmtree", instead)
    write(target, "whole")
    assert contents(tmp_path) == {"results/a": "whole", "results/b": "whole"}
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o555


def test_what_cannot_be_removed_is_named(tmp_path, monkeypatch):
    left = tmp_path / ".results.0123abcd.building"
    left.mkdir()
    denied = PermissionError(errno.EPERM, "Operation not permitted", "model.json")
    gone = create_autospec(atomic.remove, side_effect=denied)
    monkeypatch.setattr(atomic, "remove", gone)
    with pytest.raises(VtccError) as caught:
        entered(tmp_path / "results")
    assert str(caught.value) == (
        f"{left}: left by a killed process, and cannot be deleted (Operation not permitted); "
        "delete it, then re-run"
    )


def test_names_that_are_short_enough_stay_what_they_were():
    for name in ("photos", "n" * 220):
        assert atomic.beside(Path("a", name), ".", ".work") == Path("a", f".{name}.work")
    digest = "9d43dfcc7e0f088a"  # the beginning of the SHA-256
    assert atomic.beside(Path("a", "n" * 221), "", "-x") == Path("a", f"{'n' * 40}-{digest}-x")
