"""An autoencoder that is told the class: its prior and its decoder's open units are the class's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from retain.models.vae import VAE, Range, divergence, mlp_decoder

Gates = tuple[Tensor, ...]  # for each hidden layer, 1 or 0 for each class and unit: [C, width]


class Gated(nn.Module):
    """A decoder whose hidden units are each open for some classes and shut for others."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers

    def forward(self, z: Tensor, c: Tensor, gates: Gates) -> Tensor:
        """What the layers give for z [N, latent] of classes c [N]."""
        left = iter(gates)
        for layer in self.layers:
            z = layer(z)
            if isinstance(layer, nn.ReLU):
                z = z * next(left)[c]
        return z


class ConditionalVAE(VAE):
    """p(z | c) = N(mu_c, sigma_c^2), learned; q(z | x) one linear layer on a network's features."""

    def __init__(
        self,
        features: int,
        shape: Sequence[int],
        range: Range,
        hidden: Sequence[int],
        latent: int,
        classes: int,
    ):
        encoder, decoder = nn.Linear(features, 2 * latent), Gated(mlp_decoder(shape, hidden, latent))
        super().__init__(encoder, decoder, latent, range)
        self.prior_mu = nn.Parameter(torch.randn(classes, latent))
        self.prior_log_var = nn.Parameter(torch.randn(classes, latent))

    def forward(  # type: ignore[override]
        self, x: Tensor, noise: Tensor, seen: Tensor, c: Tensor, gates: Gates
    ) -> Tensor:
        """-log p(x | z, c) + KL(q(z | x) || p(z | c)) [N]; seen [N, features], classes c [N]."""
        mu, log_var = torch.chunk(self.encoder(seen), 2, dim=1)
        out = self.decoder(mu + (0.5 * log_var).exp() * noise, c, gates)
        prior = self.prior_mu[c], self.prior_log_var[c]
        return self.reconstruction(out, x) + divergence(mu, log_var, *prior)


def gates_of(classes: int, widths: Sequence[int], shut: float, rng: Generator) -> Gates:
    """Gates that shut a random share of each layer's units for each class."""
    gates = []
    for width in widths:
        order = torch.rand(classes, width, generator=rng, dtype=torch.float64).argsort(1)
        gates.append((order >= round(shut * width)).to(torch.float32))
    return tuple(gates)
