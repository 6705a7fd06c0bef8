"""A study file, read and checked as a whole before anything runs (docs/studies.md)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vtcc import compose, config, paths
from vtcc.errors import VtccError
from vtcc.study import records

T = TypeVar("T")
PRESETS = ("preset", "dataset", "model", "augment", "encoder")
KEYS = (
    *("name", "title", "question", *PRESETS, "overrides"),
    *("seeds", "baseline", "settings", "score"),
)
MAX_SEEDS = 1000
NAME = r"[a-z0-9][a-z0-9._]*(-[a-z0-9._]+)*"


@dataclass(frozen=True, eq=False)
class Setting:
    """One column of parameters of a study.

    Attributes:
        name: of the setting; the study's own where it has no settings.
        record: the directory of its records.
        note: a remark for the table.
        overrides: what replaces the study's preset, dotted keys, without `train.seed`.
        params: complete nested parameters, `train.seed` as the preset has it.
    """

    name: str
    record: str
    note: str
    overrides: dict[str, Any]
    params: dict[str, Any]

    def seeded(self, seed: int) -> dict[str, Any]:
        """The parameters of one run."""
        return config.override(self.params, {"train.seed": seed})


@dataclass(frozen=True)
class Study:
    """A study file.

    Attributes:
        file: it, relative to the project where it lies in it.
        name: also of the records.
        title: one line.
        question: one paragraph.
        preset: the run preset, or None for `params.yaml`.
        seeds: values of `train.seed`.
        baseline: the setting that others are paired with by seed, or None.
        settings: in the order of the file.
        score: the metric that the table and the plot sort by.
    """

    file: Path
    name: str
    title: str
    question: str
    preset: str | None
    seeds: list[int]
    baseline: str | None
    settings: list[Setting]
    score: str


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
    check_keys(values, KEYS, "")
    name = check_name(values.get("name"), "name")
    defaults = chosen_presets(values)
    base = section(values.get("overrides"), "overrides")
    sections = values.get("settings")
    if sections is None:
        settings = [_setting(name, name, {}, defaults, base, project)]
    else:
        if not isinstance(sections, dict) or not sections:
            raise VtccError("settings: expected names with what they change, {} for nothing")
        settings = [
            _setting(check_name(n, "settings"), f"{name}--{n}", s, defaults, base, project)
            for n, s in sections.items()
        ]
    known = [s.name for s in settings]
    baseline = values.get("baseline")
    if baseline is not None and baseline not in known:
        raise VtccError(compose.unknown("baseline", baseline, known))
    seeds = parse_seeds(values.get("seeds", 0))
    for setting in settings:
        setting.seeded(max(seeds))
    return Study(
        file=file,
        name=name,
        title=text(values, "title") or name,
        question=text(values, "question"),
        preset=defaults["preset"],
        seeds=seeds,
        baseline=baseline,
        settings=settings,
        score=_score(values),
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
    values = section(values, where)
    dotted = {k: v for k, v in values.items() if "." in str(k)}
    check_keys({k: v for k, v in values.items() if k not in dotted}, (*PRESETS, "note"), where)
    chosen = dict(defaults) | chosen_presets(values, where)
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
    if "train.seed" in base or "train.seed" in dotted:
        raise VtccError(f"{where}: train.seed: seeds are given with `seeds`")
    return Setting(
        name=name,
        record=record,
        note=text(values, "note"),
        overrides={k: v for k, v in flat.items() if v != before[k]},
        params=params,
    )


def check_keys(values: Any, known: tuple[str, ...], where: str) -> None:
    """Refuses what is no mapping, and a key that is not known, with the nearest."""
    if not isinstance(values, dict):
        raise VtccError(f"{where or 'study'}: expected keys and values, found {values!r}")
    for key in values:
        if key not in known:
            name = f"{where}.{key}" if where else str(key)
            near = compose.unknown("key", key, list(known)).partition("; ")[2]
            raise VtccError(f"{name}: unknown key; {near}")


def section(values: Any, where: str) -> dict[str, Any]:
    """A mapping that may be left out."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise VtccError(f"{where}: expected keys and values, found {values!r}")
    return values


def chosen_presets(values: Mapping[str, Any], where: str = "") -> dict[str, str | None]:
    """The presets a file or a setting names; at the top all of them, None for none."""
    found = {k: values[k] for k in PRESETS if k in values}
    for key, value in found.items():
        if value is not None and not isinstance(value, str):
            name = f"{where}.{key}" if where else key
            raise VtccError(f"{name}: expected a name or null, found {value!r}")
    return found if where else dict.fromkeys(PRESETS) | found


def check_name(value: Any, where: str) -> str:
    """A name that is good for files."""
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
        raise VtccError(
            f"{where}: found {value!r}; use lower-case letters, digits, dots and single dashes, "
            "such as ablation-digits"
        )
    return value


def text(values: Mapping[str, Any], key: str) -> str:
    """Text on one line; empty where there is none."""
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise VtccError(f"{key}: expected text, found {value!r}")
    return " ".join((value or "").split())


def _score(values: Mapping[str, Any]) -> str:
    score = text(values, "score") or "acc"
    known = [*records.SCORES, "fmi", *records.LABEL_FREE]
    if score not in known and not score.startswith("baseline_"):
        raise VtccError(compose.unknown("score", score, known))
    return score


def only(study: Study, names: list[str]) -> list[Setting]:
    """The settings of these names, in the study's order; all of them for none.

    Raises:
        VtccError: on a name that the study does not have.
    """
    known = [s.name for s in study.settings]
    for name in names:
        if name not in known:
            raise VtccError(compose.unknown("--only", name, known))
    return [s for s in study.settings if not names or s.name in names]


def root(project: Path) -> Path:
    """Where a project keeps its records."""
    return project / records.RECORDS
