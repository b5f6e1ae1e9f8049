"""What an update did: as a page, as words for a terminal, and beside another one."""

from retain.vault.report.check import checked
from retain.vault.report.compare import difference, difference_text
from retain.vault.report.page import html
from retain.vault.report.words import history_table, text

__all__ = ["checked", "difference", "difference_text", "history_table", "html", "text"]
