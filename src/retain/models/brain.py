"""A network with the feedback that dreams for it, and perhaps a classifier of its features inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.func import functional_call

from retain.models.entries import under
from retain.models.gated import ConditionalVAE, Gates
from retain.models.past import bound
from retain.models.vae import Range, decoded, mlp
from retain.types import Batch, Params, Problem, cross_entropy, weighted


class Internal(nn.Module):
    """A classifier of features that also gives its last hidden layer: [N, D] -> [N, H], [N, C]."""

    def __init__(self, features: int, hidden: Sequence[int], classes: int):
        super().__init__()
        self.trunk = nn.Sequential(*mlp([features, *hidden]), nn.ReLU())
        self.head = nn.Linear(hidden[-1], classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Last hidden layer and logits."""
        h = self.trunk(x)
        return h, self.head(h)


class Feedback(nn.Module):
    """`vae`: from a network's features back to images; or if `internal` to the features themselves.

    Then `inside` is a classifier of features, and the way back starts from its last hidden layer.
    """

    inside: Internal

    def __init__(
        self,
        features: int,
        shape: Sequence[int],
        range: Range,
        hidden: Sequence[int],
        latent: int,
        classes: int,
        internal: bool,
    ):
        super().__init__()
        self.internal = internal
        if internal:
            self.vae = ConditionalVAE(hidden[-1], (features,), None, hidden, latent, classes)
            self.inside = Internal(features, hidden, classes)
        else:
            self.vae = ConditionalVAE(features, shape, range, hidden, latent, classes)


class Brain(NamedTuple):
    """A network and its feedback with the parameters they have at some time.

    What is replayed, x in all that follows, are images, or if the feedback is internal the network's features.
    """

    problem: Problem
    params: Params  # the network's
    feedback: Feedback
    own: Params  # the feedback's

    def enters(self, image: Tensor) -> Tensor:
        """The x [N, ...] of images."""
        return self.problem.features(self.params, image) if self.feedback.internal else image

    def logits(self, x: Tensor, task: Tensor) -> Tensor:
        """[N, C], of the network or the classifier inside."""
        return self._inside(x)[1] if self.feedback.internal else self.problem.logits(self.params, x, task)

    def seen(self, batch: Batch, logits: Tensor, loss: Tensor) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """The batch of x, what the feedback reads of it [N, H], its logits and its cross-entropy.

        Those of the network are given. Where the feedback is internal, the batch of x is the extra `inside`.
        """
        if not self.feedback.internal:
            return batch, self.problem.features(self.params, batch.x), logits, loss
        batch = batch.extra["inside"]
        h, logits = self._inside(batch.x)
        each = cross_entropy(logits, batch.y, self.problem.allowed(batch.task))
        return batch, h, logits, weighted(batch, each)

    def dream(self, c: Tensor, noise: Tensor, gates: Gates) -> Tensor:
        """The x that the feedback gives for classes c [N], from z = mu_c + sigma_c noise [N, latent]."""
        vae = under("vae.", self.own)
        sigma = (0.5 * vae["prior_log_var"][c]).exp()
        return decoded(self.feedback.vae, vae, vae["prior_mu"][c] + sigma * noise, c, gates)

    def bound(self, batch: Batch, noise: Tensor, h: Tensor, c: Tensor, gates: Gates) -> Tensor:
        """-log p(x | z, c) + KL(q(z | x) || p(z | c)), as the batch of x weights it; h [N, H] is read."""
        return bound(self.feedback.vae, under("vae.", self.own), batch, noise, h, c, gates)

    def _inside(self, h: Tensor) -> tuple[Tensor, Tensor]:
        own = under("inside.", self.own)
        found: tuple[Tensor, Tensor] = functional_call(self.feedback.inside, own, (h,))
        return found
