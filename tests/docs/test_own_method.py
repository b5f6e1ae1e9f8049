"""docs/add-a-method.md: the method in it, laid beside the others, is found, runs, and keeps every law."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.docs.blocks import ENV, ROOT, Reader, blocks, joined

PAGE = ROOT / "docs/add-a-method.md"


@pytest.mark.timeout(300)
def test_the_method_of_the_page_keeps_every_law(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy of the repository, as processes: this one must not learn of another method."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, copy_function=os.symlink, ignore=ignored)
    (tmp_path / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    reader = Reader(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", f"src:{ENV['PYTHONPATH']}")
    ran = ""
    for block in blocks(PAGE):
        if block.language != "sh":
            reader.read(block)
            continue
        for line in joined(block.short):
            got = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
            assert got.returncode == 0, f"{line}\n{got.stdout}\n{got.stderr}"
            ran += got.stdout
    assert "Lee et al. 2017" in ran  # the list knows it
    assert "passed" in ran and "skipped" not in ran.splitlines()[-1]


def ignored(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}
