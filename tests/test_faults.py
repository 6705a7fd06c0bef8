"""docs/faults.md names tests that exist."""

import re
from pathlib import Path

TOP = Path(__file__).parents[1]


def test_every_test_that_is_named_exists():
    text = (TOP / "docs/faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) > 30
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"^def {name}\(", (TOP / file).read_text(encoding="utf-8"), re.M)
    ]
    assert missing == []
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    assert [row for row in rows if "tests/" not in row and not row.endswith("| test |")] == []
