"""Images: a folder with a subfolder a class, and what any one file or byte string decodes to.

Read are PNG, JPEG, BMP, GIF (the first picture), TIFF, WebP and PNM of 8 bits a channel, turned upright
where the file says how it was held. Grey stays grey; everything else becomes RGB, and transparency is dropped.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from retain.vault.data.cells import Column
from retain.vault.data.files import inside, opened, within_memory
from retain.vault.data.raw import Asked, Raw, made
from retain.vault.data.targets import targets_of
from retain.vault.data.words import listed
from retain.vault.errors import BadData

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm")
# Pillow reads others, too, some of which run programs
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MOST_PIXELS = 50_000_000
MOST_BYTES = 256 * 2**20  # of one file
CHUNK = 256  # images resized at a time
ORIENTATION = 0x0112  # the tag of EXIF that says how a camera was held; 1: upright
SHOWN = 5  # broken images that a message names
GREY = frozenset({"1", "L", "LA", "La"})
COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


class BadImage(ValueError):
    """One image cannot be read; the message says why, not which."""


def pixels(image: Image.Image) -> Tensor:
    """A Pillow image as uint8 [C, H, W], C = 1 for grey and 3 for everything else.

    Raises:
        BadImage: it has more than 8 bits a channel, or more pixels than are read.

    >>> pixels(Image.new("RGBA", (5, 4), (255, 0, 0, 9))).shape
    torch.Size([3, 4, 5])
    """
    if image.width * image.height > MOST_PIXELS:
        raise BadImage(f"it has {image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
    if image.mode not in GREY | COLOUR:
        raise BadImage(f"its pixels are {image.mode}, not 8 bits a channel")
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    mode = "L" if image.mode in GREY else "RGB"
    data = np.asarray(image if image.mode == mode else image.convert(mode))
    x = torch.from_numpy(data.copy())
    return x[None] if x.dim() == 2 else x.permute(2, 0, 1).contiguous()


def decoded(data: bytes) -> Tensor:
    """A file's content as uint8 [C, H, W].

    Raises:
        BadImage: says what is wrong with it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes, which are checked here
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return pixels(image)
    except BadImage:
        raise
    except Exception as e:  # a decoder may raise anything at all on a broken file
        first = str(e).splitlines()[0] if str(e) else type(e).__name__
        reason = "it is no image of a kind that is read" if "cannot identify" in first else first
        raise BadImage(reason) from None


def resized(x: Tensor, size: int) -> Tensor:
    """Images uint8 [N, C, H, W] or [C, H, W] as [..., size, size]: bilinear, antialiased, not cropped.

    >>> resized(torch.full((1, 4, 6), 7, dtype=torch.uint8), 2)
    tensor([[[7, 7],
             [7, 7]]], dtype=torch.uint8)
    """
    if x.shape[-2:] == (size, size):
        return x
    if x.dim() == 3:
        return resized(x[None], size)[0]
    out = torch.empty(*x.shape[:2], size, size, dtype=torch.uint8)
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK].float()
        out[start : start + CHUNK] = (
            interpolate(part, (size, size), mode="bilinear", antialias=True).round_().clamp_(0, 255)
        )
    return out


def gathered(files: Iterable[tuple[str, bytes]], source: str, size: int | None) -> Tensor | list[Tensor]:
    """The images of named contents: uint8 [N, C, H, W], or N of [C, H, W] where they differ.

    Raises:
        BadData: names those that cannot be read, and why; or all together would take too much memory.
    """
    found: list[Tensor] = []
    broken: list[str] = []
    total = 0
    for name, data in files:
        try:
            image = decoded(data)
        except BadImage as e:
            broken.append(f"{name} ({e})")
            continue
        if not broken:  # after that it is only looked at
            found.append(image if size is None else resized(image, size))
            total += found[-1].numel()
            within_memory(total, source, "make the images smaller (--size PIXELS), or give them in parts")
    if broken:
        more = f", and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        count = "an image" if len(broken) == 1 else f"{len(broken)} images"
        raise BadData(f"{source} has {count} that cannot be read: {', '.join(broken[:SHOWN])}{more}")
    return together(found)


def together(images: list[Tensor]) -> Tensor | list[Tensor]:
    """Images [C, H, W] as one tensor [N, C, H, W] where they are of one shape."""
    return torch.stack(images) if len({i.shape for i in images}) == 1 else images


def natural(name: str) -> tuple[list[str | int], str]:
    """A key by which names sort as people count: 2.png before 10.png.

    >>> sorted(["10.png", "2.png", "a.png"], key=natural)
    ['2.png', '10.png', 'a.png']
    """
    parts = re.split(r"([0-9]+)", name)
    return [int(p) if k % 2 else p for k, p in enumerate(parts)], name


def read_folder(folder: Path, asked: Asked) -> Raw:
    """FOLDER/CLASS/*.png, or without labels FOLDER/*.png: by class, then by file name as people count.

    Hidden files are passed over. Links are followed only where they stay in the folder.

    Raises:
        BadData: names the file, or the folder, and what is wrong with it.
    """
    loose, folders, notes = _entries(folder, folder)
    if asked.target != "class" and asked.labelled:
        raise BadData(
            f"{folder}: a folder of images gives classes; for {asked.target} use npz or a Hugging Face folder"
        )
    classes = {}
    for inner in folders:
        images, deeper, more = _entries(inner, folder)
        if deeper:
            raise BadData(f"{deeper[0]} is a folder inside of a class: images lie in {folder}/CLASS/ itself")
        classes[inner] = images
        notes += more if images else [*more, f"{inner.name} holds no image"]
    inner_images = [p for images in classes.values() for p in images]
    if asked.labelled and loose:
        raise BadData(f"{loose[0]} lies in no class: an image to learn from lies in {folder}/CLASS/")
    if asked.labelled is None and loose and inner_images:
        raise BadData(
            f"{folder} has images in classes and outside ({loose[0].name}): move these, or take them away"
        )
    if not loose and not inner_images:
        raise BadData(f"{folder} holds no image ({', '.join(SUFFIXES)}) in {folder}/CLASS/: it needs one")
    paths = loose + inner_images
    names = [p.relative_to(folder).as_posix() for p in paths]
    sha = hashlib.sha256()
    x = gathered(_contents(paths, names, sha), str(folder), asked.size)
    targets = None
    if asked.labelled is not False and inner_images and asked.target == "class":
        column = Column(None, [p.parent.name for p in inner_images])
        targets = targets_of([column], ("folder",), "class", names.__getitem__)
    return made("images", x, targets, names.__getitem__, str(folder), sha.hexdigest(), notes=notes)


def _contents(paths: list[Path], names: list[str], sha: hashlib._Hash) -> Iterator[tuple[str, bytes]]:
    for path, name in zip(paths, names, strict=True):
        try:
            with opened(path) as (f, digest):
                data = f.read(MOST_BYTES + 1)
        except BadData as e:
            raise BadData(f"{name}: {e}") from None
        if len(data) > MOST_BYTES:
            raise BadData(
                f"{name} has more than {MOST_BYTES // 2**20} MiB: an image as large as that is not read"
            )
        sha.update(f"{name}\0{digest}\n".encode(errors="surrogateescape"))
        yield name, data


def _entries(folder: Path, root: Path) -> tuple[list[Path], list[Path], list[str]]:
    """Images and folders in a folder, each in their order, and what was passed over, in words."""
    try:
        entries = sorted(
            (p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: natural(p.name)
        )
    except OSError as e:
        raise BadData(f"{folder} cannot be read: {e.strerror}") from None
    folders = [p for p in entries if inside(p, root).is_dir()]
    files = [p for p in entries if not p.is_dir()]
    images = [p for p in files if p.suffix.lower() in SUFFIXES]
    others = [p.name for p in files if p.suffix.lower() not in SUFFIXES]
    return images, folders, [f"{folder.name}: no images, so left out: {listed(others, 3)}"] if others else []
