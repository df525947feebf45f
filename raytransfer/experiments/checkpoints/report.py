"""Transfer along pretraining: from its results to a report."""

from collections.abc import Sequence

import pandas as pd

from raytransfer.analysis import base_curves, checkpoint_curves, checkpoint_peaks, checkpoint_verdicts, drop_effects
from raytransfer.experiments.checkpoints.cells import CheckpointCell, drops
from raytransfer.experiments.checkpoints.config import CheckpointsConfig
from raytransfer.experiments.checkpoints.figures import checkpoints_figure
from raytransfer.experiments.checkpoints.plan import milestones_of
from raytransfer.experiments.checkpoints.tables import drops_table, peaks_table
from raytransfer.experiments.design import base_recipe
from raytransfer.experiments.verdicts import said_verdict, verdicts_markdown, verdicts_table
from raytransfer.report import Report
from raytransfer.report.rows import places_of
from raytransfer.specs.treatments import ANB, ANB_PLUS
from raytransfer.store import Store, read_table
from raytransfer.sweep.plan import Plan
from raytransfer.words import number_of

_CAPTIONS = {
    "checkpoints": "Transfer against the step of pretraining at which the base was copied, and the base's own accuracy."
}
_BASES = " (bases.parquet: the bases' own accuracy)"
_PLACE = ["treatment", "schedule", "target", "target_block", "base", "n_layers", "seed", "step"]


def make_report(plan: Plan[CheckpointCell, None], store: Store, config: CheckpointsConfig) -> Report:
    """Analyse what has finished."""
    outcomes, bases = _outcomes(plan.cells, store), _bases(plan.cells, store)
    if outcomes.empty:
        return Report(notes=["No transfer of this sweep has finished."])
    steps = base_recipe(config, config.recipe).steps
    dropped = pd.DataFrame({"schedule": "step", "step": drops(steps, milestones_of(config))})
    found = {
        "outcomes": outcomes,
        "bases": bases,
        "curves": checkpoint_curves(outcomes),
        "base_curves": base_curves(bases),
        "peaks": checkpoint_peaks(outcomes),
        "verdicts": checkpoint_verdicts(outcomes),
        "drop_effects": drop_effects(outcomes, dropped),
    }
    figure = checkpoints_figure(
        found["curves"], found["base_curves"], found["peaks"], dropped, title=_title(plan, config)
    )
    return Report(
        frames={name: table for name, table in found.items() if not table.empty},
        main=("outcomes", f"Every transfer of the sweep, one row each{'' if bases.empty else _BASES}"),
        tables=[
            peaks_table(found["peaks"]),
            *([] if found["drop_effects"].empty else [drops_table(found["drop_effects"])]),
            *([] if found["verdicts"].empty else [verdicts_table(found["verdicts"])]),
        ],
        figures={"checkpoints": figure},
        captions=_CAPTIONS,
        answer=[
            f"{row['claim']} along pretraining: {said_verdict(row)}." for row in found["verdicts"].to_dict("records")
        ],
        texts={"verdicts.md": verdicts_markdown(found["verdicts"])},
    )


def _outcomes(cells: Sequence[CheckpointCell], store: Store) -> pd.DataFrame:
    """One row per finished transfer: its place and its accuracy."""
    places = places_of(cells, _PLACE)
    placed = places[places["treatment"].isin([ANB.name, ANB_PLUS.name])].astype({"n_layers": "int64", "step": "int64"})
    return placed.rename(columns={"step": "pretrain_step"}).merge(read_table(store, "trials")[["id", "top1"]], on="id")


def _bases(cells: Sequence[CheckpointCell], store: Store) -> pd.DataFrame:
    """One row per base and step: its own accuracy on its own task, on training and on test images."""
    places = places_of(cells, _PLACE)
    along = places["n_layers"].isna() & places["step"].notna()  # not what the option probes asks for beside it
    placed = places[(places["treatment"] == "probe generalisation") & along]
    seen = read_table(store, "readings").pivot_table(index="id", columns="quantity", values="value", observed=True)
    seen = seen.reindex(columns=["test top1", "train top1"]).reset_index()
    seen = seen.rename(columns={"test top1": "top1", "train top1": "train_top1"})
    columns = ["schedule", "target", "base", "seed", "step"]
    found = placed.astype({"step": "int64"}).merge(seen, on="id")
    return found[[*columns, "top1", "train_top1"]]


def _title(plan: Plan[CheckpointCell, None], config: CheckpointsConfig) -> str:
    pairs = len({(cell.target, cell.base) for cell in plan.cells})
    return f"{plan.network} on {plan.data}: {number_of(pairs, 'pair')} x {number_of(config.seeds, 'seed')}"
