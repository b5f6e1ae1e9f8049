"""Several runs that differ only in their seed as one computation, with a leading axis over the runs."""

from retain.stacked.step import CannotStack, Stack
from retain.stacked.together import Outcome, run_together

__all__ = ["CannotStack", "Outcome", "Stack", "run_together"]
