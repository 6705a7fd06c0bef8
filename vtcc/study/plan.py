"""A study file, read and checked as a whole before anything runs (docs/studies.md)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vtcc import config, paths, schema
from vtcc.analysis.scores import LABEL_FREE, SCORES
from vtcc.config import compose
from vtcc.errors import VtccError
from vtcc.schema import parameter
from vtcc.study import records

T = TypeVar("T")
PRESETS = ("preset", "dataset", "model", "augment", "encoder")
MAX_SEEDS = 1000
NAME = r"[a-z0-9][a-z0-9._]*(-[a-z0-9._]+)*"
NAME_IN_WORDS = "lower-case letters, digits, dots and single dashes, such as ablation-digits"


def is_name(value: Any) -> bool:
    """Whether it is good for files."""
    return isinstance(value, str) and re.fullmatch(NAME, value) is not None


@dataclass(frozen=True, kw_only=True)
class PresetKeys:
    """The presets a file or a setting names; null: none, whatever stands above it."""

    preset: str | None = None
    dataset: str | None = None
    model: str | None = None
    augment: str | None = None
    encoder: str | None = None


@dataclass(frozen=True, kw_only=True)
class SettingKeys(PresetKeys):
    """What a setting may hold beside dotted parameters."""

    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class FileKeys(PresetKeys):
    """What study and sweep files share."""

    name: str = parameter(fits=is_name, words=NAME_IN_WORDS)
    title: str | None = None
    question: str | None = None
    overrides: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class StudyKeys(FileKeys):
    """What a study file may hold."""

    seeds: Any = 0
    baseline: Any = None
    settings: dict[str, Any] | None = parameter(
        fits=lambda v: isinstance(v, dict) and bool(v),
        words="names with what they change, {} for nothing",
        default=None,
    )
    score: str | None = None


@dataclass(frozen=True, eq=False)
class Setting:
    """One column of parameters of a study.

    Attributes:
        name: of the setting; the study's own where it has no settings.
        record: the directory of its records.
        note: a remark for the table.
        overrides: what replaces the study's preset, dotted keys, without `records.SEEDS`.
        params: complete nested parameters, `records.SEEDS` as the preset has them.
    """

    name: str
    record: str
    note: str
    overrides: dict[str, Any]
    params: dict[str, Any]

    def seeded(self, seed: int) -> dict[str, Any]:
        """The parameters of one run: what is trained and what is measured draw by its seed."""
        return config.override(self.params, dict.fromkeys(records.SEEDS, seed))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study file and a sweep file have in common.

    Attributes:
        file: it, relative to the project where it lies in it.
        name: also of the records and of the MLflow run.
        title: one line.
        question: one paragraph.
        preset: the run preset, or None for `params.yaml`.
    """

    file: Path
    name: str
    title: str
    question: str
    preset: str | None


@dataclass(frozen=True, kw_only=True)
class Study(Plan):
    """A study file.

    Attributes:
        seeds: values of `train.seed` and `evaluate.seed`.
        baseline: the setting that others are paired with by seed, or None.
        settings: in the order of the file.
        score: the metric that the table and the plot sort by.
    """

    seeds: list[int]
    baseline: str | None
    settings: list[Setting]
    score: str


def heading(keys: FileKeys, file: Path) -> dict[str, Any]:
    """The values of a `Plan`."""
    return {
        "file": file,
        "name": keys.name,
        "title": one_line(keys.title) or keys.name,
        "question": one_line(keys.question),
        "preset": keys.preset,
    }


def parse_seeds(given: Any, where: str = "seeds") -> list[int]:
    """`"0-2,7"`, `[0, 1, 2, 7]` or one number -> `[0, 1, 2, 7]`.

    Raises:
        VtccError: when it is not that.
    """
    wrong = VtccError(f"{where}: expected numbers and ranges, such as 0-4 or 0,3,7-9: {given!r}")
    if isinstance(given, bool) or not isinstance(given, int | str | list):
        raise wrong
    parts = given.split(",") if isinstance(given, str) else given
    seeds: list[int] = []
    for part in parts if isinstance(parts, list) else [parts]:
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", str(part))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise wrong
        if last > config.MAX_SEED or last - first >= MAX_SEEDS:
            raise VtccError(
                f"{where}: found {part!r}; at most {MAX_SEEDS} seeds, from 0 to {config.MAX_SEED}"
            )
        seeds += range(first, last + 1)
    if not seeds:
        raise wrong
    if len(set(seeds)) != len(seeds):
        raise VtccError(f"{where}: a seed comes twice: {given!r}")
    return seeds


def read(file: Path, project: Path | None = None) -> Study:
    """Reads a study file; every setting is composed and checked.

    Args:
        file: the YAML file.
        project: directory of `params.yaml`; default: the one around the working directory.

    Raises:
        VtccError: on anything that would fail later; the message says where.
    """
    return read_file(file, project, "study", _study)


def read_file(
    file: Path, project: Path | None, kind: str, parse: Callable[[dict[str, Any], Path, Path], T]
) -> T:
    """What `parse` makes of a study or sweep file; it gets values, file and project.

    Raises:
        VtccError: naming the file, when it is not there, empty, or `parse` refuses it.
    """
    project = project or paths.project()
    if file.resolve().is_relative_to(project):
        file = file.resolve().relative_to(project)  # as records quote it
    holds = f"docs/{'studies' if kind == 'study' else 'sweeps'}.md says what one holds"
    if (project / file).is_dir():
        raise VtccError(f"{file}: a directory; name a {kind} file in it")
    if not (project / file).is_file():
        raise VtccError(f"{file}: no such {kind} file; {holds}")
    values = config.read_yaml(project / file)
    if values is None:
        raise VtccError(f"{file}: empty; {holds}")
    try:
        return parse(values, file, project)
    except VtccError as error:
        raise VtccError(f"{file}: {error}") from None


def _study(values: Any, file: Path, project: Path) -> Study:
    keys: StudyKeys = schema.build(StudyKeys, values, file="study")
    defaults = {k: getattr(keys, k) for k in PRESETS}
    base = keys.overrides or {}
    if keys.settings is None:
        settings = [_setting(keys.name, keys.name, {}, defaults, base, project)]
    else:
        for name in keys.settings:
            if not is_name(name):
                raise VtccError(f"settings: expected {NAME_IN_WORDS}, found {name!r}")
        settings = [
            _setting(name, f"{keys.name}--{name}", values or {}, defaults, base, project)
            for name, values in keys.settings.items()
        ]
    known = [s.name for s in settings]
    if keys.baseline is not None and keys.baseline not in known:
        raise VtccError(config.unknown("baseline", keys.baseline, known))
    seeds = parse_seeds(keys.seeds)
    for setting in settings:
        setting.seeded(max(seeds))
    return Study(
        **heading(keys, file),
        seeds=seeds,
        baseline=keys.baseline,
        settings=settings,
        score=_score(one_line(keys.score) or "acc"),
    )


def _setting(
    name: str,
    record: str,
    values: Any,
    defaults: Mapping[str, str | None],
    base: Mapping[str, Any],
    project: Path,
) -> Setting:
    where = f"settings.{name}"
    if not isinstance(values, dict):
        raise VtccError(f"{where}: expected keys and values, found {values!r}")
    dotted = {k: v for k, v in values.items() if "." in str(k)}
    others = {k: v for k, v in values.items() if k not in dotted}
    keys: SettingKeys = schema.build(SettingKeys, others, where)
    chosen = dict(defaults) | {k: values[k] for k in PRESETS if k in values}
    try:
        own = compose.compose(overrides={**base, **dotted}, project=project, **chosen)
        # A setting's own card or preset wins over what the study overrides for all.
        stronger = {k: values[k] for k in PRESETS[1:] if k in values}
        if "dataset" in stronger:
            stronger.setdefault("augment", chosen["augment"])
            stronger.setdefault("encoder", chosen["encoder"])
        later = compose.changes(**stronger, overrides=dotted, project=project, base=own)
        params = config.override(own, later)
        compose.check_encoder(params)
        preset = compose.compose(chosen["preset"], project=project)
    except VtccError as error:
        raise VtccError(f"{where}: {error}") from None
    flat, before = config.flatten(params), config.flatten(preset)
    for key in records.SEEDS:
        if key in base or key in dotted:
            raise VtccError(f"{where}: {key}: seeds are given with `seeds`")
    return Setting(
        name=name,
        record=record,
        note=one_line(keys.note),
        overrides={k: v for k, v in flat.items() if v != before[k]},
        params=params,
    )


def one_line(text: str | None) -> str:
    """Text without line breaks; empty where there is none."""
    return " ".join((text or "").split())


def _score(score: str) -> str:
    known = [*SCORES, *LABEL_FREE]
    if score not in known and not score.startswith("baseline_"):
        raise VtccError(config.unknown("score", score, known))
    return score


def only(study: Study, names: list[str]) -> list[Setting]:
    """The settings of these names, in the study's order; all of them for none.

    Raises:
        VtccError: on a name that the study does not have.
    """
    known = [s.name for s in study.settings]
    for name in names:
        if name not in known:
            raise VtccError(config.unknown("--only", name, known))
    return [s for s in study.settings if not names or s.name in names]


def root(project: Path) -> Path:
    """Where a project keeps its records."""
    return project / records.RECORDS
