"""The one stateful object: binds a model, a method, optimisers and the method's state.

`run` drives it over a stream. Inside a training loop of one's own::

    learner = retain.Learner(model, retain.EWC(lam=100), retain.Optim("sgd", lr=0.1))
    for task in stream:
        learner.begin_task(task)
        for x, y in loader(task):
            batch = learner.batch(x, y)
            loss = learner.loss(batch)     # was: criterion(model(x), y)
            loss.backward()
            learner.step()                 # was: optimizer.step(); optimizer.zero_grad()
        learner.end_task()
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retain import tree
from retain.divergence import Diverged, Watch
from retain.examples import Examples, Union
from retain.losses import check_targets, check_values, checked_weights
from retain.method import SLOWER, GradientMethod, Method
from retain.methods import can_learn, free_of_boundaries, usable_in
from retain.optim import Optim, Schedule, check_word, schedule_factor
from retain.parallel import World, world
from retain.problem import Binding, Fast, InPlay
from retain.seeds import derive
from retain.stepper import Stepper
from retain.streams import Stream
from retain.types import HIDDEN, Batch, Classes, Loss, Params, Problem, Scenario, Spec, Task, among


class Learner:
    """A network that goes on learning.

    Args:
        model: any nn.Module from [N, ...] to logits [N, C]. It is trained in place.
        method: what keeps it from forgetting.
        optim: settings of its optimiser, or a torch optimiser of one's own over its parameters.
        seed: of everything that the method draws.
        scenario: `task`: the task is known when predicting, and only its classes are in play;
            `domain`, `class`: it is not. None: the stream's, or `domain` without one.
        classes: in the class scenario, whether `all` outputs are in play or those `seen` so far.
        schedule: of the learning rate within each task.
        clip: largest norm of the gradient, for the model and for what a method adds to it.
        reset_optimizer: begin each task with a fresh optimiser.
        fast: bf16, torch.compile, channels-last: how training steps are computed.
        loss: `cross-entropy` for one class of several, `binary` for several at once, `squared` for numbers.
        class_weights: [C] floats >= 0, how much an example of each class counts in the mean, as in
            torch's CrossEntropyLoss(weight=...); None: all alike.

    Raises:
        ValueError: a setting outside its range, or a model without parameters to train.
    """

    def __init__(
        self, model: nn.Module, method: Method[Any], optim: Optim | torch.optim.Optimizer | None = None, *,
        seed: int = 0, scenario: Scenario | None = None, classes: Classes | None = None,
        schedule: Schedule = "constant", clip: float | None = None, reset_optimizer: bool = False,
        fast: Fast | None = None, loss: Loss = "cross-entropy", class_weights: Tensor | None = None,
    ):  # fmt: skip
        check_word("schedule", schedule, Schedule)
        if not isinstance(method, Method):
            raise TypeError(f"method must be one such as retain.EWC(lam=10), with brackets, got {method!r}")
        can_learn(method, loss, class_weights)
        self.model, self.method, self.seed = model, method, seed
        self.scenario, self.classes = scenario, classes
        self.objective, self.class_weights = loss, class_weights
        self.schedule, self.reset_optimizer = schedule, reset_optimizer
        self.rng = torch.Generator().manual_seed(derive(seed, "method"))
        self.binding = Binding(model, fast)
        own, names = self.binding.own, self.binding.names
        if not names:
            raise ValueError("the model has no parameter that requires a gradient: nothing could be learned")
        self.world: World = world(own[names[0]].device)
        if class_weights is not None and self.world.size > 1:
            raise ValueError(
                "class_weights are not shared among processes yet: train in one, or leave them out"
            )
        self.stepper = Stepper(own, names, optim or Optim(), method.optimizers(), clip)
        self.params: Params = self.stepper.live
        self.state: Any = None
        self.in_play = InPlay(scenario or "domain", classes or "all", loss == "cross-entropy")
        self.watch = Watch()
        self.room: Path | None = None  # a folder for what a method keeps on disk; set before the first data
        self.tasks = 0  # begun so far
        self.steps_planned, self.steps_done = 0, 0  # in the current task
        self._problem: Problem | None = None
        self._task: Task | None = None
        self._pending: tuple[Batch, Tensor] | None = None

    def follow(self, stream: Stream) -> None:
        """Take over what the stream says of its scenario, where the learner was not told.

        Raises:
            ValueError: the learner was told another scenario, or its loss has no accuracy to measure.
        """
        if self.objective != "cross-entropy":
            raise ValueError(
                f"a run measures accuracies of classes, which loss {self.objective} has not: use begin_task, observe "
                "and end_task, and measure what predict gives"
            )
        if self.scenario not in (None, stream.scenario):
            raise ValueError(f"the learner's scenario is {self.scenario}, the stream's {stream.scenario}")
        if not stream.boundaries and self.method.needs.boundaries:
            raise ValueError(
                f"{type(self.method).__name__} must be told where tasks begin and end, and this stream does not; "
                f"these need no boundary: {', '.join(free_of_boundaries())}"
            )
        self.in_play.scenario = stream.scenario
        self.in_play.classes = self.classes or stream.classes

    # ---- a task from begin to end ----

    def start(self, examples: Examples | Union) -> Problem:
        """Bind to the shape of the data and let the method make its first state. Done once, by itself.

        Raises:
            ValueError: the method needs what this scenario hides.
        """
        if self._problem is not None:
            return self._problem
        usable_in(self.method, self.in_play.scenario)
        spec = self._spec(examples)
        check_targets(self.objective, examples.labels(torch.zeros(1, dtype=torch.int64)), spec.classes)
        if self.class_weights is not None:
            self.class_weights = checked_weights(self.class_weights, self.params[spec.names[0]], spec.classes)
        self._problem = self.binding.problem(
            spec, self.in_play, self.world, self.objective, self.class_weights
        )
        if self.world.size > 1:
            divides = isinstance(self.method, GradientMethod) and self.method.divides
            settings = (repr(self.method), self.seed, self.in_play.scenario, self.in_play.classes)
            self.binding.join(self.world, settings, examples if divides else None)
        with torch.no_grad():
            self._adopt(self.method.init(self._problem, self.params, self.rng))
        return self._problem

    def begin_task(self, task: Task, steps: int = 0) -> None:
        """Begin to learn a task. How many `steps` there will be is needed by a schedule alone.

        Raises:
            ValueError: labels that the model has no output for, or a schedule without `steps`.
            Diverged: the method's penalty is too stiff for steps of plain SGD.
        """
        problem = self.start(task.train)
        check_values(self.objective, task.train.labels())
        task = self._enter(task, steps)
        self.tasks += 1
        if self.reset_optimizer or self.method.data == "all so far":
            self.stepper.reset()
        with torch.no_grad():
            self._adopt(self.method.begin_task(problem, self.params, self.state, task, self.rng))
        if self.stepper.plain_sgd and self._stretch()[0] > 2:
            raise Diverged("the loss would become infinite", self.tasks, 1, self._why())

    def observe(self, x: Tensor, y: Tensor, tasks: Tensor | None = None) -> Tensor:
        """One step on inputs [N, ...] and labels [N]; gives the loss, a scalar on the device.

        `tasks` [N] says which tasks they are from, if not all from the current one; it is used where
        the scenario does not hide it.

        Raises:
            Diverged: one of the last steps' losses was NaN or infinite.
        """
        problem = self._now(x, y)
        self.params, self.state, loss = self.method.observe(
            problem, self.params, self.state, self._plain(x, y, tasks), self.scheduled(), self.rng
        )
        self.count(loss)
        return loss

    def end_task(self) -> None:
        """Consolidate what was learned.

        Raises:
            Diverged: a loss or a parameter is NaN or infinite.
        """
        problem, task = self._bound, self._task
        if task is None:
            raise RuntimeError("end_task, but no task has begun: learner.begin_task(task) comes first")
        self.check()
        self.stepper.factor = 1.0  # what a method trains while it consolidates is not on the task's schedule
        with torch.no_grad():
            state = self.method.end_task(problem, self.params, self.state, task, self.stepper, self.rng)
            self._adopt(state)
        self.check()
        self.world.check_same("the parameters after a task", self.params, "data, machines or versions do")

    # ---- the same, inside a loop of one's own ----

    def batch(self, x: Tensor, y: Tensor, tasks: Tensor | None = None) -> Batch:
        """What to learn from in this step: the inputs [N, ...] and labels [N], and what is replayed."""
        problem = self._now(x, y)
        with torch.no_grad():
            batch, self.state = self._steps_by_gradient.batch(
                problem, self.params, self.state, self._plain(x, y, tasks), self.rng
            )
        return batch

    def loss(self, batch: Batch) -> Tensor:
        """The scalar to call `backward()` on; where several processes train, the mean over them is the loss."""
        method, problem = self._steps_by_gradient, self._bound
        part = method.part(problem, self.params, batch)
        loss = method.objective(problem, self.params, self.state, part, self.rng)
        self._pending = batch, loss.detach()
        return loss

    def step(self) -> None:
        """From the gradients that `backward()` left to the end of the step; clears them.

        Raises:
            RuntimeError: there was no loss, or no `backward()`.
            Diverged: one of the last steps' losses was NaN or infinite.
        """
        problem = self._bound
        if self._pending is None:
            raise RuntimeError("step needs a loss first: loss = learner.loss(batch); loss.backward()")
        (batch, loss), self._pending = self._pending, None
        moved = {k: p for k, p in self.params.items() if p.requires_grad}
        if all(p.grad is None for p in moved.values()):
            raise RuntimeError("step found no gradient: loss.backward() comes between loss and step")
        grads = {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in moved.items()}
        grads, loss = tree.averaged(self.world, grads, loss)
        self.params, self.state = self._steps_by_gradient.finish(
            problem, self.params, self.state, batch, grads, self.scheduled()
        )
        self.count(loss)

    # ---- what it knows ----

    @torch.no_grad()
    def predict(self, x: Tensor, task: Task | None = None) -> Tensor:
        """Logits [N, C] for inputs [N, ...], -inf at classes not in play.

        Args:
            x: the inputs, as batches give them.
            task: where they come from; withheld from the method unless the scenario is `task`.

        Raises:
            ValueError: the scenario is `task` and none is given.
        """
        problem = self._bound
        x = x.to(problem.spec.device)
        tasks = torch.full((len(x),), self.in_play.index_of(task), device=x.device)
        logits = self.method.predict(problem, self.params, self.state, x, tasks)
        return among(logits, self.in_play(tasks))

    def accuracy(self, examples: Examples, task: Task, batch_size: int = 2000) -> float:
        """The share, in [0, 1], of examples of a task whose label is predicted."""
        return self.right(examples, task, slice(None), batch_size) / len(examples)

    def right(self, examples: Examples, task: Task, rows: slice, batch_size: int = 2000) -> int:
        """Of how many of these rows of the examples of a task the label is predicted."""
        found = torch.zeros((), dtype=torch.int64, device=self.device)
        for index in torch.arange(len(examples), device=examples.parts[0].y.device)[rows].split(batch_size):
            x, y = examples.batch(index)
            found += (self.predict(x, task).argmax(1) == y.to(self.device)).sum()
        return int(found)

    def check(self) -> None:
        """Raise `Diverged` if a loss noted since the last look, or a parameter, is NaN or infinite."""
        ago = self.watch.first_bad()
        if ago is not None:
            raise Diverged(
                "the loss became NaN or infinite", self.tasks, self.steps_done - ago + 1, self._why()
            )
        if not all(bool(p.isfinite().all()) for p in self.params.values()):
            raise Diverged("a parameter became NaN or infinite", self.tasks, self.steps_done, self._why())

    def inspect(self, end: bool) -> dict[str, Any]:
        """What the method shows of itself now; `end`: right after `end_task`."""
        problem = self._bound
        with torch.no_grad():
            return self.method.inspect(problem, self.params, self.state, end)

    # ---- what a checkpoint holds ----

    def snapshot(self) -> dict[str, Any]:
        """All that `restore` needs to go on with the same bits; to be written before the next step.

        (It holds the live tensors, not copies of them.)
        """
        return {
            "params": dict(self.params),
            "state": self.state,
            "optimizers": self.stepper.state(),
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
            "tasks": self.tasks,
            "steps_done": self.steps_done,
            "seen": sorted(self.in_play.seen),
        }

    def restore(
        self, snapshot: dict[str, Any], learned: list[Task], current: Task | None, steps: int
    ) -> None:
        """Become the learner that was snapshot.

        Args:
            snapshot: what `snapshot` gave.
            learned: the tasks that were over by then.
            current: the task that it was amid, if any.
            steps: how many steps `current` has in all.
        """
        device = self._bound.spec.device
        for task in learned:
            self.in_play.learn(task)
        self.in_play.see(torch.tensor(snapshot["seen"], dtype=torch.int64))
        if current is not None:
            self._enter(current, steps)
        self.params = self.stepper.adopt(snapshot["params"])
        self.state = tree.to(snapshot["state"], device)
        self.stepper.load(snapshot["optimizers"])
        self.rng.set_state(snapshot["rng"])
        torch.set_rng_state(snapshot["torch_rng"])
        self.tasks, self.steps_done = snapshot["tasks"], snapshot["steps_done"]

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return self.stepper.live[self.binding.names[0]].device

    @property
    def state_bytes(self) -> int:
        """Bytes of what the method keeps: its state, and what it added to the parameters."""
        return tree.nbytes([self.state, [p for k, p in self.params.items() if k not in self.binding.own]])

    # ---- inside ----

    @property
    def _bound(self) -> Problem:
        if self._problem is None:
            raise RuntimeError("the learner has seen no data yet: begin_task(task) or start(examples) first")
        return self._problem

    def _spec(self, examples: Examples | Union) -> Spec:
        device = self.device
        x = examples.batch(torch.zeros(1, dtype=torch.int64))[0].to(device)
        with torch.no_grad():
            out = self.binding.logits(self.params, x, torch.full((1,), HIDDEN, device=device))
        if out.dim() != 2 or len(out) != 1:
            raise ValueError(
                f"the model must give logits [N, C] for {list(x.shape)}, it gave {list(out.shape)}"
            )
        self.in_play.outputs, self.in_play.device = out.shape[1], device
        shape, names = tuple(x.shape[1:]), self.binding.names
        return Spec(shape, x.dtype, device, out.shape[1], names, examples.range, self.room)

    def _enter(self, task: Task, steps: int) -> Task:
        if self.schedule != "constant" and steps < 1:
            raise ValueError(
                f"schedule={self.schedule!r} needs the number of steps: begin_task(task, steps=...)"
            )
        self.in_play.learn(task)
        self._task = task.for_method(self.in_play.scenario != "task")
        self.steps_planned, self.steps_done = steps, 0
        return self._task

    def _now(self, x: Tensor, y: Tensor) -> Problem:
        """The problem, for a method that may learn now: amid a task, or anywhere if it needs none."""
        if self._task is None:
            if self.method.needs.boundaries:
                raise RuntimeError(
                    f"no task has begun: {type(self.method).__name__} must be told where tasks begin and end, "
                    f"by learner.begin_task(task); methods that need no boundary: {', '.join(free_of_boundaries())}"
                )
            self.start(Examples(x, y))
            self.in_play.see(y)
        return self._bound

    @property
    def _steps_by_gradient(self) -> GradientMethod[Any]:
        if not isinstance(self.method, GradientMethod):
            raise TypeError(
                f"{type(self.method).__name__} takes no gradient steps: use observe(x, y) or run(...)"
            )
        return self.method

    def _plain(self, x: Tensor, y: Tensor, tasks: Tensor | None = None) -> Batch:
        device, index = self._bound.spec.device, HIDDEN if self._task is None else self._task.index
        x, y = x.to(device), y.to(device)
        check_targets(self.objective, y, self._bound.spec.classes)
        if self.steps_done == 0:
            self.world.check_same("the batches", (x, y), "each process has to get the whole batch, unshared")
        if tasks is None or index == HIDDEN:
            return Batch(x, y, torch.full((len(y),), index, device=device))
        return Batch(x, y, tasks.to(device))

    def scheduled(self) -> Stepper:
        """What steps the optimisers, with this step's learning rates."""
        if self._task is None and self.schedule != "constant":
            raise ValueError(
                f"schedule={self.schedule!r} runs from the begin to the end of a task: there is none"
            )
        self.stepper.factor = schedule_factor(self.schedule, self.steps_done, self.steps_planned)
        return self.stepper

    def _adopt(self, new: tuple[Params, Any]) -> None:
        params, self.state = new
        self.params = self.stepper.adopt(params)

    def count(self, loss: Tensor) -> None:
        """A step with this loss is over."""
        self.steps_done += 1
        if self.watch.note(loss):
            self.check()

    def _stretch(self) -> tuple[float, str]:
        """By how much a step stretches what the method guards most, lr * stiffness, and its formula."""
        stiffness, formula = self.method.stiffness(self.state)
        return stiffness * self.stepper.largest_lr, f"lr * {formula}"

    def _why(self) -> str:
        stretch, formula = self._stretch()
        if stretch > 2:
            return f"{formula} = {stretch:.4g} > 2, where steps of SGD diverge; {self.method.remedy}"
        return (f"{formula} = {stretch:.4g}; " if stretch else "") + SLOWER
