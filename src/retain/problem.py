"""Binds somebody's nn.Module, as it is, to the functions of Params that methods work with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.func import functional_call

from retain.curvature.layers import full_name
from retain.examples import Examples, Union
from retain.optim import check_word
from retain.parallel import ALONE, World
from retain.types import HIDDEN, Classes, Layer, Loss, Params, Problem, Scenario, Spec, Task

TRACED: dict[type[nn.Module], str] = {nn.Linear: "linear", nn.Conv2d: "conv2d"}
NO_HEAD = (
    "the network's logits [N, C] must be what a linear layer of it gives, for methods that use its features"
)

NOT_DIVISIBLE = (
    "several processes that share its batches would not do what one does; train it in one process, "
    "or leave that layer out or in evaluation mode (GroupNorm and LayerNorm can stay)"
)


Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Fast:
    """How the network is computed in training steps; the same numbers but for rounding.

    Prediction, Fisher, features and whatever else runs outside training mode stay in float32, uncompiled.
    """

    precision: Precision = "float32"  # of matrix products; weights stay as they are
    compile: bool = False  # by torch.compile, which needs a C++ compiler, or Triton on a GPU
    channels_last: bool = False  # the order in memory of images and convolutions

    def __post_init__(self) -> None:
        check_word("precision", self.precision, Precision)


class Binding:
    """A module as a function of its parameters and buffers, in training or evaluation mode.

    Where the params are the module's own tensors it is called directly, otherwise through
    `functional_call`: the same numbers, the first a little faster.
    """

    def __init__(self, model: nn.Module, fast: Fast | None = None):
        self.model, self.fast = model, fast or Fast()
        if self.fast.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.compiled = torch.compile(model) if self.fast.compile else model
        self.own: Params = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self.names = tuple(k for k, p in model.named_parameters() if p.requires_grad)
        # What its owner has put in evaluation mode (a frozen BatchNorm) stays there.
        self.frozen = [m for m in model.modules() if not m.training] if model.training else []
        self.head_name: str | None = None  # of the last linear layer, once looked for
        self.in_place: bool | None = None  # whether something changes what a layer gave; once looked for

    def mode(self, train: bool) -> None:
        """Put the module in training or evaluation mode, if it is not."""
        if self.model.training != train:
            self.model.train(train)
            for m in self.frozen:
                m.training = False

    def logits(self, params: Params, x: Tensor, task: Tensor, train: bool = False) -> Tensor:
        """[N, C] of inputs [N, ...]. In training mode BatchNorm moves the buffers in `params`."""
        self.mode(train)
        if self.fast.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if train and self.fast.precision == "bf16":
            with torch.autocast(x.device.type, torch.bfloat16):
                return self._call(params, x, train).float()
        return self._call(params, x, train)

    def _call(self, params: Params, x: Tensor, train: bool) -> Tensor:
        if all(params[k] is p for k, p in self.own.items()):
            out: Tensor = (self.compiled if train else self.model)(x)
        else:
            out = functional_call(self.model, {k: params[k] for k in self.own}, (x,))
        return out

    def trace(self, params: Params, x: Tensor, task: Tensor) -> tuple[Tensor, dict[str, Layer]]:
        """Logits [N, C], and what each linear or 2-d convolutional layer took in and gave out.

        In evaluation mode, and without a graph to the parameters: only the layers' outputs can be
        differentiated with respect to, which is all that per-example gradients need. A layer that
        is called more than once is left out.
        """
        if self.in_place is None:  # a ReLU in place after a layer must not touch what we keep: found out once
            try:
                self.in_place = self._trace(params, x[:2], task[:2], copies=False)[2]
            except RuntimeError:  # autograd's own, of a leaf that was changed; any other comes again
                self.in_place = True
        return self._trace(params, x, task, self.in_place)[:2]

    def _trace(
        self, params: Params, x: Tensor, task: Tensor, copies: bool
    ) -> tuple[Tensor, dict[str, Layer], bool]:
        """The same, and whether something changed what a layer gave; with `copies` it changes copies."""
        layers: dict[str, Layer] = {}
        calls: dict[str, int] = {}
        versions: dict[str, int] = {}

        def hook_of(name: str, kind: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
                if not output.requires_grad:
                    output = output.detach().requires_grad_()
                layers[name] = Layer(kind, args[0].detach(), output, module)
                calls[name] = calls.get(name, 0) + 1
                versions[name] = output._version
                return output.clone() if copies else output.view_as(output)  # what goes on is no leaf

            return hook

        with ExitStack() as stack, torch.enable_grad():
            for name, module in self.model.named_modules():
                if type(module) in TRACED:
                    handle = module.register_forward_hook(hook_of(name, TRACED[type(module)]))
                    stack.callback(handle.remove)
            logits = self.logits({k: p.detach() for k, p in params.items()}, x, task)
        changed = any(layer.output._version != versions[k] for k, layer in layers.items())
        return logits, {k: v for k, v in layers.items() if calls[k] == 1}, changed

    def features(self, params: Params, x: Tensor, train: bool = False) -> Tensor:
        """[N, D]: what the last linear layer, whose output is the logits, takes in.

        Raises:
            ValueError: the logits are not the output of a linear layer.
        """
        taken: list[Tensor] = []
        name = self._head(params, x)
        hook = self.model.get_submodule(name).register_forward_pre_hook(lambda _, args: taken.append(args[0]))
        try:
            self.logits(params, x, torch.full(x.shape[:1], HIDDEN, device=x.device), train)
        finally:
            hook.remove()
        return taken[-1]

    def head(self, params: Params, features: Tensor) -> Tensor:
        """Logits [N, C] of features [N, D]: `head(params, features(params, x))` is `logits(params, x)`."""
        if self.head_name is None:
            raise ValueError("head needs to know the last layer: call features first")
        weight, bias = (full_name(self.head_name, i) for i in (0, 1))
        return nnf.linear(features, params[weight], params.get(bias))

    def _head(self, params: Params, x: Tensor) -> str:
        """The name of the linear layer whose output is the logits; looked for once."""
        if self.head_name is None:
            outputs: dict[str, Tensor] = {}
            with ExitStack() as stack, torch.no_grad():
                for name, module in self.model.named_modules():
                    if type(module) is nn.Linear:
                        keep = partial(_keep, outputs, name)
                        stack.callback(module.register_forward_hook(keep).remove)
                logits = self.logits(params, x[:1], torch.full((1,), HIDDEN, device=x.device))
            found = [k for k, out in outputs.items() if out is logits]
            if len(found) != 1:
                raise ValueError(f"{NO_HEAD}; {type(self.model).__name__} ends otherwise")
            self.head_name = found[0]
        return self.head_name

    def problem(
        self, spec: Spec, allowed: Callable[[Tensor], Tensor | None], world: World = ALONE,
        objective: Loss = "cross-entropy", class_weights: Tensor | None = None,
    ) -> Problem:  # fmt: skip
        """The module and its loss as a Problem, with the classes that are in play now."""
        return Problem(
            spec, self.logits, allowed, self.trace, self.features, self.head, world, objective, class_weights
        )

    def join(self, world: World, settings: object, divided: Examples | Union | None) -> None:
        """Raise ValueError where several processes could not do together what one would.

        `settings` have to be the same in all; of `divided`, if any, the rows of a batch will be shared.
        """
        world.check_same("method, seed or scenario", settings, "give each process the same")
        fix = "build the model from the same seed in each process: torch.manual_seed(...) before it"
        world.check_same("the parameters of the model", self.own, fix)
        if divided is not None:
            x, _ = divided.batch(torch.arange(min(8, len(divided))))
            self.check_divisible(x.to(self.own[self.names[0]].device))
        elif world.leads:
            logging.getLogger("retain").warning(
                "retain: note: this method does every step in full in each of the %d processes: what one does, "
                "and no faster",
                world.size,
            )

    def check_divisible(self, x: Tensor) -> None:
        """Raise ValueError unless in training each example's logits depend on it alone, for inputs [N >= 2, ...].

        Only then can several processes share the rows of a batch and do what one would.
        """
        what, params = type(self.model).__name__, {k: p.detach().clone() for k, p in self.own.items()}
        task, half = torch.full((len(x),), HIDDEN, device=x.device), len(x) // 2
        with torch.no_grad(), torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            before = _random_state(x.device)
            whole = self.logits(params, x, task, True)
            if not before.equal(_random_state(x.device)):
                raise ValueError(f"{what} draws at random in training (Dropout?): {NOT_DIVISIBLE}")
            if any(not params[k].equal(p) for k, p in self.own.items()):
                raise ValueError(
                    f"{what} keeps running statistics of its batches (BatchNorm?): {NOT_DIVISIBLE}"
                )
            part = self.logits(params, x[:half], task[:half], True)
        if not torch.allclose(part, whole[:half], rtol=1e-3, atol=1e-4 * float(whole.abs().max())):
            raise ValueError(f"{what} mixes the examples of a batch (BatchNorm?): {NOT_DIVISIBLE}")


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _keep(outputs: dict[str, Tensor], name: str, module: nn.Module, args: object, output: Tensor) -> None:
    outputs[name] = output


class InPlay:
    """Which classes are in play for an example, as the scenario has it.

    `task`: those of its task, which is known. `class` with classes `seen`: those of the tasks so far
    (before the first, all). Otherwise all, which is said by None; always where outputs are no classes.
    """

    def __init__(self, scenario: Scenario, classes: Classes, exclusive: bool = True):
        check_word("scenario", scenario, Scenario)
        check_word("classes", classes, Classes)
        self.scenario, self.classes, self.exclusive = scenario, classes, exclusive
        self.outputs, self.device = 0, torch.device("cpu")
        self.seen: set[int] = set()
        self.of_task: dict[int, tuple[int, ...]] = {}
        self._mask: Tensor | None = None

    def learn(self, task: Task) -> None:
        """Its classes have arrived.

        Raises:
            ValueError: the model has no output for one of them.
        """
        self._arrive(task.name, task.classes)
        self.know(task)

    def see(self, labels: Tensor) -> None:
        """Labels [N] that came outside any task: their classes are in play from now on.

        Raises:
            ValueError: the model has no output for one of them.
        """
        if self.scenario != "class" or self.classes != "seen" or not self.exclusive:
            return
        new = set(labels.unique().tolist()) - self.seen
        if new:
            self._arrive("this batch", tuple(sorted(new)))
            self._draw_mask()

    def _arrive(self, name: str, classes: tuple[int, ...]) -> None:
        if classes and not (classes[0] >= 0 and classes[-1] < self.outputs):
            raise ValueError(f"task {name!r} has labels {classes}, the model {self.outputs} outputs")
        self.seen |= set(classes)

    def know(self, task: Task) -> None:
        """Which classes the task has, whether learned or only to be predicted."""
        self.of_task[task.index] = task.classes
        self._draw_mask()

    def index_of(self, task: Task | None) -> int:
        """The number by which a task is predicted; HIDDEN where the scenario hides it.

        Raises:
            ValueError: the scenario is `task`, and none is given.
        """
        if self.scenario != "task":
            return HIDDEN
        if task is None:
            raise ValueError("in the task scenario predict needs the task: predict(x, task)")
        if task.index not in self.of_task:
            self.know(task)
        return task.index

    def _draw_mask(self) -> None:
        rows = max(self.of_task) + 1 if self.scenario == "task" else 1
        mask = torch.zeros(rows, self.outputs, dtype=torch.bool)
        if self.scenario == "task":
            for index, classes in self.of_task.items():
                mask[index, list(classes)] = True
        else:
            mask[0, sorted(self.seen)] = True
        self._mask = mask.to(self.device)

    def __call__(self, task: Tensor) -> Tensor | None:
        """bool [N, C] for tasks [N], or None: all."""
        if not self.exclusive:
            return None
        if self.scenario == "task":
            assert self._mask is not None
            return self._mask[task]
        if self.scenario == "class" and self.classes == "seen" and self.seen:
            assert self._mask is not None
            return self._mask.expand(len(task), -1)
        return None
