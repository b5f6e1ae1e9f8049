"""What can go wrong with a vault, by what is to be done about it."""

from __future__ import annotations


class VaultError(ValueError):
    """A vault was asked for what it does not do; the message says what to do instead."""


class BadData(VaultError):
    """Data that cannot be learned from or predicted on; the message names the row or the file."""


class Busy(VaultError):
    """Another process is writing to the vault; the message says which, and since when."""


class Damaged(VaultError):
    """A file of the vault is missing, or is not what its checksum says; the message names it."""
