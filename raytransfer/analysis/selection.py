"""Checkpoints compared on targets: the accuracy that a start from each gives, and what predicts it."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from raytransfer.analysis.intervals import Interval, clustered_t, student_t, within_one
from raytransfer.analysis.pairs import evened
from raytransfer.specs.treatments import BASE_B

FIXED = "fixed ranking"
"""The baseline that ranks checkpoints by their mean rank on targets of other sources, whatever this target is.

Only targets on which all of these checkpoints were trained count.
"""

BASELINES = ("published accuracy", "parameters", FIXED)
"""Predictors that use no image of the target."""

_LEAST_RANKED = 3  # checkpoints of a rank correlation


def start_means(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of every treatment of every checkpoint at every cut, and its gain over scratch.

    Scratch is baseB of the same network. The unit is a repeat (seed): its draw of training images and of fresh weights.
    Gains are paired by it. The intervals speak of this target and these checkpoints.

    Args:
        outcomes: One row per training: treatment, checkpoint, target, seed, n_layers (missing where nothing is copied)
            and top1 as a fraction.

    Returns:
        One row per (target, checkpoint, treatment, n_layers): top1, top1_low, top1_high, gain, gain_low, gain_high, as
        fractions, units, and gain_units, those that scratch has too. Without an interval its ends are missing.
    """
    own = outcomes[outcomes["treatment"] == BASE_B.name].set_index(["target", "checkpoint", "seed"])["top1"]
    keys = ["target", "checkpoint", "treatment", "n_layers"]
    rows = []
    for key, runs in outcomes.groupby(keys, dropna=False, sort=False):
        top1 = runs["top1"].to_numpy(dtype=np.float64)
        scratch = own.reindex(pd.MultiIndex.from_frame(runs[["target", "checkpoint", "seed"]])).to_numpy(dtype=float)
        gains = (top1 - scratch)[~np.isnan(scratch)]
        mean, gain = student_t(top1), student_t(gains)
        rows.append(
            dict(zip(keys, key, strict=True))
            | mean.named("top1")
            | gain.named("gain")
            | {"units": len(runs), "gain_units": len(gains)}
        )
    columns = [*keys, "top1", "top1_low", "top1_high", "gain", "gain_low", "gain_high", "units", "gain_units"]
    return pd.DataFrame(rows, columns=columns)


def at_last_cut(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of all layers below the head, and those of the whole network."""
    return scores[scores["n_layers"].isna() | (scores["n_layers"] == scores["depth"] - 1)]


def predictors(
    outcomes: pd.DataFrame, scores: pd.DataFrame, known: pd.DataFrame, treatments: Sequence[str]
) -> pd.DataFrame:
    """How well scores, and baselines that use no image of the target, rank the checkpoints of each target.

    Accuracy is that of a treatment with all layers below the head copied, averaged over the repeats that all
    checkpoints have; scores are those of the last cut, likewise. The baselines are the published accuracy on the
    source's data, the number of parameters and, with targets of two sources or more, ``FIXED``.

    Args:
        outcomes: As for ``start_means``, with target_block (the target's source) and depth, the number of layers of the
            checkpoint's network.
        scores: One row per score: measure, checkpoint, target, seed, n_layers (missing for the whole network), depth
            and value, a finite number.
        known: One row per checkpoint: checkpoint, accuracy (may be missing) and parameters.
        treatments: The treatments whose accuracy is predicted.

    Returns:
        One row per (treatment, predictor, target): target_block, kind (score or baseline), tau (Kendall's τ-b over
        checkpoints) and checkpoints, how many have both numbers; and of a score its lead over each baseline, such as
        ``lead over parameters``: the difference of their τ on the checkpoints that both know, as an accuracy may be
        published of some alone. Of fewer than 3 there is no row, and no lead.
    """
    last = outcomes[outcomes["n_layers"] == outcomes["depth"] - 1]
    measured = _means_of_shared(at_last_cut(scores), ["measure", "target"], "value")
    measured = pd.Series(evened(np.asarray(measured, dtype=np.float64)), measured.index)
    sources = outcomes.groupby("target")["target_block"].first().to_dict()
    of_checkpoints = known.set_index("checkpoint")[["accuracy", "parameters"]].astype(float)
    rows = []
    for treatment in treatments:
        accuracy = _means_of_shared(last[last["treatment"] == treatment], ["target"], "top1")
        # Equal means of accuracies tie, whatever their sums' last bits are.
        table = accuracy.unstack("target").apply(lambda means: evened(means.to_numpy(dtype=np.float64)))
        for target in table:
            truth = table[target].dropna()
            baselines = {"published accuracy": of_checkpoints["accuracy"], "parameters": of_checkpoints["parameters"]}
            # Ranks of a target are those among its own checkpoints, so that it takes all of these on the others.
            others = table.loc[truth.index, [other for other in table if sources[other] != sources[target]]]
            others = others.dropna(axis="columns")
            if others.shape[1]:
                baselines[FIXED] = others.rank().mean(axis=1)
            for name, values in (_by_measure(measured, target) | baselines).items():
                both = _known(truth, values)
                if len(both) < _LEAST_RANKED:
                    continue
                kind = "baseline" if name in baselines else "score"
                row = {"treatment": treatment, "predictor": name, "kind": kind, "target": target}
                row |= {"target_block": sources[target], "tau": _tau(both, 1), "checkpoints": len(both)}
                if kind == "score":
                    for baseline, of_baseline in baselines.items():
                        of_both = _known(truth, values, of_baseline)
                        row[_lead(baseline)] = _tau(of_both, 1) - _tau(of_both, 2)
                rows.append(row)
    columns = ["treatment", "predictor", "kind", "target", "target_block", "tau", "checkpoints"]
    return pd.DataFrame(rows, columns=[*columns, *map(_lead, BASELINES)])


def _known(*columns: pd.Series) -> pd.DataFrame:
    """The checkpoints that all columns have a number of."""
    return pd.concat(columns, axis=1, join="inner").dropna()


def _tau(table: pd.DataFrame, column: int) -> float:
    """Kendall's τ-b of a column with the first; NaN of fewer checkpoints than it takes."""
    if len(table) < _LEAST_RANKED:
        return math.nan
    return float(kendalltau(table.iloc[:, 0], table.iloc[:, column]).statistic)


def _lead(baseline: object) -> str:
    return f"lead over {baseline}"


def _means_of_shared(rows: pd.DataFrame, keys: list[str], value: str) -> "pd.Series[float]":
    """Mean of each checkpoint over the repeats that all have: a draw of images is as easy for one as for another."""
    checkpoints = rows.groupby(keys)["checkpoint"].transform("nunique")
    shared = rows[rows.groupby([*keys, "seed"])["checkpoint"].transform("nunique") == checkpoints]
    means: pd.Series[float] = shared.groupby([*keys, "checkpoint"])[value].mean()
    return means


def _by_measure(measured: pd.Series, target: object) -> dict[str, pd.Series]:
    if measured.empty or target not in measured.index.get_level_values("target"):
        return {}
    of_target = measured.xs(target, level="target")
    return {str(name): of_target.xs(name, level="measure") for name in of_target.index.unique("measure")}


def predictor_means(predictors: pd.DataFrame) -> pd.DataFrame:
    """Mean τ of each predictor over targets, and each score's lead over the best baseline of the same targets.

    The unit is the source of targets: those that share a data set count as one. Under 3 sources there is no interval.

    Args:
        predictors: Output of ``predictors``.

    Returns:
        One row per (treatment, predictor): kind, tau, low, high, targets, sources, checkpoints (fewest of a target),
        and for a score the mean lead over the baseline with the highest mean τ, on the checkpoints that both know:
        lead, lead_low, lead_high and over, the baseline's name.
    """
    rows = []
    for treatment, of_treatment in predictors.groupby("treatment", sort=False):
        taus = of_treatment.pivot(index=["target_block", "target"], columns="predictor", values="tau")
        means = taus[[name for name in taus if name in BASELINES]].mean().dropna()
        best = None if means.empty else means.idxmax()
        for name, of_one in of_treatment.groupby("predictor", sort=False):
            mean, sources = _over_sources(taus[name])
            mean = within_one(mean)
            row = {"treatment": treatment, "predictor": name, "kind": of_one["kind"].iloc[0]}
            row |= mean.columns("tau") | {"targets": int(taus[name].count()), "sources": sources}
            row |= {"checkpoints": int(of_one["checkpoints"].min())}
            if row["kind"] == "score" and best is not None:
                lead, _ = _over_sources(of_one.set_index(["target_block", "target"])[_lead(best)])
                row |= lead.named("lead") | {"over": best}
            rows.append(row)
    columns = ["treatment", "predictor", "kind", "tau", "low", "high", "targets", "sources", "checkpoints"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "lead", "lead_low", "lead_high", "over"])


def _over_sources(values: "pd.Series[float]") -> tuple[Interval, int]:
    """Mean over targets, with an interval over their sources, and how many sources there are."""
    known = values.dropna()
    sources = pd.factorize(known.index.get_level_values("target_block"))[0]
    return clustered_t(np.asarray(known, dtype=np.float64), sources), len(np.unique(sources))


def score_ranks(scores: pd.DataFrame) -> pd.DataFrame:
    """Rank of each checkpoint by each score at the last cut, 1 the highest, mean over targets and repeats.

    Args:
        scores: As for ``predictors``.

    Returns:
        One row per (measure, checkpoint): value and rank, both means.
    """
    at_last = at_last_cut(scores)
    ranked = at_last.assign(rank=at_last.groupby(["measure", "target", "seed"])["value"].rank(ascending=False))
    means: pd.DataFrame = ranked.groupby(["measure", "checkpoint"], as_index=False)[["value", "rank"]].mean()
    return means
