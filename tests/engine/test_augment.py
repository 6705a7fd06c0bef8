from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vtcc import config
from vtcc.engine.augment import normalize, view

NOTHING = config.Augment(
    crop_scale=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    flip=0.0,
    vertical_flip=0.0,
    quarter_turns=False,
    rotation=0.0,
    shear=0.0,
    elastic=0.0,
    elastic_grid=4,
    padding="zeros",
    jitter=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    gamma=0.0,
    grey=0.0,
    blur=0.0,
    blur_sigma=(0.1, 1.0),
    solarize=0.0,
    noise=0.0,
    erase=0.0,
    erase_scale=(0.02, 0.2),
)


def photos(n=5, channels=3, size=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, size, size), generator=g, dtype=torch.uint8)


def draw(images, params, seed=0, size=None, **more):
    g = torch.Generator().manual_seed(seed)
    return view(images, params, size or images.shape[-1], g, **more)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_with_everything_off_a_view_is_the_image(channels):
    x = photos(channels=channels)
    torch.testing.assert_close(draw(x, NOTHING), x / 255, rtol=0, atol=2e-6)


def test_certain_flips_are_exact():
    x = photos()
    torch.testing.assert_close(
        draw(x, replace(NOTHING, flip=1.0)), x.flip(3) / 255, atol=2e-6, rtol=0
    )
    upside = draw(x, replace(NOTHING, vertical_flip=1.0))
    torch.testing.assert_close(upside, x.flip(2) / 255, atol=2e-6, rtol=0)


def test_quarter_turns_give_each_image_one_of_four_exact_rotations():
    x = photos(n=40)
    out = draw(x, replace(NOTHING, quarter_turns=True))
    seen = set()
    for image, turned in zip(x / 255, out, strict=True):
        errors = [float((image.rot90(k, (1, 2)) - turned).abs().max()) for k in range(4)]
        assert min(errors) < 1e-4
        seen.add(errors.index(min(errors)))
    assert seen == {0, 1, 2, 3}


def test_crop_stays_inside_the_image():
    """A crop of an all-white image is white: nothing outside is sampled."""
    white = torch.full((64, 1, 16, 16), 255, dtype=torch.uint8)
    params = replace(NOTHING, crop_scale=(0.1, 0.6), crop_ratio=(0.5, 2.0))
    # bilinear sampling reaches half a pixel past the outermost centres
    assert float(draw(white, params)[:, :, 1:-1, 1:-1].min()) > 0.999


def test_blur_keeps_a_constant_image_and_the_mean_of_any():
    params = replace(NOTHING, blur=1.0, blur_sigma=(1.0, 1.0))
    flat = torch.full((2, 1, 16, 16), 0.3)
    torch.testing.assert_close(draw(flat, params), flat, atol=2e-6, rtol=0)
    point = torch.zeros(1, 1, 33, 33)
    point[0, 0, 16, 16] = 1
    blurred = draw(point, params)[0, 0]
    at = torch.arange(33) - 16
    one = torch.exp(-at.float().square() / 2)
    one = one / one.sum()
    torch.testing.assert_close(blurred, one[:, None] * one[None, :], atol=2e-6, rtol=0)


def test_grey_images_have_equal_channels_at_the_luma():
    x = photos()
    out = draw(x, replace(NOTHING, grey=1.0))
    luma = (x / 255 * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    for channel in range(3):
        torch.testing.assert_close(out[:, channel], luma, atol=2e-3, rtol=0)


def test_hue_turns_colours_and_leaves_grey_alone():
    params = replace(NOTHING, jitter=1.0, hue=0.5)
    grey = torch.full((4, 3, 6, 6), 0.4)
    torch.testing.assert_close(draw(grey, params), grey, atol=2e-3, rtol=0)
    red = torch.zeros(8, 3, 6, 6)
    red[:, 0] = 0.6
    out = draw(red, params)
    assert float((out - red).abs().amax()) > 0.2
    luma = (out * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    assert float(luma.std()) < 0.1


def test_brightness_scales_and_contrast_keeps_the_mean():
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2
    bright = draw(x, replace(NOTHING, jitter=1.0, brightness=0.3))
    factor = bright / x
    assert float((factor.amax((1, 2, 3)) - factor.amin((1, 2, 3))).max()) < 1e-4
    assert float(factor.min()) >= 0.7 and float(factor.max()) <= 1.3
    assert len({round(float(f), 3) for f in factor.mean((1, 2, 3))}) == 6
    contrast = draw(x, replace(NOTHING, jitter=1.0, contrast=0.3))
    torch.testing.assert_close(contrast.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [2, 5])
def test_many_bands_change_in_brightness_and_contrast_but_have_no_colour(channels):
    x = torch.rand(6, channels, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2
    colour = replace(NOTHING, jitter=1.0, saturation=1.0, hue=0.5, grey=1.0)
    torch.testing.assert_close(draw(x, colour), x, atol=2e-6, rtol=0)
    factor = draw(x, replace(NOTHING, jitter=1.0, brightness=0.3)) / x
    assert float((factor.amax((1, 2, 3)) - factor.amin((1, 2, 3))).max()) < 1e-4
    contrast = draw(x, replace(NOTHING, jitter=1.0, contrast=0.3))
    mean = x.mean((1, 2, 3), keepdim=True)
    ratio = ((contrast - mean) / (x - mean)).flatten(1)
    assert float((ratio - ratio[:, :1]).abs().median()) < 1e-3
    torch.testing.assert_close(contrast.mean((1, 2, 3)), mean.flatten(), atol=1e-5, rtol=0)


def test_solarize_is_for_the_second_view_only():
    x = photos()
    params = replace(NOTHING, solarize=1.0)
    torch.testing.assert_close(draw(x, params), x / 255, atol=2e-6, rtol=0)
    expected = torch.where(x / 255 >= 0.5, 1 - x / 255, x / 255)
    torch.testing.assert_close(draw(x, params, second=True), expected, atol=1e-5, rtol=0)


def test_erase_fills_one_rectangle_of_the_area_asked_for():
    x = photos(n=50, channels=1, size=40)
    out = draw(x, replace(NOTHING, erase=1.0, erase_scale=(0.1, 0.1)))
    changed = ((out - x / 255).abs() > 1e-3).float().mean((1, 2, 3))
    assert 0.08 < float(changed.mean()) < 0.11
    assert float(changed.max()) < 0.13


def test_every_image_draws_its_own_numbers():
    one = photos(n=1, channels=1, size=16).expand(8, -1, -1, -1)
    params = replace(NOTHING, rotation=30.0, crop_scale=(0.4, 0.9))
    out = draw(one, params)
    for i in range(7):
        assert float((out[i] - out[i + 1]).abs().max()) > 0.01


def test_same_generator_state_same_view_and_range_is_kept():
    digits = config.from_dict(
        config.Params, config.read_yaml(Path(config.PRESETS / "digits.yaml"))
    ).train.augment
    x = photos(channels=1, size=16)
    a, b = draw(x, digits, seed=3), draw(x, digits, seed=3)
    assert torch.equal(a, b)
    assert not torch.equal(a, draw(x, digits, seed=4))
    assert float(a.min()) >= 0 and float(a.max()) <= 1


def test_a_view_can_be_smaller_or_larger_than_the_image():
    assert draw(photos(size=12), NOTHING, size=8).shape == (5, 3, 8, 8)
    assert draw(photos(size=12), NOTHING, size=24).shape == (5, 3, 24, 24)


def test_normalize():
    x = torch.full((1, 2, 1, 1), 0.5)
    out = normalize(x, (0.5, 0.25), (0.1, 0.5))
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 0.5]))
