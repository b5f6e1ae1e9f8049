"""Networks to start with; any other nn.Module does as well."""

from retain.models.brain import Brain, Feedback, Internal
from retain.models.classifiers import CNN, MLP, Init, initialise
from retain.models.entries import drawn, skeleton, under
from retain.models.gated import ConditionalVAE, gates_of
from retain.models.past import Past, bound, distilled
from retain.models.resnet import ResNet18
from retain.models.vae import (
    VAE,
    Evidence,
    conv_vae,
    decoded,
    divergence,
    feedback_vae,
    mlp,
    mlp_decoder,
    mlp_vae,
)

__all__ = [
    "CNN", "MLP", "VAE", "Brain", "ConditionalVAE", "Evidence", "Feedback", "Init", "Internal", "Past", "ResNet18",
    "bound", "conv_vae", "decoded", "distilled", "divergence", "drawn", "feedback_vae",
    "gates_of", "initialise", "mlp", "mlp_decoder", "mlp_vae", "skeleton", "under",
]  # fmt: skip
