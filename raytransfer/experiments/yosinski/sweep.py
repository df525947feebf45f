"""The sweep of Yosinski et al. 2014: from its configuration to a plan, from its results to a report."""

import hashlib
from collections.abc import Sequence

from rich.console import Console

from raytransfer.config import GridConfig, to_yaml
from raytransfer.errors import UserError
from raytransfer.experiments.probing import with_probes
from raytransfer.experiments.yosinski.cells import Cell, Halving, cells
from raytransfer.experiments.yosinski.tables import boosts_table, means_table, readings_table
from raytransfer.report.files import how_to_read, write_report
from raytransfer.specs import NetworkSpec, TaskSpec
from raytransfer.store import Store
from raytransfer.sweep.plan import Plan, checked_recipe, data_source, layer_numbers, plan_of
from raytransfer.tasks import Dataset, halves, open_dataset, random_halves, task_spec

_NAME_LENGTH = 40


def make_plan(config: GridConfig) -> Plan[Cell]:
    """Open the data and lay out the grid, checking everything that can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    network = NetworkSpec(name=config.network, init=config.init)  # type: ignore[arg-type]
    n_layers = layer_numbers(config)
    source = data_source(config, config.data)
    dataset = open_dataset(source)
    halvings = _halvings(config, dataset)
    sizes = {len(half) for halving in halvings for half in (halving.a, halving.b)}
    shape = dataset.train_images.shape[1:]
    recipe = checked_recipe(config, network, shape, sizes)
    fixed = config.treatments if config.fixed_treatments is None else config.fixed_treatments
    tasks: dict[tuple[tuple[int, ...], int], TaskSpec] = {}

    def task(classes: tuple[int, ...], seed: int) -> TaskSpec:
        if (classes, seed) not in tasks:
            tasks[classes, seed] = task_spec(dataset, classes, config.train_per_class, seed)
        return tasks[classes, seed]

    grid = [
        cell
        for halving in halvings
        for cell in cells(
            halving=halving,
            task=task,
            network=network,
            recipe=recipe,
            treatments=config.treatments if halving.halves == "random" else fixed,
            n_layers=n_layers,
            directions=config.directions,
            seeds=range(config.seeds),
        )
    ]
    return plan_of(with_probes(grid, config, shape), [(source, dataset)])


def _halvings(config: GridConfig, dataset: Dataset) -> list[Halving]:
    asked = config.halves
    if not asked or any(entry in asked[:i] for i, entry in enumerate(asked)):
        raise UserError(f"halves={asked} must name at least one way to halve the classes, each once")
    found: list[Halving] = []
    for wanted in asked:
        if not isinstance(wanted, str | dict):
            raise UserError(f"halves={wanted} must be random, the name of a pair, or lists {{A: [...], B: [...]}}")
        if wanted == "random":
            for index in range(config.splits):
                a, b = random_halves(len(dataset.class_names), index)
                found.append(Halving(halves="random", split=f"random{index}", a=a, b=b))
        else:
            a, b = halves(dataset, wanted)
            name = wanted if isinstance(wanted, str) else _list_name(a, b)
            if any((a, b) == (other.a, other.b) and other.halves != "random" for other in found):
                raise UserError(f"halves={wanted} are there twice: each way to halve the classes counts once")
            found.append(Halving(halves=name, split=name, a=a, b=b))
    return found


def _list_name(a: Sequence[int], b: Sequence[int]) -> str:
    """A name for halves given as lists, short enough for a table."""
    name = "/".join(" ".join(map(str, half)) for half in (a, b))
    return name if len(name) <= _NAME_LENGTH else f"lists {hashlib.sha256(name.encode()).hexdigest()[:6]}"


def report(console: Console, name: str, plan: Plan[Cell], store: Store, config: GridConfig) -> None:
    """Write the report of what has finished, and show it."""
    (dataset,) = plan.datasets.values()
    data = dataset.name
    amount = f"{config.train_per_class} training images a class" if config.train_per_class else "all training images"
    title = f"{config.network} on {data}, {amount}, {config.recipe.steps} steps"
    written = write_report(plan.cells, store, name=f"{name}-{data}", title=title, config=to_yaml(config))
    if written is None:
        console.print("No trial of this sweep has finished.")
        return
    console.print()
    console.print(means_table(written.means))
    console.print(readings_table(written.readings))
    if not written.boosts.empty:
        console.print(boosts_table(written.boosts))
    console.print("Pictures:", written.files["points.png"], written.files["lines.png"], soft_wrap=True)
    console.print("Every trial of the sweep, one row each, in pandas:")
    console.print(how_to_read(store, "results", written.files["results.parquet"]), soft_wrap=True)
