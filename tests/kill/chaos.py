"""Verbs that write, met by kill -9, full disks and each other at random moments: nothing is lost.

    python -m tests.kill.chaos MINUTES [SEED [VERB ...]]

Each of cluster, collection (cluster of a sample, the rest assigned), add, refine, predict and
export works in a room of its own, on results that are there already, in processes forked from one
that has imported torch. Moments of four kinds:

- kill: SIGKILL, half of them after a random time, half right before a random one of the verb's
  operations on files, late ones more often;
- interrupt: SIGINT, as by Ctrl-C, after a random time;
- full: no file may grow beyond a random size (RLIMIT_FSIZE), as on a full disk;
- both: two processes do the same at once.

After each, what stands under the verb's output must be the old results or the new ones, whole;
what ended by itself must have said so in a line, and have left nothing half-written beside it.
Every fifth moment the verb runs in peace, and has to succeed on what the last ones left. A table
of the moments and of what was lost comes last; the status is 1 if anything was.
"""

import csv
import dataclasses
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from tests.grouping import toy_results
from tests.kill import victim
from vtcc.atomic import leftovers
from vtcc.grouping import result

IMAGES, MORE, K = 24, 6, 3  # images of the results, those that `vtcc add` brings, clusters
SAMPLE = 12  # of the images, of which a collection's clusters are made
CHOICES = {
    "train.epochs": 10,
    "train.model.depth": 1,
    "train.model.embed_dim": 32,
    "train.batch_size": 8,
    "train.selection.points": 1,
    "train.checkpoint_minutes": 0.001,
    "train.threads": 1,
}
PEACE = 5  # moments from one peaceful run to the next
LATE = 40  # operations on files at the end of a verb, met as often as all before them
LONGEST = 1800.0  # seconds a process may take
_LEAST = 0.2  # seconds until it is interrupted: before that it is not yet the verb


@dataclasses.dataclass
class Verb:
    """One of them, in its room.

    Attributes:
        words: of the command line. out: what it writes, below the room.
        reset: makes the room such that the verb has something to do again.
        legal: digests of the results that may stand there.
        rows: of other results that may stand there, if they are whole; none: no others may.
        seconds, operations, largest: of a peaceful run: time, operations on files, bytes of the
            largest file it writes.
    """

    name: str
    room: Path
    words: list[str]
    out: Path
    reset: Callable[[], None]
    legal: set[str]
    rows: frozenset[int] = frozenset()
    seconds: float = 0.0
    operations: int = 0
    largest: int = 0
    spent: float = 0.0
    moments: Counter[str] = dataclasses.field(default_factory=Counter)
    lost: list[str] = dataclasses.field(default_factory=list)


# Events of Python's audit that change a directory; `open` counts where it makes a file.
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}


def at_operation(number: int | None, room: Path, count: Path) -> Callable[[], None]:
    """Called in the verb's process: it kills itself before its operation of that number.

    Args:
        number: None: only count them. room: operations elsewhere do not count.
        count: where their number is written, a byte each.
    """

    def install() -> None:
        counter = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        done, place = 0, os.fsencode(room)

        def hook(event: str, given: tuple) -> None:
            nonlocal done
            if event == "open":
                changes = isinstance(given[2], int) and given[2] & os.O_CREAT
            else:
                changes = event in CHANGES
            if not changes or not isinstance(given[0], str | bytes | os.PathLike):
                return
            path = os.fsencode(given[0])
            if path.startswith(b"/") and not path.startswith(place):
                return
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            os.write(counter, b".")

        sys.addaudithook(hook)

    return install


def on_a_full_disk(verb: Verb, size: int) -> int:
    """The status of the verb where no file may have more bytes than `size`, but for its log."""
    reading, writing = os.pipe()

    def limit() -> None:
        os.close(reading)
        for stream in (1, 2):
            os.dup2(writing, stream)
        os.close(writing)
        # Those of the parent may have been files, in which Python would look for its place.
        sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    pid = victim.start(verb.room, limit, verb.words)
    os.close(writing)
    with os.fdopen(reading, "rb") as words:
        (verb.room / "log.txt").write_bytes(words.read())
    return wait(pid)


def wait(pid: int, after: float = LONGEST, signum: int = signal.SIGKILL) -> int:
    """The status of a process, which gets a signal after some seconds."""
    until = time.monotonic() + after
    while (status := victim.ended(pid)) is None:
        if time.monotonic() > until:
            os.kill(pid, signum)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.002)
    return status


def files(place: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of what is at a place: a file, or all files below it."""
    if place.is_file():
        yield "", place
    for path in sorted(place.rglob("*")):
        if path.is_file():
            yield path.relative_to(place).as_posix(), path


def digest(place: Path) -> str:
    """Of all that stands at a place."""
    found = hashlib.sha256()
    for name, path in files(place):
        found.update(f"{name} {path.stat().st_size} ".encode() + path.read_bytes())
    return found.hexdigest()


def whole(results: Path, names: set[str], rows: frozenset[int]) -> str:
    """What is wrong with results of `vtcc cluster`; empty where they are whole.

    Args:
        names: of the files that they have. rows: numbers of images that they may have.
    """
    there = {name for name, _ in files(results)}
    if names - there:
        return f"without {sorted(names - there)[:3]}"
    if hidden := [name for name in there if "/." in f"/{name}"]:
        return f"with {hidden[:3]}"
    try:
        summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
        shown = len(summary["files"])
        images = summary.get("collection", {}).get("files", shown)
        if images not in rows:
            return f"{images} files in summary.json"
        json.loads((results / "model" / "model.json").read_text(encoding="utf-8"))
        for suffix in ("csv", "json"):
            text = (results / f"assignments.{suffix}").read_text(encoding="utf-8")
            table = list(csv.reader(text.splitlines()))[1:] if suffix == "csv" else json.loads(text)
            if len(table) != images:
                return f"{len(table)} rows of {images} in assignments.{suffix}"
        if not (results / "report.html").read_text(encoding="utf-8").endswith("</html>"):
            return "report.html is cut off"
        with np.load(results / "embedding.npz", allow_pickle=False) as saved:
            if len(saved["h"]) != shown:
                return f"{len(saved['h'])} embeddings of {shown}"
        with safe_open(results / "model" / "model.safetensors", "np") as weights:
            for key in weights.keys():  # noqa: SIM118 - not a mapping
                weights.get_tensor(key)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def judge(verb: Verb, names: set[str], *, moved: bool) -> str:
    """What is wrong with what stands in a room; empty where nothing is.

    Args:
        moved: after a kill the results may have stepped aside, for the next run to bring back.
    """
    old = verb.out.with_name(f".{verb.out.name}.old")
    place = verb.out if os.path.lexists(verb.out) else old
    if not os.path.lexists(place):
        return "nothing is there"
    if place == old and not moved:
        return "they have stepped aside, and did not come back"
    if digest(place) in verb.legal:
        return ""
    return whole(place, names, verb.rows) if verb.rows else "neither the old nor the new"


def said(verb: Verb, status: int, before: Collection[Path] = ()) -> str:
    """What is wrong with how a process ended that was not killed.

    Args:
        before: what killed ones had left, which one that ended early has not cleared.
    """
    text = (verb.room / "log.txt").read_text(encoding="utf-8", errors="replace")
    if "Traceback" in text:
        return f"a traceback: {text.splitlines()[-1]}"
    if status not in (0, 1, 128 + signal.SIGINT):
        return f"status {status}"
    if status == 1 and "error: " not in text:  # two at once may write into each other's lines
        return f"status {status} without a word"
    left = [p.name for p in leftovers(verb.room) if p not in before]
    return f"left {left}" if left else ""


def meet(verb: Verb, names: set[str], draw: random.Random) -> None:
    """One moment of a random kind, and what came of it."""
    verb.reset()
    (verb.room / "log.txt").unlink(missing_ok=True)
    before = leftovers(verb.room)
    aside = not os.path.lexists(verb.out)  # left so by a kill: brought back by whoever gets so far
    kind = draw.choices(("time", "operation", "interrupt", "full", "both"), (3, 5, 2, 2, 1))[0]
    count = verb.room / "count"
    count.unlink(missing_ok=True)
    if kind == "time":
        status = wait(victim.start(verb.room, None, verb.words), draw.uniform(0, verb.seconds))
    elif kind == "interrupt":
        pid = victim.start(verb.room, None, verb.words)
        status = wait(pid, draw.uniform(_LEAST, verb.seconds), signal.SIGINT)
    elif kind == "operation":
        first = max(verb.operations - LATE, 0) if draw.random() < 0.5 else 0
        number = draw.randrange(first, verb.operations)
        hook = at_operation(number, verb.room, count)
        status = wait(victim.start(verb.room, hook, verb.words))
    elif kind == "full":
        size = int(2 ** draw.uniform(0, np.log2(verb.largest)))
        status = on_a_full_disk(verb, size)
    else:
        pids = [victim.start(verb.room, None, verb.words) for _ in range(2)]
        statuses = sorted(wait(pid) for pid in pids)
        status = statuses[1]
        if statuses[0] != 0:
            verb.lost.append(f"both: none of two succeeded ({statuses})")
    killed = status == -signal.SIGKILL
    met = killed or kind in ("full", "both") or status == 128 + signal.SIGINT
    verb.moments[kind if met else "ended first"] += 1
    wrong = judge(verb, names, moved=killed or (aside and status != 0))
    if not killed:
        wrong = wrong or said(verb, status, before)
    if wrong:
        verb.lost.append(f"{kind}: {wrong}")


def run_in_peace(verb: Verb, names: set[str]) -> None:
    """The verb succeeds on what was left, and nothing stays beside its results."""
    verb.reset()
    (verb.room / "log.txt").unlink(missing_ok=True)
    status = wait(victim.start(verb.room, None, verb.words))
    wrong = judge(verb, names, moved=False) or said(verb, status)
    if status or wrong:
        verb.lost.append(f"peace: status {status}; {wrong}")
    verb.moments["peace"] += 1


def measure(verb: Verb) -> None:
    """How long a peaceful run takes and what it writes; its results become legal."""
    count = verb.room / "count"
    began = time.monotonic()
    hook = at_operation(None, verb.room, count)
    status = wait(victim.start(verb.room, hook, verb.words))
    assert status == 0, (verb.room / "log.txt").read_text()
    verb.seconds, verb.operations = time.monotonic() - began, count.stat().st_size
    verb.largest = max(path.stat().st_size for _, path in files(verb.out))
    if not verb.rows:
        verb.legal.add(digest(verb.out))


def rooms(root: Path, wanted: Sequence[str]) -> tuple[list[Verb], set[str]]:
    """The verbs, each with results to lose; and the names of files in those of `vtcc cluster`.

    Args:
        wanted: names of verbs; none: all. Without `cluster` the results are those of a toy model.
    """
    images, more = root / "photos", root / "more"
    toy_results.folder_of(images, IMAGES // 3)
    for i in range(MORE):
        toy_results.draw(more / f"new-{i}.png", toy_results.NEW_KIND, 900 + i)
    words = ["cluster", str(images), "-k", str(K), "--minutes", "0.05", "--encoder", "none"]
    words += ["--out", "results"]
    words += [word for key, value in CHOICES.items() for word in ("--set", f"{key}={value}")]
    first = root / "first"
    first.mkdir()
    results = first / "results"
    model = results / "model"
    any_whole = frozenset([IMAGES])
    once = Verb("cluster", first, words, results, lambda: None, set(), any_whole)
    if not wanted or "cluster" in wanted:
        measure(once)
    else:  # no training
        toy_results.write(images, results)

    def room(name: str, *content: tuple[Path, str]) -> Path:
        place = root / name
        place.mkdir()
        for source, target in content:
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, place / target)
        return place

    def keep() -> None:
        """It writes again over what is there."""

    made = room("cluster", (results, "results"))
    words = [*words, "--overwrite"]
    verbs = [dataclasses.replace(once, room=made, words=words, out=made / "results", reset=keep)]

    made = room("collection", (results, "results"))
    line = [*words, "--minutes", "5", "--sample", str(SAMPLE)]  # less than reading takes is refused
    out = made / "results"
    collection = Verb("collection", made, line, out, keep, {digest(results)}, any_whole)
    verbs.append(collection)

    whole_digest = digest(results)

    def back(out: Path) -> Callable[[], None]:
        """The results that were there first take the place of others."""

        def reset() -> None:
            if out.exists() and digest(out) != whole_digest:
                shutil.rmtree(out)
                shutil.copytree(results, out)

        return reset

    # An addition says when it was made, so any whole one may stand there.
    place = room("add", (results, "results"))
    line, added = ["add", "results", str(more)], frozenset([IMAGES + MORE])
    out = place / "results"
    verbs.append(Verb("add", place, line, out, back(out), {whole_digest}, added))

    place = room("refine", (results, "results"))
    edit = {"do": "rename", "cluster": 0, "name": "boats"}
    edits = {"format": 1, "model": result.digest(model), "edits": [edit]}
    (place / "edits.json").write_text(json.dumps(edits))

    out = place / "results"
    line = ["refine", "results", "--edits", "edits.json"]
    # The edits are for a state that is no more once they were applied.
    verbs.append(Verb("refine", place, line, out, back(out), {whole_digest}))

    place = room("predict", (results / "assignments.csv", "table.csv"))
    line = ["predict", str(images), "--model", str(model), "--out", "table.csv"]
    legal = {digest(place / "table.csv")}
    verbs.append(Verb("predict", place, line, place / "table.csv", keep, legal))

    place = room("export", (model, "model"))
    line = ["export", "--model", str(model), "--with-encoder", "model"]
    verbs.append(Verb("export", place, line, place / "model", keep, {digest(model)}))
    verbs = [verb for verb in verbs if not wanted or verb.name in wanted]
    for verb in verbs:
        if verb.name != "cluster":
            measure(verb)
    return verbs, {name for name, _ in files(results)}


def main(minutes: str, seed: str = "0", *wanted: str) -> int:
    """See above; returns the status."""
    import pandas  # noqa: F401 - before the forks, which would each take seconds for it
    import pyarrow.parquet  # noqa: F401
    import sklearn.cluster  # noqa: F401
    import umap  # noqa: F401

    draw = random.Random(int(seed))
    with tempfile.TemporaryDirectory(prefix="vtcc-chaos-") as root:
        verbs, names = rooms(Path(root), wanted)
        for verb in verbs:
            print(
                f"{verb.name}: in peace {verb.seconds:.1f} s, {verb.operations} operations on "
                f"files, the largest {verb.largest} bytes",
                flush=True,
            )
        until = time.monotonic() + 60 * float(minutes)
        while time.monotonic() < until:
            verb = min(verbs, key=lambda v: v.spent)
            began = time.monotonic()
            meet(verb, names, draw)
            if sum(verb.moments.values()) % PEACE == 0:
                run_in_peace(verb, names)
            verb.spent += time.monotonic() - began
        for verb in verbs:
            run_in_peace(verb, names)
    kinds = ("time", "operation", "interrupt", "full", "both", "ended first", "peace")
    print("verb       " + "".join(f"{kind:>13}" for kind in kinds) + "         lost")
    for verb in verbs:
        counts = "".join(f"{verb.moments[kind]:>13}" for kind in kinds)
        print(f"{verb.name:<11}{counts}{len(verb.lost):>13}")
    for verb in verbs:
        for what in verb.lost:
            print(f"lost: {verb.name}: {what}")
    return int(any(verb.lost for verb in verbs))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
