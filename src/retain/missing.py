"""What is raised where a part of the package needs another package that is not there."""

from __future__ import annotations


class NotInstalled(ImportError):
    """A package is not installed; the message names it and the command that installs it.

    The command line tells it as any other mistake of its user's.
    """
