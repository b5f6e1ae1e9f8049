"""The numbers of the lecture's pictures, against what they are said to be, computed in another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from tests.unit.lecture_examples import SMALL, lecture
from torch.func import functional_call

from retain import metrics, tree
from retain.lecture import Plane, Setting, Toy, cells, dreams
from retain.lecture.gem import Moment, gradients, moment
from retain.lecture.walk import EXAMPLES, Walk, walk
from retain.methods.ewc import EWC
from retain.methods.gem import GEM
from retain.methods.naive import Naive
from retain.types import HIDDEN, Batch


@pytest.fixture(scope="module")
def plain() -> Walk:
    return walk(SMALL, Naive())


def loss_of(theta: torch.Tensor, task: int) -> float:
    """The mean loss on a task's first examples, with nothing of the package but the data and the network."""
    e = SMALL.permuted(Naive(), tasks=2)
    stream = e.build_stream()
    model = e.build_model(stream)
    torch.nn.utils.vector_to_parameters(theta.float(), model.parameters())
    x, y = stream[task].train.batch(torch.arange(EXAMPLES))
    with torch.no_grad():
        return float(nnf.cross_entropy(model(x), y))


# ---- (a) ----


def test_the_plane_contains_the_three_points(plain: Walk) -> None:
    corners = plain.thetas[[0, plain.learned, -1]]
    plane = Plane.through(*corners)
    at, off = plane.project(corners)
    assert off.max() < 1e-6
    for theta, (a, b) in zip(corners, at, strict=True):
        assert float((plane.at(a, b) - theta).abs().max()) < 1e-6
    assert torch.allclose(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64), atol=1e-12)
    assert np.allclose(lecture().surface.points, at, atol=1e-6) and lecture().surface.off.max() < 1e-6


def test_points_on_a_line_span_no_plane() -> None:
    a, b = torch.zeros(5), torch.ones(5)
    for third in (3 * b, b, a):
        with pytest.raises(ValueError, match="span no plane"):
            Plane.through(a, b, third)
    with pytest.raises(ValueError, match="span no plane"):
        Plane.through(a, a, b)


def test_the_surface_at_theta_b_is_the_loss_and_so_it_is_everywhere(plain: Walk) -> None:
    s = lecture().surface
    plane = Plane.through(*plain.thetas[[0, plain.learned, -1]])
    for task in (0, 1):
        for i, row in enumerate((0, plain.learned, -1)):
            there = plane.at(*s.points[i])
            assert plain.losses(there)[task] == pytest.approx(loss_of(plain.thetas[row], task), rel=1e-5)
            assert s.at_points[i, task] == pytest.approx(loss_of(plain.thetas[row], task), rel=1e-5)
        for i, j in ((0, 0), (0, 4), (3, 1), (4, 4)):  # rows go along b, columns along a
            assert s.losses[task, i, j] == pytest.approx(loss_of(plane.at(s.a[j], s.b[i]), task), rel=1e-4)


def test_paths_start_together_and_part_at_theta_b(plain: Walk) -> None:
    s = lecture().surface
    sgd, ewc = s.paths
    assert (sgd.lam, ewc.lam) == (0.0, 100.0)
    assert np.array_equal(sgd.at[: sgd.learned + 1], ewc.at[: ewc.learned + 1])
    assert np.allclose(sgd.at[[0, sgd.learned, -1]], s.points, atol=1e-9)
    assert sgd.off[[0, sgd.learned, -1]].max() < 1e-6 < ewc.off[-1]
    for p, method in ((sgd, Naive()), (ewc, EWC(lam=100.0, examples=EXAMPLES, proximal=True))):
        thetas = walk(SMALL, method).thetas.double()
        lengths = (thetas - thetas[0]).norm(dim=1).numpy()
        assert np.allclose(np.hypot(np.linalg.norm(p.at, axis=1), p.off), lengths, rtol=1e-9)
        assert p.losses[-1] == pytest.approx([loss_of(thetas[-1], t) for t in (0, 1)], rel=1e-5)
    assert ewc.losses[-1, 0] < sgd.losses[-1, 0]
    inside = (s.a[0], s.a[-1], s.b[0], s.b[-1])
    for p in s.paths:
        assert inside[0] < p.at[:, 0].min() and p.at[:, 0].max() < inside[1]
        assert inside[2] < p.at[:, 1].min() and p.at[:, 1].max() < inside[3]


def test_a_walk_ends_where_the_trainer_does(plain: Walk) -> None:
    e = SMALL.permuted(Naive(), tasks=2)
    course = e.course()
    course.run(False, None, None)
    assert tree.flatten(course.learner.params, plain.problem.spec.names).equal(plain.thetas[-1])


# ---- (b) ----


def test_the_two_parameters_have_the_second_derivatives_they_are_said_to_have(plain: Walk) -> None:
    e = SMALL.permuted(Naive(), tasks=2)
    stream = e.build_stream()
    model = e.build_model(stream)
    torch.nn.utils.vector_to_parameters(plain.thetas[plain.learned], model.parameters())
    model = model.double()
    x, y = stream[0].train.batch(torch.arange(EXAMPLES))
    two = lecture().parameters
    assert two.small.name == two.large.name and 0 < two.small.fisher < 0.1 * two.large.fisher
    for m in (two.small, two.large):
        weights = dict(model.named_parameters())
        flat = weights[m.name].detach().flatten()
        assert m.value == float(flat[m.place])
        one = flat[m.place].clone().requires_grad_()

        def loss(value: torch.Tensor, m=m, flat=flat, weights=weights) -> torch.Tensor:
            moved = torch.cat([flat[: m.place], value[None], flat[m.place + 1 :]]).view_as(weights[m.name])
            return nnf.cross_entropy(functional_call(model, {m.name: moved}, (x.double(),)), y)

        (first,) = torch.autograd.grad(loss(one), one, create_graph=True)
        (second,) = torch.autograd.grad(first, one)
        assert m.fisher == pytest.approx(float(second), rel=1e-9)
        assert m.second == pytest.approx(float(second), rel=1e-3)
        for i in (0, 20, 33):
            assert m.loss[i] == pytest.approx(float(loss(one + m.moves[i]).detach()), rel=1e-9)
            assert m.parabola[i] == pytest.approx(m.loss[20] + m.fisher * m.moves[i] ** 2 / 2)
    assert np.array_equal(two.small.moves, two.large.moves) and two.small.moves[20] == 0
    assert np.ptp(two.small.loss) < np.ptp(two.large.loss)
    assert 0 < two.share < 1


# ---- (c) ----


def test_the_curves_are_those_of_the_runs_and_a_strength_of_nought_is_sgd() -> None:
    three = lecture().three
    again = SMALL.permuted(EWC(lam=0.0, examples=EXAMPLES, proximal=True), tasks=3).run()
    assert again.accuracy == three.ewc.at(0.0).accuracy == three.sgd.accuracy
    assert [r.method["lam"] for r in three.l2.runs] == list(SMALL.l2_lams)
    assert three.ewc.at(100.0).method["lam"] == 100.0
    for r in (three.sgd, *three.l2.runs, *three.ewc.runs):
        assert [values[-1] for values in r.curve.task] == r.accuracy[-1]
    assert three.ewc.at(100.0).accuracy[-1][0] > three.sgd.accuracy[-1][0] + 0.02


def test_the_two_orders_are_of_the_same_two_tasks() -> None:
    first, second = lecture().orders.noisy_first, lecture().orders.clean_first
    assert first.tasks == ["noisy", "clean"] and second.tasks == ["clean", "noisy"]
    assert first.accuracy[0] == second.accuracy[0][::-1]  # the same untrained network
    assert first.accuracy[1:] != second.accuracy[1:]


# ---- (d) ----


def same_shape(m: Moment, g: torch.Tensor, G: torch.Tensor) -> None:
    """The coordinates have the lengths and products of the vectors themselves."""
    all_in_basis, all_in_full = np.vstack([m.past, m.g]), torch.cat([G, g[None]])
    scale = float(all_in_full.norm(dim=1).max()) ** 2
    assert np.allclose(
        all_in_basis @ all_in_basis.T, (all_in_full @ all_in_full.T).numpy(), atol=1e-12 * scale
    )


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


@pytest.mark.parametrize("k", [1, 2])
def test_coordinates_keep_lengths_and_angles(k: int) -> None:
    rng = torch.Generator().manual_seed(k)
    G = torch.randn(k, 40, generator=rng, dtype=torch.float64)
    g = torch.randn(40, generator=rng, dtype=torch.float64) - 0.7 * G.sum(0)
    m = moment(g, G, (0.0, 0.3), 2, 1)
    same_shape(m, g, G)
    assert m.past.shape == (k, k + 1) and (np.triu(m.past, 1) == 0).all() and m.degrees.max() > 90
    within = moment(-G.sum(0), G, (0.0,), 2, 1)  # a g that needs no axis of its own
    same_shape(within, -G.sum(0), G)
    assert np.linalg.norm(within.turned[0].g) < 1e-9 if k == 1 else True


def test_a_gradient_that_harms_no_past_task_is_left_alone_whatever_the_margin() -> None:
    G = torch.eye(2, 9, dtype=torch.float64)
    m = moment(G.sum(0), G, (0.0, 0.5), 3, 1)
    for t in m.turned:
        assert np.allclose(t.g, m.g) and t.v.tolist() == [0, 0] and t.degrees == pytest.approx([45, 45])


def test_gem_keeps_every_angle_from_being_obtuse_on_the_real_run() -> None:
    gem = lecture().gem
    assert all(0 < o <= n for o, n in zip(gem.obtuse, gem.looked, strict=True))
    for m in (*gem.plane, *gem.space):
        assert m.degrees == pytest.approx([angle(m.g, p) for p in m.past], abs=1e-6)
        for t in m.turned:
            assert t.g == pytest.approx(m.g + t.v @ m.past, abs=1e-9)
            if np.linalg.norm(t.g) > 1e-9:
                assert t.degrees == pytest.approx([angle(t.g, p) for p in m.past], abs=1e-5)
            assert t.dots == pytest.approx(m.past @ t.g, abs=1e-9)
            assert (t.dots >= -1e-9).all()
            assert (t.v >= t.margin - 1e-12).all() or m.degrees.max() <= 90
            if m.degrees.max() <= 90:
                assert np.array_equal(t.g, m.g)
    assert max(m.degrees.max() for m in gem.plane) > 90


def test_gradients_are_those_of_the_memories_and_the_batch() -> None:
    e = SMALL.permuted(GEM(memory_per_task=30, choice="random"), tasks=3)
    stream = e.build_stream()
    learner = e.build_learner(stream)
    learner.follow(stream)
    problem = learner.start(stream[0].train)
    for task in stream[:2]:
        learner.begin_task(task, 1)
        learner.observe(*task.train.batch(torch.arange(40)))
        learner.end_task()
    learner.begin_task(stream[2], 1)
    x, y = stream[2].train.batch(torch.arange(32))
    g, G = gradients(problem, learner.params, learner.state, Batch(x, y, torch.full((32,), HIDDEN)))
    old_x, old_y, _ = learner.state.past
    sets = [(x, y), (old_x[:30], old_y[:30]), (old_x[30:], old_y[30:])]
    for found, (xs, ys) in zip((g, *G), sets, strict=True):
        assert len(ys) in (30, 32)
        own = torch.autograd.grad(nnf.cross_entropy(learner.model(xs), ys), list(learner.model.parameters()))
        assert torch.allclose(found.float(), torch.cat([p.flatten() for p in own]), atol=1e-6)


# ---- (e) ----


def test_dreams_after_the_first_task_are_those_of_a_run_of_it_alone() -> None:
    d = lecture().dreams
    assert d.replay.tasks == ["0/1", "2/3"] and len(d.images) == 2
    assert all(i.shape == (24, 28, 28) and np.ptp(i) > 100 for i in d.images)
    alone = dreams(Setting(**{**vars(SMALL), "digits": 1}))
    assert np.array_equal(alone.images[0], d.images[0])
    assert not np.array_equal(d.images[0], d.images[1])


# ---- (f) ----


def test_a_measure_is_read_from_its_cells_and_no_others() -> None:
    c = lecture().matrices["ewc"]
    functions = {"ACC": metrics.acc, "BWT": metrics.bwt, "FWT": metrics.fwt}
    assert [m.name for m in c.measures] == list(functions)
    R = np.array(c.accuracy)
    assert R.shape == (4, 3)
    for m in c.measures:
        f = functions[m.name]
        assert m.value == f(R) == pytest.approx(sum(w * R[at] for at, w in m.weights.items()))
        for at in np.ndindex(R.shape):
            other = R.copy()
            other[at] = 1 - R[at] if R[at] != 0.5 else 0.1
            change = m.weights.get((at[0], at[1]), 0.0) * (other[at] - R[at])
            assert f(other) == pytest.approx(m.value + change, abs=1e-12)


def test_cells_need_two_tasks() -> None:
    alone = SMALL.permuted(Naive(), tasks=1).run()
    with pytest.raises(ValueError, match="two tasks or more, this run has 1"):
        cells(alone)


# ---- the toy ----


@pytest.mark.parametrize("lam", [0.0, 0.5, 30.0, 1e6])
@pytest.mark.parametrize("guard", [None, (1.0, 1.0)])
def test_the_toy_goes_where_calculus_says(lam: float, guard: tuple[float, float] | None) -> None:
    toy = Toy(steps=3000)
    path = toy.path(lam, guard)
    assert len(path) == 6001 and path[0] == toy.start
    b = path[3000]
    assert b == pytest.approx(toy.best[0], abs=1e-9)
    for i, w in enumerate(toy.curvature[0] if guard is None else guard):
        c = toy.curvature[1][i]
        at_rest = (c * toy.best[1][i] + lam * w * b[i]) / (c + lam * w)
        assert path[-1][i] == pytest.approx(at_rest, abs=2e-3 if lam == 1e6 else 1e-6)


def test_the_toy_descends_and_ewc_keeps_what_l2_and_sgd_lose() -> None:
    toy = Toy()
    plain, ewc, l2 = toy.path(0.0), toy.path(3.0), toy.path(3.0, (1.0, 1.0))
    assert plain[: toy.steps + 1] == ewc[: toy.steps + 1] == l2[: toy.steps + 1]
    ones = [toy.loss(0, p) for p in plain[: toy.steps + 1]]
    assert ones == sorted(ones, reverse=True)
    assert toy.loss(0, ewc[-1]) < 0.1 * toy.loss(0, plain[-1])
    assert toy.loss(1, ewc[-1]) < toy.loss(1, l2[-1])  # for the room that it leaves
    assert toy.loss(0, (0.0, 0.0)) == pytest.approx((0.15 + 2.0) / 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 50}, "samples must be >= 100, got 50"),
        ({"digits": 6}, "digits must be 1 to 5 tasks, got 6"),
        ({"grid": 1}, "grid must be >= 2, got 1"),
        ({"lam": 5.0}, "lams must ascend and hold lam 5.0"),
        ({"margins": (-1.0,)}, "margins must be >= 0"),
    ],
)
def test_settings_outside_their_range_are_refused(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Setting(**change)
