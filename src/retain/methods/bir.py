"""Brain-inspired replay: replay through feedback, told which class to dream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Generator, Tensor

from retain.closed_form import width
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.models import Brain, Feedback, Past, distilled, drawn, gates_of, skeleton, under
from retain.optim import Optim
from retain.types import Batch, Params, Problem, Spec, Task

PREFIX = "feedback."


class State(NamedTuple):
    """The network as it was after the last task, and the gates of the feedback's hidden layers."""

    past: Past
    gates: tuple[Tensor, ...]  # of each layer [C, width], 1 where a unit is open for a class


@final
@dataclass(frozen=True)
class BIR(GradientMethod[State]):
    """1/k L(new) + (1 - 1/k) L(replayed) in task k, with L = L^C + L^G; L^C distils where replayed.

    (van de Ven, Siegelmann & Tolias 2020, methods.) Replay through feedback, and: the prior
    of z is a learned Gaussian for each class c, so that a chosen class can be replayed; for each class
    a random share of the feedback's hidden units is shut; L^G = (-log p(x | z, c) + KL(q(z | x) ||
    N(mu_c, sigma_c^2))) / pixels. With `internal`, what is replayed are the network's features, taken
    to be frozen, and a classifier with hidden layers of its own learns on them.

    The released code takes the soft targets' mixture of priors and gates for what is replayed; here it
    is those of the class that was asked for, so that the KL is exact.
    """

    traits: ClassVar[Traits] = Traits(
        stores="generator", cost="two steps and one of the feedback on twice the examples", steps=4
    )
    paper: ClassVar[str] = "van de Ven, Siegelmann & Tolias 2020, Nature Communications 11:4069"

    temperature: float = 2.0  # of the soft-max outputs in the distillation, > 0
    shut: float = 0.1  # share of the feedback's hidden units that is shut for a class, in [0, 1)
    feedback: tuple[int, ...] = (400, 400)  # widths of its hidden layers, the nearest to the input first
    latent: int = 100  # dimensions of z
    generative: float = 1.0  # weight of L^G, >= 0
    generator_lr: float = 1e-3  # Adam's learning rate for what is not shared with the network
    replay_batch: int | None = None  # examples generated each step; none: as many as are new
    internal: bool = False  # replay the network's features, frozen, into a classifier of its own

    def __post_init__(self) -> None:
        rules = {"latent": ">= 1", "replay_batch": ">= 1", "feedback": ">= 1", "generative": ">= 0"}
        check_numbers(self, rules | {"shut": "in [0, 1)", "generator_lr": "> 0", "temperature": "> 0"})
        if not self.feedback:
            raise ValueError("BIR.feedback must be one or more widths >= 1, got ()")

    def optimizers(self) -> dict[str, Optim]:
        """That of the layers which are not the network's own."""
        return {PREFIX: Optim("adam", lr=self.generator_lr)}

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """Fresh feedback connections and gates, and with `internal` a classifier too."""
        spec, D = problem.spec, width("network", problem, params)
        params = params | drawn(lambda: _build(self, spec, D), PREFIX, spec, rng)
        gates = gates_of(spec.classes, self.feedback[::-1], self.shut, rng)
        return params, State(Past.empty(problem), tuple(g.to(spec.device, spec.dtype) for g in gates))

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """New and replayed examples, weighted 1 / k and 1 - 1 / k, their classes, and the noise of z."""
        both = batch._replace(x=self._brain(problem, params).enters(batch.x))
        c = batch.y if batch.y.dim() == 1 else batch.y.argmax(1)
        n = state.past.how_many(batch, self.replay_batch)
        if n:
            old, classes = self._replay(problem, state, batch, n, rng)
            both, c = state.past.beside(both, old), torch.cat([c, classes])
        noise = torch.randn(len(both.x), self.latent, generator=rng).to(both.x)
        extra = {"noise": noise, "replayed": n, "c": c, "inside": both}
        return (batch if self.internal else both)._replace(extra=extra), state

    def _replay(
        self, problem: Problem, state: State, new: Batch, n: int, rng: Generator
    ) -> tuple[Batch, Tensor]:
        """n images or features of known classes that the previous feedback gives, and their classes [n]."""
        past = state.past
        assert past.previous is not None
        brain, task = self._brain(problem, past.previous), past.tasks(new, n, rng)
        c = past.classes(problem, task, rng)
        x = brain.dream(c, torch.randn(n, self.latent, generator=rng).to(new.x), state.gates)
        return Batch(x, past.targets(problem, brain.logits(x, task), task, self.temperature), task), c

    def loss(
        self, problem: Problem, params: Params, state: State, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """L^C + L^G; the encoder is the network in evaluation mode, or the classifier inside."""
        brain, extra = self._brain(problem, params), batch.extra
        batch, seen, logits, loss = brain.seen(batch, logits, loss)
        loss = distilled(problem, batch, extra["replayed"], logits, loss, self.temperature)
        L_G = brain.bound(batch, extra["noise"], seen, extra["c"], state.gates)
        return loss + self.generative / batch.x[0].numel() * L_G

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """What the network is now is what the next task replays."""
        return params, state._replace(past=state.past.after(params, task))

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """The network's logits, or those of the classifier inside."""
        brain = self._brain(problem, params)
        return brain.logits(brain.enters(x), task)

    def _brain(self, problem: Problem, params: Params) -> Brain:
        own = under(PREFIX, params)
        D = own.get("inside.trunk.0.weight", own["vae.encoder.weight"]).shape[1]
        return Brain(problem, params, skeleton(_build, self, problem.spec, D), own)


def _build(m: BIR, spec: Spec, D: int) -> Feedback:
    return Feedback(D, spec.shape, spec.range, m.feedback, m.latent, spec.classes, m.internal)
