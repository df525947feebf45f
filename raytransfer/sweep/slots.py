"""How many trials run at once."""

import math

import torch
from joblib import cpu_count

from raytransfer.errors import UserError
from raytransfer.words import number_of

UNITS = {"GPU": "GPU", "CPU": "CPU core"}
"""What trials take, as Ray names it, in words."""


def usable_gpus() -> int:
    """How many GPUs of this machine PyTorch can use: none with too old a driver, or where it is built for CPUs."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def of_this_machine() -> tuple[int, str]:
    """How many GPUs this machine has, or CPU cores where it has none, and which of them: ``GPU`` or ``CPU``.

    Cores are those that this process may use: a batch system or a container may give it a few of a large machine's.
    """
    gpus = usable_gpus()
    return (gpus, "GPU") if gpus else (cpu_count(), "CPU")


def check_ranks(ranks: int, base_ranks: int, most: int, kind: str) -> None:
    """Check that a machine has a GPU, or a CPU core, for each process that a training is split over.

    Args:
        ranks: Processes of a training.
        base_ranks: Processes of a base.
        most: GPUs or cores of the machine that has the most.
        kind: ``GPU`` or ``CPU``.

    Raises:
        UserError: None has so many.
    """
    for option, count in (("gpus_per_trial", ranks), ("base_gpus_per_trial", base_ranks)):
        if count > max(1, most):
            raise UserError(f"{option}={count} must not exceed what one machine has: {number_of(most, UNITS[kind])}")


def check_slots(wanted: int | None, units: int, share: float, kind: str, base_ranks: int = 1) -> int:
    """How many trials run at once on GPUs, or on CPU cores, of which each trial takes a share or several.

    Args:
        wanted: As many as this, or None for all there are.
        units: GPUs or cores.
        share: What a trial takes: up to 1, and it lies on one of them, so at 2/3 a third of each goes unused; or so
            many of one machine.
        kind: ``GPU`` or ``CPU``.
        base_ranks: How many a base takes, if more than one.

    Raises:
        UserError: More are wanted than there are, or there are none, or fewer than a base takes.
    """
    there = slot_count(units, share)
    if there < 1:
        raise UserError(f"no slot of {share:g} {kind} fits: there are {units} {kind}")
    if wanted is not None and wanted > there:
        raise UserError(f"slots={wanted} must not exceed what is there: {number_of(there, 'slot')} of {share:g} {kind}")
    least = min(slots_of_base(base_ranks, share), there)  # what a base leaves of a machine may be too little for a slot
    if wanted is not None and wanted < least:
        raise UserError(f"slots={wanted} must be at least {least}, for a base takes so many: {base_ranks} {kind}")
    return wanted or there


def without_gpus(share: float | str) -> str | None:
    """A note on what ``gpus_per_trial`` means where there is no GPU; None for its default and for auto."""
    if isinstance(share, str) or share == 1:
        return None
    if share > 1:
        return (
            f"gpus_per_trial={share:g} means CPU cores: there is no GPU, so a training is split over {share:g} of them"
        )
    return f"gpus_per_trial={share:g} changes nothing: there is no GPU, so a trial takes a CPU core"


def beyond_memory(memory_gb: float, share: float, slots: int) -> str | None:
    """A note if the trials of one GPU of this machine may together use more memory than it has; else None.

    Args:
        memory_gb: What each may use, in 10^9 bytes, beside its network.
        share: What each takes of a GPU, or how many.
        slots: Trials at once.
    """
    sizes_gb = (torch.cuda.get_device_properties(gpu).total_memory / 1e9 for gpu in range(usable_gpus()))
    least_gb = min(sizes_gb, default=math.inf)
    together = max(1, min(slots, slot_count(1, min(share, 1))))
    if together * memory_gb <= least_gb:
        return None
    return (
        f"memory_gb={memory_gb:g} lets {number_of(together, 'trial')} at once on a GPU use {together * memory_gb:.3g} "
        f"GB, and a GPU here has {least_gb:.3g} GB: a trial that finds no room fails"
    )


def slot_count(units: int, share: float) -> int:
    """How many trials that take so much run at once on so many GPUs or cores."""
    return units // int(share) if share > 1 else units * int(1 / share)


def slots_of_base(base_ranks: int, share: float) -> int:
    """How many slots a base takes that is split over so many GPUs or cores; one where it is not split."""
    if base_ranks == 1:
        return 1
    return math.ceil(base_ranks / share) if share > 1 else slot_count(base_ranks, share)
