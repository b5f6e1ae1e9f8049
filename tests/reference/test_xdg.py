"""XdG: gates fixed by seed and task, of the size said, and as independent as chance has it."""

from __future__ import annotations

import pytest
import torch
from tests.laws.toy import cnn, learner, stream
from torch import Tensor, nn

from retain import Learner
from retain.examples import Examples
from retain.methods.xdg import State, XdG
from retain.parts import Units
from retain.types import Task

UNITS = Units(("a", "b", "c"), (200, 50))


def test_gates_are_fixed_by_seed_and_task() -> None:
    one = XdG(share=0.8)
    state = State(UNITS, 7)
    for t in range(5):
        for a, b in zip(one.gates(state, t), XdG(share=0.8).gates(State(UNITS, 7), t), strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(one.gates(state, t)[0], one.gates(state, t + 1)[0])
        assert not torch.equal(one.gates(state, t)[0], one.gates(State(UNITS, 8), t)[0])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 0.999])
def test_two_tasks_share_as_many_units_as_chance_says(share: float) -> None:
    one, state, n = XdG(share=share), State(UNITS, 3), 60
    gates = torch.stack([one.gates(state, t)[0] for t in range(n)]).double()
    on = max(1, round((1 - share) * 200))
    assert bool((gates.sum(1) == on).all())
    overlap = (gates @ gates.T)[~torch.eye(n, dtype=torch.bool)]
    expected = on**2 / 200  # mean of the hypergeometric
    sd = (expected * (1 - on / 200) * (200 - on) / 199) ** 0.5
    assert abs(float(overlap.mean()) - expected) <= 4 * sd / (n * (n - 1) / 2) ** 0.5 + 1e-9
    assert bool((gates.sum(0) > 0).all()) or share > 0.9  # every unit is somebody's


def test_the_view_is_the_network_with_its_units_multiplied() -> None:
    """In a CNN whole channels, after BatchNorm and ReLU, where a scaled row of weights would not do."""
    torch.manual_seed(0)
    model = cnn().eval()
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape))
    one = Learner(model, XdG(share=0.5), scenario="task")
    one.begin_task(stream("task")[0])
    x = stream("task")[0].train.batch(torch.arange(10))[0]
    channels, units = one.method.gates(one.state, 0)  # type: ignore[attr-defined]
    assert (len(channels), len(units)) == (3, 12)
    with torch.no_grad():
        h = nn.Sequential(*list(model)[:4])(x) * channels.view(1, 3, 1, 1)
        expected = model[9](nn.Sequential(*list(model)[4:9])(h) * units)
        found = one.method.predict(one._bound, one.params, one.state, x, torch.zeros(10, dtype=torch.int64))
    torch.testing.assert_close(found, expected)


def test_weights_of_silent_units_get_no_gradient() -> None:
    one = learner(XdG(share=0.75), "mlp", scenario="task")
    task = stream("task")[0]
    one.begin_task(task)
    before = {k: p.detach().clone() for k, p in one.params.items()}
    one.observe(*task.train.batch(torch.arange(12)))
    (g,) = one.method.gates(one.state, 0)  # type: ignore[attr-defined]
    assert int(g.sum()) == 4
    assert torch.equal(one.params["1.weight"][~g], before["1.weight"][~g])
    assert torch.equal(one.params["3.weight"][:, ~g], before["3.weight"][:, ~g])
    assert not torch.equal(one.params["1.weight"][g], before["1.weight"][g])


class Mixing(nn.Module):
    """A layer norm mixes the units: a gate on one would not shut it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x.flatten(1))
        return out


class LastChannels(nn.Module):
    """Flattened with the channels last: the blocks of inputs are not channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Linear(144, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.a(x).relu().permute(0, 2, 3, 1).flatten(1))
        return out


@pytest.mark.parametrize(
    "model", [Mixing(), LastChannels(), nn.Sequential(nn.Flatten(), nn.Linear(64, 4))], ids=str.__call__
)
def test_a_network_whose_units_cannot_be_gated_is_refused(model: nn.Module) -> None:
    one = Learner(model, XdG(), scenario="task")
    data = Examples(torch.rand(8, 1, 8, 8), torch.arange(8) % 4)
    with pytest.raises(ValueError, match="one chain"):
        one.begin_task(Task(0, "0", data, None, None, (0, 1, 2, 3)))
