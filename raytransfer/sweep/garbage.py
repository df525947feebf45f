"""Python's garbage collector, kept from what stays."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """A block, such as one of imports, that makes many objects which stay until the process ends.

    The collector would look through them again and again while they are made, and once more at the end: for torch and
    Ray Tune a fifth of the imports' time, and most of the exit's.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
