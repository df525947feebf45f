"""Transfer against distance: from its configuration to a plan."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from raytransfer.config.rules import as_list, check_names
from raytransfer.distances import DISTANCES
from raytransfer.distances.tree import check_in_tree, parse_tree
from raytransfer.errors import UserError
from raytransfer.experiments.checks import canonical, checked_setup
from raytransfer.experiments.design import Design, base_recipe, make_design
from raytransfer.experiments.distance.cells import Layout, Measures, PairCell, cells
from raytransfer.experiments.distance.config import DISTANCE_FEATURES, DistanceConfig
from raytransfer.experiments.probing import with_probes
from raytransfer.scores import SCORES
from raytransfer.specs import TaskSpec
from raytransfer.sweep.plan import Plan, plan_of
from raytransfer.tasks import label_names
from raytransfer.trials.measuring import labels_drawn
from raytransfer.words import number_of


def make_plan(config: DistanceConfig) -> Plan[PairCell, Design]:
    """Open the data and lay out all pairs, checking everything that can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    design = make_design(config, config.dial_grid)
    measures = _measures(config, _labels_of(design, config.images))
    seeds = range(config.seeds)
    tasks = design.specs(seeds)
    setup = checked_setup(config, design.shape, {task.label_count for task in tasks})
    layout = Layout(setup=setup, base_recipe=base_recipe(config, setup.recipe), measures=measures)
    places = with_probes(cells(design.pairs, layout, seeds), config, design.shape)
    plan = plan_of(places, design.opened, design, accounts=_left_out(design, measures, seeds))
    _check_measurable(config, plan, tasks)
    return plan


def _labels_of(design: Design, images: int) -> Callable[[TaskSpec, int], frozenset[str]]:
    """Names of the labels that a measurement finds among the images of a task that it draws with a seed."""
    datasets = {dataset.fingerprint: dataset for _, dataset in design.opened}

    @functools.cache
    def found(task: TaskSpec, seed: int) -> frozenset[str]:
        dataset = datasets[task.fingerprint]
        counts = np.bincount(labels_drawn(dataset, task, images, seed), minlength=task.label_count)
        names = label_names(dataset, task)
        return frozenset(name for name, count in zip(names, counts, strict=True) if count >= 2)

    return found


def _left_out(design: Design, measures: Measures, seeds: Sequence[int]) -> list[str]:
    """A line for each distance that some pairs are not measured by, with the reason."""
    named = [name for name in measures.distances if DISTANCES[name].same_labels]
    if not named:
        return []
    differ = sum(
        not measures.same_labels(pair.base.spec(seed), pair.target.spec(seed), seed)
        for pair in design.pairs
        for seed in seeds
    )
    pairs = number_of(len(design.pairs) * len(seeds), "pair")
    return [
        f"{name}: not measured for {differ} of {pairs} (base, target, seed), whose labels differ: it is defined for "
        "tasks with the same labels"
        for name in named
        if differ
    ]


def _measures(config: DistanceConfig, labels: Callable[[TaskSpec, int], frozenset[str]]) -> Measures:
    check_names("distances", config.distances, DISTANCES)
    check_names("scores", config.scores, SCORES)
    names = [*SCORES]
    for name, distance in DISTANCES.items():
        names += [f"{name} of {kind}" for kind in DISTANCE_FEATURES] if distance.reads == "features" else [name]
    for option in ("drawn", "input_distance", "label_distance"):
        for name in as_list(getattr(config, option)):
            if name not in names:
                raise UserError(f"{option} has {name}, which is not known; choose from {', '.join(names)}")
    if config.tree is not None:
        parse_tree(config.tree)
    return Measures(
        distances=[name for name in config.distances if name != "tree" or config.tree is not None],
        features=config.distance_features,
        scores=config.scores,
        images=config.images,
        tree=None if config.tree is None else canonical(config.tree),
        same_labels=lambda one, other, seed: labels(one, seed) == labels(other, seed),
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
