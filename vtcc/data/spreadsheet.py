"""Text in a CSV that a spreadsheet shows as it is, and does not run as a formula."""

# What a spreadsheet takes for the beginning of a formula, which could fetch or run something.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def text_cell(text: str) -> str:
    """Any text, after an apostrophe where it would be run."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def path_cell(path: str) -> str:
    """A path, as `./=a.png` where it would be run: that names the same file."""
    return f"./{path}" if path.startswith(_FORMULA) else path


def path_of(cell: str) -> str:
    """The path that `path_cell` wrote."""
    inside = cell.removeprefix("./")
    return inside if inside.startswith(_FORMULA) else cell
