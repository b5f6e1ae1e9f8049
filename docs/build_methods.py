"""Writes docs/methods/: a page for each method, from its docstring, fields, traits and reproduced figures.

    python docs/build_methods.py

A test compares the committed pages with what this gives.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from retain.advise import figures, reproduced
from retain.cli.flags import flags_of, show
from retain.cli.names import first_line
from retain.cli.traits import facts, letters, short_paper
from retain.method import Method
from retain.methods import discover
from retain.reproduce import method_of, ours, published

PAGES = Path(__file__).parent / "methods"
WRITTEN = "<!-- Written by docs/build_methods.py: change the method's docstring instead. -->"
FEW = "--samples 100 --test-samples 100 --hidden 20"  # what the tests add to a run, see tests/docs/blocks.py
SMALLER = {
    "generative-classifier": "--generator-hidden 20 --draws 2",
    "randumb": "--size 64",
    "ranpac": "--size 100",
    "vcl": "--lr 0.01",  # steps are stable for lr below a bound that falls with the number of images
}

WHOLE = {  # what a run on all images needs
    "mas": "--lam 0.3",  # with the default strength SGD diverges on five tasks
    "generative-classifier": "--curve-every 0",  # a point of the curve would take half a minute
}


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {"README.md": index(), **{f"{name}.md": page(name, kind) for name, kind in discover().items()}}


def page(name: str, kind: type[Method[Any]]) -> str:
    """What there is to say of one method."""
    lines = [
        WRITTEN,
        "",
        f"# {name}",
        "",
        first_line(kind),
        "",
        *described(inspect.getdoc(kind) or ""),
    ]
    lines += [f"Source: {kind.paper}", "", *table(("", ""), facts(kind)), ""]
    fields = [(f"`--{f.name.replace('_', '-')}`", show(f.default), f.help, f.kind) for f in flags_of(kind)]
    if fields:
        lines += ["## Hyper-parameters", "", *table(("flag", "default", "what it is", "kind"), fields), ""]
    lines += ["## Reproduced", ""]
    found = figures().get(name, [])
    rows = [
        (f.title, f.scenario, f.value, str(f.seeds), f"{f.seconds:.0f}", f"`retain reproduce {f.id}`")
        for f in found
    ]
    if rows:
        head = ("row", "scenario", "accuracy in %", "seeds", "s a seed", "again")
        lines += [
            "Mean accuracy over all tasks at the end, ± half of the 95% interval.",
            "",
            *table(head, rows),
            "",
        ]
    others = _other_rows(name, {f.id for f in found})
    if others:
        head = ("row", "what", "published", "here", "again")
        lines += ["What else was measured of it: percent, or points.", "", *table(head, others), ""]
    if not rows and not others:
        lines += ["No published value of it is reproduced here.", ""]
    scenario = [s for s in kind.traits.scenarios if s not in kind.traits.fails_in][-1]
    lines += [
        "## To run it",
        "",
        long(FEW, SMALLER.get(name, "")),
        "",
        "```sh",
        " ".join(filter(None, (f"retain run split {name} --scenario {scenario}", WHOLE.get(name)))),
        "```",
    ]
    return "\n".join(lines) + "\n"


def described(text: str) -> list[str]:
    """A docstring as lines of Markdown: what it minimises or does as it is written, the rest as prose."""
    first, *rest = text.split("\n\n")
    lines = ["```text", *first.split("\n"), "```", ""]
    for paragraph in rest:
        if re.search(r"^( |- |>>>)", paragraph, re.M):  # laid out by hand
            lines += ["```text", *paragraph.split("\n"), "```", ""]
            continue
        parts = paragraph.replace("\n", " ").split("`")  # every other one is code
        escaped = [re.sub(r"([\\*_<\[\]|~$])", r"\\\1", p) if i % 2 == 0 else p for i, p in enumerate(parts)]
        lines += ["`".join(escaped), ""]
    return lines


def _other_rows(name: str, known: set[str]) -> list[tuple[str, ...]]:
    """Rows of the reproduced table that are no accuracy over all tasks."""
    found = []
    for r in reproduced()["rows"]:
        if r["id"] not in known and name == method_of(r["runs"][0]["config"])["name"]:
            found.append((r["title"], r["group"], published(r), ours(r), f"`retain reproduce {r['id']}`"))
    return found


def index() -> str:
    """All methods, a row each."""
    rows = [
        (
            f"[{name}]({name}.md)",
            first_line(kind),
            letters(kind),
            kind.traits.stores,
            kind.traits.growth,
            "yes" if kind.traits.boundaries else "no",
            f"{kind.traits.steps:g}".replace("inf", "more with every task"),
            short_paper(kind.paper),
        )
        for name, kind in discover().items()
    ]
    head = ("method", "what it does", "scenarios", "stores", "grows", "told boundaries", "steps", "source")
    said = (
        "T task, D domain, C class: where it can be used; in brackets: it runs, but is known to forget nearly "
        "all there. Steps: what a step of training costs, about, in plain steps."
    )
    return "\n".join([WRITTEN, "", "# Methods", "", said, "", *table(head, rows)]) + "\n"


def table(head: tuple[str, ...], rows: list[Any]) -> list[str]:
    """A Markdown table."""
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in cells]


def long(*flags: str) -> str:
    """The mark of a block to which the tests add flags, so that it takes no time."""
    return f"<!-- long: {' '.join(filter(None, flags))} -->"


def write(folder: Path, made: dict[str, str]) -> None:
    """Write the pages, and remove those of what is gone."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    print(f"{len(made)} pages in {folder}")


if __name__ == "__main__":
    write(PAGES, pages())
