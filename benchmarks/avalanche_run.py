"""One run of avalanche-lib on permuted MNIST, in its own environment: writes result.json to --out.

    .bench-peers/bin/python benchmarks/avalanche_run.py naive --data FOLDER --out FOLDER --tasks 10

Started by benchmarks/peers.py, which says what is measured. FOLDER holds MNIST/raw, as torchvision has it.
The network is 784-256-256-10 with ReLU; batches of 128, one pass, SGD 0.1; all test sets before the first
and after every task. `seconds` leaves out the evaluation of the untrained network.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

WIDTH, BATCH, LR, TEST_BATCH = 256, 128, 0.1, 1024
LIBRARY: torch.library.Library | None = None  # what is declared in it lasts as long as it does


def mend_torchvision() -> None:
    """Let torchvision's Python part be imported where its compiled part does not load.

    That part is built for CUDA, and does not find its libraries beside a CPU torch. What is missed at import
    are only the signatures of two operations on boxes, which no classifier needs.
    """
    global LIBRARY
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [k for k in sys.modules if k.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")


def network() -> nn.Module:
    sizes = (784, WIDTH, WIDTH, 10)
    layers: list[nn.Module] = [nn.Flatten()]
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def strategy(args: argparse.Namespace) -> Any:
    """The method, as the library offers it, with nothing printed."""
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training import supervised
    from avalanche.training.plugins import EvaluationPlugin

    net = network()
    common = {
        "model": net,
        "optimizer": torch.optim.SGD(net.parameters(), lr=LR),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": BATCH,
        "train_epochs": 1,
        "eval_mb_size": TEST_BATCH,
        "evaluator": EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
    }
    kinds: dict[str, Callable[[], Any]] = {
        "naive": lambda: supervised.Naive(**common),
        "ewc": lambda: supervised.EWC(ewc_lambda=args.lam, **common),
        "replay": lambda: supervised.Replay(mem_size=args.memory, **common),
        "gem": lambda: supervised.GEM(
            patterns_per_exp=args.memory_per_task, memory_strength=args.margin, **common
        ),
    }
    return kinds[args.method]()


def accuracies(learner: Any, stream: Any) -> list[float]:
    """On the test set of each task, in [0, 1]."""
    found = learner.eval(stream, num_workers=0)
    each = [found[k] for k in sorted(found) if k.startswith("Top1_Acc_Exp/")]
    if len(each) != len(stream):
        raise RuntimeError(f"{len(stream)} tasks, but these figures: {sorted(found)}")
    return each


def run(args: argparse.Namespace) -> dict[str, Any]:
    from avalanche.benchmarks.classic import PermutedMNIST

    torch.manual_seed(args.seed)
    tasks = PermutedMNIST(
        args.tasks, seed=args.seed, dataset_root=args.data, train_transform=None, eval_transform=None
    )
    learner = strategy(args)
    rows = [accuracies(learner, tasks.test_stream)]
    training = evaluating = 0.0
    for experience in tasks.train_stream:
        start = time.perf_counter()
        learner.train(experience, num_workers=0)
        middle = time.perf_counter()
        rows.append(accuracies(learner, tasks.test_stream))
        training += middle - start
        evaluating += time.perf_counter() - middle
    finite = all(math.isfinite(float(p.detach().sum())) for p in learner.model.parameters())
    return {
        "accuracy": rows,
        "acc": sum(rows[-1]) / len(rows[-1]),
        "finite": finite,
        "seconds": {"train": training, "evaluate": evaluating},
        "versions": {k: importlib.metadata.version(k) for k in ("avalanche-lib", "torch", "torchvision")},
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("method", choices=("naive", "ewc", "replay", "gem"))
    made.add_argument("--data", required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--tasks", type=int, default=10)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--lam", type=float, default=0.0, help="ewc")
    made.add_argument("--memory", type=int, default=2000, help="replay: examples in all")
    made.add_argument("--memory-per-task", type=int, default=256, help="gem")
    made.add_argument("--margin", type=float, default=0.5, help="gem")
    args = made.parse_args()
    torch.set_num_threads(1)
    mend_torchvision()
    found = run(args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "result.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
