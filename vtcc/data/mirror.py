"""Where the files of a dataset may already lie: a mirror, torchvision's cache, a Debian package.

No image is read here, and nothing heavy is imported: `vtcc datasets` asks as well.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vtcc.data.catalog import Card, Source, plain
from vtcc.errors import VtccError, without_passwords

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
# Other folders in which a dataset's files may lie, such as torchvision's and Debian's.
_FOLDERS = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-batches-bin"),
    "cifar100": ("cifar-100-python", "cifar-100-binary"),
    "stl10": ("stl10_binary",),
    "omniglot": ("omniglot-py",),
    "oxford-pets": ("oxford-iiit-pet",),
    "ucmerced": ("UCMerced_LandUse",),
    "fashion-mnist": ("raw", "usr/share/datasets/fashion-mnist"),
}


@dataclass(frozen=True)
class Held:
    """Files of a dataset on this machine.

    Attributes:
        place: folder or archive they come from, for people to read.
        folder: already unpacked; None where there are archives and files instead.
        files: archives to unpack and plain files, to be looked at together.
        sources: what is known of each of the files, None where nothing is.
    """

    place: Path
    folder: Path | None = None
    files: tuple[Path, ...] = ()
    sources: tuple[Source | None, ...] = ()


def configured(value: str) -> Path | str | None:
    """The mirror: VTCC_MIRROR, else `download.mirror`, else None.

    Returns:
        A directory, or the http(s) address of one without a slash at its end.

    Raises:
        VtccError: when it is named but is no directory, or an address of another kind.
    """
    variable = os.environ.get("VTCC_MIRROR")
    name = variable or value
    if not name:
        return None
    key = "VTCC_MIRROR" if variable else "download.mirror"
    parts, shown = urlsplit(name), without_passwords(name)
    if parts.scheme in ("http", "https") and parts.hostname:
        return name.rstrip("/")
    if "://" in name and parts.scheme != "file":
        raise VtccError(
            f"{key}: {shown!r} has the scheme {parts.scheme!r}; allowed: a directory, "
            "or an address with http, https or file"
        )
    path = Path(name)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise VtccError(
                f"{key}: {shown!r} names the machine {parts.hostname!r}; write file:///path"
            )
        path = Path(unquote(parts.path))
    if not path.is_dir():
        raise VtccError(f"{key}: {shown!r} is not a directory; correct it or leave it empty")
    return path


def torch_cache() -> Path:
    """The folder `datasets` in torch's cache: TORCH_HOME, else ~/.cache/torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", f"{cache}/torch")
    return Path(os.path.expanduser(home)) / "datasets"  # noqa: PTH111 - Path's own needs a home


def local_places(mirror: Path | None) -> list[Path]:
    """Directories to look in, best first."""
    return [*([mirror] if mirror else []), torch_cache()]


def look(card: Card, base: Path) -> Held | None:
    """What a directory holds of a dataset, or None.

    First the upstream files, in `<base>/<dataset>/` and in `<base>` itself; then an archive
    `<base>/<dataset>.zip` or the like; then a folder `<base>/<dataset>/`. Names are compared
    without case, hyphens and underscores.
    """
    if not os.path.isdir(base):  # noqa: PTH112 - `is_dir` raises where this user may not look
        return None
    folders = _folders(card, base)
    for folder in [*folders, base]:
        if held := _upstream(card, folder):
            return held
    for entry in sorted(base.iterdir()):
        if entry.is_file() and _stem(entry.name) == plain(card.name):
            return Held(entry, files=(entry,), sources=(None,))
    return Held(folders[0], folder=folders[0]) if folders else None


def look_everywhere(card: Card, mirror: Path | None) -> Held | None:
    """The first of the local places that holds a dataset."""
    for base in local_places(mirror):
        if held := look(card, base):
            return held
    if card.name == "fashion-mnist" and DEBIAN_FASHION.is_dir():
        return Held(DEBIAN_FASHION, folder=DEBIAN_FASHION)
    return None


def parts(card: Card) -> dict[str, list[Source]]:
    """The card's sources by what they hold: one of each list is needed."""
    grouped: dict[str, list[Source]] = {}
    for source in card.sources:
        grouped.setdefault(source.part, []).append(source)
    return grouped


def _folders(card: Card, base: Path) -> list[Path]:
    names = {plain(card.name), *(plain(n) for n in _FOLDERS.get(card.name, ()) if "/" not in n)}
    near: Iterable[Path] = [base, *sorted(base.iterdir())]
    matching = [f for f in near if plain(f.name) in names and f.is_dir()]
    deep = [base / name for name in _FOLDERS.get(card.name, ()) if "/" in name]
    # torchvision's FashionMNIST/raw is below the folder that the name finds.
    return [*(f for f in matching if any(f.iterdir())), *(f for f in deep if f.is_dir())]


def _upstream(card: Card, folder: Path) -> Held | None:
    files: list[Path] = []
    known: list[Source | None] = []
    for choices in parts(card).values():
        for source in choices:
            exact, unzipped = folder / source.file, folder / source.file.removesuffix(".gz")
            if exact.is_file():
                files.append(exact)
                known.append(None if DEBIAN_FASHION.as_posix() in exact.as_posix() else source)
                break
            if unzipped.is_file():
                files.append(unzipped)
                known.append(None)
                break
        else:
            return None
    return Held(folder, files=tuple(files), sources=tuple(known)) if files else None


def _stem(name: str) -> str | None:
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return plain(name[: -len(suffix)])
    return None
