"""A residual network of eighteen layers, written from the paper: He et al. 2016, arXiv:1512.03385."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import relu

SMALL = 64  # pixels: images with a shorter side are not shrunk before the first block


class Block(nn.Module):
    """relu(F(x) + x), F two 3x3 convolutions with BatchNorm (equations 1 and 2, figure 2).

    Where the width or the resolution changes, x goes through a 1x1 convolution of the same stride
    (option B of section 3.3).
    """

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, width_in, h, w] -> [N, width, h / stride, w / stride], rounded up."""
        out = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18: [N, c, h, w] -> [N, classes] (table 1 of the paper, column "18-layer").

    Images with a side under 64 pixels begin with one 3x3 convolution of stride 1, as the paper has it for
    CIFAR-10 (section 4.2); others with a 7x7 convolution and a max-pool, each of stride 2. Weights are drawn
    as in He et al. 2015 (arXiv:1502.01852, equation 10): N(0, 2 / fan_out) for convolutions.

    Args:
        shape: [c, h, w] of an image.
        classes: outputs.
        width: channels of the first of the four stages, of which each has twice those of the one before; the
            paper's is 64.

    Raises:
        ValueError: the shape is not that of an image, or the width is under 1.

    >>> sum(p.numel() for p in ResNet18((3, 224, 224), 1000).parameters())
    11689512
    """

    def __init__(self, shape: Sequence[int], classes: int, width: int = 64):
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"the ResNet reads images [channels, height, width], got {tuple(shape)}")
        if width < 1:
            raise ValueError(f"ResNet18's width must be >= 1, got {width}")
        small = min(shape[1:]) < SMALL
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
            if small
            else nn.Conv2d(shape[0], width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1),
        )
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        blocks: list[nn.Module] = []
        for stage, (i, o) in enumerate(pairwise(widths)):
            blocks += [Block(i, o, 1 if stage == 0 else 2), Block(o, o, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes]."""
        out: Tensor = self.head(self.pool(self.blocks(self.stem(x))))
        return out
