import pytest

from vtcc.errors import VtccError
from vtcc.tracking import promotion
from vtcc.tracking.promotion import Move

pytestmark = pytest.mark.xdist_group("tracking")


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


def test_mistakes_are_one_line(client, name):
    with pytest.raises(VtccError, match="there is no champion; make one: vtcc promote"):
        promotion.rollback(name)
    with pytest.raises(VtccError, match=f"{name}: no version 9; there are 1, 2, 3"):
        promotion.promote(name, "9")
    with pytest.raises(VtccError, match=r"vtcc-none: no such registered model; registered: .*"):
        promotion.promote("vtcc-none", "1")
    promotion.promote(name, "2")
    with pytest.raises(VtccError, match="version 2 is the champion already"):
        promotion.promote(name, "2")
    client.delete_model_version(name, "2")
    client.set_registered_model_alias(name, "champion", "3")
    with pytest.raises(VtccError, match="version 2, champion before 3, was deleted"):
        promotion.rollback(name)


def test_the_record_stays_within_a_tag(client, name):
    for i in range(30):
        promotion.move(client, name, str(1 + i % 2), "r" * 300)
    text = client.get_registered_model(name).tags[promotion.HISTORY]
    assert len(text) < 5000
    found = promotion.history(client, name)
    assert len(found) >= 10
    assert (found[-1].before, found[-1].version) == ("1", "2")


def test_a_record_that_somebody_broke_counts_as_none(client, name):
    client.set_registered_model_tag(name, promotion.HISTORY, "{oops")
    assert promotion.history(client, name) == []
    assert promotion.promote(name, "1").version == "1"
