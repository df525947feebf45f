import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytransfer.errors import UserError
from raytransfer.specs import (
    Dials,
    DistanceSpec,
    Imported,
    NetworkSpec,
    PretrainSpec,
    ProbeSpec,
    Recipe,
    ScoreSpec,
    SimulationSpec,
    Surgery,
    TaskSpec,
    Trained,
    TransferSpec,
    from_json,
    to_json,
)

TASK = TaskSpec(dataset="digits", fingerprint="f0", classes=(0, 3, 5), train_per_class=10, draw_seed=1)
OTHER = dataclasses.replace(TASK, classes=(1, 2, 4))
RECIPE = Recipe(steps=100, batch_size=16, learning_rate=0.01, schedule="step", milestones=(0.5, 0.75), crop_px=7)
BASE = PretrainSpec(task=TASK, network=NetworkSpec(name="convnet8"), recipe=RECIPE, seed=3)
TRANSFER = TransferSpec(
    weights=BASE.weights,
    surgery=Surgery(n_layers=4, frozen=True),
    task=OTHER,
    network=BASE.network,
    recipe=RECIPE,
    seed=3,
)


IMPORTED = Imported(digest="0123456789abcdef", network=BASE.network, outputs=10, label="a file")


def test_identities_are_golden():
    # If this fails, stores written before no longer match: raise HASH_VERSION, or undo what changed the identity.
    assert dataclasses.replace(TRANSFER, weights=IMPORTED).id == "6649779fd5332bf0"
    assert (BASE.id, TRANSFER.id) == ("ff24eabde36c3f72", "baab9a740ec62a07")


def other_value(value):
    return {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value + 0.125,
        str: lambda: value + "x",
        tuple: lambda: value[:-1] if value else (0.5,),
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
    transfer = dataclasses.replace(
        TRANSFER, weights=dataclasses.replace(BASE, network=network).weights, network=network
    )
    assert transfer.id != TRANSFER.id


@pytest.mark.parametrize(
    "spec",
    [
        BASE,
        TRANSFER,
        dataclasses.replace(TRANSFER, weights=None),
        dataclasses.replace(TRANSFER, weights=IMPORTED),
        dataclasses.replace(TRANSFER, weights=Trained(training=TRANSFER, step=5)),
        dataclasses.replace(TRANSFER, surgery=Surgery(n_layers=2, frozen=True, preserved=2)),
    ],
)
def test_json_round_trip(spec):
    assert from_json(to_json(spec)) == spec
    assert to_json(spec) == json.dumps(json.loads(to_json(spec)), sort_keys=True, separators=(",", ":"))
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
        ({"network": NetworkSpec(name="alexnet")}, "must be the same network"),
        ({"weights": None, "surgery": Surgery(n_layers=4, frozen=False)}, "frozen random control"),
        ({"weights": None, "surgery": Surgery(n_layers=4, frozen=True, preserved=1)}, "frozen random control"),
        ({"weights": None, "surgery": Surgery(n_layers=4, frozen=True, lora_rank=2)}, "frozen random control"),
    ],
)
def test_impossible_transfers_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TRANSFER, **change)


@pytest.mark.parametrize("change", [{"thaw": "gradual"}, {"surgical": True}, {"lora_rank": 2}, {"reads_all": True}])
def test_what_trains_of_frozen_layers_takes_frozen_layers(change):
    with pytest.raises(UserError, match="say what becomes of frozen layers: they take frozen=True"):
        Surgery(n_layers=4, frozen=False, **change)


def test_which_layers_are_copied_and_frozen():
    surgery = Surgery(n_layers=3, frozen=True)
    told = {
        surgery: (3, {0, 1, 2}, {0, 1, 2}, 3),
        Surgery(n_layers=3, frozen=False): (3, set(), set(), 0),
        dataclasses.replace(surgery, preserved=2): (5, {0, 1, 2}, {0, 1, 2}, 3),
        dataclasses.replace(surgery, surgical=True): (7, {0, 1, 3, 4, 5, 6}, {0, 1, 3, 4, 5, 6}, 2),
        dataclasses.replace(surgery, thaw="halfway"): (3, {0, 1, 2}, set(), 0),
        dataclasses.replace(surgery, lora_rank=2): (3, {0, 1, 2}, set(), 0),
    }
    for each, expected in told.items():
        assert (each.copied(8), each.frozen_stages(8), each.kept_stages(8), each.frozen_layers) == expected


DIALLED = dataclasses.replace(TASK, dials=Dials(blur_px=1.0, seed=2))
DISTANCE = DistanceSpec(
    measure="OTDD",
    source=DIALLED,
    target=OTHER,
    reference=BASE.weights,
    n_layers=7,
    images=500,
    seed=3,
    tree='["a","b"]',
)
SCORE = ScoreSpec(
    measure="LogME", weights=BASE.weights, task=OTHER, n_layers=4, reference=BASE.weights, images=500, seed=3
)


def test_identities_of_measurements_are_golden():
    # If this fails, stores written before no longer match: raise HASH_VERSION, or undo what changed the identity.
    base = dataclasses.replace(BASE, task=DIALLED)
    assert (base.id, DISTANCE.id, SCORE.id) == ("1e7794e6ea0580c5", "d29cc16f6121c670", "f7a366e2180543bc")


@pytest.mark.parametrize("spec", [dataclasses.replace(BASE, task=DIALLED), DISTANCE, SCORE])
def test_measurements_and_dials_feel_every_field(spec):
    paths = {path: change for path, change in variants(spec) if not path.endswith(("dataset", "label"))}
    ids = {changed(spec, change).id for change in paths.values()}
    assert len({spec.id, *ids}) == len(paths) + 1
    assert from_json(to_json(spec)) == spec
    assert from_json(to_json(spec)).id == spec.id


def test_defaults_are_no_part_of_an_identity():
    content = json.loads(to_json(BASE))
    del content["task"]["dials"], content["task"]["label"], content["recipe"]["gamma"], content["network"]["init"]
    assert from_json(json.dumps(content)).id == BASE.id


def with_new_field(cls, name, kind, default):
    """A copy of a spec's class with one more field, as a later version may have it."""
    field = (name, kind, dataclasses.field(default=default))
    return dataclasses.make_dataclass(cls.__name__, [field], bases=(cls,), frozen=True, kw_only=True)


def test_a_new_field_with_a_default_changes_no_identity():
    later = {field.name: getattr(RECIPE, field.name) for field in dataclasses.fields(RECIPE)}
    recipe = with_new_field(Recipe, "mixup", float, 0.0)
    assert dataclasses.replace(BASE, recipe=recipe(**later)).id == BASE.id
    assert dataclasses.replace(BASE, recipe=recipe(**later, mixup=0.1)).id != BASE.id
    fields = {field.name: getattr(TRANSFER, field.name) for field in dataclasses.fields(TRANSFER)}
    transfer = with_new_field(TransferSpec, "adapter", str | None, None)
    assert transfer(**fields).id == TRANSFER.id
    assert transfer(**fields, adapter="lora").id != TRANSFER.id


def test_kinds_that_can_stand_in_one_place_are_told_apart():
    same = {"digest": "0" * 16, "network": BASE.network, "outputs": 3}
    transfers = [dataclasses.replace(TRANSFER, weights=weights) for weights in (BASE.weights, Imported(**same), None)]
    assert len({transfer.id for transfer in transfers}) == 3
    assert dataclasses.replace(transfers[1], weights=Imported(**same, label="mine")).id == transfers[1].id
    with pytest.raises(ValueError, match="photograph is no kind of"):
        from_json(to_json(BASE).replace('"kind":"pretrain"', '"kind":"photograph"'))


def test_imported_weights_pass_on_how_their_images_are_made():
    statistics = {"channel_mean": (0.5, 0.4, 0.3), "channel_std": (0.2, 0.3, 0.25)}
    weights = dataclasses.replace(IMPORTED, normalization="given", **statistics, crop_px=64)
    recipe = weights.recipe
    assert (recipe.normalization, recipe.crop_px) == ("given", 64)
    assert {name: getattr(recipe, name) for name in statistics} == statistics
    transfers = [
        dataclasses.replace(TRANSFER, weights=dataclasses.replace(weights, **change))
        for change in ({}, {"channel_mean": (0.5, 0.4, 0.4)}, {"channel_std": (0.2, 0.3, 0.3)}, {"crop_px": 32})
    ]
    assert len({transfer.id for transfer in transfers}) == 4
    assert from_json(to_json(transfers[0])) == transfers[0]


def test_looks_and_simulations_survive_json_and_their_identities_are_golden():
    look = ProbeSpec(probe="CKA", trained=TRANSFER, step=100, against="base", other=BASE.weights, seed=3)
    of_base = ProbeSpec(probe="flatness", trained=BASE, step=5, images=20, eigenvalues=4, seed=3)
    simulation = SimulationSpec(source=OTHER, target=TASK, width=1000, images=20, seed=0)
    for spec in (look, of_base, simulation):
        assert from_json(to_json(spec)) == spec
    assert (look.id, of_base.id, simulation.id) == ("2e8725e928f0a146", "6e7e5fa9e3e181d7", "d571ba32e86b3bf2")
