"""GDumb against its two sentences: a balanced memory, and training from the first weights on it alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from tests.laws.toy import learner, mlp, stream
from torch import Tensor, nn

from retain import Order, run
from retain.methods.gdumb import GDumb
from retain.seeds import derive


def test_it_is_plain_training_from_the_first_weights_on_the_memory() -> None:
    """The last task's training again, in a loop of five lines, with a fresh optimiser."""
    method = GDumb(memory=20, memory_epochs=3, memory_batch=8)
    tasks = stream("class")
    one = learner(method, scenario="class")
    for task in tasks:
        one.begin_task(task)
        for i in torch.arange(len(task.train)).split(12):
            one.observe(*task.train.batch(i))
        rng = torch.Generator()
        rng.set_state(one.rng.get_state())
        one.end_task()
    torch.randint(2**62, (), generator=rng)
    held = one.state.memory.slots.all()
    torch.manual_seed(derive(0, "model"))
    model = mlp()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for i in torch.randperm(20, generator=rng).split([7, 7, 6]):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(held.x[i]), held.y[i]).backward()
            optimiser.step()
    for k, p in model.state_dict().items():
        torch.testing.assert_close(one.params[k].detach(), p, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("memory", "per_class"), [(20, 5), (40, 10)])
def test_its_memory_is_balanced_over_the_classes_so_far(memory: int, per_class: int) -> None:
    one = learner(GDumb(memory=memory, memory_epochs=1), scenario="class")
    result = run(stream("class"), one, Order(batch_size=12))
    counts = Counter(one.state.memory.slots.all().y.tolist())
    assert result.examples_stored == memory and set(counts) == {0, 1, 2, 3}
    assert all(abs(n - per_class) <= 1 for n in counts.values())


def test_nothing_is_learned_before_a_task_is_over() -> None:
    one = learner(GDumb(memory=20), scenario="class")
    task = stream("class")[0]
    one.begin_task(task)
    before: dict[str, Tensor] = {k: p.detach().clone() for k, p in one.params.items()}
    for i in torch.arange(len(task.train)).split(12):
        assert float(one.observe(*task.train.batch(i))) > 0
    assert all(torch.equal(p, before[k]) for k, p in one.params.items())


def test_it_does_not_forget() -> None:
    one = learner(GDumb(memory=40, memory_epochs=40, memory_batch=8), scenario="class")
    result = run(stream("class"), one, Order(batch_size=12))
    assert min(result.accuracy[-1]) > 0.8


@pytest.mark.parametrize("name", ["memory", "memory_epochs", "memory_batch"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"GDumb.{name}"):
        GDumb(**{name: 0})
