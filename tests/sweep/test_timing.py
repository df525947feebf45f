"""How long a sweep is said to take, made of the times of a few steps and evaluations."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.specs import PretrainSpec, TransferSpec
from raytransfer.sweep import estimate as estimating
from raytransfer.sweep import timing
from raytransfer.sweep.estimate import estimate
from raytransfer.sweep.timing import Cost
from raytransfer.tasks import load_task

CPU = torch.device("cpu")
COST = Cost(step=1.0, image_frozen=1e3, image_trained=1e6, views_reused=4)


def costing(step=1.0, frozen=0.0, trained=0.0, views=0):
    return Cost(step=step, image_frozen=frozen, image_trained=trained, views_reused=views)


def data_of(plan, spec):
    return load_task(plan.datasets[spec.task.fingerprint], spec.task.plain)


@pytest.mark.parametrize(("ranks", "batches"), [(1, 1000), (2, 23), (4, 12)])
def test_a_training_takes_its_steps_its_evaluations_and_once_what_frozen_layers_compute(
    tiny, monkeypatch, ranks, batches
):
    monkeypatch.setattr(estimating, "EVALUATION_BATCH", 10)
    monkeypatch.setattr(estimating, "timed_training", lambda *_: (COST, None))
    plan = make_plan(tiny("n_layers=[2]", "treatments=[RnB]"))
    found = estimate(plan.trials.values(), plan, "cpu", 10**9, ranks=ranks)
    for trial, spec in plan.trials.items():
        data = data_of(plan, spec)
        assert len(data.train.rows) == 25
        assert 440 < len(data.test.rows) <= 460
        train, test = min(25, 10 * -(-3 // ranks)), min(len(data.test.rows), 10 * batches)
        # Three evaluations of the test images, and one of the training images.
        assert found.seconds[trial] == 6 + 1e3 * (4 * 25 + train + test) + 1e6 * (train + 3 * test)


def test_other_numbers_of_frozen_layers_lie_on_a_line_between_the_nearest_and_beyond_the_ends_take_as_long():
    measured = {6: costing(6.0, 60.0, 30.0, 1), 2: costing(2.0, 20.0, 70.0, 5)}
    assert estimating._between(measured, 3) == costing(3.0, 30.0, 60.0, 5)
    assert estimating._between(measured, 5) == costing(5.0, 50.0, 40.0, 1)
    assert estimating._between(measured, 1) == measured[2]
    assert estimating._between(measured, 7) == measured[6]


def test_a_network_that_is_not_measured_takes_what_it_does_split_otherwise_or_what_others_do():
    costs = {(1, "a"): {0: costing(8.0, 1.0, 2.0)}, (2, "b"): {0: costing(100.0, 3.0, 6.0), 3: costing(40.0, 5.0, 1.0)}}
    assert estimating._from_others((4, "a"), costs | {(4, "a"): {}}) == costing(2.0, 1.0, 2.0)
    assert estimating._from_others((4, "b"), costs) == costing(35.0, 4.0, 3.5)
    assert estimating._from_others((1, "c"), costs) == costing((8 + 200 + 80) / 3, 3.0, 3.0)


def test_kinds_of_trainings_are_told_apart_by_frozen_layers_and_what_was_not_measured_counts_as_the_nearest(
    tiny, monkeypatch
):
    monkeypatch.setattr(estimating, "TIME_S", -1.0)
    monkeypatch.setattr(estimating, "timed_training", lambda spec, *_: (costing(1 + spec.surgery.frozen_layers), None))
    plan = make_plan(tiny("n_layers=[2,7]", "treatments=[RnB]"))
    found = estimate(plan.trials.values(), plan, "cpu", 10**9)
    assert (found.kinds, found.measured, set(found.seconds.values())) == (2, 1, {6 * 3})
    monkeypatch.setattr(estimating, "TIME_S", 60.0)
    found = estimate(plan.trials.values(), plan, "cpu", 10**9)
    assert (found.kinds, found.measured) == (2, 2)
    assert found.seconds == {trial: 6 * (1 + spec.surgery.frozen_layers) for trial, spec in plan.trials.items()}


@pytest.fixture
def timed(tiny, monkeypatch):
    """Time a training of which a step is said to take so long, and both evaluations 5 and 3 s; gives what was timed."""

    def training(step_s, count, *overrides, processes=1, held=lambda task: task):
        steps, evaluations = [], iter((5.0, 3.0))

        def timed_step(take, data, source, many, step, crowd=1.0):
            steps.append((data.batch_size, many, len(data.train), crowd))
            return step_s

        monkeypatch.setattr(timing, "_timed_step", timed_step)
        monkeypatch.setattr(timing, "_timed_evaluation", lambda *_: next(evaluations))
        plan = make_plan(tiny("n_layers=[2]", *overrides))
        (spec, *_) = (spec for spec in plan.trials.values() if not isinstance(spec, PretrainSpec))
        return (*timing.timed_training(spec, held(data_of(plan, spec)), CPU, 10**9, count, processes), steps)

    return training


def test_a_step_of_few_images_is_scaled_to_those_that_each_process_has(timed):
    cost, rehearsal, steps = timed(0.6, 1, "treatments=[AnB+]")  # in 0.6 s there is time for two images of 8
    assert cost == costing(8 / 2 * 0.6, 1.0, 1.5)  # seconds of each of the two images
    assert (rehearsal.shape, rehearsal.images, rehearsal.steps) == ((1, 8, 8), 2, 1)
    assert [batch_size for batch_size, *_ in steps] == [2] * 4
    cost, rehearsal, _ = timed(0.6, 2, "treatments=[AnB+]")
    assert (cost.step, rehearsal.images) == (pytest.approx(4 / 2 * 0.6), 2)
    cost, rehearsal, steps = timed(0.012, 2, "treatments=[AnB+]")  # there is time for 100 images
    assert (cost.step, rehearsal.images, rehearsal.steps) == (pytest.approx(0.012), 4, 25)
    assert steps[-1][:3] == (4, 5, 25)
    assert (cost.image_frozen, cost.image_trained) == (pytest.approx(2 / 100), pytest.approx(3 / 100))


@pytest.mark.parametrize(("mirror", "views"), [("true", 2), ("false", 1)])
def test_frozen_layers_compute_every_view_once_where_training_sees_each_more_often(timed, mirror, views):
    often = [f"recipe.mirror={mirror}", "recipe.steps=7"]
    assert timed(0.012, 1, *often, "treatments=[RnB]", "recipe.pad_px=0")[0].views_reused == views
    assert timed(0.012, 1, *often, "treatments=[RnB]", "recipe.pad_px=1")[0].views_reused == 0
    assert timed(0.012, 1, *often, "treatments=[AnB+]", "recipe.pad_px=0")[0].views_reused == 0


class Streamed:
    """Images that are decoded as they are taken."""

    def __init__(self, images):
        self.shape, self._images = images.shape, images

    def __getitem__(self, rows):
        return self._images[rows]


def streamed(task):
    train, test = (replace(part, images=Streamed(part.images)) for part in (task.train, task.test))
    return replace(task, train=train, test=test)


@pytest.mark.parametrize(
    ("cores", "processes", "held", "crowd"),
    [(4, 1, streamed, 1.0), (4, 3, streamed, 3.0), (8, 3, streamed, 1.5), (4, 3, lambda task: task, 1.0)],
)
def test_decoding_takes_as_much_longer_as_processes_share_the_cores(timed, monkeypatch, cores, processes, held, crowd):
    monkeypatch.setattr(timing, "cpu_count", lambda: cores)
    monkeypatch.setattr(timing, "THREADS", 4)
    _, _, steps = timed(0.012, 1, "treatments=[AnB+]", processes=processes, held=held)
    assert steps[-1][-1] == crowd


@pytest.mark.parametrize(
    ("slots", "of_base", "bases", "others"), [(1, 1, 2, 1), (4, 2, 4, 4), (5, 2, 4, 4), (6, 6, 2, 4), (3, 3, 2, 3)]
)
def test_trainings_decode_beside_as_many_as_run_at_once(tiny, monkeypatch, slots, of_base, bases, others):
    told = {}

    def timed_training(spec, task, device, memory_bytes, count, processes):
        told[type(spec)] = (count, processes)
        return costing(), None

    monkeypatch.setattr(estimating, "timed_training", timed_training)
    plan = make_plan(tiny("n_layers=[2]", "treatments=[AnB,BnB]"))  # two bases, and four others
    estimate(plan.trials.values(), plan, "cpu", 10**9, base_ranks=2, slots=slots, of_base=of_base)
    assert told == {PretrainSpec: (2, bases), TransferSpec: (1, others)}


@pytest.mark.parametrize(
    ("streamed", "device", "crowd", "step_s"),
    [(False, "cpu", 1.0, 5.5), (True, "cpu", 3.0, 9.5), (True, "cuda", 1.0, 3.5), (True, "cuda", 3.0, 6.0)],
)
def test_a_step_takes_reading_and_computing_of_which_a_gpu_does_one_beside_the_other(
    monkeypatch, streamed, device, crowd, step_s
):
    now = [0.0]

    def passes(seconds):
        now[0] += seconds
        return ()

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    data = SimpleNamespace(
        draw=lambda _: iter(range(9)), fetch=lambda _: passes(2), streamed=streamed, device=torch.device(device)
    )
    step = SimpleNamespace(loss_sum=SimpleNamespace(item=lambda: passes(1)))  # which waits for the device
    assert timing._timed_step(lambda _: passes(3), data, data, 2, step, crowd) == step_s
