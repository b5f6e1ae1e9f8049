"""`retain list`: what there is, with parameters and sources. Read from the code itself."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from typing import Any

from retain.cli.errors import WrongUse, close
from retain.cli.flags import flags_of, show
from retain.experiment import Settings
from retain.methods import discover
from retain.models import CNN, MLP, conv_vae, mlp_vae
from retain.streams import BUILDERS, OPTIONS

HELP = """\
usage: retain list streams | methods | models | data

  streams   what arrives: the tasks, and the options of each stream
  methods   what learns: hyper-parameters and paper of each
  models    the networks that are learned with
  data      the images that streams are made of, where they come from and their licence"""

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
}

Parameter = tuple[str, str, str]  # name, default, help


def command(args: list[str]) -> int:
    """Print one of the lists."""
    if not args or args[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if args[0] not in LISTS:
        raise WrongUse(f"no list of {args[0]!r}{close(args[0], LISTS)}; there are {', '.join(LISTS)}")
    if len(args) > 1 and args[1] not in ("-h", "--help"):
        raise WrongUse(f"what is {args[1]!r} for? usage: retain list {args[0]}")
    print("\n\n".join(LISTS[args[0]]()))
    return 0


def streams() -> Iterable[str]:
    """Each builder, its options by their help texts."""
    for name, builder in BUILDERS.items():
        parameters = [
            (_flag(p.name), show(p.default), OPTIONS[p.name].replace("None", "none"))
            for p in inspect.signature(builder).parameters.values()
        ]
        text = (inspect.getdoc(builder) or "").partition("\n\nArgs:")[0]
        yield _entry(name, text, None, parameters)


def methods() -> Iterable[str]:
    """Each method, its fields by their comments."""
    for name, kind in discover().items():
        yield _entry(name, inspect.getdoc(kind) or "", str(getattr(kind, "paper", "")), _fields(kind))


def models() -> Iterable[str]:
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
    for name, thing, source, parameters in parts:
        text = (inspect.getdoc(thing) or "").partition("\n\n>>>")[0]
        yield _entry(name, text, source, parameters)


def data() -> Iterable[str]:
    """Each data set."""
    for name, (text, source) in DATA.items():
        yield _entry(f"--data {name}", text, source, [])


LISTS = {"streams": streams, "methods": methods, "models": models, "data": data}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _fields(kind: type[Any]) -> list[Parameter]:
    return [
        (_flag(f.name), show(f.default), f"{f.help} {f.kind if '{' in f.kind else ''}")
        for f in flags_of(kind)
    ]


def _entry(name: str, text: str, source: str | None, parameters: list[Parameter]) -> str:
    """A name, what it is, where it comes from, and a line for each parameter."""
    lines = [name, *textwrap.indent(text, "  ").split("\n")]
    if source:
        lines += ["", f"  Source: {source}"]
    width = max((len(p[0]) for p in parameters), default=0)
    for flag, default, said in parameters:
        lines.append(f"    {flag:<{width}}  {said.rstrip('. ')} (default: {default})")
    return "\n".join(lines)
