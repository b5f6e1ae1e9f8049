"""`retain advise`: from constraints to a ranked choice of methods, with the figures behind it."""

from __future__ import annotations

from dataclasses import dataclass

from retain.advise import Advice, Constraints, advise, figures
from retain.cli.errors import WrongUse
from retain.cli.flags import Group, asks_for_help, help_of, parse
from retain.cli.names import beside, positionals

HELP = """\
usage: retain advise [flags]

Says which methods can be used under your constraints, best first, each with the figure that this
package reproduced (`retain reproduce`), what it keeps and what a step costs; with --why, also what
each of the others lacks.

examples:
  retain advise                                    class-incremental, anything goes
  retain advise --store statistics --why           no example may be kept, and no generator
  retain advise --task-known --compute 1
  retain advise --no-new-classes --no-boundaries --memory-bytes 2000000
  retain advise --backbone frozen"""

WORDS = {
    "task": "scenario task: the task of an example is known when predicting",
    "domain": "scenario domain: the task is hidden when predicting, labels mean the same in every task",
    "class": "scenario class: the task is hidden when predicting, every task brings classes of its own",
}
NO_FIGURES = (
    "No figures: this package has no reproduced table. The order is by what is kept and what it costs."
)
NO_CONTEST = (
    "Best first by the share of plain training's errors that is spared. Figures of different recipes (the name "
    "before the slash) are no contest: stream, memory and training differ; within a recipe they are."
)
NOT_HERE = "Not reproduced under these constraints; by what is kept and what it costs, in no order of merit:"


@dataclass(frozen=True)
class Output:
    """What is printed."""

    top: int = 10  # how many methods to name, the best first
    why: bool = False  # say of each other method what it lacks

    def __post_init__(self) -> None:
        if self.top < 1:
            raise WrongUse(f"--top must be >= 1, got {self.top}")


def command(args: list[str]) -> int:
    """Print what can be used."""
    words, flags = positionals(args)
    groups = [Group("constraints", Constraints, {}), Group("output", Output, {}, pairs=False)]
    if asks_for_help(flags):
        print(f"{HELP}\n\n{help_of(groups)}")
        return 0
    if words:
        raise WrongUse(f"what is {words[0]!r} for? retain advise takes flags; see retain advise --help")
    told = parse("retain advise", flags, groups)
    given, output = Constraints(**told["constraints"]), Output(**told["output"])
    print("\n".join(lines(given, advise(given), output, bool(figures()))))
    return 0


def lines(given: Constraints, found: list[Advice], output: Output, figured: bool) -> list[str]:
    """All that is said; without `figured`, that there is no table of figures."""
    usable = [a for a in found if not a.lacks]
    out = [beside("", WORDS[given.scenario]), ""]
    if not figured:
        out += [NO_FIGURES, ""]
    width = max(len(a.name) for a in found)
    if not usable:
        out += ["No method meets all of these."]
    shown = usable[: output.top]
    if len({a.figure.recipe for a in shown if a.figure}) > 1:
        out += [beside("", NO_CONTEST), ""]
    for place, a in enumerate(shown, 1):
        if figured and a.figure is None and (place == 1 or shown[place - 2].figure):
            out += [*([""] if place > 1 else []), NOT_HERE]
        figure = f"{a.figure}; " if a.figure else ""
        out.append(beside(f"{place:2}. {a.name:<{width}}  ", f"{figure}keeps {a.keeps}; {a.cost}"))
    if len(usable) > output.top:
        out += [f"    and {len(usable) - output.top} more: --top {len(usable)}"]
    others = [a for a in found if a.lacks]
    if output.why:
        out += ["", "What the others lack:"]
        for a in sorted(others, key=lambda a: a.name):
            out.append(beside(f"    {a.name:<{width}}  ", "; ".join(a.lacks)))
    elif others:
        count = f"{len(others)} others" if usable else f"All {len(others)}"
        out += ["", f"{count} cannot be used; --why says what each lacks."]
    if usable:
        out += ["", f"retain list methods {usable[0].name} says all of the first."]
    return out
