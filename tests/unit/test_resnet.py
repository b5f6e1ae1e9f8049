"""ResNet-18: the paper's numbers, and the network under methods that look inside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from retain import EWC, Learner, Optim, Replay
from retain.examples import Examples
from retain.method import Method
from retain.models import ResNet18
from retain.types import Task


def test_the_standard_network_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = ResNet18((3, 224, 224), 1000)
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # torchvision's resnet18, too
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sum(m.kernel_size != (1, 1) if isinstance(m, nn.Conv2d) else True for m in layers) == 18
    assert not any(getattr(m, "inplace", False) for m in model.modules())


@pytest.mark.parametrize(
    ("shape", "before_pool"),  # table 1: 224 px end as 7x7; CIFAR's stem keeps the resolution
    [
        ((3, 224, 224), (7, 7)),
        ((3, 64, 64), (2, 2)),
        ((3, 32, 32), (4, 4)),
        ((1, 28, 28), (4, 4)),
        ((2, 5, 90), (1, 12)),
    ],
)
def test_the_stages_shrink_the_image_as_in_the_paper(
    shape: tuple[int, ...], before_pool: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    model = ResNet18(shape, 7, width=4).eval()
    x = torch.rand(2, *shape)
    assert model.blocks(model.stem(x)).shape == (2, 32, *before_pool)
    assert model(x).shape == (2, 7)


def test_a_block_is_the_sum_of_its_two_ways() -> None:
    torch.manual_seed(0)
    block: Any = ResNet18((3, 8, 8), 2, width=4).blocks[2].eval()
    x = torch.randn(3, 4, 8, 8)
    inner = block.bn2(block.conv2(block.bn1(block.conv1(x)).clamp_min(0)))
    way = block.shortcut[1](block.shortcut[0](x))
    torch.testing.assert_close(block(x), (inner + way).clamp_min(0))
    assert isinstance(ResNet18((3, 8, 8), 2, width=4).blocks[0].shortcut, nn.Identity)


def test_convolutions_are_drawn_with_the_variance_of_he_2015() -> None:
    torch.manual_seed(0)
    conv: Any = ResNet18((3, 8, 8), 2).blocks[3].conv1  # 128 x 128 x 3 x 3
    assert conv.weight.var().item() == pytest.approx(2 / (128 * 9), rel=0.02)


@pytest.mark.parametrize("shape", [(28, 28), (784,), (1, 0, 5)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the ResNet reads images"):
        ResNet18(shape, 10)


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be >= 1, got 0"):
        ResNet18((3, 8, 8), 10, width=0)


def _tasks() -> list[Task]:
    rng = torch.Generator().manual_seed(0)
    tasks = []
    for t in range(2):
        x = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8, generator=rng)
        y = torch.tensor([2 * t, 2 * t + 1] * 4)
        tasks.append(Task(t, f"task {t}", Examples(x, y), None, None, (2 * t, 2 * t + 1)))
    return tasks


@pytest.mark.parametrize("method", [EWC(lam=10), Replay(memory=8)], ids=["ewc", "replay"])
def test_methods_that_look_inside_learn_with_it(method: Method) -> None:
    torch.manual_seed(0)
    model = ResNet18((1, 8, 8), 4, width=4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    learner = Learner(model, method, Optim("sgd", lr=0.01), scenario="class", classes="seen")
    for task in _tasks():
        learner.begin_task(task)
        loss = learner.observe(*task.train.batch(torch.arange(8)))
        learner.end_task()
        assert loss.isfinite()
    after = model.state_dict()
    assert all(not after[k].equal(before[k]) for k in ("stem.0.weight", "head.weight", "stem.1.running_mean"))
    x = _tasks()[0].train.batch(torch.arange(8))[0]
    assert learner.predict(x).isfinite().all()


def test_features_and_head_are_the_logits_and_every_layer_is_traced() -> None:
    torch.manual_seed(0)
    model = ResNet18((1, 8, 8), 4, width=4)
    learner = Learner(model, Replay(memory=8))
    task = _tasks()[0]
    problem = learner.start(task.train)
    x, y = task.train.batch(torch.arange(8))
    with torch.no_grad():
        features = problem.features(learner.params, x)
        logits = problem.logits(learner.params, x, y)
        assert features.shape == (8, 32)
        torch.testing.assert_close(problem.head(learner.params, features), logits)
        torch.testing.assert_close(linear(features, model.head.weight, model.head.bias), logits)
    traced = problem.trace(learner.params, x, y)[1]
    assert len(traced) == 21  # 18 layers and three 1x1 shortcuts
    assert learner.binding.in_place is False  # so tracing makes no copies
