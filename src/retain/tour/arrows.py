"""GEM's vectors as arrows, with their real angles. Each points where its task's loss falls: minus a gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retain.lecture import Moment, Turned
from retain.tour.draw import Panel, Point, arrow, dot, label, n, stroke

Array = NDArray[np.float64]
Words = Mapping[str, str]

WIDE, HIGH = 340, 320
G, NEW, PAST = "orange", "green", "blue"
TURN, LIFT = math.radians(52), math.radians(22)  # from where the space is looked at


def in_plane(m: Moment, turned: Turned, words: Words) -> Panel:
    """One past task: g, g_1 and g' in the plane of g and g_1; shaded: where task 1's loss would rise."""
    reach = max(float(np.linalg.norm(m.g)), float(np.linalg.norm(turned.g)))
    x0, y0 = WIDE * 0.36, HIGH * 0.86
    scale = min((WIDE - x0 - 24), (y0 - 34)) / reach

    def at(v: Array) -> Point:
        return x0 + scale * float(v[0]), y0 - scale * float(v[1])

    parts = [
        f'<rect x="0" y="24" width="{n(x0)}" height="{HIGH - 24}" fill="var(--rule)" fill-opacity="0.6"/>'
    ]
    parts.append(stroke([(x0, 24), (x0, HIGH)], "soft", "3 3", 1))
    parts.append(label(4, 14, words["in_plane"], "ink", size=13))
    past = m.past[0] / np.linalg.norm(m.past[0]) * reach * 0.9
    for v, name, colour, dashes in ((past, "g1", PAST, "6 4"), (m.g, "g", G, ""), (turned.g, "g′", NEW, "")):
        parts.append(arrow((x0, y0), at(v), colour, dashes))
        x, y = at(v)
        side = -18 if name == "g" else 8
        parts.append(label(x + side, y + (14 if name == "g1" else 4), name, colour, size=15))
    return Panel("".join(parts), WIDE, HIGH, _said(m, turned, words))


def in_space(m: Moment, turned: Turned, words: Words) -> Panel:
    """Two past tasks: the space of g, g_1 and g_2 in parallel projection; the floor is the plane of g_1, g_2."""
    reach = max(float(np.linalg.norm(m.g)), float(np.linalg.norm(turned.g)))
    x0, y0, scale = WIDE * 0.45, HIGH * 0.72, (HIGH * 0.6) / reach

    def at(v: Array) -> Point:
        across = -math.sin(TURN) * v[0] + math.cos(TURN) * v[1]
        deep = math.cos(TURN) * v[0] + math.sin(TURN) * v[1]
        return x0 - scale * across, y0 - scale * (math.cos(LIFT) * v[2] - math.sin(LIFT) * deep)

    corners = [(0.75 * reach * a, 0.75 * reach * b, 0.0) for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    floor = " ".join(f"{n(x)},{n(y)}" for x, y in (at(np.array(c)) for c in corners))
    parts = [f'<polygon points="{floor}" fill="var(--wash)" stroke="var(--rule)"/>']
    parts.append(label(4, 14, words["in_space"], "ink", size=13))
    for k, past in enumerate(m.past):
        v = past / np.linalg.norm(past) * 0.7 * reach
        x, y = at(v)
        parts += [arrow((x0, y0), (x, y), PAST, "6 4"), label(x + 5, y + 14, f"g{k + 1}", PAST, size=15)]
    for v, name, colour in ((m.g, "g", G), (turned.g, "g′", NEW)):
        (x, y), foot = at(v), at(v * np.array([1, 1, 0]))
        parts += [stroke([(x, y), foot], colour, "1 3", 1.2), dot(*foot, colour, 3)]
        side = -16 if name == "g" else 9
        parts += [arrow((x0, y0), (x, y), colour), label(x + side, y + 6, name, colour, size=15)]
    return Panel("".join(parts), WIDE, HIGH, _said(m, turned, words))


def from_above(m: Moment, turned: Turned, words: Words) -> Panel:
    """What of g and g' lies in the plane of g_1 and g_2, enlarged; plain: where neither task's loss rises."""
    flat = [v[:2] for v in (m.g, turned.g)]
    reach = max(float(np.linalg.norm(v)) for v in flat) or 1.0
    x0, y0, scale = WIDE / 2, HIGH / 2 + 12, (HIGH / 2 - 40) / reach
    far = 4 * WIDE

    def at(v: Array) -> Point:
        return x0 + scale * float(v[0]), y0 - scale * float(v[1])

    parts = [_cone(m.past[:, :2], (x0, y0), far), f'<rect width="{WIDE}" height="24" fill="var(--paper)"/>']
    parts.append(label(4, 14, words["from_above"], "ink", size=13))
    for k, past in enumerate(m.past):
        v = past[:2] / np.linalg.norm(past[:2])
        length = HIGH / 2 - 36
        x, y = x0 + length * v[0], y0 - length * v[1]
        parts += [arrow((x0, y0), (x, y), PAST, "6 4"), label(x + 4, y + 15, f"g{k + 1}", PAST, size=15)]
    for v, name, colour in ((flat[0], "g", G), (flat[1], "g′", NEW)):
        x, y = at(v)
        u, w = (
            (x - x0, y - y0) if math.hypot(x - x0, y - y0) > 1 else (-1.0, -1.0)
        )  # the label goes on beyond
        beyond = 15 / math.hypot(u, w)
        tip = (x + beyond * u, y + beyond * w + 5)
        parts += [arrow((x0, y0), (x, y), colour), label(*tip, name, colour, "middle", 15)]
    parts.append(dot(x0, y0, "ink", 3))
    return Panel("".join(parts), WIDE, HIGH, _said(m, turned, words))


def _cone(past: Array, centre: Point, far: float) -> str:
    """Everything shaded but the directions with no negative product with any row of past [2, 2]."""
    (x0, y0), edges = centre, []
    for mine, other in ((past[0], past[1]), (past[1], past[0])):
        for sign in (1, -1):
            along = sign * np.array([-mine[1], mine[0]]) / np.linalg.norm(mine)
            if along @ other >= 0:
                edges.append((x0 + far * along[0], y0 - far * along[1]))
    middle = past / np.linalg.norm(past, axis=1, keepdims=True)
    tip = middle.sum(0)
    tip = tip / max(float(np.linalg.norm(tip)), 1e-12)
    corners = [centre, edges[0], (x0 + far * tip[0], y0 - far * tip[1]), edges[1]]
    inside = " ".join(f"{n(x)},{n(y)}" for x, y in corners)
    return (
        f'<rect x="0" y="24" width="{WIDE}" height="{HIGH - 24}" fill="var(--rule)" fill-opacity="0.6"/>'
        f'<polygon points="{inside}" fill="var(--paper)" stroke="var(--soft)" stroke-dasharray="3 3"/>'
    )


def _said(m: Moment, turned: Turned, words: Words) -> str:
    before, after = (", ".join(f"{d:.1f}" for d in v) for v in (m.degrees, turned.degrees))
    return words["gem_said"].format(before=before, after=after)
