"""Methods inside other people's loops: one's own, the Hugging Face Trainer, Accelerate."""
