"""Parts of a network that belong to tasks: units behind gates, single weights, whole columns."""

from retain.parts.columns import laterals, run
from retain.parts.own import (
    Held,
    buffers,
    by_task,
    head_of,
    hold,
    of_each_task,
    one_task,
    step_without,
    without,
)
from retain.parts.units import Units

__all__ = [
    "Held",
    "Units",
    "buffers",
    "by_task",
    "head_of",
    "hold",
    "laterals",
    "of_each_task",
    "one_task",
    "run",
    "step_without",
    "without",
]
