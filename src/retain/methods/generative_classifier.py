"""Generative classifier: a generator for each class, and the likelihoods of an image compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, final

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from retain import tree
from retain.closed_form import below
from retain.method import Method, Traits, Update, check_choices, check_numbers
from retain.models import Evidence, drawn, mlp_vae, skeleton, under
from retain.optim import Optim
from retain.types import Batch, Params, Problem, Spec, Task

PREFIX = "vae."


class State(NamedTuple):
    """The autoencoders that are learned, the classes of those that learn now, and what samples z."""

    noise: Tensor  # [S, latent], drawn once: a prediction is always the same
    learned: tuple[Params, ...]  # one for each class of each past task
    of: tuple[int, ...]  # the class of each of them
    current: tuple[int, ...]  # classes of the task that is being learned, () between tasks


@final
@dataclass(frozen=True)
class GenerativeClassifier(Method[State]):
    """y = arg max_c p(x | c), p(x | c) = 1/S sum_s p(x | z_s, c) p(z_s) / q(z_s | x, c), z_s ~ q(z | x, c).

    (van de Ven, Li & Tolias 2021; the classes are equally likely beforehand.) Each class has a variational
    autoencoder of its own, which descends -log p(x|z) + KL(q(z|x) || p(z)) on the class's images and is
    never touched again. Where a class occurs in several tasks, p(x | c) is the mean of theirs. The
    network itself is neither trained nor used. Logits are log-likelihoods.

    Pixels with a range are Bernoulli means. The released code trains so, and yet compares classes by
    N(x; mean image, I): `likelihood` gaussian.
    """

    traits: ClassVar[Traits] = Traits(
        stores="generator", growth="with tasks", cost="a step of one small generator for each class"
    )
    paper: ClassVar[str] = "van de Ven, Li & Tolias 2021, CVPR workshop, arXiv:2104.10093"

    generator_hidden: tuple[int, ...] = (85, 85)  # widths of an encoder, mirrored in its decoder
    latent: int = 5  # dimensions of z
    draws: int = 50  # z drawn for each likelihood, S
    generator_lr: float = 1e-3  # Adam's learning rate
    likelihood: Literal["trained", "gaussian"] = "trained"  # p(x | z, c): as trained, or N(mean image, I)

    def __post_init__(self) -> None:
        check_choices(self)
        rules = {"latent": ">= 1", "draws": ">= 1", "generator_hidden": ">= 1", "generator_lr": "> 0"}
        check_numbers(self, rules)

    def optimizers(self) -> dict[str, Optim]:
        """The autoencoders' own."""
        return {PREFIX: Optim("adam", lr=self.generator_lr)}

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """No class is known yet."""
        noise = torch.randn(self.draws, self.latent, generator=rng, dtype=torch.float64)
        return params, State(noise.to(problem.spec.device, problem.spec.dtype), (), (), ())

    def begin_task(
        self, problem: Problem, params: Params, state: State, task: Task, rng: Generator
    ) -> tuple[Params, State]:
        """A fresh autoencoder for each of its classes, all alike at first; places are used again."""
        fresh = drawn(lambda: _build(self, problem.spec).vae, "", problem.spec, rng)
        mine = {f"{PREFIX}{i}.{k}": p for i in range(len(task.classes)) for k, p in fresh.items()}
        return params | mine, state._replace(current=task.classes)

    def observe(
        self, problem: Problem, params: Params, state: State, batch: Batch, update: Update, rng: Generator
    ) -> tuple[Params, State, Tensor]:
        """Each class's autoencoder descends its mean bound over the batch's images of that class."""
        vae = skeleton(_build, self, problem.spec).vae
        noise = torch.randn(len(batch.x), self.latent, generator=rng).to(batch.x)
        classes, bounds = state.current, []
        for i, c in enumerate(classes):
            own = batch.y == c
            if bool(own.any()):
                given = batch.x[own], noise[own]
                bounds.append(functional_call(vae, under(f"{PREFIX}{i}.", params), given))
        if sum(map(len, bounds)) < len(batch.y):
            raise ValueError(f"the task's classes are {classes}, the batch has others: {batch.y.unique()}")
        moved = {k: p for k, p in params.items() if k.startswith(PREFIX)}
        total = torch.stack([b.mean() for b in bounds]).sum()
        idle = {k: torch.zeros_like(params[k]) for k in problem.spec.names}
        grads = idle | tree.gradients(total, moved)
        with torch.no_grad():
            return update(params, grads), state, torch.cat(bounds).detach().mean()

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """Its autoencoders are put away."""
        update.reset()  # the next ones begin anew
        done = tuple(tree.clone(under(f"{PREFIX}{i}.", params)) for i in range(len(state.current)))
        return params, State(state.noise, (*state.learned, *done), (*state.of, *state.current), ())

    def predict(self, problem: Problem, params: Params, state: State, x: Tensor, task: Tensor) -> Tensor:
        """log p(x | c) [N, C]; a class that has not come yet is one nat below the least likely one."""
        live = [under(f"{PREFIX}{i}.", params) for i in range(len(state.current))]
        of = (*state.of, *state.current)
        evidence = skeleton(_build, self, problem.spec)
        logits = x.new_full((len(x), problem.spec.classes), -torch.inf)
        for c, each in zip(of, (*state.learned, *live), strict=True):
            found = functional_call(evidence, {f"vae.{k}": p for k, p in each.items()}, (x, state.noise))
            logits[:, c] = torch.logaddexp(logits[:, c], found - math.log(of.count(c)))
        known = torch.tensor([c in of for c in range(problem.spec.classes)], device=x.device)
        return below(logits, known)

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """How many autoencoders there are."""
        return {"autoencoders": len(state.learned) + len(state.current)}


def _build(method: GenerativeClassifier, spec: Spec) -> Evidence:
    vae = mlp_vae(spec.shape, spec.range, method.generator_hidden, method.latent)
    return Evidence(vae, method.likelihood == "gaussian")
