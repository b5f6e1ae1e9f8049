"""Laws of a head that grows: all that was known stays, new outputs begin afresh, and training goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.laws.toy import METHODS, ORDER, clone, differing, images, kept, leaves
from torch import Tensor, nn

import retain
from retain import EWC, SI, Learner, LwF, Method, Naive, Optim, Replay, Task, batches, chain
from retain.grow import grow

REFUSED = {"der", "der-pp", "l2", "ncl", "vcl", "vcl-coreset"}
CAN = [n for n, m in METHODS.items() if "class" in m.needs.scenarios and n not in REFUSED]
UNTRAINED = (
    "ncm",
    "slda",
    "ran",
    "generative-classifier",
    "bir-internal",
)  # the network's own head learns nothing
Make = Callable[[int], Learner]


def task(index: int) -> Task:
    """Of one class."""
    data = retain.Examples(*images([index], 24, index))
    return Task(index, str(index), data, data, None, (index,))


def maker(
    method: Method[Any], optim: Optim | None = None, hidden: Callable[[int], int] = lambda _: 16
) -> Make:
    def make(outputs: int) -> Learner:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden(outputs)), nn.BatchNorm1d(hidden(outputs)), nn.ReLU(),
            nn.Linear(hidden(outputs), outputs),
        )  # fmt: skip
        optim_of = optim or Optim("adam", lr=3e-3)
        return Learner(net, method, optim_of, seed=0, scenario="class", classes="seen")

    return make


def teach(one: Learner, *indices: int) -> Learner:
    for i in indices:
        one.begin_task(task(i))
        for x, y in batches(task(i).train, ORDER, 0, i):
            one.observe(x, y)
        one.end_task()
    return one


INPUTS = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def lead(old: Tensor, new: Tensor) -> Tensor:
    """The part of the new tensor where the old one lies."""
    return new[tuple(slice(n) for n in old.shape)]


@pytest.mark.parametrize("name", CAN)
def test_what_was_known_stays_and_training_goes_on(name: str) -> None:
    make = maker(METHODS[name])
    one = teach(make(3), 0, 1, 2)
    before, answers = clone(one.snapshot()), one.predict(INPUTS)
    drawn = torch.get_rng_state()
    two = grow(one, make, 4)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert differing(one.snapshot(), before) == [], "the old one is not changed"
    old, new = dict(leaves(before)), dict(leaves(two.snapshot()))
    assert list(old) == list(new)
    for k, v in old.items():
        same = torch.equal(v, lead(v, new[k])) if isinstance(v, Tensor) else v == new[k]
        assert same, k
    assert new[".params.4.weight"].shape == (4, 16)
    assert torch.equal(two.params["4.weight"][3], make(4).params["4.weight"][3]), "as a fresh network has it"
    grown = two.predict(INPUTS)
    torch.testing.assert_close(grown[:, :3], answers, rtol=1e-5, atol=1e-5)
    assert torch.equal(grown.argmax(1), answers.argmax(1)) and bool(grown[:, 3].isinf().all())
    teach(two, 3)
    moved = not torch.equal(two.params["4.weight"][3], make(4).params["4.weight"][3])
    assert moved != name.startswith(UNTRAINED)
    assert bool(two.predict(INPUTS).isfinite().all())


@pytest.mark.parametrize("name", CAN)
def test_a_second_time_gives_the_same_bits(name: str) -> None:
    ends = []
    for _ in range(2):
        make = maker(METHODS[name], Optim("sgd", lr=0.05, momentum=0.9))
        ends.append(kept(teach(grow(teach(make(2), 0, 1), make, 4), 2, 3)))
    assert differing(*ends) == []


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_holds_something_of_every_output_is_refused(name: str) -> None:
    make = maker(METHODS[name])
    with pytest.raises(
        ValueError, match=r"cannot grow: .*state.* outputs for classes to come from the start"
    ):
        grow(teach(make(3), 0, 1, 2), make, 4)


def test_it_may_grow_again_and_again_and_learns_the_new_classes() -> None:
    make = maker(chain(Replay(memory=60), EWC(lam=1.0)), Optim("sgd", lr=0.1))
    one = teach(make(1), 0)
    for index in range(1, 4):
        one = grow(one, make, index + 1)
        for _ in range(4):
            teach(one, index)
    right = []
    for index in range(4):
        x, y = task(index).train.batch(torch.arange(24))
        right.append(float((one.predict(x).argmax(1) == y).float().mean()))
    assert min(right) > 0.9


def test_a_penalty_leaves_new_outputs_free_and_old_answers_are_copied() -> None:
    make = maker(chain(EWC(), LwF()), Optim("sgd", lr=0.1))
    two = grow(teach(make(2), 0, 1), make, 3)
    (penalty,), lwf = two.state[0], two.state[1]
    assert penalty.weight["4.weight"].shape == (3, 16)
    assert float(penalty.weight["4.weight"][:2].sum()) > 0 == float(penalty.weight["4.weight"][2].abs().sum())
    assert torch.equal(lwf.previous["4.weight"][2], two.params["4.weight"][2])
    assert lwf.known.tolist() == [True, True, False]


def test_what_cannot_be_explained_is_refused() -> None:
    make = maker(Naive(), hidden=lambda outputs: 8 * outputs)
    with pytest.raises(
        ValueError, match=r"params 1.weight is \[16, 64\] with 2 outputs and \[24, 64\] with 3"
    ):
        grow(teach(make(2), 0, 1), make, 3)
    make = maker(SI())
    one = teach(make(3), 0)
    one.begin_task(task(1))
    with pytest.raises(ValueError, match=r"SI: state.* is not there"):
        grow(one, make, 4)


def test_another_maker_scenario_or_number_is_refused() -> None:
    make = maker(Naive())
    one = teach(make(2), 0, 1)
    with pytest.raises(ValueError, match="outputs must be more than the 2 there are, got 2"):
        grow(one, make, 2)
    with pytest.raises(ValueError, match="must be made in the same way"):
        grow(one, maker(EWC()), 3)
    with pytest.raises(ValueError, match=r"make\(3\) gave a network with 2 outputs"):
        grow(one, lambda outputs: make(2), 3)
    plain = Learner(make(2).model, Naive(), scenario="domain")
    plain.start(task(0).train)
    with pytest.raises(ValueError, match="growing needs scenario class with classes seen"):
        grow(plain, make, 3)
