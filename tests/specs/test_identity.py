import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytransfer.errors import UserError
from raytransfer.specs import (
    Dials,
    DistanceSpec,
    NetworkSpec,
    PretrainSpec,
    ProbeSpec,
    Recipe,
    ScoreSpec,
    SimulationSpec,
    TaskSpec,
    TransferSpec,
    from_json,
    to_json,
)

TASK = TaskSpec(dataset="digits", fingerprint="f0", classes=(0, 3, 5), train_per_class=10, draw_seed=1)
OTHER = dataclasses.replace(TASK, classes=(1, 2, 4))
RECIPE = Recipe(steps=100, batch_size=16, learning_rate=0.01, schedule="step", milestones=(0.5, 0.75), crop_px=7)
BASE = PretrainSpec(task=TASK, network=NetworkSpec(name="convnet8"), recipe=RECIPE, seed=3)
TRANSFER = TransferSpec(
    base=BASE,
    pretrain_step=100,
    task=OTHER,
    network=BASE.network,
    recipe=RECIPE,
    n_layers=4,
    frozen=True,
    seed=3,
)


def test_identities_are_golden():
    # If this fails, stores written before no longer match: raise HASH_VERSION, or undo what changed the identity.
    assert (BASE.id, TRANSFER.id) == ("03d9fae64ab876e0", "c7177d8b238a282b")


def other_value(value):
    return {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value + 0.125,
        str: lambda: value + "x",
        tuple: lambda: value[:-1],
        type(None): lambda: 5,
    }[type(value)]()


def variants(spec):
    """The spec with each of its fields, at any depth, changed in turn."""
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            for path, inner in variants(value):
                yield f"{field.name}.{path}", {field.name: inner}
        else:
            yield field.name, {field.name: other_value(value)}


def changed(spec, change):
    content = {name: changed(getattr(spec, name), v) if isinstance(v, dict) else v for name, v in change.items()}
    return dataclasses.replace(spec, **content)


def test_identity_feels_every_field():
    # base.network and network are bound to each other, so they change together
    paths = {path: change for path, change in variants(TRANSFER) if "network" not in path}
    names = {path: paths.pop(path) for path in list(paths) if path.endswith(("dataset", "label"))}
    assert {changed(TRANSFER, change).id for change in names.values()} == {TRANSFER.id}  # a name is for people
    ids = {path: changed(TRANSFER, change).id for path, change in paths.items()}
    assert len(paths) > 40
    assert len({TRANSFER.id, *ids.values()}) == len(paths) + 1


def test_identity_feels_the_network():
    network = NetworkSpec(name="caffenet")
    transfer = dataclasses.replace(TRANSFER, base=dataclasses.replace(BASE, network=network), network=network)
    assert transfer.id != TRANSFER.id


@pytest.mark.parametrize("spec", [BASE, TRANSFER, dataclasses.replace(TRANSFER, base=None, pretrain_step=None)])
def test_json_round_trip(spec):
    assert from_json(to_json(spec)) == spec
    shuffled = json.dumps(dict(reversed(json.loads(to_json(spec)).items())))
    assert from_json(shuffled).id == spec.id


@given(st.integers(0, 1000), st.floats(0, 1e6))
def test_equal_numbers_are_the_same_run(whole, rate):
    as_int = dataclasses.replace(BASE, recipe=dataclasses.replace(RECIPE, learning_rate=whole))
    as_float = dataclasses.replace(BASE, recipe=dataclasses.replace(RECIPE, learning_rate=float(whole)))
    assert as_int.id == as_float.id
    spec = dataclasses.replace(BASE, recipe=dataclasses.replace(RECIPE, weight_decay=rate))
    assert from_json(to_json(spec)).recipe.weight_decay == rate


def test_negative_zero_is_zero():
    specs = [dataclasses.replace(BASE, recipe=dataclasses.replace(RECIPE, weight_decay=zero)) for zero in (0.0, -0.0)]
    assert specs[0].id == specs[1].id


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(value):
    with pytest.raises(UserError, match="must be finite"):
        _ = dataclasses.replace(BASE, recipe=dataclasses.replace(RECIPE, learning_rate=value)).id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": None}, "a base and a pretrain step, or neither"),
        ({"network": NetworkSpec(name="alexnet")}, "must be the same network"),
        ({"base": None, "pretrain_step": None, "frozen": False}, "frozen random control"),
    ],
)
def test_impossible_transfers_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TRANSFER, **change)


DIALLED = dataclasses.replace(TASK, dials=Dials(blur_px=1.0, seed=2))
DISTANCE = DistanceSpec(
    measure="OTDD", source=DIALLED, target=OTHER, probe=BASE, n_layers=7, images=500, seed=3, tree='["a","b"]'
)
SCORE = ScoreSpec(
    measure="LogME", base=BASE, pretrain_step=100, task=OTHER, n_layers=4, reference=BASE, images=500, seed=3
)


def test_identities_of_measurements_are_golden():
    # If this fails, stores written before no longer match: raise HASH_VERSION, or undo what changed the identity.
    base = dataclasses.replace(BASE, task=DIALLED)
    assert (base.id, DISTANCE.id, SCORE.id) == ("ff300caedbaf146b", "df2346b7e2d379e3", "ffeb6655039b29dd")


@pytest.mark.parametrize("spec", [dataclasses.replace(BASE, task=DIALLED), DISTANCE, SCORE])
def test_measurements_and_dials_feel_every_field(spec):
    paths = {path: change for path, change in variants(spec) if not path.endswith(("dataset", "label"))}
    ids = {changed(spec, change).id for change in paths.values()}
    assert len({spec.id, *ids}) == len(paths) + 1
    assert from_json(to_json(spec)) == spec
    assert from_json(to_json(spec)).id == spec.id


def test_a_task_without_dials_keeps_the_identity_it_had_before_there_were_dials():
    content = json.loads(to_json(BASE))
    del content["task"]["dials"], content["task"]["label"]
    assert from_json(json.dumps(content)).id == BASE.id


def test_looks_and_simulations_survive_json_and_their_identities_are_golden():
    look = ProbeSpec(probe="CKA", trained=TRANSFER, step=100, against="base", other=BASE, other_step=100, seed=3)
    of_base = ProbeSpec(probe="flatness", trained=BASE, step=5, images=20, eigenvalues=4, seed=3)
    simulation = SimulationSpec(source=OTHER, target=TASK, width=1000, images=20, seed=0)
    for spec in (look, of_base, simulation):
        assert from_json(to_json(spec)) == spec
    assert (look.id, of_base.id, simulation.id) == ("63554b28c2f68fef", "21c4bd126fbce9be", "73c4942d6c80a414")
