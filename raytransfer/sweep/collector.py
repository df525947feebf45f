"""Python's garbage collector, kept from what stays."""

import gc
import sys
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


def release() -> None:
    """Let the collector see what lasted again, before the process ends, where that would be missed.

    Triton, which timm and torchvision import, complains at length of its objects that nobody collected.
    """
    if "triton" in sys.modules:
        gc.unfreeze()
