"""The commands of a vault: a model that goes on learning."""
