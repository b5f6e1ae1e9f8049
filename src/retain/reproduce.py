"""Published values and the runs that must reach them: recipes in, a table out.

A recipe is a file in `recipes/`. `[settings]` holds what its runs share and `[runs.NAME]` what is one
run's own; together they are a configuration as `Experiment.from_config` reads it. `[rows.NAME]` says
what is measured of which run, what was published, and the band in which the mean over seeds must lie.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from retain.experiment import Experiment, from_plain
from retain.result import Result
from retain.sitting import versions
from retain.statistics import Interval, point, t_interval

SCHEMA = 1  # of table.json
SEEDS = 3

# In percent or points; j is the task, from 0.
MEASURES: dict[str, Callable[[Result, int], float | None]] = {
    "acc": lambda r, j: r.acc,
    "bwt": lambda r, j: r.bwt,
    "fwt": lambda r, j: r.fwt,
    "final": lambda r, j: r.accuracy[-1][j],  # accuracy on a task at the end
    "before": lambda r, j: r.accuracy[j][j],  # right before it is learned
    "lost": lambda r, j: r.accuracy[j + 1][j] - r.accuracy[-1][j],  # from right after it to the end
}
OF_A_TASK = ("final", "before", "lost")

MARKS = {
    "S": "read in the authors' own repository or lecture",
    "T": "read in a third party's transcription of the paper's table",
    "R": "recalled and cross-checked, not read in a primary source",
}


@dataclass(frozen=True)
class Run:
    """One configuration, run with several seeds."""

    key: str  # FILE/NAME
    config: Mapping[str, Any]
    seconds: float  # about; orders the runs, longest first

    def experiment(self, seed: int) -> Experiment:
        """With this seed.

        Raises:
            ValueError: names the recipe and what is wrong with it.
        """
        try:
            return Experiment.from_config({**self.config, "seed": seed, "curve_every": 0})
        except ValueError as e:
            raise ValueError(f"recipe {self.key}: {e}") from e


@dataclass(frozen=True)
class Said:
    """A table [rows.NAME] of a recipe."""

    title: str
    run: str
    measure: str
    mark: Literal["S", "T", "R"]
    source: str = ""  # where it was published, if not where the file's `source` says
    published: float | None = None  # None: the source prints no number
    spread: float | None = None  # what it prints behind +-
    spread_kind: Literal["sd", "sem"] = "sd"
    band: tuple[float, ...] = ()  # where the mean must lie: two ends, inf where open; none: no band
    task: int | None = None  # from 1, for a measure of one task
    minus: str | None = None  # measured of this run too, and taken away seed by seed
    times: float = 1.0  # that many times
    seeds: int = SEEDS
    short: int = 0  # seeds in the subset that takes less than three minutes; 0: not in it
    note: str = ""  # where the recipe departs from the paper's

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {self.measure!r}")
        if (self.task is not None) != (self.measure in OF_A_TASK) or (
            self.task is not None and self.task < 1
        ):
            raise ValueError(f"task: a number from 1 for {', '.join(OF_A_TASK)}, and for nothing else")
        if self.seeds < 1:
            raise ValueError(f"seeds must be >= 1, got {self.seeds}")
        if self.band and not (len(self.band) == 2 and self.band[0] <= self.band[1]):
            raise ValueError(f"band must be [low, high], got {list(self.band)}")


@dataclass(frozen=True)
class Row:
    """One published value and how it is measured here."""

    id: str  # FILE/NAME
    section: int
    group: str  # the file's title
    said: Said
    source: str
    run: Run
    minus: Run | None

    @property
    def runs(self) -> list[Run]:
        """All that must be run for it."""
        return [self.run] if self.minus is None else [self.run, self.minus]

    def value(self, run: Result, minus: Result | None = None) -> float:
        """In percent or points.

        Raises:
            ValueError: the stream has not enough tasks for the measure.
        """
        measured = self._of(run)
        return measured if minus is None else measured - self.said.times * self._of(minus)

    def _of(self, r: Result) -> float:
        j = (self.said.task or 1) - 1
        found = MEASURES[self.said.measure](r, j) if j < len(r.tasks) else None
        if found is None:
            raise ValueError(f"recipe {self.id}: {self.said.measure} needs more tasks than {len(r.tasks)}")
        return 100 * found


@cache
def recipes() -> tuple[Row, ...]:
    """Every row of the package, by section, then as the files have them."""
    return load(files("retain") / "recipes")


def short(rows: Iterable[Row]) -> list[Row]:
    """Those of the subset that takes less than three minutes, with fewer seeds."""
    return [replace(row, said=replace(row.said, seeds=row.said.short)) for row in rows if row.said.short]


def load(folder: Traversable) -> tuple[Row, ...]:
    """The rows of the .toml files in a folder.

    Raises:
        ValueError: names the file and what is wrong in it.
    """
    found: list[Row] = []
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            try:
                found += _read(file.name.removesuffix(".toml"), tomllib.loads(file.read_text("utf-8")))
            except (ValueError, TypeError) as e:
                raise ValueError(f"recipes/{file.name}: {e}") from e
    return tuple(sorted(found, key=lambda row: row.section))


@dataclass(frozen=True)
class File:
    """A recipe file, before its runs and rows are put together."""

    section: int
    title: str
    source: str
    settings: dict[str, Any]
    seconds: dict[str, Any]
    runs: dict[str, Any]
    rows: dict[str, Any]


def _read(name: str, data: dict[str, Any]) -> Iterable[Row]:
    if missing := [f.name for f in fields(File) if f.name not in data]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    file: File = File(**data)
    if set(file.seconds) != set(file.runs):
        raise ValueError("[seconds] must name every run, and no other")
    runs = {
        run: Run(f"{name}/{run}", {**file.settings, **own}, file.seconds[run])
        for run, own in file.runs.items()
    }
    for key, table in file.rows.items():
        try:
            said: Said = from_plain(Said, table)
            run, minus = runs[said.run], runs[said.minus] if said.minus else None
        except KeyError as e:
            raise ValueError(f"rows.{key}: no run is called {e}; there are {', '.join(runs)}") from e
        except (ValueError, TypeError) as e:
            raise ValueError(f"rows.{key}: {e}") from e
        yield Row(f"{name}/{key}", file.section, file.title, said, said.source or file.source, run, minus)


def method_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The name and the hyper-parameters of a configuration's method."""
    said = config["method"]
    return {"name": said} if isinstance(said, str) else dict(said)


def jobs(rows: Sequence[Row], seeds: int | None = None) -> list[tuple[Run, int]]:
    """Each run and seed that the rows need, once, longest first; `seeds` overrules the rows' own."""
    needed: dict[tuple[str, int], tuple[Run, int]] = {}
    for row in rows:
        for run in row.runs:
            for seed in range(seeds or row.said.seeds):
                needed.setdefault((run.key, seed), (run, seed))
    return sorted(needed.values(), key=lambda pair: -pair[0].seconds)


@dataclass(frozen=True)
class Outcome:
    """What became of a row. Percent or points."""

    row: Row
    values: dict[int, float]  # by seed
    seconds: float  # of all its runs, one seed, on average
    missing: tuple[int, ...]  # seeds of which a run failed

    @property
    def interval(self) -> Interval | None:
        """95%, Student's t over seeds; None: every seed failed."""
        return t_interval(list(self.values.values())) if self.values else None

    @property
    def inside(self) -> bool | None:
        """Whether the mean lies in the band, no run having failed; None: there is no band."""
        if not self.row.said.band:
            return None
        low, high = self.row.said.band
        return not self.missing and self.interval is not None and low <= self.interval.mean <= high

    @property
    def misses(self) -> bool:
        """Outside its band, and its number was read in a source: that is a failure."""
        return self.inside is False and self.row.said.mark != "R"


def outcome(row: Row, results: Mapping[tuple[str, int], Result], seeds: int | None = None) -> Outcome:
    """Measure a row from its runs' results, by key and seed; those that failed are not among them."""
    wanted = range(seeds or row.said.seeds)
    whole = [s for s in wanted if all((run.key, s) in results for run in row.runs)]
    of_run = {s: [results[run.key, s] for run in row.runs] for s in whole}
    times = [sum(r.seconds.total for r in found) for found in of_run.values()]
    return Outcome(
        row,
        {s: row.value(*found) for s, found in of_run.items()},
        sum(times) / len(times) if times else 0.0,
        tuple(s for s in wanted if s not in of_run),
    )


def to_json(outcomes: Sequence[Outcome], reused: int, commit: str | None) -> dict[str, Any]:
    """The content of table.json: `inside` is null where a row has no band, an end of a band where it is open.

    Args:
        outcomes: the rows.
        reused: how many of the runs were done before this command.
        commit: the checkout that the package lies in, "+" behind it where files are changed.
    """
    return {
        "schema": SCHEMA,
        "commit": commit,
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, one thread a run",
        "runs_reused": reused,
        "rows": [_plain(o) for o in outcomes],
    }


def _plain(o: Outcome) -> dict[str, Any]:
    said, i = o.row.said, o.interval
    return {
        "id": o.row.id,
        "section": o.row.section,
        "group": o.row.group,
        "title": said.title,
        "published": said.published,
        "published_spread": said.spread,
        "published_spread_kind": said.spread_kind if said.spread is not None else None,
        "source": o.row.source,
        "mark": said.mark,
        "band": [end if math.isfinite(end) else None for end in said.band or (-math.inf, math.inf)],
        "mean": None if i is None else i.mean,
        "low": None if i is None else i.low,
        "high": None if i is None else i.high,
        "values": {str(s): v for s, v in o.values.items()},
        "missing": list(o.missing),
        "inside": o.inside,
        "seconds": o.seconds,
        "runs": [{"key": run.key, "config": dict(run.config)} for run in o.row.runs],
        "note": said.note,
    }


def published(row: Mapping[str, Any]) -> str:
    """A row of table.json: what was published, for the eye.

    >>> published({"published": 55.16, "published_spread": 1.38, "published_spread_kind": "sem"})
    '55.16 ± 1.38 s.e.m.'
    """
    if row["published"] is None:
        return "–"
    text = f"{row['published']:g}".replace("-", "−")
    if row["published_spread"] is None:
        return text
    return f"{text} ± {row['published_spread']:g}{' s.e.m.' if row['published_spread_kind'] == 'sem' else ''}"


def ours(row: Mapping[str, Any]) -> str:
    """What was reached: mean and half of the 95% interval.

    >>> ours({"mean": 82.14, "low": 81.1, "high": 83.3, "missing": []})
    '82.1 ± 1.1'
    """
    if row["mean"] is None:
        return "no run succeeded"
    text = point(row["mean"])
    if row["low"] is not None:
        half = (row["high"] - row["low"]) / 2
        text += f" ± {half:.1f}" if half >= 0.05 else f" ± {half:.2f}"
    return text + (f" ({len(row['missing'])} failed)" if row["missing"] else "")


def band(row: Mapping[str, Any]) -> str:
    """Where the mean must lie.

    >>> band({"band": [81.0, 84.5]}), band({"band": [17.0, None]}), band({"band": [None, None]})
    ('81 to 84.5', '≥ 17', '–')
    """
    low, high = (None if end is None else f"{end:g}".replace("-", "−") for end in row["band"])
    if low is None and high is None:
        return "–"
    return f"≤ {high}" if low is None else f"≥ {low}" if high is None else f"{low} to {high}"


def summary(row: Row) -> str:
    """A row before it is run: what is measured, what was published, and the band."""
    plain = _plain(Outcome(row, {}, 0.0, ()))
    text = f"{row.said.title}: {published(plain)} ({row.said.mark})"
    return text if not row.said.band else f"{text}, band {band(plain)}"


def verdict(row: Mapping[str, Any]) -> str:
    """Inside its band or not."""
    return "–" if row["inside"] is None else "inside" if row["inside"] else "OUTSIDE"


def to_markdown(table: Mapping[str, Any]) -> str:
    """The page for the docs, from the content of table.json."""
    rows = table["rows"]
    banded = [r for r in rows if r["inside"] is not None]
    v = table["versions"]
    lines = [
        "# Published values, and ours",
        "",
        f"{sum(r['inside'] for r in banded)} of {len(banded)} rows with a band lie inside it "
        f"({', '.join(_of_mark(banded, m) for m in MARKS)}). Accuracies in percent, differences in points; ours "
        "is the mean ± half of the 95% interval (Student's t over seeds), published ± as the source prints it, "
        "a standard deviation where nothing else is said. The band, set before the runs, is where the mean must "
        "lie: with three seeds the interval can be wider than it. Seconds are those of one seed, on one thread.",
        "",
        f"Written by `retain reproduce`, commit {table['commit'] or 'unknown'}, retain {v['retain']}, "
        f"torch {v['torch']}, Python {v['python']}, {table['machine']}.",
        "",
        "Marks: " + "; ".join(f"**{mark}** {what}" for mark, what in MARKS.items()) + ".",
    ]
    for section, group in dict.fromkeys((r["section"], r["group"]) for r in rows):
        mine = [r for r in rows if (r["section"], r["group"]) == (section, group)]
        lines += ["", f"## {section}. {group}", "", f"{mine[0]['source']}", ""]
        lines += ["| row | published | mark | ours | seeds | band | | s |", "| --- " * 8 + "|"]
        for r in mine:
            cells = [r["title"], published(r), r["mark"], ours(r), str(len(r["values"])), band(r)]
            lines.append("| " + " | ".join([*cells, verdict(r), f"{r['seconds']:.0f}"]) + " |")
        lines += [f"\n`{r['id'].partition('/')[2]}`: {r['note']}" for r in mine if r["note"]]
        lines += ["", f"`retain reproduce {mine[0]['id'].partition('/')[0]}`"]
    return "\n".join(lines) + "\n"


def _of_mark(banded: Sequence[Mapping[str, Any]], mark: str) -> str:
    mine = [r for r in banded if r["mark"] == mark]
    return f"{mark} {sum(r['inside'] for r in mine)} of {len(mine)}"


def commit_of(folder: Path) -> str | None:
    """The commit of the checkout that `folder` is tracked in, "+" behind it if changed; None: in none."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", ".")  # not the repository around a virtual environment
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
