"""Fine-tuned against scratch networks: from their configuration to a plan."""

from raytransfer.distances import DISTANCES
from raytransfer.errors import UserError
from raytransfer.experiments.checks import checked_recipe, layer_numbers
from raytransfer.experiments.mechanisms.cells import WhyCell, cells
from raytransfer.experiments.mechanisms.config import WhyConfig
from raytransfer.experiments.probing import with_probes
from raytransfer.experiments.tasks import make_design
from raytransfer.specs import NetworkSpec
from raytransfer.sweep.plan import Plan, plan_of


def make_plan(config: WhyConfig) -> Plan[WhyCell, None]:
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
    tasks = design.specs(seeds)
    recipe = checked_recipe(config, network, design.shape, {task.label_count for task in tasks})
    places = cells(
        design.pairs,
        seeds=seeds,
        network=network,
        recipe=recipe,
        n_layers=n_layers,
        distance=config.distance,
        images=config.probe_images,
    )
    return plan_of(with_probes(places, config, design.shape), design.opened, None)
