"""The graph of rooms in docs/design.md is that of the imports."""

import pytest

from benchmarks import rooms


def test_the_design_shows_the_graph_as_it_is():
    shown = rooms.DESIGN.read_text(encoding="utf-8").partition(rooms.START)[2]
    shown = shown.partition(rooms.END)[0]
    assert shown == rooms.mermaid(), "run `python -m benchmarks.rooms --write`"


@pytest.mark.parametrize(
    ("module", "room"),
    [
        ("vtcc", ""),
        ("vtcc.engine.augment.draws", "engine"),
        ("vtcc.__main__", "main"),
        ("flows.x", "flows"),
    ],
)
def test_a_module_belongs_to_the_room_right_below_the_package(module, room):
    assert rooms.room_of(module) == room


def test_an_arrow_is_left_out_where_a_longer_way_leads_there():
    graph = {"cli": {"verbs", "data"}, "verbs": {"data"}, "data": set()}
    assert rooms.reduced(graph) == {"cli": {"verbs"}, "verbs": {"data"}, "data": set()}
