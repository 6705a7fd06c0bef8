"""Each operation against torchvision (or an explicit definition) per image, same parameters.

Torchvision clips after every operation; ours clips once, at the end. Images here keep away from
0 and 1, so that both mean the same.
"""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from tests.engine.test_augment import NOTHING
from tests.fakes import stand_in
from vtcc import config
from vtcc.engine import augment
from vtcc.engine.augment import Draws, apply, colour, draw, geometry

N, S = 6, 24
BILINEAR = tv.InterpolationMode.BILINEAR


def photos(channels=3, size=S, low=0.3, high=0.7, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(N, channels, size, size, generator=g) * (high - low) + low


def numbers(low, high, n=N):
    return torch.linspace(low, high, n)


def ours(x, size=None, padding="zeros", **drawn):
    draws = replace(Draws.none(len(x)), **drawn)
    params = replace(NOTHING, padding=padding, elastic=ELASTIC, blur_sigma=(0.1, WIDEST))
    return apply(x, draws, params, size or x.shape[-1])


ELASTIC, WIDEST = 0.05, 4.0


def each(function, x, *values):
    """The reference, image by image."""
    return torch.stack(
        [function(*one) for one in zip(x, *([v.item() for v in vs] for vs in values), strict=True)]
    )


def close(a, b, atol):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def still(**changes):
    """All colour draws neutral but those given."""
    one, zero = torch.ones(N), torch.zeros(N)
    return {"brightness": one, "contrast": one, "saturation": one, "hue": zero} | changes


@pytest.mark.parametrize("size", [16, 24, 40])
def test_crop(size):
    """Inside; at its frame ours sees the neighbours that torchvision has cut off before."""
    x = photos()
    boxes = [(0, 0, 24, 24), (2, 3, 18, 16), (10, 0, 14, 20), (5, 5, 10, 10), (0, 9, 12, 15)]
    boxes.append((1, 1, 22, 23))
    top, left, height, width = torch.tensor(boxes).T
    out = ours(
        x,
        size,
        width=width / S,
        height=height / S,
        shift_x=(2 * left + width) / S - 1,
        shift_y=(2 * top + height) / S - 1,
    )
    reference = torch.stack(
        [
            tv.resized_crop(one, *box, [size, size], BILINEAR, antialias=False)
            for one, box in zip(x, boxes, strict=True)
        ]
    )
    edge = math.ceil(size / 20)  # half a pixel of the smallest crop
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    close(out[inside], reference[inside], 1e-5)
    reflected = ours(x, size, padding="reflection")
    whole = tv.resize(x, [size, size], BILINEAR, antialias=False)
    close(reflected, whole, 1e-5)


def test_flips_and_quarter_turns_as_pillow_does_them():
    x = (photos() * 255).round().to(torch.uint8)
    mirror, upside = torch.tensor([-1.0, 1, -1, 1, 1, 1]), torch.tensor([1.0, -1, -1, 1, 1, 1])
    turns = torch.tensor([0, 0, 0, 1, 2, 3])
    out = ours(x, mirror=mirror, upside=upside, angle=turns * math.pi / 2)
    T = Image.Transpose
    steps = [[T.FLIP_LEFT_RIGHT], [T.FLIP_TOP_BOTTOM], [T.FLIP_LEFT_RIGHT, T.FLIP_TOP_BOTTOM]]
    steps += [[T.ROTATE_90], [T.ROTATE_180], [T.ROTATE_270]]
    for one, done, operations in zip(x, out, steps, strict=True):
        image = tv.to_pil_image(one)
        for operation in operations:
            image = image.transpose(operation)
        close(done, tv.pil_to_tensor(image) / 255, 1e-5)


def test_rotation():
    x = photos()
    degrees = numbers(-170, 170)
    out = ours(x, angle=degrees.deg2rad())
    close(out, each(lambda i, a: tv.rotate(i, a, BILINEAR), x, degrees), 1e-4)


@pytest.mark.parametrize("axis", [0, 1])
def test_shear(axis):
    x = photos()
    degrees = numbers(-30, 30)

    def reference(image, a):
        shear = [0.0, 0.0]
        shear[axis] = a
        return tv.affine(image, 0.0, [0, 0], 1.0, shear, BILINEAR)

    out = ours(x, **{("shear_x", "shear_y")[axis]: degrees.deg2rad().tan()})
    close(out, each(reference, x, degrees), 1e-4)


def test_elastic():
    x = photos()
    knots = torch.randn(N, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    out = ours(x, knots=knots)
    for one, own, done in zip(x, knots, out, strict=True):
        surface = F.interpolate(own[None], (S, S), mode="bicubic", align_corners=True)
        close(done, tv.elastic(one, 2 * ELASTIC * surface.permute(0, 2, 3, 1), BILINEAR), 1e-4)


def test_all_geometry_is_one_grid_as_affine_grid_makes_it():
    params = replace(
        NOTHING, rotation=40.0, shear=20.0, flip=0.5, crop_scale=(0.3, 0.9), quarter_turns=True
    )
    theta = geometry.affine(draw(N, 3, S, params, torch.Generator().manual_seed(0)))
    reference = F.affine_grid(theta, [N, 3, 17, 17], align_corners=False)
    close(geometry.grid(theta, 17), reference, 1e-6)


def test_a_place_is_flipped_and_scaled_then_sheared_then_turned_then_moved():
    params = replace(
        NOTHING, rotation=40.0, shear=20.0, flip=0.5, vertical_flip=0.5, crop_scale=(0.3, 0.9)
    )
    params = replace(params, crop_ratio=(0.5, 2.0))
    d = draw(N, 3, S, params, torch.Generator().manual_seed(0))
    places = geometry.grid(geometry.affine(d), 5)
    for n in range(N):
        one = {f.name: float(getattr(d, f.name)[n]) for f in fields(d)[:9]}
        for i in range(5):
            for j in range(5):
                x, y = (2 * j + 1) / 5 - 1, (2 * i + 1) / 5 - 1
                x, y = x * one["mirror"] * one["width"], y * one["upside"] * one["height"]
                x, y = x + one["shear_x"] * y, y + one["shear_y"] * x
                cos, sin = math.cos(one["angle"]), math.sin(one["angle"])
                x, y = cos * x - sin * y, sin * x + cos * y
                wanted = [x + one["shift_x"], y + one["shift_y"]]
                assert places[n, i, j].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("padding", ["zeros", "reflection"])
def test_what_a_turned_image_uncovers(padding):
    """An explicit loop over pixels: black, or the image mirrored at its outer edges."""
    x = photos(channels=1, size=6)
    angle = numbers(-1, 1)
    out = ours(x, padding=padding, angle=angle)

    def pixel(image, i, j):
        if padding == "zeros":
            return image[i, j] if 0 <= i < 6 and 0 <= j < 6 else 0.0
        return image[min(i % 12, 11 - i % 12), min(j % 12, 11 - j % 12)]

    for n in range(N):
        cos, sin = math.cos(angle[n]), math.sin(angle[n])
        for i in range(6):
            for j in range(6):
                X, Y = j - 2.5, i - 2.5
                u, v = cos * X - sin * Y + 2.5, sin * X + cos * Y + 2.5
                a, b = math.floor(v), math.floor(u)
                wanted = sum(
                    float(pixel(x[n, 0], p, q)) * (1 - abs(v - p)) * (1 - abs(u - q))
                    for p in (a, a + 1)
                    for q in (b, b + 1)
                )
                assert float(out[n, 0, i, j]) == pytest.approx(wanted, abs=1e-5)


def test_brightness():
    x = photos()
    factor = numbers(0.6, 1.4)
    out = ours(x, **still(brightness=factor))
    close(out, each(tv.adjust_brightness, x, factor), 1e-5)


# Torchvision's luma is (.2989, .587, .114), ours (.299, .587, .114), and what comes back from
# YIQ with four digits is off by as much.
def test_contrast():
    x = photos()
    factor = numbers(0.6, 1.4)
    close(ours(x, **still(contrast=factor)), each(tv.adjust_contrast, x, factor), 5e-4)


def test_saturation_and_grey():
    x = photos()
    factor = numbers(0.0, 1.4)
    out = ours(x, **still(saturation=factor))
    close(out, each(tv.adjust_saturation, x, factor), 5e-4)
    close(out[0], tv.rgb_to_grayscale(x[0], num_output_channels=3), 5e-4)


def test_one_map_is_the_operations_one_after_another():
    x = photos(low=0.4, high=0.6)
    b, c, s = numbers(0.8, 1.2), numbers(1.2, 0.7), numbers(0.5, 1.5)
    out = ours(x, **still(brightness=b, contrast=c, saturation=s))
    reference = each(tv.adjust_brightness, x, b)
    reference = each(tv.adjust_contrast, reference, c)
    close(out, each(tv.adjust_saturation, reference, s), 1e-3)


def test_hue_is_a_rotation_of_the_chroma_plane():
    """By choice YIQ, where torchvision turns HSV: one matrix, and luma stays what it was."""
    x = photos(low=0.4, high=0.6)
    turns = numbers(-0.5, 0.5)
    out = ours(x, **still(hue=turns * 2 * math.pi))
    forward = np.array(colour.RGB_TO_YIQ)
    for one, turn, done in zip(x.double().numpy(), turns.tolist(), out.numpy(), strict=True):
        cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
        rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        matrix = np.linalg.inv(forward) @ rotation @ forward
        np.testing.assert_allclose(done, np.einsum("ij,jhw->ihw", matrix, one), atol=1e-5)


def test_hue_differs_from_the_hsv_definition_by_this_much():
    """At the presets' shifts, of up to 0.1 turns, on random colours.

    A positive shift turns the other way than torchvision's (draws are symmetric), and colours
    move a third farther: HSV keeps the largest and the smallest channel, YIQ the luma.
    """
    x = photos()
    turns = torch.tensor([-0.1, -0.05, -0.02, 0.02, 0.05, 0.1])
    out, hsv = ours(x, **still(hue=-turns * 2 * math.pi)), each(tv.adjust_hue, x, turns)
    own, their = (out - x).flatten(1), (hsv - x).flatten(1)
    apart = (own - their).abs().mean(1) / turns.abs()
    assert float(F.cosine_similarity(own, their).min()) > 0.6
    ratio = own.abs().mean(1) / their.abs().mean(1)
    assert float(ratio.min()) > 1.2 and float(ratio.max()) < 1.4
    assert float(apart.max()) < 0.5  # at 0.1 turns, 0.05 of the range on average


@pytest.mark.parametrize("channels", [1, 5])
def test_without_three_channels_contrast_is_around_the_mean_of_all(channels):
    x = photos(channels=channels)
    b, c = numbers(0.8, 1.2), numbers(0.7, 1.3)
    out = ours(x, brightness=b, contrast=c)
    for one, brightness, contrast, done in zip(x, b, c, out, strict=True):
        bright = one * brightness
        close(done, bright * contrast + bright.mean() * (1 - contrast), 1e-5)


def test_gamma():
    x = photos()
    exponent = numbers(0.5, 2)
    close(ours(x, gamma=exponent), each(tv.adjust_gamma, x, exponent), 1e-5)


# Below 64 pixels one product, above in blocks; 100 is no multiple of a block.
@pytest.mark.parametrize("size", [24, 64, 100, 160])
@pytest.mark.parametrize("who", [[True] * N, [True, False, False, True, True, False], [False] * N])
def test_blur(size, who):
    """Torchvision inside, where edges play no part; at the edges weights are renormalised."""
    x = photos(channels=2, size=size)
    sigma = numbers(0.1, WIDEST)
    out = ours(x, sigma=sigma, blurred=torch.tensor(who))
    at = np.arange(size)
    for n in range(N):
        if not who[n]:
            close(out[n], x[n], 1e-5)
            continue
        band = np.exp(-((at[:, None] - at) ** 2) / (2 * float(sigma[n]) ** 2))
        band /= band.sum(1, keepdims=True)
        np.testing.assert_allclose(out[n].numpy(), band @ x[n].double().numpy() @ band.T, atol=1e-5)
        if size == 160:
            reference = tv.gaussian_blur(x[n], [51, 51], [float(sigma[n])])
            close(out[n, :, 25:-25, 25:-25], reference[:, 25:-25, 25:-25], 1e-5)


def test_solarize():
    x = photos(low=0.0, high=1.0)
    who = torch.tensor([True, False, True, True, False, True])
    # torchvision inverts from the threshold on, as we do; rounding may move a value across it
    safe = torch.where((x - 0.5).abs() < 1e-4, 0.4, x)
    out = ours(safe, solarized=who)
    reference = torch.where(who.view(-1, 1, 1, 1), tv.solarize(safe, 0.5), safe)
    close(out, reference, 1e-5)


def test_erase():
    x = photos()
    boxes = [(0, 0, 24, 24), (2, 3, 9, 20), (10, 0, 11, 24), (5, 5, 5, 5), (23, 23, 24, 24)]
    box = torch.tensor([*boxes, (1, 2, 3, 4)]).float()  # left, top, right, bottom
    who = torch.tensor([True, True, True, True, True, False])
    out = ours(x, box=box, erased=who)
    for n, (left, top, right, bottom) in enumerate(boxes):
        mean = x[n].mean((1, 2), keepdim=True)
        close(out[n], tv.erase(x[n], top, left, bottom - top, right - left, mean), 1e-5)
    close(out[5], x[5], 1e-6)


def test_noise():
    x = photos()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)) / 10
    deviation = numbers(0, 1)
    close(ours(x, noise=noise, deviation=deviation), x + deviation.view(-1, 1, 1, 1) * noise, 1e-5)


def preset(name):
    return config.from_dict(
        config.Augment, yaml.safe_load((config.PRESETS / "augment" / f"{name}.yaml").read_text())
    )


@pytest.mark.parametrize("name", ["aerial", "natural", "glyphs", "paper", "medical"])
def test_groups_change_nothing(name, monkeypatch):
    """Many images at once, or one after another: the same view."""
    params = preset(name)
    x = (photos(size=40, low=0, high=1) * 255).to(torch.uint8)
    drawn = draw(N, 3, 36, params, torch.Generator().manual_seed(3), second=True)
    monkeypatch.setattr(augment, "GROUP_BYTES", 1 << 30)
    together = apply(x, drawn, params, 36)
    monkeypatch.setattr(augment, "GROUP_BYTES", 1)
    close(apply(x, drawn, params, 36), together, 1e-6)


@pytest.mark.parametrize("name", ["aerial", "glyphs", "paper"])
def test_off_the_cpu_nothing_waits_for_the_device(name):
    """A meta tensor has no values: whatever looked at one would raise."""
    params = preset(name)
    drawn = draw(N, 3, 96, params, torch.Generator().manual_seed(0), second=True)
    there = {f.name: getattr(drawn, f.name) for f in fields(drawn)}
    there = {name: None if t is None else t.to("meta") for name, t in there.items()}
    x = torch.zeros(N, 3, 96, 96, dtype=torch.uint8, device="meta")
    out = apply(x, Draws(**there), params, 96)
    assert out.shape == (N, 3, 96, 96) and out.is_meta and out.dtype == torch.float32


@pytest.mark.parametrize("name", ["aerial", "glyphs", "paper"])
def test_off_the_cpu_views_are_the_same(name, monkeypatch):
    """The path without choosing rows, run on the CPU."""
    params = preset(name)
    x = (photos(size=96, low=0, high=1) * 255).to(torch.uint8)
    drawn = draw(N, 3, 96, params, torch.Generator().manual_seed(4), second=True)
    wanted = apply(x, drawn, params, 96)

    def everywhere(chosen, x, change, *each, **fixed):
        return torch.where(chosen.view(-1, 1, 1, 1), change(x, *each, **fixed), x)

    stand_in(monkeypatch, augment, "_where", everywhere)
    close(apply(x, drawn, params, 96), wanted, 1e-6)


def test_what_was_drawn_is_what_a_preset_of_ranges_says():
    g = torch.Generator().manual_seed(0)
    d = draw(4000, 3, 8, replace(preset("aerial"), elastic=0.1, erase=0.5, noise=0.1), g)
    area, ratio = d.width * d.height, d.width / d.height
    assert float(area.min()) + 1e-6 >= 0.2 and float(area.max()) <= 1 + 1e-6
    assert float(ratio.min()) > 0.74 and float(ratio.max()) < 1.34
    assert float((d.shift_x.abs() + d.width).max()) <= 1 + 1e-6
    off = (d.angle.rad2deg() + 45) % 90 - 45
    assert float(off.abs().max()) <= 10.01
    for share, wanted in [
        (d.mirror < 0, 0.5),
        (d.upside < 0, 0.5),
        (d.saturation == 0, 0.2),
        (d.brightness == 1, 0.2),
        (d.blurred, 0.5),
        (d.erased, 0.5),
    ]:
        assert float(share.float().mean()) == pytest.approx(wanted, abs=0.03)
    assert d.solarized is None and d.gamma is None
    assert float(d.knots.std()) == pytest.approx(1, abs=0.02)


def test_the_order_of_draws_is_what_recorded_results_were_made_with():
    """Another order would change every result: then records and locks must be made anew."""
    everything = replace(
        preset("aerial"), shear=5.0, elastic=0.1, gamma=0.2, solarize=0.5, noise=0.1, erase=0.5
    )
    g = torch.Generator().manual_seed(7)
    d = draw(3, 3, 4, everything, g, second=True)
    drawn = {f.name: getattr(d, f.name).flatten()[1].item() for f in fields(d)}
    expected = yaml.safe_load(ORDER)
    assert drawn == pytest.approx(expected, abs=1e-5)


ORDER = """
width: 0.55486
height: 0.647087
shift_x: 0.115502
shift_y: 0.250528
angle: 3.039079
shear_x: -0.068561
shear_y: 0.044919
mirror: 1.0
upside: 1.0
knots: 0.503564
brightness: 0.814494
contrast: 1.161263
saturation: 0.87625
hue: 0.040416
gamma: 0.86915
sigma: 0.921594
blurred: 1.0
solarized: 0.0
deviation: 0.067752
noise: 0.682144
erased: 1.0
box: 0.247217
"""
