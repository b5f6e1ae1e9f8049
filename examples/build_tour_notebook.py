"""Write `examples/tour.ipynb`, the tour of the lecture as a notebook: change it here, then run this file."""

from __future__ import annotations

import json
from pathlib import Path

CELLS = """
%% markdown
# How a network learns one thing after another, and what makes it forget

Hung-yi Lee's lecture on lifelong learning, in its order, with its pictures drawn from real networks.
`retain tour` makes the same as web pages to play with. All cells take one to three minutes on one core.
%% code
from retain.lecture import Setting, compute
from retain.tour import pictures

setting = Setting()
lecture = compute(setting)
drawn = pictures(lecture)
%% markdown
## 1. What lifelong learning is

Digits under heavy noise, and the same digits clean, in either order.
%% code
for r in (lecture.orders.noisy_first, lecture.orders.clean_first):
    before, after = r.accuracy[1][0], r.accuracy[2][0]
    print(f"{r.tasks[0]}, then {r.tasks[1]}: accuracy on {r.tasks[0]} {before:.1%} -> {after:.1%}")
drawn["orders"]
%% markdown
## 2. Elastic weight consolidation

L'(θ) = L(θ) + λ/2 Σ bᵢ (θᵢ − θᵢᵇ)². First with two parameters.
%% code
toy = lecture.toy
for name, path in {"SGD": toy.path(0), "EWC": toy.path(3), "L2": toy.path(3, (1, 1))}.items():
    one, two = (toy.loss(task, path[-1]) for task in (0, 1))
    print(f"{name}: loss of task 1 {one:.3f}, of task 2 {two:.3f}")
%% markdown
The same of a real network: both losses over the plane through θ⁰, θᵇ and θ*.
%% code
for p in lecture.surface.paths:
    print(f"lambda {p.lam:g}: losses {p.losses[-1].round(3)}, {p.off[-1]:.2f} away from the plane")
drawn["surface"]
%% markdown
What moving one parameter with a small second derivative, and one with a large, does to task 1.
%% code
for m in (lecture.parameters.small, lecture.parameters.large):
    print(f"{m.name}[{m.place}]: b = {m.fisher:.3g} by the Fisher, {m.second:.3g} by finite differences")
drawn["parameters"]
%% markdown
SGD, L2 and EWC over A, B, C.
%% code
for r in (lecture.three.sgd, *lecture.three.l2.runs, *lecture.three.ewc.runs):
    print(r.method["name"], r.method.get("lam", ""), [f"{a:.1%}" for a in r.accuracy[-1]])
drawn["three"]
%% markdown
## 3. Gradient episodic memory
%% code
for m in lecture.gem.plane:
    print(f"step {m.step} of B: {m.degrees.round(1)} degrees, turned to {m.turned[0].degrees.round(1)}")
drawn["gem-plane"]
%% code
for m in lecture.gem.space:
    print(f"step {m.step} of C: {m.degrees.round(1)} degrees, multipliers {m.turned[0].v.round(3)}")
drawn["gem-space"]
%% markdown
## 4. Generating data
%% code
d = lecture.dreams
print(f"generative replay: ACC {d.replay.acc:.1%}; plain training: ACC {d.sgd.acc:.1%}")
drawn["dreams"]
%% markdown
## 5. Evaluation

Which cells of the accuracy matrix ACC, BWT and FWT are read from, and how much each counts.
%% code
for m in lecture.matrices["ewc"].measures:
    print(f"{m.name} = {m.value:+.3f}", {cell: round(w, 2) for cell, w in m.weights.items()})
drawn["matrices"]
"""


def notebook() -> str:
    """The notebook as JSON, without outputs."""
    cells = []
    for i, part in enumerate(CELLS.split("\n%% ")[1:]):
        kind, _, text = part.partition("\n")
        cell = {"cell_type": kind, "id": f"cell-{i}", "metadata": {}}
        cell |= {"source": text.strip("\n").splitlines(keepends=True)}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        cells.append(cell)
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    whole = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("tour.ipynb").write_text(notebook(), encoding="utf-8")
