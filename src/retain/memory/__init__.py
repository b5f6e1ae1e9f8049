"""What is kept of the past: raw examples, and the rules by which they are kept."""

from retain.memory.balanced import Balanced
from retain.memory.dark import Dark
from retain.memory.herding import Exemplars, class_means, herd, herded
from retain.memory.mixture import beside, joined, mixed
from retain.memory.reservoir import Reservoir
from retain.memory.ring import Ring
from retain.memory.slots import Slots

__all__ = [
    "Balanced", "Dark", "Exemplars", "Reservoir", "Ring", "Slots", "beside", "class_means", "herd", "herded",
    "joined", "mixed",
]  # fmt: skip
