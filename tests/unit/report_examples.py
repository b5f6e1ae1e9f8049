"""Results like those of the demo, made up: exponential learning and forgetting, seeded."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import numpy as np

from retain.result import Curve, Result, Seconds

# name: (share of what was learned that each later task takes away, top accuracy, loss of top per task)
KINDS: dict[str, tuple[float, float, float]] = {
    "naive": (0.055, 0.972, 0.0),
    "l2": (0.010, 0.968, 0.045),
    "ewc": (0.006, 0.970, 0.004),
    "gem": (0.004, 0.971, 0.001),
    "generative-replay": (0.008, 0.969, 0.002),
    "replay": (0.014, 0.970, 0.001),
    "joint": (0.000, 0.980, 0.000),
}
FIELDS: dict[str, dict[str, Any]] = {
    "l2": {"lam": 0.1},
    "ewc": {"lam": 100.0, "fisher": "exact"},
    "gem": {"margin": 0.5, "memory_per_task": 256},
}


LAYERS = {"net.0": 2e-5, "net.2": 3e-4, "net.4": 8e-3}  # mean importance of one task


def trace(kind: str, j: int, phase: float, rng: np.random.Generator) -> float:
    """Accuracy on task j at a moment (1.5: half through the second task)."""
    forget, top, stiff = KINDS[kind]
    if phase <= j:
        return float(np.clip(0.1 + 0.01 * rng.normal(), 0, 1))
    learned = (top - stiff * j) - 0.87 * np.exp(-9 * min(phase - j, 1))
    lost = forget * max(phase - j - 1, 0) * 1.1
    return float(np.clip(learned - lost + 0.0015 * rng.normal(), 0, 1))


def records(kind: str, tasks: int, steps: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """What GEM, EWC and generative replay show of themselves."""
    out: list[dict[str, Any]] = []
    if kind == "gem":
        turned: dict[int, list[bool]] = {}
        for step in range(10, tasks * steps, 10):
            t = step // steps
            cos = np.clip(0.25 - 0.08 * np.arange(t) + 0.2 * rng.normal(size=t), -1, 1)
            so_far = turned.setdefault(t, [])
            so_far.append(bool((cos < 0).any()))
            share = sum(so_far) / len(so_far)  # of this task's steps up to here
            v = np.clip(-cos, 0, None) * 1.5
            seen = {"cosine": cos.tolist(), "multipliers": v.tolist(), "violations": share}
            out.append({"step": step, "task": t, **seen})
    if kind == "ewc":
        for t in range(tasks):
            held = {layer: float((t + 1) * f * rng.uniform(0.9, 1.1)) for layer, f in LAYERS.items()}
            out.append({"step": (t + 1) * steps, "task": t, "importance": held})
    if kind == "generative-replay":
        for t in range(tasks):
            y, x = np.mgrid[0:28, 0:28] - 13.5
            ring = [np.exp(-((np.hypot(x * a, y) - 6 - t) ** 2) / 5) for a in rng.uniform(0.6, 1.6, 40)]
            data = (255 * np.array(ring)).astype(np.uint8).tobytes()
            samples = {"shape": [40, 1, 28, 28], "uint8": base64.b64encode(data).decode()}
            out.append({"step": (t + 1) * steps, "task": t, "samples": samples})
    return out


def example(
    kind: str = "naive",
    seed: int = 0,
    names: tuple[str, ...] = ("A", "B", "C"),
    points: int = 100,
    steps: int = 600,
    stream: dict[str, Any] | None = None,
    **fields: Any,
) -> Result:
    """One run, the same for the same arguments; `points` of curve a task, none for 0."""
    rng = np.random.default_rng([seed, sum(map(ord, kind))])
    T = len(names)
    R = [[trace(kind, j, i, rng) for j in range(T)] for i in range(T + 1)]
    at = [round(i * steps / points) for i in range(1, T * points + 1)] if points else []
    length = [i + 1 for i in range(T)] if kind == "joint" else [1] * T  # joint learns all data so far
    ends = [int(e) * steps for e in np.cumsum(length)]
    where = np.interp(at, steps * np.arange(T + 1), [0, *ends]).astype(int).tolist()
    return Result(
        stream=stream or {"name": "permuted", "data": "mnist", "tasks": T, "samples": 60000, "seed": seed},
        method={"name": kind, **FIELDS.get(kind, {}), **fields},
        seed=seed,
        tasks=list(names),
        accuracy=R,
        curve=Curve(where, [[trace(kind, j, s / steps, rng) for s in at] for j in range(T)] if at else []),
        seconds=Seconds(3.1 + seed, 0.4, 1.3, 5.0 + seed),
        state_bytes=1_435_000 if kind == "ewc" else 0,
        examples_stored=256 * T if kind == "gem" else 0,
        config={"hidden": [256, 256], "optimizer": "sgd", "lr": 0.1, "batch_size": 128, "seed": seed},
        versions={"retain": "0.1.0", "torch": "2.13.0", "python": "3.11.2"},
        boundaries=ends,
        diagnostics={"records": records(kind, T, steps, rng)},
    )


def demo() -> list[Result]:
    """As `retain demo` leaves them: seven methods on A, B, C with two seeds; four on the noisy pair."""
    noisy = {"name": "noisy-clean", "data": "mnist", "noise": 0.6}
    pair = ("noisy", "clean")
    first = [example(k, s) for k in KINDS for s in (0, 1)]
    return first + [example(k, 0, pair, stream=noisy) for k in ("naive", "ewc", "gem", "joint")]


def confused(r: Result) -> Result:
    """The same with confusions of four classes, made up: from chance to a diagonal that fades for the first."""
    rng = np.random.default_rng(r.seed)
    tables = [rng.multinomial(50, np.full(4, 0.25), 4)]
    for i in range(1, len(r.tasks) + 1):
        wrong = rng.multinomial(3 * (len(r.tasks) - i) + 1, np.full(4, 0.25), 4)
        tables.append(wrong + np.diag(50 - wrong.sum(1)))
    return replace(r, extras={"confusions": [t.tolist() for t in tables]})
