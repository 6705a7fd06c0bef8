"""What the pages say of the command line is what the command line knows."""

import ast
import re
import shlex
from statistics import mean

import pytest
import yaml
from typer.main import get_command

from tests.fakes import stand_in
from tests.imports import TOP
from vtcc.cli import app
from vtcc.cli.verbs import variables
from vtcc.errors import STATUS
from vtcc.verbs import doctor

PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").glob("*.md"), *(TOP / ".github").rglob("*.md")])
COMMAND = get_command(app)
MENTION = re.compile(r"`(vtcc [^`]+)`")
END = {"|", "||", "&&", ";", ">", "2>", "<", "&"}


def of_blocks(text):
    """The lines of code blocks that call vtcc, without comments, prompts and variables."""
    text = text.replace("\\\n", " ")
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            code = re.sub(r"^\s*(\$ |! ?)?((exec|time) )?(\w+=\S+ )*", "", line)
            for part in re.split(r"(?:&&|;) ", code):
                if part.startswith("vtcc "):
                    yield part


def words(line):
    """The arguments of a call; brackets and bars of a synopsis are passed over."""
    line = re.sub(r"\[([^\[\]]*)\]", r"\1", line) if re.search(r" \[-", line) else line
    found = []
    for word in shlex.split(line, comments=True)[1:]:
        if word in END - {"|"}:
            break
        if word != "|":
            found.append("1" if word == "N" else word)
    return found


def complaint(line, mention=False):
    """Why the command line refuses a call; empty where it does not."""
    arguments = words(line)
    if not arguments or re.match(r"[<A-Z]", arguments[0]):  # `vtcc VERB`
        return ""
    try:
        COMMAND.main(arguments, prog_name="vtcc", standalone_mode=False)
    except SystemExit as done:  # of typer's completion
        assert done.code == 0
    except Exception as error:  # click's, which typer vendors under a private name
        if mention and type(error).__name__ == "MissingParameter":
            return ""  # a mention names the verb alone
        return f"{line!r}: {getattr(error, 'message', error)}"
    return ""


@pytest.fixture
def nothing_runs(monkeypatch):
    """Arguments are taken as ever; then no verb runs."""
    monkeypatch.setattr("typer.core.TyperCommand.invoke", lambda self, ctx: None)
    stand_in(monkeypatch, "vtcc.verbs.encoders", "run")
    stand_in(monkeypatch, doctor, "around", lambda: "")
    stand_in(monkeypatch, "typer.completion", "install", lambda *given, **named: ("bash", "x"))


def test_a_call_that_is_wrong_is_noticed(nothing_runs):
    assert complaint("vtcc cluster photos -k 5 --minutes 3") == ""
    assert "No such command 'clustre'" in complaint("vtcc clustre photos")
    assert "Did you mean 'cluster'" in complaint("vtcc clustre photos")
    assert "No such option: --minute" in complaint("vtcc cluster photos --minute 3")
    assert "minutes" in complaint("vtcc cluster photos --minutes soon")
    assert "Missing" in complaint("vtcc predict photos") or complaint("vtcc predict photos")
    assert list(of_blocks("```\nA=1 vtcc plan && vtcc show  # x\n```\nvtcc no\n")) == [
        "vtcc plan ",
        "vtcc show  # x",
    ]
    assert words("vtcc cluster F [-k K | -k 5-30] [--out R] > x  # y") == [
        "cluster", "F", "-k", "K", "-k", "5-30", "--out", "R",
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one(page, nothing_runs, capsys):
    text = page.read_text(encoding="utf-8")
    wrong = [complaint(line) for line in of_blocks(text)]
    wrong += [complaint(line, mention=True) for line in MENTION.findall(text)]
    assert [line for line in wrong if line] == []


def test_the_pages_hold_the_commands_that_are_meant():
    lines = [line for page in PAGES for line in of_blocks(page.read_text(encoding="utf-8"))]
    assert len(lines) > 50
    verbs = {words(line)[0] for line in lines}
    assert {"cluster", "demo", "doctor", "predict", "refine", "check", "use", "encoders"} <= verbs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)
    assert [t for t in targets if not (page.parent / t).exists()] == []


def table(page, heading):
    """The rows of the first table below a heading."""
    part = (TOP / "docs" / page).read_text(encoding="utf-8").split(f"{heading}\n", 1)[1]
    rows = re.search(r"(?m)(^\|.*\n)+", part)[0].splitlines()[2:]
    return {k.strip().strip("`"): v.strip() for k, v in (row.strip("|").split("|") for row in rows)}


def test_the_tables_of_statuses_and_variables_are_the_codes():
    assert table("commands.md", "## Exit statuses") == STATUS
    assert table("commands.md", "Besides these:") == doctor.VARIABLES


def texts(node):
    """The texts in a piece of code; "\0" stands for what is filled in, whole f-strings for one."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
        return
    if isinstance(node, ast.JoinedStr):
        yield "".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values)
    for child in ast.iter_child_nodes(node):
        yield from texts(child)


def test_the_messages_that_are_explained_are_the_codes():
    page = (TOP / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"(?m)^\| `([^`]+)` \|", page.split("## By message")[1])
    said = set()
    for file in [f for room in ("vtcc", "flows") for f in (TOP / room).rglob("*.py")]:
        said |= set(texts(ast.parse(file.read_text(encoding="utf-8"))))
    said = {text.replace("`", "") for text in said}
    assert len(quoted) > 25

    def holds(text, parts):
        at = 0
        for part in parts:
            if (at := text.find(part, at)) < 0:
                return False
            at += len(part)
        return True

    def known(message):
        return any(holds(text, message.split("...")) for text in said)

    assert known("...: no such folder; give one with images in it")
    assert not known("...: no such folder; give one with pictures in it")
    assert [message for message in quoted if not known(message)] == []


def test_every_variable_that_the_code_reads_is_known():
    read = set()
    for room in ("vtcc", "flows"):
        for file in (TOP / room).rglob("*.py"):
            read |= set(
                re.findall(r"\bVTCC_[A-Z]+(?:_[A-Z]+)*\b", file.read_text(encoding="utf-8"))
            )
    known = doctor.VARIABLES.keys() | set(doctor.SET_BY_VTCC) | variables(COMMAND)
    assert read - known == set()
    assert doctor.VARIABLES.keys() <= read
    assert {
        "VTCC_CLUSTER_MINUTES", "VTCC_CLUSTER_CLUSTERS", "VTCC_CLUSTER_SET", "VTCC_CLUSTER_JSON",
        "VTCC_ENCODERS_FETCH_QUIET", "VTCC_IMPORT_CHECKPOINT_OUT", "VTCC_UI_PORT",
    } <= variables(COMMAND)  # fmt: skip


def test_one_version():
    from vtcc.version import __version__

    assert f"\nversion: {__version__}\n" in (TOP / "CITATION.cff").read_text(encoding="utf-8")
    headings = re.findall(r"(?m)^## (.+)$", (TOP / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert __version__ in headings[:2]  # below what is not released yet, if anything is
    assert 'dynamic = ["version"]' in (TOP / "pyproject.toml").read_text(encoding="utf-8")


def test_forms_of_the_issue_tracker_can_be_read():
    forms = sorted((TOP / ".github/ISSUE_TEMPLATE").glob("*.yaml"))
    assert [form.stem for form in forms] == ["bug", "clusters", "idea"]
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert content.keys() == {"name", "description", "labels", "body"}
        ids = [field["id"] for field in content["body"]]
        assert len(set(ids)) == len(ids)
        assert all(field["attributes"]["label"] for field in content["body"])


def test_what_is_said_of_verdicts_is_counted_in_their_table():
    text = (TOP / "docs/cluster.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| folder | looked at |")
    of = {"clear": [], "weak": []}
    for row in table.partition("\n\n")[0].splitlines()[2:]:
        *_, whole, verdict, _ = row.split("|")
        # Such as `.99, .96, .99 | weak, .49; clear, .97, .99`.
        parts = [part.split(",") for part in verdict.split(";")]
        levels = [level.strip() for level, *agreements in parts for _ in agreements]
        for level, value in zip(levels, whole.split(","), strict=True):
            of[level] += [float(value)] if value.strip() else []
    clear, weak = of["clear"], of["weak"]
    said = (
        f'"clear" stands at {len(clear)} results with a mean of {mean(clear):.2f}, at least '
        f'{min(clear)}, "weak" at {len(weak)} with a mean of {mean(weak):.2f}, {min(weak)} to '
    )
    assert said.replace(" 0.", " .") in text


def test_commits_are_checked_by_what_make_lint_runs():
    hooks = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    for hook in hooks["repos"][0]["hooks"]:
        program = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert re.search(rf"@{program}\b", makefile), program
