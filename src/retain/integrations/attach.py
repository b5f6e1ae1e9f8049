"""A method around a training loop that stays as it is: its forward, criterion, optimiser and scheduler::

    kept = retain.attach(model, retain.EWC(lam=100))  # 1
    for train in tasks:
        kept.begin_task(train)                        # 2
        for x, y in loader(train):
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()                          # the method's hooks run inside of it
            optimizer.zero_grad()
        kept.end_task()                               # 3

That is all for methods that act on the gradient or after the step (penalties, projections of the
gradient, importances). Those that choose what is learned from, or what is minimised (replay,
distillation, masks), need one line more: `loss = kept.loss(x, y)` in place of the criterion.

Within a step the order is the loop's, then the learner's: the loop's gradient (accumulated, unscaled,
clipped as it likes), the mean over the processes, the method's `gradient`, `clip`, the optimiser,
`after_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakMethod, finalize, ref

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from retain import checkpoint, tree
from retain.combine import describe
from retain.examples import Examples, Union
from retain.integrations.borrowed import Borrowed
from retain.integrations.given import Data, blank, like, named, task_of
from retain.integrations.steps import Unseen, fitting, has_hook, left_out, together
from retain.learner import Learner
from retain.method import Method
from retain.types import HIDDEN, Batch, Classes, Params, Problem, Scenario, Step, Task, batch_loss

FORMAT = "retain-attached-1"
_AROUND: WeakKeyDictionary[nn.Module, ref[Attached]] = WeakKeyDictionary()  # of each model, what is


def attach(
    model: nn.Module, method: Method[Any], optimizer: Optimizer | None = None, *, seed: int = 0,
    scenario: Scenario | None = None, classes: Classes | None = None, clip: float | None = None,
) -> Attached:  # fmt: skip
    """Put a method around the training loop of a model; gives what the loop tells of its tasks.

    >>> import retain
    >>> model = torch.nn.Linear(2, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> kept = retain.attach(model, retain.EWC(lam=10))
    >>> for task in range(2):
    ...     kept.begin_task((x, y))
    ...     torch.nn.functional.cross_entropy(model(x), y).backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     kept.end_task()
    >>> kept.tasks
    2

    Args:
        model: any nn.Module from [N, ...] to logits [N, C], on its device, with what shall not be trained
            frozen. It stays in the mode, training or evaluation, that the loop puts it in.
        method: a gradient method, or a `chain` of them.
        optimizer: any torch optimiser over all trained parameters. None: whichever one steps them; it may
            be made anew for each task.
        seed: of everything that the method draws.
        scenario: as in `Learner`; None: `domain`.
        classes: in the class scenario, whether `all` outputs are in play in `loss`, or those `seen` so far.
        clip: largest norm of the gradient after the method has changed it. (What the loop clips, it clips
            before.)

    Raises:
        TypeError: a method that makes its steps itself (closed forms, for example), or no method.
        ValueError: a method that needs the data of all tasks so far, or what the scenario hides; a model
            without parameters to train; an optimiser that does not hold all of them.
    """
    return Attached(model, method, optimizer, seed=seed, scenario=scenario, classes=classes, clip=clip)


class Attached:
    """A model with a method around it; made by `attach`, which says what the arguments are."""

    def __init__(
        self, model: nn.Module, method: Method[Any], optimizer: Optimizer | None = None, *, seed: int = 0,
        scenario: Scenario | None = None, classes: Classes | None = None, clip: float | None = None,
    ):  # fmt: skip
        self.learner = Learner(model, method, seed=seed, scenario=scenario, classes=classes, clip=clip)
        self.method = fitting(method)
        binding = self.learner.binding
        self.stepper = Borrowed(binding.own, binding.names, method.optimizers(), clip)
        self.learner.stepper, self.learner.params = self.stepper, self.stepper.live
        if optimizer is not None and not self.stepper.meet(optimizer):
            raise ValueError("the optimiser holds none of the model's parameters: make it over this model")
        self._task: Task | None = None
        self._problem: Problem | None = None
        self._amid = False  # a file was loaded that was saved amid a task
        self._like: dict[str, Any] = {}  # what one example is like, for a file
        self._losses: list[tuple[Batch, Tensor]] = []  # since the last step, a micro-batch each
        self._under_way: tuple[Params | None, Params, Batch] | None = None  # between the two hooks of a step
        if (around := _AROUND.get(model)) and around():
            raise ValueError("there is a method around this model already: call its detach() first")
        _AROUND[model] = ref(self)
        self._hooks = [
            _hook(register_optimizer_step_pre_hook, self._before),
            _hook(register_optimizer_step_post_hook, self._after),
        ]

    @property
    def tasks(self) -> int:
        """How many tasks are over."""
        return self.learner.tasks - (self._task is not None or self._amid)

    @property
    def steps(self) -> int:
        """How many steps the current task, or the last one, has had."""
        return self.learner.steps_done

    # ---- what the loop calls ----

    def begin_task(self, data: Data) -> None:
        """A task begins; after `load` of a file from amid a task, that task goes on.

        Args:
            data: its training data, which methods consolidate on: (x [N, ...], y [N]), a map-style Dataset
                or a DataLoader's (read once, into memory), Examples, or a Task with its number and classes.

        Raises:
            ValueError: data that is none of these; labels that the model has no output for.
            RuntimeError: the task before is not over.
            Diverged: the method's penalty is too stiff for steps of plain SGD.
        """
        if self._task is not None:
            raise RuntimeError("begin_task, but the task before is not over: end_task() comes first")
        task, self._losses = task_of(data, self.tasks), []
        with self._mode_kept():
            self._start(task.train)
            if self._amid:
                self.learner.restore(self.learner.snapshot(), [], task, 0)
                self._amid = False
            else:
                self.learner.begin_task(task)
        self._task = task

    def loss(self, x: Tensor, y: Tensor, tasks: Tensor | None = None) -> Tensor:
        """What to call `backward()` on, in place of criterion(model(x), y): a scalar.

        It is the cross-entropy of the batch and of what the method puts beside it, and what it adds. For
        accumulated gradients call it once a micro-batch, each with its `backward()`.

        Args:
            x: inputs [N, ...].
            y: labels [N].
            tasks: [N], which tasks they are from, if not all from the current one.

        Raises:
            RuntimeError: no task has begun, and the method must be told of tasks.
        """
        batch = self.batch(x, y, tasks)
        loss = self.learner.loss(batch)
        self.note(batch, loss)
        return loss

    def end_task(self) -> None:
        """The task is over: the method consolidates.

        Raises:
            Diverged: a loss or a parameter is NaN or infinite.
            RuntimeError: no task has begun.
        """
        if self._task is None:
            raise RuntimeError("end_task, but no task has begun: begin_task(data) comes first")
        with self._mode_kept():
            self.learner.end_task()
        self._task, self._losses = None, []

    def predict(self, x: Tensor, task: int | None = None) -> Tensor:
        """Logits [N, C] for inputs [N, ...], in evaluation mode, -inf at classes not in play.

        For a method with masks, and in the task scenario, this is not `model(x)`.

        Args:
            x: the inputs.
            task: the number of their task, from 0; needed in the task scenario, elsewhere without effect.

        Raises:
            ValueError: the scenario is `task`, and there was no such task.
        """
        known = self.learner.in_play.of_task
        if self.learner.in_play.scenario == "task" and task not in known:
            raise ValueError(f"predict needs the task, one of {', '.join(map(str, known))}; got {task}")
        with self._mode_kept():
            return self.learner.predict(x, named(HIDDEN if task is None else task, known.get(task or 0, ())))

    def save(self, path: Path | str, extra: Any = None, weights: bool = True) -> None:
        """Write all that `load` needs to go on with the same bits, to one safetensors file, atomically.

        Args:
            path: the file.
            extra: what else the loop needs, such as scheduler.state_dict(): tensors, numbers and text in
                dicts, lists and tuples.
            weights: whether the network's weights and the optimiser's state are in it; False where the loop
                saves them itself.

        Raises:
            RuntimeError: no data was seen yet.
            Diverged: a loss or a parameter is NaN or infinite; nothing is written.
            TypeError: something in `extra` that such a file cannot hold.
        """
        self.learner.check()
        if not self._like:
            raise RuntimeError("there is nothing to save before the first begin_task(data) or loss(x, y)")
        found = self.learner.snapshot()
        if not weights:
            own = self.learner.binding.own
            found["params"] = {k: p for k, p in found["params"].items() if k not in own}
            found["optimizers"].pop("", None)
        classes = {str(k): v for k, v in self.learner.in_play.of_task.items()}
        file = {
            "format": FORMAT, "method": describe(self.method), "like": self._like, "classes": classes,
            "amid": self._task is not None, "learner": found,
            "groups": self.stepper.groups() if weights else [], "weights": weights, "extra": extra,
        }  # fmt: skip
        if self.learner.world.leads:
            checkpoint.save(Path(path), file)

    def load(self, path: Path | str) -> Any:
        """Become what was saved, in a fresh `attach` of the same model and method; gives its `extra`.

        If it was saved amid a task, the next `begin_task` goes on with that task, from step `steps`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: a damaged file, another kind of file, or one of another method.
        """
        return self.become(saved(path, self.method))

    def become(self, file: dict[str, Any]) -> Any:
        """`load` of what `saved` has read."""
        with self._mode_kept():
            self._start(blank(file["like"]))
            snapshot, learned = file["learner"], [named(int(k), v) for k, v in file["classes"].items()]
            if not file["weights"]:
                snapshot["torch_rng"] = torch.get_rng_state()  # the loop's own affair, as the weights are
                snapshot["optimizers"] = {"": self.stepper.state().get("", {}), **snapshot["optimizers"]}
            self.learner.restore(snapshot, learned, None, 0)
        self.stepper.load_groups(file["groups"])
        self._amid, self._task = file["amid"], None
        return file["extra"]

    def detach(self) -> None:
        """Leave the loop alone from now on."""
        for hook in self._hooks:
            hook.remove()
        _AROUND.pop(self.learner.model, None)

    # ---- for loops that run the network themselves ----

    def batch(self, x: Tensor, y: Tensor, tasks: Tensor | None = None) -> Batch:
        """What to learn from in this step: the inputs and labels, and what is replayed."""
        batch = self.learner.batch(x, y, tasks)
        self._start(Examples(x, y))
        return batch

    def note(self, batch: Batch, loss: Tensor) -> None:
        """The next step of the optimiser descends this loss of this batch, beside those it holds already."""
        params = self.learner.params
        if all(params[k].grad is None for k in self.learner.binding.names):
            self._losses = []  # cleared gradients: a step that a gradient scaler has left out
        self._losses.append((batch, loss.detach()))

    def objective(self, batch: Batch, logits: Tensor) -> Tensor:
        """The loss of the batch from the logits [N, C] that the loop had of it: a scalar for `backward()`.

        (For methods that leave the network as it is: `objective(batch, model(batch.x))`.)
        """
        learner, problem = self.learner, cast(Problem, self._problem)
        loss = batch_loss(batch, logits, problem.allowed(batch.task))
        loss = self.method.loss(problem, learner.params, learner.state, batch, logits, loss)
        self.note(batch, loss)
        return loss

    # ---- inside ----

    def _start(self, examples: Examples | Union) -> None:
        self._problem = self.learner.start(examples)
        if not self._like:
            self._like = like(examples)

    @contextmanager
    def _mode_kept(self) -> Iterator[None]:
        """Leave the model in the mode that it is in."""
        binding = self.learner.binding
        training = binding.model.training
        try:
            yield
        finally:
            binding.mode(training)

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """From the loop's gradients to those that the optimiser is to follow."""
        self._under_way = None
        stepper, method, learner = self.stepper, self.method, self.learner
        if stepper.stepping or not stepper.meet(optimizer) or left_out(optimizer, args, kwargs):
            return
        batch, loss = self._of_this_step()
        names = [k for k, p in learner.params.items() if p.requires_grad]
        grads = {
            k: torch.zeros_like(p) if p.grad is None else p.grad for k in names for p in (learner.params[k],)
        }
        grads, loss = tree.averaged(learner.world, grads, loss)
        problem = cast(Problem, self._problem)
        with torch.no_grad():
            grads = method.gradient(problem, learner.params, learner.state, batch, grads)
            before = {k: learner.params[k].detach().clone() for k in grads} if method.follows_steps else None
            stepper.lay("", grads)
        self._under_way = before, grads, batch
        self._losses = [(batch, loss)]

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What the method does once the optimiser has moved the parameters."""
        if self._under_way is None or optimizer is not self.stepper.theirs:
            return
        (before, grads, batch), learner = self._under_way, self.learner
        self._under_way, ((_, loss),), self._losses = None, self._losses, []
        with torch.no_grad():
            self.stepper.step_added(grads)
            if before is not None:
                step = Step(before, learner.params, grads, batch, self.stepper.lr)
                params, learner.state = self.method.after_step(
                    cast(Problem, self._problem), learner.params, learner.state, step
                )
                learner.params = self.stepper.adopt(params)
        learner.count(loss)

    def _of_this_step(self) -> tuple[Batch, Tensor]:
        """The batch that the gradients are of, and its loss.

        Raises:
            RuntimeError: the method must be told of tasks, and none has begun; or it has to see the batch.
        """
        name = type(self.method).__name__
        if self._task is None and self.method.needs.boundaries:
            raise RuntimeError(
                f"the optimiser steps the model, and no task has begun: {name} must be told, by "
                "begin_task(data) (or detach() it)"
            )
        if not self._losses:
            if self._problem is None:
                raise RuntimeError(
                    "the optimiser steps the model before the first begin_task(data) or loss(x, y)"
                )
            if has_hook(self.method, "batch", "view", "loss"):
                raise RuntimeError(
                    f"{name} has a say in what is learned from: write loss = kept.loss(x, y) in place of "
                    "criterion(model(x), y)"
                )
            return cast(Batch, Unseen(name)), torch.zeros(())
        if len(self._losses) == 1:
            return self._losses[0]
        batches, losses = zip(*self._losses, strict=True)
        return together(batches), torch.stack(losses).mean()


def saved(path: Path | str, method: Method[Any]) -> dict[str, Any]:
    """What `save` of an attached method has written.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a damaged file, another kind of file, or one of another method.
    """
    file = checkpoint.load(Path(path))
    if not isinstance(file, dict) or file.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by save of an attached method")
    if file["method"] != describe(method):
        raise ValueError(f"{path} is of {file['method']}, this is {describe(method)}")
    return file


def _hook(register: Callable[..., RemovableHandle], method: Callable[..., None]) -> RemovableHandle:
    """A hook on every torch optimiser, which goes when its owner does: it does not keep the model alive."""
    alive = WeakMethod(method)

    def hook(*args: Any) -> None:
        if (call := alive()) is not None:
            call(*args)

    handle = register(hook)
    finalize(method.__self__, handle.remove)  # type: ignore[attr-defined]
    return handle
