import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.tracking import toy
from vtcc import cli, config
from vtcc.errors import VtccError
from vtcc.pages.thumbnails import displayable
from vtcc.verbs import augment_preview


def preview(*arguments):
    return CliRunner().invoke(cli.app, ["augment-preview", *arguments])


def test_the_cached_images_are_shown_under_the_projects_own_ranges(tmp_path, monkeypatch):
    toy.project(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = preview("--images", "3")
    assert result.exit_code == 0, result.output
    with Image.open("reports/augment-preview.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    images, size, source = augment_preview._images("params.yaml", 3, None, 0)
    assert (len(images), images[0].shape, size, source) == (3, (16, 16, 1), 16, "my toys")


def test_samples_are_shown_where_there_is_no_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    two = ("--augment", "paper", "--augment", "glyphs", "--size", "32", "--images", "2")
    result = preview(*two, "--out", "a.png")
    assert result.exit_code == 0, result.output
    assert preview("--augment", "paper", "--out", "a.jpg").exception
    preview(*two, "--out", "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_all_means_every_preset():
    names = {file.stem for file in (config.PRESETS / "augment").glob("*.yaml")}
    assert set(augment_preview._chosen(["all"])) == names
    with pytest.raises(VtccError, match=r"--augment 'ariel': unknown; did you mean 'aerial'\?"):
        augment_preview._chosen(["ariel"])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_can_be_shown(channels):
    image = np.linspace(0, 1, 4 * channels).reshape(2, 2, channels)
    shown = displayable(image)
    assert shown.shape == (2, 2, 3)
    np.testing.assert_array_equal(shown[..., 0], image[..., 0])
