"""Transfer against distance: from its results to a report."""

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Group

from raytransfer.analysis import (
    correlations,
    curves,
    dial_means,
    grid_effects,
    grid_means,
    monotonicity,
    outcome_monotonicity,
    transfer_points,
    variance_of_dials,
    variance_of_distances,
)
from raytransfer.analysis.checks import listed
from raytransfer.analysis.intervals import SURE
from raytransfer.analysis.pairs import OUTCOMES
from raytransfer.analysis.recommendation import recommendations
from raytransfer.distances import DISTANCES
from raytransfer.experiments.design import Design, DialRow, GridRow, trained_for
from raytransfer.experiments.distance.cells import PairCell
from raytransfer.experiments.distance.config import DistanceConfig
from raytransfer.experiments.distance.dial_figures import dial_grid_figure, dials_figure, monotonicity_figure
from raytransfer.experiments.distance.figures import correlations_figure, transfer_figure
from raytransfer.experiments.distance.tables import (
    correlations_table,
    grid_effects_table,
    monotonicity_table,
    variance_of_dials_table,
    variance_of_distances_table,
)
from raytransfer.experiments.recommendation import advice, recommendations_table
from raytransfer.experiments.words import no_p_below, said_blocks, said_units, with_interval
from raytransfer.report import Report
from raytransfer.report.rows import places_of
from raytransfer.specs.treatments import ANB, ANB_PLUS, BASE_A, BASE_B, RNB
from raytransfer.store import Store, read_table
from raytransfer.sweep.plan import Plan
from raytransfer.words import number_of

_CAPTIONS = {
    "correlations": "How well each distance and score predicts transfer: its rank correlation with each outcome at "
    "each n; intervals and p-values over {}.",
    "dial_means": "Transfer along every dial that is turned alone; intervals over {}.",
    "grid_means": "Transfer over the grid of two dials that are turned together; intervals over {}.",
    "monotonicity": "How each distance, score and outcome moves along each dial: mean rank correlation with the level, "
    "{}.",
}
_TRANSFER = "Transfer against {}: a point is a pair of tasks, the mean over its seeds{}."
_UNDEFINED = (
    "Without any correlation, as they are the same for all bases of each target, or there for fewer than 4 of them"
)
_NOT_ORDERED = (
    "Which distance or score best puts the bases of a target in order is not said: it takes 4 bases of one target."
)
_MEASURES = " (measures.parquet: every distance and score)"
_PLACE = ["treatment", "measure", "target", "target_block", "base", "base_block", "n_layers", "seed"]
_MEASURED = ["measure", "kind", "target", "target_block", "base", "n_layers", "seed", "id"]


def make_report(plan: Plan[PairCell, Design], store: Store, config: DistanceConfig) -> Report:
    """Analyse what has finished."""
    outcomes = _outcomes(plan.cells, store)
    if outcomes.empty or not outcomes[list(OUTCOMES)].notna().to_numpy().any():
        return Report(notes=["No transfer of this sweep has finished."])
    found = _analysed(outcomes, _measured(plan.cells, store), plan.design, config)
    frames = {name: table for name, table in found.items() if not table.empty}
    found["correlations"], undefined = with_any(found["correlations"])
    answer = _answer(found["correlations"])
    notes = [_NOT_ORDERED] if not answer and not found["correlations"].empty else []
    return Report(
        frames=frames,
        main=("outcomes", f"Every transfer of the sweep, one row each{_MEASURES if 'measures' in frames else ''}"),
        tables=_tables(found, config),
        figures=_figures(found, _title(plan, config), config),
        captions=_captions(found, config),
        answer=answer + advice(found["recommendations"]),
        notes=[*notes, *([f"{_UNDEFINED}: {listed(undefined)}."] if undefined else [])],
    )


def with_any(correlations: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The correlations of measures that have any, and the names of the others."""
    has_any = correlations["estimate"].notna().groupby(correlations["measure"]).any()
    # By isin, as a mask that map makes of no rows is none.
    return correlations[correlations["measure"].isin(has_any.index[has_any])], list(has_any.index[~has_any])


def _captions(found: dict[str, pd.DataFrame], config: DistanceConfig) -> dict[str, str]:
    """What each picture shows, and how many are independent."""
    said = {
        name: caption.format(said_blocks(found[name]) if name == "correlations" else said_units(found[name]))
        for name, caption in _CAPTIONS.items()
        if not found[name].empty
    }
    for measure in config.drawn:
        of_measure = found.get(f"curves-of-{_word(measure)}", pd.DataFrame())
        if not of_measure.empty:
            banded = of_measure["low"].notna().any()
            bands = f"; bands over {said_blocks(of_measure)}" if banded else ""
            said[_against(measure)] = _TRANSFER.format(measure, bands)
    return said


def _answer(correlations: pd.DataFrame) -> list[str]:
    """Which measure goes best with the accuracy of each treatment within a target, at the largest n, in words."""
    said = []
    for outcome in (ANB.name, ANB_PLUS.name):
        rows = correlations[(correlations["outcome"] == outcome) & (correlations["scope"] == "within target")]
        rows = rows[(rows["coefficient"] == "Spearman") & rows["estimate"].notna()]
        rows = rows[rows["n_layers"] == rows["n_layers"].max()]
        if rows.empty:
            continue
        best = rows.loc[rows["estimate"].idxmax()]
        rho = with_interval(best["estimate"], best["low"], best["high"], "z.2f")
        sure = "significant" if best["p_adjusted"] < SURE else "not significant"
        least = no_p_below([best["blocks"]])
        said.append(
            f"{outcome} at n = {best['n_layers']}: of {len(rows)} distances and scores, {best['measure']} puts bases "
            f"best in the order of their transfer to one target, ρ = {rho}, {best['pairs']} "
            f"pairs of {said_blocks(rows.loc[[best.name]])}; {sure} (p = {best['p_adjusted']:.2g}, "
            f"corrected for all that were tried{f'; {least}' if least else ''})."
        )
    return said


def _against(measure: str) -> str:
    """The figure of transfer against a measure."""
    return f"transfer-against-{_word(measure)}"


def _word(measure: str) -> str:
    """A measure's name as part of a file's, which has no spaces."""
    return measure.replace(" ", "-")


def _outcomes(cells: Sequence[PairCell], store: Store) -> pd.DataFrame:
    """One row per (target, base, n_layers, seed): accuracies of its treatments, what they gain over baseB, and trials.

    ``AnB_id`` and so on are the identities of the trials, whether they have finished or not.
    """
    places = places_of(cells, _PLACE)
    placed = places[places["measure"].isna()].merge(read_table(store, "trials")[["id", "top1"]], on="id", how="left")

    def of(treatment: str, keys: list[str]) -> pd.DataFrame:
        chosen = placed[placed["treatment"] == treatment]
        named = {"top1": treatment, "id": f"{treatment}_id"}
        return chosen[[*keys, *named]].rename(columns=named)

    pair = ["target", "target_block", "base", "base_block", "n_layers", "seed"]
    table = of(ANB.name, pair).merge(of(ANB_PLUS.name, pair), on=pair, how="outer")
    table = table.merge(of(RNB.name, ["target", "n_layers", "seed"]), on=["target", "n_layers", "seed"], how="left")
    table = table.merge(of(BASE_B.name, ["target", "seed"]), on=["target", "seed"], how="left")
    table = table.merge(of(BASE_A.name, ["target", "base", "seed"]), on=["target", "base", "seed"], how="left")
    table["boost"] = table[ANB_PLUS.name] - table[BASE_B.name]
    return table.astype({"n_layers": "int64"}).sort_values(pair, ignore_index=True)


def _measured(cells: Sequence[PairCell], store: Store) -> pd.DataFrame:
    """One row per distance or score of a pair: its measure, kind, place, value and trial."""
    places = places_of(cells, _PLACE).rename(columns={"treatment": "kind"}).dropna(subset="measure")
    places = places.astype({"n_layers": "Int64", "seed": "Int64"})[_MEASURED]
    values = pd.concat([read_table(store, table)[["id", "value"]] for table in ("distances", "scores")])
    return places.merge(values, on="id", how="inner")


def _analysed(
    outcomes: pd.DataFrame, measures: pd.DataFrame, design: Design, config: DistanceConfig
) -> dict[str, pd.DataFrame]:
    """Every table of the report by name."""
    dials = pd.DataFrame(design.dials, columns=[field.name for field in fields(DialRow)]).astype({"setting": "string"})
    grid = pd.DataFrame(design.grid, columns=[field.name for field in fields(GridRow)])
    there = set(measures["measure"])
    moves = monotonicity(measures, dials)
    moves["blind"] = [
        of == "distance" and kind in DISTANCES[measure.partition(" of ")[0]].blind_to
        for measure, of, kind in moves[["measure", "kind", "dial_kind"]].itertuples(index=False)
    ]
    found = {
        "outcomes": outcomes,
        "measures": measures,
        "dials": dials,
        "correlations": correlations(outcomes, measures),
        "monotonicity": moves,
        "outcome_monotonicity": outcome_monotonicity(outcomes, dials),
        "dial_means": dial_means(outcomes, dials),
        "grid_means": grid_means(outcomes, grid),
        "grid_effects": grid_effects(outcomes, grid),
        "variance_of_dials": variance_of_dials(outcomes, grid),
        "recommendations": _recommendations(outcomes, measures, config),
    }
    if {config.input_distance, config.label_distance} <= there:
        found["variance_of_distances"] = variance_of_distances(
            outcomes, measures, input_measure=config.input_distance, label_measure=config.label_distance
        )
    for measure in (measure for measure in config.drawn if measure in there):
        found[f"points-of-{_word(measure)}"] = transfer_points(outcomes, measures, measure)
        found[f"curves-of-{_word(measure)}"] = curves(outcomes, measures, measure)
    return found


def _recommendations(outcomes: pd.DataFrame, measures: pd.DataFrame, config: DistanceConfig) -> pd.DataFrame:
    """From which task to start; what dials make of a target is no task that one has."""
    keys = ["target", "base", "n_layers", "seed"]
    trained = outcomes.melt(keys, [ANB.name, ANB_PLUS.name], var_name="treatment", value_name="top1").dropna()
    larger_is_nearer = measures["value"].where(measures["kind"] == "score", -measures["value"])
    return recommendations(
        trained[trained["base"].isin(list(config.tasks))],
        measures.assign(value=larger_is_nearer)[measures["base"].isin(list(config.tasks))],
    )


def _figures(found: dict[str, pd.DataFrame], title: str, config: DistanceConfig) -> dict[str, Figure]:
    """Every picture of the report by name, of what there is to draw."""
    figures = {}
    within = found["correlations"].query("scope == 'within target' and coefficient == 'Spearman'")
    if within["estimate"].notna().any():  # few pairs have pooled ones alone
        figures["correlations"] = correlations_figure(found["correlations"], title=title)
    for measure in config.drawn:
        points = found.get(f"points-of-{_word(measure)}")
        if points is not None and not points.empty:
            figures[_against(measure)] = transfer_figure(points, found[f"curves-of-{_word(measure)}"], title=title)
    if not found["dial_means"].empty:
        figures["dial_means"] = dials_figure(found["dial_means"], found["dials"], title=title)
    if not found["grid_means"].empty:
        figures["grid_means"] = dial_grid_figure(found["grid_means"], title=title)
    if not found["monotonicity"].empty:
        figures["monotonicity"] = monotonicity_figure(found["monotonicity"], title=title)
    return figures


def _tables(found: dict[str, pd.DataFrame], config: DistanceConfig) -> list[Group]:
    parts = [
        tabulate(found[name])
        for name, tabulate in (
            ("correlations", correlations_table),
            ("monotonicity", monotonicity_table),
            ("grid_effects", grid_effects_table),
            ("variance_of_dials", variance_of_dials_table),
        )
        if not found[name].empty
    ]
    if "variance_of_distances" in found and found["variance_of_distances"]["share"].notna().any():
        parts.append(
            variance_of_distances_table(
                found["variance_of_distances"], of_input=config.input_distance, of_label=config.label_distance
            )
        )
    if not found["recommendations"].empty:
        parts.append(recommendations_table(found["recommendations"]))
    return parts


def _title(plan: Plan[PairCell, Design], config: DistanceConfig) -> str:
    targets = len({cell.target for cell in plan.cells})
    pairs = len({(cell.target, cell.base) for cell in plan.cells if cell.base is not None})
    counted = f"{number_of(targets, 'target')}, {number_of(pairs, 'pair')}, {number_of(config.seeds, 'seed')}"
    return f"{plan.network} on {plan.data}, {trained_for(config, config.recipe)}: {counted}"
