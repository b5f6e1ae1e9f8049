"""The documentation's site, built once for all tests, as `make docs` builds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from tests.docs.blocks import ENV, ROOT

STRICT = ["-q", "-E", "-W", "--keep-going", "-j", "auto"]  # as in the Makefile


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Sphinx over a copy of the repository, or the repository itself."""
    line = [sys.executable, "-m", "sphinx", *STRICT, "-c", "docs", "-d", f"{out}/../doctrees", ".", str(out)]
    env = {**os.environ, **ENV}
    return subprocess.run(line, cwd=source, env=env, capture_output=True, text=True, check=False)


def built(factory: pytest.TempPathFactory) -> Path:
    """The folder of the site. Whichever process comes first builds it."""
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "site.lock"):
        out = shared / "site"
        if not (shared / "site.done").exists():
            ended = build(ROOT, out)
            assert ended.returncode == 0, f"make docs fails:\n{ended.stdout}{ended.stderr}"
            (shared / "site.done").touch()
    return out
