"""The page of a sweep."""

import html
import re
import shlex
from pathlib import Path

import pytest

from tests.study.sweep.conftest import SWEEP
from vtcc.study.sweep import file as sweep_file
from vtcc.study.sweep import page


@pytest.mark.parametrize("name", ["rates.yaml", "Raten Größe #1.yaml", "it's.yaml", '"a" & b.yaml'])
def test_the_command_that_does_it_again_can_be_pasted(project: Path, name: str) -> None:
    (project / name).write_text(SWEEP)
    text = page.render(sweep_file.read(project / name, project), [], {})
    [command] = re.findall(r"<code>(vtcc sweep .*?)</code>", text)
    assert shlex.split(html.unescape(command), comments=True) == ["vtcc", "sweep", name]
