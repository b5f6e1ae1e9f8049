"""What a version says of examples, as one module that can be written out as a graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from retain.examples import Examples
from retain.learner import Learner
from retain.method import GradientMethod
from retain.types import Params, Problem, Task
from retain.vault.errors import VaultError

Target = Literal["class", "multilabel", "regression"]


class Serving(nn.Module):
    """From stored examples to what is told to people, all in one graph.

    uint8 [N, ...] is read as x / 255, float32 [N, ...] as it is. Of the network's logits only those of
    `known` outputs are looked at, so that an output in reserve never wins; they are divided by the
    temperature. class: `probabilities` [N, K], their soft-max, and `label` int64 [N], the place of the
    largest. multilabel: `probabilities` [N, K], each one's sigmoid, and `label` int64 [N, K], 1 where it is
    over 0.5. regression: `values` [N, K].

    Args:
        network: [N, ...] float -> logits [N, C]; put in evaluation mode, and not copied.
        known: the K outputs that can be predicted, in the order of the labels.
        temperature: > 0, of class alone.
        target: what is predicted.

    Raises:
        VaultError: no output is known, or the temperature is not > 0.
    """

    def __init__(
        self, network: nn.Module, known: Sequence[int], temperature: float = 1.0, target: Target = "class"
    ):
        super().__init__()
        if not known:
            raise VaultError("nothing is known yet: let the vault learn before it is exported")
        if not 0 < temperature < torch.inf:
            raise VaultError(f"the temperature must be > 0 and finite, got {temperature}")
        self.network, self.temperature, self.target = network, float(temperature), target
        self.known: Tensor
        self.register_buffer("known", torch.tensor(list(known), dtype=torch.int64))
        self.eval().requires_grad_(False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` gives."""
        return ("values",) if self.target == "regression" else ("probabilities", "label")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """For stored examples [N, ...]."""
        if x.dtype == torch.uint8:
            x = x.to(torch.float32) / 255
        out = self.network(x).index_select(1, self.known)
        if self.target == "regression":
            return (out,)
        if self.target == "multilabel":
            p = out.sigmoid()
            return p, (p > 0.5).to(torch.int64)
        p = (out / self.temperature).softmax(1)
        return p, p.argmax(1)


class Predicting(nn.Module):
    """A method's own `predict`, for one task: what no plain network does. It changes when the learner does."""

    def __init__(self, learner: Learner, problem: Problem, task: Tensor):
        super().__init__()
        self.learner, self.problem, self.task = learner, problem, task

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, C] of inputs [N, ...]."""
        it = self.learner
        return it.method.predict(self.problem, it.params, it.state, x, self.task)


@torch.no_grad()
def network_of(learner: Learner, examples: Tensor, task: Task | None = None) -> nn.Module:
    """What the method predicts with, before classes are left out: a module [N, ...] float -> logits [N, C].

    Where that is the network under parameters of the method's choosing (gates, masks, a task's own weights),
    it is a copy of the network with these: that it gives the same bits is seen on the examples. Where it is
    not (closed forms), it is the method's `predict`, which follows the learner if that learns on.

    Args:
        learner: on the CPU.
        examples: stored ones, uint8 or float32 [n >= 1, ...]; at random will do.
        task: the one that inputs will be from, in the task scenario alone.

    Raises:
        ValueError: the scenario is `task` and none is given.
    """
    if learner.device.type != "cpu":
        raise VaultError(f"a model is exported from the CPU, this one is on {learner.device}")
    stored = Examples(examples, torch.zeros(len(examples), dtype=torch.int64))
    problem = learner.start(stored)
    x, _ = stored.batch(torch.arange(len(examples)))
    here = torch.tensor([learner.in_play.index_of(task)])
    plain = _plain(learner, problem, here)
    expected = learner.method.predict(problem, learner.params, learner.state, x, here.expand(len(x)))
    if plain is not None and torch.equal(plain(x), expected):
        return plain
    return Predicting(learner, problem, here)


def _plain(learner: Learner, problem: Problem, task: Tensor) -> nn.Module | None:
    """A copy of the network under the method's view of its parameters; None: they do not fit in it."""
    method, params = learner.method, learner.params
    view: Params = params
    if isinstance(method, GradientMethod):
        view = method.view(problem, params, learner.state, task, None)
    network = copy.deepcopy(learner.model).eval()
    for name, own in {**dict(network.named_parameters()), **dict(network.named_buffers())}.items():
        if name not in view or view[name].shape != own.shape:
            return None
        own.copy_(view[name])
    return network
