"""What `vtcc import-checkpoint` says at its end."""

import re
import shlex

import pytest

from tests.engine import test_upstream
from vtcc.verbs import import_checkpoint


@pytest.mark.parametrize("name", ["model", "Modelle Größe #1", "it's", 'of "them"'])
def test_the_command_for_images_can_be_pasted(tmp_path, name, capsys):
    file = test_upstream.saved(tmp_path / "a.tar", test_upstream.weights())
    import_checkpoint.run(file, out=tmp_path / name, num_heads=test_upstream.HEADS)
    [command] = re.findall("`(.*)`", capsys.readouterr().out)
    assert shlex.split(command, comments=True) == [
        *("vtcc", "predict", "IMAGES", "--model"), f"{tmp_path}/{name}", "--out", "clusters.csv"
    ]  # fmt: skip
