"""Networks to start with; any other nn.Module does as well."""

from retain.models.classifiers import CNN, MLP, Init, initialise
from retain.models.entries import drawn, skeleton, under
from retain.models.gated import ConditionalVAE, Internal, gates_of
from retain.models.past import Past, distilled, weighted
from retain.models.vae import VAE, Evidence, conv_vae, divergence, feedback_vae, mlp, mlp_decoder, mlp_vae

__all__ = [
    "CNN", "MLP", "VAE", "ConditionalVAE", "Evidence", "Init", "Internal", "Past",
    "conv_vae", "distilled", "divergence", "drawn", "feedback_vae", "gates_of", "initialise", "mlp",
    "mlp_decoder", "mlp_vae", "skeleton", "under", "weighted",
]  # fmt: skip
