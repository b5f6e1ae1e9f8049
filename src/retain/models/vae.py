"""Variational autoencoders (Kingma & Welling 2014): encoder, decoder, and the bound they descend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

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

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Minus the evidence lower bound of each example, in nats: [N]; noise ~ N(0, I) [N, latent]."""
        mu, log_var = torch.chunk(self.encoder(x), 2, dim=1)
        z = mu + (0.5 * log_var).exp() * noise
        out = self.decoder(z).flatten(1)
        x = x.flatten(1)
        if self.range is None:
            reconstruction = 0.5 * ((out - x) ** 2).sum(1)
        else:
            low, high = self.range
            target = (x - low) / (high - low)
            reconstruction = nnf.binary_cross_entropy_with_logits(out, target, reduction="none").sum(1)
        bound: Tensor = reconstruction + 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)
        return bound

    def emit(self, out: Tensor) -> Tensor:
        """What the decoder gave [N, ...], as mean images in the stream's range."""
        if self.range is None:
            return out
        low, high = self.range
        return low + (high - low) * out.sigmoid()


def mlp_vae(shape: Sequence[int], range: Range, hidden: Sequence[int] = (400, 400), latent: int = 100) -> VAE:
    """Fully connected and mirrored, as van de Ven et al. (2022) use it: 784-400-400-z."""
    widths = [math.prod(shape), *hidden]
    down: list[nn.Module] = [nn.Flatten()]
    for i, o in pairwise(widths):
        down += [nn.Linear(i, o), nn.ReLU()]
    down.append(nn.Linear(widths[-1], 2 * latent))
    up: list[nn.Module] = []
    back = [latent, *reversed(widths)]
    for i, o in pairwise(back):
        up += [nn.Linear(i, o), nn.ReLU()]
    up[-1] = nn.Unflatten(1, tuple(shape))  # no ReLU after the last layer
    return VAE(nn.Sequential(*down), nn.Sequential(*up), latent, range)


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
