"""Ordering rows by their content, so that results do not depend on the order of a sample."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 16  # enough that two rows never share one


def digests(rows: npt.NDArray[Any], *, length: int = DIGEST_BYTES) -> list[bytes]:
    """SHAKE-256 digest of each row; equal rows have equal digests.

    Sorting by digest shuffles rows in a way that does not depend on their original order.

    Args:
        rows: (n, ...) numbers.
        length: Bytes of a digest.
    """
    rows = np.ascontiguousarray(rows + 0)  # adding 0 turns -0.0 into 0.0, which has other bytes
    return [hashlib.shake_256(row.tobytes()).digest(length) for row in rows]


def content_order(rows: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> list[int]:
    """The indices that sort rows by digest, and equal rows by label.

    Args:
        rows: (n, ...) numbers.
        labels: (n,) labels.
    """
    keys = list(zip(digests(rows), labels.tolist(), strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)
