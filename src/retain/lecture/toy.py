"""The lecture's toy: two parameters, two tasks. The page computes the same in JavaScript (tour/toy.js).

Task k's loss is 1/2 sum_i curvature_k,i (theta_i - best_k,i)^2: ellipses as contours. Task 1 hardly
depends on theta_1 (its second derivative there is small) and much on theta_2.
"""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Toy:
    """Where it starts, both losses, and the descent."""

    start: Point = (-2.6, -0.6)
    best: tuple[Point, Point] = ((-1.0, 1.0), (1.8, -1.1))
    curvature: tuple[Point, Point] = ((0.15, 2.0), (0.6, 0.6))
    lr: float = 0.08
    steps: int = 120  # of each task

    def loss(self, task: int, at: Point) -> float:
        """The loss of task 0 or 1."""
        return sum(
            c * (x - b) ** 2 / 2 for c, x, b in zip(self.curvature[task], at, self.best[task], strict=True)
        )

    def path(self, lam: float, guard: Point | None = None) -> list[Point]:
        """Descend task 1, then task 2 with lam / 2 sum_i guard_i (theta_i - theta_b,i)^2 added.

        `guard`: how much each parameter is guarded; None: by task 1's second derivatives, which is EWC
        ((1, 1) is L2). The penalty is taken as a proximal step, which is stable for every lam. Gives
        2 steps + 1 points; number `steps` is theta_b.
        """
        guard = self.curvature[0] if guard is None else guard
        points, anchor = [self.start], self.start
        for step in range(2 * self.steps):
            task = int(step >= self.steps)
            if step == self.steps:
                anchor = points[-1]
            pull = self.lr * lam * task
            points.append(
                tuple(  # type: ignore[arg-type]
                    (x - self.lr * c * (x - b) + pull * w * a) / (1 + pull * w)
                    for x, c, b, w, a in zip(
                        points[-1], self.curvature[task], self.best[task], guard, anchor, strict=True
                    )
                )
            )
        return points
