"""A process that has one core to itself."""

import ctypes

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as in glibc's malloc.h
_KEPT_BYTES = 2**31 - 1


def use_one_core() -> None:
    """Compute in one thread, in one order, and keep the memory that a training step frees for the next one.

    One thread makes the same spec give the same bits whatever the number of cores: sums over more round in another way.
    On a GPU cuDNN would by itself sum gradients of weights in whatever order its threads come.

    glibc gives large pieces back to the system as soon as they are free, and the system clears every page again before
    the next step can have it: with convnet8 on CIFAR-10 a fifth of a trial's time.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # other systems have other allocators
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
