"""`retain list`: what there is, with parameters and sources. Read from the code itself."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any

import retain.reproduce as published
from retain.advise import figures
from retain.cli.errors import WrongUse, close
from retain.cli.flags import flags_of, show
from retain.cli.names import WIDTH, beside, fitted, method_class
from retain.cli.reproduce import What, chosen, command_line
from retain.cli.traits import GROWTH, facts, letters, short_paper
from retain.experiment import Settings
from retain.method import Method
from retain.methods import discover
from retain.models import CNN, MLP, conv_vae, mlp_vae
from retain.streams import BUILDERS, OPTIONS
from retain.streams.cifar import address

HELP = """\
usage: retain list streams | methods | models | data | recipes
       retain list LIST NAME ...    only what is named, of any of these lists

  streams   what arrives: the tasks, and the options of each stream
  methods   what learns, a line each: where it can be used, what it keeps and costs; with names, all
            that there is to say of those: equation, paper, hyper-parameters
  models    the networks that are learned with
  data      the images that streams are made of, where they come from and their licence
  recipes   published results that `retain reproduce` runs, and the command line of each run"""

LEGEND = """\
  where   scenarios: T task, D domain, C class; in brackets: runs, but known to forget nearly all
  stores  of the data;  grows: whether what is kept grows, and with what
  told    whether it must be told where a task begins and ends
  steps   what a step of training costs, about, in plain steps; tasks: more with every task
  retain list methods NAME says all of one: its equation, paper, hyper-parameters, and cost in words"""

DATA = {
    "mnist": (
        "70,000 digits, 28x28 grey: 60,000 for training, 10,000 for test. Comes with the package.",
        "LeCun, Cortes & Burges 1998, CC BY-SA 3.0; see streams/mnist/LICENSE-DATA.md in the package",
    ),
    "fashion-mnist": (
        "70,000 pieces of clothing in the same format. Looked for in --folder DIR, in torchvision's "
        "layout, or where Debian's package dataset-fashion-mnist puts it.",
        "Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747, MIT; github.com/zalandoresearch/fashion-mnist",
    ),
    "cifar10": (
        "60,000 photographs, 32x32 in colour: 50,000 for training, 10,000 for test, in 10 classes. Looked for in "
        f"--folder DIR: DIR/cifar-10-batches-bin, or DIR itself; the binary version, {address('cifar10')} "
        "(the version for Python would have to be unpickled, and is refused).",
        "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; no licence is stated",
    ),
    "cifar100": (
        "The same in 100 classes (the fine labels). Looked for in --folder DIR: DIR/cifar-100-binary, or DIR itself; "
        f"the binary version, {address('cifar100')}.",
        "Krizhevsky 2009, as above",
    ),
}

NO_BOUNDARIES = """\
  Streams without boundaries: with --no-boundaries no method is told where a task begins or ends,
  and only those run that need not be (`retain list methods`). --blur 0.3 mixes the tasks at their
  edges, --repeats 3 goes round them three times. Online, in one pass of tiny batches:
  --batch-size 10 --epochs 1. All together:

    retain run split replay --scenario class --no-boundaries --blur 0.3 --repeats 2 --batch-size 10"""

Parameter = tuple[str, str, str]  # name, default, help


def command(args: list[str]) -> int:
    """Print one of the lists."""
    if not args or args[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if args[0] not in LISTS:
        raise WrongUse(f"no list of {args[0]!r}{close(args[0], LISTS)}; there are {', '.join(LISTS)}")
    names = [a for a in args[1:] if a not in ("-h", "--help")]
    print("\n\n".join(LISTS[args[0]](names)))
    return 0


def streams(names: Sequence[str]) -> Iterable[str]:
    """Each builder, its options by their help texts."""
    for name in _chosen("stream", names, BUILDERS):
        builder = BUILDERS[name]
        parameters = [
            (_flag(p.name), show(p.default), OPTIONS[p.name].replace("None", "none"))
            for p in inspect.signature(builder).parameters.values()
        ]
        text = (inspect.getdoc(builder) or "").partition("\n\nArgs:")[0]
        yield _entry(name, text, None, parameters)
    if not names:
        yield NO_BOUNDARIES


def methods(names: Sequence[str]) -> Iterable[str]:
    """A line for each method: where it can be used, what it keeps and what it costs. Of some, all."""
    return details(names) if names else overview()


def overview() -> Iterable[str]:
    """The table of the methods, and what its columns say."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    head = ("method", "where", "stores", "grows", "told", "steps", "source")
    rows = [head, *(_row(name, kind) for name, kind in discover().items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows)
    yield "\n".join(_fit(line.rstrip(), width) for line in lines)
    yield LEGEND


def details(names: Sequence[str]) -> Iterable[str]:
    """All that there is to say of some methods."""
    for name in names:
        kind = method_class(name)
        reached = [("reproduced", f"{f}, scenario {f.scenario}") for f in figures().get(name, [])]
        told = [
            beside("  ", f"{what[0].upper()}{what[1:]}: {said}")[2:]
            for what, said in [*facts(kind), *reached]
        ]
        text = "\n\n".join([inspect.getdoc(kind) or "", "\n".join(told)])
        yield _entry(name, text, kind.paper, _fields(kind))


def models(names: Sequence[str]) -> Iterable[str]:
    """The classifiers, and the generators of generative replay."""
    of_run = {p[0]: p for p in _fields(Settings)}
    of_replay = {p[0]: p for p in _fields(discover()["generative-replay"])}
    vae = "Kingma & Welling 2014, arXiv:1312.6114; a generator of generative-replay"
    parts: list[tuple[str, object, str | None, list[Parameter]]] = [
        ("--model mlp", MLP, None, [of_run["--hidden"], of_run["--init"]]),
        ("--model cnn", CNN, None, [of_run["--init"]]),
        ("--generator mlp", mlp_vae, vae, [of_replay["--generator-hidden"], of_replay["--latent"]]),
        ("--generator conv", conv_vae, vae, [of_replay["--latent"]]),
    ]
    wanted = _chosen("model", names, dict.fromkeys(part[0].split()[1] for part in parts))
    for name, thing, source, parameters in parts:
        if name.split()[1] in wanted:
            text = (inspect.getdoc(thing) or "").partition("\n\n>>>")[0]
            yield _entry(name, text, source, parameters)


def data(names: Sequence[str]) -> Iterable[str]:
    """Each data set."""
    for name in _chosen("data set", names, DATA):
        text, source = DATA[name]
        yield _entry(f"--data {name}", text, source, [])


def recipes(names: Sequence[str]) -> Iterable[str]:
    """Each group of published results: its rows, and its runs as command lines."""
    some = chosen(names, What()) if names else published.recipes()
    for key, group in groupby(some, key=lambda row: row.id.partition("/")[0]):
        rows = list(group)
        lines = [key, beside("  ", f"{rows[0].section}. {rows[0].group}")]
        lines += [beside("  Source: ", rows[0].source), ""]
        width = max(len(row.id) for row in rows)
        lines += [beside(f"    {row.id:<{width}}  ", published.summary(row)) for row in rows]
        runs = {run.key: run for row in rows for run in row.runs}
        yield "\n".join([*lines, "", *(_typed(command_line(run)) for run in runs.values())])
    yield beside("  Marks: ", "; ".join(f"{mark} {what}" for mark, what in published.MARKS.items()))


LISTS = {"streams": streams, "methods": methods, "models": models, "data": data, "recipes": recipes}


def _chosen(kind: str, names: Sequence[str], known: Collection[str]) -> Collection[str]:
    """`names`, or all that are known where none are given.

    Raises:
        WrongUse: there is none of such a name.
    """
    for name in names:
        if name not in known:
            hint = close(name.lower(), known)
            raise WrongUse(f"no {kind} is called {name!r}{hint}; there are {', '.join(known)}")
    return names or known


def _row(name: str, kind: type[Method[Any]]) -> tuple[str, ...]:
    t = kind.traits
    told = "yes" if t.boundaries else "no"
    steps = f"{t.steps:g}".replace("inf", "tasks")
    return name, letters(kind), t.stores, GROWTH[t.growth], told, steps, short_paper(kind.paper)


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "\u2026"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _fields(kind: type[Any]) -> list[Parameter]:
    return [
        (_flag(f.name), show(f.default), f"{f.help} {f.kind if '{' in f.kind else ''}")
        for f in flags_of(kind)
    ]


def _entry(name: str, text: str, source: str | None, parameters: list[Parameter]) -> str:
    """A name, what it is, where it comes from, and a line for each parameter."""
    lines = [name, fitted(text, "  ")]
    if source:
        lines += ["", beside("  Source: ", source)]
    width = max((len(p[0]) for p in parameters), default=0)
    for flag, default, said in parameters:
        lines.append(beside(f"    {flag:<{width}}  ", f"{said.rstrip('. ')} (default: {default})"))
    return "\n".join(lines)


def _typed(command: str) -> str:
    """A command line in lines that a shell joins again; no flag is torn from its value."""
    tied = re.sub(r"(--\S+) (?!--)", "\\1\0", command)
    lines = textwrap.wrap(
        tied, WIDTH - 2, initial_indent="    ", subsequent_indent=" " * 8, break_on_hyphens=False
    )
    return " \\\n".join(lines).replace("\0", " ")
