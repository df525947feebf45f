"""Weights that were made elsewhere: in trials, in the backlog and in rows they do what a base's do."""

import dataclasses

import pytest
import torch

from raytransfer.errors import UserError
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.networks import build
from raytransfer.specs import Imported, ProbeSpec, ScoreSpec, Surgery, Trained
from raytransfer.store import Store, import_weights, is_unmerged, load_weights, read_table
from raytransfer.sweep.backlog import backlog
from raytransfer.sweep.plan import plan_of
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.tasks import load_task
from raytransfer.training import DeviceData
from raytransfer.trials import Site, prepare
from tests.helpers import Quiet

TREATMENT = "AnB"


@dataclasses.dataclass(frozen=True)
class Place:
    """A trial of a plan, for what an imported checkpoint is given to."""

    spec: object
    treatment: str = TREATMENT


def site_of(plan, config):
    return Site(sources=plan.sources, root=config.out, device="cpu", memory_bytes=10**9)


def run_all(plan, site):
    run_in_process(Run(plan.trials, site, Quiet(), keep_checkpoints=True))


def foreign(plan, outputs=10):
    """A network of the sweep's kind that no trial made, with another number of outputs."""
    spec = plan.longest_base
    return build(spec.network, image=(1, 8, 8), classes=outputs, seed=77).module.state_dict()


def layers(plan, n):
    """What the names of tensors of the first n layers begin with."""
    network = build(plan.longest_base.network, image=(1, 8, 8), classes=10, seed=0)
    return tuple(f"{stage.name}." for stage in network.stages[:n])


def weights_of(spec):
    """What a training leaves."""
    return Trained(training=spec, step=spec.recipe.steps)


@pytest.fixture
def grid(tiny):
    """A configuration, its plan, and a transfer of it."""
    config = tiny("treatments=[baseB,AnB]", "n_layers=[2]")
    plan = make_plan(config)
    transfer = next(cell.spec for cell in plan.cells if cell.treatment == TREATMENT)
    return config, plan, transfer


def of(plan, specs):
    """A plan of these specs on the data of another plan."""
    (source,) = plan.sources
    (dataset,) = plan.datasets.values()
    return plan_of([Place(spec) for spec in specs], [(source[1], dataset)], None)


def test_the_same_content_is_stored_once_and_read_back(tmp_path):
    store, state = Store(str(tmp_path)), {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.float16)}
    state["tied"] = state["b"]  # as a network has it that uses one layer, or one weight, under two names
    digest = import_weights(store, state)
    assert import_weights(store, dict(reversed(state.items()))) == digest
    assert import_weights(store, {**state, "a": torch.ones(4, dtype=torch.float16)}) != digest
    assert import_weights(store, {**state, "a": torch.ones(2, 2)}) != digest
    assert import_weights(store, {"b": state["b"] + 1, "a": state["a"]}) != digest
    read = load_weights(store, Imported(digest=digest, network=None, outputs=1))
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype


def test_a_copy_of_a_base_transfers_as_the_base_does(grid):
    """The weights of a trained base, brought in as a file, give the accuracies and weights that the base gives."""
    config, plan, transfer = grid
    site = site_of(plan, config)
    run_all(plan, site)
    store = site.store()
    weights = transfer.weights
    digest = import_weights(store, load_weights(store, weights))
    given = Imported(digest=digest, network=transfer.network, outputs=weights.outputs, label="a file")
    twin = dataclasses.replace(transfer, weights=given)
    run_all(of(plan, [twin]), site)

    rows = read_table(store, "trials").set_index("id")
    of_base, of_file = rows.loc[transfer.id], rows.loc[twin.id]
    assert (of_file["top1"], of_file["loss_nats"]) == (of_base["top1"], of_base["loss_nats"])
    assert (of_file["base_task"], of_file["pretrain_id"], of_file["n_layers"]) == ("a file", digest, 2)
    assert rows["pretrain_step"].isna()[twin.id]
    assert not rows["pretrain_step"].isna()[transfer.id]


def test_imported_weights_are_transferred_scored_and_probed(grid):
    """They have ten outputs and the task five; frozen layers stay theirs, and nothing trains a base."""
    config, plan, transfer = grid
    site = site_of(plan, config)
    state = foreign(plan)
    digest = import_weights(site.store(), state)
    weights = Imported(digest=digest, network=transfer.network, outputs=10, label="a file")
    frozen = dataclasses.replace(transfer, weights=weights)
    tuned = dataclasses.replace(frozen, surgery=Surgery(n_layers=2, frozen=False))
    score = ScoreSpec(measure="LogME", weights=weights, task=transfer.task, n_layers=2, images=20, seed=0)
    steps = frozen.recipe.steps
    probe = ProbeSpec(probe="deviation", trained=tuned, step=steps, since=0, against="base", other=weights, seed=0)
    imports = of(plan, [frozen, tuned, score, probe])
    assert set(imports.trials) == {frozen.id, tuned.id, score.id, probe.id}
    assert set(backlog(imports, site.store(), "cached").to_run) == set(imports.trials)
    run_all(imports, site)

    store = site.store()
    assert all(is_unmerged(store, trial) for trial in imports.trials)
    after = load_weights(store, weights_of(frozen))
    lower = [name for name in state if name.startswith(layers(plan, 2))]
    assert lower
    assert all(torch.equal(after[name], state[name]) for name in lower)
    assert not any(torch.equal(load_weights(store, weights_of(tuned))[name], state[name]) for name in lower)
    scores = read_table(store, "scores")
    assert scores["value"].notna().all()
    probes = read_table(store, "probes")
    assert set(probes["against"]) == {"base"}


def test_preserved_layers_are_copied_and_train_and_those_below_stay(grid):
    """2014's code could keep layers above the cut, too: they start from the base's weights and are trained."""
    config, plan, transfer = grid
    site = site_of(plan, config)
    state = foreign(plan)
    weights = Imported(digest=import_weights(site.store(), state), network=transfer.network, outputs=10)
    kept = dataclasses.replace(transfer, weights=weights, surgery=Surgery(n_layers=2, frozen=True, preserved=1))
    data = DeviceData(
        load_task(site.dataset(kept.task.fingerprint), kept.task), kept.recipe, torch.device("cpu"), 10**9
    )
    start = prepare(kept, site.store(), data).module.state_dict()
    below, third = layers(plan, 2), layers(plan, 3)[2:]
    copied = [name for name in state if name.startswith((*below, *third)) and name.endswith("weight")]
    same = [name for name in state if name.endswith("weight") and torch.equal(start[name], state[name])]  # biases are 0
    assert same == copied

    run_all(of(plan, [kept]), site)
    end = load_weights(site.store(), weights_of(kept))
    assert [name for name in copied if torch.equal(end[name], state[name])] == [
        name for name in copied if name.startswith(below)
    ]


def test_weights_that_are_not_in_the_store_are_refused_before_anything_runs(grid):
    config, plan, transfer = grid
    weights = Imported(digest="0123456789abcdef", network=transfer.network, outputs=10, label="a file")
    gone = of(plan, [dataclasses.replace(transfer, weights=weights)])
    store = site_of(plan, config).store()
    with pytest.raises(UserError, match=r"weights a file \(0123456789abcdef\) are not in out=.*: import them again"):
        backlog(gone, store, "cached")
