"""The readings in words: sentences made by rule."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from raytransfer.analysis import READINGS
from raytransfer.analysis.intervals import MIN_UNITS
from raytransfer.experiments.words import Row, with_interval
from raytransfer.words import number_of

# For each reading: what loses or gains, against what, and whether a positive reading is a loss. {0} and {1} are its
# treatments, {other} is what A was, {distant} the same of halves that are unlike.
_WORDS = {
    "co-adaptation drop": ("the network's own layers, frozen ({1}),", "training from scratch ({0})", True),
    "specificity drop": ("frozen layers of {other} ({1})", "the network's own ({0})", True),
    "recovery": ("the network's own layers, fine-tuned ({0}),", "the same kept frozen ({1})", False),
    "generalisation boost": ("layers of {other}, fine-tuned ({0}),", "training from scratch ({1})", False),
    "distance effect": ("frozen layers of {other} ({1} against {0})", "the same on random halves", True),
    "value of distant features": ("frozen layers of {distant} ({0})", "random ones ({1})", False),
    "boost over twice the steps": (
        "layers of {other}, fine-tuned ({0}),",
        "training from scratch for twice the steps ({1})",
        False,
    ),
    "boost over selffer": ("layers of {other}, fine-tuned ({0}),", "the network's own, fine-tuned ({1})", False),
}


def sentences(readings: pd.DataFrame, checkpoint: str | None = None) -> list[str]:
    """Say each reading in words, in percentage points: a text for each, with a sentence or two for each kind of halves.

    Sentences are about the largest n with a reading, a choice that does not depend on the results; for the first halves
    one more gives the range of the estimates over all n. Where the interval contains zero, the sentence says how large
    an effect would have been seen in 4 studies of 5. Under 3 units, or where all are equal, there is no interval, and
    nothing is concluded.

    Args:
        readings: Output of ``raytransfer.analysis.readings`` on accuracies.
        checkpoint: What the weights of others are called that stood in for those of base A; None where none did.
    """
    named = {"other": checkpoint or "the other task", "distant": checkpoint or "a distant task"}
    several = readings["halves"].nunique() > 1
    found = []
    for reading in READINGS:
        said: list[str] = []
        for halves, rows in readings[readings["reading"] == reading].groupby("halves", sort=False):
            ordered = rows.sort_values("n_layers").to_dict("records")
            where = "" if not several else " on random halves" if halves == "random" else f" on {halves}"
            said += [_further(ordered[-1], where)] if said else [_first(ordered[-1], where, named), *_range(ordered)]
        found += [" ".join(said)] * bool(said)
    return found


def _first(row: Row, where: str, named: Mapping[str, str]) -> str:
    subject, other, _ = _WORDS[row["reading"]]
    subject, other = (words.format(*READINGS[row["reading"]], **named) for words in (subject, other))
    does = ("gain", "over") if _gains(row) else ("lose", "against")
    return (
        f"At n = {row['n_layers']}{where}, {subject} {does[0]} {_size(row)} points {does[1]} {other}: {rests_on(row)}"
    )


def _further(row: Row, where: str) -> str:
    return (
        f"At n = {row['n_layers']}{where} they {'gain' if _gains(row) else 'lose'} {_size(row)} points: {rests_on(row)}"
    )


def _range(rows: Sequence[Row]) -> list[str]:
    """The range of the estimates of a reading over its n."""
    extremes = [choose(rows, key=lambda row: row["estimate"]) for choose in (min, max)]
    named = [
        f"{_points(abs(row['estimate']))} {'gained' if _gains(row) else 'lost'} at n = {row['n_layers']}"
        for row in sorted(extremes, key=lambda row: row["n_layers"])
    ]
    return [f"Over all n it goes from {' to '.join(named)}."] if len(set(named)) > 1 else []


def _gains(row: Row) -> bool:
    counts_loss = _WORDS[row["reading"]][2]
    return (row["estimate"] < 0) == counts_loss if row["estimate"] else not counts_loss


def _size(row: Row) -> str:
    """How much is lost or gained, a positive number, with its interval."""
    sign = -1 if row["estimate"] < 0 else 1
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return with_interval(abs(row["estimate"]), low, high, _points)


def rests_on(row: Row) -> str:
    """The number of units, and what they leave open."""
    groups = [int(row["units"]), *([] if pd.isna(row["random_units"]) else [int(row["random_units"])])]
    units = number_of(groups[0], "unit") + "".join(f" against {count} of random halves" for count in groups[1:])
    if math.isnan(row["low"]):
        why = "too few for an interval" if min(groups) < MIN_UNITS else "all equal, so without an interval"
        return f"{units}, {why}: nothing is concluded."
    if row["low"] <= 0 <= row["high"]:
        seen = _points(row["detectable"])
        return f"{units}. Not significant; detectable in 4 studies of 5: {seen} points."
    return f"{units}."


def _points(fraction: float) -> str:
    return f"{100 * fraction:z.1f}".replace("-", "−")
