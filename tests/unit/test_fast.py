"""Other ways to compute a training step: the same learning, but for rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from retain import EWC
from retain.cli.main import main
from retain.experiment import Experiment, Settings

BASE = Settings(tasks=2, samples=640, test_samples=500, hidden=(32,), curve_every=0)


def trained(settings: Settings, steps: int | None = None) -> dict[str, torch.Tensor]:
    """The parameters after a run, or after so many steps of its first task."""
    e = Experiment("permuted", EWC(lam=10), settings)
    stream = e.build_stream()
    learner = e.build_learner(stream)
    learner.follow(stream)
    learner.begin_task(stream[0], 5)
    for index in list(settings.order.indices(640, 0, 0))[:steps]:
        learner.observe(*stream[0].train.batch(index))
    return {k: p.detach().clone() for k, p in learner.params.items()}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of two entries."""
    return max(float((a[k].float() - b[k].float()).abs().max()) for k in a)


def test_bf16_trains_float32_weights_to_nearly_the_same() -> None:
    plain, half = trained(BASE), trained(replace(BASE, precision="bf16"))
    assert {p.dtype for p in half.values()} == {torch.float32}
    assert 0 < apart(plain, half) < 5e-3


def test_bf16_runs_whole_and_learns() -> None:
    settings = replace(BASE, samples=3000, test_samples=1000)
    plain = Experiment("permuted", EWC(lam=10), settings).run()
    half = Experiment("permuted", EWC(lam=10), replace(settings, precision="bf16")).run()
    assert half.acc == pytest.approx(plain.acc, abs=0.03)
    assert half.config["precision"] == "bf16" and "precision" not in plain.config


def test_channels_last_is_the_same_network() -> None:
    cnn = replace(BASE, model="cnn", hidden=(256, 256))
    assert apart(trained(cnn, 3), trained(replace(cnn, channels_last=True), 3)) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_is_the_same_step() -> None:
    assert apart(trained(BASE, 3), trained(replace(BASE, compile=True), 3)) < 1e-6


def test_what_does_not_go_together_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="channels_last is for images"):
        replace(BASE, channels_last=True)
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert main(["run", "permuted", "ewc", "--device", "cuda", "--tasks", "2"]) == 2
    assert "torch finds no such GPU" in capsys.readouterr().err
