"""Variational autoencoders (Kingma & Welling 2014): encoder, decoder, bound and evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.func import functional_call

from retain.models.entries import under
from retain.types import Params

Range = tuple[float, float] | None


class VAE(nn.Module):
    """p(x | z) from a decoder, q(z | x) = N(mu, exp(log_var)) from an encoder, z ~ N(0, I).

    With `range` = (low, high) pixels are Bernoulli means rescaled to it, so that what is generated
    lies where the stream's images lie; with None they are Gaussian with unit variance.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: int, range: Range):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder  # [N, ...] -> [N, 2 latent]; [N, latent] -> [N, ...]
        self.latent, self.range = latent, range

    def forward(self, x: Tensor, noise: Tensor, seen: Tensor | None = None) -> Tensor:
        """Minus the evidence lower bound of each example, in nats: [N]; noise ~ N(0, I) [N, latent].

        `seen` [N, D] is what the encoder reads where that is not x itself (a network's own features).
        """
        mu, log_var = torch.chunk(self.encoder(x if seen is None else seen), 2, dim=1)
        out = self.decoder(mu + (0.5 * log_var).exp() * noise)
        bound: Tensor = self.reconstruction(out, x) + divergence(mu, log_var)
        return bound

    def reconstruction(self, out: Tensor, x: Tensor) -> Tensor:
        """-log p(x | z) [N] of x [N, ...] where the decoder gave `out`, but for a constant."""
        out, x = out.flatten(1), x.flatten(1)
        if self.range is None:
            return 0.5 * ((out - x) ** 2).sum(1)
        low, high = self.range
        target = (x - low) / (high - low)
        return nnf.binary_cross_entropy_with_logits(out, target, reduction="none").sum(1)

    def emit(self, out: Tensor) -> Tensor:
        """What the decoder gave [N, ...], as mean images in the stream's range."""
        if self.range is None:
            return out
        low, high = self.range
        return low + (high - low) * out.sigmoid()


def decoded(vae: VAE, params: Params, z: Tensor, *given: Any) -> Tensor:
    """The mean images [N, ...] of z [N, latent] under an autoencoder with these parameters.

    `given` is what its decoder takes beside z.
    """
    return vae.emit(functional_call(vae.decoder, under("decoder.", params), (z, *given)))


class Evidence(nn.Module):
    """log p(x) under an autoencoder, by importance sampling from q(z | x).

    log 1/S sum_s p(x | z_s) p(z_s) / q(z_s | x) with z_s = mu + sigma noise_s (Burda et al. 2016,
    eq. 8), less the constant that `VAE.reconstruction` leaves out. With `gaussian`, p(x | z) is
    N(mean image, I) whatever it was in training.
    """

    def __init__(self, vae: VAE, gaussian: bool = False):
        super().__init__()
        self.vae, self.gaussian = vae, gaussian

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """[N] of x [N, ...]; noise ~ N(0, I) [S, latent] is shared by all of them."""
        # So many at a time that what the decoder gives stays in the cache.
        portion = max(1, 2**19 // (len(noise) * x[0].numel()))
        return torch.cat([self._of(part, noise) for part in x.split(portion)])

    def _of(self, x: Tensor, noise: Tensor) -> Tensor:
        mu, log_var = torch.chunk(self.vae.encoder(x), 2, dim=1)
        z = mu[:, None] + (0.5 * log_var).exp()[:, None] * noise  # [N, S, latent]
        # log p(z) - log q(z | x), whose constants cancel
        ratio = 0.5 * ((noise**2).sum(1) + log_var.sum(1, keepdim=True) - (z**2).sum(2))
        out = self.vae.decoder(z.flatten(0, 1)).view(len(x), len(noise), -1)
        return (self._fit(out, x.flatten(1)) + ratio).logsumexp(1) - math.log(len(noise))

    def _fit(self, out: Tensor, x: Tensor) -> Tensor:
        """log p(x | z_s) [N, S] of out [N, S, D] and x [N, D], in fewer passes than `VAE.reconstruction`."""
        if self.gaussian or self.vae.range is None:
            mean = self.vae.emit(out)
            return (mean @ x[:, :, None])[:, :, 0] - 0.5 * ((mean**2).sum(2) + (x**2).sum(1, keepdim=True))
        low, high = self.vae.range
        target = ((x - low) / (high - low))[:, :, None]
        return (out @ target)[:, :, 0] - nnf.softplus(out).sum(2)


def divergence(
    mu: Tensor, log_var: Tensor, prior_mu: Tensor | float = 0.0, prior_log_var: Tensor | float = 0.0
) -> Tensor:
    """KL(N(mu, exp(log_var)) || N(prior_mu, exp(prior_log_var))) [N] of diagonal Gaussians [N, latent]."""
    wider = log_var - prior_log_var
    scale = torch.as_tensor(-prior_log_var).exp()
    return 0.5 * ((mu - prior_mu) ** 2 * scale + wider.exp() - 1 - wider).sum(1)


def mlp(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers of these widths with ReLU between them, and none after the last."""
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return layers[:-1]


def mlp_vae(shape: Sequence[int], range: Range, hidden: Sequence[int] = (400, 400), latent: int = 100) -> VAE:
    """Fully connected and mirrored, as van de Ven et al. (2022) use it: 784-400-400-z."""
    widths = [math.prod(shape), *hidden]
    encoder = nn.Sequential(nn.Flatten(), *mlp([*widths, 2 * latent]))
    return VAE(encoder, mlp_decoder(shape, hidden, latent), latent, range)


def feedback_vae(
    features: int, shape: Sequence[int], range: Range, hidden: Sequence[int], latent: int
) -> VAE:
    """An autoencoder on top of a network's features [N, features]: its encoder is one linear layer."""
    return VAE(nn.Linear(features, 2 * latent), mlp_decoder(shape, hidden, latent), latent, range)


def mlp_decoder(shape: Sequence[int], hidden: Sequence[int], latent: int) -> nn.Sequential:
    """The encoder's layers in reverse: z-...-784."""
    widths = [latent, *reversed(hidden), math.prod(shape)]
    return nn.Sequential(*mlp(widths), nn.Unflatten(1, tuple(shape)))


def conv_vae(shape: Sequence[int], range: Range, channels: int = 32, latent: int = 64) -> VAE:
    """Two strided convolutions down, two transposed ones up; sides must be multiples of 4."""
    c, h, w = shape
    if h % 4 or w % 4:
        raise ValueError(f"conv_vae needs a height and width that 4 divides, got {h} x {w}")
    inner = (2 * channels, h // 4, w // 4)
    encoder = nn.Sequential(
        nn.Conv2d(c, channels, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(math.prod(inner), 2 * latent),
    )
    decoder = nn.Sequential(
        nn.Linear(latent, math.prod(inner)),
        nn.ReLU(),
        nn.Unflatten(1, inner),
        nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(channels, c, 4, 2, 1),
    )
    return VAE(encoder, decoder, latent, range)
