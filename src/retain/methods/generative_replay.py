"""Deep generative replay: a generator dreams the past, the old solver labels it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from retain.method import GradientMethod, Traits, Update, check_choices, check_numbers
from retain.models import VAE, Past, bound, conv_vae, decoded, distilled, drawn, mlp_vae, skeleton, under
from retain.optim import Optim
from retain.types import Batch, Params, Problem, Spec, Task

PREFIX = "vae."
SHOWN = 24  # images that inspect gives


@final
@dataclass(frozen=True)
class GenerativeReplay(GradientMethod[Past]):
    """r E_(x,y)~new[L(x, y)] + (1 - r) E_x'~G_(k-1)[L(x', S_(k-1)(x'))], with r = 1 / k in task k.

    (Shin et al. 2017, eq. 1.) Generator G, a variational autoencoder, and solver S learn each task
    from the same mixture of new examples and examples that the previous generator gives, labelled by
    the previous solver. No example of the past is stored.

    With soft labels the replayed examples' loss is distillation at temperature T (van de Ven & Tolias
    2018): -T^2 sum_c y_c log p_c, both soft-max outputs of logits / T.
    """

    traits: ClassVar[Traits] = Traits(
        stores="generator", cost="one step of solver and generator on twice the examples", steps=4
    )
    paper: ClassVar[str] = (
        "Shin et al. 2017, arXiv:1705.08690; soft: van de Ven & Tolias 2018, arXiv:1809.10635"
    )

    labels: Literal["hard", "soft"] = "hard"  # the previous solver's choice, or its probabilities
    temperature: float = 2.0  # soft: of the two soft-max outputs that are compared, > 0
    generator: Literal["mlp", "conv"] = "mlp"  # the autoencoder's layers
    generator_hidden: tuple[int, ...] = (400, 400)  # mlp: widths of its encoder, mirrored in its decoder
    latent: int = 100  # dimensions of z
    generator_lr: float = 1e-3  # Adam's learning rate for the generator
    replay_batch: int | None = None  # examples generated each step; none: as many as are new

    def __post_init__(self) -> None:
        check_choices(self)
        rules = {"latent": ">= 1", "replay_batch": ">= 1", "generator_hidden": ">= 1"}
        check_numbers(self, rules | {"generator_lr": "> 0", "temperature": "> 0"})

    def optimizers(self) -> dict[str, Optim]:
        """The generator's own."""
        return {PREFIX: Optim("adam", lr=self.generator_lr)}

    def init(self, problem: Problem, params: Params, rng: Generator) -> tuple[Params, Past]:
        """A fresh generator beside the solver."""
        spec = problem.spec
        fresh = drawn(lambda: _build(self, spec.shape, spec.range), PREFIX, spec, rng)
        return params | fresh, Past.empty(problem)

    def batch(
        self, problem: Problem, params: Params, state: Past, batch: Batch, rng: Generator
    ) -> tuple[Batch, Past]:
        """New and replayed examples, weighted 1 / k and 1 - 1 / k, and the autoencoder's noise."""
        n = state.how_many(batch, self.replay_batch)
        if n:
            batch = state.beside(batch, self._replay(problem, state, batch, n, rng))
        noise = torch.randn(len(batch.x), self.latent, generator=rng).to(batch.x)
        return batch._replace(extra={"noise": noise, "replayed": n}), state

    def _replay(self, problem: Problem, state: Past, new: Batch, n: int, rng: Generator) -> Batch:
        """n images of the previous generator with the previous solver's labels."""
        assert state.previous is not None
        x = self._generate(problem.spec, state.previous, n, rng)
        task = state.tasks(new, n, rng)
        soft = self.labels == "soft"
        logits = problem.logits(state.previous, x, task)
        p = state.targets(problem, logits, task, self.temperature if soft else 1.0)
        return Batch(x, p if soft else p.argmax(1), task)

    def _generate(self, spec: Spec, params: Params, n: int, rng: Generator) -> Tensor:
        """n mean images x = G(z), z ~ N(0, I)."""
        z = torch.randn(n, self.latent, generator=rng).to(spec.device, spec.dtype)
        return decoded(skeleton(_build, self, spec.shape, spec.range), under(PREFIX, params), z)

    def loss(
        self, problem: Problem, params: Params, state: Past, batch: Batch, logits: Tensor, loss: Tensor
    ) -> Tensor:
        """The solver's loss plus the generator's; they share no parameter."""
        vae = skeleton(_build, self, problem.spec.shape, problem.spec.range)
        if self.labels == "soft":
            loss = distilled(problem, batch, batch.extra["replayed"], logits, loss, self.temperature)
        return loss + bound(vae, under(PREFIX, params), batch, batch.extra["noise"])

    @property
    def divides(self) -> bool:
        """Both losses are sums over the rows."""
        return True

    def rows(self, batch: Batch, rows: slice) -> Batch:
        """Their noise, and how many of them, the last ones, are replayed."""
        new = len(batch.y) - batch.extra["replayed"]
        replayed = max(0, rows.stop - max(rows.start, new))
        extra = {"noise": batch.extra["noise"][rows], "replayed": replayed}
        return super().rows(batch, rows)._replace(extra=extra)

    def end_task(
        self, problem: Problem, params: Params, state: Past, task: Task, update: Update, rng: Generator
    ) -> tuple[Params, Past]:
        """What generator and solver are now is what the next task replays."""
        return params, state.after(params, task)

    def inspect(self, problem: Problem, params: Params, state: Past, end: bool) -> dict[str, Any]:
        """After each task, images that the generator gives, in bytes."""
        spec = problem.spec
        if not end or spec.range is None or len(spec.shape) != 3:
            return {}
        x = self._generate(spec, params, SHOWN, Generator().manual_seed(0)).cpu()
        low, high = spec.range
        pixels = ((x - low) / (high - low) * 255).round().to(torch.uint8)
        data = base64.b64encode(pixels.numpy().tobytes()).decode()
        return {"samples": {"shape": list(pixels.shape), "uint8": data}}


def _build(method: GenerativeReplay, shape: tuple[int, ...], range: tuple[float, float] | None) -> VAE:
    if method.generator == "conv":
        return conv_vae(shape, range, latent=method.latent)
    return mlp_vae(shape, range, method.generator_hidden, method.latent)
