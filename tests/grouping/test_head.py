"""The taught head's confidence is softened to what an independent grouping agrees with."""

import numpy as np
import pytest
import torch
from torch import nn

from vtcc.engine.frozen import FeatureInput
from vtcc.engine.model import VTCC
from vtcc.grouping import head


def sure_of_itself(K=3):
    """A model whose one head is nearly certain of the largest of K numbers."""
    model = VTCC(FeatureInput(K), K, feature_dim=2)
    last = nn.Linear(K, K)
    with torch.no_grad():
        last.weight.copy_(20 * torch.eye(K))
        last.bias.zero_()
    model.cluster_projectors[0] = nn.Sequential(last)
    return model.eval()


@pytest.mark.parametrize("agreeing", [0.9, 0.6])
def test_mean_confidence_becomes_the_agreement(agreeing):
    rng = np.random.default_rng(0)
    own = np.repeat(np.arange(3), 200)
    other = np.where(rng.random(600) < agreeing, own, (own + 1) % 3)
    model, h = sure_of_itself(), torch.eye(3)[own]
    temperature = head.calibrate(model, h, (other + 1) % 3)  # matched whatever the numbers
    p = model.cluster_projectors[0](h).softmax(dim=1).detach()
    assert temperature > 1
    assert p.argmax(dim=1).tolist() == own.tolist()
    assert float(p.max(dim=1).values.mean()) == pytest.approx((own == other).mean(), abs=0.05)


def test_full_agreement_changes_nothing():
    own = np.repeat(np.arange(3), 20)
    model, h = sure_of_itself(), torch.eye(3)[own]
    assert head.calibrate(model, h, own) == 1.0
