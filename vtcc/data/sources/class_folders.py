"""Images in folders that are called like their classes, however deep these lie."""

from collections import Counter
from pathlib import PurePosixPath

from vtcc.data import folder
from vtcc.data.catalog import Card, plain
from vtcc.data.image_set import ImageSet
from vtcc.data.sources.registry import reader
from vtcc.data.sources.tree import Tree
from vtcc.errors import VtccError


def class_folders(card: Card, tree: Tree) -> ImageSet | None:
    """Takes for an image's class the outermost of its folders that is called like one.

    Images outside such folders are left out with a note. Where the card does not name the
    classes, they are the first level at which there are several folders.

    Raises:
        VtccError: when the classes are not named and there are not as many as the card says.
    """
    if card.class_counts is None:
        return _unnamed(card, tree)
    names = list(card.class_counts)
    number = {plain(name): i for i, name in enumerate(names)}
    kept, labels, strange = [], [], Counter[str]()
    for path in tree.images:
        folders = path.split("/")[:-1]
        label = next((number[plain(f)] for f in folders if plain(f) in number), None)
        if label is None:
            strange["/".join(folders) or "."] += 1
        else:
            kept.append(path)
            labels.append(label)
    if not kept:
        return None
    notes = []
    if strange:
        shown = ", ".join(f"{count} in {name}" for name, count in strange.most_common(5))
        notes.append(f"{card.name}: left out images outside the card's class folders: {shown}")
    return found(tree, kept, labels, names, notes)


def _unnamed(card: Card, tree: Tree) -> ImageSet | None:
    labels, names = folder.first_level(tree.images, folder.wrappers(tree.images))
    if labels is None:
        return None
    if len(names) != card.classes:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise VtccError(
            f"dataset {card.name!r}: expected {card.classes} class folders, found {len(names)} in "
            f"{tree.place} ({shown}); one folder for each class must lie below {card.name}/"
        )
    return found(tree, tree.images, labels, names, [])


def found(
    tree: Tree, files: list[str], labels: list[int], names: list[str], notes: list[str]
) -> ImageSet:
    """Images as files; their paths lose the folders that lie around all of them."""
    paths = folder.readable_names(files)
    depth = folder.wrappers(paths)
    # The folder of a single class is not a wrapper.
    depth -= 1 if depth and len(set(labels)) == 1 else 0
    return ImageSet(
        paths=["/".join(PurePosixPath(p).parts[depth:]) for p in paths],
        read=lambda i: tree.root / files[i],
        labels=labels,
        class_names=names,
        notes=notes,
        ours=tree.ours,
    )


reader("class-folders", class_folders)
