"""Builds the documentation as a site in build/site, without a network: `make docs`.

The pages are the Markdown files of the repository, laid out as they are there, so that their links
hold. The reference (commands, parameters, Python) is made here from the code. A broken link, a page
without a place in the navigation or a file that a page would load from a network is an error.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parent.parent
CONFIG = TOP / "mkdocs.yml"
SOURCE, SITE = TOP / "build/site-source", TOP / "build/site"
ROOT_PAGES = ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG", "CODE_OF_CONDUCT")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
_LOADED = re.compile(
    r'<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)="(?:https?:)?//[^"]+"[^>]*>'
)
_HEADINGS = {"parameters": "Parameters", "attributes": "Attributes", "raises": "Raises"}


def main() -> int:
    """Builds all of it; the exit status."""
    write_source(SOURCE)
    faults = unlisted(SOURCE, yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["nav"])
    shutil.rmtree(SITE, ignore_errors=True)
    program = Path(sys.executable).with_name("zensical")
    command = [str(program), "build", "--strict", "--clean", "--config-file", str(CONFIG)]
    built = subprocess.run(
        command, cwd=TOP, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", built.stdout + built.stderr)
    if built.returncode:
        faults.append(f"zensical: status {built.returncode}\n{said}")
    faults += loaded_from_networks(SITE)
    if faults:
        print("error: the documentation was not built", *faults, sep="\n", file=sys.stderr)
        return 1
    pages = len(list(SITE.rglob("*.html")))
    place = SITE.relative_to(TOP)
    print(f"{pages} pages: {place}/index.html; with search: python -m http.server -d {place}")
    return 0


def write_source(target: Path) -> None:
    """All pages, as they are and as they are made, in a new folder `target`."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "docs/reference").mkdir(parents=True)
    files = [TOP / f"{name}.md" for name in ROOT_PAGES] + sorted((TOP / "docs").glob("*.md"))
    known = {*files, *(TOP / "docs/pictures").glob("*"), TOP / "docs/clustering.ipynb"}
    for file in files:
        text = with_links_in_site(file.read_text(encoding="utf-8"), file.parent, known)
        (target / file.relative_to(TOP)).write_text(text, encoding="utf-8")
    if (TOP / "docs/pictures").is_dir():
        shutil.copytree(TOP / "docs/pictures", target / "docs/pictures")
    for name, page in (
        ("clustering", notebook(TOP / "docs/clustering.ipynb")),
        ("reference/commands", commands()),
        ("reference/parameters", parameters()),
        ("reference/python", python()),
    ):
        (target / f"docs/{name}.md").write_text(page, encoding="utf-8")


def with_links_in_site(text: str, folder: Path, known: set[Path]) -> str:
    """Links to pages stay; a link to another file of the repository becomes its path.

    Args:
        folder: of the page. known: files that the site has.
    """

    def replaced(match: re.Match) -> str:
        picture, label, target, _ = match.groups()
        file = (folder / target).resolve()
        if file in known:
            return match[0].replace(".ipynb", ".md")
        if picture or not file.exists():
            return match[0]  # the build says that it leads nowhere
        path = f"`{file.relative_to(TOP)}`"
        return path if label.strip("`") in path else f"{label} ({path})"

    return _LINK.sub(replaced, text)


def unlisted(source: Path, nav: Any) -> list[str]:
    """Pages that the navigation lacks, and entries of it without a page."""

    def entries(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        else:
            for inner in part.values() if isinstance(part, dict) else part:
                yield from entries(inner)

    listed = set(entries(nav))
    pages = {file.relative_to(source).as_posix() for file in source.rglob("*.md")}
    return [f"mkdocs.yml: {page} has no place in nav" for page in sorted(pages - listed)] + [
        f"mkdocs.yml: nav has {page}, and there is no such page" for page in sorted(listed - pages)
    ]


def loaded_from_networks(site: Path) -> list[str]:
    """Elements of pages that a browser would fetch from elsewhere."""
    return [
        f"{page.relative_to(site)}: loads {tag}"
        for page in sorted(site.rglob("*.html"))
        for tag in _LOADED.findall(page.read_text(encoding="utf-8"))
        if 'rel="canonical"' not in tag
    ]


def notebook(file: Path) -> str:
    """A notebook as a page: its text and its code."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def commands() -> str:
    """The help of each command, as `vtcc COMMAND --help` prints it."""
    from typer.main import get_command

    from vtcc.cli import app

    command = get_command(app)
    parts = [
        "# Commands\n\nWhat `vtcc COMMAND --help` prints; exit statuses, `--json` and variables "
        "are in [the command line](../commands.md)."
    ]
    parts.append(_help(command, []))
    context = command.make_context("vtcc", [], resilient_parsing=True)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        names = [[name]] + [[name, sub] for sub in sorted(getattr(inner, "commands", {}))]
        parts += [f"## vtcc {' '.join(words)}\n\n{_help(command, words)}" for words in names]
    return "\n\n".join(parts) + "\n"


def _help(command: Any, words: list[str]) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        command.main([*words, "--help"], prog_name="vtcc", standalone_mode=False)
    return f"```text\n{text.getvalue().strip()}\n```"


def parameters() -> str:
    """Every parameter: `vtcc params --explain`."""
    from vtcc import bounds, config

    values = config.flatten(config.to_dict(config.load(TOP / "params.yaml")))
    parts = [
        "# Parameters\n\nThe keys of `params.yaml`, of `--set KEY=VALUE`, of studies and sweeps; "
        "the same as `vtcc params --explain`. The value is that of `params.yaml` in a fresh clone."
    ]
    section = ""
    for row in config.explain(config.Params):
        if (first := row.key.split(".")[0]) != section:
            section = first
            parts.append(
                f"## {section}\n\n| parameter | value | meaning | allowed |\n|---|---|---|---|"
            )
        allowed = row.allowed or row.kind
        cells = (f"`{row.key}`", f"`{values[row.key]}`", _cell(row.why), _cell(allowed))
        parts[-1] += f"\n| {' | '.join(cells)} |"
    rows = "\n".join(f"| {_cell(what)} | {_cell(most)} |" for what, most in bounds.IN_WORDS)
    parts.append(
        "## Bounds\n\nOn what others wrote; no parameter sets them "
        "([security](../security.md)).\n\n"
        f"| what | at most |\n|---|---|\n{rows}"
    )
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|<*_\[])", r"\\\1", " ".join(text.split()))


def python() -> str:
    """The public Python interface, from its docstrings."""
    import griffe

    def module(name: str) -> Any:
        file = TOP.joinpath(*name.split(".")).with_suffix(".py")
        code = file.read_text(encoding="utf-8")
        return griffe.visit(name, file, code, docstring_parser=griffe.Parser.google)

    clusterer = module("vtcc.grouping.estimator")["ImageClusterer"]
    parts = ["# Python", "`import vtcc`; what is not here may change in any version."]
    parts += ["## vtcc.ImageClusterer", *_described(clusterer)]
    for method in clusterer.functions.values():
        if method.is_public and not method.name.startswith("__"):
            arguments = ", ".join(p.name for p in method.parameters if p.name != "self")
            parts += [f"### {method.name}({arguments})", *_described(method)]
    parts += ["## vtcc.errors.VtccError", *_described(module("vtcc.errors")["VtccError"])]
    return "\n\n".join(parts) + "\n"


def _described(thing: Any) -> Iterator[str]:
    """A docstring's sections as Markdown."""
    for section in thing.docstring.parsed:
        if section.kind.value == "text":
            yield section.value
        elif heading := _HEADINGS.get(section.kind.value):
            named = [(getattr(item, "name", item.annotation), item) for item in section.value]
            rows = "\n".join(f"| `{name}` | {_cell(item.description)} |" for name, item in named)
            yield f"| {heading} | |\n|---|---|\n{rows}"
        else:
            raise NotImplementedError(f"{thing.path}: a section {section.kind.value!r}")


if __name__ == "__main__":
    sys.exit(main())
