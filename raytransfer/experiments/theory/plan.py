"""The simulations of the two-layer theory: from their configuration to a plan."""

from dataclasses import dataclass

from raytransfer.errors import UserError
from raytransfer.experiments.design import Design, make_design
from raytransfer.experiments.theory.config import TheoryConfig
from raytransfer.specs import SimulationSpec
from raytransfer.sweep.plan import Plan, plan_of


@dataclass(frozen=True, kw_only=True)
class TheoryCell:
    """The place of one simulation: P is the base, Q the target."""

    treatment: str
    target: str
    base: str
    seed: int
    width: int
    spec: SimulationSpec


def make_plan(config: TheoryConfig) -> Plan[TheoryCell, Design]:
    """Open the data and lay out all simulations.

    Raises:
        UserError: Something asked for cannot be done, or a task has not two labels.
    """
    design = make_design(config)
    cells = [
        TheoryCell(
            treatment=f"width {width}",
            target=pair.target.name,
            base=pair.base.name,
            seed=seed,
            width=width,
            spec=SimulationSpec(
                source=pair.base.spec(seed),
                target=pair.target.spec(seed),
                width=width,
                images=config.images,
                seed=seed,
            ),
        )
        for width in config.widths
        for pair in design.pairs
        for seed in range(config.seeds)
    ]
    for cell in cells:
        for name, task in ((cell.base, cell.spec.source), (cell.target, cell.spec.target)):
            if task.label_count != 2:
                raise UserError(
                    f"task {name} has {task.label_count} labels: the theory is of two, so name two classes or merged: 2"
                )
    return plan_of(cells, design.opened, design)
