"""Images whose classes stand in a list beside them: Chaoyang, Oxford flowers and pets, Omniglot."""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from vtcc import json_file
from vtcc.data import folder
from vtcc.data.catalog import Card, plain
from vtcc.data.image_set import ImageSet
from vtcc.data.sources.arrays import read_mat
from vtcc.data.sources.class_folders import class_folders, found
from vtcc.data.sources.registry import reader
from vtcc.data.sources.tree import Tree
from vtcc.errors import VtccError
from vtcc.regular import regular

Listed = list[tuple[str, int]]  # path of an image below the tree's root, label


def chaoyang(card: Card, tree: Tree) -> ImageSet | None:
    """Lists of {name, label} for training and test images."""
    lists = [file for name in ("train.json", "test.json") if (file := tree.named(name))]
    if not lists:
        return None
    if len(lists) == 1:
        raise VtccError(
            f"dataset {card.name!r}: {tree.place} has only one of train.json, test.json"
        )
    listed: Listed = []
    for file in lists:
        beside = file.parent.relative_to(tree.root)
        for entry in _entries(file):
            listed.append(((beside / entry["name"]).as_posix(), entry["label"]))
    return _present(card, tree, listed)


def _entries(file: Path) -> list[dict[str, Any]]:
    try:
        entries = json_file.parsed(file)
    except (OSError, ValueError) as error:
        raise VtccError(f"{file}: not JSON ({error}); fetch it again") from None
    fits = isinstance(entries, list) and all(
        isinstance(e, dict) and isinstance(e.get("name"), str) and type(e.get("label")) is int
        for e in entries
    )
    if not fits:
        raise VtccError(f"{file}: expected a list of {{name, label}}, label a whole number")
    return entries


def flowers102(card: Card, tree: Tree) -> ImageSet | None:
    """Photographs numbered from 1; entry i of imagelabels.mat is the class of number i + 1."""
    file = tree.named("imagelabels.mat")
    if file is None:
        return None
    labels = read_mat(file, "labels")["labels"].reshape(-1).tolist()
    numbered: dict[int, str] = {}
    for path in tree.images:
        if match := re.fullmatch(r"image_(\d+)\.jpg", PurePosixPath(path).name):
            numbered[int(match[1])] = path
    listed = [
        (numbered.get(i, f"jpg/image_{i:05d}.jpg"), int(label) - 1)
        for i, label in enumerate(labels, 1)
    ]
    return _present(card, tree, listed)


def oxford_pets(card: Card, tree: Tree) -> ImageSet | None:
    """annotations/list.txt: image, class from 1, species, breed; the image's name has the class."""
    file = tree.named("list.txt")
    if file is None:
        return None
    number = {plain(name): i for i, name in enumerate(card.class_counts or {})}
    where = {PurePosixPath(p).stem: p for p in tree.images if "trimaps" not in p.split("/")}
    listed: Listed = []
    try:
        lines = regular(file).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise VtccError(f"{file}: not text ({error.reason}); unpack the archive again") from None
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        name = line.split()[0]
        breed = name.rpartition("_")[0]
        if plain(breed) not in number:
            raise VtccError(f"{file}: found the breed {breed!r}, which card {card.name} lacks")
        listed.append((where.get(name, f"images/{name}.jpg"), number[plain(breed)]))
    return _present(card, tree, listed)


def omniglot(card: Card, tree: Tree) -> ImageSet | None:
    """A class for each character of each alphabet: the two folders above a drawing."""
    folders = [p.split("/")[:-1] for p in tree.images]
    if not folders or min(map(len, folders)) < 2:
        return None
    keys = ["/".join(f[-2:]) for f in folders]
    names = sorted(set(keys))
    number = {name: i for i, name in enumerate(names)}
    if len(names) != card.classes:
        raise VtccError(
            f"dataset {card.name!r}: expected {card.classes} characters, found {len(names)} in "
            f"{tree.place}; it needs images_background and images_evaluation"
        )
    return found(tree, tree.images, [number[key] for key in keys], names, [])


def _present(card: Card, tree: Tree, listed: Listed) -> ImageSet:
    """Those of the listed images that are there; names of the others."""
    names = list(card.class_counts or {})
    there = set(tree.images)
    for path, label in listed:
        if not 0 <= label < len(names):
            raise VtccError(
                f"{tree.place}: {path} has the label {label}, but card {card.name} names "
                f"{len(names)} classes; is this {card.title}?"
            )
    twice = [path for path, times in Counter(path for path, _ in listed).items() if times > 1]
    if twice:
        raise VtccError(f"{tree.place}: its lists name {twice[0]} twice; get the archive again")
    kept = [(path, label) for path, label in listed if path in there]
    files = [path for path, _ in kept]
    return ImageSet(
        paths=folder.readable_names(files),
        read=lambda i: tree.root / files[i],
        labels=[label for _, label in kept],
        class_names=names,
        missing=[path for path, _ in listed if path not in there],
        ours=tree.ours,
    )


reader("chaoyang", chaoyang, class_folders)
reader("flowers102", flowers102, class_folders)
reader("oxford-pets", oxford_pets, class_folders, skip=["trimaps", "xmls"])
reader("omniglot", omniglot)
