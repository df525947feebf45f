"""The sweep of fine-tuned against scratch networks: from its configuration to a plan, from its results to a report."""

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from raytransfer.analysis import comparisons, nearness, verdicts
from raytransfer.config import WhyConfig, to_yaml
from raytransfer.distances import DISTANCES
from raytransfer.errors import UserError
from raytransfer.experiments.mechanisms.cells import WhyCell, cells
from raytransfer.experiments.mechanisms.figures import comparisons_figure, gradients_figure, training_figure
from raytransfer.experiments.mechanisms.landscapes import landscape_figure, paths_figure
from raytransfer.experiments.mechanisms.tables import (
    comparisons_table,
    nearness_table,
    verdicts_markdown,
    verdicts_table,
)
from raytransfer.experiments.probing import with_probes
from raytransfer.experiments.tasks import make_design
from raytransfer.networks import architecture
from raytransfer.report.files import how_to_read, parquet, places_of, png, probe_readings, write_files
from raytransfer.specs import NetworkSpec
from raytransfer.store import Store, read_table
from raytransfer.sweep.plan import Plan, checked_recipe, layer_numbers, plan_of

_PLACE = ["treatment", "target", "base", "n_layers", "seed"]


def make_plan(config: WhyConfig) -> Plan[WhyCell]:
    """Open the data and lay out all pairs and looks, checking everything that can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    network = NetworkSpec(name=config.network, init=config.init)  # type: ignore[arg-type]
    n_layers = layer_numbers(config)
    alone = [name for name, distance in DISTANCES.items() if distance.reads != "probe" and name != "tree"]
    if config.distance not in alone:
        raise UserError(f"distance={config.distance} is not known, or needs more than images: {', '.join(alone)}")
    if not config.probes:
        raise UserError("probes=[] leaves nothing to compare: name at least one")
    design = make_design(config)
    seeds = range(config.seeds)
    tasks = {task.spec(seed) for pair in design.pairs for task in (pair.base, pair.target) for seed in seeds}
    (shape,) = {dataset.train_images.shape[1:] for _, dataset in design.opened}
    recipe = checked_recipe(config, network, shape, {task.label_count for task in tasks})
    places = cells(
        design.pairs,
        seeds=seeds,
        network=network,
        recipe=recipe,
        n_layers=n_layers,
        distance=config.distance,
        images=config.probe_images,
    )
    return plan_of(with_probes(places, config, shape), design.opened)


def report(console: Console, name: str, plan: Plan[WhyCell], store: Store, config: WhyConfig) -> None:
    """Analyse what has finished, write tables and pictures below ``sweeps/`` in the store, and show them."""
    readings = _readings(plan.cells, store)
    if readings.empty:
        console.print("No probe of this sweep has finished.")
        return
    stages = [stage.name for stage in architecture(config.network).stages]
    distances = _distances(plan.cells, store)
    compared, near = comparisons(readings, stages), nearness(readings, distances)
    found = {
        "probe_readings": readings,
        "distances": distances,
        "comparisons": compared,
        "nearness": near,
        "verdicts": verdicts(compared, near),
    }
    title = _title(plan, config)
    contents = {f"{key}.parquet": parquet(table) for key, table in found.items() if not table.empty}
    contents |= {f"{key}.png": png(figure) for key, figure in _figures(readings, compared, stages, title).items()}
    contents["verdicts.md"] = verdicts_markdown(compared, near).encode()
    contents["config.yaml"] = to_yaml(config).encode()
    data = "-".join(dict.fromkeys(dataset.name for dataset in plan.datasets.values()))
    files = write_files(store, f"{name}-{data}", plan.cells, contents)
    console.print()
    console.print(comparisons_table(compared))
    if not near.empty:
        console.print(nearness_table(near))
    console.print(verdicts_table(found["verdicts"]))
    console.print("Pictures:", *(place for file, place in files.items() if file.endswith(".png")), soft_wrap=True)
    console.print("Verdicts, as Markdown:", files["verdicts.md"], soft_wrap=True)
    console.print("Every reading of every probe, one row each, in pandas:")
    console.print(how_to_read(store, "readings", files["probe_readings.parquet"]), soft_wrap=True)


def _readings(cells: Sequence[WhyCell], store: Store) -> pd.DataFrame:
    """One row a reading: the place of the network that was looked at, the look, and the reading."""
    networks = [cell for cell in cells if cell.treatment in ("baseB", "AnB+")]
    places = places_of(networks, _PLACE).astype({"n_layers": "Int64"}).rename(columns={"id": "trained_id"})
    return places.merge(probe_readings(cells, store), on="trained_id")


def _distances(cells: Sequence[WhyCell], store: Store) -> pd.DataFrame:
    """One row a pair and seed: how far the base's task is from the target's."""
    places = places_of([cell for cell in cells if cell.treatment == "distance"], ["target", "base", "seed"])
    return places.merge(read_table(store, "distances")[["id", "value"]], on="id").drop(columns="id")


def _figures(readings: pd.DataFrame, compared: pd.DataFrame, stages: Sequence[str], title: str) -> dict[str, Figure]:
    """Every picture of the report by name, of what there is to draw."""
    drawings: list[tuple[str, set[str], Callable[[], Figure]]] = [
        (
            "training",
            {"generalisation", "deviation", "flatness", "loss-variation"},
            lambda: training_figure(readings, title=title),
        ),
        (
            "gradients",
            {"gradient-scale", "gradient-components"},
            lambda: gradients_figure(readings, stages, title=title),
        ),
        ("landscapes", {"landscape", "initial-landscape"}, lambda: landscape_figure(readings, title=title)),
        ("paths", {"path", "CKA"}, lambda: paths_figure(readings, stages, title=title)),
    ]
    there = set(readings["probe"])
    figures = {name: draw() for name, probes, draw in drawings if probes & there}
    if not compared.empty:
        figures["comparisons"] = comparisons_figure(compared, title=title)
    return figures


def _title(plan: Plan[WhyCell], config: WhyConfig) -> str:
    data = ", ".join(dict.fromkeys(dataset.name for dataset in plan.datasets.values()))
    units = len({(cell.target, cell.seed) for cell in plan.cells})
    return f"{config.network} on {data}, {config.recipe.steps} steps: {units} units of target and seed"
