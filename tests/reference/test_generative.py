"""Methods that dream the past, against twins written out by hand and against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from tests.laws.toy import CLASSES, ORDER, differing, go, learner, stream
from torch import Tensor, nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence
from torch.func import functional_call

from retain import GenerativeReplay, Order, run
from retain.methods.bir import BIR
from retain.methods.generative_classifier import GenerativeClassifier
from retain.methods.replay_through_feedback import ReplayThroughFeedback
from retain.models import VAE, Evidence, mlp_vae, under
from retain.types import HIDDEN, Batch

DREAMERS: dict[str, Any] = {
    "soft": GenerativeReplay(labels="soft", temperature=3.0, generator_hidden=(9,), latent=3),
    "feedback": ReplayThroughFeedback(temperature=3.0, feedback=(9,), latent=3, generative=0.7),
    "bir": BIR(temperature=3.0, feedback=(9, 7), latent=3, generative=0.7, shut=0.6),
}
each_dreamer = pytest.mark.parametrize("name", DREAMERS)


def after_two_tasks(method: Any) -> tuple[Any, Batch]:
    """A learner in the class scenario that has learned two tasks, and a batch of the third."""
    one = learner(method)
    run(stream("class")[:2], one, ORDER, curve_every=0)
    one.begin_task(stream("class")[2])
    x, y = stream("class")[2].train.batch(torch.arange(10))
    batch, one.state = method.batch(
        one._bound, one.params, one.state, Batch(x, y, torch.full((10,), HIDDEN)), one.rng
    )
    return one, batch


def bound_by_hand(method: Any, one: Any, batch: Batch) -> Tensor:
    """-log p(x | z) + KL, by torch's distributions, of each example [N]."""
    p, noise = one.params, batch.extra["noise"]
    x = batch.x.flatten(1)
    h = nnf.relu(nnf.linear(x, p["1.weight"], p["1.bias"]))
    prior = Normal(torch.zeros_like(noise), torch.ones_like(noise))
    if isinstance(method, GenerativeReplay):
        hidden = nnf.relu(nnf.linear(x, p["vae.encoder.1.weight"], p["vae.encoder.1.bias"]))
        code = nnf.linear(hidden, p["vae.encoder.3.weight"], p["vae.encoder.3.bias"])
        layers, gates, prefix = 1, [torch.ones(len(x), 9)], "vae.decoder."
    else:
        of = "feedback.vae." if isinstance(method, BIR) else "feedback."
        code = nnf.linear(h, p[of + "encoder.weight"], p[of + "encoder.bias"])
        layers, gates, prefix = 1, [torch.ones(len(x), 9)], "feedback.decoder."
    if isinstance(method, BIR):
        layers, prefix, c = 2, "feedback.vae.decoder.layers.", batch.extra["c"]
        gates = [g[c] for g in one.state.gates]
        sigma = (p["feedback.vae.prior_log_var"][c] / 2).exp()
        prior = Normal(p["feedback.vae.prior_mu"][c], sigma)
    mu, log_var = code[:, :3], code[:, 3:]
    q = Normal(mu, (log_var / 2).exp())
    out = mu + q.scale * noise
    for i in range(layers):
        out = nnf.relu(nnf.linear(out, p[f"{prefix}{2 * i}.weight"], p[f"{prefix}{2 * i}.bias"])) * gates[i]
    out = nnf.linear(out, p[f"{prefix}{2 * layers}.weight"], p[f"{prefix}{2 * layers}.bias"])
    fit = -Bernoulli(logits=out, validate_args=False).log_prob(x)
    bound: Tensor = fit.sum(1) + kl_divergence(q, prior).sum(1)
    return bound


@each_dreamer
def test_the_objective_equals_one_written_out_by_hand(name: str) -> None:
    """1/3 of new cross-entropy and bound, 2/3 of distillation and bound, in the third task."""
    method = DREAMERS[name]
    one, batch = after_two_tasks(method)
    found = method.objective(one._bound, one.params, one.state, batch, one.rng)
    logits = one.model(batch.x)
    bound = bound_by_hand(method, one, batch)
    if name != "soft":
        bound = 0.7 * bound / 64
    new = nnf.cross_entropy(logits[:10], batch.y[:10].argmax(1)) + bound[:10].mean()
    T = 3.0
    per_class = batch.y[10:] * (logits[10:] / T).log_softmax(1)
    old = -(T**2) * per_class.sum(1).mean() + bound[10:].mean()
    expected = new / 3 + 2 / 3 * old
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    names = list(one._bound.spec.names)
    ours, theirs = (torch.autograd.grad(f, [one.params[k] for k in names]) for f in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@each_dreamer
def test_targets_are_the_previous_copys_soft_max_at_the_temperature_among_known_classes(name: str) -> None:
    method = DREAMERS[name]
    one, batch = after_two_tasks(method)
    past = one.state.past if isinstance(method, BIR) else one.state
    logits = functional_call(one.model, {k: past.previous[k] for k in one.binding.own}, (batch.x[10:],))
    assert past.known.tolist() == [True, True, True, False]
    expected = torch.zeros(10, CLASSES)
    expected[:, :3] = (logits[:, :3] / 3.0).softmax(1)
    torch.testing.assert_close(batch.y[10:], expected)


def test_at_temperature_1_distillation_is_the_cross_entropy_of_soft_labels() -> None:
    method = GenerativeReplay(labels="soft", temperature=1.0, generator_hidden=(9,), latent=3)
    one, batch = after_two_tasks(method)
    found = method.objective(one._bound, one.params, one.state, batch, one.rng)
    bound = bound_by_hand(method, one, batch)
    assert batch.weight is not None
    expected = batch.weight @ (bound - (batch.y * one.model(batch.x).log_softmax(1)).sum(1))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["feedback", "bir"])
def test_trap_14_feedback_has_an_optimiser_of_its_own_parameters_and_moves_the_shared_ones(name: str) -> None:
    one, _ = after_two_tasks(DREAMERS[name])
    held = {
        p: {id(v) for g in o.param_groups for v in g["params"]} for p, o in one.stepper.optimizers.items()
    }
    own = {id(p) for k, p in one.params.items() if k.startswith("feedback.")}
    assert held == {"": {id(p) for p in one.model.parameters()}, "feedback.": own}
    x, y = stream("class")[2].train.batch(torch.arange(10))
    batch = Batch(x, y, torch.full((10,), HIDDEN), extra={"replayed": 0})
    extra = {"noise": torch.randn(10, 3), "c": y}
    batch = batch._replace(extra=batch.extra | extra)
    zero = torch.zeros(())
    bound = DREAMERS[name].loss(one._bound, one.params, one.state, batch, one.model(x), zero)
    hidden, head = torch.autograd.grad(
        bound, [one.params["1.weight"], one.params["3.weight"]], allow_unused=True
    )
    assert bool((hidden != 0).any()) and head is None


@pytest.mark.parametrize("name", ["feedback", "bir"])
def test_trap_15_what_feedback_replays_lies_where_the_streams_images_lie(name: str) -> None:
    one, batch = after_two_tasks(DREAMERS[name])
    assert one._bound.spec.range == (0.0, 1.0)
    assert batch.x.shape == (20, 1, 8, 8)
    assert float(batch.x.min()) >= 0 and float(batch.x.max()) <= 1


@each_dreamer
def test_what_was_learned_is_kept_without_an_example(name: str) -> None:
    small: dict[str, Any] = {"latent": 8, "generator_lr": 0.01}
    wide = {"generator_hidden": (32,)} if name == "soft" else {"feedback": (32,)}
    method = type(DREAMERS[name])(**small, **wide, **({"labels": "soft"} if name == "soft" else {}))
    one = learner(method)
    result = run(stream("class"), one, Order(epochs=60, batch_size=20), curve_every=0)
    assert min(result.accuracy[-1]) > 0.5 and method.examples_stored(one.state) == 0


def test_a_class_opens_the_same_units_each_time_and_shuts_its_share_of_them() -> None:
    method = DREAMERS["bir"]
    one, _ = after_two_tasks(method)
    first, second = one.state.gates
    assert first.shape == (CLASSES, 7) and second.shape == (CLASSES, 9)
    assert first.sum(1).tolist() == [3.0] * CLASSES  # 7 - round(0.6 * 7)
    assert second.sum(1).tolist() == [4.0] * CLASSES  # 9 - round(0.6 * 9)
    vae = method._brain(one._bound, one.params).feedback.vae
    decoder = under("feedback.vae.decoder.", one.params)
    weight = decoder["layers.2.weight"]
    for c in range(CLASSES):
        out = functional_call(vae.decoder, decoder, (torch.randn(6, 3), torch.full((6,), c), one.state.gates))
        (grad,) = torch.autograd.grad(out.sum(), weight)
        shut_rows, shut_columns = second[c] == 0, first[c] == 0
        assert not grad[shut_rows].any() and not grad[:, shut_columns].any()
    again, _ = after_two_tasks(method)
    assert differing(again.state.gates, one.state.gates) == []


def test_a_replayed_class_comes_from_its_own_prior_and_each_known_class_as_often() -> None:
    method = BIR(feedback=(9,), latent=3, shut=0.0)
    one, _ = after_two_tasks(method)
    old = one.state.past.previous
    n = 3000
    new = Batch(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64), torch.tensor([HIDDEN]))
    _, c = method._replay(one._bound, one.state, new, n, one.rng)
    share = c.bincount(minlength=CLASSES) / n
    assert share[3] == 0 and bool(((share[:3] - 1 / 3).abs() < 4 * math.sqrt(2 / 9 / n)).all())
    # With no spread each class has but one image: its prior's mean, decoded.
    old["feedback.vae.prior_log_var"].fill_(-60.0)
    replayed, c = method._replay(one._bound, one.state, new, 20, one.rng)
    z = old["feedback.vae.prior_mu"][c]
    for i in (0, 2):
        w, b = (old[f"feedback.vae.decoder.layers.{i}.{k}"] for k in ("weight", "bias"))
        z = nnf.relu(nnf.linear(z, w, b)) if i == 0 else nnf.linear(z, w, b).sigmoid()
    torch.testing.assert_close(replayed.x.flatten(1), z)


def test_internal_replay_learns_on_features_and_leaves_the_network_as_it_is() -> None:
    method = BIR(feedback=(16,), latent=4, internal=True, generator_lr=0.01)
    one = learner(method)
    start = {k: p.detach().clone() for k, p in one.model.named_parameters()}
    result = run(stream("class"), one, Order(epochs=60, batch_size=20), curve_every=0)
    assert differing(start, {k: p.detach() for k, p in one.model.named_parameters()}) == []
    assert min(result.accuracy[-1]) > 0.4
    one.begin_task(stream("class")[2])
    x, y = stream("class")[2].train.batch(torch.arange(10))
    batch, _ = method.batch(
        one._bound, one.params, one.state, Batch(x, y, torch.full((10,), HIDDEN)), one.rng
    )
    inside = batch.extra["inside"]
    assert torch.equal(batch.x, x) and inside.x.shape == (20, 16)
    h = nnf.relu(nnf.linear(x.flatten(1), start["1.weight"], start["1.bias"]))
    torch.testing.assert_close(inside.x[:10], h)


# ---- the generative classifier ----


def linear_gaussian(exact: bool) -> tuple[VAE, MultivariateNormal]:
    """x = W z + b + noise, whose evidence is a Gaussian; with columns of W at right angles q can be exact."""
    torch.manual_seed(0)
    W = torch.linalg.qr(torch.randn(6, 2, dtype=torch.float64))[0] * torch.tensor([1.5, 0.5]).double()
    b = torch.randn(6, dtype=torch.float64)
    encoder, decoder = nn.Linear(6, 4).double(), nn.Linear(2, 6).double()
    precision = (W**2).sum(0) + 1
    with torch.no_grad():
        decoder.weight.copy_(W)
        decoder.bias.copy_(b)
        encoder.weight[:2], encoder.bias[:2] = W.T / precision[:, None], -(W.T @ b) / precision
        encoder.weight[2:], encoder.bias[2:] = 0.0, -precision.log()
        if not exact:
            encoder.bias.add_(torch.tensor([0.3, -0.3, 0.5, 0.3]).double())
    return VAE(encoder, decoder, 2, None), MultivariateNormal(b, W @ W.T + torch.eye(6).double())


@pytest.mark.parametrize(("samples", "exact", "within"), [(1, True, 1e-10), (20_000, False, 0.03)])
def test_importance_sampling_finds_the_evidence_of_a_linear_gaussian_model(
    samples: int, exact: bool, within: float
) -> None:
    vae, truth = linear_gaussian(exact)
    x = truth.sample((15,))
    noise = torch.randn(samples, 2, dtype=torch.float64)
    with torch.no_grad():
        found = Evidence(vae)(x, noise) - 3 * math.log(2 * math.pi)  # the constant left out
    torch.testing.assert_close(found, truth.log_prob(x), rtol=0, atol=within)


@pytest.mark.parametrize("range", [None, (0.0, 1.0), (-0.4, 2.8)])
def test_the_evidence_equals_one_image_and_one_sample_at_a_time(range: Any) -> None:
    torch.manual_seed(1)
    vae = VAE(nn.Linear(6, 4).double(), nn.Linear(2, 6).double(), 2, range)
    low, high = range or (0.0, 1.0)
    x, noise = low + (high - low) * torch.rand(5, 6).double(), torch.randn(7, 2).double()
    found = Evidence(vae)(x, noise)
    for i, image in enumerate(x):
        mu, log_var = vae.encoder(image).split(2)
        q, prior = Normal(mu, (log_var / 2).exp()), Normal(torch.zeros(2).double(), 1.0)
        weights = []
        for e in noise:
            z = mu + q.scale * e
            fit = -vae.reconstruction(vae.decoder(z)[None], image[None])[0]
            weights.append((fit + prior.log_prob(z).sum() - q.log_prob(z).sum()).exp())
        torch.testing.assert_close(found[i], torch.stack(weights).mean().log())


def test_many_images_at_a_time_give_what_each_gives_alone() -> None:
    one, _ = go(CLASSIFIER, "class")
    x = stream("class")[0].train.batch(torch.arange(50))[0].repeat(20, 1, 1, 1)
    every = one.predict(x)
    torch.testing.assert_close(every[:50], torch.cat([one.predict(x[i : i + 1]) for i in range(50)]))
    torch.testing.assert_close(every[-50:], every[:50])


CLASSIFIER = GenerativeClassifier(generator_hidden=(16,), latent=3, draws=5, generator_lr=0.01)


def test_a_class_is_never_touched_again_once_its_task_is_over() -> None:
    one, two = learner(CLASSIFIER), learner(CLASSIFIER)
    run(stream("class")[:1], one, ORDER, curve_every=0)
    run(stream("class"), two, ORDER, curve_every=0)
    assert one.state.of == (0, 1) and two.state.of == (0, 1, 2, 3)
    assert differing(one.state.learned, two.state.learned[:2]) == []
    x = stream("class")[0].train.batch(torch.arange(20))[0]
    assert torch.equal(one.predict(x)[:, :2], two.predict(x)[:, :2])
    assert bool((one.predict(x)[:, 2:] < one.predict(x)[:, :2].amin(1, keepdim=True)).all())


def test_a_classs_autoencoder_learns_what_it_would_learn_alone() -> None:
    """Two classes side by side: each has the steps of Adam on the bound of its own images."""
    one = learner(CLASSIFIER)
    task = stream("class")[0]
    one.begin_task(task)
    vae = second_vae(one)
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.01)
    x, y = task.train.batch(torch.arange(12))
    for _ in range(5):
        rng = torch.Generator().manual_seed(0)
        rng.set_state(one.rng.get_state())
        noise = torch.randn(12, 3, generator=rng)[y == 1]
        one.observe(x, y)
        optimizer.zero_grad()
        vae(x[y == 1], noise).mean().backward()
        optimizer.step()
    for k, p in vae.named_parameters():
        torch.testing.assert_close(one.params[f"vae.1.{k}"], p, rtol=1e-4, atol=1e-5)


def second_vae(one: Any) -> VAE:
    """The autoencoder of the second class, as a module of its own."""
    vae = mlp_vae((1, 8, 8), (0.0, 1.0), (16,), 3)
    vae.load_state_dict({k: p.detach().clone() for k, p in under("vae.1.", one.params).items()})
    return vae


def test_a_class_of_several_tasks_has_the_mean_of_their_likelihoods() -> None:
    one, _ = go(CLASSIFIER, "domain")
    assert one.state.of == (0, 1, 2, 3) * 3
    x = stream("domain")[1].train.batch(torch.arange(20))[0]
    parts = []
    for t in range(3):
        part = one.state._replace(learned=one.state.learned[4 * t : 4 * t + 4], of=(0, 1, 2, 3))
        parts.append(CLASSIFIER.predict(one._bound, one.params, part, x, torch.full((20,), HIDDEN)))
    expected = torch.stack(parts).logsumexp(0) - math.log(3)
    torch.testing.assert_close(one.predict(x), expected)


def test_a_label_that_the_task_did_not_announce_is_refused() -> None:
    one = learner(CLASSIFIER)
    one.begin_task(stream("class")[1])
    x, _ = stream("class")[1].train.batch(torch.arange(3))
    with pytest.raises(ValueError, match=r"classes are \(2,\)"):
        one.observe(x, torch.tensor([2, 3, 2]))
