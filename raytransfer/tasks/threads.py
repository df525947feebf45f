"""Threads that read and decode images ahead of what uses them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from joblib import cpu_count

Given = TypeVar("Given")
Made = TypeVar("Made")

THREADS = min(16, cpu_count())
"""Threads that decode at once; decoding holds the GIL for about 0.1 ms an image."""


def ahead(
    make: Callable[[Given], Made], items: Iterable[Given], most: int = 2, threads: int | None = None
) -> Iterator[Made]:
    """Apply a function to each item in threads, and give the results in the order of the items.

    Args:
        make: The function.
        items: Its arguments; the next one is taken only when a result is.
        most: How many results are under way or waiting to be used.
        threads: How many are made at once; None for ``most``.
    """
    coming = iter(items)
    with ThreadPoolExecutor(threads or most) as pool:
        made = deque(pool.submit(make, item) for item in islice(coming, most))
        try:
            while made:
                done = made.popleft().result()
                made.extend(pool.submit(make, item) for item in islice(coming, 1))
                yield done
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
