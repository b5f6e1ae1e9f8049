"""What is kept of the past: raw examples, and the rules by which they are kept."""

from retain.memory.balanced import Balanced
from retain.memory.dark import Dark
from retain.memory.herding import Exemplars, class_means, drawn, herd, herded
from retain.memory.mapped import BadMemory, Mapped, in_bytes, slots_for
from retain.memory.mixture import beside, joined, mixed
from retain.memory.reservoir import Reservoir
from retain.memory.ring import Ring
from retain.memory.slots import Slots

__all__ = [
    "BadMemory", "Balanced", "Dark", "Exemplars", "Mapped", "Reservoir", "Ring", "Slots", "beside",
    "class_means", "drawn", "herd", "herded", "in_bytes", "joined", "mixed", "slots_for",
]  # fmt: skip
