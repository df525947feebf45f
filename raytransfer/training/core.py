"""Settings for a process that computes on one core."""

import ctypes

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as in glibc's malloc.h
_KEPT_BYTES = 2**31 - 1


def use_one_core() -> None:
    """Compute in one thread, deterministically, and keep freed memory for the next training step.

    With one thread the same spec gives the same bits on any number of cores; more threads sum, and so round, in another
    order. By default cuDNN sums gradients of weights in no fixed order. What a notebook has set before is not asked: it
    may let products of matrices round to fewer bits, and cuDNN choose algorithms by their time.

    By default glibc returns large blocks to the system as soon as they are freed, and the system must clear every page
    before it is used again, which takes a fifth of the time of convnet8 on CIFAR-10.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.set_float32_matmul_precision("highest")
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # other systems have other allocators
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
