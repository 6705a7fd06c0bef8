"""Tables of figures, made once and shown in a terminal, in Markdown or on a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from vtcc.study.records import Spread

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: shown first.
        quiet: what is less important: in Markdown in brackets, on a page a line below, in a
            terminal left out.
        bad: further lines of a page, in red.
        kind: class in the page's stylesheet: figure (never broken), free (broken anywhere), quiet.
        code: in the font of code.
        bar: a share, 0 to 1, drawn before the text of a page.
    """

    text: str
    quiet: str = ""
    bad: tuple[str, ...] = ()
    kind: str = ""
    code: bool = False
    bar: float | None = None


Rows = Sequence[Sequence[Cell]]


def spread(s: Spread | None) -> Cell:
    """Mean and standard deviation; minimum and maximum beside them."""
    around = f"{s.low:.4f}–{s.high:.4f}" if s and s.n > 1 else ""
    return Cell(str(s or DASH), around, kind="figure")


def difference(s: Spread | None, apart: Sequence[str] = ()) -> Cell:
    """`+0.0123 ± 0.0045`, from how many pairs, and what kept others from being pairs."""
    if s is None:
        return Cell(DASH, "; ".join(apart), kind="figure")
    text = f"{s.mean:+.4f}" + (f" ± {s.std:.4f}" if s.n > 1 else "")
    return Cell(text, "; ".join((f"n {s.n}", *apart)), kind="figure")


def quoted(value: object) -> Cell:
    """A figure of others."""
    return Cell(f"{value:.3f}" if isinstance(value, int | float) else DASH)


def plain(head: Sequence[str], rows: Rows) -> str:
    """The table for a terminal."""
    lines = [head, *([cell.text for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(head: Sequence[str], rows: Rows) -> str:
    """The table in Markdown."""
    lines = [head, ["---"] * len(head), *([_markdown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _markdown(cell: Cell) -> str:
    text = f"`{cell.text}`" if cell.code else cell.text
    return f"{text} ({cell.quiet})" if cell.quiet else text
