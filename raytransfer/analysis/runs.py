"""Readings of probes by network, for the analyses of why transfer works.

*readings* has a row for each reading of a probe: treatment (``baseB`` from scratch, ``AnB+`` fine-tuned; others are
left out), target, target_block (its source), base and n_layers (missing for ``baseB``), seed, step (training steps of
the network; 0 is before training), probe, against (``base``, ``scratch``, ``twin`` or missing), quantity, stage
(missing for the whole network), index, x, y (missing where they mean nothing) and value. Values that are not finite
count as missing. Three quantities are derived from them at every step: ``generalisation gap`` = train top1 − test top1,
``loss gap`` = test loss − train loss, and ``gradient spread``, the standard deviation (of the population) of ln ``input
gradient`` over all stages. A network's *last step* is the last with a reading of any kind. The order of the rows
changes nothing.

A barrier, and the loss on the path that it lies on, is ``from one start`` or ``from two starts``: of two networks that
began with the same weights (of one base, or of one initialisation), or not. ``by_start`` names them so.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raytransfer.analysis.checks import refuse_repeats, require
from raytransfer.analysis.units import with_units
from raytransfer.specs.treatments import ANB_PLUS, BASE_B

_RUN = ["base", "n_layers", "target", "seed"]

NETWORK = ["treatment", *_RUN, "target_block"]
"""The columns that name a network."""

PLACE = ["step", "probe", "against", "quantity", "stage", "index", "x", "y"]
"""The columns that tell apart the readings of one network."""

NO_INDEX = -1
"""Stands for a missing index."""

Log = dict[int, dict[str, float]]
"""Values by step, then by stage (empty for the whole network)."""

Place = tuple[str, int]
"""Target and seed."""

Copied = tuple[str, int]
"""Base and n."""

SCRATCH: Copied = ("", 0)
"""Where nothing is copied."""


@dataclass(frozen=True, kw_only=True)
class NetworkReadings:
    """One network's readings of one quantity.

    Attributes:
        log: The values.
        losses: Training loss by step, in nats; empty where it was not probed.
        last: The network's last step.
    """

    log: Log
    losses: dict[int, float]
    last: int


def known_readings(readings: pd.DataFrame) -> pd.DataFrame:
    """Take the finite readings of the two treatments, add the gaps and the spread of gradients, and check the rows.

    What is missing becomes a plain value: n_layers 0, index −1, base, against and stage empty. The column ``last`` is
    the network's last step.

    Raises:
        ValueError: A column is missing, or two rows are of the same reading.
    """
    require(readings, [*NETWORK, *PLACE, "value"], "readings")
    rows = readings.loc[readings["treatment"].isin([BASE_B.name, ANB_PLUS.name]), [*NETWORK, *PLACE, "value"]]
    rows = rows.assign(last=rows.groupby(NETWORK, dropna=False)["step"].transform("max"))
    rows = rows[np.isfinite(rows["value"].to_numpy(dtype=np.float64, na_value=math.nan))].copy()
    for name in ("base", "against", "stage"):
        rows[name] = rows[name].astype(object).where(rows[name].notna(), "")
    rows["n_layers"] = rows["n_layers"].astype("Int64").fillna(0).astype(int)
    rows["index"] = rows["index"].astype("Int64").fillna(NO_INDEX).astype(int)
    rows[["x", "y", "value"]] = rows[["x", "y", "value"]].astype(np.float64)
    refuse_repeats(rows, [*NETWORK, *PLACE], "readings hold more than one row of the same reading:")
    ordered = rows.sort_values([*NETWORK, *PLACE], ignore_index=True)  # sums in another order may differ
    known: pd.DataFrame = pd.concat([ordered, *_derived(ordered)], ignore_index=True)
    return known


def by_start(readings: pd.DataFrame, *, restart: str, n: int) -> pd.DataFrame:
    """Name barriers and paths by whether the two networks had one start, and place the restarts' beside scratch.

    Twins of a base have one start, and so have restarts, whose layers 1..n begin with the initial weights of one
    network from scratch. Cousins of a base have two starts, and so have twins from scratch. Among fine-tuned networks
    only those of the cut n are named: others share less of their start.

    Args:
        readings: One row per reading; those of restarts stand under a treatment of their own.
        restart: Its name.
        n: The cut of the restarts.
    """
    starts = {
        (ANB_PLUS.name, "twin"): "one start",
        (restart, "twin"): "one start",
        (ANB_PLUS.name, "cousin"): "two starts",
        (BASE_B.name, "twin"): "two starts",
    }
    keys = zip(readings["treatment"], readings["against"], strict=True)
    named = pd.Series([starts.get(key) for key in keys], index=readings.index, dtype=object)
    named = named.where(readings["quantity"].isin(["barrier", "path loss"]))
    named = named.where((readings["treatment"] != ANB_PLUS.name) | readings["n_layers"].eq(n).fillna(False))
    restarted = (readings["treatment"] == restart) & named.notna()
    return readings.assign(
        quantity=readings["quantity"].where(named.isna(), readings["quantity"] + " from " + named.astype(str)),
        treatment=readings["treatment"].mask(restarted, BASE_B.name),
        n_layers=readings["n_layers"].mask(restarted),
    )


def _derived(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The two gaps, and the spread of gradients over stages, at every step that has what they take."""
    key = [*NETWORK, "last", "step"]
    wide = rows[rows["probe"] == "generalisation"].set_index([*key, "quantity"])["value"].unstack()
    found = {
        name: wide[more] - wide[less]
        for name, more, less in (
            ("generalisation gap", "train top1", "test top1"),
            ("loss gap", "test loss", "train loss"),
        )
        if more in wide and less in wide
    }
    gradients = rows[rows["quantity"] == "input gradient"]
    logs = gradients.assign(value=np.log(gradients["value"].where(gradients["value"] > 0).to_numpy()))
    of_network = logs.groupby(key)["value"]
    every_stage = (of_network.count() == of_network.size()) & (of_network.size() > 1)  # no gradient of zero among them
    found["gradient spread"] = of_network.std(ddof=0).where(every_stage)
    tables = [values.dropna().rename("value").reset_index().assign(quantity=name) for name, values in found.items()]
    return [
        table.assign(probe="derived", against="", stage="", index=NO_INDEX, x=math.nan, y=math.nan)
        for table in tables
        if len(table)
    ]


def runs_of(
    known: pd.DataFrame, quantity: str, index: int | None = None, *, of_stages: bool = False
) -> dict[Copied, dict[Place, NetworkReadings]]:
    """Sort one quantity by network: the runs of every target and seed, for each base and n, and for ``SCRATCH``."""
    wanted = known[(known["quantity"] == quantity) & (known["index"] == (NO_INDEX if index is None else index))]
    wanted = wanted[(wanted["stage"] != "") == of_stages]
    if wanted.empty:
        return {}
    lasts = known.groupby(_RUN)["last"].first().to_dict()
    losses = _logs(known[known["quantity"] == "train loss"])
    runs: dict[Copied, dict[Place, NetworkReadings]] = {}
    for key, log in sorted(_logs(wanted).items()):
        base, n, target, seed = key
        of_loss = {step: values[""] for step, values in losses.get(key, {}).items()}
        runs.setdefault((base, n), {})[target, seed] = NetworkReadings(log=log, losses=of_loss, last=int(lasts[key]))
    return runs


def units_of(known: pd.DataFrame) -> dict[Place, dict[str, Any]]:
    """The unit of every target and seed: unit and unit_number."""
    places = with_units(known[["target", "target_block", "seed"]].drop_duplicates())
    return {
        (target, seed): {"unit": unit, "unit_number": number}
        for target, _, seed, unit, number in places.itertuples(index=False, name=None)
    }


def _logs(rows: pd.DataFrame) -> dict[tuple[str, int, str, int], Log]:
    logs: dict[tuple[str, int, str, int], Log] = {}
    for *key, step, stage, value in rows[[*_RUN, "step", "stage", "value"]].itertuples(index=False):
        base, n, target, seed = key
        logs.setdefault((base, n, target, seed), {}).setdefault(int(step), {})[stage] = value
    return logs
