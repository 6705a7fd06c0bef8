"""What `vtcc import-checkpoint` says at its end."""

import re
import shlex

import pytest

from tests.engine import test_upstream
from vtcc.errors import VtccError
from vtcc.verbs import import_checkpoint


@pytest.mark.parametrize("name", ["model", "Modelle Größe #1", "it's", 'of "them"'])
def test_the_command_for_images_can_be_pasted(tmp_path, name, capsys):
    file = test_upstream.saved(tmp_path / "a.tar", test_upstream.weights())
    import_checkpoint.run(file, out=tmp_path / name, num_heads=test_upstream.HEADS)
    [command] = re.findall("`(.*)`", capsys.readouterr().out)
    assert shlex.split(command, comments=True) == [
        *("vtcc", "predict", "IMAGES", "--model"), f"{tmp_path}/{name}", "--out", "clusters.csv"
    ]  # fmt: skip


@pytest.mark.parametrize("to", ["nowhere", "model"])
def test_a_link_is_no_place_for_a_model(tmp_path, to):
    (tmp_path / "model").mkdir()
    out = tmp_path / "link"
    out.symlink_to(to)
    for force in (None, False, True):
        with pytest.raises(VtccError) as caught:
            import_checkpoint.check_out("--out", out, {}, force=force)
        assert str(caught.value) == (
            f"--out: {out} is a link; name what it leads to, {tmp_path / to}"
        )
    import_checkpoint.check_out("--out", tmp_path / "model", {})
