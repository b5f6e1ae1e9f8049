"""The words that every room of the house speaks: parameters, batches, tasks, problems.

Shapes are written in square brackets: N examples, C classes, `...` whatever an example looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor

from retain.examples import Examples, Union
from retain.parallel import ALONE, World

Params = dict[str, Tensor]
"""All that the network runs on, parameters and buffers, by their `state_dict` names."""

Scenario = Literal["task", "domain", "class"]
"""`task`: which task an example is from is known at test; `domain`: it is not, and labels mean the
same in every task; `class`: it is not, and every task brings labels of its own."""

Classes = Literal["seen", "all"]
"""Which outputs are in play in the class scenario: those of the tasks so far, or all."""

Loss = Literal["cross-entropy", "binary", "squared"]
"""What is learned: `cross-entropy`, one class of several, y int64 [N]; `binary`, several at once, y float
[N, C] in {0, 1}, the mean over outputs of each one's cross-entropy; `squared`, numbers, y float [N, C], the mean
over outputs of (f - y)^2 / 2."""

HIDDEN = -1
"""The task number of an example whose scenario hides it."""


class Batch(NamedTuple):
    """What one step learns from."""

    x: Tensor  # [N, ...] float
    y: Tensor  # [N] int64 labels, or [N, C] target probabilities; [N, C] float where the loss is another
    task: Tensor  # [N] int64; HIDDEN where the scenario hides it
    weight: Tensor | None = None  # [N]; the loss is sum(weight * l); None means 1/N each
    extra: dict[str, Any] = {}  # what one hook hands to the next within a step; read-only by default


class Step(NamedTuple):
    """One step of the optimiser, as `after_step` sees it."""

    before: Params | None  # cloned, and only where a method overrides `after_step`
    after: Params
    grads: Params
    batch: Batch
    lr: dict[str, float]  # the learning rate that each parameter was moved with


@dataclass(frozen=True)
class Task:
    """One task of a stream. Methods get it through `for_method`, without what they may not see."""

    index: int  # from 0; HIDDEN where the scenario hides it
    name: str
    train: Examples | Union
    test: Examples | None
    validation: Examples | None
    classes: tuple[int, ...]  # the labels that occur in it, ascending

    def for_method(self, hide: bool) -> Task:
        """The same task without its test set, and without its number and name if `hide`."""
        if hide:
            return replace(self, test=None, index=HIDDEN, name="")
        return replace(self, test=None)

    def batch(self, rows: Tensor, device: torch.device) -> Batch:
        """The training examples that `rows` [n] names."""
        x, y = (t.to(device) for t in self.train.batch(rows))
        return Batch(x, y, torch.full((len(y),), self.index, device=device))


class Spec(NamedTuple):
    """What a method may know of the model and the data before it sees any."""

    shape: tuple[int, ...]  # of one example
    dtype: torch.dtype
    device: torch.device
    classes: int  # C, the number of outputs
    names: tuple[str, ...]  # the model's own entries of Params that the optimiser moves
    range: tuple[float, float] | None  # what every pixel lies in; None where that is not known
    room: Path | None = None  # a folder for what is too large for RAM; None: a temporary one must do


class Layer(NamedTuple):
    """What one linear or convolutional layer took in and gave out during a traced pass."""

    kind: str  # "linear" or "conv2d"
    input: Tensor
    output: Tensor  # part of the graph: gradients with respect to it can be asked for
    module: torch.nn.Module


class Problem(NamedTuple):
    """The model and the loss, as functions of the parameters."""

    spec: Spec
    logits: Callable[..., Tensor]  # (params, x, task, train=False) -> [N, C], raw and finite
    allowed: Callable[[Tensor], Tensor | None]  # task [N] -> bool [N, C]: the classes in play; None: all
    trace: Callable[[Params, Tensor, Tensor], tuple[Tensor, dict[str, Layer]]]
    features: Callable[..., Tensor]  # (params, x, train=False) -> [N, D]: what the last linear layer takes in
    head: Callable[[Params, Tensor], Tensor]  # (params, features) -> [N, C]; logits = head(features)
    world: World = ALONE  # the processes that train the model together
    objective: Loss = "cross-entropy"
    class_weights: Tensor | None = None  # [C]: how much an example of each class counts; None: all alike

    def loss(self, params: Params, batch: Batch, train: bool = True) -> Tensor:
        """The loss, of cross-entropy over the classes in play: a scalar, sum(weight * l) or the mean."""
        return self.batch_loss(batch, self.logits(params, batch.x, batch.task, train))

    def batch_loss(self, batch: Batch, logits: Tensor) -> Tensor:
        """The same of a batch whose logits [N, C] are known."""
        allowed = self.allowed(batch.task)
        if self.objective == "cross-entropy" and self.class_weights is None:
            return batch_loss(batch, logits, allowed)
        each, counts = self.each(logits, batch.y, allowed), self.counts(batch.y)
        if counts is None:
            return weighted(batch, each)
        w = counts if batch.weight is None else batch.weight * counts
        return (w @ each) / w.sum()

    def losses(self, params: Params, batch: Batch, train: bool = True) -> Tensor:
        """The same, example by example and unweighted: [N]."""
        logits = self.logits(params, batch.x, batch.task, train)
        return self.each(logits, batch.y, self.allowed(batch.task))

    def each(self, logits: Tensor, y: Tensor, allowed: Tensor | None) -> Tensor:
        """The loss [N] of each example from its logits [N, C]; y are labels [N], or targets [N, C]."""
        if self.objective == "binary":
            return nnf.binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="none").mean(1)
        if self.objective == "squared":
            return 0.5 * (logits - y.to(logits.dtype)).square().mean(1)
        return cross_entropy(logits, y, allowed)

    def answers(self, logits: Tensor, allowed: Tensor | None) -> Tensor:
        """What the outputs say in the form of targets [N, C]: probabilities, or the numbers themselves."""
        if self.objective == "binary":
            return logits.sigmoid()
        return logits if self.objective == "squared" else probabilities(logits, allowed)

    def counts(self, y: Tensor) -> Tensor | None:
        """How much each example counts in a mean, by its class y [N] or its targets [N, C]: [N]; None: all alike."""
        if self.class_weights is None:
            return None
        return self.class_weights[y] if y.dim() == 1 else y @ self.class_weights.to(y)


def weighted(batch: Batch, each: Tensor) -> Tensor:
    """The sum of each example's value [N] as the batch weights it, or the mean."""
    return each.mean() if batch.weight is None else batch.weight @ each


def batch_loss(batch: Batch, logits: Tensor, allowed: Tensor | None) -> Tensor:
    """The cross-entropy of a batch, as it weights its examples, from its logits [N, C]: a scalar."""
    if batch.weight is None and batch.y.dim() == 1:  # the mean of labels: one operation instead of two
        return nnf.cross_entropy(among(logits, allowed), batch.y)
    return weighted(batch, cross_entropy(logits, batch.y, allowed))


def among(logits: Tensor, allowed: Tensor | None) -> Tensor:
    """Logits with -inf at the classes that are not in play: right before a soft-max or arg max."""
    return logits if allowed is None else logits.masked_fill(~allowed, -torch.inf)


def probabilities(logits: Tensor, allowed: Tensor | None) -> Tensor:
    """The soft-max [N, C] among the classes in play."""
    # A soft-max over rows of ten runs one row at a time; over columns it is vectorised, seven times faster.
    return among(logits, allowed).T.contiguous().softmax(0).T


def cross_entropy(logits: Tensor, y: Tensor, allowed: Tensor | None) -> Tensor:
    """Cross-entropy [N] of labels [N] or target probabilities [N, C] among the allowed classes.

    Classes outside `allowed` [N, C] get -inf here and nowhere earlier; a soft target puts no
    weight on them. None: all classes are in play.

    >>> cross_entropy(torch.zeros(1, 4), torch.tensor([0]), torch.tensor([[True, True, False, False]]))
    tensor([0.6931])
    """
    logits = among(logits, allowed)
    if y.dim() == 1:
        return nnf.cross_entropy(logits, y, reduction="none")
    log_p = logits.log_softmax(1)
    if allowed is not None:
        log_p = log_p.masked_fill(~allowed, 0.0)  # 0 * -inf is NaN, in value and in gradient
    return -(y * log_p).sum(1)
