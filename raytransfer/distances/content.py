"""An order of rows that depends on what they hold, and not on where they stand."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 16  # enough that two rows never share one


def digests(rows: npt.NDArray[Any], *, length: int = DIGEST_BYTES) -> list[bytes]:
    """A digest of the content of each row: SHAKE-256 of its bytes, so equal rows have equal digests.

    In the order of their digests, different rows are shuffled, always the same way whatever order they came in.

    Args:
        rows: (n, ...) numbers.
        length: Bytes of a digest.
    """
    rows = np.ascontiguousarray(rows + 0)  # -0.0 and 0.0 are one number of two byte patterns: adding 0 makes it 0.0
    return [hashlib.shake_256(row.tobytes()).digest(length) for row in rows]


def content_order(rows: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> list[int]:
    """The order of rows by the digest of their content, and by label where that is equal.

    Args:
        rows: (n, ...) numbers.
        labels: (n,) labels.
    """
    keys = list(zip(digests(rows), labels.tolist(), strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)
