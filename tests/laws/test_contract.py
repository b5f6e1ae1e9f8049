"""Laws of single calls: what a method may touch, what it may see, and what it gives back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
import torch
from tests.laws.toy import (
    CLASSES,
    EXCEPT,
    METHODS,
    ORDER,
    PAIRS,
    SCENARIOS,
    Scenario,
    clone,
    differing,
    double,
    go,
    home,
    images,
    learner,
    leaves,
    mlp,
    stream,
)
from torch import Generator, Tensor, nn

from retain import GEM, GradientMethod, Learner, Optim, Order, Replay, Stream, batches, run
from retain.combine import Chain, describe
from retain.examples import Examples
from retain.method import Growth, Stores
from retain.methods import discover
from retain.types import HIDDEN, Batch, Params, Problem, Task

each_method = pytest.mark.parametrize("name", METHODS)
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS)
each_pair = pytest.mark.parametrize(("name", "scenario"), PAIRS)


def tensors_of(task: Task) -> dict[str, Tensor]:
    """All that a task holds of a stream."""
    assert isinstance(task.train, Examples) and isinstance(task.test, Examples)
    return {"x": task.train.x, "y": task.train.y, "test x": task.test.x, "test y": task.test.y}


@each_pair
def test_batch_task_and_inputs_of_predict_are_not_changed(name: str, scenario: Scenario) -> None:
    one = learner(METHODS[name], "cnn", scenario=scenario)
    held = [tensors_of(t) for t in stream(scenario)]
    before, versions = clone(held), [v._version for t in held for v in t.values()]
    for task in stream(scenario):
        one.begin_task(task)
        for x, y in batches(task.train, ORDER, 0, task.index):
            same, version = (x.clone(), y.clone()), (x._version, y._version)
            one.observe(x, y)
            assert differing((x, y), same) == [] and (x._version, y._version) == version
        one.end_task()
        asked, same_x = x.clone(), x.clone()
        one.predict(asked, task)
        assert torch.equal(asked, same_x) and asked._version == 0
    assert differing(held, before) == []
    assert [v._version for t in held for v in t.values()] == versions


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if isinstance(m, GradientMethod)])
def test_hooks_leave_the_batch_they_get_as_it_is(name: str) -> None:
    method = METHODS[name]
    assert isinstance(method, GradientMethod)
    one, _ = go(method)
    problem, task = one._bound, stream(home(method))[0]
    x, y = task.train.batch(torch.arange(12))
    batch = Batch(x, y, torch.full_like(y, task.index if home(method) == "task" else HIDDEN))
    before = clone(batch)
    given, one.state = method.batch(problem, one.params, one.state, batch, one.rng)
    given_before = clone(given)
    method.objective(problem, one.params, one.state, given, one.rng)
    grads = {k: torch.zeros_like(p) for k, p in one.params.items() if p.requires_grad}
    with torch.no_grad():
        method.gradient(problem, one.params, one.state, given, grads)
    assert differing(batch, before) == [] and differing(given, given_before) == []


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@each_method
def test_double_precision_is_kept(name: str, model: str) -> None:
    """A float64 network on float64 data, while torch's default is float32."""
    tasks = []
    for t in range(2):
        x, y = images([0, 1, 2, 3], 36, t)
        data = Examples(x.double() / 255, y)
        tasks.append(Task(t, str(t), data, data, None, (0, 1, 2, 3)))
    one = learner(METHODS[name], model)
    one = Learner(one.model.double(), METHODS[name], Optim(lr=0.1))
    run(Stream("double", tuple(tasks), home(METHODS[name]), CLASSES), one, ORDER)
    kinds = {k: p.dtype for k, p in one.params.items() if p.is_floating_point()}
    assert set(kinds.values()) == {torch.float64}, kinds
    found = {k: v.dtype for k, v in leaves(one.state) if isinstance(v, Tensor) and v.is_floating_point()}
    counts = {"[6]"} if isinstance(METHODS[name], GEM) else set()  # how many steps were projected
    assert set(found) - counts == {k for k, d in found.items() if d == torch.float64}, found
    assert one.predict(tasks[0].train.batch(torch.arange(3))[0], tasks[0]).dtype == torch.float64


def relabelled(scenario: Scenario, order: Tensor) -> Stream:
    """The same stream with class c called order[c]."""
    arrays = []
    for task in stream(scenario):
        t = tensors_of(task)
        arrays.append((t["x"], order[t["y"]], t["test x"], order[t["test y"]]))
    return Stream.from_arrays(arrays, scenario)


@pytest.mark.parametrize(
    ("name", "scenario"), [p for p in PAIRS if p[0] not in EXCEPT["order of the classes"]]
)
def test_class_order_and_head_rows_permuted_together_permute_the_result(
    name: str, scenario: Scenario
) -> None:
    order = torch.tensor([2, 0, 3, 1])
    plain, moved = (Learner(mlp().double(), METHODS[name], Optim(lr=0.1)) for _ in range(2))
    torch.manual_seed(0)
    weights = {k: 0.2 * torch.randn(p.shape, dtype=torch.float64) for k, p in plain.model.named_parameters()}
    plain.model.load_state_dict(weights)
    renamed = {k: w.index_copy(0, order, w) if k.startswith("3.") else w for k, w in weights.items()}
    moved.model.load_state_dict(renamed)
    with double():
        one = run(stream(scenario), plain, ORDER)
        two = run(relabelled(scenario, order), moved, ORDER)
        x = stream(scenario)[0].train.batch(torch.arange(12))[0]
    task = stream(scenario)[0]
    a = plain.method.predict(plain._bound, plain.params, plain.state, x, torch.full((12,), task.index))
    b = moved.method.predict(moved._bound, moved.params, moved.state, x, torch.full((12,), task.index))
    torch.testing.assert_close(b[:, order], a, rtol=1e-6, atol=1e-6)
    assert one.accuracy == two.accuracy


@dataclass(frozen=True)
class Spy(GradientMethod[None]):
    """Writes down which task numbers and test sets methods are shown."""

    seen: dict[str, list[Any]] = field(default_factory=dict)

    def note(self, where: str, what: Any) -> None:
        self.seen.setdefault(where, []).append(what)

    def begin_task(
        self, problem: Problem, params: Params, state: None, task: Task, rng: Generator
    ) -> tuple[Params, None]:
        self.note("begin", task)
        return params, None

    def end_task(
        self, problem: Problem, params: Params, state: None, task: Task, update: Any, rng: Generator
    ) -> tuple[Params, None]:
        self.note("end", task)
        return params, None

    def batch(
        self, problem: Problem, params: Params, state: None, batch: Batch, rng: Generator
    ) -> tuple[Batch, None]:
        self.note("batch", batch.task.tolist())
        return batch, None

    def view(
        self, problem: Problem, params: Params, state: None, task: Tensor, rng: Generator | None
    ) -> Params:
        self.note("predict" if rng is None else "view", task.tolist())
        return params


@each_scenario
def test_trap_9_no_task_number_where_the_scenario_hides_it_and_never_a_test_set(scenario: Scenario) -> None:
    spy = Spy()
    go(Chain((spy, Replay())), scenario)
    shown = [n for where in ("batch", "view", "predict") for numbers in spy.seen[where] for n in numbers]
    tasks = spy.seen["begin"] + spy.seen["end"]
    assert len(tasks) == 6 and all(t.test is None for t in tasks)
    expected = {0, 1, 2} if scenario == "task" else {HIDDEN}
    assert set(shown) == expected == {t.index for t in tasks}


@pytest.mark.parametrize(("name", "scenario"), [p for p in PAIRS if p[1] != "task"])
def test_trap_9_a_prediction_is_the_same_whatever_task_is_said_to_be_asked(
    name: str, scenario: Scenario
) -> None:
    one, _ = go(METHODS[name], scenario)
    x = stream(scenario)[0].train.batch(torch.arange(20))[0]
    expected = one.predict(x)
    for task in stream(scenario):
        assert torch.equal(one.predict(x, task), expected)
    numbers = [v for k, v in leaves(one.state) if isinstance(v, Tensor) and k.endswith(("task", "past[2]"))]
    assert all(bool((v <= 0).all()) for v in numbers), "a task number was kept"


@each_pair
def test_logits_are_finite_repeatable_and_masked_only_outside_the_method(
    name: str, scenario: Scenario
) -> None:
    one, _ = go(METHODS[name], scenario, "cnn")
    x = stream(scenario)[0].train.batch(torch.arange(20))[0]
    index = torch.full((20,), 0 if scenario == "task" else HIDDEN)
    with torch.no_grad():
        raw = one.method.predict(one._bound, one.params, one.state, x, index)
    assert raw.shape == (20, CLASSES) and bool(raw.isfinite().all())
    logits = one.predict(x, stream(scenario)[0])
    assert torch.equal(logits, one.predict(x, stream(scenario)[0]))
    hidden = logits.isinf().any(0).tolist()
    assert hidden == ([False, False, True, True] if scenario == "task" else [False] * 4)


@each_method
def test_only_training_steps_move_running_statistics_or_draw_from_torchs_generator(name: str) -> None:
    where, free = home(METHODS[name]), name in EXCEPT["one step a batch"]
    one = learner(METHODS[name], "cnn", scenario=where)
    steps = 0
    for task in stream(where):
        with untouched(one, buffers=not free):
            one.begin_task(task)
        for x, y in batches(task.train, ORDER, 0, task.index):
            one.observe(x, y)
            steps += 1
            with untouched(one):
                one.predict(x, task)
                one.inspect(end=False)
        with untouched(one, buffers=not free):
            one.end_task()
            one.inspect(end=True)
    assert free or int(one.params["1.num_batches_tracked"]) == steps


class untouched:
    """Inside, nothing moves a buffer of the network or torch's global generator."""

    def __init__(self, one: Learner, buffers: bool = True):
        self.one, self.buffers = one, buffers

    def look(self) -> dict[str, Any]:
        buffers = dict(self.one.model.named_buffers()) if self.buffers else {}
        return clone({"rng": torch.get_rng_state(), "buffers": buffers})  # type: ignore[no-any-return]

    def __enter__(self) -> None:
        self.before = self.look()

    def __exit__(self, *args: object) -> None:
        assert differing(self.look(), self.before) == []


@each_method
def test_a_run_draws_nothing_from_torchs_generator_but_what_dropout_does(name: str) -> None:
    one = learner(METHODS[name], "mlp")
    with untouched(one):
        run(stream(home(METHODS[name])), one, ORDER)


def test_a_batchnorm_that_its_owner_froze_stays_frozen() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4))
    model[1].eval()
    one = Learner(model, METHODS["ewc"], Optim(lr=0.1))
    run(stream("domain"), one, ORDER)
    assert int(one.params["1.num_batches_tracked"]) == 0


@each_method
def test_a_method_assigns_nothing_to_itself(name: str) -> None:
    method = METHODS[name]
    before, described = dict(vars(method)), describe(method)
    go(method)
    assert vars(method) == before and describe(method) == described
    assert dataclasses.is_dataclass(method)
    for f in dataclasses.fields(method):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, f.name, getattr(method, f.name))
    assert hash(method) == hash(dataclasses.replace(method))


@pytest.mark.parametrize("name", discover())
def test_a_method_says_what_it_needs_and_costs(name: str) -> None:
    kind = discover()[name]
    assert "traits" in vars(kind), "every method has traits of its own"
    t = kind.traits
    assert t.scenarios and set(t.scenarios) <= set(SCENARIOS) and set(t.fails_in) <= set(t.scenarios)
    assert t.stores in get_args(Stores) and t.growth in get_args(Growth) and t.cost


@each_method
def test_what_a_method_says_that_it_stores_is_so(name: str) -> None:
    """Raw examples only where it says examples, and no growth where it says constant."""
    method = METHODS[name]
    sizes, stored = [], []
    one = learner(method, scenario=home(method))
    first = clone(dict(one.model.named_parameters()))
    for task in stream(home(method)):
        one.begin_task(task)
        for x, y in batches(task.train, ORDER, 0, task.index):
            one.observe(x, y)
            stored.append(method.examples_stored(one.state))
        one.end_task()
        stored.append(method.examples_stored(one.state))
        sizes.append(one.state_bytes)
    assert (max(stored) > 0) == (method.needs.stores == "examples" and method.data == "task")
    kept = {p.data_ptr() for _, p in leaves(one.state) if isinstance(p, Tensor) and p.shape[1:] == (1, 8, 8)}
    assert method.needs.stores == "examples" or not kept
    if method.needs.growth == "constant":
        assert sizes[1] == sizes[2]
    if method.needs.closed_form:
        assert all(torch.equal(p, first[k]) for k, p in one.model.named_parameters())


@pytest.mark.parametrize(
    ("name", "scenario"), [(n, s) for n in METHODS for s in SCENARIOS if (n, s) not in PAIRS]
)
def test_a_scenario_that_hides_what_a_method_needs_is_refused(name: str, scenario: Scenario) -> None:
    kind = type(METHODS[name]).__name__
    with pytest.raises(ValueError, match=f"{kind} can be used in scenario .* only.*this is {scenario}"):
        go(METHODS[name], scenario)


@each_method
def test_without_boundaries_it_learns_or_says_that_it_needs_them(name: str) -> None:
    """Begin and end are never called."""
    method = METHODS[name]
    whole = stream("domain")
    unbounded = dataclasses.replace(whole[:1], boundaries=False)
    if "domain" not in method.needs.scenarios:
        return
    one = learner(method)
    if method.needs.boundaries:
        with pytest.raises(ValueError, match=r"must be told where tasks begin.*replay"):
            run(unbounded, one, ORDER)
        with pytest.raises(RuntimeError, match=r"must be told where tasks begin"):
            learner(method).observe(*whole[0].train.batch(torch.arange(12)))
        return
    run(unbounded, one, Order(epochs=20, batch_size=12), curve_every=0)
    task = whole[0]
    assert one.tasks == 0 and isinstance(task.test, Examples)
    assert one.accuracy(task.test, task) > 0.9


@pytest.mark.parametrize("name", discover())
def test_a_method_says_where_it_comes_from(name: str) -> None:
    kind = discover()[name]
    assert len(kind.paper) > 10 and kind.__doc__ and not kind.__doc__.startswith(kind.__name__ + "(")
    assert kind.__final__  # type: ignore[attr-defined]


@each_method
def test_what_a_method_tells_of_itself_is_json_and_finite(name: str) -> None:
    one, result = go(METHODS[name], model="cnn")
    assert type(result).from_json(result.to_json()) == result
    size, formula = one.method.stiffness(one.state)
    assert math.isfinite(size) and size >= 0 and bool(formula) == bool(size)
    assert one.method.examples_stored(one.state) == result.examples_stored
    assert result.state_bytes == one.state_bytes >= 0


def literals(kind: Any) -> list[str]:
    """The fields of a method that are a choice among words."""
    return [f.name for f in dataclasses.fields(kind) if "Literal" in str(f.type) or "Labels" in str(f.type)]


CHOICES = [(n, f) for n, kind in discover().items() for f in literals(kind)]


@pytest.mark.parametrize(("name", "choice"), CHOICES)
def test_a_choice_that_does_not_exist_is_refused_not_taken_for_another(name: str, choice: str) -> None:
    with pytest.raises(ValueError, match=rf"{choice} .*'nonsense'"):
        discover()[name](**{choice: "nonsense"})


KINDS: dict[str, Any] = dict(discover())
NUMBERS = [
    (n, f.name) for n, kind in KINDS.items() for f in dataclasses.fields(kind) if "float" in str(f.type)
]


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize(("name", "number"), NUMBERS)
def test_a_number_outside_its_range_is_refused(name: str, number: str, value: float) -> None:
    more = {"online": True} if number == "gamma" else {}
    with pytest.raises(ValueError, match=number):
        discover()[name](**{number: value, **more})


def test_the_network_is_trained_in_place() -> None:
    one, _ = go(METHODS["ewc"])
    assert all(one.params[k] is p for k, p in one.model.named_parameters())
