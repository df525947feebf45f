"""Transfer against distance: from its configuration to a plan."""

import json

from raytransfer.distances import DISTANCES
from raytransfer.distances.tree import check_in_tree, parse_tree
from raytransfer.errors import UserError
from raytransfer.experiments.checks import checked_setup
from raytransfer.experiments.distance.cells import Measures, PairCell, cells
from raytransfer.experiments.distance.config import DISTANCE_FEATURES, DistanceConfig
from raytransfer.experiments.probing import with_probes
from raytransfer.experiments.tasks import Design, make_design
from raytransfer.scores import SCORES
from raytransfer.specs import TaskSpec
from raytransfer.sweep.plan import Plan, plan_of
from raytransfer.tasks import label_names

_MEASURED = ["measure", "kind", "target", "base", "n_layers", "seed", "id"]


def make_plan(config: DistanceConfig) -> Plan[PairCell, Design]:
    """Open the data and lay out all pairs, checking everything that can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    measures = _measures(config)
    design = make_design(config, config.dial_grid)
    seeds = range(config.seeds)
    tasks = design.specs(seeds)
    setup = checked_setup(config, design.shape, {task.label_count for task in tasks})
    places = cells(
        design.pairs,
        seeds=seeds,
        network=setup.network,
        recipe=setup.recipe,
        n_layers=setup.n_layers,
        depth=setup.depth,
        measures=measures,
    )
    plan = plan_of(with_probes(places, config, design.shape), design.opened, design)
    _check_measurable(config, plan, tasks)
    return plan


def _measures(config: DistanceConfig) -> Measures:
    for option, names, known in (
        ("distances", config.distances, DISTANCES),
        ("scores", config.scores, SCORES),
    ):
        for name in names:
            if name not in known:
                raise UserError(f"{option} has {name}, which is not known; choose from {', '.join(known)}")
        if len(set(names)) < len(names):
            raise UserError(f"{option}={names} must name each once")
    names = [*SCORES]
    for name, distance in DISTANCES.items():
        names += [f"{name} of {kind}" for kind in DISTANCE_FEATURES] if distance.reads == "features" else [name]
    for option in ("drawn", "input_distance", "label_distance"):
        asked = getattr(config, option)
        for name in asked if isinstance(asked, list) else [asked]:
            if name not in names:
                raise UserError(f"{option} has {name}, which is not known; choose from {', '.join(names)}")
    if config.tree is not None:
        parse_tree(config.tree)
    return Measures(
        distances=[name for name in config.distances if name != "tree" or config.tree is not None],
        features=config.distance_features,
        scores=config.scores,
        images=config.images,
        tree=None if config.tree is None else json.dumps(config.tree, sort_keys=True, separators=(",", ":")),
    )


def _check_measurable(config: DistanceConfig, plan: Plan[PairCell, Design], tasks: set[TaskSpec]) -> None:
    if not config.distances and not config.scores:
        return
    for option in ("train_per_class", "base_per_class"):
        if getattr(config, option) == 1:
            raise UserError(f"{option}=1 must be at least 2: of a single image no measure can say how its class varies")
    if config.tree is not None and "tree" in config.distances:
        tree = parse_tree(config.tree)
        for task in sorted(tasks, key=repr):
            check_in_tree(label_names(plan.datasets[task.fingerprint], task), tree)
