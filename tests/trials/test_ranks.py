"""Trainings split over two processes, with gloo: the losses of one, and an end together."""

import pytest

from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import read_table
from raytransfer.trials import Site, run

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = ("recipe.steps=12", "recipe.evaluations=6", "recipe.clip_norm=1")


def place(plan, root, **changes):
    return Site(sources=plan.sources, root=str(root), device="cpu", memory_bytes=10**9, **changes)


def test_two_ranks_have_the_losses_of_one_process(tiny, tmp_path):
    plan = make_plan(tiny("n_layers=[2]", "treatments=[AnB,AnB+]", "directions=[A->B]", *RECIPE))
    base = plan.longest_base
    specs = [base, *(spec for spec in plan.trials.values() if spec is not base)]
    sites = [place(plan, tmp_path / str(ranks), ranks=ranks) for ranks in (1, 2)]
    for site in sites:
        for spec in specs:
            run(spec, site)
    (rows, split), (curves, split_curves) = (
        [read_table(site.store(), table).sort_values(["id"], kind="stable") for site in sites]
        for table in ("trials", "curves")
    )
    print(rows.T, split.T, curves, split_curves)
