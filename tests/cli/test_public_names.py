"""The package's public names are fetched late, and are what they say."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import retain


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, retain\nassert 'torch' not in sys.modules\nretain.EWC\nassert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(retain.__file__).parents[1])


def test_run_is_the_function_however_its_module_was_imported() -> None:
    for first in (
        "import retain.run",
        "from retain.experiment import Settings",
        "from retain import run",
        "",
    ):
        code = f"{first}\nimport retain\nassert retain.run.__name__ == 'run' and callable(retain.run)\n"
        code += "from retain import run\nassert callable(run)\nfrom retain.run import Progress"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(retain.__file__).parents[1])


def test_every_name_is_there_and_the_same_as_in_its_module() -> None:
    for name in retain.__all__:
        home = importlib.import_module(f"retain.{retain._WHERE[name]}")
        assert getattr(retain, name) is inspect.getattr_static(home, name)
    assert set(retain.__all__) <= set(dir(retain))
    with pytest.raises(AttributeError, match="no attribute 'Ewc'"):
        retain.Ewc


def test_what_type_checkers_see_is_what_there_is() -> None:
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(Path(retain.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("retain."):
            found |= {a.name: (node.module or "").removeprefix("retain.") for a in node.names}
    assert found == retain._WHERE
    assert set(found) == set(retain.__all__)
