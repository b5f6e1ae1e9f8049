"""`retain init`: the folder of a model that goes on learning."""

from __future__ import annotations

from dataclasses import dataclass

from retain.cli.errors import WrongUse
from retain.cli.flags import Group
from retain.cli.names import method_class
from retain.cli.vault.common import aside, say, told
from retain.experiment import from_plain
from retain.method import Method
from retain.vault import Plan
from retain.vault import init as make
from retain.vault.models import TRUSTED, is_factory

HELP = """\
usage: retain init PATH [flags]

Makes a vault: the durable home of one model. Every `retain learn PATH DATA` is one update of it;
each is judged before it is served, and can be taken back.

The method is chosen when the first data are seen, from what may be stored; --method names one,
and its hyper-parameters are flags then.

examples:
  retain init shop --memory-bytes 2MB
  retain init prices --target regression --label price --model mlp:64,64
  retain init photos --model resnet18 --size 64 --store statistics
  retain init shop --method ewc --lam 100 --task-known"""


@dataclass(frozen=True)
class Options:
    """The network and the method."""

    model: str = (
        "mlp"  # mlp, mlp:400,400, cnn, resnet18 or PACKAGE.MODULE:FACTORY (called with shape, outputs)
    )
    method: str | None = None  # its name, see retain list methods; none: chosen by what may be stored


def init(args: list[str]) -> int:
    """Make a vault."""
    kind = _method(args)
    groups = [Group("model", Options, {}), Group("vault", Plan, {})]
    if kind is not None:
        groups.append(Group("method", kind, {}, about=f"Hyper-parameters of {kind.__name__}."))
    found = told("init", args, ("PATH",), groups, HELP)
    if found is None:
        return 0
    (path,), flags = found
    method: Method[object] | None = None if kind is None else from_plain(kind, flags["method"])
    vault = make(path, flags["model"]["model"], method, **flags["vault"])
    say({"path": str(vault.path)}, f"made {vault.path}")
    module = flags["model"]["model"].partition(":")[0]
    trusted = f"{TRUSTED}={module} " if is_factory(flags["model"]["model"]) else ""
    aside(f"retain: next: {trusted}retain learn {vault.path} DATA")
    return 0


def _method(args: list[str]) -> type[Method[object]] | None:
    """The method that is named, whose hyper-parameters are flags then."""
    for this, after in zip(args, [*args[1:], ""], strict=True):
        name = (
            after if this == "--method" else this.partition("=")[2] if this.startswith("--method=") else None
        )
        if name is not None:
            if not name or name.startswith("--"):
                raise WrongUse("--method needs a value")
            return None if name in ("none", "auto") else method_class(name)
    return None
