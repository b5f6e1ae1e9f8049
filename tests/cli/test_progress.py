"""What is seen while runs go, on a terminal and off it; what Ctrl-C does."""

from __future__ import annotations

import io
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from retain.cli import progress
from retain.cli.main import main
from retain.cli.progress import Board, Lines, Seen, Silent, left, percents, row
from retain.cli.stop import Stop
from retain.compare import Failure, Job
from retain.experiment import Experiment
from retain.methods.naive import Naive
from retain.result import Curve, Result, Seconds
from retain.run import Progress

RESULT = Result(
    stream={"name": "permuted"}, method={"name": "naive"}, seed=0, tasks=["A", "B"],
    accuracy=[[0.1, 0.1], [0.9, 0.2], [0.5, 0.8]], curve=Curve(), seconds=Seconds(total=3.0), state_bytes=0,
    examples_stored=0, config={}, versions={},
)  # fmt: skip
FAILURE = Failure(Job("ewc-0", Experiment("permuted", Naive()), Path("out")), "too\n  large")


def at(task: int, step: int, *accuracy: float) -> Progress:
    return Progress(task, 2, step, 10, list(accuracy), 1.5)


def test_off_a_terminal_a_task_is_a_line() -> None:
    file = io.StringIO()
    lines = Lines(Console(file=file, width=40), 2)
    for p in (at(0, 1, 0.1, 0.1), at(0, 10, 0.5, 0.1), at(1, 1, 0.9, 0.2), at(1, 10, 0.6, 0.8)):
        lines.tell("naive-0", p)
    lines.done("naive-0", RESULT)
    lines.tell("naive-0", at(1, 10, 0.6, 0.8))  # news that came late
    lines.done("ewc-0", FAILURE)
    assert file.getvalue().splitlines() == [
        "naive-0: begun: 10.0 10.0 %",
        "naive-0: learned task 1 of 2: 90.0 20.0 % (1.5 s)",
        "naive-0: done in 3.0 s: 50.0 80.0 %, ACC 65.0 % [1 of 2]",
        "ewc-0: failed: too large [2 of 2]",
    ]


def test_many_tasks_are_told_by_their_mean_and_the_last() -> None:
    """In a line of at most 100 columns; ten tasks are still told one by one."""
    file = io.StringIO()
    lines = Lines(Console(file=file), 2)
    untrained = [0.1] * 20
    for task in (0, 1, 2, 12, 19):
        learned = [0.5 + i / 100 for i in range(task)]
        lines.tell("icarl-0", Progress(task, 20, 1, 10, [*learned, *untrained[task:]], 11.5))
    last = [0.5 + i / 100 for i in range(20)]
    lines.done(
        "icarl-0", replace(RESULT, tasks=[str(i) for i in range(20)], accuracy=[untrained] * 20 + [last])
    )
    assert (said := file.getvalue().splitlines()) == [
        "icarl-0: begun: mean 10.0 %, last 3: 10.0 10.0 10.0 %",
        "icarl-0: learned task 1 of 20: 50.0 % (11.5 s)",
        "icarl-0: learned task 2 of 20: 50.0 51.0 % (11.5 s)",
        "icarl-0: learned task 12 of 20: mean 55.5 %, last 3: 59.0 60.0 61.0 % (11.5 s)",
        "icarl-0: learned task 19 of 20: mean 59.0 %, last 3: 66.0 67.0 68.0 % (11.5 s)",
        "icarl-0: done in 3.0 s: last 3: 67.0 68.0 69.0 %, ACC 59.5 % [1 of 2]",
    ]
    assert max(map(len, said)) <= 100
    assert row([0.5] * 10, 2) == percents([0.5] * 10)


def test_on_a_terminal_a_run_is_a_row() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, _environ={})
    board = Board(console, 2)
    board.tell("naive-0", at(0, 1, 0.1, 0.1))
    board.tell("naive-0", at(1, 3, 0.9, 0.2))
    board.tell("[bold]-0", at(0, 2, 0.3, 0.1))  # no markup
    with console.capture() as seen:
        console.print(board.draw())
    first, second, total = seen.get().splitlines()
    assert "naive-0" in first
    assert "task 2/2  step 3/10" in first
    assert first.rstrip().endswith("90.0 20.0 %")
    assert "[bold]-0" in second
    assert "0 of 2 done" in total
    board.done("naive-0", RESULT)
    board.tell("naive-0", at(1, 4, 0.9, 0.2))
    with console.capture() as seen:
        console.print(board.draw())
    assert "naive-0" not in seen.get()
    assert "1 of 2 done" in seen.get()


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 72, 80, 100, 200])
@pytest.mark.parametrize("tasks", [2, 20])
def test_what_a_narrow_terminal_has_no_room_for_is_left_out_whole(width: int, tasks: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, _environ={})
    board = Board(console, 3)
    for name in ("generative-replay-10", "ewc-1"):
        for step in (1, 123):
            board.tell(name, Progress(tasks - 1, tasks, step, 469, [0.951] * tasks, 30.0))
    with console.capture() as seen:
        console.print(board.draw())
    said = seen.get().splitlines()
    assert len(said) == 3 and all(len(line) <= width for line in said)
    for line, name in zip(said, ("generative-replay-10", "ewc-1"), strict=False):
        assert f"task {tasks}/{tasks}" in line and line.startswith(name[:5])
        for whole in ("step 123/469", "0:00 left"):  # or not at all
            assert whole in line or whole[:3] not in line.replace("task", ""), line
    assert ("step 123/469" in said[0]) == (width >= 50)
    assert "95.1" in said[0] if width >= 72 else width > 50 or "95.1" not in said[0]
    assert said[2].startswith("0 of 3")


def test_the_watcher_fits_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    assert type(progress.watcher(1, quiet=True)) is Silent
    assert type(progress.watcher(1, quiet=False)) is Lines  # pytest captures stderr
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert type(progress.watcher(1, quiet=False)) is Board


def test_the_time_left_counts_the_tasks_to_come() -> None:
    began = Seen(100.0, at(0, 1, 0.1), at(0, 1, 0.1))
    assert left(began, 100.0) == ""
    assert left(began._replace(now=at(0, 6, 0.1)), 105.0) == "0:14 left"  # a second a step, 4 + 10 to go
    assert left(began._replace(now=at(1, 9, 0.1)), 136.0) == "0:02 left"  # two seconds a step


def test_the_first_ctrl_c_asks_and_the_second_insists() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Stop() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_short_tasks_are_told_as_they_ended(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where the curve has a point every step, a line still shows the row of the matrix, not the next step's."""
    args = "compare permuted --methods naive --samples 300 --test-samples 200 --hidden 20 --tasks 3 --lr 0.5"
    assert main([*args.split(), "--iterations", "6", "--out", str(tmp_path)]) == 0
    lines = capfd.readouterr().err.splitlines()
    R = Result.load(tmp_path / "naive-0" / "result.json").accuracy
    assert f"naive-0: begun: {percents(R[0])}" in lines
    for task in (1, 2):
        assert any(
            line.startswith(f"naive-0: learned task {task} of 3: {percents(R[task])} (") for line in lines
        )
