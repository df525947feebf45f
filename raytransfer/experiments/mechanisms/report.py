"""Fine-tuned against scratch networks: from their results to a report."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from raytransfer.analysis import comparisons, effects, nearness, rank_correlations, verdicts
from raytransfer.analysis.profiles import profiles
from raytransfer.analysis.runs import by_start
from raytransfer.experiments.design import trained_for
from raytransfer.experiments.mechanisms.cells import RESTART, MechanismCell
from raytransfer.experiments.mechanisms.config import MechanismsConfig
from raytransfer.experiments.mechanisms.figures import comparisons_figure, gradients_figure, training_figure
from raytransfer.experiments.mechanisms.landscapes import landscape_figure, paths_figure
from raytransfer.experiments.mechanisms.tables import (
    barriers_table,
    comparisons_table,
    nearness_table,
)
from raytransfer.experiments.verdicts import said_verdict, verdicts_markdown, verdicts_table
from raytransfer.report import Report
from raytransfer.report.rows import places_of, probe_readings
from raytransfer.specs import ProbeSpec
from raytransfer.specs.treatments import ANB_PLUS, BASE_B
from raytransfer.store import Store, read_table
from raytransfer.sweep.plan import Plan
from raytransfer.words import number_of

_PLACE = ["treatment", "target", "target_block", "base", "n_layers", "seed"]
_CAPTIONS = {
    "comparisons": "Fine-tuned against scratch: the effect of every test of every claim.",
    "training": "What probes read along training, fine-tuned and from scratch.",
    "gradients": "The gradient's norm and its parts, layer by layer and along training.",
    "landscapes": "The loss around the initialisation and the solution.",
    "paths": "The loss on the line between two networks, and how alike their layers are.",
}


def make_report(plan: Plan[MechanismCell, tuple[str, ...]], store: Store, config: MechanismsConfig) -> Report:
    """Analyse what has finished."""
    readings = _readings(plan.cells, store)
    if readings.empty:
        return Report(notes=["No probe of this sweep has finished."])
    stages = plan.design
    distances = _distances(plan.cells, store)
    # With missing probes as rows without a value: else a network's last step would be the last that was probed.
    looked = pd.concat([readings, _unread(plan.cells, readings)], ignore_index=True)
    named = by_start(looked, restart=RESTART, n=max((cell.n_layers or 0 for cell in plan.cells), default=0))
    paired, rhos = effects(named, stages), rank_correlations(named, distances)
    compared, near, judged = comparisons(paired), nearness(rhos), verdicts(paired, rhos)
    barriers = pd.concat(
        [profiles(named, f"barrier from {start}", step="last") for start in ("one start", "two starts")]
    )
    found = {
        "probe_readings": readings,
        "barriers": barriers,
        "distances": distances,
        "effects": paired,
        "comparisons": compared,
        "nearness": near,
        "verdicts": judged,
    }
    return Report(
        frames={name: table for name, table in found.items() if not table.empty},
        main=("probe_readings", "Every reading of every probe, one row each"),
        tables=[
            comparisons_table(compared),
            *([] if barriers.empty else [barriers_table(barriers)]),
            *([] if near.empty else [nearness_table(near)]),
            *([] if judged.empty else [verdicts_table(judged)]),
        ],
        figures=_figures(named, compared, stages, _title(plan, config)),
        captions=_CAPTIONS,
        answer=[f"{row['claim'].capitalize()}: {said_verdict(row)}." for row in judged.to_dict("records")],
        texts={"verdicts.md": verdicts_markdown(judged)},
    )


def _readings(cells: Sequence[MechanismCell], store: Store) -> pd.DataFrame:
    """One row per reading: the place of the probed network, the probe, and the reading."""
    return _networks(cells).merge(probe_readings(cells, store), on="trained_id")


def _unread(cells: Sequence[MechanismCell], readings: pd.DataFrame) -> pd.DataFrame:
    """One row per probe that has not finished, or has failed: a reading without a value."""
    there = set(readings["id"])
    looks = {cell.spec.id: cell.spec for cell in cells if isinstance(cell.spec, ProbeSpec)}
    missing = [
        {"id": name, "probe": look.probe, "trained_id": look.trained.id, "step": look.step, "against": look.against}
        for name, look in looks.items()
        if name not in there
    ]
    of_looks = pd.DataFrame(missing, columns=["id", "probe", "trained_id", "step", "against"])
    return _networks(cells).merge(of_looks, on="trained_id").reindex(columns=readings.columns).astype(readings.dtypes)


def _networks(cells: Sequence[MechanismCell]) -> pd.DataFrame:
    """The place of every network of a target."""
    networks = [cell for cell in cells if cell.treatment in (BASE_B.name, ANB_PLUS.name, RESTART)]
    return places_of(networks, _PLACE).astype({"n_layers": "Int64"}).rename(columns={"id": "trained_id"})


def _distances(cells: Sequence[MechanismCell], store: Store) -> pd.DataFrame:
    """One row per pair and seed: how far the base's task is from the target's."""
    places = places_of([cell for cell in cells if cell.treatment == "distance"], ["target", "base", "seed"])
    return places.merge(read_table(store, "distances")[["id", "value"]], on="id").drop(columns="id")


def _figures(readings: pd.DataFrame, compared: pd.DataFrame, stages: Sequence[str], title: str) -> dict[str, Figure]:
    """Every picture of the report by name, of what there is to draw."""
    there = set(readings.loc[readings["quantity"].notna(), "probe"])
    figures = {}
    if there & {"generalisation", "deviation", "flatness", "loss-variation"}:
        figures["training"] = training_figure(readings, title=title)
    if there & {"gradient-scale", "gradient-components"}:
        figures["gradients"] = gradients_figure(readings, stages, title=title)
    if there & {"landscape", "initial-landscape"}:
        figures["landscapes"] = landscape_figure(readings, title=title)
    if there & {"path", "CKA"}:
        figures["paths"] = paths_figure(readings, stages, title=title)
    if not compared.empty:
        figures["comparisons"] = comparisons_figure(compared, title=title)
    return figures


def _title(plan: Plan[MechanismCell, tuple[str, ...]], config: MechanismsConfig) -> str:
    targets = len({cell.target for cell in plan.cells})
    counted = f"{number_of(targets, 'target')}, {number_of(config.seeds, 'seed')}"
    return f"{plan.network} on {plan.data}, {trained_for(config, config.recipe)}: {counted}"
