"""Plain networks that know nothing of this package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected, ReLU between layers: [N, ...] -> [N, classes].

    >>> MLP((1, 28, 28), 10, hidden=(100, 100))
    MLP(
      (layers): Sequential(
        (0): Flatten(start_dim=1, end_dim=-1)
        (1): Linear(in_features=784, out_features=100, bias=True)
        (2): ReLU()
        (3): Linear(in_features=100, out_features=100, bias=True)
        (4): ReLU()
        (5): Linear(in_features=100, out_features=10, bias=True)
      )
    )
    """

    def __init__(self, shape: Sequence[int], classes: int, hidden: Sequence[int] = (256, 256)):
        super().__init__()
        widths = [math.prod(shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for i, o in pairwise(widths):
            layers += [nn.Linear(i, o), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes]."""
        out: Tensor = self.layers(x)
        return out


class CNN(nn.Module):
    """Two 3x3 convolutions with pooling, then one hidden layer: [N, c, h, w] -> [N, classes]."""

    def __init__(
        self, shape: Sequence[int], classes: int, channels: tuple[int, int] = (16, 32), hidden: int = 128
    ):
        super().__init__()
        if len(shape) != 3 or shape[1] < 4 or shape[2] < 4:
            raise ValueError(f"the CNN reads images [channels, height >= 4, width >= 4], got {tuple(shape)}")
        c, h, w = shape
        a, b = channels
        self.layers = nn.Sequential(
            nn.Conv2d(c, a, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(a, b, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(b * (h // 4) * (w // 4), hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes]."""
        out: Tensor = self.layers(x)
        return out


Init = Literal["torch", "xavier"]


def initialise(model: nn.Module, init: Init) -> nn.Module:
    """Draw the weights of linear and convolutional layers anew.

    `torch` leaves torch's own; `xavier` is U(+-sqrt(6 / (fan_in + fan_out))) with zero biases, as
    GEM's released code has it.
    """
    if init == "xavier":
        for m in model.modules():
            if isinstance(m, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(m.weight)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
    elif init != "torch":
        raise ValueError(f"init must be torch or xavier, got {init!r}")
    return model
