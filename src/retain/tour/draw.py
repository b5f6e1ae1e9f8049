"""Small panels of SVG: axes, lines, arrows, a heat map. Colours are the page's variables, dark or light."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import escape
from numpy.typing import NDArray
from PIL import Image

from retain.embed import data_uri

Array = NDArray[np.float64]
Point = tuple[float, float]

COLOURS = {  # each on light and on dark paper; the strong ones reach 4.5 : 1 on either
    "paper": ("#ffffff", "#15181c"),
    "ink": ("#1b1f24", "#e6e8eb"),
    "soft": ("#5b616b", "#a2a9b3"),
    "rule": ("#dfe3e8", "#333941"),
    "wash": ("#f4f6f8", "#1d2126"),
    "link": ("#0b5394", "#8ab8e6"),
    "blue": ("#005f96", "#6cb8f0"),
    "orange": ("#ad4400", "#ff9f66"),
    "purple": ("#8a4f9e", "#d3a6e6"),
    "green": ("#00694a", "#4fd1a5"),
}

Lined = tuple[str, str]
"""A colour's name, and the dashes of its line ("" for none): told apart without colour, too."""


@dataclass(frozen=True)
class Panel:
    """One drawing, as wide as a phone."""

    body: str
    width: int
    height: int
    label: str  # what it shows, in words, for those who cannot see it

    def svg(self) -> str:
        """For the page."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
            f'role="img" aria-label="{escape(self.label)}">{self.body}</svg>'
        )


def sheet(panels: Sequence[Panel], legend: Sequence[tuple[str, Lined]] = ()) -> str:
    """Panels side by side as an SVG file of its own, on light paper."""
    gap, top = 12, 28 if legend else 0
    width = sum(p.width for p in panels) + gap * (len(panels) - 1)
    height = max(p.height for p in panels) + top
    parts, x = [], 10.0
    for text, lined in legend:
        parts.append(stroke([(x, 14), (x + 22, 14)], *lined) + label(x + 28, 18, text, "ink"))
        x += 52 + 7.2 * len(text)
    x = 0
    for p in panels:
        parts.append(f'<svg x="{x:g}" y="{top}" width="{p.width}" height="{p.height}">{p.body}</svg>')
        x += p.width + gap
    said = escape("; ".join(p.label for p in panels))
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="Helvetica, Arial, sans-serif"><title>{said}</title>'
        f'<rect width="100%" height="100%" fill="var(--paper)"/>{"".join(parts)}</svg>\n'
    )
    return re.sub(r"var\(--(\w+)\)", lambda m: COLOURS[m[1]][0], drawn)


def n(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def stroke(points: Iterable[Point], colour: str, dashes: str = "", width: float = 2) -> str:
    """A line through points, in pixels."""
    d = " ".join(f"{n(x)},{n(y)}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{d}" fill="none" stroke="var(--{colour})" stroke-width="{width:g}"{dashed} '
        'stroke-linejoin="round"/>'
    )


def label(x: float, y: float, text: str, colour: str = "soft", anchor: str = "start", size: int = 12) -> str:
    """Text, in pixels."""
    return (
        f'<text x="{n(x)}" y="{n(y)}" fill="var(--{colour})" text-anchor="{anchor}" '
        f'font-size="{size}">{escape(text)}</text>'
    )


def dot(x: float, y: float, colour: str, radius: float = 4, hollow: bool = False) -> str:
    """A point with a rim of paper, in pixels."""
    inside, rim = ("paper", colour) if hollow else (colour, "paper")
    return (
        f'<circle cx="{n(x)}" cy="{n(y)}" r="{radius:g}" fill="var(--{inside})" '
        f'stroke="var(--{rim})" stroke-width="1.5"/>'
    )


def arrow(tail: Point, head: Point, colour: str, dashes: str = "", width: float = 2.5) -> str:
    """From tail to head, in pixels."""
    (x0, y0), (x1, y1) = tail, head
    length = math.hypot(x1 - x0, y1 - y0)
    if length < 1:
        return dot(x1, y1, colour, 3)
    u, v = (x1 - x0) / length, (y1 - y0) / length
    size = min(10.0, length)
    left = (x1 - size * u + 0.4 * size * v, y1 - size * v - 0.4 * size * u)
    right = (x1 - size * u - 0.4 * size * v, y1 - size * v + 0.4 * size * u)
    tip = " ".join(f"{n(x)},{n(y)}" for x, y in (head, left, right))
    neck = (x1 - 0.8 * size * u, y1 - 0.8 * size * v)
    return stroke([tail, neck], colour, dashes, width) + f'<polygon points="{tip}" fill="var(--{colour})"/>'


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high].

    >>> ticks(0, 1, 4)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass
class Frame:
    """A panel's plot, from data to pixels."""

    x: Point
    y: Point
    width: int = 340
    height: int = 250
    left: int = 44
    right: int = 10
    top: int = 28
    bottom: int = 40
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        """The pixels of a point; far outside the frame it is held at its edge."""
        (x0, x1), (y0, y1) = self.x, self.y
        u = self.left + (x - x0) / (x1 - x0) * (self.width - self.left - self.right)
        v = self.height - self.bottom - (y - y0) / (y1 - y0) * (self.height - self.top - self.bottom)
        return u, max(-1e4, min(1e4, v))

    def add(self, *parts: str) -> Frame:
        """Draw something more."""
        self.parts.extend(parts)
        return self

    def axes(self, title: str, across: str, up: str, percent: bool = False) -> Frame:
        """Grid, ticks and names."""
        for y in ticks(*self.y):
            (a, v), (b, _) = self.at(self.x[0], y), self.at(self.x[1], y)
            word = f"{100 * y:g} %" if percent else f"{y:g}"
            self.add(
                stroke([(a, v), (b, v)], "rule", width=1), label(a - 5, v + 4, word, anchor="end", size=11)
            )
        for x in ticks(*self.x):
            u, v = self.at(x, self.y[0])
            self.add(label(u, v + 15, f"{x:g}", anchor="middle", size=11))
        middle = (self.left + self.width - self.right) / 2
        self.add(label(middle, self.height - 6, across, anchor="middle"))
        return self.add(label(4, 14, title, "ink", size=13), label(self.width - 4, 14, up, anchor="end"))

    def line(self, xs: Iterable[float], ys: Iterable[float], lined: Lined, width: float = 2) -> Frame:
        """A curve."""
        points = [self.at(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        return self.add(stroke(points, lined[0], lined[1], width))

    def panel(self, said: str) -> Panel:
        """The finished drawing; what runs out of the frame is cut off."""
        return Panel("".join(self.parts), self.width, self.height, said)


def heat(losses: Array, low: float, high: float, bands: int = 12) -> str:
    """Losses [rows from the bottom, columns] as a PNG data URI: the more opaque, the higher; in bands of log loss."""
    level = (np.log(losses[::-1]) - math.log(low)) / (math.log(high) - math.log(low))
    fine = Image.fromarray(level.astype(np.float32)).resize((250, 250), Image.Resampling.BICUBIC)
    steps = np.clip(np.floor(np.asarray(fine) * bands), 0, bands - 1).astype(np.uint8)
    image = Image.fromarray(steps, "P")
    image.putpalette([0x5B, 0x7F, 0xB5] * 256)
    alphas = bytes(int(20 + 190 * i / (bands - 1)) for i in range(bands))
    return data_uri(image, transparency=alphas)
