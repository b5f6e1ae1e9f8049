"""Second derivatives of the loss: the diagonal Fisher, and gradients example by example."""

from retain.curvature.diagonal import Labels, fisher
from retain.curvature.layers import covered, group_gradients
from retain.curvature.quadratic import Quadratic

__all__ = ["Labels", "Quadratic", "covered", "fisher", "group_gradients"]
