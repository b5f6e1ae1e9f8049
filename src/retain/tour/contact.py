"""Generated digits as a contact sheet, and an accuracy matrix as a drawing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retain.embed import data_uri
from retain.lecture import Cells
from retain.tour.draw import Panel, label

ACROSS, SIDE = 6, 36  # digits in a row, and how large each is shown


def contact(images: NDArray[np.uint8], task: str, words: Mapping[str, str]) -> Panel:
    """Images [n, h, w], six in a row."""
    count, h, w = images.shape
    down = -(-count // ACROSS)
    grid = np.zeros((down * ACROSS, h + 1, w + 1), np.uint8)
    grid[:count, :h, :w] = images
    grid = grid.reshape(down, ACROSS, h + 1, w + 1).transpose(0, 2, 1, 3).reshape(down * (h + 1), -1)
    uri = data_uri(Image.fromarray(grid))
    width, height = ACROSS * SIDE, down * SIDE
    body = label(0, 14, words["after"].format(task), "ink", size=13)
    body += f'<image x="0" y="22" width="{width}" height="{height}" preserveAspectRatio="none" href="{uri}"/>'
    return Panel(body, width, height + 22, words["dream_said"].format(n=count, task=task))


def matrix(c: Cells, title: str, words: Mapping[str, str]) -> Panel:
    """The accuracy matrix with its untrained row, in percent; the diagonal outlined."""
    side, left, top = 56, 96, 52
    parts = [label(0, 14, f"{title}: {words['matrix']}", "ink", size=13)]
    rows = [words["untrained"], *(words["after"].format(t) for t in c.tasks)]
    for j, task in enumerate(c.tasks):
        parts.append(label(left + (j + 0.5) * side, top - 10, task, anchor="middle"))
    for i, (name, row) in enumerate(zip(rows, c.accuracy, strict=True)):
        parts.append(label(left - 8, top + (i + 0.5) * side + 4, name, anchor="end"))
        for j, value in enumerate(row):
            x, y = left + j * side, top + i * side
            edge = 'stroke="var(--ink)" stroke-width="2"' if i == j + 1 else 'stroke="var(--rule)"'
            parts.append(
                f'<rect x="{x + 2}" y="{y + 2}" width="{side - 4}" height="{side - 4}" fill="var(--wash)" {edge}/>'
            )
            parts.append(label(x + side / 2, y + side / 2 + 5, f"{100 * value:.1f}", "ink", "middle", 14))
    said = "; ".join(
        f"{name}: {', '.join(f'{100 * v:.1f}' for v in row)}"
        for name, row in zip(rows, c.accuracy, strict=True)
    )
    return Panel("".join(parts), left + side * len(c.tasks), top + side * len(rows), f"{title}: {said}")
