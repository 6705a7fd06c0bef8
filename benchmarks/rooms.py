"""The graph of rooms in docs/design.md, from the imports.

    python -m benchmarks.rooms           # prints it
    python -m benchmarks.rooms --write   # into docs/design.md

A room is a package or a module right below `vtcc`; `flows` is one. Imports inside functions and for
type checkers count. An arrow is left out where a longer way leads to the same room.
"""

import argparse
from pathlib import Path

import grimp

DESIGN = Path(__file__).parents[1] / "docs" / "design.md"
START, END = "<!-- rooms: python -m benchmarks.rooms --write -->\n", "<!-- end of rooms -->\n"
# What nearly every room imports, and what only offers names of another.
LEFT_OUT = {
    "bounds",
    "errors",
    "extras",
    "version",
    "atomic",
    "paths",
    "progress",
    "quiet",
    "schema",
    "yaml_file",
    "",
}


def imports() -> dict[str, set[str]]:
    """Room -> the rooms it imports."""
    graph = grimp.build_graph("vtcc", "flows", cache_dir=None)
    rooms: dict[str, set[str]] = {}
    for module in graph.modules:
        room = room_of(module)
        below = {room_of(other) for other in graph.find_modules_directly_imported_by(module)}
        rooms.setdefault(room, set()).update(below - {room} - LEFT_OUT)
    return {room: below for room, below in rooms.items() if room not in LEFT_OUT}


def room_of(module: str) -> str:
    """`vtcc.engine.loop` -> `engine`, `flows.train` -> `flows`, `vtcc` -> nothing."""
    top, *rest = module.split(".")
    return top if top == "flows" else (rest or [""])[0].strip("_")


def reduced(rooms: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows that a longer way makes needless; `rooms` has no circle."""

    def reached(room: str) -> set[str]:
        return {room}.union(*(reached(below) for below in rooms[room]))

    def needed(room: str) -> set[str]:
        below = rooms[room]
        return {to for to in below if not any(to in reached(by) for by in below - {to})}

    return {room: needed(room) for room in rooms}


def mermaid() -> str:
    """The graph as a fenced block."""
    rooms = reduced(imports())
    arrows = [
        f"    {room} --> {' & '.join(sorted(rooms[room]))}" for room in sorted(rooms) if rooms[room]
    ]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, "```", ""])


def main() -> None:
    """Prints or writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="Into docs/design.md.")
    graph = mermaid()
    if not parser.parse_args().write:
        print(graph, end="")
        return
    before, _, rest = DESIGN.read_text(encoding="utf-8").partition(START)
    DESIGN.write_text(before + START + graph + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
