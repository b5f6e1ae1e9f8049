"""A head that grows: a learner with C outputs becomes one with more, and keeps all that it knows.

What depends on the number of outputs is found by looking, not by guessing: two fresh learners, with the old and
with the new number, are taught the same two tiny tasks, and wherever their shapes differ there is an axis of
outputs. Along it the old entries stay as they were. A new one is

- of the network's parameters: as the larger network begins;
- of the optimiser's moments: 0;
- of the method's state: of what is a copy of the weights, as the larger network begins; otherwise what `init`
  gives, or 0.

The last is checked as well: in the larger one of the two learners no class of a new output has come, so its state
shows what a method holds of such an output. A method that holds something else cannot grow, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from retain import tree
from retain.examples import Examples
from retain.learner import Learner
from retain.types import Params, Spec, Task

ROWS = 16  # examples of each of the two tasks on which it is looked at what depends on the outputs
PARTS = ("params", "state", "optimizers")  # of a snapshot, that may depend on the outputs


class _Looked(NamedTuple):
    """What the two learners hold at one place, and what the larger one held there at first; None: nothing."""

    small: Any
    large: Any
    first: Any

    def at(self, key: Any) -> _Looked:
        """The same one step further in."""
        return _Looked(*(_child(t, key) for t in self))


class _Sizes(NamedTuple):
    """From how many outputs to how many, of which part; and the weights that copies of them are known by."""

    part: str
    old: int
    new: int
    fresh: Params  # of the larger network as it begins
    taught: tuple[Params, ...]  # of the larger of the two learners that were looked at: at first, and at last


def grow(learner: Learner, make: Callable[[int], Learner], outputs: int) -> Learner:
    """The learner with more outputs, between two tasks; every old weight and number in it has the same bits.

    What it predicts for the old classes is the same too, but for the rounding of a last layer of another width.

    Args:
        learner: in scenario class with classes `seen`, where outputs without a class are out of play. It is
            not changed, but shares tensors with the one given back: go on with that.
        make: gives a fresh learner whose network has so many outputs, with the same method, optimiser and
            settings. It is called three times; what it draws decides the new outputs' first weights.
        outputs: C', more than the learner has.

    Raises:
        ValueError: not more outputs, another method or scenario, or a method, network or state that cannot grow.

    >>> def make(outputs):
    ...     _ = torch.manual_seed(0)
    ...     return Learner(torch.nn.Linear(2, outputs), Naive(), scenario="class", classes="seen")
    >>> from retain import Naive
    >>> data = Examples(torch.eye(2), torch.arange(2))
    >>> learner = make(2)
    >>> learner.begin_task(Task(0, "a", data, None, None, (0, 1)))
    >>> larger = grow(learner, make, 3)
    >>> larger.predict(torch.eye(2))[:, :2].allclose(learner.predict(torch.eye(2)))
    True
    >>> larger.predict(torch.eye(2))[:, 2]
    tensor([-inf, -inf])
    """
    problem = learner._bound
    spec, in_play = problem.spec, learner.in_play
    if outputs <= spec.classes:
        raise ValueError(f"outputs must be more than the {spec.classes} there are, got {outputs}")
    if (in_play.scenario, in_play.classes, problem.objective) != ("class", "seen", "cross-entropy"):
        raise ValueError(
            "growing needs scenario class with classes seen and the cross-entropy, where outputs without a class "
            f"are out of play; this is {in_play.scenario} with {in_play.classes}, {problem.objective}"
        )
    with torch.random.fork_rng(devices=[spec.device] if spec.device.type == "cuda" else []):
        small, _, _ = _taught(learner, make, spec.classes)
        large, first, begun = _taught(learner, make, outputs)
        target = _fresh(learner, make, outputs)
        target.start(_examples(spec, (0,)))
    old = learner.snapshot()
    for part in PARTS:
        sizes = _Sizes(part, spec.classes, outputs, target.params, (begun, large["params"]))
        looked = _Looked(small[part], large[part], first[part])
        old[part] = _grown(old[part], looked, sizes, f"{type(learner.method).__name__}: {part}", "")
    target.restore(old, [], None, 0)
    return target


def _fresh(learner: Learner, make: Callable[[int], Learner], outputs: int) -> Learner:
    one = make(outputs)
    if one.method != learner.method or one.seed != learner.seed:
        raise ValueError(
            f"make({outputs}) gave a learner with method {one.method} and seed {one.seed}, this one has "
            f"{learner.method} and {learner.seed}: it must be made in the same way"
        )
    one.in_play.scenario, one.in_play.classes = learner.in_play.scenario, learner.in_play.classes
    return one


def _taught(
    learner: Learner, make: Callable[[int], Learner], outputs: int
) -> tuple[dict[str, Any], dict[str, Any], Params]:
    """What a learner with so many outputs holds after two tiny tasks, what it held before, and its weights then."""
    one, spec = _fresh(learner, make, outputs), learner._bound.spec
    first = min(2, max(1, spec.classes // 2))
    second = tuple(range(first, min(spec.classes, first + 2))) or (0,)
    one.start(_examples(spec, (0,)))
    if one._bound.spec.classes != outputs:
        raise ValueError(f"make({outputs}) gave a network with {one._bound.spec.classes} outputs")
    before = tree.alike(_kept, {k: one.snapshot()[k] for k in PARTS})
    for index, classes in enumerate((tuple(range(first)), second)):
        task = Task(index, f"task {index + 1}", _examples(spec, classes), None, None, classes)
        one.begin_task(task, steps=2)
        for _ in range(2):
            one.observe(*task.train.batch(torch.arange(ROWS)))
        one.end_task()
    return one.snapshot(), before, before["params"]


def _kept(leaf: tuple[Any, ...]) -> Any:
    return leaf[0].detach().clone() if isinstance(leaf[0], Tensor) else leaf[0]


def _examples(spec: Spec, classes: tuple[int, ...]) -> Examples:
    """Some inputs such as the learner's, of these classes in turn; always the same."""
    rng = torch.Generator().manual_seed(0)
    y = torch.tensor(classes).repeat(ROWS)[:ROWS]
    if spec.range is None:
        return Examples(torch.randn(ROWS, *spec.shape, generator=rng, dtype=spec.dtype), y)
    low, high = spec.range
    x = torch.randint(256, (ROWS, *spec.shape), generator=rng, dtype=torch.uint8)
    plain = (low, high) == (0.0, 1.0)
    return Examples(x, y, normalise=None if plain else (-low / (high - low), 1 / (high - low)))


def _child(tree: Any, key: Any) -> Any:
    """What lies there, in a dict or a tuple; None where nothing does."""
    if isinstance(tree, dict):
        return tree.get(key)
    return tree[key] if isinstance(tree, tuple | list) and isinstance(key, int) and key < len(tree) else None


def _grown(old: Any, looked: _Looked, sizes: _Sizes, where: str, name: str) -> Any:
    """A nested state with more outputs; `name` is the key under which it lies."""
    if isinstance(old, Tensor):
        return _larger(old, looked, sizes, where, name)
    if isinstance(old, dict):
        return {k: _grown(v, looked.at(k), sizes, f"{where} {k}", str(k)) for k, v in old.items()}
    if isinstance(old, tuple | list):
        values = [_grown(v, looked.at(i), sizes, f"{where}[{i}]", name) for i, v in enumerate(old)]
        return type(old)(*values) if "_fields" in vars(type(old)) else type(old)(values)
    if isinstance(old, int) and looked.small != looked.large:
        raise _stuck(where, f"is {looked.small} with {sizes.old} outputs and {looked.large} with {sizes.new}")
    return old


def _larger(old: Tensor, looked: _Looked, sizes: _Sizes, where: str, name: str) -> Tensor:
    """A tensor with more entries along each axis of outputs, if it has any."""
    small, large, first = looked
    if not (
        isinstance(small, Tensor) and isinstance(large, Tensor) and small.dim() == large.dim() == old.dim()
    ):
        raise _stuck(where, "is not there, or is of another kind, after two tasks: it keeps tasks apart")
    axes = [d for d in range(old.dim()) if small.shape[d] != large.shape[d]]
    if not axes:
        return old
    if any((small.shape[d], large.shape[d], old.shape[d]) != (sizes.old, sizes.new, sizes.old) for d in axes):
        shapes = f"{list(small.shape)} with {sizes.old} outputs and {list(large.shape)} with {sizes.new}"
        raise _stuck(where, f"is {shapes} after two tasks, and here {list(old.shape)}")
    shape = [sizes.new if d in axes else n for d, n in enumerate(old.shape)]
    lead = tuple(slice(sizes.old if d in axes else None) for d in range(old.dim()))
    new = _beginning(large, first, sizes, where, name, shape, lead).to(old).clone()
    new[lead] = old.detach()
    return new


def _beginning(
    large: Tensor, first: Any, sizes: _Sizes, where: str, name: str, shape: list[int], lead: tuple[slice, ...]
) -> Tensor:
    """A tensor of this shape whose new entries, outside `lead`, are what they begin as."""
    fresh, none = sizes.fresh.get(name), large.new_zeros(shape)
    if sizes.part == "optimizers":
        return none
    if fresh is not None and list(fresh.shape) == shape:
        copied = any(name in p and torch.equal(p[name], large) for p in sizes.taught)
        if sizes.part == "params" or copied:
            return fresh.detach()
    begun = first if isinstance(first, Tensor) and list(first.shape) == shape else none
    expected = begun if begun.shape == large.shape else torch.zeros_like(large)
    if not torch.equal(_outside(large, lead), _outside(expected, lead)):
        raise _stuck(
            where, "holds something of an output whose class never came, which a new one cannot be given"
        )
    return begun


def _outside(t: Tensor, lead: tuple[slice, ...]) -> Tensor:
    """With 0 for the old entries."""
    t = t.detach().clone()
    t[lead] = 0
    return t


def _stuck(where: str, why: str) -> ValueError:
    return ValueError(
        f"this learner cannot grow: {where} {why}; make the network with outputs for classes to come from the start, "
        "they stay out of play until then"
    )
