"""A method in the Hugging Face Trainer: a small BERT learns three topics of made-up text, one after the other.

    python examples/hf_trainer.py          # a minute on one core; nothing is downloaded
    python examples/hf_trainer.py --quick

A topic has words of its own. In each, two kinds of sentence are told apart by which half of its words they use.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import retain
from retain.integrations.hf import RetainCallback

TOPICS, WORDS, LENGTH = 3, 40, 12
METHODS: dict[str, Any] = {
    "plain": None,
    "replay": retain.Replay(memory=100),
    "DER++": retain.DERpp(memory=100),
}


class Sentences(Dataset[dict[str, Tensor]]):
    """Sentences of one topic, labelled 2 * topic or 2 * topic + 1; half of their words are anybody's."""

    def __init__(self, topic: int, n: int, seed: int) -> None:
        rng = torch.Generator().manual_seed(1000 * seed + topic)
        kind, shape = torch.randint(2, (n, 1), generator=rng), (n, LENGTH)
        told = WORDS * topic + WORDS // 2 * kind + torch.randint(WORDS // 2, shape, generator=rng)
        filler = WORDS * TOPICS + torch.randint(WORDS, shape, generator=rng)
        self.ids = 1 + torch.where(torch.rand(shape, generator=rng) < 0.5, told, filler)  # 0 is padding
        self.labels = 2 * topic + kind[:, 0]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {
            "input_ids": self.ids[i],
            "attention_mask": torch.ones(LENGTH).long(),
            "labels": self.labels[i],
        }


def bert() -> Any:
    """Two layers of 32 units, from scratch."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1 + (TOPICS + 1) * WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=LENGTH,
    )  # fmt: skip
    config.num_labels = 2 * TOPICS
    return BertForSequenceClassification(config)


def learn(n: int, epochs: int, callbacks: list[Any], folder: str) -> list[float]:
    """The accuracy on every topic, among all six labels, after the last."""
    model, found = bert(), []
    arguments = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=32, num_train_epochs=epochs, learning_rate=2e-3,
        lr_scheduler_type="constant", save_strategy="no", logging_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    for topic in range(TOPICS):
        Trainer(model, arguments, train_dataset=Sentences(topic, n, seed=0), callbacks=callbacks).train()
    model.eval()
    for topic in range(TOPICS):
        test = Sentences(topic, 300, seed=1)
        with torch.no_grad():
            right = model(input_ids=test.ids).logits.argmax(1) == test.labels
        found.append(float(right.float().mean()))
    return found


def main(arguments: list[str]) -> dict[str, list[float]]:
    """Train each way, and print what is left of every topic in the end."""
    quick, found = "--quick" in arguments, {}
    for name in ["plain", "replay"] if quick else METHODS:
        callbacks = [] if METHODS[name] is None else [RetainCallback(METHODS[name])]
        with tempfile.TemporaryDirectory() as folder:
            found[name] = learn(256 if quick else 1000, 4 if quick else 3, callbacks, folder)
        each, mean = "  ".join(f"{100 * a:.0f}" for a in found[name]), sum(found[name]) / TOPICS
        print(f"{name:>8}, % on each topic at the end:  {each}   mean {100 * mean:.1f}", flush=True)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
