"""What is kept of the past: raw examples, and the rules by which they are kept."""

from retain.memory.balanced import Balanced
from retain.memory.mixture import beside
from retain.memory.reservoir import Reservoir
from retain.memory.ring import Ring
from retain.memory.slots import Slots

__all__ = ["Balanced", "Reservoir", "Ring", "Slots", "beside"]
