"""Writes docs/streams/: a page for each stream, from its docstring, its options and the recipes that run it.

    python docs/build_streams.py

A test compares the committed pages with what this gives.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from build_methods import FEW, long, table, write

from retain.cli.flags import show
from retain.cli.names import first_line
from retain.reproduce import recipes
from retain.streams import BUILDERS, OPTIONS

PAGES = Path(__file__).parent / "streams"
WRITTEN = "<!-- Written by docs/build_streams.py: change the builder's docstring instead. -->"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {"README.md": index(), **{f"{name}.md": page(name, builder) for name, builder in BUILDERS.items()}}


def page(name: str, builder: Any) -> str:
    """What there is to say of one stream."""
    text = (inspect.getdoc(builder) or "").partition("\n\nArgs:")[0]
    options = [
        (f"`--{p.name.replace('_', '-')}`", show(p.default), OPTIONS[p.name])
        for p in inspect.signature(builder).parameters.values()
    ]
    groups = {row.id.partition("/")[0]: row for row in recipes() if _stream(row) == name}
    found = [(row.group, row.source, f"`retain reproduce {key}`") for key, row in groups.items()]
    lines = [WRITTEN, "", f"# {name}", "", text, ""]
    lines += ["## Options", "", *table(("flag", "default", "what it is"), options), ""]
    if found:
        lines += ["## Published values on it", "", *table(("what", "source", "again"), found), ""]
    lines += ["## To run it", "", long(FEW), "", "```sh", f"retain run {name} replay", "```", ""]
    called = f"stream = {builder.__name__}(samples=1000, test_samples=1000)"
    lines += ["```python", f"from retain.streams import {builder.__name__}", "", called]
    return "\n".join([*lines, "print(stream, [task.name for task in stream])", "```"]) + "\n"


def _stream(row: Any) -> str:
    return str(row.runs[0].config["stream"])


def index() -> str:
    """All streams, a row each."""
    rows = [(f"[{name}]({name}.md)", first_line(builder)) for name, builder in BUILDERS.items()]
    said = (
        "What the options do that change how tasks arrive (blurred edges, rounds, no boundaries), and where CIFAR "
        "lies: [streams](../streams.md). Tensors, arrays and datasets of your own: "
        "[your own model, your own loop](../your-own-model.md)."
    )
    return (
        "\n".join([WRITTEN, "", "# Streams", "", *table(("stream", "what arrives"), rows), "", said]) + "\n"
    )


if __name__ == "__main__":
    write(PAGES, pages())
