from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytransfer.errors import UserError
from raytransfer.experiments.checks import Setup
from raytransfer.experiments.yosinski.cells import Halving, cells
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.specs import NetworkSpec, PretrainSpec, Recipe, Surgery, TaskSpec, Trained, TransferSpec
from raytransfer.specs.dependencies import checkpoint_steps, in_order, needs
from raytransfer.specs.treatments import TREATMENTS
from raytransfer.sweep.queue import Queue

RECIPE = Recipe(steps=100, batch_size=16, learning_rate=0.01, warmup_steps=10)
HALVINGS = [
    Halving(halves="random", split="random0", a=(0, 1), b=(2, 3)),
    Halving(halves="random", split="random1", a=(0, 2), b=(1, 3)),
]


def task(classes, seed):
    return TaskSpec(dataset="d", fingerprint="f", classes=classes, train_per_class=5, draw_seed=seed)


def grid(**changes):
    setup = Setup(
        network=NetworkSpec(name="convnet8"),
        recipe=RECIPE,
        stages=tuple("12345678"),
        n_layers=changes.pop("n_layers", list(range(1, 8))),
    )
    arguments = {
        "task": task,
        "setup": setup,
        "treatments": [name for name in TREATMENTS if name != "baseA"],
        "directions": ("A->B", "B->A"),
        "seeds": range(2),
    }
    halvings = changes.pop("halvings", HALVINGS)
    return [cell for halving in halvings for cell in cells(halving=halving, **(arguments | changes))]


def trials(cells):
    return in_order(cell.spec for cell in cells)


def bases(spec):
    return {weights.training.id for weights in needs(spec)}


WHOLE = trials(grid())


def only(treatment, **changes):
    return [cell for cell in grid(**changes) if cell.treatment == treatment]


def test_the_whole_grid():
    whole = grid()
    # 2 splits x 2 directions x 2 seeds, of 2 bases, 11 treatments at 7 cuts, 2 at 6 and 2 at 5, 3 without a cut
    units = 2 * 2 * 2
    assert len(whole) == units * (2 + 11 * 7 + 2 * 6 + 2 * 5 + 3)
    # a linear probe is AnB at the highest cut, fine-tuning AnB+ there
    assert len(trials(whole)) == len(whole) - 2 * units


def test_treatments_without_a_cut_are_one_run_each():
    for name, frozen in (("linear-probe", True), ("fine-tune", False)):
        (cell,) = only(name, halvings=HALVINGS[:1], directions=("A->B",), seeds=[3], n_layers=[2, 4])
        assert cell.spec.surgery == Surgery(n_layers=7, frozen=frozen)
        assert cell.spec.weights.training.task.classes == (0, 1)


def test_a_default_grid_has_the_treatments_of_2014_and_its_controls():
    assert GridConfig().treatments == ["baseB", "baseB-2x", "BnB", "BnB+", "AnB", "AnB+", "RnB"]


def test_treatments_are_those_of_the_paper():
    one = {"halvings": HALVINGS[:1], "directions": ("A->B",), "seeds": [3], "n_layers": [4]}
    a, b = task((0, 1), 3), task((2, 3), 3)
    base_a, base_b = (PretrainSpec(task=t, network=NetworkSpec(name="convnet8"), recipe=RECIPE, seed=3) for t in (a, b))
    specs = {cell.treatment: cell.spec for cell in grid(**one)}
    assert specs["baseB"] == base_b
    assert specs["baseB-2x"] == replace(base_b, recipe=replace(RECIPE, steps=200, warmup_steps=20))
    transfers = {
        "BnB": (base_b, True, 0),
        "BnB+": (base_b, False, 0),
        "AnB": (base_a, True, 0),
        "AnB+": (base_a, False, 0),
        "RnB": (None, True, 0),
        "AnB-preserve1": (base_a, True, 1),
        "BnB-preserve2": (base_b, True, 2),
    }
    for treatment, (base, frozen, preserved) in transfers.items():
        assert specs[treatment] == TransferSpec(
            weights=Trained(training=base, step=100) if base else None,
            surgery=Surgery(n_layers=4, frozen=frozen, preserved=preserved),
            task=b,
            network=base_b.network,
            recipe=RECIPE,
            seed=3,
        )


def test_preserved_layers_need_room_below_the_head():
    cuts = {cell.spec.surgery.n_layers for cell in only("AnB-preserve2", seeds=[0])}
    assert cuts == set(range(1, 6))
    with pytest.raises(UserError, match=r"AnB-preserve2 copies 2 layers above n, and n_layers=\[6, 7\] leave"):
        only("AnB-preserve2", n_layers=[6, 7], treatments=["AnB-preserve2"])


def test_directions_swap_the_tasks():
    forth, back = (only("AnB", directions=(direction,), seeds=[0]) for direction in ("A->B", "B->A"))
    assert [cell.spec.task for cell in forth] == [cell.spec.weights.training.task for cell in back]
    assert [cell.spec.weights.training.task for cell in forth] == [cell.spec.task for cell in back]


def test_bases_come_before_what_copies_them_and_count_where_no_cell_asks():
    specs = trials(only("AnB"))
    seen = set()
    for trial, spec in specs.items():
        assert bases(spec) <= seen
        seen.add(trial)
    assert sum(isinstance(spec, PretrainSpec) for spec in specs.values()) == 8
    assert set(checkpoint_steps(list(specs.values())).values()) == {frozenset({100})}


def test_an_extended_grid_holds_the_smaller_one():
    small, more = set(trials(grid())), set(trials(grid(seeds=range(3), n_layers=range(1, 8))))
    assert small < more


@given(st.integers(0, 10**6), st.integers(1, 4), st.sets(st.integers(0, 60)))
def test_the_queue_hands_out_everything_once_and_bases_first(seed, slots, unlucky):
    random = Random(seed)
    specs = WHOLE
    order = list(specs)
    unlucky = {order[i] for i in unlucky}
    queue, running, started, ended, skipped = Queue(specs), [], [], set(), set()
    while queue.unfinished:
        while len(running) < slots and (trial := queue.next()) is not None:
            assert bases(specs[trial]) <= ended
            running.append(trial)
            started.append(trial)
        trial = running.pop(random.randrange(len(running)))
        if random.random() < 0.1:
            queue.again(trial)
            started.remove(trial)
        elif trial in unlucky:
            skipped.update(queue.fail(trial))
        else:
            queue.finish(trial)
            ended.add(trial)
    assert not running
    assert len(started) == len(set(started))
    assert set(started) | skipped == set(specs)
    assert skipped == {t for t, spec in specs.items() if bases(spec) & unlucky}


def test_the_queue_takes_a_base_that_is_not_to_run_as_there():
    specs = {trial: spec for trial, spec in trials(grid()).items() if bases(spec)}
    queue = Queue(specs)
    assert [queue.next() for _ in specs] == list(specs)
    assert queue.next() is None


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_pairs_share_target_and_seed(treatment):
    for cell in only(treatment):
        halving = HALVINGS[int(cell.split[-1])]
        assert cell.spec.task.classes == (halving.b if cell.direction == "A->B" else halving.a)
        assert cell.spec.task.draw_seed == cell.spec.seed
