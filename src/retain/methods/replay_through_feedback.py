"""Replay through feedback: the network's own feedback connections dream the past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from retain.closed_form import width
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.models import VAE, Past, bound, decoded, distilled, drawn, feedback_vae, skeleton, under
from retain.optim import Optim
from retain.types import Batch, Params, Problem, Spec, Task

PREFIX = "feedback."


@final
@dataclass(frozen=True)
class ReplayThroughFeedback(GradientMethod[Past]):
    """1/k L(new) + (1 - 1/k) L(replayed) in task k, with L = L^C + L^G; L^C distils where replayed.

    (van de Ven & Tolias 2018.) The generator is merged into the network: from its
    last hidden layer h(x) one layer gives q(z | x), and feedback connections lead from z back to the
    input. L^C is the cross-entropy, for replayed examples -T^2 sum_c y_c log p_c at temperature T; L^G
    = (-log p(x | z) + KL(q(z | x) || N(0, I))) / pixels also trains the layers that both share. What is
    replayed and its targets y come from the copy of the network after the task before.
    """

    traits: ClassVar[Traits] = Traits(
        stores="generator", cost="two steps and one of the feedback on twice the examples", steps=4
    )
    paper: ClassVar[str] = "van de Ven & Tolias 2018, arXiv:1809.10635"

    temperature: float = 2.0  # of the soft-max outputs in the distillation, > 0
    feedback: tuple[int, ...] = (400, 400)  # widths of its hidden layers, the nearest to the input first
    latent: int = 100  # dimensions of z
    generative: float = 1.0  # weight of L^G, >= 0
    generator_lr: float = 1e-3  # Adam's learning rate for what is not shared with the network
    replay_batch: int | None = None  # examples generated each step; none: as many as are new

    def __post_init__(self) -> None:
        rules = {"latent": ">= 1", "replay_batch": ">= 1", "feedback": ">= 1", "generative": ">= 0"}
        check_numbers(self, rules | {"generator_lr": "> 0", "temperature": "> 0"})

    def optimizers(self) -> dict[str, Optim]:
        """That of the layers which are not shared."""
        return {PREFIX: Optim("adam", lr=self.generator_lr)}

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, Past]:
        """Fresh feedback connections on the network's last hidden layer."""
        D = width("network", problem, params)
        fresh = drawn(lambda: _build(self, problem.spec, D), PREFIX, problem.spec, rng)
        return params | fresh, Past.empty(problem)

    def batch(
        self, problem: Problem, params: Params, state: Past, batch: Batch, rng: Generator
    ) -> tuple[Batch, Past]:
        """New and replayed examples, weighted 1 / k and 1 - 1 / k, and the noise of z."""
        n = state.how_many(batch, self.replay_batch)
        if n:
            batch = state.beside(batch, self._replay(problem, state, batch, n, rng))
        noise = torch.randn(len(batch.x), self.latent, generator=rng).to(batch.x)
        return batch._replace(extra={"noise": noise, "replayed": n}), state

    def _replay(self, problem: Problem, state: Past, new: Batch, n: int, rng: Generator) -> Batch:
        """n images that the previous copy's feedback gives, with its soft targets."""
        assert state.previous is not None
        z = torch.randn(n, self.latent, generator=rng).to(new.x)
        x = decoded(self._vae(problem, state.previous), under(PREFIX, state.previous), z)
        task = state.tasks(new, n, rng)
        logits = problem.logits(state.previous, x, task)
        return Batch(x, state.targets(problem, logits, task, self.temperature), task)

    def loss(
        self, problem: Problem, params: Params, state: Past, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """L^C + L^G; the encoder is the network in evaluation mode."""
        loss = distilled(problem, batch, batch.extra["replayed"], logits, loss, self.temperature)
        seen = problem.features(params, batch.x)
        L_G = bound(self._vae(problem, params), under(PREFIX, params), batch, batch.extra["noise"], seen)
        return loss + self.generative / batch.x[0].numel() * L_G

    def end_task(
        self, problem: Problem, params: Params, state: Past, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, Past]:
        """What the network is now is what the next task replays."""
        return params, state.after(params, task)

    def _vae(self, problem: Problem, params: Params) -> VAE:
        return skeleton(_build, self, problem.spec, params[PREFIX + "encoder.weight"].shape[1])


def _build(method: ReplayThroughFeedback, spec: Spec, width: int) -> VAE:
    return feedback_vae(width, spec.shape, spec.range, method.feedback, method.latent)
