"""A method inside the Hugging Face Trainer, for models that classify: a callback, and nothing else changes::

    callback = RetainCallback(retain.Replay(memory=500))
    for task in tasks:
        Trainer(model=model, args=args, train_dataset=task, callbacks=[callback]).train()

Each `train()` is a task. Where the callback is in the Trainer's loop:

- `on_train_begin`: the task begins; its training data is read once, through the Trainer's own collator.
- before the model's forward in training: what the method puts beside the batch (replay) joins it.
- after it: the loss that the model returns is the method's, from the logits of that one pass (distillation).
- inside the optimiser's step: the method's gradient, and what it does after the step. It comes after the
  Trainer's accumulation and clipping (`max_grad_norm`).
- `on_save`: the method's state, beside the Trainer's checkpoint. `on_train_end`: the task is over, and the
  state is written to `output_dir`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from retain.examples import Examples
from retain.integrations.attach import Attached, saved
from retain.integrations.form import Form, Network
from retain.integrations.steps import fitting, has_hook
from retain.method import Method
from retain.types import Batch, Classes, Scenario

STATE = "retain.safetensors"
LENGTH = "length"  # what of ours is in that file beside the method's state
READ = 256  # examples collated at a time


class RetainCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Keeps a model that the Trainer trains task after task from forgetting.

    Args:
        method: a gradient method that leaves the network as it is (no masks, no sampled weights), or a chain
            of them.
        length: tokens that the longest example has, in any task; None: as many as the first task's longest.
            Shorter ones are padded to it where they are kept, and not where they are trained on.
        start: the file that the last task of an earlier process left, `output_dir/retain.safetensors`.
        seed: of everything that the method draws.
        scenario: as in `Learner`; None: `domain`.
        classes: in the class scenario, whether `all` outputs are in play or those `seen` so far.
        clip: largest norm of the gradient after the method has changed it.

    Raises:
        ValueError: a method that changes what the network is run with, or learns a model of its inputs.
    """

    def __init__(
        self, method: Method[Any], *, length: int | None = None, start: Path | str | None = None, seed: int = 0,
        scenario: Scenario | None = None, classes: Classes | None = None, clip: float | None = None,
    ):  # fmt: skip
        name = type(method).__name__
        if has_hook(fitting(method), "view"):
            raise ValueError(f"{name} changes what the network is run with, which the Trainer does by itself")
        if method.needs.stores == "generator":
            raise ValueError(f"{name} learns a model of the inputs, and tokens cannot be modelled as pixels")
        self.method, self.length, self.start = method, length, start
        self.settings: dict[str, Any] = {"seed": seed, "scenario": scenario, "classes": classes, "clip": clip}
        self.kept: Attached | None = None  # once training has begun
        self.form: Form | None = None
        self._model: nn.Module | None = None
        self._hooks: list[Any] = []
        self._busy = False  # while the method itself runs the network
        self._batch: tuple[Batch, float] | None = None  # between the forward's two hooks: it, and its share

    def predict(self, inputs: dict[str, Tensor], task: int | None = None) -> Tensor:
        """Logits [N, C] of a collated batch, -inf at classes not in play.

        Raises:
            RuntimeError: nothing was trained yet.
        """
        if self.kept is None or self.form is None:
            raise RuntimeError("predict comes after the first train()")
        return self.kept.predict(self.form.pack(inputs), task)

    # ---- what the Trainer calls ----

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A task begins, or goes on from a checkpoint.

        Raises:
            ValueError: arguments of the Trainer, data, or a file to start from that this cannot work with.
            FileNotFoundError: the Trainer goes on from a checkpoint that has no state of the method.
        """
        model, loader = more["model"], more["train_dataloader"]
        _check(args)
        if self._model not in (None, model):
            raise ValueError("the callback has kept another model: make one callback for each model")
        batches = _read(loader)
        file: Path | str | None = self.start if self.kept is None else None
        if state.global_step > 0:
            file = _folder(args, state) / STATE
        self._bind(model, batches, file)
        assert self.kept is not None and self.form is not None
        x = torch.cat([self.form.pack(b) for b in batches])
        with self._by_itself():
            self.kept.begin_task(Examples(x, torch.cat([b["labels"] for b in batches])))
        self._hooks = [
            model.register_forward_pre_hook(self._enter, with_kwargs=True),
            model.register_forward_hook(self._leave, with_kwargs=True),
        ]

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The method's state goes beside the Trainer's checkpoint."""
        self._save(_folder(args, state))

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The task is over: consolidate, and leave the state where the next process finds it."""
        assert self.kept is not None
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        with self._by_itself():
            self.kept.end_task()
        self._save(Path(args.output_dir))

    # ---- inside ----

    @contextmanager
    def _by_itself(self) -> Iterator[None]:
        """The method runs the network: no step of the Trainer's."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _bind(self, model: nn.Module, batches: list[dict[str, Tensor]], file: Path | str | None) -> None:
        """Put the method around the model, with the state in the file, if any."""
        found = None if file is None else _of_a_trainer(file, saved(file, self.method))
        if self.form is None:
            length = self.length if found is None else found["extra"][LENGTH]
            self.form = Form.of(batches, length, _padding(model))
        if self.kept is None:
            self._model = model
            self.kept = Attached(Network(model, self.form), self.method, **self.settings)
        if found is not None:
            with self._by_itself():
                self.kept.become(found)

    def _save(self, folder: Path) -> None:
        assert self.kept is not None and self.form is not None
        self.kept.save(folder / STATE, extra={LENGTH: self.form.length}, weights=False)

    def _enter(self, model: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        """Before the model's forward: the batch, and what the method puts beside it."""
        self._batch = None
        if self._busy or not model.training:
            return None
        if args or kwargs.get("labels") is None:
            raise RuntimeError(
                "the model was called in training without labels by name: the method's loss needs them (a "
                "compute_loss_func or label smoothing takes them out)"
            )
        assert self.kept is not None and self.form is not None
        kwargs = dict(kwargs)
        labels, items = kwargs.pop("labels"), kwargs.pop("num_items_in_batch", None)
        with self._by_itself():
            batch = self.kept.batch(self.form.pack(kwargs), labels)
        self.kept.learner.binding.mode(True)  # the method may have looked at the network in evaluation mode
        # With accumulation the Trainer leaves it to the model to count a micro-batch as its share of the step.
        share = 1.0 if items is None else len(labels) / float(items)
        self._batch = batch, share
        return args, {**kwargs, **self.form.unpack(batch.x, kwargs[self.form.names[0]].shape[1])}

    def _leave(self, model: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """After it: the loss is the method's."""
        if self._batch is None:
            return None
        assert self.kept is not None
        (batch, share), self._batch = self._batch, None
        loss = self.kept.objective(batch, output.logits)
        output["loss"] = loss if share == 1.0 else loss * share
        return output


def _check(args: Any) -> None:
    if args.world_size > 1 or args.n_gpu > 1:
        raise ValueError(
            "the callback works in one process on one device: set CUDA_VISIBLE_DEVICES to one GPU, or train in "
            "several processes with a loop of your own and retain.attach"
        )
    for name, off in (("label_smoothing_factor", 0.0), ("torch_compile", False)):
        if getattr(args, name) != off:
            raise ValueError(
                f"TrainingArguments.{name} must be {off} with a method inside, got {getattr(args, name)}"
            )


def _folder(args: Any, state: Any) -> Path:
    """Where the Trainer's checkpoint at this step is."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _of_a_trainer(file: Path | str, found: dict[str, Any]) -> dict[str, Any]:
    """What was read, if this callback left it: the Trainer keeps the weights, and our lengths are in it."""
    if found["weights"] or not isinstance(found["extra"], dict) or LENGTH not in found["extra"]:
        raise ValueError(
            f"{file} was not left by RetainCallback: give the {STATE} of the Trainer's output_dir, and load what "
            "attach has saved by attach"
        )
    return found


def _padding(model: nn.Module) -> int:
    return int(getattr(getattr(model, "config", None), "pad_token_id", None) or 0)


def _read(loader: Any) -> list[dict[str, Tensor]]:
    """All of the training data as the Trainer collates it, in its own order."""
    data, collate = loader.dataset, loader.collate_fn
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise ValueError(
            "the method looks at a task's data as a whole: train_dataset must be map-style, with a length"
        )
    found = []
    for start in range(0, len(data), READ):
        batch = collate([data[i] for i in range(start, min(start + READ, len(data)))])
        labels = batch.get("labels")
        if not isinstance(labels, Tensor) or labels.dim() != 1 or labels.is_floating_point():
            raise ValueError(
                "the data needs labels, one class number for each example: a column `label` or `labels`"
            )
        found.append(dict(batch))
    return found
