"""What is exported says what the vault says, in onnxruntime and in torch; or nothing is written."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from retain import (
    HAT,
    NCM,
    SLDA,
    GenerativeClassifier,
    ICaRL,
    Learner,
    Optim,
    PackNet,
    RanDumb,
    RanPAC,
    Replay,
    XdG,
)
from retain.closed_form import below
from retain.examples import Examples
from retain.method import Method
from retain.types import Task
from retain.vault.errors import VaultError
from retain.vault.export import TOLERANCE, About, Exported, to_onnx, to_torch
from retain.vault.models import build, parse_model
from retain.vault.serving import Predicting, Serving, Target, network_of

KNOWN = [0, 1, 2, 3]  # of six outputs
LABELS = ("9", "10", "Käse", "cat")


def tasks(shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> list[Task]:
    """Two tasks of two classes, which differ in their mean."""
    rng = torch.Generator().manual_seed(0)
    found = []
    for t in range(2):
        y = torch.tensor([2 * t, 2 * t + 1] * 16)
        x = torch.randn(32, *shape, generator=rng) + y.view(-1, *[1] * len(shape))
        stored = (x * 40 + 80).clamp(0, 255).to(torch.uint8) if dtype == torch.uint8 else x
        found.append(Task(t, f"task {t}", Examples(stored, y), None, None, (2 * t, 2 * t + 1)))
    return found


def learned(
    method: Method[Any], shape: tuple[int, ...], model: str = "mlp:16", scenario: Any = "class",
    dtype: torch.dtype = torch.uint8, passes: int = 4,
) -> Learner:  # fmt: skip
    """After both tasks, with two of six outputs still in reserve."""
    net = build(parse_model(model), shape, 6, seed=0)
    with torch.no_grad():  # reserved outputs that would win, were they looked at
        last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
        last.bias[4:] = 50.0
    learner = Learner(
        net,
        method,
        Optim("adam", lr=0.003),
        scenario=scenario,
        classes="seen" if scenario == "class" else None,
    )
    for task in tasks(shape, dtype):
        learner.begin_task(task)
        for rows in torch.arange(32).repeat(passes).split(16):
            learner.observe(*task.train.batch(rows))
        learner.end_task()
    return learner


def about(shape: tuple[int, ...], labels: Sequence[str | int] = LABELS, kind: str = "images") -> About:
    preprocessing = {"schema": 1, "kind": kind, "shape": list(shape), "size": None, "columns": []}
    return About(tuple(labels), preprocessing, version=3)


def own(
    learner: Learner, temperature: float = 1.0, task: Task | None = None, known: Sequence[int] = KNOWN
) -> Callable[[Tensor], Tensor]:
    """The vault's own probabilities [N, K] of stored examples."""

    def said(x: Tensor) -> Tensor:
        read = Examples(x, torch.zeros(len(x), dtype=torch.int64)).batch(torch.arange(len(x)))[0]
        return (learner.predict(read, task)[:, list(known)] / temperature).softmax(1)

    return said


def drawn(shape: tuple[int, ...], n: int, seed: int = 1) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=rng) + 4 * torch.rand(n, *[1] * len(shape), generator=rng) - 0.5
    return (x * 40 + 80).clamp(0, 255).to(torch.uint8)


def in_onnxruntime(path: Path, x: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(out) for out in session.run(None, {"x": x.numpy()})]


@pytest.mark.parametrize(
    ("model", "shape"), [("mlp", (1, 12, 12)), ("cnn", (3, 12, 12)), ("resnet18", (3, 8, 8))]
)
def test_onnx_says_what_the_vault_says_on_a_thousand_examples(
    tmp_path: Path, model: str, shape: tuple[int, ...], capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    learner = learned(Replay(memory=16), shape, model, passes=1)
    serving = Serving(network_of(learner, drawn(shape, 16)), KNOWN, temperature=1.7)
    reference = own(learner, 1.7)
    said = to_onnx(serving, about(shape), reference, tmp_path / "m.onnx", drawn(shape, 300))
    assert (said.path, said.card, said.examples) == (tmp_path / "m.onnx", tmp_path / "m.onnx.json", 1000)
    assert capfd.readouterr() == ("", "")

    x = drawn(shape, 1000, seed=2)
    probabilities, label = in_onnxruntime(said.path, x)
    expected = reference(x)
    difference = float((probabilities - expected).abs().max())
    assert max(difference, said.difference) <= TOLERANCE == 1e-5
    best = expected.topk(2, 1).values
    assert ((label == expected.argmax(1)) | (best[:, 0] - best[:, 1] < 2e-5)).all()
    assert label.dtype == torch.int64
    assert probabilities.std(0).max() > 0.01  # it makes a difference what is asked
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1000))
    assert [len(t) for t in in_onnxruntime(said.path, x[:1])] == [1, 1]  # any number of examples


@pytest.fixture(scope="module")
def in_onnx(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exported, Learner]:
    return exported(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def in_torch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exported, Learner]:
    return exported(tmp_path_factory.mktemp("torch"), to_torch)


def exported(tmp_path: Path, to: Callable[..., Exported] = to_onnx) -> tuple[Exported, Learner]:
    learner = learned(Replay(memory=16), (1, 4, 4))
    serving = Serving(network_of(learner, drawn((1, 4, 4), 16)), KNOWN, temperature=0.5)
    return to(serving, about((1, 4, 4)), own(learner, 0.5), tmp_path / "m"), learner


def test_labels_and_preprocessing_lie_in_the_file_and_beside_it(in_onnx: tuple[Exported, Learner]) -> None:
    said, _ = in_onnx
    proto = onnx.load(said.path)
    onnx.checker.check_model(proto, full_check=True)
    properties = {p.key: p.value for p in proto.metadata_props}
    given = about((1, 4, 4))
    assert json.loads(properties["retain.labels"]) == list(LABELS)
    assert json.loads(properties["retain.preprocessing"]) == given.preprocessing
    assert json.loads(properties["retain.version"]) == 3
    assert proto.producer_name == "retain"
    dims = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*proto.graph.input, *proto.graph.output)
    }
    assert dims == {"x": ["N", 1, 4, 4], "probabilities": ["N", 4], "label": ["N"]}
    card = json.loads(said.card.read_text())
    assert card["labels"] == list(LABELS)
    assert card["preprocessing"] == given.preprocessing
    assert card["input"] == {"name": "x", "dtype": "uint8", "shape": [1, 4, 4]}
    assert card["outputs"] == ["probabilities", "label"]
    assert (card["version"], card["target"], card["temperature"]) == (3, "class", 0.5)
    assert card["compared"] == {"examples": 1000, "difference": said.difference, "ties": said.ties}


def test_a_file_says_nothing_of_the_machine_that_wrote_it(
    in_onnx: tuple[Exported, Learner], in_torch: tuple[Exported, Learner]
) -> None:
    for said in (in_onnx[0], in_torch[0]):
        for place in (Path(torch.__file__).parent, Path(__file__).parents[2], said.path.parent):
            assert str(place).encode() not in said.path.read_bytes() + said.card.read_bytes()


def test_two_exports_of_one_version_are_the_same_bytes(
    in_onnx: tuple[Exported, Learner], tmp_path: Path
) -> None:
    again, _ = exported(tmp_path)
    assert again.path.read_bytes() == in_onnx[0].path.read_bytes()
    assert again.card.read_bytes() == in_onnx[0].card.read_bytes()
    assert json.loads(again.card.read_text())["sha256"] == hashlib.sha256(again.path.read_bytes()).hexdigest()


def test_a_torch_program_says_what_the_vault_says(in_torch: tuple[Exported, Learner]) -> None:
    said, learner = in_torch
    extra = {"retain.json": ""}
    program = torch.export.load(said.path, extra_files=extra).module()
    assert json.loads(json.loads(extra["retain.json"])["retain.labels"]) == list(LABELS)
    for n in (1, 3, 1000):
        x = drawn((1, 4, 4), n, seed=2)
        probabilities, label = program(x)
        expected = own(learner, 0.5)(x)
        torch.testing.assert_close(probabilities, expected, rtol=0, atol=TOLERANCE)
        assert label.equal(probabilities.argmax(1))


CLOSED = [
    SLDA(on="input"), SLDA(on="first"), SLDA(on="network", priors=True), NCM(on="network"), RanPAC(size=50),
    RanPAC(size=50, on="first", lam=1.0), RanDumb(size=50), RanDumb(features="conv", size=32, grid=2, kernel=2),
    ICaRL(memory=16),
]  # fmt: skip


@pytest.mark.parametrize("method", CLOSED, ids=repr)
def test_methods_with_a_prediction_of_their_own_are_traced(tmp_path: Path, method: Method[Any]) -> None:
    learner = learned(method, (1, 4, 4), "cnn")
    network = network_of(learner, drawn((1, 4, 4), 16))
    assert isinstance(network, Predicting)
    said = to_torch(Serving(network, KNOWN), about((1, 4, 4)), own(learner), tmp_path / "m.pt2")
    assert said.difference <= TOLERANCE
    assert len(own(learner)(drawn((1, 4, 4), 100)).argmax(1).unique()) > 1  # it tells classes apart


@pytest.mark.parametrize("method", [SLDA(on="network"), RanPAC(size=50)], ids=repr)
def test_a_closed_form_is_served_by_onnxruntime(tmp_path: Path, method: Method[Any]) -> None:
    learner = learned(method, (5,), dtype=torch.float32)
    network = network_of(learner, torch.randn(8, 5))
    given = about((5,), kind="table")
    said = to_onnx(Serving(network, KNOWN), given, own(learner), tmp_path / "m.onnx", torch.randn(2000, 5))
    assert said.examples == 2000
    x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(in_onnxruntime(said.path, x)[0], own(learner)(x), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("method", [HAT(), PackNet(), XdG()], ids=repr)
def test_gates_and_masks_become_a_networks_weights(tmp_path: Path, method: Method[Any]) -> None:
    learner = learned(method, (1, 4, 4), scenario="task")
    for task in tasks((1, 4, 4)):
        network = network_of(learner, drawn((1, 4, 4), 16), task)
        assert type(network) is type(learner.model)
        serving = Serving(network, task.classes)
        given = about((1, 4, 4), LABELS[task.classes[0] : task.classes[-1] + 1])
        said = to_torch(serving, given, own(learner, task=task, known=task.classes), tmp_path / "m.pt2")
        assert said.difference == 0


def test_a_network_is_a_copy_and_leaves_the_learner_as_it_was() -> None:
    learner = learned(Replay(memory=16), (1, 4, 4))
    before = {k: p.clone() for k, p in learner.params.items()}
    x = drawn((1, 4, 4), 8)
    network = network_of(learner, x)
    Serving(network, KNOWN)
    assert all(learner.params[k] is p or learner.params[k].equal(p) for k, p in before.items())
    assert all(p.requires_grad for p in learner.model.parameters())
    first = network(x / 255)
    task = tasks((1, 4, 4))[0]
    learner.begin_task(task)
    learner.observe(*task.train.batch(torch.arange(8)))
    assert network(x / 255).equal(first)


@pytest.mark.parametrize(
    ("target", "outputs"), [("multilabel", ["probabilities", "label"]), ("regression", ["values"])]
)
@pytest.mark.parametrize("to", [to_onnx, to_torch])
def test_several_labels_and_numbers(
    tmp_path: Path, target: Target, outputs: list[str], to: Callable[..., Exported]
) -> None:
    torch.manual_seed(0)
    net = build(parse_model("mlp:8"), (5,), 3, seed=0)
    serving = Serving(net, [0, 1, 2], target=target)

    def reference(x: Tensor) -> Tensor:
        out: Tensor = net(x)
        return out.sigmoid() if target == "multilabel" else out

    said = to(serving, about((5,), ("a", "b", "c"), "table"), reference, tmp_path / "m")
    assert json.loads(said.card.read_text())["outputs"] == outputs
    assert said.difference <= TOLERANCE
    x = torch.randn(50, 5)
    found = in_onnxruntime(said.path, x) if to is to_onnx else torch.export.load(said.path).module()(x)
    torch.testing.assert_close(found[0], reference(x), rtol=0, atol=TOLERANCE)
    if target == "multilabel":
        assert found[1].equal((found[0] > 0.5).long())


def test_pixels_are_divided_as_the_examples_divide_them() -> None:
    x = torch.arange(256, dtype=torch.uint8)[:, None]
    serving = Serving(nn.Identity(), [0], target="regression")
    assert serving(x)[0].equal(Examples(x, torch.zeros(256)).read(x))


# ---- what is refused ----


@pytest.mark.parametrize(("to", "wrong"), [(to_onnx, 2e-5), (to_torch, 2e-5), (to_torch, float("nan"))])
def test_a_file_that_says_something_else_is_not_written(
    tmp_path: Path, to: Callable[..., Exported], wrong: float
) -> None:
    net = build(parse_model("mlp:8"), (5,), 3, seed=0)

    def other(x: Tensor) -> Tensor:
        p: Tensor = net(x).softmax(1)
        p[567, 1] += wrong  # one number of one example
        return p

    (tmp_path / "m").write_bytes(b"an earlier export")
    with pytest.raises(
        VaultError, match=r"differs from the vault by (2e-05|nan), more than 1e-05: nothing is written"
    ):
        to(Serving(net, [0, 1, 2]), about((5,), "abc", "table"), other, tmp_path / "m")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"m": b"an earlier export"}


def test_labels_that_are_not_those_of_the_probabilities_are_refused(tmp_path: Path) -> None:
    class Last(Serving):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            p, label = super().forward(x)
            return p, 0 * label

    net = build(parse_model("mlp:8"), (5,), 3, seed=0)
    with pytest.raises(VaultError, match="labels are not those of its probabilities"):
        to_torch(
            Last(net, [0, 1, 2]), about((5,), "abc", "table"), lambda x: net(x).softmax(1), tmp_path / "m"
        )
    assert not list(tmp_path.iterdir())


def test_ties_are_counted_and_pass(tmp_path: Path) -> None:
    class Flipped(Serving):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            p, label = super().forward(x)
            return p, 1 - label

    net = nn.Linear(5, 2)
    with torch.no_grad():
        net.weight.zero_(), net.bias.zero_()
    serving = Flipped(net, [0, 1])
    said = to_torch(serving, about((5,), "ab", "table"), lambda x: net(x).softmax(1), tmp_path / "m")
    assert (said.difference, said.ties) == (0, 1000)


@pytest.mark.parametrize("to", [to_onnx, to_torch])
@pytest.mark.parametrize(
    "method", [GenerativeClassifier(generator_hidden=(8,), latent=2, draws=2)], ids=["generative"]
)
def test_what_is_no_graph_is_refused_by_name(
    tmp_path: Path, to: Callable[..., Exported], method: Method[Any]
) -> None:
    learner = learned(method, (1, 4, 4))
    serving = Serving(network_of(learner, drawn((1, 4, 4), 16)), KNOWN)
    with pytest.raises(
        VaultError, match="GenerativeClassifier does not predict by a graph that can be exported"
    ) as e:
        to(serving, about((1, 4, 4)), own(learner), tmp_path / "m")
    assert "\n" not in str(e.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", [["onnxruntime"], ["onnx", "onnxscript"]])
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in missing else found(name, *a)
    )
    serving = Serving(nn.Linear(5, 2), [0, 1])
    with pytest.raises(
        VaultError, match=rf"ONNX needs {', '.join(missing)}: pip install onnx onnxruntime onnxscript"
    ):
        to_onnx(serving, about((5,), "ab", "table"), serving, tmp_path / "m")


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    net = nn.Linear(5, 2)
    serving, path = Serving(net, [0, 1]), tmp_path / "m"
    with pytest.raises(VaultError, match="3 labels do not name the 2 known outputs"):
        to_torch(serving, about((5,), "abc", "table"), net, path)
    with pytest.raises(VaultError, match=r"takes torch.float32 \[5\], the examples .* torch.uint8 \[5\]"):
        to_torch(serving, about((5,), "ab", "table"), net, path, torch.zeros(3, 5, dtype=torch.uint8))
    with pytest.raises(VaultError, match=r"gives \[1000, 2\] numbers, the vault \[1000, 1\]"):
        to_torch(serving, about((5,), "ab", "table"), lambda x: net(x)[:, :1], path)
    with pytest.raises(VaultError, match="nothing is known yet"):
        Serving(net, [])
    with pytest.raises(VaultError, match="temperature must be > 0 and finite, got 0"):
        Serving(net, [0], temperature=0)
    assert not list(tmp_path.iterdir())


# ---- closed forms without branches on values ----


def test_unknown_classes_lie_below_the_known_ones_and_without_any_all_is_zero() -> None:
    out = torch.tensor([[3.0, -1.0, 7.0], [-9.0, 2.0, -torch.inf]])
    known = torch.tensor([True, True, False])
    assert below(out, known).tolist() == [[3, -1, -2], [-9, 2, -10]]
    assert below(out, ~known | known).equal(out)
    assert below(out, known & ~known).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("method", [SLDA(), RanDumb(size=20), RanPAC(size=20)], ids=repr)
def test_before_any_example_every_class_is_alike(method: Method[Any]) -> None:
    learner = Learner(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), method)
    problem = learner.start(tasks((1, 4, 4))[0].train)
    logits = method.predict(problem, learner.params, learner.state, torch.rand(3, 1, 4, 4), torch.zeros(3))
    assert logits.tolist() == [[0.0] * 4] * 3
