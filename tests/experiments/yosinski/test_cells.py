from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytransfer.experiments.yosinski.cells import TREATMENTS, Halving, cells
from raytransfer.specs import NetworkSpec, PretrainSpec, Recipe, TaskSpec, TransferSpec
from raytransfer.specs.dependencies import checkpoint_steps, in_order, needs
from raytransfer.sweep.queue import Agenda

RECIPE = Recipe(steps=100, batch_size=16, learning_rate=0.01, warmup_steps=10)
HALVINGS = [
    Halving(halves="random", split="random0", a=(0, 1), b=(2, 3)),
    Halving(halves="random", split="random1", a=(0, 2), b=(1, 3)),
]


def task(classes, seed):
    return TaskSpec(dataset="d", fingerprint="f", classes=classes, train_per_class=5, draw_seed=seed)


def grid(**changes):
    arguments = {
        "task": task,
        "network": NetworkSpec(name="convnet8"),
        "recipe": RECIPE,
        "treatments": TREATMENTS,
        "n_layers": range(1, 8),
        "directions": ("A->B", "B->A"),
        "seeds": range(2),
    }
    halvings = changes.pop("halvings", HALVINGS)
    return [cell for halving in halvings for cell in cells(halving=halving, **(arguments | changes))]


def trials(cells):
    return in_order(cell.spec for cell in cells)


def bases(spec):
    return {base.id for base, _ in needs(spec)}


WHOLE = trials(grid())


def only(treatment, **changes):
    return [cell for cell in grid(**changes) if cell.treatment == treatment]


def test_the_whole_grid():
    whole = grid()
    # 2 splits x 2 directions x 2 seeds, of 2 bases and 5 treatments at 7 cuts
    assert len(whole) == 2 * 2 * 2 * (2 + 5 * 7)
    assert len(trials(whole)) == len(whole)


def test_treatments_are_those_of_the_paper():
    one = {"halvings": HALVINGS[:1], "directions": ("A->B",), "seeds": [3], "n_layers": [4]}
    a, b = task((0, 1), 3), task((2, 3), 3)
    base_a, base_b = (PretrainSpec(task=t, network=NetworkSpec(name="convnet8"), recipe=RECIPE, seed=3) for t in (a, b))
    specs = {cell.treatment: cell.spec for cell in grid(**one)}
    assert specs["baseB"] == base_b
    assert specs["baseB-2x"] == replace(base_b, recipe=replace(RECIPE, steps=200, warmup_steps=20))
    transfers = {
        "BnB": (base_b, 100, True),
        "BnB+": (base_b, 100, False),
        "AnB": (base_a, 100, True),
        "AnB+": (base_a, 100, False),
        "RnB": (None, None, True),
    }
    for treatment, (base, step, frozen) in transfers.items():
        assert specs[treatment] == TransferSpec(
            base=base,
            pretrain_step=step,
            task=b,
            network=base_b.network,
            recipe=RECIPE,
            n_layers=4,
            frozen=frozen,
            seed=3,
        )


def test_directions_swap_the_tasks():
    forth, back = (only("AnB", directions=(direction,), seeds=[0]) for direction in ("A->B", "B->A"))
    assert [cell.spec.task for cell in forth] == [cell.spec.base.task for cell in back]
    assert [cell.spec.base.task for cell in forth] == [cell.spec.task for cell in back]


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
def test_the_agenda_hands_out_everything_once_and_bases_first(seed, slots, unlucky):
    random = Random(seed)
    specs = WHOLE
    order = list(specs)
    unlucky = {order[i] for i in unlucky}
    agenda, running, started, ended, skipped = Agenda(specs), [], [], set(), set()
    while agenda.unfinished:
        while len(running) < slots and (trial := agenda.next()) is not None:
            assert bases(specs[trial]) <= ended
            running.append(trial)
            started.append(trial)
        trial = running.pop(random.randrange(len(running)))
        if random.random() < 0.1:
            agenda.again(trial)
            started.remove(trial)
        elif trial in unlucky:
            skipped.update(agenda.fail(trial))
        else:
            agenda.finish(trial)
            ended.add(trial)
    assert not running
    assert len(started) == len(set(started))
    assert set(started) | skipped == set(specs)
    assert skipped == {t for t, spec in specs.items() if bases(spec) & unlucky}


def test_the_agenda_takes_a_base_that_is_not_to_run_as_there():
    specs = {trial: spec for trial, spec in trials(grid()).items() if bases(spec)}
    agenda = Agenda(specs)
    assert [agenda.next() for _ in specs] == list(specs)
    assert agenda.next() is None


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_pairs_share_target_and_seed(treatment):
    for cell in only(treatment):
        halving = HALVINGS[int(cell.split[-1])]
        assert cell.spec.task.classes == (halving.b if cell.direction == "A->B" else halving.a)
        assert cell.spec.task.draw_seed == cell.spec.seed
