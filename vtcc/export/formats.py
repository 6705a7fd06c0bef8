"""The formats of `vtcc export --to`: one table, one check of what may be written, one writer."""

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtcc import paths
from vtcc.atomic import atomic_directory, atomic_file, sole_writer, write_text
from vtcc.errors import VtccError
from vtcc.export import coco, embedding_atlas, fiftyone, imagefolder, label_studio, media
from vtcc.export.dataset import Dataset
from vtcc.regular import regular
from vtcc.version import __version__

MARK = ".vtcc-export"  # in a folder that is an export: what may be replaced


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: of a data set, into the folder or file that is being built.
        opened: how to open what was written, in a line.
        suffix: of its one file; empty where it is a folder.
        media: the folder in it that has the images; empty where these stay where they are.
        on_the_map: whether it has the images on the map alone, and none of their files.
        paths_are_text: whether images are left out whose path is not UTF-8.
    """

    write: Callable[[Dataset, Path], None]
    opened: Callable[[Dataset, Path], str]
    suffix: str = ""
    media: str = ""
    on_the_map: bool = False
    paths_are_text: bool = False


def _of_label_studio(dataset: Dataset, out: Path) -> str:
    folder = label_studio.storage(dataset)
    return (
        f"start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={shlex.quote(str(folder.parent))}, give a "
        f"project {out}/config.xml and the local storage {folder}, and import {out}/tasks.json"
    )


FORMATS = {
    "fiftyone": Format(
        fiftyone.write,
        lambda dataset, out: (
            f"fiftyone.Dataset.from_dir({str(out)!r}, "
            "dataset_type=fiftyone.types.FiftyOneImageClassificationDataset)"
        ),
        media=fiftyone.MEDIA,
    ),
    "label-studio": Format(label_studio.write, _of_label_studio, paths_are_text=True),
    "imagefolder": Format(
        imagefolder.write,
        lambda dataset, out: f"datasets.load_dataset({str(out)!r})",
        media=imagefolder.MEDIA,
    ),
    "coco": Format(
        coco.write,
        lambda dataset, out: f"names of files in {out} are paths from {dataset.root}",
        suffix=".json",
        paths_are_text=True,
    ),
    "embedding-atlas": Format(
        embedding_atlas.write,
        lambda dataset, out: (
            f"embedding-atlas {shlex.quote(str(out))} --x x --y y --neighbors neighbors"
        ),
        suffix=".parquet",
        on_the_map=True,
    ),
}


def named(to: str) -> Format:
    """A format by its name.

    Raises:
        VtccError: where there is none.
    """
    if to not in FORMATS:
        raise VtccError(f"--to: found {to!r}; allowed: {', '.join(FORMATS)}")
    return FORMATS[to]


def check(
    to: str, out: Path, mode: str | None, kept: Sequence[tuple[str, Path]], overwrite: bool
) -> None:
    """Refuses, before any work, what `write` should not write.

    Args:
        to: of `FORMATS`. out: the file or folder. mode: links, copies, or None where not asked.
        kept: what, and where it is, that must not be in `out`.
        overwrite: an earlier export may be replaced.

    Raises:
        VtccError: on a mistake.
    """
    form = named(to)
    if mode is not None and not form.media:
        raise VtccError(f"--images: {to} leaves the images where they are; leave the option out")
    if mode not in (None, *media.MODES):
        raise VtccError(f"--images: found {mode!r}; allowed: {', '.join(media.MODES)}")
    if form.suffix and out.suffix.lower() != form.suffix:
        raise VtccError(
            f"--out: found {out.name!r}; allowed for {to}: a name that ends in {form.suffix}"
        )
    if not out.absolute().parent.is_dir():
        raise VtccError(f"--out: the folder {out.parent} does not exist; create it first")
    if not os.access(out.absolute().parent, os.W_OK):
        raise VtccError(f"--out: no permission to write in {out.parent}; choose another folder")
    if not os.path.lexists(out):
        return
    if bool(form.suffix) == out.is_dir():
        raise VtccError(f"--out: {out} is a {'folder' if out.is_dir() else 'file'}; name another")
    if out.is_dir():
        whole = out.resolve()
        for what, place in (*kept, *paths.of_the_user().items()):
            if place.resolve().is_relative_to(whole):
                raise VtccError(f"--out: {out} holds {what}; name a new folder")
        if not any(out.iterdir()):
            return
    if not _is_export(out):
        held = "holds other files" if out.is_dir() else "is no export of vtcc"
        raise VtccError(f"--out: {out} {held}; name a new {'folder' if out.is_dir() else 'file'}")
    if not overwrite:
        raise VtccError(f"--out: {out} is there already; name another, or give --overwrite")


def _is_export(out: Path) -> bool:
    """Whether a folder or file was written by `write`; by what is in it, not by its name."""
    if out.is_dir():
        return (out / MARK).is_file()
    if out.suffix.lower() == ".parquet":
        return embedding_atlas.is_export(out)
    with regular(out).open("rb") as file:
        return file.read(len(coco.BEGINS)) == coco.BEGINS


def refuse_holding(out: Path, dataset: Dataset) -> None:
    """Refuses to replace a folder that images of the results lie in.

    Raises:
        VtccError: naming one of them.
    """
    if not out.is_dir():
        return
    whole = out.resolve()
    for image in dataset.images:
        if image.file.resolve().is_relative_to(whole):
            raise VtccError(f"--out: {out} holds the image {image.name!r}; name a new folder")


def write(dataset: Dataset, to: str, out: Path, *, mode: str, place: bool) -> None:
    """Writes an export, which appears whole or not at all.

    Args:
        to: of `FORMATS`. out: as it passed `check`. mode: of `media.MODES`.
        place: as of `media.write`.

    Raises:
        VtccError: when another process writes it, or it cannot be written; it is then as it was.
    """
    form = named(to)
    busy = f"--out: another process is writing {out}; wait for it, or name another"
    try:
        with sole_writer(out, busy), (atomic_file if form.suffix else atomic_directory)(out) as at:
            if form.media:
                media.write(at / form.media, dataset.images, mode, place=place)
            form.write(dataset, at)
            if not form.suffix:
                write_text(at / MARK, json.dumps({"format": to, "vtcc": __version__}) + "\n")
    except OSError as error:
        hint = "" if mode == "copies" or not form.media else "; or try --images copies"
        raise VtccError(f"{out}: could not be written ({error.strerror or error}){hint}") from None
