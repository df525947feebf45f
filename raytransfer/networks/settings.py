"""Torch's settings that change how a process rounds."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch.backends import cudnn


@contextmanager
def settings_kept() -> Iterator[None]:
    """A block after which torch computes as before: in as many threads, as exactly, by the same algorithms."""
    threads = torch.get_num_threads()
    algorithms = cudnn.deterministic, cudnn.benchmark
    precision = None
    with suppress(RuntimeError):  # where that of a GPU and of a CPU were set one by one
        precision = torch.get_float32_matmul_precision()
    matmuls = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    precisions = [matmul.fp32_precision for matmul in matmuls]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark = algorithms
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for matmul, before in zip(matmuls, precisions, strict=True):
            matmul.fp32_precision = before
