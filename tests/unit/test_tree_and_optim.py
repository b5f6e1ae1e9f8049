"""Arithmetic on Params, optimisers with their schedules, and the stepper that moves by them."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from retain import Optim, tree
from retain.optim import schedule_factor
from retain.seeds import derive
from retain.stepper import Stepper
from retain.types import Params


def some(seed: int = 0) -> Params:
    rng = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(3, 2, generator=rng), "b": torch.randn(3, generator=rng), "s": torch.tensor(2.0)}


def test_a_clone_shares_no_memory_and_has_no_gradient() -> None:
    a = {k: v.requires_grad_() for k, v in some().items()}
    b = tree.clone(a, ["w", "s"])
    assert list(b) == ["w", "s"] and not b["w"].requires_grad and torch.equal(a["w"], b["w"])
    b["w"].zero_()
    assert not torch.equal(a["w"], b["w"]) and list(tree.clone(a)) == ["w", "b", "s"]


def test_add_pull_on_the_entries_of_weight_alone() -> None:
    g, p, a, W = some(0), some(1), some(2), {k: v.abs() for k, v in some(3).items() if k != "b"}
    expected = {k: g[k] + 0.3 * W[k] * (p[k] - a[k]) if k in W else g[k].clone() for k in g}
    found = tree.add_pull(g, 0.3, W, p, {k: W[k] * a[k] for k in W})
    assert found is g
    for k in g:
        torch.testing.assert_close(found[k], expected[k])


def test_gradients_are_zero_where_nothing_depends_on_an_entry() -> None:
    a = {k: v.requires_grad_() for k, v in some().items()}
    found = tree.gradients((a["w"] * 3).sum() * a["s"], a)
    assert list(found) == list(a) and not found["b"].any() and found["b"].shape == a["b"].shape
    torch.testing.assert_close(found["w"], torch.full((3, 2), 6.0))
    torch.testing.assert_close(found["s"], 3 * a["w"].detach().sum())


def test_dot_and_flatten() -> None:
    a, b = some(0), some(1)
    flat = tree.flatten(a, a)
    assert flat.shape == (10,)
    torch.testing.assert_close(tree.dot(a, b), flat @ tree.flatten(b, b))
    back = tree.unflatten(flat, a, a)
    assert all(torch.equal(back[k], a[k]) and back[k].shape == a[k].shape for k in a)
    assert tree.flatten(a, ["s", "b"]).tolist() == [2.0, *a["b"].tolist()]


def test_tensors_and_bytes_of_a_nested_state() -> None:
    state = ({"a": torch.zeros(3), "n": None}, [torch.zeros(2, dtype=torch.uint8), 1.5], "text")
    assert [len(t) for t in tree.tensors(state)] == [3, 2] and tree.nbytes(state) == 14


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "lion"}, {"lr": 0.0}, {"lr": math.nan}, {"lr": math.inf}, {"momentum": 1.0},
        {"momentum": -0.1}, {"momentum": math.nan}, {"optimizer": "adam", "momentum": 0.9},
        {"weight_decay": -1.0}, {"weight_decay": math.inf},
    ],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        Optim(**wrong)


@pytest.mark.parametrize(
    ("optim", "twin"),
    [
        (Optim("sgd", 0.1, 0.9, 0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01)),
        (Optim("adam", 0.01), lambda p: torch.optim.Adam(p, 0.01)),
        (Optim("adamw", 0.01, weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
    ],
)
def test_an_optimiser_steps_as_torchs_plain_one(optim: Optim, twin: Any) -> None:
    ours, theirs = ([v.clone().requires_grad_() for v in some().values()] for _ in range(2))
    one, two = optim.build(ours), twin(theirs)
    for step in range(5):
        for a, b, g in zip(ours, theirs, some(step).values(), strict=True):
            a.grad, b.grad = g.clone(), g.clone()
        one.step()
        two.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert isinstance(one, type(two)) and type(one).__name__ == type(two).__name__


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_no_optimiser_loads_torchs_compiler(optimizer: str) -> None:
    code = f"""
import sys, torch
from retain import Optim
p = torch.zeros(3, requires_grad=True)
p.grad = torch.ones(3)
made = Optim({optimizer!r}, 0.1, momentum={0.9 if optimizer == "sgd" else 0.0}).build([p])
made.step()
made.load_state_dict(made.state_dict())
made.zero_grad()
assert p.grad is None and float(p[0]) < 0 and not p.grad_fn
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.integers(1, 500), st.data())
def test_schedules_begin_at_one_and_fall(steps: int, data: st.DataObject) -> None:
    i = data.draw(st.integers(0, steps - 1))
    assert schedule_factor("constant", i, steps) == 1.0
    assert schedule_factor("linear", i, steps) == pytest.approx((steps - i) / steps)
    assert schedule_factor("cosine", i, steps) == pytest.approx(math.cos(math.pi * i / steps / 2) ** 2)
    for kind in ("linear", "cosine"):
        assert schedule_factor(kind, 0, steps) == 1.0
        assert 0 < schedule_factor(kind, i, steps) <= 1


def stepper(optim: Any = None, clip: float | None = None) -> Stepper:
    own: Params = {k: nn.Parameter(v) for k, v in some().items()}
    own["mean"] = torch.zeros(2)  # a buffer
    return Stepper(own, ("w", "b", "s"), optim or Optim(lr=0.5), {"vae.": Optim("adam", lr=0.1)}, clip)


def zeros(live: Params) -> Params:
    return {k: torch.zeros_like(v) for k, v in live.items() if v.requires_grad}


def test_new_entries_are_moved_by_the_optimiser_of_their_prefix() -> None:
    s = stepper()
    live = s.adopt({**s.live, "vae.w": torch.ones(2)})
    assert s.members("vae.") == ["vae.w"] and live["vae.w"].requires_grad
    before = {k: v.detach().clone() for k, v in live.items()}
    s(live, {k: g + 1 for k, g in zeros(live).items()})
    torch.testing.assert_close(before["w"] - live["w"], torch.full((3, 2), 0.5))
    torch.testing.assert_close(before["vae.w"] - live["vae.w"], torch.full((2,), 0.1))
    assert torch.equal(live["mean"], before["mean"]) and all(p.grad is None for p in live.values())
    assert s.lr == {"w": 0.5, "b": 0.5, "s": 0.5, "vae.w": 0.1}
    s.factor = 0.5
    assert s.lr["w"] == 0.25 and s.lr["vae.w"] == 0.05 and s.largest_lr == 0.5


def test_values_of_other_tensors_are_written_into_the_live_ones() -> None:
    s = stepper()
    w = s.live["w"]
    live = s.adopt({"w": torch.full((3, 2), 7.0)})
    assert live["w"] is w and torch.equal(w.detach(), torch.full((3, 2), 7.0))
    with pytest.raises(ValueError, match=r"changed 'w' from \[3, 2\] to \[2\]"):
        s.adopt({"w": torch.zeros(2)})
    with pytest.raises(ValueError, match="added 'gate'"):
        s.adopt({"gate": torch.zeros(2)})


def test_clipping_is_of_the_norm_of_the_models_whole_gradient() -> None:
    s = stepper(clip=1.0)
    s.adopt({**s.live, "vae.w": torch.ones(2)})
    before = {k: v.detach().clone() for k, v in s.live.items()}
    g = {"w": torch.full((3, 2), 3.0), "b": torch.full((3,), 4.0), "s": torch.tensor(1.0)}
    s(s.live, {**g, "vae.w": torch.full((2,), 1e6)})
    moved = torch.cat([(before[k] - s.live[k].detach()).flatten() for k in s.names]) / 0.5
    assert float(moved.norm()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("optim", [Optim("sgd", 0.1, 0.9), Optim("adam", 0.01), Optim("sgd", 0.1)])
def test_moments_come_back(optim: Optim) -> None:
    one, two = stepper(optim), stepper(optim)
    for s in (one, two):
        s.adopt({**s.live, "vae.w": torch.ones(2)})
    for _ in range(3):
        one(one.live, {k: g + 0.1 for k, g in zeros(one.live).items()})
    two.adopt({k: v.detach().clone() for k, v in one.live.items()})
    two.load(copy.deepcopy(one.state()))
    for s in (one, two):
        s(s.live, {k: g + 0.2 for k, g in zeros(s.live).items()})
    assert all(torch.equal(one.live[k], two.live[k]) for k in one.live)
    one.reset()
    assert one.state() == {}


def test_an_optimiser_of_ones_own_keeps_its_groups_rates() -> None:
    own: Params = {k: nn.Parameter(v) for k, v in some().items()}
    groups = [{"params": [own["w"]], "lr": 0.3}, {"params": [own["b"], own["s"]], "lr": 0.01}]
    s = Stepper(own, ("w", "b", "s"), torch.optim.SGD(groups, lr=1.0), {}, None)
    assert s.plain_sgd and s.largest_lr == 0.3 and s.lr == {"w": 0.3, "b": 0.01, "s": 0.01}
    s.factor = 0.5
    before = {k: v.detach().clone() for k, v in own.items()}
    s(s.live, {k: torch.ones_like(v) for k, v in own.items()})
    torch.testing.assert_close(before["w"] - own["w"], torch.full((3, 2), 0.15))
    s.reset()
    assert s.lr["w"] == 0.15 and s.largest_lr == 0.3


def test_seeds_differ_by_purpose_and_not_by_process() -> None:
    assert derive(0, "order", 1, 2) == derive(0, "order", 1, 2)
    assert len({derive(s, p, t) for s in range(4) for p in ("order", "model") for t in range(4)}) == 32
    assert 0 <= derive(-5, "method") < 2**63
