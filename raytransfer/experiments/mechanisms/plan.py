"""Fine-tuned against scratch networks: from their configuration to a plan."""

from raytransfer.distances import DISTANCES
from raytransfer.errors import UserError
from raytransfer.experiments.checks import checked_setup
from raytransfer.experiments.design import base_recipe, make_design
from raytransfer.experiments.mechanisms.cells import MechanismCell, basins, cells
from raytransfer.experiments.mechanisms.config import MechanismsConfig
from raytransfer.experiments.probing import with_probes
from raytransfer.experiments.weights import only_checkpoint, read
from raytransfer.sweep.plan import Plan, plan_of


def make_plan(config: MechanismsConfig) -> Plan[MechanismCell, tuple[str, ...]]:
    """Open the data and lay out all pairs and looks, checking everything that can be checked before training.

    Returns:
        The plan; its design is the names of the network's stages.

    Raises:
        UserError: Something asked for cannot be done.
    """
    chosen = only_checkpoint(config)
    if chosen is not None:
        config = chosen.config
    alone = [name for name, distance in DISTANCES.items() if distance.reads != "probe" and name != "tree"]
    if config.distance not in alone:
        raise UserError(f"distance={config.distance} is not known, or needs more than images: {', '.join(alone)}")
    if not config.probes:
        raise UserError("probes=[] leaves nothing to compare: name at least one")
    design = make_design(config)
    settings = {pair.base.setting for pair in design.pairs}
    taken = [pair.base.name for pair in design.pairs if pair.base.setting is None and pair.base.name in settings]
    if taken:
        raise UserError(f"task {taken[0]} is called like the bases that dials make: rename it")
    seeds = range(config.seeds)
    tasks = design.specs(seeds)
    setup = checked_setup(config, design.shape, {task.label_count for task in tasks})
    found = [] if chosen is None else [read(chosen, setup, design.shape)]
    places = cells(
        design.targets,
        design.pairs,
        setup=setup,
        base_recipe=base_recipe(config, setup.recipe),
        seeds=seeds,
        distance=config.distance,
        weights=found[0].weights if found else None,
        images=config.probe_images,
    )
    places = with_probes(places, config, design.shape)
    return plan_of([*places, *basins(places, max(setup.n_layers))], design.opened, setup.stages, found)
