"""Means over networks of any quantity that was probed.

``raytransfer.analysis.runs`` says what *readings* are, ``raytransfer.analysis.units`` what units are,
``raytransfer.analysis.comparisons`` what intervals are.
"""

from typing import Literal

import numpy as np
import pandas as pd

from raytransfer.analysis.runs import NETWORK, NO_INDEX, PLACE, known_readings
from raytransfer.analysis.units import unit_means, with_units

_SIGNED = {  # no logarithms
    *("train top1", "test top1", "cosine", "CKA", "generalisation gap", "loss gap"),
    *("barrier", "barrier from one start", "barrier from two starts"),
}
_NO_STEP = -1  # stands for a missing step
_PROFILES_COLUMNS = [
    *("quantity", "treatment", "base", "n_layers", "probe", "against", "step", "stage", "index", "x", "y"),
    *("mean", "low", "high", "units", "unit", "runs", "scale"),
]


def profiles(
    readings: pd.DataFrame, quantity: str, *, step: int | Literal["last"] | None = None, over_stages: bool = False
) -> pd.DataFrame:
    """Average one quantity over targets and seeds, at every place where it was read: what the figures draw.

    Means are geometric, with exp of the t interval of ln value, unless the quantity has a sign (accuracies, gaps,
    cosines, CKA, barriers) or some value is not positive.

    Args:
        readings: One row per reading.
        quantity: Name of the quantity, or of a derived one.
        step: One training step; ``last`` for each network's last; None for all.
        over_stages: Average over stages, within networks, before anything else (in ln for geometric means).

    Returns:
        A row for each treatment, base, n_layers, probe, against, step, stage, index, x and y with a value (those
        missing where they are missing in the readings; stage too, after averaging over them; step too, for the last):
        quantity, these, mean, low, high (in the quantity's unit; NaN ends under 3 units), units, unit, runs
        and scale (``geometric`` or ``arithmetic``). Scratch comes first.

    Raises:
        ValueError: A column is missing, or two rows are of the same reading.
    """
    known = with_units(known_readings(readings))
    of_step = known["step"] == (known["last"] if step == "last" else step)
    rows = known[(known["quantity"] == quantity) & (of_step | (step is None))]
    if step == "last":
        rows = rows.assign(step=_NO_STEP)
    geometric = quantity not in _SIGNED and bool((rows["value"] > 0).all())
    rows = rows.assign(value=np.log(rows["value"].to_numpy())) if geometric else rows
    place = [name for name in PLACE if name != "quantity"]
    if over_stages:
        of_network = rows.assign(stage="").groupby([*NETWORK, *place, "unit", "unit_number"], dropna=False)["value"]
        rows = of_network.mean().reset_index()
    means = unit_means(rows, ["n_layers", "base", "treatment", *place])
    if geometric:
        with np.errstate(over="ignore"):  # the interval of three units may be that wide
            means[["mean", "low", "high"]] = np.exp(means[["mean", "low", "high"]])
    means = means.assign(quantity=quantity, scale="geometric" if geometric else "arithmetic")
    return _with_missing(means[_PROFILES_COLUMNS])


def _with_missing(table: pd.DataFrame) -> pd.DataFrame:
    """Say again what is missing, where a plain value stood for it."""
    for name, stand_in in (("n_layers", 0), ("index", NO_INDEX), ("step", _NO_STEP)):
        table[name] = table[name].astype("Int64").mask(table[name] == stand_in)
    for name in ("base", "against", "stage"):
        table[name] = table[name].astype(object).mask(table[name] == "", None)
    return table
