"""A vault from its making to its end: on real digits, small and quick."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import retain
from retain.run import Interrupted
from retain.streams.sources import load
from retain.vault import BadData, Busy, Damaged, Plan, Vault, VaultError, contents, init, open_vault
from retain.vault.prepare import held_out

QUICK: dict[str, Any] = {
    "memory_bytes": "80KB",
    "epochs": 3,
    "batch_size": 32,
    "guard": 100,
    "margin": 15.0,
    "new_margin": 40.0,
    "outputs": 16,
}


def digits(classes: tuple[int, ...], n: int = 300, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n images of each class, in the order of the data set, and their labels."""
    x, y = load("mnist", "train")
    rows = torch.cat([(y == c).nonzero()[start : start + n, 0] for c in classes]).sort().values
    return x[rows].numpy(), y[rows].numpy()


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault that has learned 0 and 1, then 2 and 3. Tests that change it copy it."""
    path = tmp_path_factory.mktemp("vaults") / "digits"
    vault = init(path, "mlp:64", **QUICK)
    for classes in ((0, 1), (2, 3)):
        assert vault.learn(digits(classes)).promoted
    return path


@pytest.fixture
def copy(learned: Path, tmp_path: Path) -> Vault:
    """The same, to be changed."""
    import shutil

    shutil.copytree(learned, tmp_path / "copy")
    return open_vault(tmp_path / "copy")


def state(vault: Vault, version: int | None = None) -> bytes:
    """The bits of a version."""
    number = version or vault.served
    assert number is not None
    return vault.store.file(number, contents.STATE)


def test_old_and_new_classes_are_told_apart(learned: Path) -> None:
    vault = open_vault(learned)
    x, y = digits((0, 1, 2, 3), 100, start=1000)
    said = vault.predict((x, None))
    assert np.mean(np.array(said.labels) == y) > 0.9
    assert said.classes == [0, 1, 2, 3]
    assert torch.allclose(said.probabilities.sum(1), torch.ones(len(y)))
    assert min(vault.evaluate((x, y)).values()) > 0.9
    assert list(vault.evaluate()) == ["update-1", "update-2"]


def test_three_processes_are_one_loop_of_the_trainer(tmp_path: Path) -> None:
    """The same bits as a Learner that never left memory."""
    parts = [digits(c) for c in ((0, 1), (2, 3), (4, 5))]
    vault = init(tmp_path / "v", "mlp:64", **QUICK)
    for i, (x, y) in enumerate(parts):
        np.savez(data := tmp_path / f"{i}.npz", x=x, y=y)
        line = [sys.executable, "-m", "retain", "learn", str(vault.path), str(data), "--force", "--quiet"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    plan = vault.plan
    torch.manual_seed(plan.seed)
    c = contents.read(vault.store, 3)
    model = contents.Maker(vault.charter).module(c.preprocessing, plan.outputs)
    learner = retain.Learner(
        model, c.method, plan.optim, seed=plan.seed, scenario="class", classes="seen", schedule=plan.schedule
    )
    learner.start(contents.empty(c.preprocessing, None))
    torch.manual_seed(plan.seed)
    for i, (x, y) in enumerate(parts):
        t = torch.from_numpy(y).long()
        rows, _ = held_out(t, plan, given=False)
        train = retain.Examples(torch.from_numpy(x)[rows], t[rows])
        task = retain.Task(i, f"update-{i + 1}", train, None, None, tuple(t.unique().tolist()))
        learner.begin_task(task, plan.order(len(train)).steps(len(train)))
        for xb, yb in retain.batches(train, plan.order(len(train)), plan.seed, i):
            learner.observe(xb, yb)
        learner.end_task()
    for k, p in learner.params.items():
        assert torch.equal(p, c.snapshot["params"][k]), k  # type: ignore[index]


def test_a_label_shuffled_update_is_refused_and_nothing_served_changes(copy: Vault) -> None:
    x, y = digits((0, 1, 2, 3), 500, start=600)
    before, served = copy.predict((x, None)).probabilities, copy.served
    update = copy.learn((x, (y + 1) % 4), "shuffled")
    assert not update.promoted
    assert update.reason.startswith("refused: ")
    again = open_vault(copy.path)
    assert again.served == served
    assert torch.equal(again.predict((x, None)).probabilities, before)
    assert copy.history()[-1]["promoted"] is False
    copy.promote(update.version, "to see what it does")
    assert copy.served == update.version
    assert copy.rollback() == served
    assert [e["event"] for e in copy.history()[-2:]] == ["promote", "rollback"]


def test_a_small_update_whose_labels_slipped_is_refused_for_that(copy: Vault) -> None:
    """Guards of this size cannot tell, and the candidate does know the new labels better."""
    x, y = digits((0, 1, 2, 3), 10, start=600)
    seen = copy.watch((x, (y + 1) % 4))
    assert seen["drifted"] and seen["findings"][-1].startswith("the labels contradict what is served: of ")
    update = copy.learn((x, (y + 1) % 4), "slipped")
    assert not update.promoted and update.reason.startswith(
        "refused: the labels contradict what is served: of "
    )
    said = update.record["gate"]["labels"]
    assert said["n"] >= 8 and said["agree"] <= 1 and said["expected"] > 0.8 and said["p"] < 0.01
    page = copy.report_path(update.version).read_text(encoding="utf-8")
    assert f"<b>The labels contradict what is served.</b> Of {said['n']} new examples" in page
    honest = copy.learn((x, y), "right")
    assert honest.record["gate"]["labels"]["p"] > 0.5 and "labels" not in honest.reason


def test_where_no_guard_is_left_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    vault = init(tmp_path / "v", "mlp:16", **QUICK)
    vault.learn(digits((0, 1), 60), "a")
    vault.forget(task="a")
    said = {"drifted": False, "findings": ["there is no guard to compare with"], "tests": []}
    assert vault.watch(digits((0, 1), 30)) == said
    update = vault.learn(digits((0, 1), 60), "b")
    assert update.record["drift"] == said and update.record["gate"]["labels"] is None


class EndsInSoftmax(nn.Module):
    """A network that does not end in a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(784, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.inner(x.flatten(1)), 1)


@pytest.mark.parametrize("task_known", [False, True])
def test_a_network_that_ends_in_no_linear_layer_is_updated_again(tmp_path: Path, task_known: bool) -> None:
    settings = {k: v for k, v in QUICK.items() if k != "outputs"}
    vault = init(tmp_path / "v", EndsInSoftmax(), **settings, task_known=task_known)
    for classes in ((0, 1), (0, 1)):
        assert vault.learn(digits(classes, 60)).record["schema"] == 1


def test_one_example_is_an_update(tmp_path: Path) -> None:
    vault = init(tmp_path / "v", "mlp:16", epochs=2)
    x, y = digits((0, 1), 30)
    update = vault.learn((x[:1], y[:1]), guard=(x, y))
    assert update.record["data"]["trained_on"] == 1 and update.record["cost"]["epochs"] == 2


def test_where_the_task_is_known_labels_are_not_compared(tmp_path: Path) -> None:
    vault = init(tmp_path / "v", "mlp:16", **QUICK, task_known=True)
    for classes in ((0, 1), (0, 1)):
        update = vault.learn(digits(classes, 60))
    assert update.record["gate"]["labels"] is None


def test_force_serves_and_is_recorded(copy: Vault) -> None:
    x, y = digits((0, 1, 2, 3), 500, start=600)
    update = copy.learn((x, (y + 1) % 4), force=True)
    assert update.promoted and copy.served == update.version
    assert update.record["forced"] and "by force" in update.reason
    assert copy.history()[-1]["forced"] is True


def test_the_same_update_again_gives_the_same_bits(copy: Vault, learned: Path) -> None:
    other = init(copy.path.parent / "other", "mlp:64", **QUICK)
    for classes in ((0, 1), (2, 3)):
        other.learn(digits(classes))
    assert state(other, 1) == state(copy, 1) and state(other) == state(copy)
    assert other.store.manifest(2)["blobs"] == copy.store.manifest(2)["blobs"]


def test_stopped_and_taken_up_again_it_ends_in_the_same_bits(copy: Vault) -> None:
    whole = open_vault(copy.path).learn(digits((4, 5)), "next")
    bits = state(copy, whole.version)
    copy.rollback()
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 20

    with pytest.raises(Interrupted):
        copy.learn(digits((4, 5)), "next", stop=stop)
    assert (copy.path / "work" / "training.safetensors").exists()
    steps: list[int] = []
    update = copy.learn(digits((4, 5)), "next", progress=lambda what, done, of: steps.append(done))
    assert state(copy, update.version) == bits
    assert not (copy.path / "work" / "training.safetensors").exists()


def test_data_that_do_not_fit_change_nothing(copy: Vault) -> None:
    before = {p: p.read_bytes() for p in copy.path.rglob("*") if p.is_file() and p.name != "lock"}
    x, y = digits((4,), 20)
    for bad, what in (
        ((x[:, :, :14], y), r"pixels"),
        ((np.zeros((30, 4), np.float32), np.arange(30)), "table"),
        ((x[:2], y[:2]), "too few"),
        ((x, None), "label"),
    ):
        with pytest.raises(BadData, match=what):
            copy.learn(bad)
    with pytest.raises(VaultError, match="learned already"):
        copy.learn((x, y), "update-1")
    assert before == {p: p.read_bytes() for p in copy.path.rglob("*") if p.is_file() and p.name != "lock"}


def test_one_class_updates_and_classes_that_come_back(copy: Vault) -> None:
    assert copy.learn(digits((7,)), "seven").promoted
    again = copy.learn(digits((0, 7), start=700), "again", force=True)
    assert again.record["data"]["new_classes"] == []
    assert copy.predict((digits((7,), 50, 2000)[0], None)).labels.count(7) > 25


def test_a_guard_of_ones_own_may_stay_where_it_is(copy: Vault, tmp_path: Path) -> None:
    x, y = digits((4, 5), 60, start=900)
    np.savez(tmp_path / "guard.npz", x=x, y=y)
    update = copy.learn(digits((4, 5)), guard=tmp_path / "guard.npz", guard_stays=True)
    assert update.record["data"]["guards"] == 120
    assert update.record["data"]["trained_on"] == 600
    assert copy.evaluate()["update-3"] > 0.8
    np.savez(tmp_path / "guard.npz", x=x[::-1], y=y[::-1])
    with pytest.raises(BadData, match="not what it was"):
        copy.learn(digits((6,)))


def test_from_scratch_needs_the_data_and_compares(tmp_path: Path) -> None:
    for i, c in enumerate(((0, 1), (2, 3))):
        x, y = digits(c)
        np.savez(tmp_path / f"{i}.npz", x=x, y=y)
    vault = init(tmp_path / "v", "mlp:64", **QUICK)
    vault.learn(tmp_path / "0.npz")
    update = vault.learn(tmp_path / "1.npz", scratch=True)
    scratch = update.record["scratch"]
    assert scratch["guards"] == ["update-1", "update-2"] and min(scratch["accuracy"]) > 0.9
    (tmp_path / "0.npz").unlink()
    with pytest.raises(BadData, match="update-1 are gone"):
        vault.learn(digits((4, 5)), scratch=True)


def test_only_one_writes(copy: Vault) -> None:
    with open_vault(copy.path).store.writing(), pytest.raises(Busy, match="is being written to by process"):
        copy.learn(digits((4, 5)))


def test_forget_a_class(copy: Vault) -> None:
    record = copy.forget(cls="2")
    assert any("guard of update-2" in line for line in record["removed"])
    assert any("the method had kept" in line for line in record["removed"])
    assert any("weights" in line for line in record["kept"])
    assert copy.store.versions() == [copy.served]
    c = contents.read(copy.store, copy.served or 0)
    memory = c.snapshot["state"].memory  # type: ignore[index]
    assert 2 not in memory.y.tolist()
    assert 2 not in copy.predict((digits((2,), 50)[0], None)).labels
    assert copy.learn(digits((4, 5))).promoted  # and it goes on
    with pytest.raises(VaultError, match="no class is called '2'"):
        copy.forget(cls="2")


def test_forget_examples(copy: Vault) -> None:
    x, _ = digits((0, 1))
    record = copy.forget(examples=(x, None))
    assert any("the method had kept" in line for line in record["removed"])
    c = contents.read(copy.store, copy.served or 0)
    assert set(c.snapshot["state"].memory.y.tolist()) == {2, 3}  # type: ignore[index]
    assert [g.name for g in c.guards] == ["update-2"]


def test_forget_is_exact_for_a_closed_form_head(tmp_path: Path) -> None:
    """As if the class had never come, to the last bits of sums in float64."""
    seen = []
    for name, classes in (("with", (0, 1, 2)), ("without", (0, 1))):
        vault = init(tmp_path / name, "mlp:64", retain.NCM(), store="statistics", **QUICK)
        vault.learn(digits((0, 1)))
        if len(classes) == 3:
            vault.learn(digits((2,)), force=True)
            record = vault.forget(cls="2")
            assert any("exactly" in line for line in record["removed"])
        c = contents.read(vault.store, vault.served or 0)
        seen.append(c.snapshot["state"].moments.s[:2])  # type: ignore[index]
    assert torch.equal(seen[0], seen[1])


def test_watch(copy: Vault) -> None:
    same = copy.watch(digits((0, 1, 2, 3), 100, start=2000))
    assert not same["drifted"]
    x, y = digits((0, 1, 2, 3), 100, start=2000)
    other = copy.watch((255 - x, y))
    assert other["drifted"] and other["tests"]


class Net(nn.Module):
    """A network of one's own with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 6)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    vault = init(
        tmp_path / "v",
        net,
        **{
            **QUICK,
        },
    )
    for c in ((0, 1), (2, 3)):
        assert vault.learn(digits(c), force=True).promoted
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())  # the caller's stays as it is
    x, y = digits((0, 1, 2, 3), 100, start=1000)
    said = open_vault(tmp_path / "v", Net()).predict((x, None))
    assert np.mean(np.array(said.labels) == y) > 0.9
    with pytest.raises(VaultError, match="open it in Python"):
        open_vault(tmp_path / "v").predict((x, None))
    with pytest.raises(VaultError, match="has 6 outputs"):
        vault.learn(digits((4, 5, 6)))


def test_early_stopping_keeps_the_best_pass(tmp_path: Path) -> None:
    vault = init(tmp_path / "v", "mlp:64", **{**QUICK, "epochs": 30, "patience": 1})
    update = vault.learn(digits((0, 1)))
    assert 1 <= update.record["cost"]["epochs"] < 30


def test_settings_that_make_no_sense_are_named(tmp_path: Path) -> None:
    for wrong, what in (
        ({"epochs": 0}, "epochs"), ({"margin": 0.0}, "margin"), ({"colour": 1}, "no setting 'colour'"),
        ({"memory_bytes": "many"}, "size"), ({"model": "tree"}, "model"),
        ({"store": "nothing"}, "no method keeps old classes"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=what):
            vault = init(tmp_path / "v", **wrong)
            vault.learn(digits((0, 1), 50))
            vault.learn(digits((2, 3), 50))
        import shutil

        shutil.rmtree(tmp_path / "v", ignore_errors=True)
    with pytest.raises(VaultError, match="trains on the data of all"):
        init(tmp_path / "w", method=retain.Joint())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(VaultError, match="not empty"):
        init(tmp_path / "full")
    with pytest.raises(FileNotFoundError, match="no vault"):
        open_vault(tmp_path / "none")


def test_a_damaged_file_never_predicts(copy: Vault) -> None:
    served = copy.served or 0
    x, _ = digits((0,), 5)
    for name in ("state.safetensors", "contents.json", "manifest.json"):
        path = copy.store.folder(served) / name
        good = path.read_bytes()
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        for bad in (bytes(flipped), good[:-1], b""):
            path.write_bytes(bad)
            with pytest.raises(Damaged):
                open_vault(copy.path).predict((x, None))
            assert any(name in p.path and p.serving for p in copy.verify())
        path.unlink()
        with pytest.raises(Damaged):
            open_vault(copy.path).predict((x, None))
        path.write_bytes(good)
    assert copy.verify() == []


def test_the_history_keeps_a_brief_record(copy: Vault) -> None:
    for event in copy.history():
        assert len(json.dumps(event)) < 10_000
    assert copy.record(2)["matrix"]["guards"] == ["update-1", "update-2"]


def test_numbers_are_predicted_too(tmp_path: Path) -> None:
    """Regression: a table whose months ask for other parts of one function."""
    rng = np.random.default_rng(0)
    vault = init(
        tmp_path / "v", "mlp:64", target="regression", label="price", epochs=30, lr=0.01, batch_size=32
    )
    for month in range(2):
        a, b = rng.normal(month, 1, 600), rng.normal(0, 1, 600)
        rows = [f"{u!r},{v!r},{u * 2 + v!r}" for u, v in zip(a.tolist(), b.tolist(), strict=True)]
        (tmp_path / f"{month}.csv").write_text("\n".join(["a,b,price", *rows]))
        update = vault.learn(tmp_path / f"{month}.csv")
        assert update.promoted, update.reason
        assert update.record["matrix"]["measure"] == "loss"
    said = vault.predict(tmp_path / "0.csv")
    assert said.classes == ["price"] and len(said.labels) == 600
    assert max(vault.evaluate().values()) < 0.1  # half the squared error; the variance is 5


def test_several_labels_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 4)).astype(np.float32)
    y = np.stack([x[:, 0] > 0, x[:, 1] + x[:, 2] > 0], 1).astype(np.float32)
    vault = init(tmp_path / "v", "mlp:32", target="multilabel", epochs=20, batch_size=32, lr=0.01)
    assert vault.learn((x, y)).promoted
    assert np.mean(np.array(vault.predict((x, None)).labels) == y) > 0.95


def test_rare_classes_can_count_as_much(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2)).astype(np.float32)
    y = np.where(rng.random(2000) < 0.05, "rare", "common")
    x[y == "rare", 0] += 1.0
    found = []
    for weights in ("none", "balanced"):
        vault = init(tmp_path / weights, "mlp:16", method=retain.Replay(), epochs=5, class_weights=weights)
        vault.learn((x, list(y)))
        found.append(vault.predict((x[y == "rare"], None)).labels.count("rare") / (y == "rare").sum())
    assert found[1] > found[0] + 0.3


@pytest.mark.parametrize("task_known", [False, True])
def test_guards_of_many_updates_are_joined_and_still_guard(tmp_path: Path, task_known: bool) -> None:
    vault = init(
        tmp_path / "v", "mlp:32", **QUICK | {"guard_sets": 2, "task_known": task_known, "margin": 30.0}
    )
    for classes in ((0, 1), (2, 3), (4, 5), (6, 7)):
        update = vault.learn(digits(classes, 150), force=True)
    assert update.record["matrix"]["guards"] == ["update-1 to update-2", "update-3", "update-4"]
    c = contents.read(vault.store, vault.served or 0)
    assert [g.name for g in c.guards] == ["update-1 to update-3", "update-4"]
    found = vault.evaluate()
    assert list(found) == [g.name for g in c.guards]
    if task_known:  # each example as one of its own update
        assert min(found.values()) > 0.9
    with pytest.raises(VaultError, match="a guard of several updates is called 'update-1 to update-3'"):
        vault.learn(digits((8, 9), 150), "update-1 to update-3")
    record = vault.forget(task="update-2")
    assert "60 of 180 examples of the guard of update-1 to update-3" in record["removed"]
    if task_known:  # what is left is still predicted as what it was
        assert min(vault.evaluate().values()) > 0.9


def test_the_head_grows_where_its_outputs_are_too_few(tmp_path: Path) -> None:
    vault = init(tmp_path / "v", "mlp:64", **QUICK | {"outputs": 4, "class_weights": "balanced"})
    for i, classes in enumerate(((0, 1), (2, 3), (4, 5, 6))):
        assert vault.learn(digits(classes), force=True).promoted
        assert contents.read(vault.store, i + 1).outputs == (4, 4, 8)[i]
    x, y = digits((0, 1, 2, 3, 4, 5, 6), 100, start=1000)
    said = open_vault(vault.path).predict((x, None))
    assert said.classes == [0, 1, 2, 3, 4, 5, 6] and np.mean(np.array(said.labels) == y) > 0.85


def test_a_head_that_cannot_grow_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    vault = init(
        tmp_path / "v", "mlp:64", retain.DERpp(memory=50), **QUICK | {"outputs": 2, "memory_bytes": None}
    )
    vault.learn(digits((0, 1)))
    before = state(vault)
    with pytest.raises(
        VaultError, match=r"made for 2 classes .* cannot grow: DERpp.* \(retain init --outputs 4\)"
    ):
        vault.learn(digits((2, 3)))
    assert vault.store.versions() == [1] and state(vault) == before


def test_a_vault_imports_no_factory_that_its_user_has_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import torch
def make(shape, outputs):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, outputs))
"""
    (tmp_path / "stranger_nets.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    vault = init(tmp_path / "v", "stranger_nets:make", **QUICK)
    vault.learn(digits((0, 1)))
    del sys.modules["stranger_nets"]
    x, _ = digits((0, 1), 5)
    for model in (None, "others:make"):
        with pytest.raises(
            VaultError, match=r"code that is not in it, stranger_nets:make.*RETAIN_MODELS=stranger_nets"
        ):
            open_vault(vault.path, model).predict((x, None))
    assert "stranger_nets" not in sys.modules
    wanted = vault.predict((x, None)).probabilities
    assert torch.equal(open_vault(vault.path, "stranger_nets:make").predict((x, None)).probabilities, wanted)
    monkeypatch.setenv("RETAIN_MODELS", "shop.nets, stranger_nets")
    assert torch.equal(open_vault(vault.path).predict((x, None)).probabilities, wanted)


@pytest.mark.parametrize("n", [1, 2, 9, 81, 33, 128 * 40 + 1, 57])
def test_a_batch_that_is_not_given_leaves_no_example_alone(n: int) -> None:
    size = Plan(epochs=5).order(n).batch_size
    assert 8 <= size <= 140 and (n == 1 or n % size != 1)
    assert Plan(epochs=5, batch_size=8).order(n).batch_size == 8
