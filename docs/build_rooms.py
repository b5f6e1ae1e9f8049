"""Draws docs/img/rooms.svg: the rooms of the package, floor above floor, from the table in docs/architecture.md.

    python docs/build_rooms.py

A test compares the committed picture with what this gives, and the table with the imports.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+) \|$", re.M)
WIDTH, LEFT, GAP, BOX, LETTER = 960, 56, 10, 26, 7.3  # in px; LETTER: of a 12 px monospace font

STYLE = """
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1a1a1a }
.floor { fill: #f3f1ec } .number { fill: #5c5a55 } .room { fill: #fff; stroke: #8a877f }
.pillar { fill: #d7e6f5; stroke: #1f5a93 } .way { stroke: #5c5a55; fill: none; stroke-width: 1.5 }
"""


class Room(NamedTuple):
    """A module or package right below retain/."""

    floor: int
    name: str
    said: str
    pillar: bool  # one of the four that everything rests on


def rooms() -> list[Room]:
    """Those of the table, as they stand in it."""
    found = []
    for floor, names, said in ROW.findall((DOCS / "architecture.md").read_text(encoding="utf-8")):
        plain = re.sub(r"[*`]", "", said)
        for name in re.findall(r"`([^`]+)`", names):
            found.append(Room(int(floor), name.removesuffix(".py").removesuffix("/"), plain, "**" in said))
    return found


def picture() -> str:
    """The picture as SVG."""
    known, parts, y = rooms(), [], 12
    for floor in range(max(room.floor for room in known), -1, -1):
        boxes, height = _floor([room for room in known if room.floor == floor], y)
        parts.append(f'<rect class="floor" x="12" y="{y}" width="{WIDTH - 24}" height="{height}" rx="6"/>')
        parts.append(f'<text class="number" x="28" y="{y + GAP + 17}">{floor}</text>')
        parts += boxes
        y += height + 8
    x = WIDTH - 30
    parts.append(f'<path class="way" d="M{x} 30 V{y - 30} m-5 -9 l5 9 l5 -9"/>')
    said = "The rooms of retain, floor above floor. Imports run only downwards."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 4}" role="img" aria-label="{said}">\n'
        f"<title>{said}</title>\n<style>{STYLE}</style>\n"
        f'<rect width="{WIDTH}" height="{y + 4}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _floor(here: list[Room], top: int) -> tuple[list[str], int]:
    """The boxes of one floor, in as many rows as they need, and its height."""
    boxes, x, y = [], LEFT, top + GAP
    for room in here:
        width = round(len(room.name) * LETTER + 20)
        if x + width > WIDTH - 50:
            x, y = LEFT, y + BOX + GAP
        kind = "pillar" if room.pillar else "room"
        boxes.append(
            f'<g><title>{escape(room.said)}</title><rect class="{kind}" x="{x}" y="{y}" width="{width}" '
            f'height="{BOX}" rx="4"/><text x="{x + 10}" y="{y + 17}">{escape(room.name)}</text></g>'
        )
        x += width + GAP
    return boxes, y + BOX + GAP - top


if __name__ == "__main__":
    (DOCS / "img/rooms.svg").write_text(picture(), encoding="utf-8")
    print(DOCS / "img/rooms.svg")
