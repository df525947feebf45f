"""The grid of Yosinski et al. 2014: from its configuration to a plan."""

import functools
import hashlib
from collections.abc import Sequence

from raytransfer.errors import UserError
from raytransfer.experiments.checks import check_adapters, checked_setup, data_source, without_cuts
from raytransfer.experiments.probing import with_probes
from raytransfer.experiments.weights import only_checkpoint, read
from raytransfer.experiments.yosinski.cells import GridCell, Halving, cells
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.specs import TaskSpec
from raytransfer.specs.treatments import TREATMENTS
from raytransfer.sweep.plan import Plan, plan_of
from raytransfer.tasks import Dataset, halves, open_dataset, random_halves, task_spec

_NAME_LENGTH = 40


def make_plan(config: GridConfig) -> Plan[GridCell, None]:
    """Open the data and lay out the grid, checking everything that can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    chosen = only_checkpoint(config)
    if chosen is not None:
        config = chosen.config
    source = data_source(config, config.data)
    dataset = open_dataset(source)
    halvings = _halvings(config, dataset)
    sizes = {len(half) for halving in halvings for half in (halving.a, halving.b)}
    shape = dataset.train_images.shape[1:]
    setup = checked_setup(config, shape, sizes)
    found = [] if chosen is None else [read(chosen, setup, shape)]
    fixed = config.treatments if config.fixed_treatments is None else config.fixed_treatments
    for name in dict.fromkeys([*config.treatments, *fixed]):
        if TREATMENTS[name].surgery.lora_rank:
            check_adapters(setup.network, setup.recipe.seen_shape(shape), setup.n_layers, asked=f"treatments={name}")

    @functools.cache
    def task(images: int | None, classes: tuple[int, ...], seed: int) -> TaskSpec:
        return task_spec(dataset, classes, images, seed)

    grid = [
        cell
        for images in config.numbers_of_images
        for halving in halvings
        for cell in cells(
            halving=halving,
            task=functools.partial(task, images),
            setup=setup,
            treatments=config.treatments if halving.halves == "random" else fixed,
            directions=config.directions,
            seeds=range(config.seeds),
            weights=found[0].weights if found else None,
            train_per_class=images if len(config.numbers_of_images) > 1 else None,
        )
    ]
    accounts = without_cuts(config, {cell.treatment for cell in grid})
    return plan_of(with_probes(grid, config, shape), [(source, dataset)], None, found, accounts)


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
            if any(sorted((a, b)) == sorted((other.a, other.b)) and other.halves != "random" for other in found):
                raise UserError(f"halves={wanted} are there twice: each way to halve the classes counts once")
            found.append(Halving(halves=name, split=name, a=a, b=b))
    return found


def _list_name(a: Sequence[int], b: Sequence[int]) -> str:
    """A name for halves given as lists, short enough for a table."""
    name = "/".join(" ".join(map(str, half)) for half in (a, b))
    return name if len(name) <= _NAME_LENGTH else f"lists {hashlib.sha256(name.encode()).hexdigest()[:6]}"
