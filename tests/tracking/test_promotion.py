import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import stand_in
from vtcc.errors import VtccError
from vtcc.tracking import champion, promotion, registry
from vtcc.tracking.promotion import Move


def moves(*steps):
    """Moves from texts such as "1>2" and "2<1" (rolled back)."""
    made = []
    for step in steps:
        undone = "<" in step
        before, version = step.replace("<", ">").split(">")
        reason = f"rolled back from version {before}" if undone else "promoted: better"
        made.append(Move(version, before, reason, "2026-01-01T00:00:00+00:00"))
    return made


@pytest.mark.parametrize(
    ("steps", "now", "before"),
    [
        ([], "1", ""),
        ([">1"], "1", ""),
        ([">1", "1>2"], "2", "1"),
        ([">1", "1>2", "2>3"], "3", "2"),
        ([">1", "1>2", "2>3", "3<2"], "2", "1"),
        ([">1", "1>2", "2>3", "3<2", "2<1"], "1", ""),
        ([">1", "1>2", "2<1", "1>3"], "3", "1"),
        ([">1", "1>2", "2<1", "1>2"], "2", "1"),
        (["1>2"], "2", "1"),  # the record begins with the second
        (["2<1"], "1", ""),
        ([">1", "1>2"], "7", "2"),  # 7 was set in MLflow itself
        ([">1", "1>2", "5>6"], "6", "5"),  # and here 5, before the last move
        ([">1", "1>2", "5>6", "6<5"], "5", "2"),
        ([">1", "1>2", "1>3"], "3", "1"),  # 1 again
    ],
)
def test_who_was_champion_before(steps, now, before):
    assert promotion._before(moves(*steps), now) == before


@pytest.fixture
def name(client, here):
    """A registered model with three versions and no champion."""
    name = f"vtcc-hand-{len(client.search_registered_models())}"
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source=(here / "m").as_uri())
    return name


@pytest.mark.parametrize("odd", ["{}", '{"name": "a"}', '{"name": 1, "version": "1"}'])
def test_what_was_registered_last_is_read_before_the_alias_moves(client, name, here, odd):
    told = here / ".vtcc" / "registered.json"
    told.parent.mkdir(exist_ok=True)
    told.write_text(odd, encoding="utf-8")
    with pytest.raises(VtccError, match=r"registered\.json: .*; delete it"):
        promotion.promote(name, "1")
    assert promotion.holder(client, name) is None
    told.unlink()
    assert promotion.promote(name, "1").version == "1"


def test_by_hand_and_back_with_the_reasons(client, name):
    assert promotion.promote(name, "1").before == ""
    assert promotion.promote(name, "3", "looks better").before == "1"
    assert client.get_registered_model(name).aliases == {"champion": 3}
    assert client.get_model_version(name, "3").tags["promotion"] == (
        "promoted by hand: looks better"
    )
    undone = promotion.rollback(name)
    assert (undone.version, undone.before) == ("1", "3")
    assert undone.reason == "rolled back from version 3 (promoted by hand: looks better)"
    assert client.get_registered_model(name).aliases == {"champion": 1}
    told = [(m.before, m.version) for m in promotion.history(client, name)]
    assert told == [("", "1"), ("1", "3"), ("3", "1")]
    with pytest.raises(VtccError, match="no champion is known before version 1"):
        promotion.rollback(name)
    assert client.get_registered_model(name).aliases == {"champion": 1}


def test_the_reason_said_again_is_that_of_the_alias_now(client, name, here, monkeypatch):
    """Whatever the version's own tag says: that is older where the alias was moved by hand."""

    def registered(version):
        return registry._decide(client, name, version, here / "m", here / "cache")

    def compared(better, why):
        result = (better, why, {"challenger_x": 1.0})
        stand_in(monkeypatch, champion, "challenge", lambda *given: result)

    stand_in(monkeypatch, champion, "unopposed", lambda *given: ("there was no champion", {}))
    assert registered("1") == registered("1") == (True, "promoted: there was no champion")
    compared(True, "more stable" + "." * 200)
    second = (True, "promoted: more stable" + "." * 200)
    assert registered("2") == registered("2") == second
    promotion.rollback(name)
    back = "rolled back from version 2 (promoted: more stable" + "." * 69 + ")"
    assert registered("2") == (False, f"not promoted: version 1 is champion ({back})")
    assert registered("1") == (True, back)

    compared(False, "less stable")
    assert registered("3") == registered("3") == (False, "not promoted: less stable")
    client.set_registered_model_alias(name, "champion", "3")  # in MLflow's pages
    assert registered("3") == (True, "set by hand")
    client.set_registered_model_alias(name, "champion", "1")
    assert registered("3") == (False, "not promoted: less stable")
    promotion.promote(name, "3", "by eye")
    assert registered("3") == (True, "promoted by hand: by eye")
    client.set_registered_model_alias(name, "champion", "1")
    assert registered("3") == (False, "not promoted: version 1 is champion (set by hand)")


def test_mistakes_are_one_line(client, name):
    with pytest.raises(VtccError, match="there is no champion; make one: vtcc promote"):
        promotion.rollback(name)
    with pytest.raises(VtccError, match=f"{name} has no version 9; it has: 1, 2, 3"):
        promotion.promote(name, "9")
    with pytest.raises(VtccError, match=f"{name} has no version latest; it has: 1, 2, 3"):
        promotion.promote(name, "latest")
    with pytest.raises(VtccError, match=r"vtcc-none: no registered model .*\(registered: .*"):
        promotion.promote("vtcc-none", "1")
    promotion.promote(name, "2")
    with pytest.raises(VtccError, match="version 2 is the champion already"):
        promotion.promote(name, "2")
    client.delete_model_version(name, "2")
    client.set_registered_model_alias(name, "champion", "3")
    with pytest.raises(VtccError, match="version 2, champion before 3, was deleted"):
        promotion.rollback(name)


def test_the_record_stays_within_a_tag(client, name):
    for i in range(20):
        promotion.move(client, name, str(1 + i % 2), "r" * 300)
    text = client.get_registered_model(name).tags[promotion.HISTORY]
    assert len(text) < 5000
    found = promotion.history(client, name)
    assert len(found) >= 10
    assert (found[-1].before, found[-1].version) == ("1", "2")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("r" * 200_000, f"promoted by hand: {'r' * 4979}..."),
        ("good\udcff", "promoted by hand: good?"),  # a byte that is not UTF-8
    ],
)
def test_a_reason_is_kept_as_far_as_a_tag_goes(client, name, given, kept):
    promotion.promote(name, "1", given)
    assert client.get_model_version(name, "1").tags["promotion"] == kept
    assert promotion.history(client, name)[-1].reason == kept[:160]


def test_a_record_that_somebody_broke_counts_as_none(client, name):
    client.set_registered_model_tag(name, promotion.HISTORY, "{oops")
    assert promotion.history(client, name) == []
    assert promotion.promote(name, "1").version == "1"


# Everybody promotes and rolls back at once; a move that was made without looking again at who is
# champion leaves a history in which `before` is not the version of the move before it.
WORKER = """
import json, random, sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from vtcc.errors import VtccError
from vtcc.tracking import promotion, store

me, rounds, fake = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
name = "vtcc-eight"

class FileClient:
    '''A registry in a file: reads and writes it anew at each call, as a server would.'''
    file = Path(fake)
    def _read(self):
        return json.loads(self.file.read_text())
    def _write(self, **values):
        self.file.write_text(json.dumps(self._read() | values))
    def get_registered_model(self, name):
        state = self._read()
        return SimpleNamespace(aliases=state["aliases"], tags=state["tags"])
    def search_registered_models(self, page_token=None):
        return Page([SimpleNamespace(name=name)])
    def search_model_versions(self, query, page_token=None):
        return Page([SimpleNamespace(version=v) for v in (1, 2, 3)])
    def set_model_version_tag(self, name, version, key, value):
        pass
    def set_registered_model_alias(self, name, alias, version):
        self._write(aliases={alias: version})
    def set_registered_model_tag(self, name, key, value):
        self._write(tags={key: value})

class Page(list):
    token = None

if fake:
    store.client, store.reachable = FileClient, lambda **how: nullcontext()
moves, random = 0, random.Random(me)
for i in range(rounds):
    try:
        if random.random() < 0.7:
            promotion.promote(name, str(random.randint(1, 3)), f"{me} {i}")
        else:
            promotion.rollback(name)
        moves += 1
    except VtccError as error:  # champion already, or none before it
        assert "already" in str(error) or "no champion" in str(error), error
print(moves)
"""


def raced(here, tmp_path, processes, rounds, fake):
    """The moves that processes counted, and the history they left."""
    code = tmp_path / "worker.py"
    code.write_text(WORKER, encoding="utf-8")
    root = Path(__file__).parents[2]
    workers = [
        subprocess.Popen(
            [sys.executable, str(code), str(number), str(rounds), fake],
            cwd=here,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    counted = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * processes
    return sum(map(int, counted))


def assert_chained(moves):
    assert len(moves) == promotion.MOST
    for former, move in itertools.pairwise(moves):
        assert move.before == former.version != move.version


def test_promotions_of_many_processes_see_each_other(elsewhere, tmp_path):
    state = tmp_path / "registry.json"
    state.write_text('{"aliases": {}, "tags": {}}', encoding="utf-8")
    (elsewhere / "mlflow.db").touch()  # without a store nothing is promoted
    assert raced(elsewhere, tmp_path, 4, 25, str(state)) > promotion.MOST
    left = json.loads(state.read_text(encoding="utf-8"))
    moves = [promotion.Move(**move) for move in json.loads(left["tags"][promotion.HISTORY])]
    assert_chained(moves)
    assert left["aliases"] == {"champion": moves[-1].version}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_promotions_of_eight_processes_in_a_real_registry(client, here, tmp_path):
    name = "vtcc-eight"
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source=(here / "m").as_uri())
    assert raced(here, tmp_path, 8, 200, "") > promotion.MOST
    moves = promotion.history(client, name)
    assert_chained(moves)
    assert promotion.holder(client, name) == moves[-1].version
