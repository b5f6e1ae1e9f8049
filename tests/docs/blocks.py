"""The blocks of a page, and what runs them: in order, in one folder and one namespace, as a reader would.

A comment right before a block says how it is run:

    <!-- long: --samples 500 -->                     in the tests these flags are added to each `retain` line of it
    <!-- long: run: --samples 500; 1000 -> 50 -->    ... to each `retain run`; and 1000 is replaced by 50
    <!-- file: ewc.toml -->                          it is written to that file
    <!-- slow: why -->                               run by `make check-docs` only
    <!-- not run: why -->                            it cannot be run here

`make check-docs` runs blocks as they are printed. A line of a shell block that says "exit code 3" has to end with it.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retain.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    p
    for pattern in ("README*.md", "CHANGELOG.md", "docs/**/*.md", "benchmarks/*.md")
    for p in ROOT.glob(pattern)
)
FULL = os.environ.get("RETAIN_DOCS") == "full"
CODE = ("python", "sh")
TEXT = ("text", "toml", "{eval-rst}")
BLOCK = re.compile(r"^(?:<!-- ((?:long|file|slow|not run): .*?) -->\n+)?```(\S*)\n(.*?)^```$", re.S | re.M)
ENV = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    where: str  # page and line
    language: str
    text: str
    mark: str  # long, file, slow, not run; or nothing
    said: str  # behind the mark

    @property
    def short(self) -> str:
        """The text as the tests run it."""
        return shortened(self.text, self.said) if self.mark == "long" and not FULL else self.text


def blocks(page: Path) -> list[Block]:
    """All of a page, in order."""
    text, found = page.read_text(encoding="utf-8"), []
    for m in BLOCK.finditer(text):
        mark, _, said = (m[1] or "").partition(": ")
        line = text.count("\n", 0, m.start(2)) + 1
        found.append(Block(f"{page.relative_to(ROOT)}:{line}", m[2], m[3], mark, said))
    assert len(found) == text.count("\n```") / 2, f"{page.name}: a block that does not end, or is indented"
    return found


def shortened(text: str, said: str) -> str:
    """The text with what a `long` mark says added and replaced; each part of it must have an effect."""
    for part in said.split("; "):
        before = text
        if " -> " in part:
            old, new = part.split(" -> ")
            text = text.replace(old, new)
        else:
            command, _, flags = part.rpartition(": ")
            lines = [
                f"{code} {flags}{comment}" if code.startswith(f"retain {command}") else code + comment
                for code, comment in map(_comment_apart, joined(text))
            ]
            text = "\n".join(lines) + "\n"
        assert text != before, f"the mark's part {part!r} changes nothing"
    return text


def joined(text: str) -> list[str]:
    """The lines of a shell block; one that ends in a backslash goes on."""
    return text.replace("\\\n", " ").splitlines()


def _comment_apart(line: str) -> tuple[str, str]:
    code = re.split(r"\s+#", line, maxsplit=1)[0]
    return code, line[len(code) :]


class Reader:
    """Somebody who types in what a page says, from its top to its end."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.patch = patch
        for name in ("examples", "benchmarks"):
            (folder / name).symlink_to(ROOT / name)
        shims = folder / ".bin"  # `retain` is this one, installed or not
        shims.mkdir()
        (shims / "retain").write_text('#!/bin/sh\nexec python -m retain "$@"\n')
        (shims / "retain").chmod(0o755)
        patch.chdir(folder)
        patch.setenv(
            "PATH", os.pathsep.join([str(shims), str(Path(sys.executable).parent), os.environ["PATH"]])
        )
        for name, value in ENV.items():
            patch.setenv(name, value)

    def read(self, block: Block) -> None:
        """Do what one block says."""
        if block.mark == "file":
            Path(block.said).parent.mkdir(parents=True, exist_ok=True)
            Path(block.said).write_text(block.text, encoding="utf-8")
        elif block.mark == "not run" or (block.mark == "slow" and not FULL) or block.language in TEXT:
            return
        elif block.language == "python":
            exec(compile(block.short, block.where, "exec"), self.names)
        else:
            for line in joined(block.short):
                self.type(line, block.where)

    def type(self, line: str, where: str) -> None:
        """One line of a shell; `retain` and `python` in this process, since importing torch takes seconds."""
        code, comment = _comment_apart(line)
        if not code or code.startswith("#"):
            return
        expected = re.search(r"exit code (\d+)", comment)
        program, *args = shlex.split(code)
        if re.search(r"[|&;<>$*~]", code) or program not in ("retain", "python"):
            ended = subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=False).returncode
        elif program == "retain":
            ended = main(args)
        else:
            self.patch.setattr(sys, "argv", args)
            runpy.run_path(args[0], run_name="__main__")
            ended = 0
        assert ended == int(expected[1] if expected else 0), f"{where}: {code} ended with {ended}"
