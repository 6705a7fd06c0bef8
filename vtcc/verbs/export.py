"""`vtcc export`: a model for other programs and machines, or results for other tools."""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcc.atomic import atomic_directory, refuse_link, sole_writer
from vtcc.errors import VtccError
from vtcc.progress import note, several
from vtcc.verbs.import_checkpoint import check_out

if TYPE_CHECKING:
    from vtcc.grouping.clusters import Clusters


def hand_over(
    results: Path,
    to: str,
    out: Path,
    *,
    images: str | None = None,
    place: bool = False,
    root: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes results of `vtcc cluster` in another tool's format; they are only read.

    Args:
        results: their folder. to: of `vtcc.export.formats.FORMATS`.
        out: the folder or file, new unless `overwrite`, which replaces an earlier export.
        images: links or copies, where the format has a folder of images; links unless given.
            Copies are without EXIF, XMP and IPTC.
        place: columns that say where pictures were taken come along, and copies are whole files.
        root: where the folder of images is now, if it was moved.

    Returns:
        `out` (absolute path), `to`, `images`, `in_clusters`, `left_out` (readable images that the
        format cannot have), `unreadable` (files that no format has).

    Raises:
        VtccError: on a user's mistake; nothing is written then.
    """
    from vtcc.data import exif
    from vtcc.export import formats
    from vtcc.export.dataset import Image, has_text_path
    from vtcc.grouping import only_read, summary

    form = formats.named(to)
    kept = only_read.of_results(results, summary.read(results, {"root": str}))
    kept += only_read.folders([root] if root else [])
    only_read.check(out, kept)
    formats.check(to, out, images, kept, overwrite)
    from vtcc.grouping import columns, handover, reopen  # heavy: what may be refused is by now

    with reopen.opened(results, changes=False) as before:
        dataset = handover.read(before, root, place=place, files=not form.on_the_map)
        formats.refuse_holding(out, dataset)
        formats.write(dataset, to, out, mode=images or "links", place=place)
        unsaid = [
            name for name in columns.read(results)[0] if name.casefold() in exif.PLACE and not place
        ]
    named: list[Image] = []
    left_out: list[Image] = []
    for image in dataset.images:
        unnamed = form.paths_are_text and not has_text_path(image)
        unplaced = form.on_the_map and image.row is None
        (left_out if unnamed or unplaced else named).append(image)
    in_clusters = several(len(dataset.clusters), "clusters")
    note(f"{out}: {several(len(named), 'images')}, {in_clusters}, for {to}")
    if left_out and form.on_the_map:
        note(f"left out, as not on the map: {several(len(left_out), 'images')}")
    elif left_out:
        note(
            f"left out, as {to} cannot name a path that is not UTF-8: "
            f"{several(len(left_out), 'images')} (first: {left_out[0].name!r}); rename, or take a "
            "format with its own images"
        )
    if unsaid:
        note(f"left out, unless by --place: {', '.join(unsaid)}")
    note(f"open it: {form.opened(dataset, out.absolute())}")
    return {
        "out": str(out.absolute()),
        "to": to,
        "images": len(named),
        "in_clusters": sum(image.cluster is not None for image in named),
        "left_out": len(left_out),
        "unreadable": dataset.unreadable,
    }


def run(model: str, *, onnx: Path | None = None, with_encoder: Path | None = None) -> None:
    """Writes a model as ONNX, as a directory with its frozen encoder inside, or both.

    Args:
        model: as `vtcc predict` takes it. onnx: the file, which ends with .onnx.
        with_encoder: the directory; a vtcc model in it is replaced.

    Raises:
        VtccError: when there is no such model, a place is a link or cannot be written; nothing is
            left then.
    """
    from vtcc.grouping.clusters import load_predictor
    from vtcc.tracking import fetch

    if onnx is None and with_encoder is None:
        raise VtccError(
            "nothing to write; give --onnx FILE.onnx or --with-encoder DIR, or results with --to"
        )
    if onnx is not None:
        if onnx.suffix.lower() != ".onnx":
            raise VtccError(f"--onnx: {onnx}: the name has to end with .onnx")
        refuse_link("--onnx", onnx)
    with contextlib.ExitStack() as held:
        if with_encoder is not None:
            check_out("--with-encoder", with_encoder, {"the model": Path(model)})
            busy = f"--with-encoder: another process is writing {with_encoder}; wait for it"
            try:
                held.enter_context(sole_writer(with_encoder, busy))
            except OSError as error:
                raise VtccError(
                    f"--with-encoder: {with_encoder.parent} cannot be written to "
                    f"({error.strerror or error}); name another place"
                ) from None
        room = held.enter_context(tempfile.TemporaryDirectory())
        directory = fetch.directory_of(model, Path(room))
        predictor = load_predictor(directory, "cpu")
        if with_encoder is not None:
            _write_whole(predictor, directory, with_encoder)
    if onnx is not None:
        _write_onnx(predictor, onnx)


def _write_whole(predictor: Any, directory: Path, out: Path) -> None:
    """The model of a directory with all weights in it, its clusters and its cards."""
    from vtcc.engine import checkpoint, model_card

    try:
        with atomic_directory(out) as fresh:
            checkpoint.write_model(fresh, predictor.model, predictor.info, with_encoder=True)
            if predictor.clusters is not None:
                predictor.clusters.write(fresh)
            for card in model_card.CARDS:  # older models have none
                if (directory / card).is_file():
                    shutil.copyfile(directory / card, fresh / card)
    except OSError as error:
        raise VtccError(f"{out}: cannot be written ({error.strerror or error})") from None
    size = (out / checkpoint.WEIGHTS).stat().st_size
    note(f"{out}: the model with its encoder, {size / 1e6:.1f} MB; it needs no other weights")


def _write_onnx(predictor: Any, onnx: Path) -> None:
    from vtcc.export.onnx import write

    note("exporting; then the file is compared with the model")
    gaps = write(predictor, onnx)
    S, C = predictor.cache_size, predictor.channels
    note(
        f"{onnx}: image (N, {S}, {S}, {C}) uint8 -> cluster, confidence, probabilities "
        f"(N, {predictor.num_clusters}), embedding; differs by at most {max(gaps.values()):.1g}"
    )
    if edited := _edited(predictor.clusters):
        note(
            f"{onnx}: its clusters are the model's own, before edits: {', '.join(edited)}; "
            "`vtcc predict` and the HTTP API know the edits"
        )


def _edited(clusters: "Clusters | None") -> list[str]:
    """What edits made of the clusters of the model's head, in words."""
    if clusters is None:
        return []
    told = []
    for base, now in enumerate(clusters.of_base):
        if base in clusters.splits:
            told.append(f"{base} is split in {', '.join(map(str, clusters.splits[base].ids))}")
        elif now != base:
            told.append(f"{base} is excluded" if now < 0 else f"{base} is in {now}")
    return told
