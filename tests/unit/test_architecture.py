"""Imports run only downwards, methods know nothing of each other, and nothing is ever unpickled."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "retain"

# The picture of docs/architecture.md. A room is a module or a package right under retain/. An import
# goes to a lower floor or stays in its room; on an open floor it may also go next door. No cycles.
FLOORS = {
    0: "types tree examples files missing seeds parallel",
    1: "losses metrics statistics result projection inputs parts curvature memory closed_form models streams optim"
    " checkpoint embed",
    2: "method report problem",
    3: "methods stepper divergence order",  # the last three are parts of the learner and the loop
    4: "learner combine",
    5: "run record sitting stacked grow",
    6: "trackers advise tune compare cluster reproduce experiment vault integrations lecture tour",
    7: "cli demo",
    8: "__init__ __main__",
}
OPEN = {0, 1, 5, 6, 7}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}

UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package at `root`, by its name below it: "types", "methods.ewc", "methods"."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def imported(path: Path, name: str, known: dict[str, Path]) -> set[str]:
    """The modules of the package which the one called `name` imports, at the top or in a function."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [] if name == "__init__" else package
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] or "__init__" for a in node.names if _ours(a.name)}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            elif _ours(node.module or ""):
                base = (node.module or "").split(".")[1:]
            else:
                continue
            source = ".".join(filter(None, base))
            for alias in node.names:
                inner = f"{source}.{alias.name}".strip(".")
                found.add(inner if inner in known else source or "__init__")
    return found


def _ours(module: str) -> bool:
    return module.split(".")[0] == "retain"


def complaints(root: Path) -> list[str]:
    """Everything in the package at `root` that breaks the plan of the house, in words."""
    known = modules(root)
    arrows = {name: imported(path, name, known) for name, path in known.items()}
    rooms = {name.split(".")[0] for name in known}
    said = [f"{room} stands on no floor: add it to FLOORS" for room in sorted(rooms - set(FLOOR))]
    for name, targets in arrows.items():
        for target in sorted(targets):
            a, b = name.split(".")[0], target.split(".")[0]
            if a not in FLOOR or b not in FLOOR or a == b:
                continue
            if FLOOR[b] > FLOOR[a]:
                said.append(f"{name} (floor {FLOOR[a]}) imports {target} (floor {FLOOR[b]}): that runs up")
            elif FLOOR[b] == FLOOR[a] and FLOOR[a] not in OPEN:
                said.append(f"{name} imports {target}, another room of floor {FLOOR[a]}")
    try:
        TopologicalSorter({name: targets - {name} for name, targets in arrows.items()}).prepare()
    except CycleError as e:
        said.append("imports run in a circle: " + " -> ".join(e.args[1]))
    return said


def between_methods(root: Path) -> list[str]:
    """Method modules that import another."""
    known = modules(root)
    return [
        f"{name} imports {target}"
        for name, path in known.items()
        if name.startswith("methods.")
        for target in sorted(imported(path, name, known))
        if target.split(".")[0] == "methods"
    ]


def dangers(path: Path) -> list[str]:
    """Whatever in one file could run code that comes out of data."""
    said = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Attribute | ast.Name):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            names = [] if ast.unparse(node.value) == "False" else ["allow_pickle"]
        for name in names:
            if name.split(".")[0] in UNPICKLERS or name in (
                "torch.load",
                "torch.save",
                "eval",
                "exec",
                "allow_pickle",
            ):
                said.append(f"{path.name}:{getattr(node, 'lineno', '?')}: {name}")
    return said


def test_imports_run_only_downwards() -> None:
    assert complaints(SRC) == []


def test_method_modules_never_import_each_other() -> None:
    assert between_methods(SRC) == []


def test_nothing_is_unpickled_or_evaluated() -> None:
    assert [d for path in modules(SRC).values() for d in dangers(path)] == []


def test_no_file_of_the_package_knows_the_workshop() -> None:
    for path in SRC.rglob("*"):
        if path.is_file() and path.suffix not in (".xz", ".pyc"):
            text = path.read_bytes()
            assert b"shared/" not in text, path
            assert b"/work/" not in text, path


def plant(root: Path, **sources: str) -> Path:
    """A package with these modules; `methods__ewc` means methods/ewc.py."""
    for name, source in sources.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        if path.parent != root:
            (path.parent / "__init__.py").touch()
    return root


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ({"types": "from retain.run import run", "run": ""}, "types .* runs up"),
        ({"types": "from retain import run", "run": ""}, "types .* runs up"),
        ({"types": "import retain.run", "run": ""}, "types .* runs up"),
        ({"types": "from .run import run", "run": ""}, "types .* runs up"),
        ({"types": "from . import run", "run": ""}, "types .* runs up"),
        ({"types": "def f():\n    from retain.run import run", "run": ""}, "types .* runs up"),
        ({"types": "from retain import Stream"}, "types .* runs up"),  # through the public names
        ({"types": "import retain"}, "types .* runs up"),
        ({"curvature__diagonal": "from retain.methods.ewc import EWC", "methods__ewc": ""}, "runs up"),
        ({"curvature__diagonal": "from ..methods import ewc", "methods__ewc": ""}, "runs up"),
        ({"method": "from retain.report import html", "report": ""}, "another room of floor 2"),
        ({"attic": ""}, "attic stands on no floor"),
        ({"tree": "import retain.types", "types": "import retain.tree"}, "in a circle"),
        ({"memory__ring": "from .slots import S", "memory__slots": "from .ring import R"}, "in a circle"),
    ],
)
def test_a_planted_arrow_is_caught(tmp_path: Path, sources: dict[str, str], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        assert complaints(plant(tmp_path, **sources)) == []


def test_arrows_that_run_down_are_let_pass(tmp_path: Path) -> None:
    sources = {
        "types": "import torch\nfrom retained import x\nfrom os import path",
        "result": "from retain import metrics",
        "metrics": "",
        "methods__ewc": "from retain.types import Params\nfrom retain import result",
        "cli__main": "from retain.methods import ewc\nfrom .help import h\nfrom ..result import Result",
        "cli__help": "",
    }
    assert complaints(plant(tmp_path, **sources)) == []


def test_a_method_that_imports_another_is_caught(tmp_path: Path) -> None:
    for source in (
        "from retain.methods.ewc import EWC",
        "from .ewc import EWC",
        "from retain.methods import EWC",
    ):
        assert between_methods(plant(tmp_path, methods__ewc="", methods__online=source)), source


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "import torch\nf = torch.save",
        "from torch import load",
        "eval('1')",
        "exec('1')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
    ],
)
def test_a_planted_danger_is_caught(tmp_path: Path, source: str) -> None:
    assert dangers(plant(tmp_path, types=source) / "types.py")


def test_what_only_looks_dangerous_is_let_pass(tmp_path: Path) -> None:
    source = "model.eval()\nnp.load('x', allow_pickle=False)\nStream.load('x')\ntorch.compile(f)"
    assert dangers(plant(tmp_path, types=source) / "types.py") == []
