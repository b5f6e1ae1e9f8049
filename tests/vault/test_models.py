"""Networks by name: what the command line says, and what is made of it."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from retain.models import CNN, MLP, ResNet18
from retain.seeds import derive
from retain.vault.errors import VaultError
from retain.vault.models import build, parse_model

FACTORIES = """
import torch
from torch import nn

WIDTH = 5

def make(shape, outputs):
    net = nn.Sequential(nn.Flatten(), nn.Linear(shape[0], WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, outputs))
    net[2].eval()
    return net

def number(shape, outputs):
    return 3

def narrow(shape, outputs):
    return nn.Linear(shape[0], outputs - 1)

def pair(shape, outputs):
    return nn.LSTM(shape[0], outputs)

def other(shape, outputs):
    return nn.Linear(shape[0] + 1, outputs)

def broken(shape, outputs):
    raise KeyError("no\\nsuch thing")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the user's own, and its name."""
    name = "their_nets"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "nets.py").write_text(FACTORIES)
    (tmp_path / name / "half.py").write_text("import no_such_package_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    for module in (name, f"{name}.nets", f"{name}.half"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return name


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mlp", {"name": "mlp", "hidden": [256, 256]}),
        ("mlp:400", {"name": "mlp", "hidden": [400]}),
        ("mlp:400, 50", {"name": "mlp", "hidden": [400, 50]}),
        ("cnn", {"name": "cnn"}),
        ("resnet18", {"name": "resnet18"}),
        ("a.b_2:make", {"name": "a.b_2:make"}),
        ("a:make", {"name": "a:make"}),
    ],
)
def test_what_the_command_line_says(text: str, spec: dict[str, object]) -> None:
    assert parse_model(text) == spec


@pytest.mark.parametrize(
    "text", ["mlp:", "mlp:0", "mlp:-4", "mlp:4,,4", "mlp:4.5", "mlp:٤", "mlp:9999999999", "mlp:2000000"]
)
def test_widths_that_are_none(text: str) -> None:
    with pytest.raises(VaultError, match=r"widths of its hidden layers, such as mlp:400,400, got 'mlp:"):
        parse_model(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "resnet",
        "cnn:3",
        "MLP",
        ":make",
        "a.b:",
        "a..b:make",
        ".a:make",
        "a:b:c",
        "a/b:make",
        "a b:c",
        "1a:b",
        "a:b\n",
    ],
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(
        VaultError, match=r"a model is mlp, mlp:400,400, cnn, resnet18 or PACKAGE.MODULE:FACTORY, got"
    ):
        parse_model(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("mlp:7", MLP), ("cnn", CNN), ("resnet18", ResNet18), ("their_nets.nets:make", nn.Sequential)],
)
def test_weights_come_from_the_seed_alone(package: str, text: str, kind: type[nn.Module]) -> None:
    shape = (6,) if kind in (MLP, nn.Sequential) else (1, 8, 8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = build(parse_model(text), shape, 3, seed=5)
    assert type(a) is kind
    assert torch.get_rng_state().equal(before)
    torch.rand(random.Random(0).randrange(1, 50))
    b, c = (build(parse_model(text), shape, 3, seed=s).state_dict() for s in (5, 6))
    assert all(v.equal(b[k]) for k, v in a.state_dict().items())
    assert any(not v.equal(c[k]) for k, v in a.state_dict().items())
    assert a.eval()(torch.zeros(4, *shape)).shape == (4, 3)


def test_they_are_the_weights_that_an_experiment_draws() -> None:
    torch.manual_seed(derive(3, "model"))
    direct = MLP((6,), 4, (5,)).state_dict()
    built = build({"name": "mlp", "hidden": [5]}, (6,), 4, seed=3).state_dict()
    assert all(v.equal(built[k]) for k, v in direct.items())


def test_a_factorys_network_is_as_the_factory_left_it(package: str) -> None:
    net = build(parse_model("their_nets.nets:make"), (6,), 3, seed=0)
    assert isinstance(net, nn.Sequential)
    assert [m.training for m in net] == [True, True, False, True]
    assert isinstance(net[2], nn.BatchNorm1d)
    assert net[2].num_batches_tracked == 0  # the look at its outputs left no trace


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("no_such_package_at_all:make", "cannot be imported: ModuleNotFoundError: No module named 'no_such"),
        ("their_nets.half:make", "cannot be imported: ModuleNotFoundError: .*check the name"),
        (
            "their_nets.nets:absent",
            "cannot be imported: AttributeError: module 'their_nets.nets' has no attr",
        ),
        ("their_nets.nets:WIDTH", r"must be a function of \(shape, outputs\), it is int"),
        ("their_nets.nets:number", "must give a torch.nn.Module, it gave int"),
        (
            "their_nets.nets:narrow",
            r"must give logits \[N, 3\], of 2 examples it gave \[2, 2\]: let its last",
        ),
        ("their_nets.nets:pair", r"must give logits \[N, 3\], of 2 examples it gave tuple"),
        ("their_nets.nets:other", r"fails on inputs \[2, 6\]: RuntimeError: mat1 and mat2"),
        ("their_nets.nets:broken", r"broken\(shape=\(6,\), outputs=3\) fails: KeyError: .no.*such thing"),
    ],
)
def test_factories_that_give_no_such_network_are_named(package: str, name: str, what: str) -> None:
    before = torch.get_rng_state()
    with pytest.raises(VaultError, match=what) as e:
        build({"name": name}, (6,), 3, seed=0)
    assert name in str(e.value)
    assert "\n" not in str(e.value)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    "spec",
    [
        {}, {"name": "mlp"}, {"name": "mlp", "hidden": "256"}, {"name": "mlp", "hidden": [0]},
        {"name": "mlp", "hidden": [True]}, {"name": 3}, {"name": ["cnn"]}, {"name": "os.path"}, {"name": "own"},
    ],
)  # fmt: skip
def test_a_spec_from_a_tampered_file_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(VaultError, match=r"a model is mlp|mlp takes the widths"):
        build(spec, (6,), 3, seed=0)


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_networks_for_images_say_that_a_table_is_none(name: str) -> None:
    with pytest.raises(VaultError, match=rf"model {name}: .* reads images .* got \(6,\)"):
        build({"name": name}, (6,), 3, seed=0)
