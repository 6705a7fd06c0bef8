"""`vtcc predict --ray`: the rows of `vtcc predict`, made by Ray Data shard by shard.

Files are listed into shards; a shard is one task, whose rows become one Parquet file in
`OUT.parts/` in one step. What is there already is not made again, so a run that was cut off goes
on, and a worker that dies costs the shard it was at. Ray moves numbers of shards alone: memory
does not depend on how many files there are. Needs the extra `vtcc[ray]`; with several machines
the files, the model and OUT must be on storage that all of them reach by the same paths.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc import extras
from vtcc.atomic import beside
from vtcc.errors import VtccError, in_one_line
from vtcc.progress import note, report
from vtcc.scale.shard_files import list_file, listed, rows_file, rows_of

if TYPE_CHECKING:
    from vtcc.data.inputs import Given, Part

SHARD = 2048  # files
PLAN = "plan.json"


def run(
    paths: Sequence["Given"],
    model: str,
    *,
    out: Path,
    batch_size: int = 512,
    shard: int = SHARD,
    workers: int = 0,
    address: str = "",
    unclustered: bool = False,
    exif: Sequence[str] = (),
) -> dict[str, Any]:
    """Predicts every image below `paths` into the table `out`.

    Args:
        paths, model, out, batch_size, unclustered, exif: as of `vtcc.verbs.predict.run`; nothing
            packed or elsewhere.
        shard: files a task.
        workers: processes; 0: one per core of the cluster.
        address: of a Ray cluster; empty: one is started here, for this run.

    Returns:
        As `vtcc.verbs.predict.run`.

    Raises:
        VtccError: as `vtcc.verbs.predict.run`; when Ray is not installed; when `OUT.parts` is of
            another run, or of something else.
    """
    from vtcc.grouping import assignments

    extras.need("`vtcc predict --ray`", "ray")
    if batch_size < 1 or shard < 1 or workers < 0:
        raise VtccError("--batch-size and --shard have to be at least 1, --workers at least 0")
    assignments.check(out)
    from vtcc.data import inputs
    from vtcc.grouping import columns
    from vtcc.tracking import fetch
    from vtcc.verbs import predict

    given, kinds = columns.typed(inputs.parts(paths, None))
    columns.check(kinds, exif)
    more = kinds | columns.of_exif(exif)
    out = out.absolute()
    with assignments.alone(out):
        parts = beside(out, "", ".parts")
        with tempfile.TemporaryDirectory() as room:
            predictor = predict.load(model, Path(room), device="cpu", unclustered=unclustered)
            named = assignments.columns_of(predictor.clusters)
            found = fetch.directory_of(model, Path(room))
            asked = {"shard": shard, "columns": [*named, *more], "unclustered": unclustered}
            count = _plan(parts, given, found, asked)
            directory = _local(found, parts, Path(room))
        waiting = [i for i in range(count) if not rows_file(parts, i).exists()]
        if len(waiting) < count:
            note(f"{count - len(waiting)} of {count} shards are there already ({parts})")
        started, done = time.monotonic(), count - len(waiting)
        if waiting:
            with _cluster(address) as ray:
                settings = {
                    "parts": str(parts),
                    "model": str(directory),
                    "batch_size": batch_size,
                    "unclustered": unclustered,
                    "exif": list(exif),
                    "more": more,
                }
                for _ in _answers(ray, waiting, settings, workers):
                    done += 1
                    made = (done - (count - len(waiting))) * shard
                    seconds = time.monotonic() - started
                    report(
                        "predict",
                        done,
                        count,
                        images_per_second=round(made / seconds, 1),
                        seconds_left=round((count - done) * shard * seconds / made, 1),
                    )
        answer = _join(parts, count, out, named, more)
        shutil.rmtree(parts)
        return answer


def _local(found: Path, parts: Path, room: Path) -> Path:
    """A directory of the model that workers can read: a local one, or a copy in `parts`.

    Args:
        found: the model, of which the plan in `parts` is. room: it is fetched where it lies there.
    """
    from vtcc.atomic import atomic_directory

    if room not in found.parents:
        return found.absolute()
    kept = parts / "model"
    if not kept.exists():
        with atomic_directory(kept) as building:
            shutil.copytree(found, building, dirs_exist_ok=True)
    return kept


def _plan(parts: Path, given: Sequence["Part"], model: Path, asked: dict[str, Any]) -> int:
    """Lists the files into shards; a run that was cut off finds its lists, if they are the same.

    Args:
        asked: what else tells this run from another, `shard` among it.

    Returns:
        How many shards there are.
    """
    from vtcc import json_file, provenance
    from vtcc.atomic import write_text
    from vtcc.verbs import predict

    plan = parts / PLAN
    known = json_file.read(plan, f"delete {parts}, or give another --out") if plan.exists() else {}
    if not known:
        _refuse_others(parts)
    count, total, sha = 0, 0, hashlib.sha256()
    left_out: Counter[str] = Counter()
    files = _files(given, left_out)
    while held := list(itertools.islice(files, asked["shard"])):
        text = json.dumps(held)  # ASCII: names with odd bytes keep them
        sha.update(text.encode())
        if not known:
            parts.mkdir(exist_ok=True)
            list_file(parts, count).write_text(text, encoding="utf-8")
        count, total = count + 1, total + len(held)
    predict.say_left_out(given, total, left_out)
    asked = asked | {"files": sha.hexdigest(), "model": provenance.model_digest(model)}
    if not known:
        write_text(plan, json.dumps({"asked": asked}) + "\n")
    elif known.get("asked") != asked:
        raise VtccError(
            f"{parts} is of another run (other paths, model or options, or files that have "
            "changed since); delete it, or give another --out"
        )
    return count


def _files(given: Sequence["Part"], left_out: Counter[str]) -> Iterator[list[Any]]:
    """Of each file: its name, its error, where it is, when it changed, and columns of a table."""
    from vtcc.data import folder
    from vtcc.verbs.predict import entries

    for entry in entries(given, left_out):
        file = (entry.file or Path(entry.path)).absolute()
        yield [entry.path, entry.error, str(file), folder.stamp(file), dict(entry.more)]


def _refuse_others(parts: Path) -> None:
    """Refuses a folder that holds more than lists of files, as it would be deleted at the end."""
    if not os.path.lexists(parts):
        return
    if not parts.is_dir() or any(not file.match("files-*.json") for file in parts.iterdir()):
        raise VtccError(
            f"{parts}: there already, and not of a run that can go on; move or delete it, or give "
            "another --out"
        )


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Ray, connected or started for this run; it listens on this machine alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import logging

    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():  # whoever started it stops it
        yield ray
        return
    ends = signal.getsignal(signal.SIGTERM)
    here: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(
            address=address or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}},
            **({} if address else here),
        )
    except Exception as error:  # ray has many
        why = in_one_line(error)
        raise VtccError(f"Ray could not be {'reached' if address else 'started'}: {why}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ends)  # Ray's own would end with status 15
    try:
        yield ray
    finally:
        ray.shutdown()


def _answers(
    ray: Any, waiting: list[int], settings: dict[str, Any], workers: int
) -> Iterator[dict[str, Any]]:
    """What each shard came to, as they are done."""
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    size = min(workers or cores, len(waiting))
    data = ray.data.from_items(
        [{"shard": number} for number in waiting], override_num_blocks=len(waiting)
    ).map_batches(
        Shards,
        fn_constructor_kwargs=settings,
        batch_size=1,
        compute=ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
        num_cpus=1,  # a worker that dies is started again, and so is its shard
    )
    try:
        yield from data.iter_rows()
    except VtccError:
        raise
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise VtccError(
            f"Ray gave up: {line[:300]}; the shards that are done stay: run the same command again"
        ) from error


class Shards:
    """A worker: holds the model, makes one shard's rows at a time.

    Args:
        parts: directory of lists and rows. model: directory. batch_size: images a forward pass.
        unclustered, exif: as of `vtcc.verbs.predict.run`.
        more: name -> Arrow's type, of columns that came with the images.
    """

    def __init__(
        self,
        parts: str,
        model: str,
        batch_size: int,
        unclustered: bool = False,
        exif: Sequence[str] = (),
        more: dict[str, Any] | None = None,
    ):
        from vtcc import quiet

        quiet.apply()
        import torch

        from vtcc.verbs.predict import load

        torch.set_num_threads(1)  # a worker per core
        with tempfile.TemporaryDirectory() as room:
            self.predictor = load(model, Path(room), device="cpu", unclustered=unclustered)
        self.parts, self.batch_size = Path(parts), batch_size
        self.exif, self.more = exif, more or {}

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """`{"shard": [number]}` -> its number, files and unreadable files."""
        from vtcc.data.walk import Entry
        from vtcc.grouping import assignments
        from vtcc.verbs import predict

        number = int(batch["shard"][0])
        target = rows_file(self.parts, number)
        files = [
            Entry(path, error, Path(file), more)
            for path, error, file, _, more in listed(self.parts, number)
        ]
        columns = assignments.columns_of(self.predictor.clusters)
        bad = 0
        with assignments.writing(target, columns, self.more) as table:
            for rows in predict.answers(files, self.predictor, self.batch_size, self.exif):
                bad += sum(1 for row in rows if row.error)
                table.write(rows)
        return {"shard": [number], "files": [len(files)], "bad": [bad]}


def _join(
    parts: Path, count: int, out: Path, columns: tuple[str, ...], more: dict[str, Any]
) -> dict[str, Any]:
    """All parts in order into one table; as `vtcc.verbs.predict.run`.

    Raises:
        VtccError: when all are unreadable; the table is then what it was.
    """
    from vtcc.grouping import assignments
    from vtcc.verbs import predict

    tally = predict.Tally(out)
    with assignments.writing(out, columns, more) as table:
        for number in range(count):
            for rows in rows_of(parts, number, more):
                tally.add(rows)
                table.write(rows)
        tally.refuse_none()
    return tally.told()
