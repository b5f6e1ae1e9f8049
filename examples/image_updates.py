"""Fashion-MNIST (or MNIST) as a practitioner has images: a folder an update, a subfolder a class.

    python examples/image_updates.py out/fashion
    python examples/image_updates.py out/digits --data mnist --per-class 300

Writes update-1 to update-5 with two new classes each, `test` with all ten, and two folders of images under the names
of other classes, as when a column slips: `slipped` of the first four classes, each under the name of the next, and
`shuffled` of all ten. docs/vault.md teaches them to a vault.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from retain.streams.sources import load

NAMES = {
    "fashion-mnist": (
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "boot",
    ),
    "mnist": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    made.add_argument("out", type=Path)
    made.add_argument("--data", choices=NAMES, default="fashion-mnist")
    made.add_argument("--per-class", type=int, default=6000, help="training images of each class")
    args = made.parse_args()
    names = NAMES[args.data]
    x, y = load(args.data, "train")
    for c in range(10):
        rows = (y == c).nonzero()[: args.per_class, 0]
        write(args.out / f"update-{c // 2 + 1}" / names[c], x, rows)
        wrong = names[int(torch.randint(10, (), generator=torch.Generator().manual_seed(c)))]
        write(args.out / "shuffled" / wrong, x, rows[: args.per_class // 5])
        if c < 4:
            write(args.out / "slipped" / names[(c + 1) % 4], x, rows[: args.per_class // 5])
    x, y = load(args.data, "test")
    for c in range(10):
        write(args.out / "test" / names[c], x, (y == c).nonzero()[: args.per_class, 0])
    print(args.out)


def write(folder: Path, x: Tensor, rows: Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in rows.tolist():
        Image.fromarray(x[i, 0].numpy()).save(folder / f"{i:05}.png", compress_level=1)


if __name__ == "__main__":
    main()
