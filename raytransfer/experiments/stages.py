"""The sweep along pretraining: from its configuration to a plan, from its results to a report."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from raytransfer.analysis import base_curves, drop_effects, stage_curves, stage_peaks
from raytransfer.config import StageConfig, to_yaml
from raytransfer.errors import UserError
from raytransfer.experiments.design import make_design
from raytransfer.figures import stages_figure
from raytransfer.plan import Plan, checked_recipe, layer_numbers, plan_of
from raytransfer.pretraining import StageCell, base_recipe, cells, drops, spaced_steps, transfer_recipe, with_drops
from raytransfer.probe_cells import with_probes
from raytransfer.report import how_to_read, parquet, places_of, png, write_files
from raytransfer.specs import NetworkSpec
from raytransfer.store import Store, read_table
from raytransfer.tables import drops_table, peaks_table

_PLACE = ["treatment", "schedule", "target", "base", "n_layers", "seed", "step"]


def make_plan(config: StageConfig) -> Plan[StageCell]:
    """Open the data and lay out all bases, checkpoints and transfers, checking what can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    network = NetworkSpec(name=config.network, init=config.init)  # type: ignore[arg-type]
    n_layers = layer_numbers(config)
    design = make_design(config)
    seeds = range(config.seeds)
    tasks = {task.spec(seed) for pair in design.pairs for task in (pair.base, pair.target) for seed in seeds}
    (shape,) = {dataset.train_images.shape[1:] for _, dataset in design.opened}
    recipe = checked_recipe(config, network, shape, {task.label_count for task in tasks})
    steps = config.base_steps or recipe.steps
    places = cells(
        design.pairs,
        seeds=seeds,
        network=network,
        recipe=transfer_recipe(recipe),
        base_recipes={name: base_recipe(recipe, name, steps, config.base_milestones) for name in config.schedules},
        steps=_steps(config.base_checkpoints, steps, _milestones(config)),
        n_layers=n_layers,
    )
    return plan_of(with_probes(places, config, shape), design.opened)


def _milestones(config: StageConfig) -> list[float]:
    return config.base_milestones if "step" in config.schedules else []


def _steps(wanted: Any, steps: int, milestones: Sequence[float]) -> list[int]:
    """The steps of a base to transfer from."""
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        if wanted < 2:
            raise UserError(f"base_checkpoints={wanted} must be at least 2, the first and the last, or a list of steps")
        return with_drops(spaced_steps(steps, wanted), steps, milestones)
    if not isinstance(wanted, list) or len(wanted) < 2 or len({repr(step) for step in wanted}) < len(wanted):
        raise UserError(f"base_checkpoints={wanted} must be a number, or list at least two steps, each once")
    for step in wanted:
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= steps:
            raise UserError(f"base_checkpoints has {step}, which a base never reaches: it takes steps 0..{steps}")
    return with_drops(wanted, steps, milestones)


def report(console: Console, name: str, plan: Plan[StageCell], store: Store, config: StageConfig) -> None:
    """Analyse what has finished, write tables and a picture below ``sweeps/`` in the store, and show them."""
    outcomes, bases = _outcomes(plan.cells, store), _bases(plan.cells, store)
    if outcomes.empty:
        console.print("No transfer of this sweep has finished.")
        return
    steps = config.base_steps or config.recipe.steps
    dropped = pd.DataFrame(
        [{"schedule": "step", "step": step} for step in drops(steps, _milestones(config))], columns=["schedule", "step"]
    )
    found = {
        "outcomes": outcomes,
        "bases": bases,
        "curves": stage_curves(outcomes),
        "base_curves": base_curves(bases),
        "peaks": stage_peaks(outcomes),
        "drop_effects": drop_effects(outcomes, dropped),
    }
    figure = stages_figure(found["curves"], found["base_curves"], found["peaks"], dropped, title=_title(plan, config))
    contents = {f"{key}.parquet": parquet(table) for key, table in found.items() if not table.empty}
    contents |= {"stages.png": png(figure), "config.yaml": to_yaml(config).encode()}
    data = "-".join(dict.fromkeys(dataset.name for dataset in plan.datasets.values()))
    files = write_files(store, f"{name}-{data}", plan.cells, contents)
    console.print()
    console.print(peaks_table(found["peaks"]))
    if not found["drop_effects"].empty:
        console.print(drops_table(found["drop_effects"]))
    console.print("Picture:", files["stages.png"], soft_wrap=True)
    console.print("Every transfer of the sweep, one row each, in pandas (bases.parquet: the bases' own accuracy):")
    console.print(how_to_read(store, "outcomes", files["outcomes.parquet"]), soft_wrap=True)


def _outcomes(cells: Sequence[StageCell], store: Store) -> pd.DataFrame:
    """One row a finished transfer: its place and its accuracy."""
    places = places_of(cells, _PLACE)
    placed = places[places["treatment"].isin(["AnB", "AnB+"])].astype({"n_layers": "int64", "step": "int64"})
    return placed.rename(columns={"step": "pretrain_step"}).merge(read_table(store, "trials")[["id", "top1"]], on="id")


def _bases(cells: Sequence[StageCell], store: Store) -> pd.DataFrame:
    """One row a base and step: its own accuracy on its own task, on training and on test images."""
    places = places_of(cells, _PLACE)
    along = places["n_layers"].isna() & places["step"].notna()  # not what the option probes asks for beside it
    placed = places[(places["treatment"] == "probe generalisation") & along]
    seen = read_table(store, "readings").pivot_table(index="id", columns="quantity", values="value", observed=True)
    seen = seen.reindex(columns=["test top1", "train top1"]).reset_index()
    seen = seen.rename(columns={"test top1": "top1", "train top1": "train_top1"})
    columns = ["schedule", "target", "base", "seed", "step"]
    found = placed.astype({"step": "int64"}).merge(seen, on="id")
    return found[[*columns, "top1", "train_top1"]].drop_duplicates(ignore_index=True)


def _title(plan: Plan[StageCell], config: StageConfig) -> str:
    data = ", ".join(dict.fromkeys(dataset.name for dataset in plan.datasets.values()))
    pairs = len({(cell.target, cell.base) for cell in plan.cells})
    return f"{config.network} on {data}: {pairs} pairs x {config.seeds} seeds"
