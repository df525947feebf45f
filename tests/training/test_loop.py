import math
import platform
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from raytransfer.networks import build, freeze
from raytransfer.networks.surgery import trainable
from raytransfer.specs import NetworkSpec, Recipe
from raytransfer.sweep.failures import why
from raytransfer.tasks import Part, TaskData
from raytransfer.training import (
    DeviceData,
    EvaluationInputs,
    Step,
    evaluate,
    evaluation_steps,
    learning_rate,
    stream_seed,
    train,
)
from raytransfer.training.frozen import batch_source
from raytransfer.training.step import RecordedStep
from tests.helpers import ROOT, staged

CPU = torch.device("cpu")
RECIPE = Recipe(steps=12, batch_size=16, learning_rate=0.05, evaluations=4)


def task(count=40, channels=1, side=8, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    images[:, 0, 0, 0] = labels * 60  # something to learn
    return task_of(images, labels)


def task_of(images, labels):
    rows = np.arange(len(labels))
    return TaskData(
        train=Part(images=images, rows=rows, labels=labels),
        test=Part(images=images, rows=rows[::2], labels=labels[::2]),
        channel_mean=images.mean((0, 2, 3)).astype(np.float32),
        channel_std=images.std((0, 2, 3)).astype(np.float32),
    )


def device_data(task_data, recipe, memory_bytes=10**9):
    return DeviceData(task_data, recipe, CPU, memory_bytes)


def pixels(part):
    return torch.tensor(part.images[part.rows])


def net(name="convnet8", channels=1, side=8, seed=0):
    return build(NetworkSpec(name=name), image=(channels, side, side), classes=4, seed=seed)


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
    steps = replace(forty, schedule="step", milestones=(0.26, 0.59), gamma=0.3)
    assert rates(forty) == pytest.approx(reference(lambda o: schedulers.CosineAnnealingLR(o, 40)))
    assert rates(steps) == pytest.approx(reference(lambda o: schedulers.MultiStepLR(o, [10, 24], 0.3)))
    assert rates(replace(forty, schedule="constant")) == [0.05] * 40


def test_warmup_rises_linearly():
    recipe = replace(RECIPE, schedule="constant", warmup_steps=4)
    assert rates(recipe)[:6] == pytest.approx([0.0125, 0.025, 0.0375, 0.05, 0.05, 0.05])


@pytest.mark.parametrize(("steps", "evaluations", "expected"), [(10, 3, [3, 7, 10]), (3, 10, [1, 2, 3]), (7, 1, [7])])
def test_evaluations_are_even_and_end_with_the_last_step(steps, evaluations, expected):
    assert evaluation_steps(replace(RECIPE, steps=steps, evaluations=evaluations)) == expected


def test_batches_go_through_the_data_before_they_repeat():
    data = device_data(task(count=40), replace(RECIPE, batch_size=16))
    views = data.draw(torch.Generator().manual_seed(0))
    seen = torch.cat([next(views)[0] for _ in range(5)])
    assert sorted(seen[:40].tolist()) == sorted(seen[40:].tolist()) == list(range(40))
    assert seen[:40].tolist() != seen[40:].tolist()


def test_a_small_task_is_one_batch():
    data = device_data(task(count=8), replace(RECIPE, batch_size=16))
    assert next(data.draw(torch.Generator())).shape == (4, 8)


def test_augmented_images_are_crops_and_mirrored_crops():
    recipe = replace(RECIPE, mirror=True, pad_px=2, crop_px=7, batch_size=40)
    data = device_data(task(channels=3), recipe)
    padded = functional.pad(pixels(task(channels=3).train), [2] * 4)
    views = set()
    draws = data.draw(torch.Generator().manual_seed(1))
    for _ in range(20):
        drawn = next(draws)
        inputs, labels = data.inputs(data.fetch(drawn))
        assert torch.equal(labels, data.train.labels[drawn[0]])
        for view, index in zip(inputs, drawn[0], strict=True):
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
    images = pixels(task(channels=3).train)
    normal = device_data(task(channels=3), RECIPE).normalize(images)
    assert normal.mean((0, 2, 3)).abs().max() < 1e-4
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 1e-3
    raw = device_data(task(channels=3), replace(RECIPE, normalization="mean"))
    assert torch.equal(raw.normalize(images), images.float() - raw.mean)


def test_given_statistics_are_those_of_torchvision_s_transforms():
    """What a network that was pretrained elsewhere sees in training and evaluation is what it was trained on."""
    from torchvision.transforms import v2

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    data = device_data(task(channels=3), replace(RECIPE, normalization="given", channel_mean=mean, channel_std=std))
    own = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    network = build(NetworkSpec(name="resnet18"), image=(3, 8, 8), classes=4, seed=0).module.eval()
    views = next(data.draw(torch.Generator().manual_seed(0)))
    inputs, _ = data.inputs(data.fetch(views))
    central = data.central(data.test, torch.arange(5))
    for ours, raw in ((inputs, pixels(task(channels=3).train)[views[0]]), (central, pixels(task(channels=3).test)[:5])):
        torch.testing.assert_close(ours, own(raw), rtol=1e-6, atol=1e-6)
        with torch.no_grad():
            torch.testing.assert_close(network(ours), network(own(raw)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("frozen", "keep"), [(0, False), (0, True), (3, False), (3, True)])
def test_evaluation_is_the_mean_over_images(frozen, keep):
    network, data = net(), device_data(task(count=1100), RECIPE)
    batches = EvaluationInputs(network, data, data.train, frozen, keep=keep)
    for _ in range(2):  # the second time from what was kept
        top1, loss = evaluate(network, data, batches)
    correct, losses = 0, []
    with torch.no_grad():
        for image, label in zip(pixels(task(count=1100).train), data.train.labels, strict=True):
            logits = network.module(data.normalize(image[None]))[0]
            correct += int(logits.argmax() == label)
            losses.append(-torch.log_softmax(logits, 0)[label].item())
    assert top1 == correct / 1100
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_training_is_sgd_with_momentum_decay_and_bias_multipliers():
    recipe = replace(RECIPE, weight_decay=0.01, bias_lr_multiplier=2.0, bias_decay_multiplier=0.0)
    data, network = device_data(task(), recipe), net()
    naive = net()
    train(network, data, seed=5)
    views = data.draw(torch.Generator().manual_seed(stream_seed(5, "batches")))
    velocity = {name: torch.zeros_like(p) for name, p in naive.module.named_parameters()}
    for step in range(recipe.steps):
        inputs, labels = data.inputs(data.fetch(next(views)))
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


class Scaled(nn.Module):
    """Outputs times bare parameters of one dimension and of three, and one that nothing uses."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 16))
        self.shift = nn.Parameter(torch.full((1, 1, 16), 0.1))
        self.unused = nn.Parameter(torch.ones(16, 2))

    def forward(self, inputs):
        return inputs * self.scale + self.shift[0]


def small():
    torch.manual_seed(1)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.LayerNorm(16), Scaled(), nn.ReLU())
    return staged(nn.Sequential(body, nn.Linear(16, 4)), (1, 8, 8), {"body": ["0"], "head": ["1"]})


@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_adamw_smoothing_and_clipping_are_torch_s_own(clip_norm):
    recipe = replace(
        RECIPE,
        optimizer="adamw",
        learning_rate=0.01,
        beta1=0.8,
        beta2=0.95,
        weight_decay=0.1,
        bias_decay_multiplier=0.0,
        bias_lr_multiplier=2.0,
        label_smoothing=0.2,
        clip_norm=clip_norm,
    )
    data, network, naive = device_data(task(), recipe), small(), small()
    train(network, data, seed=5)
    views = data.draw(torch.Generator().manual_seed(stream_seed(5, "batches")))
    named = list(naive.module.named_parameters())
    flat = [p for name, p in named if p.ndim > 1]  # the 1-D ones: biases, and scales of the normalisation
    vectors = [p for name, p in named if p.ndim == 1]
    assert len(vectors) == 5
    groups = [{"params": flat, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-8, foreach=False)
    norms = []
    for step in range(recipe.steps):
        inputs, labels = data.inputs(data.fetch(next(views)))
        for group, multiplier in zip(optimizer.param_groups, (1.0, 2.0), strict=True):
            group["lr"] = learning_rate(recipe, step) * multiplier
        optimizer.zero_grad()
        functional.cross_entropy(naive.module(inputs), labels, label_smoothing=0.2).backward()
        norms.append(nn.utils.clip_grad_norm_(naive.module.parameters(), clip_norm or 1e9).item())
        optimizer.step()
    assert max(norms) > 0.3 * 2  # so that clipping does something
    expected = naive.module.state_dict()
    for name, tensor in network.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


class NothingIsRead(TorchDispatchMode):
    """Refuses to read a tensor's value or its number of nonzero elements, for which a GPU would have to be waited."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "adamw"}])
def test_a_step_with_cut_gradients_does_not_wait_for_the_device(optimizer):
    recipe = replace(RECIPE, mirror=True, pad_px=1, clip_norm=0.1, **optimizer)
    network, data = net(), device_data(task(), recipe)
    freeze(network, range(2))
    source = batch_source(network, data, recipe.steps)
    step = Step(network, data, source)
    step.set_rate(0.1)
    batch = source.fetch(next(data.draw(torch.Generator().manual_seed(0))))
    step(batch)
    before = step.loss_sum.item()
    with NothingIsRead():
        step(batch)
    assert step.loss_sum.item() > before
    with NothingIsRead(), pytest.raises(AssertionError, match=r"_local_scalar_dense\.default waits for the device"):
        step.loss_sum.item()


def test_sgd_decays_what_has_one_dimension_unless_it_is_a_bias():
    recipe = replace(RECIPE, learning_rate=0.01, weight_decay=0.1, bias_decay_multiplier=0.0)
    network = small()
    step = Step(network, device_data(task(), recipe), None)
    decays = {name: group._decay for group in step._groups for name in group.names}
    assert {name for name, decay in decays.items() if decay == 0.0} == {"0.1.bias", "0.2.bias", "1.bias"}


def test_a_parameter_that_nothing_uses_stays():
    for optimizer in ("sgd", "adamw"):
        network = small()
        train(network, device_data(task(), replace(RECIPE, weight_decay=0.1, optimizer=optimizer)), seed=0)
        assert torch.equal(network.module.state_dict()["0.3.unused"], torch.ones(16, 2))


def test_training_learns_and_says_so():
    recipe = replace(RECIPE, steps=200, learning_rate=0.01)
    outcome = train(net(), device_data(task(), recipe), seed=0)
    assert [point.step for point in outcome.curve] == [50, 100, 150, 200]
    assert outcome.train_top1 == 1
    assert outcome.train_loss_nats < 0.1 < outcome.curve[0].train_loss_nats
    assert outcome.images_per_s > 0


@pytest.mark.parametrize("name", ["convnet8", "alexnet"])  # the latter has dropout
def test_trained_twice_with_one_seed_is_equal_to_the_bit(name):
    side, channels = (8, 1) if name == "convnet8" else (64, 3)
    few = {"steps": 2, "evaluations": 1} if name == "alexnet" else {}  # its 57 million weights take a second a step
    recipe = replace(RECIPE, mirror=True, pad_px=1, **few)
    results = []
    for seed in (1, 1, 2):
        network = net(name, channels, side)
        outcome = train(network, device_data(task(channels=channels, side=side), recipe), seed=seed)
        results.append((states(network), outcome.curve))
    assert results[0][1] == results[1][1] != results[2][1]
    assert all(torch.equal(results[0][0][key], results[1][0][key]) for key in results[0][0])


@pytest.mark.parametrize(("name", "channels", "side"), [("convnet8", 1, 8), ("resnet18", 3, 32)])
def test_frozen_layers_are_identical_after_training_and_others_are_not(name, channels, side):
    recipe = replace(RECIPE, steps=3, evaluations=1)
    network, data = net(name, channels, side), device_data(task(channels=channels, side=side), recipe)
    freeze(network, range(3))
    before = states(network)
    train(network, data, seed=0)
    after, frozen = states(network), set(network.first_names(3))
    assert {key for key in after if torch.equal(after[key], before[key])} == frozen
    assert not frozen & {key for key, _ in trainable(network)}


def test_checkpoints_are_taken_at_their_steps():
    network, taken = net(), {}
    initial = states(network)
    train(
        network,
        device_data(task(), RECIPE),
        seed=0,
        checkpoint_steps=frozenset({0, 5, 12}),
        on_checkpoint=lambda step, module: taken.update({step: {k: v.clone() for k, v in module.state_dict().items()}}),
    )
    assert list(taken) == [0, 5, 12]
    key = "conv1.0.weight"
    assert torch.equal(taken[0][key], initial[key])
    assert torch.equal(taken[12][key], states(network)[key])
    assert not torch.equal(taken[5][key], taken[12][key])


class _Scaled(nn.Conv2d):
    """A convolution with weights made anew in each pass, that names its arguments."""

    def forward(self, input):
        return functional.conv2d(input, weight=2 * self.weight, stride=[*self.stride], padding=self.padding)


@pytest.mark.parametrize("kind", [nn.Conv2d, _Scaled])
def test_what_of_a_filter_meets_padding_alone_stays_as_it_is_in_bf16(kind):
    body = nn.Sequential(nn.Conv2d(1, 16, 8), kind(16, 32, 3, stride=2, padding=1), nn.ReLU())  # 1 x 1 after the first
    module = nn.Sequential()
    module.add_module("body", body)
    module.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(32, 4)))
    network = staged(module, (1, 8, 8), {"body": ["body"], "head": ["head"]})
    recipe = replace(RECIPE, precision="bf16", weight_decay=0.0)
    data = device_data(task(), recipe)
    step, batches, before = Step(network, data, data), data.draw(torch.Generator()), states(network)
    step.set_rate(0.05)
    for _ in range(10):
        rubbish = [torch.full((size,), 1e30) for size in (64, 1000, 5000, 20_000)]
        del rubbish  # what lies in memory
        step(data.fetch(next(batches)))
    moved = (network.module.body[1].weight - before["body.1.weight"]).detach().abs()
    assert moved[:, :, 1, 1].max() > 1e-4
    moved[:, :, 1, 1] = 0.0
    assert not moved.any()


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"channels_last": True}])
def test_precision_and_layout_change_little(change):
    outcomes = []
    for recipe in (RECIPE, replace(RECIPE, **change)):
        outcomes.append(train(net(), device_data(task(), replace(recipe, steps=3)), seed=0))
    first, second = (outcome.curve[0].train_loss_nats for outcome in outcomes)
    assert second == pytest.approx(first, rel=0.05)


def trained(name, channels, side, recipe, frozen, *, count=40, memory_bytes=10**9, streamed=False):
    data = device_data(task(count=count, channels=channels, side=side), recipe, memory_bytes)
    network = net(name, channels, data.shape[-1])
    data.streamed = streamed
    freeze(network, range(frozen))
    outcome = train(network, data, seed=3)
    return outcome, states(network)


def same(first, second):
    """Whether two trainings gave the same results to the bit."""
    (one, weights), (two, other_weights) = first, second
    scores = [(outcome.curve, outcome.train_top1, outcome.train_loss_nats) for outcome in (one, two)]
    return scores[0] == scores[1] and all(torch.equal(weights[key], other_weights[key]) for key in weights)


@pytest.mark.parametrize("views", [{}, {"mirror": True}, {"mirror": True, "pad_px": 1}, {"crop_px": 7, "pad_px": 1}])
@pytest.mark.parametrize("arithmetic", [{}, {"channels_last": True}, {"channels_last": True, "precision": "bf16"}])
@pytest.mark.parametrize("frozen", [1, 5, 7])
def test_reused_outputs_change_no_bit(views, arithmetic, frozen):
    steps = 24 if "pad_px" in views else 12  # reuse pays where there are more views to draw than to compute
    recipe = replace(RECIPE, steps=steps, learning_rate=0.01, **views, **arithmetic)
    reused, recomputed = (trained("convnet8", 3, 8, recipe, frozen, count=20, memory_bytes=size) for size in (10**9, 0))
    assert (reused[0].reused_layers, recomputed[0].reused_layers) == (frozen, 0)
    assert same(reused, recomputed)


@pytest.mark.parametrize("frozen", [1, 9])
def test_reused_outputs_change_no_bit_of_a_network_with_batch_norm(frozen):
    recipe = replace(RECIPE, steps=6, evaluations=2, mirror=True)  # 96 views to draw, 80 to compute
    reused, recomputed = (trained("resnet18", 3, 32, recipe, frozen, memory_bytes=size) for size in (10**9, 0))
    assert (reused[0].reused_layers, recomputed[0].reused_layers) == (frozen, 0)
    assert same(reused, recomputed)


def test_dropout_in_a_frozen_layer_draws_anew_at_every_step():
    recipe = replace(RECIPE, steps=3, evaluations=1)  # 48 views to draw, 40 to compute
    reused, recomputed = (trained("alexnet", 3, 64, recipe, 7, memory_bytes=size) for size in (10**9, 0))
    assert (reused[0].reused_layers, recomputed[0].reused_layers) == (5, 0)  # its dropout is in fc6
    assert same(reused, recomputed)


def test_outputs_are_reused_only_where_that_pays_and_fits():
    def layers(memory_bytes=10**9, **changes):
        return trained("convnet8", 1, 8, replace(RECIPE, **changes), 7, memory_bytes=memory_bytes)[0].reused_layers

    images, features = 40, 64  # fc7 gives 64 numbers
    assert layers(steps=2) == 0  # 32 views to draw, 40 to compute
    assert layers(steps=3) == 7
    assert layers(pad_px=1, steps=3) == 0  # 9 views an image
    assert layers(memory_bytes=images * features * 4 - 1) == 0
    assert layers(memory_bytes=images * features * 4) == 7
    for endless in ({"brightness": 0.5}, {"rand_augment": 1}, {"crop_area": 0.5}):
        assert layers(**endless) == 0


@settings(max_examples=30)
@given(
    mirror=st.booleans(),
    pad=st.integers(0, 2),
    crop=st.integers(6, 8),
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_views_and_their_numbers_go_together(mirror, pad, crop, count, seed):
    recipe = replace(RECIPE, mirror=mirror, pad_px=pad, crop_px=crop, batch_size=5)
    data = device_data(task(count=count), recipe)
    numbers = torch.arange(count * data.views_per_image)
    views = data.numbered_views(numbers)
    assert torch.equal(data.view_numbers(views), numbers)
    drawn = next(data.draw(torch.Generator().manual_seed(seed)))
    assert torch.equal(data.numbered_views(data.view_numbers(drawn)), drawn)


def test_streamed_images_give_the_same_batches():
    recipe = replace(RECIPE, mirror=True, pad_px=1)
    assert same(*(trained("convnet8", 3, 8, recipe, 0, streamed=streamed) for streamed in (False, True)))


def test_a_training_of_streamed_images_says_what_share_of_its_time_it_waited(monkeypatch):
    recipe = replace(RECIPE, steps=4)
    at_hand, kept = (trained("convnet8", 3, 8, recipe, 0, streamed=streamed)[0].waited for streamed in (True, False))
    fetch = DeviceData.fetch

    def slow(data, views):
        time.sleep(0.4)
        return fetch(data, views)

    monkeypatch.setattr(DeviceData, "fetch", slow)
    waited = trained("convnet8", 3, 8, recipe, 0, streamed=True)[0].waited
    assert math.isnan(kept)
    assert 0 <= at_hand < waited <= 1
    assert (
        waited > 0.5
    )  # two threads fetch, 0.2 s a batch; a step takes a few milliseconds, on a busy machine a tenth of a second


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("memory_bytes", [10**9, 0])
@pytest.mark.parametrize("frozen", [0, 3])
@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "adamw", "learning_rate": 0.001, "clip_norm": 1.0}])
def test_a_gpu_trains_as_a_cpu_does(memory_bytes, frozen, optimizer):
    recipe = replace(RECIPE, mirror=True, pad_px=1, steps=20, weight_decay=0.01, bias_lr_multiplier=2.0, **optimizer)
    weights = []
    for device in (CPU, torch.device("cuda")):
        network = net(channels=3)
        network.module.to(device)
        data = DeviceData(task(channels=3), recipe, device, memory_bytes)
        assert data.streamed == (device != CPU and memory_bytes == 0)
        freeze(network, range(frozen))
        train(network, data, seed=3)
        weights.append({name: tensor.cpu() for name, tensor in states(network).items()})
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-2, atol=1e-3)  # 20 recorded or eager steps alike


def test_what_a_recorded_step_raised_is_told_and_not_that_its_recording_failed(monkeypatch):
    @contextmanager
    def graph(_):
        try:
            yield
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def step(_):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    for name, fake in (("Stream", object), ("CUDAGraph", object), ("graph", graph)):
        monkeypatch.setattr(torch.cuda, name, fake)
    recorded = RecordedStep(step)
    recorded._calls = 3  # before a step is recorded
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing") as raised:
        recorded(())
    assert why("".join(traceback.format_exception(raised.value)))[1] == str(raised.value)


IN_A_NEW_PROCESS = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from tests.training.test_loop import *
import resource
from statistics import median
from raytransfer.training import use_one_core

use_one_core()
network, data = net(channels=3, side=32), device_data(task(count=500, channels=3, side=32), RECIPE)
faults = []
for _ in range(10):  # each with outputs of 65 MB, which are 16,000 pages
    evaluate(network, data, EvaluationInputs(network, data, data.train, 0, keep=False))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(median(after - before for before, after in zip(faults, faults[1:])))
for changes in ({{"optimizer": "adamw", "clip_norm": 0.5, "label_smoothing": 0.1}}, {{}}):
    network = net()
    freeze(network, range(2))
    outcome = train(network, device_data(task(), replace(RECIPE, mirror=True, **changes)), seed=0)
print(outcome.curve[-1].step, outcome.reused_layers)
print(*{{"torch._dynamo", "sympy", "torchvision", "timm"}} & {{*sys.modules}})
"""


@pytest.fixture(scope="module")
def told_by_a_new_process():
    """The lines that a Python of its own prints, which evaluates and trains; started once, as that takes seconds."""
    command = [sys.executable, "-c", IN_A_NEW_PROCESS]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_memory_that_was_freed_is_there_for_the_next_batch(told_by_a_new_process):
    assert int(told_by_a_new_process[0]) < 1000  # now and then one takes more, where freed pieces lie otherwise


def test_a_process_that_trains_does_without_pytorch_s_compiler_symbolic_mathematics_and_other_networks(
    told_by_a_new_process,
):
    _, trained_for, slow = told_by_a_new_process
    assert (trained_for, slow) == (f"{RECIPE.steps} 2", "")


def colour_at_one_end(height, width, end, count=64):
    """Grey noise, but for a stripe at one end whose colour is the class."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(100, 156, (count, 3, height, width), dtype=np.uint8), np.arange(count) % 3
    stripe = {"top": np.s_[:5, :], "bottom": np.s_[-5:, :], "left": np.s_[:, :5], "right": np.s_[:, -5:]}[end]
    for image, label in zip(images, labels, strict=True):
        image[:, *stripe] = 0
        image[label, *stripe] = 255
    return task_of(images, labels)


@pytest.mark.parametrize(
    ("height", "width", "end", "augmentation"),
    [
        (24, 16, "top", {}),
        (24, 16, "bottom", {"pad_px": 2, "mirror": True}),
        (16, 24, "right", {"pad_px": 2}),  # mirrored it would be on the left as often
    ],
)
def test_images_that_are_not_square_are_evaluated_as_a_whole(height, width, end, augmentation):
    recipe = replace(RECIPE, steps=60, learning_rate=0.003, warmup_steps=10, evaluations=1, **augmentation)
    data = device_data(colour_at_one_end(height, width, end), recipe)
    assert data.shape == (3, height, width)
    network = build(NetworkSpec(name="convnet8"), image=data.shape, classes=4, seed=0)
    outcome = train(network, data, seed=0)
    assert outcome.curve[-1].top1 == 1.0
    assert data.central(data.test, torch.arange(5)).shape == (5, 3, height, width)


def test_views_of_images_that_are_not_square_are_numbered_once():
    images = np.arange(2 * 5 * 9, dtype=np.uint8).reshape(2, 1, 5, 9)
    data = device_data(task_of(images, np.arange(2)), replace(RECIPE, crop_px=4, pad_px=1, mirror=True))
    assert data.views_per_image == (5 + 2 - 4 + 1) * (9 + 2 - 4 + 1) * 2
    numbers = torch.arange(data.view_count)
    views = data.numbered_views(numbers)
    assert data.view_numbers(views).tolist() == numbers.tolist()
    seen, _ = data.inputs(data.fetch(views))
    assert seen.shape == (data.view_count, 1, 4, 4)
    as_high = device_data(task_of(images, np.arange(2)), replace(RECIPE, crop_px=5))
    assert as_high.inputs(as_high.fetch(next(as_high.draw(torch.Generator()))))[0].shape == (2, 1, 5, 5)
    drawn = torch.cat([next(data.draw(torch.Generator().manual_seed(seed))) for seed in range(200)], dim=1)
    assert drawn[1].max() == 3
    assert drawn[2].max() == 7
