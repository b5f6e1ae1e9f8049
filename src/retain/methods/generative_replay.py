"""Deep generative replay: a generator dreams the past, the old solver labels it."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, final

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from retain import tree
from retain.memory import beside
from retain.method import GradientMethod, Traits, Update, check_choices
from retain.models import VAE, conv_vae, mlp_vae
from retain.optim import Optim
from retain.types import HIDDEN, Batch, Params, Problem, Spec, Task, probabilities

PREFIX = "vae."
SHOWN = 24  # images that inspect gives


class State(NamedTuple):
    """Generator and solver as they were after the last task, and what they knew."""

    previous: Params | None
    past: tuple[int, ...]  # numbers of the tasks before; HIDDEN where the scenario hides them
    known: Tensor  # bool [C]: classes of the tasks before


@final
@dataclass(frozen=True)
class GenerativeReplay(GradientMethod[State]):
    """r E_(x,y)~new[L(x, y)] + (1 - r) E_x'~G_(k-1)[L(x', S_(k-1)(x'))], with r = 1 / k in task k.

    (Shin et al. 2017, eq. 1.) Generator G, a variational autoencoder, and solver S learn each task
    from the same mixture of new examples and examples that the previous generator gives, labelled by
    the previous solver. No example of the past is stored.
    """

    traits: ClassVar[Traits] = Traits(
        stores="generator", cost="one step of solver and generator on twice the examples"
    )
    paper: ClassVar[str] = "Shin et al. 2017, arXiv:1705.08690; weights: van de Ven et al. 2022"

    labels: Literal["hard", "soft"] = "hard"  # the previous solver's choice, or its probabilities
    generator: Literal["mlp", "conv"] = "mlp"  # the autoencoder's layers
    generator_hidden: tuple[int, ...] = (400, 400)  # mlp: widths of its encoder, mirrored in its decoder
    latent: int = 100  # dimensions of z
    generator_lr: float = 1e-3  # Adam's learning rate for the generator
    replay_batch: int | None = None  # examples generated each step; none: as many as are new

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("latent", "replay_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"GenerativeReplay.{name} must be >= 1, got {value}")
        if any(width < 1 for width in self.generator_hidden):
            raise ValueError(f"GenerativeReplay.generator_hidden: widths >= 1, got {self.generator_hidden}")
        if not (math.isfinite(self.generator_lr) and self.generator_lr > 0):
            raise ValueError(f"GenerativeReplay.generator_lr must be a number > 0, got {self.generator_lr}")

    def optimizers(self) -> dict[str, Optim]:
        """The generator's own."""
        return {PREFIX: Optim("adam", lr=self.generator_lr)}

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, State]:
        """A fresh generator beside the solver."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
            vae = _build(self, problem.spec.shape, problem.spec.range)
        vae = vae.to(problem.spec.device, problem.spec.dtype)
        fresh = {PREFIX + k: p.detach() for k, p in vae.named_parameters()}
        known = torch.zeros(problem.spec.classes, dtype=torch.bool, device=problem.spec.device)
        return params | fresh, State(None, (), known)

    def batch(
        self, problem: Problem, params: Params, state: State, batch: Batch, rng: Generator
    ) -> tuple[Batch, State]:
        """New and replayed examples, weighted 1 / k and 1 - 1 / k, and the autoencoder's noise."""
        if state.previous is not None:
            old = self._replay(problem, state, batch, self.replay_batch or len(batch.y), rng)
            batch = beside(batch, old, len(state.past) + 1)
        noise = torch.randn(len(batch.x), self.latent, generator=rng).to(batch.x)
        return batch._replace(extra={"noise": noise}), state

    def _replay(self, problem: Problem, state: State, new: Batch, n: int, rng: Generator) -> Batch:
        """n images of the previous generator with the previous solver's labels."""
        assert state.previous is not None
        x = self._generate(problem.spec, state.previous, n, rng)
        task = new.task.new_full((n,), HIDDEN)
        if int(new.task[0]) != HIDDEN:  # where tasks are told apart, each image belongs to some past one
            which = torch.randint(len(state.past), (n,), generator=rng)
            task = torch.tensor(state.past)[which].to(task)
        in_play = problem.allowed(task)
        in_play = state.known if in_play is None else in_play & state.known
        p = probabilities(problem.logits(state.previous, x, task), in_play)
        return Batch(x, p if self.labels == "soft" else p.argmax(1), task)

    def _generate(self, spec: Spec, params: Params, n: int, rng: Generator) -> Tensor:
        """n mean images x = G(z), z ~ N(0, I)."""
        vae = _skeleton(self, spec.shape, spec.range)
        z = torch.randn(n, self.latent, generator=rng).to(spec.device, spec.dtype)
        image: Tensor = vae.emit(functional_call(vae.decoder, _under(PREFIX + "decoder.", params), (z,)))
        return image

    def loss(
        self, problem: Problem, params: Params, state: State, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """The solver's loss plus the generator's; they share no parameter."""
        vae = _skeleton(self, problem.spec.shape, problem.spec.range)
        bound = functional_call(vae, _under(PREFIX, params), (batch.x, batch.extra["noise"]))
        total: Tensor = loss + (bound.mean() if batch.weight is None else batch.weight @ bound)
        return total

    def end_task(
        self, problem: Problem, params: Params, state: State, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, State]:
        """What generator and solver are now is what the next task replays."""
        known = state.known.clone()
        known[list(task.classes)] = True
        return params, State(tree.clone(params), (*state.past, task.index), known)

    def inspect(self, problem: Problem, params: Params, state: State, end: bool) -> dict[str, Any]:
        """After each task, images that the generator gives, in bytes."""
        spec = problem.spec
        if not end or spec.range is None or len(spec.shape) != 3:
            return {}
        x = self._generate(spec, params, SHOWN, Generator().manual_seed(0)).cpu()
        low, high = spec.range
        pixels = ((x - low) / (high - low) * 255).round().to(torch.uint8)
        data = base64.b64encode(pixels.numpy().tobytes()).decode()
        return {"samples": {"shape": list(pixels.shape), "uint8": data}}


def _under(prefix: str, params: Params) -> Params:
    return {k.removeprefix(prefix): p for k, p in params.items() if k.startswith(prefix)}


def _build(method: GenerativeReplay, shape: tuple[int, ...], range: tuple[float, float] | None) -> VAE:
    if method.generator == "conv":
        return conv_vae(shape, range, latent=method.latent)
    return mlp_vae(shape, range, method.generator_hidden, method.latent)


@cache
def _skeleton(method: GenerativeReplay, shape: tuple[int, ...], range: tuple[float, float] | None) -> VAE:
    """The autoencoder as a function of its parameters: no memory of its own."""
    with torch.device("meta"):
        return _build(method, shape, range)
