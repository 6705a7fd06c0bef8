import hashlib
import time

import pytest

from tests.data.web import Site, serve, serve_directory
from tests.fakes import stand_in
from vtcc.data import fetch
from vtcc.data.fetch import Expected, NotServedError
from vtcc.errors import TemporaryError, VtccError

DATA = bytes(range(256)) * 400
SHA = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def pauses(monkeypatch):
    """No waiting; what would have been waited."""
    found: list[tuple[int, float]] = []
    stand_in(monkeypatch, fetch, "_pause", lambda *asked: found.append(asked))
    return found


@pytest.fixture
def site():
    with serve(Site(DATA)) as running:
        yield running


@pytest.fixture
def get(site, tmp_path):
    def get(**expected):
        return fetch.fetch(f"{site.address}/a.zip", tmp_path / "a.zip", Expected(**expected))

    return get


@pytest.mark.parametrize("known", [{}, {"bytes": len(DATA), "sha256": SHA}, {"md5": MD5}])
def test_a_file_arrives_whole_and_alone(get, tmp_path, known):
    assert get(**known).read_bytes() == DATA
    assert not (tmp_path / "a.zip.part").exists()


def test_a_known_file_is_not_asked_for_again(get, site):
    get(sha256=SHA)
    get(sha256=SHA)
    assert len(site.asked) == 1


def test_an_unknown_file_is_asked_about_and_kept_or_replaced(get, site):
    get()
    get()
    assert [a.get("If-None-Match") for a in site.asked] == [None, '"1"']
    site.data, site.etag = b"new", '"2"'
    assert get().read_bytes() == b"new"


@pytest.mark.parametrize("known", [{}, {"sha256": SHA}])
def test_a_short_download_is_noticed_and_resumed(get, site, pauses, known):
    site.cuts = [1000, 2000]
    assert get(**known).read_bytes() == DATA
    assert [a.get("Range") for a in site.asked] == [None, "bytes=1000-", "bytes=3000-"]
    assert site.asked[1]["If-Range"] == '"1"' and len(pauses) == 2


def test_a_later_run_goes_on_where_the_first_gave_up(get, site, pauses, tmp_path):
    site.cuts = [1000] + [0] * 10
    with pytest.raises(TemporaryError, match="1000 bytes are kept, run `vtcc download` again"):
        get(sha256=SHA)
    assert (tmp_path / "a.zip.part").stat().st_size == 1000
    assert len(pauses) == fetch.ATTEMPTS - 1
    site.cuts.clear()
    assert get(sha256=SHA).read_bytes() == DATA
    assert site.asked[-1]["Range"] == "bytes=1000-"


@pytest.mark.parametrize("known", [{}, {"sha256": SHA}])
def test_a_part_that_is_whole_is_not_fetched_again(get, site, pauses, tmp_path, monkeypatch, known):
    """A kill between the last byte and the renaming: the server answers 416 to the rest."""

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fetch, "verify", killed)
        with pytest.raises(KeyboardInterrupt):
            get(**known)
    assert (tmp_path / "a.zip.part").stat().st_size == len(DATA)
    assert get(**known).read_bytes() == DATA
    assert [a.get("Range") for a in site.asked] == [None, f"bytes={len(DATA)}-"]
    assert pauses == []


def test_a_part_longer_than_the_servers_file_is_fetched_again(get, site, pauses, tmp_path):
    site.cuts = [5000] + [0] * 4
    with pytest.raises(TemporaryError):
        get()
    site.cuts, site.data = [], DATA[:4000]
    assert get().read_bytes() == DATA[:4000]


def test_without_ranges_it_starts_again(get, site, pauses):
    site.ranges, site.cuts = False, [1000]
    assert get().read_bytes() == DATA


def test_a_changed_file_is_not_glued_to_the_old_one(get, site, pauses, monkeypatch):
    def change(*asked):
        site.data, site.etag = b"n" * 5000, '"2"'

    stand_in(monkeypatch, fetch, "_pause", change)
    site.cuts = [1000]
    assert get().read_bytes() == b"n" * 5000


def test_a_server_that_ignores_if_range_is_found_out(get, site, pauses, monkeypatch):
    def change(*asked):
        site.data, site.etag = b"n" * len(DATA), '"2"'

    # The new ETag is asked for, so that the server answers 206 with the new file's end.
    stand_in(monkeypatch, fetch, "_pause", change)
    monkeypatch.setattr(fetch._Version, "validator", property(lambda v: v.etag and '"2"'))
    site.cuts = [1000]
    assert get().read_bytes() == b"n" * len(DATA)
    assert [a.get("Range") for a in site.asked] == [None, "bytes=1000-", None]


def test_without_validator_and_checksum_nothing_is_resumed(get, site, pauses):
    site.etag, site.cuts = None, [1000]
    assert get().read_bytes() == DATA
    assert all("Range" not in a for a in site.asked)


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"md5": "0" * 32}, {"bytes": 5}])
def test_a_wrong_file_is_named_and_not_used_again(get, site, tmp_path, known):
    (kind, wanted), *_ = known.items()
    with pytest.raises(VtccError) as caught:
        get(**known)
    found = {"sha256": SHA, "md5": MD5, "bytes": len(DATA)}[kind]
    assert f"expected {'' if kind == 'bytes' else kind + ' '}{wanted}" in str(caught.value)
    assert str(found) in str(caught.value) and site.address in str(caught.value)
    assert not isinstance(caught.value, TemporaryError)
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".zip", ".part")]


def test_a_damaged_file_from_before_is_fetched_again(get, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"half")
    assert get(sha256=SHA).read_bytes() == DATA


def test_failures_that_may_pass_are_tried_again(get, site, pauses):
    site.statuses = [503, 429]
    assert get().read_bytes() == DATA
    assert [count for count, _ in pauses] == [1, 2]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_served_is_not_tried_again(get, site, pauses, status):
    site.statuses = [status]
    with pytest.raises(NotServedError, match=f"HTTP status {status}"):
        get()
    assert not pauses


def test_nobody_there_may_pass(pauses, tmp_path):
    with pytest.raises(TemporaryError, match=r":9/a: cannot be downloaded \(Failed to establish"):
        fetch.fetch("http://127.0.0.1:9/a", tmp_path / "a", Expected())


def test_redirects_are_followed_on_the_web_only(get, site):
    site.statuses, site.location = [302], "/elsewhere"
    assert get().read_bytes() == DATA


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x"])
def test_redirects_to_elsewhere_are_refused(get, site, pauses, to):
    site.statuses, site.location = [302], to
    with pytest.raises(VtccError, match="which is not on the web; not followed"):
        get(md5=MD5)


def test_endless_redirects_end(get, site):
    site.statuses, site.location = [302] * 20, "/again"
    with pytest.raises(VtccError, match="more than 10 redirects"):
        get(md5=MD5)


def test_a_proxy_is_not_asked_for_this_machine(get, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert get().read_bytes() == DATA


def test_a_full_disk_is_said_before(get, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(VtccError, match="are still to come, but 0 MiB are free"):
        get()


def test_pauses_grow_and_are_jittered(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for failures in (1, 2, 3, 9):
        fetch._pause(failures, 0.0)
    assert all(2**n / 2 <= s <= 2**n * 1.5 for n, s in zip((1, 2, 3), slept, strict=False))
    fetch._pause(1, 7.0)
    assert slept[3] == 60 and slept[4] == 7


def test_pythons_own_server(tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served/a").write_bytes(DATA)
    with serve_directory(tmp_path / "served") as address:
        assert fetch.fetch(f"{address}/a", tmp_path / "a", Expected()).read_bytes() == DATA
        assert fetch.fetch(f"{address}/a", tmp_path / "a", Expected()).read_bytes() == DATA


@pytest.mark.parametrize(
    ("how", "known"),
    [
        ({"cuts": [1000, 0, 0, 0, 0, 0]}, {}),
        ({"statuses": [404]}, {}),
        ({"statuses": [302], "location": "ftp://ann:secret@127.0.0.1/a"}, {}),
        ({"statuses": [302] * 11, "location": "/again"}, {}),
        ({}, {"bytes": 5}),
        ({}, {"sha256": MD5}),
    ],
)
def test_a_password_in_an_address_is_sent_and_neither_shown_nor_kept(
    site, pauses, tmp_path, capsys, how, known
):
    for name, value in how.items():
        setattr(site, name, value)
    address = site.address.replace("http://", "http://ann:secret@") + "/a.zip"
    with pytest.raises(VtccError) as refused:
        fetch.fetch(address, tmp_path / "a.zip", Expected(**known))
    assert f"{site.address}/a.zip" in str(refused.value)
    kept = "".join(note.read_text() for note in tmp_path.glob("*.json"))
    assert "secret" not in str(refused.value) + capsys.readouterr().out + kept
    assert site.asked[0]["Authorization"].startswith("Basic ")
    if "cuts" in how:
        site.cuts = []
        assert fetch.fetch(address, tmp_path / "a.zip", Expected()).read_bytes() == DATA
        assert site.asked[-1]["Range"] == "bytes=1000-"


def test_a_part_goes_on_at_its_very_address_alone():
    known = fetch._known_by("http://ann:secret@a.b:80/x.zip?key=one")
    assert "secret" not in known and "one" not in known
    assert known == fetch._known_by("http://bob:other@a.b:80/x.zip?key=one")
    assert known != fetch._known_by("http://ann:secret@a.b:80/x.zip?key=two")
