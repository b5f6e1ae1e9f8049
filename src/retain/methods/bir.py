"""Brain-inspired replay: replay through feedback, told which class to dream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from retain.memory import beside
from retain.method import GradientMethod, Traits, Update, check_numbers
from retain.models import (
    ConditionalVAE,
    Internal,
    Past,
    distilled,
    drawn,
    gates_of,
    skeleton,
    under,
    weighted,
)
from retain.optim import Optim
from retain.types import Batch, Params, Problem, Spec, Task, cross_entropy

PREFIX, VAE, INSIDE = "feedback.", "feedback.vae.", "feedback.inside."


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
        stores="generator", cost="two steps and one of the feedback on twice the examples"
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
        spec = problem.spec
        x = torch.zeros(1, *spec.shape, device=spec.device, dtype=spec.dtype)
        width = problem.features(params, x).shape[1]
        params = params | drawn(lambda: _build(self, spec, width), PREFIX, spec, rng)
        gates = gates_of(spec.classes, self.feedback[::-1], self.shut, rng)
        return params, State(Past.empty(problem), tuple(g.to(spec.device, spec.dtype) for g in gates))

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """New and replayed examples, weighted 1 / k and 1 - 1 / k, their classes, and the noise of z."""
        both = batch._replace(x=problem.features(params, batch.x)) if self.internal else batch
        c = batch.y if batch.y.dim() == 1 else batch.y.argmax(1)
        n = 0 if state.past.previous is None else self.replay_batch or len(batch.y)
        if n:
            old, classes = self._replay(problem, state, batch, n, rng)
            both, c = beside(both, old, len(state.past.past) + 1), torch.cat([c, classes])
        noise = torch.randn(len(both.x), self.latent, generator=rng).to(both.x)
        extra = {"noise": noise, "replayed": n, "c": c}
        if self.internal:
            return batch._replace(extra=extra | {"inside": both}), state
        return both._replace(extra=extra), state

    def _replay(
        self, problem: Problem, state: State, new: Batch, n: int, rng: Generator
    ) -> tuple[Batch, Tensor]:
        """n images or features of known classes that the previous feedback gives, and their classes [n]."""
        past, old = state.past, state.past.previous
        assert old is not None
        task = past.tasks(new, n, rng)
        c = torch.multinomial(past.in_play(problem, task).double().cpu(), 1, generator=rng)[:, 0].to(task)
        sigma = (0.5 * old[VAE + "prior_log_var"][c]).exp()
        z = old[VAE + "prior_mu"][c] + sigma * torch.randn(n, self.latent, generator=rng).to(sigma)
        vae = self._parts(problem, old)["vae"]
        assert isinstance(vae, ConditionalVAE)
        x = vae.emit(functional_call(vae.decoder, under(VAE + "decoder.", old), (z, c, state.gates)))
        logits = self._inside(problem, old, x)[1] if self.internal else problem.logits(old, x, task)
        return Batch(x, past.targets(problem, logits, task, self.temperature), task), c

    def loss(
        self, problem: Problem, params: Params, state: State, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """L^C + L^G; the encoder is the network in evaluation mode, or the classifier inside."""
        extra = batch.extra
        if self.internal:
            batch = extra["inside"]
            seen, logits = self._inside(problem, params, batch.x)
            loss = weighted(batch, cross_entropy(logits, batch.y, problem.allowed(batch.task)))
        else:
            seen = problem.features(params, batch.x)
        loss = distilled(problem, batch, extra["replayed"], logits, loss, self.temperature)
        given = batch.x, extra["noise"], seen, extra["c"], state.gates
        bound: Tensor = functional_call(self._parts(problem, params)["vae"], under(VAE, params), given)
        return loss + self.generative / batch.x[0].numel() * weighted(batch, bound)

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """What the network is now is what the next task replays."""
        return params, state._replace(past=state.past.after(params, task))

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """The network's logits, or those of the classifier inside."""
        if self.internal:
            return self._inside(problem, params, problem.features(params, x))[1]
        return problem.logits(params, x, task)

    def _inside(self, problem: Problem, params: Params, h: Tensor) -> tuple[Tensor, Tensor]:
        """Last hidden layer and logits of the classifier on features h [N, D]."""
        parts = self._parts(problem, params)["inside"]
        found: tuple[Tensor, Tensor] = functional_call(parts, under(INSIDE, params), (h,))
        return found

    def _parts(self, problem: Problem, params: Params) -> nn.ModuleDict:
        name = INSIDE + "trunk.0.weight" if self.internal else VAE + "encoder.weight"
        return skeleton(_build, self, problem.spec, params[name].shape[1])


def _build(method: BIR, spec: Spec, width: int) -> nn.ModuleDict:
    """The feedback, which replays images, or with `internal` features [width] and a classifier of them."""
    hidden, latent, classes = method.feedback, method.latent, spec.classes
    if not method.internal:
        return nn.ModuleDict({"vae": ConditionalVAE(width, spec.shape, spec.range, hidden, latent, classes)})
    vae = ConditionalVAE(hidden[-1], (width,), None, hidden, latent, classes)
    return nn.ModuleDict({"vae": vae, "inside": Internal(width, hidden, classes)})
