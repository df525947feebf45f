"""Torch's settings that change how a process computes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch.backends import cudnn

_DEVICES = ("cpu", "cuda")
_ONE_DNN: Any = torch.backends.mkldnn


@contextmanager
def plain_settings() -> Iterator[None]:
    """A block in which torch computes as in a process that has set nothing, and after which it does as before.

    It begins with gradients, in fp32, without autocast and with oneDNN: with these set otherwise, the same spec would
    give other numbers, or none. The number of threads, the precision of products and cuDNN's algorithms are left to the
    block (``raytransfer.training.use_one_core``), and given back after it.
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    algorithms = cudnn.deterministic, cudnn.benchmark
    cast = [torch.is_autocast_enabled(device) for device in _DEVICES]
    one_dnn = _ONE_DNN.enabled
    precision = None
    with suppress(RuntimeError):  # where that of a GPU and of a CPU were set one by one
        precision = torch.get_float32_matmul_precision()
    matmuls = torch.backends.cuda.matmul, _ONE_DNN.matmul
    precisions = [matmul.fp32_precision for matmul in matmuls]
    try:
        with torch.inference_mode(mode=False):  # which enables gradients, too
            _set(torch.float32, [False] * len(_DEVICES), one_dnn=True)
            yield
    finally:
        _set(dtype, cast, one_dnn=one_dnn)
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark = algorithms
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for matmul, before in zip(matmuls, precisions, strict=True):
            matmul.fp32_precision = before


def _set(dtype: torch.dtype, cast: list[bool], *, one_dnn: bool) -> None:
    torch.set_default_dtype(dtype)
    for device, enabled in zip(_DEVICES, cast, strict=True):
        torch.set_autocast_enabled(device, enabled)
    _ONE_DNN.enabled = one_dnn
