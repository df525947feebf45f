"""Keep Python's garbage collector from scanning objects that live as long as the process."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """A block, such as one of imports, whose objects live until the process ends: the collector ignores them.

    It would scan them again and again while they are made, and once more at exit: for torch and Ray Tune that is a
    fifth of the imports' time, and most of the exit's.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def release() -> None:
    """Undo ``lasting`` before the process ends, if Triton was imported, as timm and torchvision do.

    Triton complains at length at exit about objects of its own that were not collected.
    """
    if "triton" in sys.modules:
        gc.unfreeze()
