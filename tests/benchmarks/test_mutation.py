"""Scores of mutation testing, from tables as mutmut writes them."""

import json
import tomllib
from pathlib import Path

from benchmarks import mutation

ROOT = Path(__file__).parents[2]


def table(directory: Path, module: str, codes: list[int | None]) -> None:
    file = directory / f"{module}.meta"
    file.parent.mkdir(parents=True, exist_ok=True)
    names = {f"m.x_f__mutmut_{i}": code for i, code in enumerate(codes)}
    file.write_text(json.dumps({"exit_code_by_key": names}))


def test_the_score_is_what_tests_noticed_of_what_they_ran(tmp_path, capsys):
    table(tmp_path, "vtcc/a.py", [1] * 8 + [-24] + [0] + [33, 5])
    table(tmp_path, "vtcc/deep/b.py", [1, 3, 0, 36])
    table(tmp_path, "vtcc/c.py", [])
    assert mutation.run(tmp_path, survivors=True) == 1
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["vtcc/a.py"] == ["12", "9", "1", "2", "90.0%"]
    assert rows["vtcc/deep/b.py"] == ["4", "3", "1", "0", "75.0%"]
    assert rows["all"] == ["16", "12", "2", "2", "85.7%"]
    assert out.splitlines()[-2:] == ["m.x_f__mutmut_9", "m.x_f__mutmut_2"]
    assert "vtcc/c.py" not in rows
    assert err == "below 85%: vtcc/deep/b.py\n"


def test_a_run_that_is_not_at_its_end_or_found_nothing_is_no_success(tmp_path, capsys):
    assert mutation.run(tmp_path, survivors=False) == 1
    table(tmp_path, "vtcc/a.py", [1] * 9 + [0])
    assert mutation.run(tmp_path, survivors=False) == 0
    table(tmp_path, "vtcc/a.py", [1] * 9 + [0, None, -11])
    assert mutation.run(tmp_path, survivors=False) == 1
    assert "2 mutants are not judged" in capsys.readouterr().err


def test_what_is_mutated_and_what_tests_it_exist():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
    named = asked["only_mutate"] + asked["pytest_add_cli_args_test_selection"] + asked["also_copy"]
    assert [path for path in named if not (ROOT / path).exists()] == []
    mutated = map(Path, asked["only_mutate"])
    tests = {f"tests/{p.parent.relative_to('vtcc')}/test_{p.name}" for p in mutated}
    assert tests <= set(asked["pytest_add_cli_args_test_selection"])
