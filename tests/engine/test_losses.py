"""The losses against a slow, literal transcription of the paper's equations."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtcc.engine.losses import cluster_loss, cluster_losses, instance_loss


def cosine(u, v):
    return (u @ v) / (u.norm() * v.norm())


def literal_contrast(a, b, temperature):
    """Equations of section 3.2: l_i over both views, denominators without the pair (i, i)."""
    views, M = [a, b], len(a)
    total = 0.0
    for k in (0, 1):
        for i in range(M):
            positive = (cosine(views[k][i], views[1 - k][i]) / temperature).exp()
            denominator = 0.0
            for other in (0, 1):
                for j in range(M):
                    if not (other == k and j == i):
                        pair = cosine(views[k][i], views[other][j])
                        denominator = denominator + (pair / temperature).exp()
            total = total - (positive / denominator).log()
    return total / (2 * M)


def literal_entropy(p):
    """H(Y) of section 3.3, with P(k) the share of cluster k in the batch."""
    mass = p.sum(dim=0) / p.sum()
    return -sum(q * q.log() for q in mass if q > 0)


def literal_cluster(p_a, p_b, temperature, weight):
    K = p_a.shape[1]
    entropy = literal_entropy(p_a) + literal_entropy(p_b)
    columns = literal_contrast(p_a.T, p_b.T, temperature)
    return columns + weight * (2 * math.log(K) - entropy)


def random_assignments(N, K, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, K, generator=g, dtype=torch.float32).softmax(1)


@settings(max_examples=20, deadline=None)
@given(N=st.integers(1, 6), D=st.integers(2, 5), seed=st.integers(0, 999))
def test_instance_loss_and_its_gradient_are_the_papers(N, D, seed):
    g = torch.Generator().manual_seed(seed)
    z_a, z_b = torch.randn(2, N, D, generator=g)
    ours = [z_a.clone().requires_grad_(), z_b.clone().requires_grad_()]
    theirs = [z_a.clone().requires_grad_(), z_b.clone().requires_grad_()]
    loss, expected = instance_loss(*ours, 0.5), literal_contrast(*theirs, 0.5)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    for mine, paper in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, paper, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(N=st.integers(1, 6), K=st.integers(2, 5), seed=st.integers(0, 999), weight=st.floats(0, 3))
def test_cluster_loss_and_its_gradient_are_the_papers(N, K, seed, weight):
    # With respect to the logits: p lives on the simplex, and only there the two must agree.
    logits = torch.randn(2, N, K, generator=torch.Generator().manual_seed(seed))
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = cluster_loss(*ours.softmax(2), temperature=1.0, entropy_weight=weight)
    expected = literal_cluster(*theirs.softmax(2), 1.0, weight)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    (mine,), (paper,) = torch.autograd.grad(loss, ours), torch.autograd.grad(expected, theirs)
    torch.testing.assert_close(mine, paper, rtol=1e-3, atol=1e-5)


def test_closed_form_of_identical_orthogonal_views():
    """Each row: one similarity of 1 to its partner, the 2N - 2 others 0."""
    N, t = 4, 0.5
    expected = -math.log(math.exp(1 / t) / (math.exp(1 / t) + 2 * N - 2))
    assert float(instance_loss(torch.eye(N), torch.eye(N), t)) == pytest.approx(expected, abs=1e-6)


def test_losses_do_not_care_which_view_is_first():
    p_a, p_b = random_assignments(7, 3, 0), random_assignments(7, 3, 1)
    torch.testing.assert_close(cluster_loss(p_a, p_b), cluster_loss(p_b, p_a))
    torch.testing.assert_close(instance_loss(p_a, p_b), instance_loss(p_b, p_a))


def test_hard_assignments_with_an_empty_cluster_have_finite_loss_and_gradient():
    p = torch.eye(3)[torch.tensor([0, 0, 1, 1])].requires_grad_()
    loss = cluster_loss(p, p.detach())
    (gradient,) = torch.autograd.grad(loss, p)
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(gradient[:, :2]).all()


def test_uniform_prior_is_the_papers_entropy_term():
    p_a, p_b = random_assignments(9, 4, 0), random_assignments(9, 4, 1)
    uniform = torch.full((4,), 0.25)
    torch.testing.assert_close(cluster_loss(p_a, p_b, prior=uniform), cluster_loss(p_a, p_b))


def test_divergence_is_zero_when_the_mean_assignment_is_the_prior():
    prior = torch.tensor([0.5, 0.25, 0.25])
    p = torch.eye(3)[torch.tensor([0, 0, 1, 2])]
    with_term = cluster_loss(p, p, entropy_weight=5.0, prior=prior)
    torch.testing.assert_close(with_term, cluster_loss(p, p, entropy_weight=0.0))


def test_half_precision_input_is_computed_in_fp32():
    p = random_assignments(8, 3, 0)
    loss = cluster_loss(p.bfloat16(), p.bfloat16())
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(cluster_loss(p, p)), abs=0.02)


def test_defaults_are_the_papers():
    views = random_assignments(7, 3, 0), random_assignments(7, 3, 1)
    torch.testing.assert_close(instance_loss(*views), literal_contrast(*views, 0.5))
    torch.testing.assert_close(cluster_loss(*views), literal_cluster(*views, 1.0, 1.0))


def test_heads_at_once_are_each_alone():
    g = torch.Generator().manual_seed(0)
    p_a, p_b = torch.randn(2, 3, 20, 6, generator=g).softmax(dim=-1)
    prior = torch.rand(3, 6, generator=g).softmax(dim=-1)
    for priors, head in itertools.product((None, prior), range(3)):
        together = cluster_losses(p_a, p_b, 0.7, 1.5, priors)
        of_head = None if priors is None else priors[head]
        alone = cluster_loss(p_a[head], p_b[head], 0.7, 1.5, of_head)
        torch.testing.assert_close(together[head], alone, rtol=1e-4, atol=1e-5)
    none = cluster_losses(p_a[:0].bfloat16(), p_b[:0].bfloat16(), 1.0, 1.0)
    assert (none.shape, none.dtype) == ((0,), torch.float32)
