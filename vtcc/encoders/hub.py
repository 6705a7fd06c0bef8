"""The Hugging Face cache and hub, by way of huggingface_hub."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vtcc import quiet
from vtcc.digests import sha256
from vtcc.encoders.catalog import HubSource
from vtcc.errors import VtccError, in_one_line
from vtcc.progress import note, report


class HubUnreachable(VtccError):  # noqa: N818 - the hub is what is unreachable
    """The hub did not give the file: no network, no such file, or no access."""


def cached(source: HubSource) -> Path | None:
    """The file in the local cache, at the card's revision, else at `main`. Asks no network."""
    return _cached_at(source, source.revision) or _cached_at(source, "main")


def _cached_at(source: HubSource, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source.repo, source.file, revision=revision)
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def cache_directory() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def fetch(source: HubSource, title: str) -> Path:
    """Downloads the file into the Hugging Face cache, checks it and returns its path.

    A connection that breaks is taken up where it broke. A file whose SHA-256 is not the card's
    is deleted.

    Args:
        source: of the card. title: in the progress.

    Raises:
        HubUnreachable: when it cannot be had. VtccError: when its SHA-256 is another.
    """
    if quiet.hub_switched_off():
        raise HubUnreachable("HF_HUB_OFFLINE is set; unset it to download")
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import GatedRepoError

    where = f"{source.repo}/{source.file} at {source.revision}"
    place: dict[str, Any] = {
        "revision": source.revision,
        "endpoint": os.environ.get("HF_ENDPOINT") or None,
    }
    try:
        with _online():
            # Asked once: where there is no network, the download would try for half a minute.
            get_hf_file_metadata(hf_hub_url(source.repo, source.file, **place))
            known = _cached_at(source, source.revision)
            if known and source.sha256 not in (None, sha256(known)):
                _delete(known)  # damaged; it would be taken for the file
            bar = _progress(title)
            file = Path(hf_hub_download(source.repo, source.file, **place, tqdm_class=bar))
    except GatedRepoError:
        raise HubUnreachable(
            f"{where}: its owners ask for a login; accept their terms on the page of the "
            "repository, then set HF_TOKEN"
        ) from None
    except Exception as error:
        # Network, disk and server break a download in ways that no list of types covers.
        raise HubUnreachable(f"{where}: not downloaded ({in_one_line(error)})") from None
    check(file, source, title)
    return file


def check(file: Path, source: HubSource, title: str) -> None:
    """Compares a downloaded file with the card; deletes it when it is another.

    Raises:
        VtccError: naming both digests.
    """
    digest = sha256(file)
    if source.sha256 is None:
        note(f"{title}: the card pins no digest of {source.repo}; got sha256 {digest}")
    elif digest != source.sha256:
        _delete(file)
        raise VtccError(
            f"{source.repo}/{source.file}: sha256 {digest}, but the card of {title} says "
            f"{source.sha256}; deleted. Fetch it again, and do not use it if this comes back"
        )


def _delete(file: Path) -> None:
    """Removes a file of the cache and the content that it links to."""
    content = file.resolve()
    file.unlink(missing_ok=True)
    content.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        file.parent.rmdir()


@contextmanager
def _online() -> Iterator[None]:
    """Lifts vtcc's own HF_HUB_OFFLINE for one download that was asked for.

    huggingface_hub reads the variable when it is imported and the constant before each request.
    """
    from huggingface_hub import constants

    before, logger = constants.HF_HUB_OFFLINE, logging.getLogger("huggingface_hub")
    level = logger.level
    constants.HF_HUB_OFFLINE = False
    logger.setLevel(logging.ERROR)  # a connection that is taken up again is no news
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logger.setLevel(level)


def _progress(title: str) -> Any:
    """A progress bar for huggingface_hub that speaks as vtcc does."""
    from tqdm import tqdm

    class Reported(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options |= {"file": io.StringIO(), "mininterval": 1.0, "disable": False}
            super().__init__(*args, **options)

        def display(self, *args: Any, **options: Any) -> None:
            total = round((self.total or self.n) / 1e6)
            report(f"fetch {title}", round(self.n / 1e6), total, unit="MB")

    return Reported
