"""Second derivatives of the loss, diagonal or in Kronecker factors, and gradients example by example."""

from retain.curvature.absolute import sensitivity
from retain.curvature.diagonal import batch_fisher, covered_by, fisher
from retain.curvature.kronecker import Kronecker, Precision, kfac
from retain.curvature.layers import covered, group_gradients
from retain.curvature.path import Path
from retain.curvature.quadratic import Quadratic
from retain.losses import Labels

__all__ = [
    "Kronecker", "Labels", "Path", "Precision", "Quadratic", "batch_fisher", "covered", "covered_by", "fisher",
    "group_gradients", "kfac", "sensitivity",
]  # fmt: skip
