"""The durable home of one model that goes on learning, update after update.

`init` makes one, `open_vault` (as `retain.open`) opens it, `Vault.learn` is one update.
"""

from retain.vault.errors import BadData, Busy, Damaged, VaultError
from retain.vault.plan import Plan
from retain.vault.update import Update
from retain.vault.vault import Predictions, Vault, init, open_vault

open = open_vault  # as `retain.open`

__all__ = [
    "BadData",
    "Busy",
    "Damaged",
    "Plan",
    "Predictions",
    "Update",
    "Vault",
    "VaultError",
    "init",
    "open_vault",
]
