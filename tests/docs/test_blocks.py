"""Every block of README and docs runs; what is not run is listed here, so that it cannot grow unnoticed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.blocks import CODE, PAGES, ROOT, TEXT, Block, Reader, blocks, shortened

ALL = {str(page.relative_to(ROOT)): blocks(page) for page in PAGES}
ELSEWHERE = {"docs/add-a-method.md", "README.zh.md"}  # by test_own_method.py; in README.md, block for block
TYPED = [page for page, found in ALL.items() if any(b.language in CODE for b in found)]

NOT_RUN = {
    ("README.md", "not run", "make demo"),
    ("README.md", "slow", "retain reproduce gem-permutations ewc-permuted"),
    ("docs/architecture.md", "not run", "class Method(ABC):"),
    ("docs/cluster.md", "not run", "pip install ray"),
    ("docs/cluster.md", "not run", "ray start --head --port 6379 --disable-usage-stats"),
    ("docs/cluster.md", "not run", "retain reproduce --section 1,2,3 --on ray --address 10.0.0.1:6379"),
    ("docs/cluster.md", "slow", "retain compare permuted --methods naive,ewc,replay --seeds 4 --tasks 3 --on ray"),
    ("docs/cluster.md", "slow", "ray start --head --port 6379 --num-cpus 1 --disable-usage-stats"),
    ("docs/distributed.md", "not run", "pip install accelerate"),
    ("docs/distributed.md", "slow", "torchrun --standalone --nproc-per-node 2 -m retain run permuted ewc"),
    ("docs/distributed.md", "slow", "accelerate launch --multi_gpu --num_processes 2"),
    ("docs/streams.md", "not run", "retain run split replay --data cifar100"),
    ("docs/tour.md", "slow", "retain tour"),
    ("docs/your-own-loop.md", "not run", "pip install datasets transformers accelerate"),
}  # fmt: skip


@pytest.mark.parametrize("page", [page for page in TYPED if page not in ELSEWHERE])
def test_a_page_does_what_it_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(tmp_path, monkeypatch)
    for block in ALL[page]:
        reader.read(block)


def test_the_chinese_readme_has_the_same_blocks_links_and_picture() -> None:
    english, chinese = (
        (ROOT / name).read_text(encoding="utf-8").partition("\n\n[")[2]
        for name in ("README.md", "README.zh.md")
    )
    assert [(b.text, b.mark, b.said) for b in ALL["README.zh.md"]] == [
        (b.text, b.mark, b.said) for b in ALL["README.md"]
    ]
    links = [re.findall(r"\]\(([^)]+)\)", text)[1:] for text in (english, chinese)]
    assert links[0] == links[1]
    assert chinese.count("\n## ") == english.count("\n## ") and chinese.count("\n| ") == english.count("\n| ")


def test_every_block_is_code_that_runs_or_says_that_it_is_none() -> None:
    strange = [b.where for found in ALL.values() for b in found if b.language not in CODE + TEXT]
    assert strange == []


def test_what_is_not_run_is_known_and_has_a_reason() -> None:
    found = [
        (page, b.mark, b.text, b.said)
        for page, some in ALL.items()
        if page != "README.zh.md"
        for b in some
        if b.mark in ("slow", "not run")
    ]
    assert all(said for *_, said in found)
    unknown = [
        (page, mark, text.split("\n")[0])
        for page, mark, text, _ in found
        if not any((page, mark) == known[:2] and text.startswith(known[2]) for known in NOT_RUN)
    ]
    assert unknown == []
    assert len(found) == len(NOT_RUN), "NOT_RUN names a block that is gone, or one mark covers two blocks"


@pytest.mark.parametrize(
    ("text", "said", "made"),
    [
        ("retain run a b  # c\n", "--seed 1", "retain run a b --seed 1  # c\n"),
        ("retain run a \\\n  b\nretain list\n", "run: --seed 1", "retain run a    b --seed 1\nretain list\n"),
        ("python x.py 1000\nretain report out\n", "1000 -> 10", "python x.py 10\nretain report out\n"),
        ("retain run 9\nretain list 9\n", "run: --a; list: --b; 9 -> 1", "retain run 1 --a\nretain list 1 --b\n"),
    ],
)  # fmt: skip
def test_a_long_block_is_shortened_as_its_mark_says(text: str, said: str, made: str) -> None:
    assert shortened(text, said) == made


@pytest.mark.parametrize("said", ["report: --seed 1", "8 -> 9"])
def test_a_mark_that_changes_nothing_is_an_error(said: str) -> None:
    with pytest.raises(AssertionError, match="changes nothing"):
        shortened("retain run a b\n", said)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "assert 1 == 2\n"),
        ("sh", "retain run nothing ewc\n"),
        ("sh", "retain list streams  # refused, exit code 3\n"),
        ("sh", "ls nothing | cat\n"),
    ],
)
def test_a_block_that_fails_fails(
    language: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError):
        Reader(tmp_path, monkeypatch).read(Block("here:1", language, text, "", ""))


def test_an_exit_code_that_is_announced_is_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Reader(tmp_path, monkeypatch).read(
        Block("here:1", "sh", "retain run nothing ewc  # exit code 2\n", "", "")
    )
