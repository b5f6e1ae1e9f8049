"""Networks to start with, and the bound that the autoencoders descend."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from retain.models import (
    CNN,
    MLP,
    VAE,
    ConditionalVAE,
    Evidence,
    Internal,
    Past,
    conv_vae,
    divergence,
    drawn,
    feedback_vae,
    gates_of,
    initialise,
    mlp_vae,
    under,
)
from retain.types import Spec


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 5), (1, 32, 32)])
def test_classifiers_give_logits_for_any_image(shape: tuple[int, ...]) -> None:
    x = torch.rand(5, *shape)
    for model in (MLP(shape, 7, (11, 12)), MLP(shape, 7, ()), CNN(shape, 7)):
        assert model(x).shape == (5, 7)


def test_an_mlp_is_affine_layers_with_relu_between() -> None:
    torch.manual_seed(0)
    model = MLP((2, 3), 4, (5, 6))
    h = torch.rand(8, 2, 3)
    expected = h.flatten(1)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(6, 5), (5, 6), (6, 4)]
    for i, m in enumerate(linear):
        expected = expected @ m.weight.T + m.bias
        expected = expected.clamp_min(0) if i < 2 else expected
    torch.testing.assert_close(model(h), expected)


@pytest.mark.parametrize("shape", [(28, 28), (1, 3, 28), (784,)])
def test_a_cnn_of_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images"):
        CNN(shape, 10)


def test_xavier_is_uniform_with_the_bound_of_gems_code() -> None:
    torch.manual_seed(0)
    model = initialise(CNN((1, 8, 8), 10), "xavier")
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Conv2d):
            receptive = m.weight[0, 0].numel()
            bound = math.sqrt(6 / (receptive * (m.weight.shape[0] + m.weight.shape[1])))
            w = m.weight.detach()
            assert float(w.abs().max()) <= bound and m.bias is not None and not m.bias.any()
            assert float(w.std()) == pytest.approx(bound / math.sqrt(3), rel=0.15)
    torch.manual_seed(1)
    a = initialise(MLP((4,), 2), "torch").state_dict()
    torch.manual_seed(1)
    b = MLP((4,), 2).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    with pytest.raises(ValueError, match="torch or xavier"):
        initialise(MLP((4,), 2), "he")  # type: ignore[arg-type]


def vaes(range: tuple[float, float] | None) -> list[VAE]:
    torch.manual_seed(0)
    return [mlp_vae((1, 8, 8), range, (9, 7), 3), conv_vae((1, 8, 8), range, channels=4, latent=3)]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("range", [(0.0, 1.0), (-0.4, 2.8), None])
def test_minus_the_bound_is_reconstruction_plus_divergence(range: Any, which: int) -> None:
    vae = vaes(range)[which].double()
    low, high = range or (-1.0, 1.0)
    x = low + (high - low) * torch.rand(6, 1, 8, 8, dtype=torch.float64)
    noise = torch.randn(6, 3, dtype=torch.float64)
    mu, log_var = vae.encoder(x).split(3, dim=1)
    posterior = Normal(mu, (log_var / 2).exp())
    out = vae.decoder(mu + posterior.scale * noise)
    assert out.shape == x.shape
    if range is None:
        fit = -Normal(out, 1.0).log_prob(x) - 0.5 * math.log(2 * math.pi)  # its constant is left out
    else:
        fit = -Bernoulli(logits=out, validate_args=False).log_prob((x - low) / (high - low))
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    expected = fit.flatten(1).sum(1) + kl_divergence(posterior, prior).sum(1)
    torch.testing.assert_close(vae(x, noise), expected)


@pytest.mark.parametrize("which", [0, 1])
def test_trap_15_images_are_emitted_in_the_range_of_the_stream(which: int) -> None:
    for low, high in ((0.0, 1.0), (-0.42, 2.82)):
        vae = vaes((low, high))[which]
        out = vae.emit(50 * torch.randn(20, 1, 8, 8))
        assert low <= float(out.min()) < low + 0.01 and high - 0.01 < float(out.max()) <= high
    out = torch.randn(2, 1, 8, 8)
    assert torch.equal(vaes(None)[which].emit(out), out)


@pytest.mark.parametrize("which", [0, 1])
def test_an_autoencoder_learns_two_images(which: int) -> None:
    vae = vaes((0.0, 1.0))[which]
    x = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.5).float().repeat(8, 1, 1, 1)
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        vae(x, torch.randn(16, 3)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        made = vae.emit(vae.decoder(vae.encoder(x)[:, :3]))
    assert float(nnf.l1_loss(made, x)) < 0.15


def test_a_conv_vae_of_sides_that_four_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="4 divides"):
        conv_vae((1, 30, 28), (0.0, 1.0))


def test_the_divergence_from_any_gaussian_is_that_of_torchs_distributions() -> None:
    mu, log_var, prior_mu, prior_log_var = torch.randn(4, 6, 3, dtype=torch.float64)
    q, prior = Normal(mu, (log_var / 2).exp()), Normal(prior_mu, (prior_log_var / 2).exp())
    expected = kl_divergence(q, prior).sum(1)
    torch.testing.assert_close(divergence(mu, log_var, prior_mu, prior_log_var), expected)
    standard = kl_divergence(q, Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(1)
    torch.testing.assert_close(divergence(mu, log_var), standard)


def test_the_divergence_from_a_classs_prior_is_what_many_samples_say() -> None:
    torch.manual_seed(0)
    vae = ConditionalVAE(5, (6,), (0.0, 1.0), (7,), 3, classes=4).double()
    c, noise = torch.tensor([2, 0]), torch.randn(2, 3).double()
    x, seen = torch.rand(2, 6).double(), torch.randn(2, 5).double()
    gates = gates_of(4, (7,), 0.0, torch.Generator().manual_seed(0))
    bound = vae(x, noise, seen, c, tuple(g.double() for g in gates))
    mu, log_var = vae.encoder(seen).split(3, dim=1)
    q = Normal(mu, (log_var / 2).exp())
    out = vae.decoder(mu + q.scale * noise, c, tuple(g.double() for g in gates))
    prior = Normal(vae.prior_mu[c], (vae.prior_log_var[c] / 2).exp())
    z = q.sample((100_000,))
    sampled = (q.log_prob(z) - prior.log_prob(z)).sum(2).mean(0)
    torch.testing.assert_close(bound - vae.reconstruction(out, x), sampled, rtol=0.02, atol=0.05)


def test_feedback_reads_features_and_gives_images() -> None:
    vae = feedback_vae(5, (1, 4, 4), (0.0, 1.0), (7, 6), 3).double()
    x, noise, seen = torch.rand(2, 1, 4, 4).double(), torch.randn(2, 3).double(), torch.randn(2, 5).double()
    mu, log_var = vae.encoder(seen).split(3, dim=1)
    out = vae.decoder(mu + (log_var / 2).exp() * noise)
    assert [m.in_features for m in vae.decoder.children() if isinstance(m, nn.Linear)] == [3, 6, 7]
    torch.testing.assert_close(vae(x, noise, seen), vae.reconstruction(out, x) + divergence(mu, log_var))


@pytest.mark.parametrize("shut", [0.0, 0.1, 0.5, 0.8])
def test_gates_shut_a_share_of_each_layer_drawn_class_by_class(shut: float) -> None:
    gates = gates_of(6, (40, 30), shut, torch.Generator().manual_seed(3))
    for g, width in zip(gates, (40, 30), strict=True):
        assert g.shape == (6, width) and set(g.unique().tolist()) <= {0.0, 1.0}
        assert g.sum(1).tolist() == [width - round(shut * width)] * 6
    assert shut == 0 or len({tuple(row) for row in gates[0].tolist()}) == 6


def test_a_classifier_of_features_gives_its_last_hidden_layer_too() -> None:
    inside = Internal(5, (7, 6), 4)
    h, logits = inside(torch.randn(3, 5))
    assert h.shape == (3, 6) and logits.shape == (3, 4) and bool((h >= 0).all())
    torch.testing.assert_close(inside.head(h), logits)


@pytest.mark.parametrize("range", [None, (0.0, 1.0), (-0.4, 2.8)])
def test_gaussian_evidence_is_that_of_the_mean_image(range: Any) -> None:
    torch.manual_seed(1)
    vae = mlp_vae((6,), range, (5,), 2).double()
    x, noise = torch.rand(4, 6).double(), torch.randn(9, 2).double()
    mu, log_var = vae.encoder(x).split(2, dim=1)
    q, prior = Normal(mu, (log_var / 2).exp()), Normal(torch.zeros(2).double(), 1.0)
    weights = []
    for e in noise:
        z = mu + q.scale * e
        fit = -0.5 * ((vae.emit(vae.decoder(z)) - x) ** 2).sum(1)
        weights.append(fit + prior.log_prob(z).sum(1) - q.log_prob(z).sum(1))
    expected = torch.stack(weights).logsumexp(0) - math.log(9)
    torch.testing.assert_close(Evidence(vae, gaussian=True)(x, noise), expected)


def test_drawn_entries_come_from_the_generator_alone() -> None:
    spec = Spec((4,), torch.float64, torch.device("cpu"), 3, (), None)
    before = torch.get_rng_state()
    one, two = (drawn(lambda: nn.Linear(4, 2), "a.", spec, torch.Generator().manual_seed(s)) for s in (1, 1))
    other = drawn(lambda: nn.Linear(4, 2), "a.", spec, torch.Generator().manual_seed(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(one) == {"a.weight", "a.bias"} and one["a.weight"].dtype == torch.float64
    assert torch.equal(one["a.weight"], two["a.weight"]) and not torch.equal(
        one["a.weight"], other["a.weight"]
    )
    assert set(under("a.", one | {"b.weight": one["a.bias"]})) == {"weight", "bias"}


def test_what_a_dreamer_knows_grows_with_each_task() -> None:
    past = Past(None, (), torch.tensor([False, True, False]))
    assert past.in_play(ANY_CLASS, torch.tensor([-1, -1])).tolist() == [[False, True, False]] * 2
    logits = torch.tensor([[9.0, 1.0, 5.0]])
    assert past.targets(ANY_CLASS, logits, torch.tensor([-1]), 2.0).tolist() == [[0.0, 1.0, 0.0]]


class _AnyClass:
    """A problem in which every class is in play."""

    @staticmethod
    def allowed(task: torch.Tensor) -> None:
        return None


ANY_CLASS: Any = _AnyClass()
