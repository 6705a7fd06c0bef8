"""A directory for one run of the pipeline: a private git worktree, or the project itself.

Two runs cannot share a directory: DVC locks it, and `params.yaml` holds one configuration.
A run with parameters of its own therefore gets a git worktree under `.vtcc/worktrees`, with
the project's uncommitted edits, its DVC cache (so that nothing computed before is computed
again) and its tracking store. Deployments and studies use it.
"""

import contextlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtcc import config, paths, yaml_file
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.process import locks, stopping
from vtcc.process.git import git, require_checkout, retrying
from vtcc.provenance import CARRIED
from vtcc.runner.dvc import share_cache


def resolve(
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    project: Path | None = None,
    **named: str | None,
) -> dict[str, Any]:
    """The complete parameters of a run, checked, before anything is started.

    Args:
        preset, overrides, project: as of `compose.compose`.
        seed: `train.seed`.
        **named: dataset, model, augment and encoder, as of `compose.compose`.

    Returns:
        Nested parameters, as `params.yaml` holds them.

    Raises:
        VtccError: on an unknown preset or key, a value that is not allowed, or a seed that
            contradicts an override.
    """
    changes = dict(overrides or {})
    if seed is not None and changes.setdefault("train.seed", seed) != seed:
        raise VtccError(
            f"seed: found {seed}, but the overrides set train.seed to "
            f"{changes['train.seed']}; give one of them"
        )
    return compose.compose(preset, overrides=changes, project=project, **named)


def environment(home: Path) -> dict[str, str]:
    """Environment of a stage's process: absolute stores, and the running interpreter first.

    A relative tracking URI would be looked up in the worktree, and the run lost with it.

    Args:
        home: the main checkout, which all worktrees share.
    """
    # DVC sets these for its stages; a run started from within a stage must not inherit them.
    env = {k: v for k, v in os.environ.items() if k not in ("DVC_ROOT", "DVC_STAGE")}
    # Stages of the project must import what stands in their directory, whatever started us.
    for name in ("PYTHONSAFEPATH", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        env.pop(name, None)
    env["VTCC_HOME"] = str(home)
    if env.get("VTCC_MIRROR"):
        env["VTCC_MIRROR"] = _mirror(env["VTCC_MIRROR"], Path.cwd())
    env["MLFLOW_TRACKING_URI"] = _tracking_uri(home)
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    env["PYTHONUNBUFFERED"] = "1"
    return env


def _mirror(given: str, start: Path) -> str:
    """A mirror as every directory finds it: an address stays, a relative path is of `start`."""
    return given if "://" in given else str((start / given).resolve())


def _tracking_uri(home: Path) -> str:
    from vtcc.tracking import store

    if os.environ.get("MLFLOW_TRACKING_URI", "").strip():
        return store.tracking_uri()
    return f"sqlite:///{(home / store.DATABASE).as_posix()}"


class Workspace:
    """A directory to run the pipeline in, made on entry and removed on exit.

    Without anything to override it is the project directory itself, unless a run is under way
    there; the user's files are then what `dvc repro` would read and write. Otherwise a worktree
    that nobody else touches.

    Attributes:
        project: directory of the user's `params.yaml`, absolute.
        directory: where stages run, absolute; valid between entry and exit.
        params: the run's complete parameters, nested.
        in_place: whether `directory` is `project`.
        carried: uncommitted files that came along into the worktree, sorted; in place, none.
        env: environment for subprocesses.
    """

    def __init__(
        self,
        params: dict[str, Any] | None = None,
        *,
        project: Path | None = None,
        private: bool = False,
    ) -> None:
        """Nothing is written before entry.

        Args:
            params: complete and checked, as `resolve` gives them; None for `params.yaml`.
            project: directory of `params.yaml`; default: around the working directory.
            private: make a worktree even when the parameters are those of `params.yaml`.

        Raises:
            VtccError: when `params.yaml` is wrong.
        """
        self.project = (project or paths.project()).resolve()
        self.params = params or resolve(project=self.project)
        current = config.to_dict(config.load(self.project / paths.PARAMS))
        self.in_place = not private and self.params == current
        self.home = paths.home(self.project)
        self.directory = self.project
        self.carried: list[str] = []
        self.env = environment(self.home)
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "Workspace":
        if self.in_place and self._take_project():
            return self
        self.in_place = False
        require_checkout(self.project)
        root = self.home / ".vtcc" / "worktrees"
        prune(self.home)
        name = f"{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        self._held.callback(locks.Mark(root / f"{name}.lock").remove)
        self.directory = root / name
        self._held.callback(_remove, self.project, self.directory)
        # DVC keeps a state database per directory in /var/tmp; a worktree's goes with it.
        self.env["DVC_SITE_CACHE_DIR"] = str(self.directory / ".dvc" / "tmp" / "site")
        try:
            self._fill()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _fill(self) -> None:
        """Checks out the project as it is now: its commit, its edits, its cache."""
        edits = retrying(self.project, "stash", "create", "vtcc run")
        git(self.project, "worktree", "add", "--quiet", "--detach", str(self.directory), "HEAD")
        if edits:
            # HEAD stays the user's commit, and the edits show as such to whoever asks git.
            source = f"--source={edits}"
            git(self.directory, "restore", source, "--staged", "--worktree", "--", ".")
        changed = git(self.directory, "diff", "-z", "--name-only", "HEAD") if edits else ""
        new = git(self.project, "ls-files", "-z", "--others", "--exclude-standard", "--", *CARRIED)
        # An editor's lock is a link that leads nowhere.
        there = [name for name in new.split("\0") if name and (self.project / name).exists()]
        carried = {*changed.split("\0"), *there} - {""}
        # For people and JSON, which know no bytes that are not UTF-8.
        self.carried = sorted(os.fsencode(name).decode(errors="replace") for name in carried)
        for name in there:
            file, target = self.project / name, self.directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():  # a link to a folder, or a repository in this one
                target.symlink_to(file.resolve())
                continue
            with contextlib.suppress(FileNotFoundError):  # gone in the meantime
                shutil.copy2(file, target)
        share_cache(self.project, self.directory)
        self.write(self.params)

    def write(self, params: dict[str, Any]) -> None:
        """Makes these the worktree's parameters; the project's own file is never written.

        Relative paths in them are found from the worktree too.

        Args:
            params: complete and checked, as `resolve` gives them.
        """
        assert not self.in_place
        self.params = params
        for key in ("dataset.source", "train.model.weights"):
            self._link(key)
        if mirror := self.params["download"]["mirror"]:
            absolute = _mirror(mirror, self.project)
            self.params = config.override(self.params, {"download.mirror": absolute})
        text = yaml_file.dump(self.params)
        (self.directory / paths.PARAMS).write_text(text, encoding="utf-8")

    def _link(self, key: str) -> None:
        """Makes a relative path of the parameters reachable, uncopied, with all that it holds."""
        value = config.flatten(self.params)[key]
        if not value:
            return
        given = Path(value)
        here, there = self.project / given, self.directory / given
        if here == there or there.resolve() == here.resolve():  # absolute, or linked before
            return
        in_part = there.is_dir() and _names(here) != _names(there)
        links = (self.directory / part for part in (given, *given.parents))
        astray = not there.exists() and any(link.is_symlink() for link in links)
        if ".." in given.parts or in_part or astray:
            # A link there would lie outside the worktree, and stay when that is removed, or in
            # the way of what git has in it: files, or a link that leads elsewhere from there.
            self.params = config.override(self.params, {key: str(here.resolve())})
        elif here.exists() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(here.resolve())

    def __exit__(self, *_: object) -> None:
        self._held.close()
        self.directory = self.project

    def _take_project(self) -> bool:
        """Locks the project directory itself; False while another run or a stage uses it."""
        if stopping.stage_runs(self.project):
            return False
        lock = locks.exclusive(self.project / ".vtcc" / "in-place.lock", wait=False)
        try:
            self._held.enter_context(lock)
        except locks.BusyError:
            return False
        return True


def _names(folder: Path) -> set[str]:
    """The files that a folder holds, and where its links lead to; hidden ones are not read."""
    names: set[str] = set()
    whole = Path(os.path.realpath(folder))
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        if path.is_symlink():
            leads = Path(os.path.realpath(path))  # to itself, too
            within = leads.is_relative_to(whole)
            names.add(f"{inside} -> {leads.relative_to(whole) if within else leads}")
        elif path.is_file():
            names.add(str(inside))
    return names


def prune(home: Path) -> int:
    """Removes worktrees whose process is gone, which a mark beside each tells; returns how many."""
    root = home / ".vtcc" / "worktrees"
    with locks.abandoned(root) as left:
        for mark in left:
            _remove(home, mark.path.with_suffix(""))
            mark.remove()
    return len(left)


def _remove(project: Path, worktree: Path) -> None:
    with contextlib.suppress(VtccError):
        git(project, "worktree", "remove", "--force", "--force", str(worktree))
    shutil.rmtree(worktree, ignore_errors=True)
    with contextlib.suppress(VtccError):
        git(project, "worktree", "prune")
