"""Networks to start with, and the bound that the autoencoders descend."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from retain.models import CNN, MLP, VAE, conv_vae, initialise, mlp_vae


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
