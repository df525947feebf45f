from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from raytransfer.networks import build, freeze_first
from raytransfer.networks.surgery import trainable
from raytransfer.specs import NetworkSpec, Recipe
from raytransfer.tasks import TaskData
from raytransfer.training import (
    DeviceData,
    evaluate,
    evaluation_steps,
    learning_rate,
    stream_seed,
    train,
)

CPU = torch.device("cpu")
RECIPE = Recipe(steps=12, batch_size=16, learning_rate=0.05, evaluations=4)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def task(count=40, channels=1, side=8, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    images[:, 0, 0, 0] = labels * 60  # something to learn
    return TaskData(
        train_images=images,
        train_labels=labels,
        test_images=images[::2],
        test_labels=labels[::2],
        channel_mean=images.mean((0, 2, 3)).astype(np.float32),
        channel_std=images.std((0, 2, 3)).astype(np.float32),
    )


def net(name="convnet8", channels=1, side=8, seed=0):
    return build(NetworkSpec(name=name), in_channels=channels, image_size_px=side, classes=4, seed=seed)


def states(network):
    return {name: tensor.clone() for name, tensor in network.module.state_dict().items()}


def rates(recipe):
    return [learning_rate(recipe, step) for step in range(recipe.steps)]


def test_schedules_are_torch_s_own():
    weight = torch.nn.Parameter(torch.zeros(1))

    def reference(make):
        optimizer = torch.optim.SGD([weight], lr=0.05)
        scheduler, seen = make(optimizer), []
        for _ in range(40):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return seen

    schedulers = torch.optim.lr_scheduler
    forty = replace(RECIPE, steps=40)
    steps = replace(forty, schedule="step", milestones=(0.25, 0.6), gamma=0.3)
    assert rates(forty) == pytest.approx(reference(lambda o: schedulers.CosineAnnealingLR(o, 40)))
    assert rates(steps) == pytest.approx(reference(lambda o: schedulers.MultiStepLR(o, [10, 24], 0.3)))
    assert rates(replace(forty, schedule="constant")) == [0.05] * 40


def test_warmup_rises_linearly():
    recipe = replace(RECIPE, schedule="constant", warmup_steps=4)
    assert rates(recipe)[:6] == pytest.approx([0.0125, 0.025, 0.0375, 0.05, 0.05, 0.05])


@pytest.mark.parametrize(
    ("steps", "evaluations", "expected"), [(12, 4, [3, 6, 9, 12]), (3, 10, [1, 2, 3]), (7, 1, [7])]
)
def test_evaluations_are_even_and_end_with_the_last_step(steps, evaluations, expected):
    assert evaluation_steps(replace(RECIPE, steps=steps, evaluations=evaluations)) == expected


def test_batches_go_through_the_data_before_they_repeat():
    data = DeviceData(task(count=40), replace(RECIPE, batch_size=16), CPU)
    data.train_labels = torch.arange(40)
    batches = data.batches(torch.Generator().manual_seed(0))
    seen = torch.cat([next(batches)[1] for _ in range(5)])
    assert sorted(seen[:40].tolist()) == sorted(seen[40:].tolist()) == list(range(40))
    assert seen[:40].tolist() != seen[40:].tolist()


def test_a_small_task_is_one_batch():
    data = DeviceData(task(count=8), replace(RECIPE, batch_size=16), CPU)
    assert len(next(data.batches(torch.Generator()))[1]) == 8


def test_augmented_images_are_crops_and_mirrored_crops():
    recipe = replace(RECIPE, mirror=True, pad_px=2, crop_px=7, batch_size=40)
    data = DeviceData(task(channels=3), recipe, CPU)
    data.train_labels = torch.arange(40)
    padded = functional.pad(data.train_images, [2] * 4)
    views = set()
    batches = data.batches(torch.Generator().manual_seed(1))
    for _ in range(20):
        inputs, labels = next(batches)
        for view, index in zip(inputs, labels, strict=True):
            matches = [
                (top, left, mirrored)
                for top in range(6)
                for left in range(6)
                for mirrored in (False, True)
                if torch.equal(view, naive_view(data, padded[index], top, left, mirrored))
            ]
            assert matches
            views.update(matches)
    assert len(views) == 6 * 6 * 2  # every view occurs


def naive_view(data, image, top, left, mirrored):
    view = image[:, top : top + 7, left : left + 7]
    view = view.flip(-1) if mirrored else view
    return (view.float() - data.mean[0]) * data.scale[0]


def test_normalization():
    data = DeviceData(task(channels=3), RECIPE, CPU)
    normal = data.normalize(data.train_images)
    assert normal.mean((0, 2, 3)).abs().max() < 1e-4
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 1e-3
    raw = DeviceData(task(channels=3), replace(RECIPE, normalization="mean"), CPU)
    assert torch.equal(raw.normalize(raw.train_images), raw.train_images.float() - raw.mean)


def test_evaluation_is_the_mean_over_images():
    network, data = net(), DeviceData(task(count=1100), RECIPE, CPU)
    top1, loss = evaluate(network, data, data.train_images, data.train_labels)
    correct, losses = 0, []
    with torch.no_grad():
        for image, label in zip(data.train_images, data.train_labels, strict=True):
            logits = network.module(data.normalize(image[None]))[0]
            correct += int(logits.argmax() == label)
            losses.append(-torch.log_softmax(logits, 0)[label].item())
    assert top1 == correct / 1100
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_training_is_sgd_with_momentum_decay_and_bias_multipliers():
    recipe = replace(RECIPE, weight_decay=0.01, bias_lr_multiplier=2.0, bias_decay_multiplier=0.0)
    data, network = DeviceData(task(), recipe, CPU), net()
    naive = net()
    train(network, data, frozen=0, seed=5)
    batches = data.batches(torch.Generator().manual_seed(stream_seed(5, "batches")))
    velocity = {name: torch.zeros_like(p) for name, p in naive.module.named_parameters()}
    for step in range(recipe.steps):
        inputs, labels = next(batches)
        naive.module.zero_grad()
        functional.cross_entropy(naive.module(inputs), labels).backward()
        with torch.no_grad():
            for name, p in naive.module.named_parameters():
                bias = name.endswith("bias")
                gradient = p.grad + (0.0 if bias else 0.01) * p
                velocity[name] = 0.9 * velocity[name] + gradient
                p -= learning_rate(recipe, step) * (2.0 if bias else 1.0) * velocity[name]
    expected = naive.module.state_dict()
    for name, tensor in network.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


def test_training_learns_and_says_so():
    recipe = replace(RECIPE, steps=200, learning_rate=0.01)
    outcome = train(net(), DeviceData(task(), recipe, CPU), frozen=0, seed=0)
    assert [point.step for point in outcome.curve] == [50, 100, 150, 200]
    assert outcome.train_top1 == 1
    assert outcome.train_loss_nats < 0.1 < outcome.curve[0].train_loss_nats
    assert outcome.images_per_s > 0


@pytest.mark.parametrize("name", ["convnet8", "alexnet"])  # the latter has dropout
def test_trained_twice_with_one_seed_is_equal_to_the_bit(name):
    side, channels = (8, 1) if name == "convnet8" else (64, 3)
    recipe = replace(RECIPE, steps=4 if name == "alexnet" else 12, mirror=True, pad_px=1)
    results = []
    for seed in (1, 1, 2):
        network = net(name, channels, side)
        outcome = train(network, DeviceData(task(channels=channels, side=side), recipe, CPU), frozen=0, seed=seed)
        results.append((states(network), outcome.curve))
    assert results[0][1] == results[1][1] != results[2][1]
    assert all(torch.equal(results[0][0][key], results[1][0][key]) for key in results[0][0])


@pytest.mark.parametrize(("name", "channels", "side"), [("convnet8", 1, 8), ("resnet18", 3, 32)])
def test_frozen_layers_are_identical_after_training_and_others_are_not(name, channels, side):
    network, data = net(name, channels, side), DeviceData(task(channels=channels, side=side), RECIPE, CPU)
    freeze_first(network, 3)
    before = states(network)
    train(network, data, frozen=3, seed=0)
    after, frozen = states(network), set(network.first_names(3))
    assert {key for key in after if torch.equal(after[key], before[key])} == frozen
    assert not frozen & {key for key, _ in trainable(network)}


def test_checkpoints_are_taken_at_their_steps():
    network, taken = net(), {}
    initial = states(network)
    train(
        network,
        DeviceData(task(), RECIPE, CPU),
        frozen=0,
        seed=0,
        checkpoint_steps=frozenset({0, 5, 12}),
        on_checkpoint=lambda step, module: taken.update({step: {k: v.clone() for k, v in module.state_dict().items()}}),
    )
    assert list(taken) == [0, 5, 12]
    key = "conv1.0.weight"
    assert torch.equal(taken[0][key], initial[key])
    assert torch.equal(taken[12][key], states(network)[key])
    assert not torch.equal(taken[5][key], taken[12][key])


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"channels_last": True}])
def test_precision_and_layout_change_little(change):
    outcomes = []
    for recipe in (RECIPE, replace(RECIPE, **change)):
        outcomes.append(train(net(), DeviceData(task(), replace(recipe, steps=3), CPU), frozen=0, seed=0))
    first, second = (outcome.curve[0].train_loss_nats for outcome in outcomes)
    assert second == pytest.approx(first, rel=0.05)
