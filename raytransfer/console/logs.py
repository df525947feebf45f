"""What the package logs, on a console."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def logged(console: Console) -> Iterator[None]:
    """A block in which a console shows what the package logs."""
    handler, logger = _ConsoleHandler(console), logging.getLogger("raytransfer")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:  # the console may be gone when something is logged next
        logger.removeHandler(handler)


class _ConsoleHandler(logging.Handler):
    """Log lines of the package on the console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), soft_wrap=True)
