"""Random orders that are the same on every machine and with every version of NumPy."""

import hashlib

import numpy as np
import numpy.typing as npt


def stable_seed(*key: str | int) -> int:
    """A seed for PCG64 that depends on nothing but ``key``."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:16], "big")


def stable_permutation(n: int, *key: str | int) -> npt.NDArray[np.int64]:
    """Draw a random permutation (n,) of 0..n-1 that depends on ``n`` and ``key`` only.

    It sorts the raw output of PCG64, which NumPy promises to keep; ``Generator.permutation`` may change with any
    release.
    """
    return np.argsort(np.random.PCG64(stable_seed(*key)).random_raw(n), kind="stable").astype(np.int64)


def stratified_half(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Choose a fixed half of each class, rounded down, as the test part of a source that has none.

    Args:
        labels: (N,) class indices.

    Returns:
        (N,) whether each image is a test image.
    """
    is_test = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        is_test[members[stable_permutation(len(members), "test half", int(label))[: len(members) // 2]]] = True
    return is_test
