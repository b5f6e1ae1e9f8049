"""`retain reproduce`: run published recipes and compare what comes out with what was published."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

import retain.reproduce as published
from retain.cli.errors import FAILED, WrongUse, close
from retain.cli.flags import Group, asks_for_help, help_of, parse, show
from retain.cli.folder import LEFT, claim
from retain.cli.many import Options, name_failures, run_many
from retain.cli.names import positionals
from retain.cli.output import console
from retain.compare import Failure
from retain.files import write_atomically
from retain.reproduce import Outcome, Row, Run, recipes
from retain.result import Result

HELP = """\
usage: retain reproduce [ROW ...] [flags]

Runs published recipes with several seeds and prints what was published beside what comes out here,
with its 95% interval and the band in which it must lie. retain list recipes shows every ROW; the
part of its name before the slash stands for all rows of the group. Runs that several rows share are
run once.
Writes DIR/table.json, and DIR/table.md for the docs; each run's result lies in DIR/GROUP/RUN/SEED.
Exit code 1: a run failed, or a row whose number was read in a source (mark S or T) lies outside.

examples:
  retain reproduce gem-permutations
  retain reproduce der-pmnist/derpp-500 der-pmnist/er-500 --seeds 1
  retain reproduce --short --out out/short
  retain reproduce --section 1,2,3,4,5,6 --out out/reproduce --resume"""


@dataclass(frozen=True)
class What:
    """Which rows: those that are named, those of the sections, or all; short narrows them."""

    section: tuple[int, ...] | None = None  # those of these sections, such as 3 or 4,6
    all: bool = False  # every row
    short: bool = False  # only those in the subset of three minutes, with its seeds; alone: all of that
    seeds: int | None = None  # the seeds 0 to N - 1; none: as each recipe has it, mostly 3


@dataclass(frozen=True)
class Output:
    """What becomes of the runs; their results do not depend on it."""

    out: str = "out/reproduce"  # folder for runs and tables
    workers: int = 2  # runs at a time, each a process; with --address the cluster's CPUs say how many
    on: Literal["local", "ray"] = "local"  # processes here, or a Ray cluster (pip install ray)
    address: str | None = None  # of the Ray cluster, HOST:PORT or auto; none: one is started here and ended
    resume: bool = False  # keep the results in --out that have the recipe's configuration, run the rest
    force: bool = False  # run all anew, and replace what --out holds
    quiet: bool = False  # show no progress


def command(args: list[str]) -> int:
    """Reproduce what the command line names."""
    words, flags = positionals(args)
    groups = [Group("rows", What, {}, pairs=False), Group("output", Output, {}, pairs=False)]
    if asks_for_help(flags):
        print("\n\n".join([HELP, help_of(groups)]))
        return 0
    if late := _stray(flags, groups):
        raise WrongUse(f"what is {late!r} for? Rows come first: retain reproduce ROW ... [flags]")
    given = parse("retain reproduce", flags, groups)
    what, options = What(**given["rows"]), Options(**given["output"])
    if what.seeds is not None and what.seeds < 1:
        raise WrongUse(f"--seeds must be >= 1, got {what.seeds}")
    rows = chosen(words, what)
    out = Path(str(options.out))
    jobs = published.jobs(rows, what.seeds)
    folders = [] if options.force else [out / run.key / str(seed) for run, seed in jobs]
    with claim(out, folders, options.resume, options.force):  # refuses before anything is said
        reused = _make_way(jobs, out) if options.resume else 0
    if not options.quiet:
        print(f"retain: {_estimate(jobs, options, reused)}", file=sys.stderr)
    experiments = [(f"{run.key}/{seed}", run.experiment(seed)) for run, seed in jobs]
    results, failures = run_many(experiments, out, options, "reproduce", args)
    found = _by_run(jobs, results, failures)
    outcomes = [published.outcome(row, found, what.seeds) for row in rows]
    _write(outcomes, reused, out, options.quiet)
    name_failures(failures)
    return FAILED if failures or any(o.misses for o in outcomes) else 0


def _stray(flags: Sequence[str], groups: Sequence[Group]) -> str | None:
    """The first word that is no flag and no flag's value."""
    alone = {g.spelling(f.name) for g in groups for f in g.flags if f.hint is bool}
    for before, word in pairwise(flags):
        value = before.startswith("--") and before not in alone and "=" not in before
        if not value and not word.startswith("-"):
            return word
    return None


def _estimate(jobs: Sequence[tuple[Run, int]], options: Options, reused: int) -> str:
    runs = "1 run" if len(jobs) == 1 else f"{len(jobs)} runs"
    already = f", {reused} of them done" if reused else ""
    workers = 1 if options.address else options.workers  # how many CPUs a cluster has is not known here
    minutes = round(sum(run.seconds for run, _ in jobs) / workers / 60)
    about = (
        "less than a minute"
        if minutes < 1
        else "about a minute"
        if minutes == 1
        else f"about {minutes} minutes"
    )
    return f"{runs}{already}; in all {about}{' on one CPU' if options.address else ''}"


def chosen(words: Sequence[str], what: What) -> list[Row]:
    """The rows that are meant, in the order of the recipes.

    Raises:
        WrongUse: none is named, or one that there is not; a short version that there is not.
    """
    rows = recipes()
    groups = {row.id.partition("/")[0] for row in rows}
    known = [*sorted(groups), *(row.id for row in rows)]
    for word in words:
        if word not in known:
            hint = close(word, known) or close(word, [k.partition("/")[2] for k in known])
            raise WrongUse(f"no recipe is called {word!r}{hint}; see retain list recipes")
    sections = sorted({row.section for row in rows})
    for n in what.section or ():
        if n not in sections:
            raise WrongUse(f"--section must be among {', '.join(map(str, sections))}, got {n}")
    every = what.all or (what.short and not words and not what.section)
    found = [
        row for row in rows
        if every or {row.id, row.id.partition("/")[0]} & {*words} or row.section in (what.section or ())
    ]  # fmt: skip
    if not found:
        raise WrongUse("say which rows: ROW ..., --section N, --short or --all; see retain list recipes")
    return _briefly(found, words) if what.short else found


def _briefly(rows: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """The short versions of those that have one."""
    found = published.short(rows)
    there = {name for row in found for name in (row.id, row.id.partition("/")[0])}
    if lacking := [word for word in words if word not in there]:
        raise WrongUse(f"no short version of {', '.join(lacking)}; those that have one: --short alone")
    if not found:
        raise WrongUse("no row of these sections has a short version; those that have one: --short alone")
    return found


def command_line(run: Run) -> str:
    """What does the same run with seed 0 by hand."""
    own = published.method_of(run.config)
    settings = {k: v for k, v in run.config.items() if k not in ("stream", "method")}
    words = ["retain", "run", run.config["stream"], own.pop("name")]
    for name, value in {**own, **settings}.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", show(value)]
    return shlex.join(words)


def _make_way(jobs: Sequence[tuple[Run, int]], out: Path) -> int:
    """Remove what other recipes left in these runs' folders; gives how many runs are done."""
    done = 0
    for run, seed in jobs:
        folder = out / run.key / str(seed)
        if not (folder / "result.json").exists():
            continue
        if Result.load(folder / "result.json").config == run.experiment(seed).config():
            done += 1
            continue
        print(f"retain: {folder} is of another recipe, and is run anew", file=sys.stderr)
        for name in LEFT:
            (folder / name).unlink(missing_ok=True)
    return done


def _by_run(
    jobs: Sequence[tuple[Run, int]], results: Sequence[Result], failures: Sequence[Failure]
) -> dict[tuple[str, int], Result]:
    """The results by run and seed: `results` has those of all jobs that did not fail, in their order."""
    failed = {f.job.name for f in failures}
    whole = [(run.key, seed) for run, seed in jobs if f"{run.key}/{seed}" not in failed]
    return dict(zip(whole, results, strict=True))


def _write(outcomes: Sequence[Outcome], reused: int, out: Path, quiet: bool) -> None:
    """table.json and table.md; the table on the terminal, or a line of JSON a row on stdout."""
    content = published.to_json(outcomes, reused, published.commit_of(Path(published.__file__).parent))
    write_atomically(out / "table.json", json.dumps(content, indent=1, allow_nan=False).encode())
    write_atomically(out / "table.md", published.to_markdown(content).encode())
    apart = not sys.stdout.isatty()
    if apart:
        for row in content["rows"]:
            print(
                json.dumps(
                    {k: row[k] for k in ("id", "published", "mark", "band", "mean", "low", "high", "inside")}
                )
            )
    if not (apart and quiet):
        console(stderr=apart).print(table(content["rows"]), _summary(outcomes))
    if not quiet:
        print(f"retain: the table is in {out / 'table.json'} and {out / 'table.md'}", file=sys.stderr)


def table(rows: Sequence[dict[str, object]]) -> Table:
    """The rows of table.json for a terminal."""
    out = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    out.add_column("row", overflow="fold")
    for name in ("published", "mark", "ours", "band", "", "s"):
        out.add_column(name, justify="right", no_wrap=True)
    for r in rows:
        said = published.verdict(r)
        style = "bold red" if said == "OUTSIDE" else ""
        out.add_row(
            Text(str(r["id"])), published.published(r), str(r["mark"]), published.ours(r), published.band(r),
            Text(said, style=style), f"{r['seconds']:.0f}",
        )  # fmt: skip
    return out


def _summary(outcomes: Sequence[Outcome]) -> Text:
    banded = [o for o in outcomes if o.inside is not None]
    text = f"{sum(bool(o.inside) for o in banded)} of {len(banded)} rows inside their bands"
    text += "; ours: mean ± half of the 95% interval over seeds"
    if finds := [o.row.id for o in banded if not o.inside and not o.misses]:
        text += f". Outside, with a published value that was only recalled (mark R): {', '.join(finds)}"
    return Text(text)
