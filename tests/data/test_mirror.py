import dataclasses
import hashlib

import pytest

from tests.data import layouts
from tests.data.layouts import shrink, upstream, write
from tests.data.web import Site, serve, serve_directory
from tests.fakes import stand_in
from vtcc.data import fetch, mirror
from vtcc.data.mirror import configured, look
from vtcc.data.sources import Places, find
from vtcc.errors import TemporaryError, VtccError


@pytest.fixture(autouse=True)
def nothing_else_here(monkeypatch, tmp_path):
    monkeypatch.delenv("VTCC_MIRROR", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(mirror, "DEBIAN_FASHION", tmp_path / "debian")
    stand_in(monkeypatch, fetch, "_pause", lambda *asked: None)


@pytest.fixture
def places(tmp_path):
    def places(where):
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return Places(where, scratch, tmp_path / "downloads")

    return places


def test_the_environment_wins(monkeypatch, tmp_path):
    (tmp_path / "a").mkdir()
    assert configured("") is None
    assert configured(str(tmp_path / "a")) == tmp_path / "a"
    with pytest.raises(VtccError, match=r"download\.mirror: .*b' is not a directory"):
        configured(str(tmp_path / "b"))
    monkeypatch.setenv("VTCC_MIRROR", str(tmp_path))
    assert configured(str(tmp_path / "b")) == tmp_path
    monkeypatch.setenv("VTCC_MIRROR", str(tmp_path / "c"))
    with pytest.raises(VtccError, match="VTCC_MIRROR: "):
        configured("")


def test_addresses(tmp_path):
    (tmp_path / "a b").mkdir()
    assert configured("https://example.org/data/") == "https://example.org/data"
    assert configured((tmp_path / "a b").as_uri()) == tmp_path / "a b"
    with pytest.raises(VtccError, match=r"names the machine 'server'; write file:///path"):
        configured("file://server/a")
    with pytest.raises(VtccError, match="has the scheme 'ftp'; allowed: a directory, or"):
        configured("ftp://example.org")


@pytest.mark.parametrize(
    "name", ["uc-merced.zip", "UC_Merced.TAR.GZ", "ucmerced.tar.xz", "ucmerced.tar", "ucmerced.tgz"]
)
def test_archives_are_found_whatever_their_spelling(name, tmp_path):
    write({name: b"x", "ucmerced2.zip": b"x", "ucmerced.rar": b"x"}, tmp_path)
    held = look(shrink("ucmerced"), tmp_path)
    assert held is not None and held.files == (tmp_path / name,)


def test_nothing_and_empty_folders_are_not_found(tmp_path):
    (tmp_path / "ucmerced").mkdir()
    assert look(shrink("ucmerced"), tmp_path) is None
    assert look(shrink("ucmerced"), tmp_path / "no such") is None


def test_a_mirror_that_is_the_dataset_itself(tmp_path):
    write({"ucmerced/river/1.jpg": b"x"}, tmp_path)
    held = look(shrink("ucmerced"), tmp_path / "ucmerced")
    assert held is not None and held.folder == tmp_path / "ucmerced"


def test_the_directorys_upstream_files_are_verified(tmp_path, places):
    card = shrink("ucmerced")
    wrong = dataclasses.replace(card.sources[0], sha256="0" * 64)
    card = dataclasses.replace(card, sources=[wrong])
    file = write(upstream(card), tmp_path / "mirror") / "UCMerced_LandUse.zip"
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(VtccError, match=f"LandUse.zip: expected sha256 0*, found {found}.*replace"):
        find(card, places(tmp_path / "mirror"))
    assert file.exists()  # it is not ours to delete


@pytest.mark.parametrize("kind", ["archive", "upstream", "upstream in a folder"])
def test_a_mirror_on_the_web(kind, tmp_path, places):
    card = shrink("flowers102")
    files = upstream(card)
    if kind == "archive":
        files = {"flowers102.tgz": layouts.pack(layouts.folders(card, "f/{c}/{i}.jpg"), "tar")}
    inside = "flowers102" if kind == "upstream in a folder" else ""
    write(files, tmp_path / "served" / inside)
    with serve_directory(tmp_path / "served") as address:
        found = find(card, places(address))
    assert len(found.paths) == card.images
    assert {found.read(i).read_bytes() for i in range(card.images)} == {
        layouts.content(i) for i in range(card.images)
    }


def test_a_mirror_with_ranges_resumes(places):
    card = shrink("siri-whu")
    (data,) = upstream(card).values()
    with serve(Site(data, cuts=[100])) as site:
        assert len(find(card, places(site.address)).paths) == card.images
    assert site.asked[1]["Range"] == "bytes=100-"


def test_a_mirror_without_the_dataset_says_what_to_fetch(tmp_path, places):
    (tmp_path / "served").mkdir()
    with (
        serve_directory(tmp_path / "served") as address,
        pytest.raises(VtccError, match="it must be fetched by hand: fetch AID") as e,
    ):
        find(shrink("aid"), places(address))
    assert not isinstance(e.value, TemporaryError)


def test_a_mirror_that_is_away_may_come_back(places):
    with pytest.raises(TemporaryError, match=r"download failed .*127.0.0.1:9.*fetched by hand"):
        find(shrink("aid"), places("http://127.0.0.1:9"))


def test_a_mirrors_password_is_not_shown(tmp_path, places, monkeypatch, capsys):
    (tmp_path / "served").mkdir()
    with serve_directory(tmp_path / "served") as address:
        secret = address.replace("http://", "http://ann:secret@")
        with pytest.raises(VtccError, match=f"not found in {address}") as refused:
            find(shrink("aid"), places(secret))
    for wrong in ("s3://ann:secret@bucket", "file://ann:secret@server/data"):
        monkeypatch.setenv("VTCC_MIRROR", wrong)
        with pytest.raises(VtccError, match="VTCC_MIRROR: ") as unknown:
            configured("")
        assert "secret" not in str(unknown.value)
    assert "secret" not in str(refused.value) + capsys.readouterr().out


def with_urls(card, *addresses):
    """The card with each source at each address, in order."""
    sources = [
        dataclasses.replace(source, url=f"{address}/{source.file}")
        for source in card.sources
        for address in addresses
    ]
    return dataclasses.replace(card, sources=sources)


def test_the_network_comes_after_the_mirror(tmp_path, places):
    card = shrink("svhn")
    write(upstream(card), tmp_path / "served")
    (tmp_path / "mirror").mkdir()
    with serve_directory(tmp_path / "served") as address:
        found = find(with_urls(card, address), places(tmp_path / "mirror"))
    assert len(found.paths) == card.images
    kept = {p.name for p in (tmp_path / "downloads/svhn").iterdir() if p.suffix == ".mat"}
    assert kept == {"train_32x32.mat", "test_32x32.mat"}


def test_alternatives_are_tried_in_order(tmp_path, places):
    card = shrink("mnist")
    write(upstream(card), tmp_path / "served")
    (tmp_path / "empty").mkdir()
    with (
        serve_directory(tmp_path / "empty") as empty,
        serve_directory(tmp_path / "served") as address,
    ):
        found = find(with_urls(card, empty, "http://127.0.0.1:9", address), places(None))
    assert len(found.paths) == card.images


def test_a_wrong_download_is_an_error_and_deleted(tmp_path, places):
    card = shrink("dtd")
    card = dataclasses.replace(card, sources=[dataclasses.replace(card.sources[0], md5="0" * 32)])
    write(upstream(card), tmp_path / "served")
    with (
        serve_directory(tmp_path / "served") as address,
        pytest.raises(VtccError, match=r"expected md5 0*, found .*it was deleted"),
    ):
        find(with_urls(card, address), places(None))
    assert not list((tmp_path / "downloads").rglob("*.gz*part"))
    assert not list((tmp_path / "downloads").rglob("*.tar.gz"))


def test_without_a_network_the_error_says_what_to_fetch(places):
    with pytest.raises(TemporaryError) as caught:
        find(with_urls(shrink("fashion-mnist"), "http://127.0.0.1:9"), places(None))
    text = str(caught.value)
    for part in ("ubyte.gz", "download.mirror", "VTCC_MIRROR", "by hand", "Debian"):
        assert part in text
    assert "\n" not in text


def test_a_web_page_called_zip_is_no_archive(tmp_path, places):
    write({"aid.zip": b"<html>sign in</html>"}, tmp_path / "mirror")
    with pytest.raises(VtccError, match=r"aid\.zip: not a zip or tar archive, or a damaged one"):
        find(shrink("aid"), places(tmp_path / "mirror"))


def test_an_archive_that_leads_outside_is_refused(tmp_path, places):
    write({"aid.zip": layouts.pack({"../aid/Pond/1.jpg": b"x"})}, tmp_path / "mirror")
    with pytest.raises(VtccError, match="a path that leads outside the archive"):
        find(shrink("aid"), places(tmp_path / "mirror"))
