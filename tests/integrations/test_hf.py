"""A method inside the Hugging Face Trainer: the bits of a loop of one's own, and of the Trainer without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import retain
from retain import EWC, HAT, SI, Examples, GenerativeReplay, LwF, Method, Naive, Replay
from retain.integrations.form import Form, Network

pytest.importorskip("transformers")

from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from retain.integrations.hf import RetainCallback

N, LENGTH, WORDS = 24, 6, 40
FORM = Form(("input_ids", "attention_mask"), LENGTH, (0, 0))


class Tokens(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Random token numbers, with padding behind them."""

    def __init__(self, task: int, n: int = N, length: int = LENGTH) -> None:
        rng = torch.Generator().manual_seed(task)
        self.ids = torch.randint(1, WORDS, (n, length), generator=rng)
        self.mask = (torch.arange(length) < torch.randint(2, length + 1, (n, 1), generator=rng)).long()
        self.mask[0] = 1
        self.ids *= self.mask
        self.labels = (self.ids[:, 0] + task) % 4

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[i], "attention_mask": self.mask[i], "labels": self.labels[i]}


class InOrder(Trainer):  # type: ignore[misc,unused-ignore]
    """Goes through the data in its order, so that a loop of one's own can do the same."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


def bert(dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    config.num_labels = 4
    return BertForSequenceClassification(config)


def arguments(out: Path, **more: Any) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(out), "per_device_train_batch_size": 8, "num_train_epochs": 1, "max_grad_norm": 0.0,
        "save_strategy": "no", "logging_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True,
        "learning_rate": 0.05, "optim": "sgd", "lr_scheduler_type": "constant", "weight_decay": 0.0,
        "dataloader_pin_memory": False,
    }  # fmt: skip
    return TrainingArguments(**(settings | more))


def train(model: Any, out: Path, callbacks: list[Any], tasks: tuple[int, ...] = (0, 1), **more: Any) -> Any:
    for task in tasks:
        resume = more.pop("resume", None)
        trainer = InOrder(
            model=model, args=arguments(out, **more), train_dataset=Tokens(task), callbacks=callbacks
        )
        trainer.train(resume_from_checkpoint=resume)
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


@pytest.mark.parametrize(
    "more",
    [{}, {"optim": "adamw_torch", "weight_decay": 0.01, "lr_scheduler_type": "linear", "warmup_steps": 1}],
)
def test_naive_is_the_trainer_without_it(tmp_path: Path, more: dict[str, Any]) -> None:
    plain = train(bert(0.1), tmp_path, [], **more)
    around = train(bert(0.1), tmp_path, [RetainCallback(Naive())], **more)
    assert apart(weights(plain), weights(around)) == 0.0


@pytest.mark.parametrize("method", [Naive(), SI(), retain.RWalk(every=1)], ids=lambda m: type(m).__name__)
def test_accumulated_gradients_are_one_step_of_the_whole_batch(method: Method[Any], tmp_path: Path) -> None:
    """(Without the callback this model's loss knows nothing of accumulation, and two parts are a double step.)"""
    whole = train(bert(), tmp_path, [RetainCallback(method)])
    parts: dict[str, Any] = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}
    found = train(bert(), tmp_path, [RetainCallback(method)], **parts)
    assert apart(weights(whole), weights(found)) < 1e-6


METHODS: list[Method[Any]] = [
    EWC(lam=100, examples=6), Replay(memory=20), LwF(), SI(), retain.RWalk(every=1),
    retain.DERpp(memory=20), retain.chain(Replay(memory=20), retain.L2()),
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_the_bits_are_those_of_a_loop_of_ones_own(method: Method[Any], tmp_path: Path) -> None:
    callback = RetainCallback(method, length=LENGTH)
    found = train(bert(), tmp_path, [callback])
    model = bert()
    kept = retain.attach(Network(model, FORM), method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for task in (0, 1):
        data = Tokens(task)
        x, y = FORM.pack({"input_ids": data.ids, "attention_mask": data.mask}), data.labels
        kept.begin_task(Examples(x, y))
        model.train()
        for rows in torch.arange(N).split(8):
            kept.loss(x[rows], y[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
        kept.end_task()
    assert apart(weights(model), weights(found)) == 0.0
    asked = {"input_ids": data.ids, "attention_mask": data.mask}
    torch.testing.assert_close(callback.predict(asked), kept.predict(x))


@pytest.mark.parametrize(
    "method", [EWC(lam=100, examples=6), Replay(memory=20), SI()], ids=lambda m: type(m).__name__
)
def test_resumed_from_its_checkpoint_it_ends_in_the_same_bits(method: Method[Any], tmp_path: Path) -> None:
    more: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch"}
    whole = RetainCallback(method)
    expected = train(bert(0.1), tmp_path / "a", [whole], (0,), **more)
    train(expected, tmp_path / "b", [whole], (1,), **more)

    first = bert(0.1)
    callback = RetainCallback(method, start=tmp_path / "a" / "retain.safetensors")
    first.load_state_dict(expected.state_dict())  # whatever it holds: the checkpoint's weights are taken
    resumed = train(
        first, tmp_path / "b", [callback], (1,), resume=str(tmp_path / "b" / "checkpoint-2"), **more
    )
    assert apart(weights(expected), weights(resumed)) == 0.0
    assert callback.kept is not None and callback.kept.tasks == 2


def test_the_next_task_in_another_process(tmp_path: Path) -> None:
    one = RetainCallback(Replay(memory=20))
    model = train(bert(), tmp_path / "a", [one], (0,))
    other = bert()
    other.load_state_dict(model.state_dict())
    train(model, tmp_path / "b", [one], (1,))
    two = RetainCallback(Replay(memory=20), start=tmp_path / "a" / "retain.safetensors")
    train(other, tmp_path / "c", [two], (1,))
    assert apart(weights(model), weights(other)) == 0.0
    size = (tmp_path / "a" / "retain.safetensors").stat().st_size
    assert two.kept is not None
    two.kept.save(tmp_path / "with")
    assert size + sum(v.nbytes for v in weights(model).values()) < (tmp_path / "with").stat().st_size


# ---- what is refused, in words ----


def test_methods_that_the_trainer_cannot_run_are_refused() -> None:
    with pytest.raises(ValueError, match="HAT changes what the network is run with"):
        RetainCallback(HAT())
    with pytest.raises(ValueError, match="GenerativeReplay learns a model of the inputs"):
        RetainCallback(GenerativeReplay())
    with pytest.raises(TypeError, match="SLDA makes its steps itself"):
        RetainCallback(retain.SLDA())
    with pytest.raises(RuntimeError, match=r"predict comes after the first train\(\)"):
        RetainCallback(Naive()).predict({})


def test_settings_and_data_that_it_cannot_work_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing_factor must be 0.0 with a method inside, got 0.1"):
        train(bert(), tmp_path, [RetainCallback(Naive())], label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"an example of 6 tokens, where 4 is the longest: RetainCallback"):
        train(bert(), tmp_path, [RetainCallback(Naive(), length=4)])
    with pytest.raises(FileNotFoundError):
        train(bert(), tmp_path, [RetainCallback(Naive(), start=tmp_path / "none")])
    callback = RetainCallback(Naive())
    train(bert(), tmp_path, [callback], (0,))
    assert callback.kept is not None
    for extra, weights_too in ((None, True), ({"length": 6}, True), ({"epoch": 3}, False)):
        callback.kept.save(tmp_path / "loop", extra, weights_too)  # as a loop of one's own does
        with pytest.raises(ValueError, match=r"was not left by RetainCallback: give the retain\.safetensors"):
            train(bert(), tmp_path, [RetainCallback(Naive(), start=tmp_path / "loop")])
    with pytest.raises(ValueError, match="the callback has kept another model"):
        train(bert(), tmp_path, [callback], (1,))


def test_a_loss_of_ones_own_cannot_be_had_beside_the_methods(tmp_path: Path) -> None:
    trainer = InOrder(
        model=bert(), args=arguments(tmp_path), train_dataset=Tokens(0), callbacks=[RetainCallback(Naive())],
        compute_loss_func=lambda outputs, labels, num_items_in_batch=None: outputs.logits.sum(),
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="called in training without labels by name"):
        trainer.train()


def test_forms() -> None:
    images = Form.of([{"pixel_values": torch.rand(3, 3, 4, 4), "labels": torch.zeros(3)}], None, 0)
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(images.pack({"pixel_values": x}), x) and torch.equal(
        images.unpack(x)["pixel_values"], x
    )
    with pytest.raises(ValueError, match=r"input 'boxes' is torch.int64 \[3, 4, 2\]"):
        Form.of([{"input_ids": torch.ones(3, 4).long(), "boxes": torch.ones(3, 4, 2).long()}], None, 0)
    with pytest.raises(ValueError, match="the inputs lack 'attention_mask'"):
        FORM.pack({"input_ids": torch.ones(3, 4).long()})
    with pytest.raises(ValueError, match="holds a number above 16777216"):
        FORM.pack({"input_ids": torch.full((1, 4), 2**24 + 1), "attention_mask": torch.ones(1, 4).long()})
