"""What is seen while runs go: a live board on a terminal, else one plain line a task. On stderr."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from retain.compare import Failure
from retain.result import Result
from retain.run import Progress

FEW = 10  # tasks whose accuracies are all shown
LAST = 3  # of more, those that are
GAP = 2  # spaces between columns
SHORT = 12  # characters to which a name and a row of accuracies may be cut
SHORTEST = 5  # and a name where nothing else is left to give way


class Watcher(Protocol):
    """What is told of runs by name; a context that holds while they go."""

    def tell(self, name: str, p: Progress) -> None:
        """A run's progress."""

    def done(self, name: str, outcome: Result | Failure) -> None:
        """A run's end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def watcher(runs: int, quiet: bool) -> Watcher:
    """The one that fits: silent, a board on a terminal, or plain lines."""
    if quiet:
        return Silent()
    console = Console(stderr=True, highlight=False)
    return Board(console, runs) if console.is_terminal else Lines(console, runs)


class Silent:
    """Says nothing."""

    def tell(self, name: str, p: Progress) -> None:
        """A run's progress."""

    def done(self, name: str, outcome: Result | Failure) -> None:
        """A run's end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Lines(Silent):
    """A line for each task learned, and one for each run that begins or ends."""

    def __init__(self, console: Console, runs: int):
        self.console, self.runs = console, runs
        self.ended: set[str] = set()  # whose last news may still be on its way
        self.last: dict[str, Progress] = {}

    def say(self, text: str) -> None:
        """One line, however long."""
        self.console.print(Text(text), soft_wrap=True)

    def tell(self, name: str, p: Progress) -> None:
        """Once the next task has begun, the accuracies after this one are known."""
        if name in self.ended:
            return
        before = self.last.get(name)
        if before is None:
            self.say(f"{name}: begun: {row(p.accuracy)}")
        elif p.task > before.task:
            now = row(p.accuracy, p.task)
            self.say(f"{name}: learned task {p.task} of {p.tasks}: {now} ({p.seconds:.1f} s)")
        self.last[name] = p

    def done(self, name: str, outcome: Result | Failure) -> None:
        """How it ended."""
        self.ended.add(name)
        which = f" [{len(self.ended)} of {self.runs}]" if self.runs > 1 else ""
        self.say(f"{name}: {ending(outcome)}{which}")


class Seen(NamedTuple):
    """When a run was first heard of, where it stood then, and where it stands now."""

    since: float
    first: Progress
    now: Progress


class Board(Lines):
    """A row for each run under way, drawn anew four times a second; gone when all is done."""

    def __init__(self, console: Console, runs: int):
        super().__init__(console, runs)
        self.seen: dict[str, Seen] = {}
        self.began = time.monotonic()
        self.live = Live(get_renderable=self.draw, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def tell(self, name: str, p: Progress) -> None:
        """Its row shows this from now on."""
        if name in self.ended:
            return
        before = self.seen.get(name)
        self.seen[name] = before._replace(now=p) if before else Seen(time.monotonic(), p, p)

    def done(self, name: str, outcome: Result | Failure) -> None:
        """The row goes; a line stays."""
        super().done(name, outcome)
        self.seen.pop(name, None)

    def draw(self) -> Table:
        """The rows, and where all of them together stand."""
        now = time.monotonic()
        rows = [
            (
                name, f"task {s.now.task + 1}/{s.now.tasks}", f"step {s.now.step}/{s.now.steps}",
                left(s, now), row(s.now.accuracy, s.now.task + 1),
            )
            for name, s in list(self.seen.items())
        ]  # fmt: skip
        if self.runs > 1:
            rows.append((f"{len(self.ended)} of {self.runs} done", "", "", clock(now - self.began), ""))
        widths = fitting(rows, self.console.width)
        grid = Table.grid(padding=(0, GAP))
        for k, width in widths.items():
            grid.add_column(style="bold" if k == 0 else "", no_wrap=True, overflow="ellipsis", width=width)
        for cells in rows:
            grid.add_row(*(Text(cells[k]) for k in widths))
        return grid


def fitting(rows: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """The columns that a terminal of that width has room for, and theirs.

    From 15 characters on the first column and the last one alone are cut.

    Accuracies go first, then steps, then the time.

    >>> rows = [("ewc-0", "task 2/3", "step 9/469", "0:27 left", "95.2 91.0 10.0 %")]
    >>> fitting(rows, 80)
    {0: 5, 1: 8, 2: 10, 3: 9, 4: 16}
    >>> fitting(rows, 54), fitting(rows, 30), fitting(rows, 12)
    ({0: 5, 1: 8, 2: 10, 3: 9, 4: 14}, {0: 5, 1: 8, 3: 9}, {0: 5, 1: 8})
    """
    needs = {k: max((cell_len(cells[k]) for cells in rows), default=0) for k in range(5)}
    least = {k: min(n, SHORT) if k in (0, 4) else n for k, n in needs.items()}
    for k in (4, 2, 3):
        if sum(least[i] + GAP for i in needs) - GAP > width:
            del needs[k]
    if 4 not in needs:
        least[0] = min(least[0], SHORTEST)
    for k in needs:  # the name first: it gives way to accuracies
        over = sum(n + GAP for n in needs.values()) - GAP - width
        needs[k] = max(needs[k] - max(over, 0), least[k])
    return needs


def left(s: Seen, now: float) -> str:
    """The time left, if the tasks to come are as long as this one and go as quickly as what was seen."""
    total, p = s.first, s.now
    steps = (p.task - total.task) * p.steps + p.step - total.step
    to_go = p.steps - p.step + (p.tasks - p.task - 1) * p.steps
    return f"{clock((now - s.since) * to_go / steps)} left" if steps > 0 else ""


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(75.2)
    '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def percents(accuracy: Sequence[float]) -> str:
    """Accuracies for the eye.

    >>> percents([0.971, 0.1])
    '97.1 10.0 %'
    """
    return " ".join(f"{100 * a:.1f}" for a in accuracy) + " %"


def row(accuracy: Sequence[float], begun: int | None = None) -> str:
    """The accuracies on all tasks; of many, on those begun so far: their mean, and the last ones.

    >>> row([0.9, 0.8, 0.1], 2), row([0.9, 0.7, 0.8, 0.8] + [0.1] * 10, 4)
    ('90.0 80.0 10.0 %', 'mean 80.0 %, last 3: 70.0 80.0 80.0 %')
    """
    if len(accuracy) <= FEW:
        return percents(accuracy)
    seen = accuracy[:begun]
    if len(seen) <= LAST:
        return percents(seen)
    return f"mean {100 * sum(seen) / len(seen):.1f} %, last {LAST}: {percents(seen[-LAST:])}"


def ending(outcome: Result | Failure) -> str:
    """How a run ended, in a few words."""
    if isinstance(outcome, Failure):
        return f"failed: {' '.join(outcome.reason.split())}"
    last = outcome.accuracy[-1]
    now = percents(last) if len(last) <= FEW else f"last {LAST}: {percents(last[-LAST:])}"
    return f"done in {outcome.seconds.total:.1f} s: {now}, ACC {100 * outcome.acc:.1f} %"
