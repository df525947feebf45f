"""How many trials run at once."""

from raytransfer.errors import UserError
from raytransfer.words import number_of


def check_slots(wanted: int | None, units: int, share: float, kind: str) -> int:
    """How many trials run at once on GPUs, or on CPU cores, of which each trial takes a share.

    Args:
        wanted: As many as this, or None for all there are.
        units: GPUs or cores.
        share: What a trial takes, up to 1; it lies on one of them, so at 2/3 a third of each goes unused.
        kind: ``GPU`` or ``CPU``.

    Raises:
        UserError: More are wanted than there are, or there are none.
    """
    there = slot_count(units, share)
    if there < 1:
        raise UserError(f"no slot of {share:g} {kind} fits: there are {units} {kind}")
    if wanted is not None and wanted > there:
        raise UserError(f"slots={wanted} must not exceed what is there: {number_of(there, 'slot')} of {share:g} {kind}")
    return wanted or there


def without_gpus(share: float | str) -> str | None:
    """What to tell of ``gpus_per_trial`` where there is no GPU: nothing of its default, and of auto, which looks."""
    if share in (1.0, "auto"):
        return None
    return f"gpus_per_trial={share:g} changes nothing: there is no GPU, so a trial takes a CPU core"


def slot_count(units: int, share: float) -> int:
    """How many trials of this share run at once on so many GPUs or cores."""
    return units * int(1 / share)
