"""The residual network of 18 layers (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as nnf
from torch import Tensor, nn

SMALL = (
    64  # pixels: images below keep their size through the first layer, as for CIFAR (He et al., section 4.2)
)


class Block(nn.Module):
    """y = relu(F(x) + x), F two 3x3 convolutions; x is projected where its shape changes (eq. 1, 2)."""

    def __init__(self, into: int, out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        same = stride == 1 and into == out
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, h, w] -> [N, out, h / stride, w / stride]."""
        h = nnf.relu(self.norm1(self.conv1(x)))
        return nnf.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class ResNet18(nn.Module):
    """[N, c, h, w] -> [N, classes].

    >>> sum(p.numel() for p in ResNet18((3, 224, 224), 1000).parameters())
    11689512
    """

    def __init__(self, shape: Sequence[int], classes: int, width: int = 64):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 8:
            raise ValueError(f"resnet18 reads images [channels, height >= 8, width >= 8], got {tuple(shape)}")
        small = min(shape[1:]) < SMALL
        stem: list[nn.Module] = [
            nn.Conv2d(shape[0], width, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False)
        ]
        stem += [nn.BatchNorm2d(width), nn.ReLU()]
        self.stem = nn.Sequential(*stem, *([] if small else [nn.MaxPool2d(3, 2, 1)]))
        blocks: list[nn.Module] = []
        for stage in range(4):
            out = width << stage
            into = out if stage == 0 else out // 2
            blocks += [Block(into, out, 1 if stage == 0 else 2), Block(out, out, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width * 8, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes]."""
        out: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return out
