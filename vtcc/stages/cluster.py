"""`vtcc cluster`: a folder of images in; groups, a page to look at and a model out."""

import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vtcc import __version__
from vtcc.errors import VtccError
from vtcc.progress import note, report

AUTO_LOW, AUTO_HIGH = 2, 40
OVERCLUSTER = 20  # clusters of the heads of the training that K is chosen from
MAIN_SHARE = 0.72  # of the training time, with K given; the rest is the second training's
SCOUT_SHARE = 0.36  # of it, with K to be found
LEAST_TRAINING = 20.0  # seconds, whatever --minutes says


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        folder: of images. out: of the results, default `FOLDER-clusters` beside it.
        clusters: K, or (low, high) to choose from. minutes: all of it should take.
        seed: of everything random. folders: "", links or copies. overwrite: a finished result.
        overrides: dotted parameters that replace the automatic choices.
    """

    folder: Path
    out: Path | None = None
    clusters: int | tuple[int, int] = (AUTO_LOW, AUTO_HIGH)
    minutes: float = 20.0
    seed: int = 0
    folders: str = ""
    overwrite: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)


def parse_clusters(text: str) -> int | tuple[int, int]:
    """`auto`, a number, or a range such as 5-30.

    Raises:
        VtccError: on anything else.
    """
    if text.strip().lower() == "auto":
        return AUTO_LOW, AUTO_HIGH
    low, dash, high = text.partition("-")
    if low.isdecimal() and (not dash or high.isdecimal()):
        if not dash and int(low) >= 2:
            return int(low)
        if dash and 2 <= int(low) < int(high):
            return int(low), int(high)
    raise VtccError(f"-k: found {text!r}; allowed: a number from 2, a range such as 5-30, or auto")


def run(options: Options) -> Path:
    """Groups the images of a folder. The same call goes on after an interruption.

    Returns:
        The folder of the results.

    Raises:
        VtccError: on a user's mistake, with nothing half-written.
        SystemExit: with 128 + signal number, after a checkpoint.
    """
    started = time.monotonic()
    out = place(options)
    from vtcc.folder import intake

    found = intake.listed(options.folder)
    _outside(found.root, out)
    N = len(found.names)
    fixed = options.clusters if isinstance(options.clusters, int) else None
    if fixed and fixed > N // 2:
        raise VtccError(
            f"-k {fixed}: for {N} images; allowed: at most {N // 2}, two images a cluster"
        )
    work = out.with_name(f".{out.name}.work")
    with _alone(work), _interrupted(work):
        _same_run(work, options, found.digest)
        done = _Run(options, out, work, found, started)
        done.all()
    shutil.rmtree(work, ignore_errors=True)
    return out


def place(options: Options) -> Path:
    """Where the results go, checked before any work."""
    folder = options.folder.absolute()
    out = (options.out or folder.with_name(f"{folder.name}-clusters")).absolute()
    if out.exists() and not out.is_dir():
        raise VtccError(f"--out: {out} is a file; name a folder")
    if out.exists() and any(out.iterdir()):
        if not (out / "summary.json").exists():
            raise VtccError(
                f"--out: {out} holds other files; name a new folder, or empty this one yourself"
            )
        if not options.overwrite:
            raise VtccError(
                f"{out}: there are results already; look at {out / 'report.html'}, give another "
                "--out, or --overwrite"
            )
    if not out.parent.is_dir():
        raise VtccError(f"--out: the folder {out.parent} does not exist; create it first")
    return out


def _outside(root: Path, out: Path) -> None:
    if out.resolve() == root or root in out.resolve().parents:
        raise VtccError(
            f"--out: {out} lies inside the images' folder, which is only read; name a place beside "
            "it"
        )


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise VtccError(
            f"{work.parent}: cannot be written to ({error.strerror}); give --out elsewhere"
        ) from None
    lock = FileLock(work.with_name(f"{work.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise VtccError(
            f"{work}: another `vtcc cluster` is at work on this output; wait for it, or give "
            "another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()
        work.with_name(f"{work.name}.lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _interrupted(work: Path) -> Iterator[None]:
    from vtcc.engine.loop import Interrupted

    try:
        yield
    except Interrupted as stop:
        note(f"{stop}; the same command goes on from here ({work})")
        sys.exit(128 + stop.signum)


def _same_run(work: Path, options: Options, digest: str) -> None:
    """Starts afresh where the images or the options are not those of the interrupted run."""
    asked = {
        "version": __version__,
        "images": digest,
        "clusters": options.clusters,
        "minutes": options.minutes,
        "seed": options.seed,
        "overrides": options.overrides,
    }
    key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    file = work / "key"
    known = file.read_text(encoding="utf-8") if file.exists() else ""
    if known == key:
        note(f"going on with an interrupted run ({work})")
        return
    if known:
        note("the images or the options have changed: starting afresh")
    shutil.rmtree(work)
    work.mkdir()
    from vtcc.atomic import write_text

    write_text(file, key)


class _Run:
    """One folder, from the files to the results."""

    def __init__(self, options: Options, out: Path, work: Path, found: Any, started: float):
        self.options, self.out, self.work, self.found = options, out, work, found
        self.started = started
        self.name = options.folder.absolute().name.strip(". ")[:80] or "images"

    def all(self) -> None:
        self.prepare()
        self.learn()
        self.judge()
        self.write()

    def left(self) -> float:
        """Seconds of the time asked for that are left."""
        return self.options.minutes * 60 - (time.monotonic() - self.started)

    def prepare(self) -> None:
        """Looks at the images, makes the choices, reads every image once."""
        from vtcc import compose, config
        from vtcc.atomic import write_text
        from vtcc.folder import choices, intake, survey

        options, found = self.options, self.found
        limit = 100_000_000
        kept = self.work / "survey.json"
        if kept.exists():
            seen = survey.Survey(**json.loads(kept.read_text(encoding="utf-8")))
        else:
            note(f"looking at a sample of {min(len(found.files), survey.SAMPLE)} images")
            seen = survey.look(found.files, max_pixels=limit, seed=options.seed)
            write_text(kept, json.dumps(seen.to_dict()) + "\n")
        fixed = options.clusters if isinstance(options.clusters, int) else None
        heads = fixed or min(max(OVERCLUSTER, 2), len(found.files) // 2)
        self.choices = choices.choose(
            seen, name=self.name, source=str(found.root), clusters=heads, seed=options.seed
        )
        if options.overrides:
            self.choices.set(
                options.overrides,
                "set by you",
                ", ".join(f"{k}={v}" for k, v in options.overrides.items()),
                "--set and other options win over the choices below",
            )
            config.from_dict(config.Params, self.choices.params)
            compose.check_encoder(self.choices.params)
        for what, choice in self.choices.reasons.items():
            note(f"{what}: {choice['value']} ({choice['why']})")
        params = self.choices.params
        self.cache, self.sketches, self.errors = intake.cached(
            found,
            self.work / "cache",
            name=self.name,
            channels=params["dataset"]["channels"],
            size=params["validate"]["image_size"],
            max_pixels=limit,
        )
        N = len(self.cache.paths)
        if fixed and fixed > N // 2:
            raise VtccError(f"-k {fixed}: only {N} images can be read; allowed: at most {N // 2}")
        batch = min(params["train"]["batch_size"], N)
        if batch < params["train"]["batch_size"]:
            self.choices.params = config.override(params, {"train.batch_size": batch})

    def learn(self) -> None:
        """Trains, chooses K where it is open, trains again with another seed."""
        from vtcc import config
        from vtcc.folder import count, training

        options, N = self.options, len(self.cache.paths)
        params = self.choices.params
        given = "train.epochs" in options.overrides
        reserve = 45 + 0.006 * min(N, 20_000)  # for what comes after the trainings
        budget = max(self.left() - reserve, LEAST_TRAINING)
        plan = self.work / "budget.json"
        if plan.exists():  # of the interrupted run: a resume must train what was begun
            budget = json.loads(plan.read_text(encoding="utf-8"))
        else:
            plan.write_text(json.dumps(budget), encoding="utf-8")

        def train(title: str, share: float, clusters: int, seed: int) -> training.Trained:
            values = config.override(params, {"train.seed": seed, "train.num_clusters": clusters})
            return training.train(
                self.cache,
                values,
                self.work / title.replace(" ", "-"),
                seconds=None if given else budget * share,
                title=title,
            )

        seed = options.seed
        other_seed = seed + 1 if seed < config.MAX_SEED else seed - 1
        if isinstance(options.clusters, int):
            self.K = options.clusters
            self.main = train("training", MAIN_SHARE, self.K, seed)
            self.second = train("second training", 1 - MAIN_SHARE, self.K, other_seed)
            low = high = self.K
        else:
            heads = params["train"]["num_clusters"]
            self.second = train("first training", SCOUT_SHARE, heads, other_seed)
            low, high = options.clusters
        kept = self.work / "count.json"
        if not kept.exists():
            trained = self.main if low == high else self.second
            note("judging groups" if low == high else f"how many clusters, from {low} to {high}")
            made = count.count(
                trained.h,
                trained.heads,
                low=low,
                high=high,
                seed=seed,
                said=lambda done, total: report("count", done, total),
            )
            kept.write_text(json.dumps(made.to_dict()), encoding="utf-8")
        self.count = json.loads(kept.read_text(encoding="utf-8"))
        if not isinstance(options.clusters, int):
            self.K = self.count["clusters"]
            for reason in self.count["reasons"]:
                note(reason)
            self.main = train("training", 1 - SCOUT_SHARE, self.K, seed)

    def judge(self) -> None:
        """Final clusters, what they are worth, and what simpler methods give."""
        import numpy as np

        from vtcc.data import duplicates
        from vtcc.folder import baselines, final, trust

        seed = self.options.seed
        images = self.cache.images
        self.gradients = baselines.gradients(images)
        self.model, self.clusters, how = final.choose(self)
        self.choices.reasons["clusters by"] = how
        note(f"clusters by {how['value']}: {how['why']}")
        self.applied = self.clusters.apply(self.model.p, self.model.h)
        note("simpler methods on the same images")
        self.baselines = baselines.run(images, self.gradients, self.K, seed=seed, said=note)
        self.baselines |= final.of_features(self)
        from sklearn.metrics import adjusted_rand_score

        other = final.grouped(self.second, self.K, seed)
        at = next(c for c in self.count["curve"] if c["clusters"] == self.count["clusters"])
        self.trust = trust.measure(
            self.applied.cluster,
            self.applied.confidence,
            other=other,
            reference=self.baselines["hog_pca_kmeans"].features,
            map_silhouette=at["silhouette"],
            halves=at["stability"],
            alike=max(trust.alike(self.sketches), self.copies()),
            seed=seed,
        )
        self.first = duplicates.groups(duplicates.nearest_earlier(self.sketches, 2))
        self.compared = []
        ours = {"title": "these clusters", "agreement": 1.0}
        rows = [(ours, self.applied.cluster, np.arange(len(images)))]
        for one in self.baselines.values():
            agreed = adjusted_rand_score(self.applied.cluster[one.rows], one.clusters)
            rows.append(({"title": one.title, "agreement": float(agreed)}, one.clusters, one.rows))
        for said, clusters, places in rows:
            self.compared.append(said | self._scores(clusters, places))

    def copies(self) -> float:
        """Share of images that are copies of one."""
        from vtcc.folder import copies

        where = dict(zip(self.found.names, self.found.files, strict=True))
        files = [where[path] for path in self.cache.paths]
        return copies.share(files, max_pixels=100_000_000, seed=self.options.seed)

    def _scores(self, clusters: Any, places: Any) -> dict[str, float]:
        """Against the sub-folders, where there are any: they only score, here at the end."""
        labels = self.labels()
        if labels is None:
            return {}
        from vtcc.analysis.metrics import clustering_scores

        found = clustering_scores([labels[i] for i in places.tolist()], clusters)
        return {"nmi": found["nmi"], "acc": found["acc"]}

    def labels(self) -> list[int] | None:
        """Class numbers of the readable images by sub-folder, or None."""
        if self.found.labels is None:
            return None
        of = dict(zip(self.found.names, self.found.labels, strict=True))
        return [of[path] for path in self.cache.paths]

    def write(self) -> None:
        """Everything into the output folder, which appears as a whole."""
        from vtcc.atomic import atomic_directory
        from vtcc.folder import result

        with atomic_directory(self.out) as building:
            result.write(self, building)
        for line in self.summary():
            note(line)

    def summary(self) -> Sequence[str]:
        """The end of what is printed."""
        minutes = (time.monotonic() - self.started) / 60
        unread = f", {len(self.errors)} unreadable" if self.errors else ""
        return (
            f"{len(self.cache.paths)} images in {self.K} clusters{unread}, {minutes:.1f} minutes",
            self.trust.verdict,
            f"look at it: {self.out / 'report.html'}",
            f"sort more images: vtcc predict MORE --model {self.out / 'model'} --out more.csv",
        )


def params_text(params: dict[str, Any], K: int) -> str:
    """params.yaml with a word on how to use it."""
    head = (
        f"# The training behind these clusters (K = {K}). Again: vtcc cluster FOLDER -k {K} "
        "--params params.yaml\n# In a project of its own it is what `dvc repro` runs.\n"
    )
    return head + yaml.safe_dump(params, sort_keys=False, allow_unicode=True)
