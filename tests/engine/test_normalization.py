"""Mean and deviation that training and prediction normalise by."""

from types import SimpleNamespace

import pytest

from vtcc.engine.normalization import normalization
from vtcc.errors import VtccError


def test_normalization_of_a_constant_channel_does_not_divide_by_zero():
    flat = SimpleNamespace(mean=[0.2], std=[0.0], channels=1)
    assert normalization("dataset", flat) == ((0.2,), (1 / 255,))
    mean, std = normalization("imagenet", SimpleNamespace(channels=3))
    assert mean == (0.485, 0.456, 0.406)
    assert std == (0.229, 0.224, 0.225)
    assert normalization("imagenet", flat)[0][0] == pytest.approx(0.449)
    with pytest.raises(VtccError, match=r"cached images have 5 channels; .* so use 'dataset'"):
        normalization("imagenet", SimpleNamespace(channels=5))
