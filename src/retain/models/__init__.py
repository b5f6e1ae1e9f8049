"""Networks to start with; any other nn.Module does as well."""

from retain.models.classifiers import CNN, MLP, Init, initialise
from retain.models.vae import VAE, conv_vae, mlp_vae

__all__ = ["CNN", "MLP", "VAE", "Init", "conv_vae", "initialise", "mlp_vae"]
