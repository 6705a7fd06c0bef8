"""`vtcc use`: params.yaml from a preset, a data set's card, or both."""

import os
from pathlib import Path

from vtcc import config, paths, yaml_file
from vtcc.atomic import write_text
from vtcc.config import compose
from vtcc.errors import VtccError


def run(
    name: str,
    *,
    dataset: str | None = None,
    model: str | None = None,
    augment: str | None = None,
    encoder: str | None = None,
    assignments: list[str],
) -> None:
    """Writes params.yaml of the project; one that was edited is kept in .vtcc/params.

    Args:
        name: a run preset; or a card, which means the preset `paper` on it.
        dataset, model, augment, encoder: as of `compose.compose`.
        assignments: such as `train.epochs=2`.

    Raises:
        VtccError: outside a clone, on an unknown name or a value that is not allowed; nothing is
            written then.
    """
    project = paths.existing_project()
    if not (project / "dvc.yaml").is_file():
        raise VtccError(
            f"{project} is no clone of vtcc (no dvc.yaml), and parameters are of use in one alone; "
            "run this there, or group images without any by `vtcc cluster FOLDER`"
        )
    if name not in compose.names("run", project) and name in compose.names("dataset", project):
        if dataset not in (None, name):
            raise VtccError(f"--dataset {dataset}: {name!r} is a dataset already; give one of them")
        whole = f"{name} is a dataset: this is `vtcc use paper --dataset {name}`"
        if encoder:
            print(f"{whole}, with the encoder in place of the paper's model and schedule")
        else:
            print(
                f"{whole}, the paper's model and schedule, made for a GPU; cheaper: "
                f"`vtcc use folder --dataset {name}`"
            )
        name, dataset = "paper", name
    overrides = config.parse_assignments(assignments)
    template = compose.run_text(name, project)
    base = yaml_file.parse(template)
    changes = compose.changes(
        dataset, model, augment, overrides, project, encoder=encoder, base=base
    )
    chosen = {"dataset": dataset, "model": model, "augmentation": augment, "encoder": encoder}
    words = [f"{kind} {value}" for kind, value in chosen.items() if value]
    words += assignments
    text = _with_remark(config.edit(template, changes), words)
    os.chdir(project)
    compose.check_encoder(yaml_file.parse(text))
    if kept := compose.keep_params(Path()):
        print(f"the former params.yaml is kept as {kept}")
    write_text(paths.PARAMS, text)
    print(", ".join([f"params.yaml: preset {name}", *words]))
    if dataset and not (augment or encoder):
        proposed = compose.proposed_augment(dataset, project)
        if proposed and proposed != compose.proposed_augment(dataset, project, base):
            print(
                f"augmentation: that of preset {name}; the card of {dataset} proposes "
                f"{proposed}: --augment {proposed}"
            )


def _with_remark(text: str, words: list[str]) -> str:
    """A preset's text that says, behind its first comments, what it was changed by."""
    if not words:
        return text
    lines = text.splitlines(keepends=True)
    at = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    remark = " ".join(", ".join(words).split())
    return "".join([*lines[:at], f"# Changed by vtcc use: {remark}\n", *lines[at:]])
