"""From which base to start on a target, and where to cut: the choice of each measure, and its accuracy."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from raytransfer.analysis.checks import refuse_repeats, require
from raytransfer.analysis.intervals import ROUNDING_OF_FRACTIONS, Floats, student_t
from raytransfer.analysis.pairs import evened

MEASURED, ANY = "training all", "any start"
"""Choices without a measure: the start that did best on the other repeats, and the mean of all starts."""

_Start = tuple[str | None, int | None]
"""A base, and the number of layers copied from it; None where there is none."""

_PLACE = ["base", "n_layers"]
_COLUMNS = ["treatment", "target", "by", *_PLACE, "top1", "low", "high", "gain", "units", "recommended", "elsewhere"]


def recommendations(outcomes: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """The start that each measure would have chosen for each target, with the accuracy that was measured there.

    A measure chooses the base and cut with its largest mean over repeats, the first by name and n among equals; starts
    with fewer repeats than others are left out. A measure without an n chooses the base, and its accuracy is the mean
    over the cuts. A measure that is the same everywhere chooses nothing, and has no row. Measures do not see the
    accuracies, so the accuracies of their choices are not biased by the choosing. ``MEASURED`` takes, for each repeat,
    the start that did best on the others: one cannot do much better. ``ANY`` is the mean over all starts.

    One measure is *recommended* for a target: the one whose choices gained most over ``ANY``, on average over the other
    targets; where it chose nothing, it gained nothing. With a single target, it is the one that gained most on this
    target itself, which flatters it. None is where none gained or lost anything, as where all starts are equally good.

    Args:
        outcomes: One row per training: treatment, target, base, n_layers, seed and top1, a fraction. Starts that lack a
            repeat which others of their target have are left out.
        measures: One row per value: measure, target, base, n_layers (missing where it is the same for all), seed and
            value, a finite number, of which more is better.

    Returns:
        One row per (treatment, target, by), where ``by`` is a measure, ``MEASURED`` (from two repeats on) or ``ANY``:
        base and n_layers (missing where there is none), top1 with low and high, fractions, a t interval over repeats
        that speaks of this target and start alone (missing under 3 repeats, and for ``MEASURED``), gain over ``ANY``,
        units (repeats), recommended, and elsewhere, whether other targets recommend it.

    Raises:
        ValueError: A column is missing, or two rows are of the same training or value.
    """
    key = ["treatment", "target", *_PLACE, "seed"]
    require(outcomes, [*key, "top1"], "outcomes")
    require(measures, ["measure", "target", *_PLACE, "seed", "value"], "measures")
    refuse_repeats(outcomes, key, "outcomes hold more than one row of the same")
    refuse_repeats(measures, ["measure", "target", *_PLACE, "seed"], "measures hold more than one row of the same")
    rows = []
    for (treatment, target), trained in outcomes.groupby(["treatment", "target"], sort=False):
        table = trained.pivot(index=_PLACE, columns="seed", values="top1").dropna()
        starts: list[_Start] = list(table.index)
        if len(starts) > 1:
            values = _values(measures[measures["target"] == target])
            found = _choices(dict(zip(starts, table.to_numpy(dtype=np.float64), strict=True)), values)
            rows += [{"treatment": treatment, "target": target, **choice} for choice in found]
    return _recommended(pd.DataFrame(rows, columns=_COLUMNS[:-2]).astype({"n_layers": "Int64"}))


def _values(measures: pd.DataFrame) -> dict[str, dict[_Start, float]]:
    """By measure, the mean over repeats at each start; those without an n are at None."""
    repeats = measures.groupby(["measure", *_PLACE], dropna=False)["value"].transform("size")
    whole = measures[repeats == repeats.groupby(measures["measure"]).transform("max")]
    means = whole.groupby(["measure", *_PLACE], sort=False, dropna=False)["value"].mean().reset_index()
    means["value"] = evened(means["value"].to_numpy(dtype=np.float64))
    found: dict[str, dict[_Start, float]] = {}
    for name, base, n, value in means.astype({"n_layers": "Int64"}).itertuples(index=False, name=None):
        found.setdefault(name, {})[base, None if pd.isna(n) else n] = value
    return found


def _choices(accuracies: dict[_Start, Floats], values: dict[str, dict[_Start, float]]) -> Iterator[dict[str, object]]:
    """The choices for one target, from the accuracies of every start, one a repeat."""
    of_bases = {
        base: np.mean([of for (other, _), of in accuracies.items() if other == base], 0) for base, _ in accuracies
    }
    any_start = np.mean(list(accuracies.values()), axis=0)

    def choice(by: str, start: _Start, accuracy: Floats) -> dict[str, object]:
        told = student_t(accuracy)
        found = {"by": by, "base": start[0], "n_layers": start[1], **told.columns("top1")}
        return found | {"gain": told.estimate - any_start.mean(), "units": len(accuracy)}

    yield choice(ANY, (None, None), any_start)
    repeats = range(len(any_start))
    if len(repeats) > 1:
        best = [max(accuracies, key=lambda start: np.delete(accuracies[start], r).mean()) for r in repeats]
        held_out = np.array([accuracies[start][r] for r, start in enumerate(best)])
        overall = max(accuracies, key=lambda start: accuracies[start].mean())
        yield choice(MEASURED, overall, held_out) | {"low": np.nan, "high": np.nan}
    there = accuracies | {(base, None): of for base, of in of_bases.items()}
    for measure, at in values.items():
        known = {start: at[start] for start in there if start in at}
        if len(set(known.values())) > 1:
            chosen = max(known, key=lambda start: known[start])
            yield choice(measure, chosen, there[chosen])


def _recommended(found: pd.DataFrame) -> pd.DataFrame:
    """Mark the measure that is recommended for each target."""
    found = found.assign(recommended=False, elsewhere=False)
    for _, rows in found[~found["by"].isin([MEASURED, ANY])].groupby("treatment", sort=False):
        gains = rows.pivot(index="target", columns="by", values="gain")
        for target in gains.index:
            others = gains.drop(index=target)
            told = others if len(others) else gains.loc[[target]]
            means = told.fillna(0.0).mean()[told.notna().any() & gains.loc[target].notna()]
            if (means.abs() > ROUNDING_OF_FRACTIONS).any():
                chosen = rows[(rows["target"] == target) & (rows["by"] == means.idxmax())].index
                found.loc[chosen, ["recommended", "elsewhere"]] = [True, bool(len(others))]
    return found
