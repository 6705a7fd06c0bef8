"""How many small changes of the code its tests notice, per module: of what `make mutation` left.

    python -m benchmarks.mutation              # the score of each module
    python -m benchmarks.mutation --survivors  # and the names that `mutmut show` takes

mutmut writes a table of mutants beside each module below mutants/. The score is the share of those
that the tests noticed: killed, or so slow that they were stopped. Mutants in code that no test runs
do not count in it and are listed beside it.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

LEAST = 0.85  # of each module
KILLED, SURVIVED, UNTESTED, UNJUDGED = "killed", "survived", "no tests", "unjudged"
# Exit statuses of pytest, and what mutmut writes where it ends a process itself. Others are
# crashes, which no test has judged.
_OUTCOMES: dict[int | None, str] = {
    1: KILLED,
    3: KILLED,
    **dict.fromkeys((24, -24, 36, 152, 255), KILLED),  # stopped
    0: SURVIVED,
    5: UNTESTED,
    33: UNTESTED,
}


def outcomes(directory: Path) -> dict[str, dict[str, str]]:
    """Module -> mutant -> what became of it, of the modules that were mutated.

    Args:
        directory: mutmut's mutants/.
    """
    modules = {}
    for file in sorted(directory.rglob("*.py.meta")):
        codes = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
        if codes:
            module = file.relative_to(directory).as_posix().removesuffix(".meta")
            modules[module] = {name: _OUTCOMES.get(code, UNJUDGED) for name, code in codes.items()}
    return modules


def score(of: Counter[str]) -> float:
    """Killed ones of those that a test could have noticed."""
    return of[KILLED] / max(of[KILLED] + of[SURVIVED], 1)


def run(directory: Path, *, survivors: bool) -> int:
    """Prints the table.

    Returns:
        The exit status: 1 where nothing was mutated, a mutant is not judged, or a score is below
        `LEAST`.
    """
    modules = {module: Counter(of.values()) for module, of in outcomes(directory).items()}
    print(f"{'module':<32} {'mutants':>8} {KILLED:>8} {SURVIVED:>9} {UNTESTED:>9} {'score':>7}")
    for module, of in {**modules, "all": sum(modules.values(), Counter())}.items():
        counts = f"{of.total():>8} {of[KILLED]:>8} {of[SURVIVED]:>9} {of[UNTESTED]:>9}"
        print(f"{module:<32} {counts} {score(of):>7.1%}")
    if survivors:
        for of in outcomes(directory).values():
            print(*(name for name, what in of.items() if what == SURVIVED), sep="\n")
    if unjudged := sum(of[UNJUDGED] for of in modules.values()):
        print(f"{unjudged} mutants are not judged; run make mutation to its end", file=sys.stderr)
    low = [module for module, of in modules.items() if score(of) < LEAST]
    if low:
        print(f"below {LEAST:.0%}: {', '.join(low)}", file=sys.stderr)
    return int(not modules or bool(unjudged) or bool(low))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--survivors", action="store_true", help="name them")
    sys.exit(run(Path("mutants"), survivors=parser.parse_args().survivors))
