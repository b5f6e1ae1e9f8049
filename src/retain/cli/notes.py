"""What the package has to note while it works, such as a method known to fail: a line on stderr each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from retain.cli.errors import one_line


class _Line(logging.Handler):
    """Printed to what stderr is at that moment: above the live board, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        print(one_line(record.getMessage()), file=sys.stderr)


@contextmanager
def notes(quiet: bool) -> Iterator[None]:
    """While it holds, notes appear once, by this alone; none where `quiet`."""
    logger = logging.getLogger("retain")
    handler, before = logging.NullHandler() if quiet else _Line(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def note(text: str) -> None:
    """Say one at once, in the form that the package itself uses."""
    logging.getLogger("retain").warning("retain: note: %s", text)
