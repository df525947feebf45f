"""The learning curves of single trials, for the reader of a page to pick from."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.store.schema import PLACES

QUANTITIES = {
    "top1": "top-1 accuracy on the test images, %",
    "loss_nats": "test loss, nats",
    "train_loss_nats": "training loss, nats",
}
"""Columns of the table ``curves`` that a reader can see, and what each is."""

_MOST_EVALUATIONS = 200_000  # in a page, which would grow beyond some megabytes
_DIGITS = 4


def pickable(places: Sequence[Mapping[str, Any]], curves: pd.DataFrame) -> dict[str, Any]:
    """The learning curves of a sweep as a page holds them: their places and their values.

    Of very many evaluations only every second, third and so on is kept, and the last of each curve.

    Args:
        places: Rows of the table ``places``: where each trial stands.
        curves: Rows of the table ``curves``, of these trials and others.

    Returns:
        Nothing where no trial has a curve of two evaluations; else ``picks``, the columns of places whose values
        differ and their values in order; ``places``, for each place its curve and the number of its value in each
        column, -1 for none; ``curves``, for each its ``steps`` and the values of every quantity, an accuracy in
        percent; ``every``, which evaluations are kept (1: all).
    """
    curves = curves[curves["id"].isin({place["id"] for place in places})].sort_values(["id", "step"])
    counts = curves.groupby("id").size()
    curves = curves[curves["id"].isin(counts[counts > 1].index)]
    if curves.empty:
        return {}
    every = math.ceil(len(curves) / _MOST_EVALUATIONS)
    curves = curves[curves.groupby("id").cumcount(ascending=False) % every == 0]
    values = [curves["step"], 100 * curves["top1"], curves["loss_nats"], curves["train_loss_nats"]]
    starts = np.flatnonzero(curves["id"].to_numpy()[1:] != curves["id"].to_numpy()[:-1]) + 1
    parts = [np.split(np.array(_rounded(column), dtype=object), starts) for column in values]
    number = {trial: n for n, trial in enumerate(curves["id"].unique())}
    shown = [place for place in places if place["id"] in number]
    columns = {column.name: list(dict.fromkeys(place[column.name] for place in shown)) for column in PLACES}
    picks = [(name, _in_order(found)) for name, found in columns.items() if len(found) > 1]
    where = {name: {value: n for n, value in enumerate(listed)} for name, listed in picks}
    return {
        "picks": picks,
        "places": [[number[place["id"]], *(where[name].get(place[name], -1) for name in where)] for place in shown],
        "curves": [[part.tolist() for part in curve] for curve in zip(*parts, strict=True)],
        "every": every,
    }


def _rounded(column: pd.Series) -> list[float | None]:
    """Numbers with as many digits as a picture shows; None for what is no number, which JSON does not know."""
    return [float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None for value in column.tolist()]


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Numbers in their order, names in that of the sweep, without the one for none."""
    known = [value for value in values if value is not None]
    return sorted(known) if all(isinstance(value, int) for value in known) else known
