"""Which checkpoint to start from: from its results to a report."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from raytransfer.analysis.recommendation import recommendations
from raytransfer.analysis.selection import predictor_means, predictors, score_ranks, start_means
from raytransfer.experiments.recommendation import advice, recommendations_table
from raytransfer.experiments.selection.cells import SelectionCell
from raytransfer.experiments.selection.config import TREATED, SelectionConfig
from raytransfer.experiments.selection.figures import cuts_figure, scores_figure, starts_figure
from raytransfer.experiments.selection.plan import SelectionPlan
from raytransfer.experiments.selection.tables import predictors_table, ranking_table, starts_table
from raytransfer.report import Report
from raytransfer.report.rows import places_of
from raytransfer.specs.treatments import ANB, ANB_PLUS
from raytransfer.store import Store, read_table
from raytransfer.words import number_of

_CAPTIONS = {
    "cuts": "Accuracy against the number of copied layers: a panel for each checkpoint and target, with its network "
    "from scratch as a line across. Whiskers, where there are any: 95% intervals.",
    "starts": "Accuracy from each checkpoint, cut at one place alone: a panel for each target. Whiskers, where there "
    "are any: 95% intervals.",
    "scores": "Every score and every baseline against the accuracy with all layers below the head copied. Lines join "
    "the checkpoints on one target: they rise where a score ranks them as they came out.",
}
_PLACE = ["treatment", "checkpoint", "target", "seed", "n_layers", "measure"]


def make_report(plan: SelectionPlan, store: Store, config: SelectionConfig) -> Report:
    """Analyse what has finished."""
    known = pd.DataFrame([{"checkpoint": name, **asdict(row)} for name, row in plan.design.items()])
    depth = {name: len(row.stages) for name, row in plan.design.items()}
    outcomes, scores = _outcomes(plan.cells, store, depth), _scores(plan.cells, store, depth)
    if outcomes.empty and scores.empty:
        return Report(notes=["No trial of this sweep has finished."])
    ranks = score_ranks(scores)
    means = start_means(outcomes)
    foretold = predictors(outcomes, scores, known, [ANB.name, ANB_PLUS.name])
    copied = outcomes[outcomes["treatment"].isin([ANB.name, ANB_PLUS.name])].rename(columns={"checkpoint": "base"})
    found = {
        "outcomes": outcomes,
        "scores": scores,
        "checkpoints": known.drop(columns="stages"),
        "score_ranks": ranks,
        "means": means,
        "predictors": foretold,
        "predictor_means": predictor_means(foretold),
        "recommendations": recommendations(copied, scores.rename(columns={"checkpoint": "base"})),
    }
    title = _title(plan, config)
    tables = [ranking_table(ranks, known)] if not ranks.empty else []
    figures = {}
    if not means.empty:
        tables.append(starts_table(means, depth))
        if means.groupby("checkpoint")["n_layers"].nunique().max() > 1:
            figures["cuts"] = cuts_figure(means, depth, title=title)
        else:
            figures["starts"] = starts_figure(means, title=title)
    if not foretold.empty:
        tables.append(predictors_table(found["predictor_means"]))
        figures["scores"] = scores_figure(outcomes, scores, known, title=title)
    if not found["recommendations"].empty:
        tables.append(recommendations_table(found["recommendations"]))
    return Report(
        frames={name: table for name, table in found.items() if not table.empty},
        main=_main(outcomes, scores),
        tables=tables,
        figures=figures,
        captions=_CAPTIONS,
        answer=advice(found["recommendations"]),
    )


def _main(outcomes: pd.DataFrame, scores: pd.DataFrame) -> tuple[str, str]:
    """The frame to start with, and what it holds: what was trained or, where nothing was, the scores."""
    if outcomes.empty:
        return "scores", "Every score of the sweep, one row each"
    of_scores = "" if scores.empty else " (scores.parquet: every score)"
    return "outcomes", f"Every training of the sweep, one row each{of_scores}"


def _outcomes(cells: Sequence[SelectionCell], store: Store, depth: dict[str, int]) -> pd.DataFrame:
    places = places_of([cell for cell in cells if cell.treatment in TREATED], _PLACE).drop(columns="measure")
    trials = read_table(store, "trials")[["id", "dataset", "top1", "train_top1", "cut"]]
    rows = places.merge(trials.rename(columns={"dataset": "target_block"}), on="id")
    return rows.assign(depth=rows["checkpoint"].map(depth)).astype({"n_layers": "Int64", "depth": "Int64"})


def _scores(cells: Sequence[SelectionCell], store: Store, depth: dict[str, int]) -> pd.DataFrame:
    places = places_of([cell for cell in cells if cell.measure is not None], _PLACE).drop(columns="treatment")
    rows = places.merge(read_table(store, "scores")[["id", "value"]], on="id")
    return rows.assign(depth=rows["checkpoint"].map(depth)).astype({"n_layers": "Int64", "depth": "Int64"})


def _title(plan: SelectionPlan, config: SelectionConfig) -> str:
    targets = len({cell.target for cell in plan.cells})
    checkpoints, repeats = number_of(len(plan.design), "checkpoint"), number_of(config.seeds, "repeat")
    counted = f"{checkpoints}, {number_of(targets, 'target')}, {repeats}"
    return f"Transfer to {plan.data}, {number_of(config.recipe.steps, 'step')}: {counted}"
