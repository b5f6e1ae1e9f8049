"""A report over 10 methods, 5 seeds and 20 tasks: its bytes, and the seconds until a browser shows it.

    python benchmarks/report.py
    python benchmarks/report.py --quick

The results are made up (exponential learning and forgetting, seeded), with curves, GEM's angles and a generator's
images, and go through `Result` to a file and back, as a run's do. Needs a Chromium on the PATH and Playwright; each
round opens a fresh page. Opened: from the request until the page and the figures in its first view are drawn, and
what the page's main thread computed until then, which another load on the machine does not lengthen. Complete: until
all its figures are drawn.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from measure import PAGE, Spread, machine, markdown, parser, plain, replaced, setting, tell
from retain.files import write_atomically
from retain.report import find_results, write_report
from retain.result import Curve, Result, Seconds

METHODS = {  # of what was learned, the share that each later task takes away
    "naive": 0.05, "l2": 0.02, "ewc": 0.012, "gem": 0.006, "generative-replay": 0.01, "replay": 0.008,
    "si": 0.015, "lwf": 0.03, "packnet": 0.0, "joint": 0.0,
}  # fmt: skip
TASKS, SEEDS, POINTS, STEPS = 20, 5, 20, 500  # points of the curve and steps: a task
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Opened:
    """Seconds."""

    opened: float
    thread: float
    complete: float


def accuracy(lost: float, j: int, phase: float, rng: np.random.Generator) -> float:
    """On task j at a moment: 1.5 is half through the second task."""
    if phase <= j:
        return float(np.clip(0.1 + 0.01 * rng.normal(), 0, 1))
    learned = 0.97 - 0.87 * np.exp(-9 * min(phase - j, 1))
    return float(np.clip(learned * (1 - lost) ** max(phase - j - 1, 0) + 0.003 * rng.normal(), 0, 1))


def records(method: str, tasks: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """What GEM, generative replay and methods that weigh parameters show of themselves."""
    if method == "gem":
        return [
            {
                "step": i * STEPS // 10, "task": i // 10, "cosine": rng.uniform(-0.5, 1, i // 10).tolist(),
                "multipliers": rng.uniform(0, 2, i // 10).tolist(),
            }
            for i in range(10, 10 * tasks)
        ]  # fmt: skip
    if method in ("ewc", "si", "mas", "rwalk"):
        return [
            {"step": (t + 1) * STEPS, "task": t, "importance": {
                f"layers.{k}": float(rng.uniform(1e-5, 1e-2)) for k in (1, 3, 5)}}
            for t in range(tasks)
        ]  # fmt: skip
    if method == "generative-replay":
        images = [rng.integers(0, 256, (40, 1, 28, 28), dtype=np.uint8) for _ in range(tasks)]
        return [
            {"step": (t + 1) * STEPS, "task": t, "samples": {
                "shape": list(x.shape), "uint8": base64.b64encode(x.tobytes()).decode()}}
            for t, x in enumerate(images)
        ]  # fmt: skip
    return []


def result(method: str, seed: int, tasks: int) -> Result:
    """One run, the same for the same arguments."""
    rng = np.random.default_rng([seed, *method.encode()])
    at = [round(i * STEPS / POINTS) for i in range(1, tasks * POINTS + 1)]
    lost = METHODS[method]
    return Result(
        stream={"name": "permuted", "data": "mnist", "tasks": tasks, "seed": seed},
        method={"name": method},
        seed=seed,
        tasks=[f"permutation {j + 1}" for j in range(tasks)],
        accuracy=[[accuracy(lost, j, i, rng) for j in range(tasks)] for i in range(tasks + 1)],
        curve=Curve(at, [[accuracy(lost, j, s / STEPS, rng) for s in at] for j in range(tasks)]),
        seconds=Seconds(*(float(v) for v in rng.uniform(10, 60, 3)), total=200.0),
        state_bytes=int(rng.integers(0, 10**7)),
        examples_stored=int(rng.integers(0, 5000)),
        config={"hidden": [256, 256], "lr": 0.1, "seed": seed},
        versions={"retain": "made up"},
        boundaries=[(t + 1) * STEPS for t in range(tasks)],
        diagnostics={"records": records(method, tasks, rng)},
    )


def build(folder: Path, tasks: int = TASKS, seeds: int = SEEDS) -> Path:
    """The results, saved, found and reported."""
    for method in METHODS:
        for seed in range(seeds):
            result(method, seed, tasks).save(folder / f"{method}-{seed}" / "result.json")
    write_report(find_results(folder), folder / "report.html")
    return folder / "report.html"


def visit(browser: Any, page: Path) -> Opened:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    devtools = context.new_cdp_session(tab)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    start = time.perf_counter()
    tab.goto(page.as_uri())
    tab.wait_for_function("document.documentElement.dataset.drawn", timeout=60_000)
    opened = time.perf_counter() - start
    metrics = {m["name"]: m["value"] for m in devtools.send("Performance.getMetrics")["metrics"]}
    tab.wait_for_function("document.documentElement.dataset.complete", timeout=60_000)
    found = Opened(opened, metrics["TaskDuration"], time.perf_counter() - start)
    context.close()
    tell(f"opened {found.opened:.2f} s ({found.thread:.2f} s computed), complete {found.complete:.2f} s")
    return found


def main() -> None:
    made = parser(__doc__, rounds=7)
    args = made.parse_args()  # no core to bind to: a browser is several processes
    tasks, seeds = (5, 2) if args.quick else (TASKS, SEEDS)
    chromium = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if chromium is None:
        made.error(f"no {', '.join(CHROMIUM)} on the PATH")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        start = time.perf_counter()
        page = build(Path(folder), tasks, seeds)
        built, size = time.perf_counter() - start, page.stat().st_size
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        found = [visit(browser, page) for _ in range(args.rounds)]
        browser.close()
    here = machine()
    spread = {name: Spread.of([getattr(f, name) for f in found]) for name in ("opened", "thread", "complete")}
    what = f"{len(METHODS)} methods, {seeds} seeds, {tasks} tasks"
    head = ("report over", "megabytes", "opened, s", "of that computed, s", "complete, s", "made in, s")
    row = [what, f"{size / 1e6:.2f}", *(s.text() for s in spread.values()), f"{built:.1f}"]
    text = (
        f"{markdown(head, [row])}\n\nMedian (least - greatest) of {args.rounds} openings. {setting(here)}.\n"
    )
    data = {"name": "report", "machine": here, "bytes": size, "made": built, "visits": found}
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out / "report.json", json.dumps(data, indent=1, default=plain).encode())
    write_atomically(args.out / "report.md", text.encode())
    if args.docs:
        write_atomically(PAGE, replaced(PAGE.read_text(encoding="utf-8"), "report", text).encode())
    print(f"\n{text}")


if __name__ == "__main__":
    main()
