"""What README and docs show as code is run: `make docs-test`.

A block says by its language what it is. One that cannot be run here has a comment before it, which
readers do not see: `<!-- not run: why -->`. It is parsed all the same, and tests/test_docs.py
looks at its calls of vtcc.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.imports import TOP
from tests.test_pipeline import Project

# README comes first: later pages look at the results of its commands.
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]
SHELL, RUN = {"sh"}, {"sh", "python"}
PARSED = {"yaml", "json", "text", "mermaid"}
BLOCK = re.compile(
    r"(?ms)^(?:<!-- not run: (?P<why>[^\n]+?) -->\n)?```(?P<language>[^\n]*)\n(?P<code>.*?)^```$"
)
# Places and sizes for which a page has those of a real project.
STANDS_FOR = {
    "/path/to/photos": "{place}/photos",
    "/path/to/more": "{place}/more",
    "/path/to/store": "{place}/store",
    "/path/to/project": "{place}",
    "/data/photos": "{place}/photos",
    "--set train.num_clusters=12": "--set train.num_clusters=12 --set train.epochs=2 "
    "--set train.batch_size=32",
    "--set train.epochs=20": "--set train.epochs=1",
    "vtcc cluster photos --json": "vtcc cluster photos --out again --json",
}
TOY = {"VTCC_CLUSTER_MINUTES": "1", "VTCC_DEMO_OPEN": "0", "OMP_NUM_THREADS": "1"}
# Status 3 is an answer of `vtcc check`, about the pictures and not about the page.
PRELUDE = 'set -euo pipefail\nvtcc() { command vtcc "$@" || test $? = 3; }\n'
OF_THE_PIPELINE = {
    *(
        "orchestration.md",
        "paper.md",
        "plan.md",
        "scale.md",
        "studies.md",
        "sweeps.md",
        "tracking.md",
    ),
}
LIMIT = 1800  # seconds a page, on a busy machine
ENDED: Counter[str] = Counter()


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: its name. line: of its first line of code. language, code: as written.
        why: it is not run; empty where it is.
    """

    page: str
    line: int
    language: str
    code: str
    why: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.why


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page.relative_to(TOP).as_posix(),
            text[: match.start("code")].count("\n") + 1,
            match["language"],
            match["code"],
            match["why"] or "",
        )
        for match in BLOCK.finditer(text)
    ]


EVERY = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page):
    text = page.read_text(encoding="utf-8")
    here = blocks(page)
    assert len(re.findall(r"(?m)^\s*```", text)) == 2 * len(here)
    assert [b.where for b in here if b.language not in RUN | PARSED] == []
    assert len(re.findall(r"(?m)^<!-- not run:", text)) == sum(bool(b.why) for b in here)
    assert [b.where for b in here if b.why and b.language not in RUN] == []


@pytest.mark.parametrize("block", EVERY, ids=lambda block: block.where)
def test_every_block_can_be_parsed(block):
    if block.language in SHELL:
        checked = subprocess.run(["bash", "-n"], input=block.code, text=True, capture_output=True)
        assert checked.stderr == ""
    elif block.language == "python":
        ast.parse(block.code)
    elif block.language == "yaml":
        assert yaml.safe_load(block.code)
    elif block.language == "json":
        assert json.loads(block.code)


def test_nothing_is_marked_by_and_by():
    """Whoever marks a block more has to say so here."""
    counted = Counter("run" if b.runs else "marked" if b.why else "parsed" for b in EVERY)
    assert (counted["run"] >= 31, counted["marked"] <= 31) == (True, True), counted


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone with a tiny model of digits, registered, and pictures to group."""
    from vtcc.verbs import demo

    project = Project(tmp_path_factory.mktemp("pages") / "vtcc")
    project.env |= TOY
    place = project.directory
    demo._cut(place / "photos")
    names = sorted(file.name for file in (place / "photos").iterdir())
    for folder in ("more", "MORE", "MORE...", "2023", "2024"):
        (place / folder).mkdir()
        for name in names[::20]:
            shutil.copy(place / "photos" / name, place / folder)
    (place / "list.csv").write_text("\n".join(["path", *(f"photos/{n}" for n in names[1::20])]))
    (place / ".venv/bin").mkdir(parents=True)
    (place / ".venv/bin/activate").touch()  # the tests' own environment is active
    for name in ("new.jpg", "photo.jpg", "photo.png", "more.jpg"):
        Image.open(place / "photos" / names[0]).save(place / name)
    yield project
    print(f"\nblocks: {ENDED['run']} run, {ENDED['marked']} marked, {ENDED['parsed']} parsed only")
    for block in EVERY:
        if block.why:
            print(f"  {block.where}: not run: {block.why}")


def tiny(project: Project) -> None:
    """Its parameters, data and model are those of the tiny preset, and registered."""
    project.use("dataset.name=digits")  # pages speak of the model vtcc-digits
    project("dvc repro && vtcc register")


def results(place: Path, code: str) -> None:
    """Results, and edits of them, for a block that begins with some."""
    from vtcc.grouping.result import digest

    if "RESULTS" in code and not (place / "RESULTS").exists():
        shutil.copytree(place / "photos-clusters", place / "RESULTS")
    if "--out tiles" in code and (place / "vtcc-demo").exists():
        shutil.copytree(place / "vtcc-demo", place / "tiles")  # is shown again
    if named := re.search(r"vtcc refine (\S+)", code):
        if named[1].startswith("tour/"):
            return  # the page makes its own
        edit = {"do": "rename", "cluster": 0, "name": f"first of {named[1]}"}
        state = {"format": 1, "model": digest(place / named[1] / "model"), "edits": [edit]}
        (place / "edits.json").write_text(json.dumps(state))


def run(block: Block, project: Project) -> None:
    place, code = project.directory, block.code
    for shown, stands in STANDS_FOR.items():
        code = code.replace(shown, stands.format(place=place))
    results(place, code)
    command = ["bash", "-c", PRELUDE + code] if block.language in SHELL else [sys.executable, "-"]
    done = subprocess.run(
        command,
        cwd=place,
        env=project.env | {"PYTHONPATH": os.pathsep.join([str(TOP), str(place)])},
        input=code if block.language == "python" else "",
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, (
        f"{block.where}\n{code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )


@pytest.mark.slow
@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page, project):
    here = blocks(page)
    wanted = "".join(block.code for block in here if block.runs)
    made = page.name == "README.md" or (project.directory / "photos-clusters").exists()
    if not made and re.search(r"photos-clusters|RESULTS", wanted):
        project("vtcc cluster photos --quiet")
    if page.name in OF_THE_PIPELINE:
        tiny(project)
    for block in here:
        if block.runs:
            run(block, project)
        ENDED["run" if block.runs else "marked" if block.why else "parsed"] += 1
