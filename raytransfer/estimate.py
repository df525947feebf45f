"""How long a sweep will take, from a few measured steps."""

import time
from collections.abc import Iterable
from dataclasses import replace

import torch

from raytransfer.grid import frozen_layers
from raytransfer.networks import build, freeze_first
from raytransfer.specs import TaskSpec, TrialSpec
from raytransfer.tasks import Dataset, load_task
from raytransfer.training import DeviceData, evaluate, evaluation_steps, train

_STEPS = 5


def trial_seconds(specs: Iterable[TrialSpec], dataset: Dataset, device: str) -> dict[str, float]:
    """Estimate the training and evaluation time of trials, each by itself on an idle processor.

    Measures a few steps and one evaluation for each number of frozen layers and each size of task that occurs; nothing
    trained is kept.

    Args:
        specs: The trials.
        dataset: Their data.
        device: ``cpu`` (one thread, as in a slot) or ``cuda``.

    Returns:
        Seconds by trial identity.
    """
    torch.set_num_threads(1)
    measured: dict[tuple[int, int], tuple[float, float]] = {}
    images: dict[TaskSpec, tuple[int, int]] = {}
    seconds = {}
    for spec in specs:
        frozen = frozen_layers(spec)
        shape = frozen, len(spec.task.classes)
        if shape not in measured:
            measured[shape] = _measure(spec, dataset, torch.device(device), frozen)
        per_step, per_image = measured[shape]
        if spec.task not in images:
            data = load_task(dataset, spec.task)
            images[spec.task] = len(data.train_labels), len(data.test_labels)
        train_images, test_images = images[spec.task]
        evaluated = len(evaluation_steps(spec.recipe)) * test_images + train_images
        seconds[spec.id] = spec.recipe.steps * per_step + evaluated * per_image
    return seconds


def _measure(spec: TrialSpec, dataset: Dataset, device: torch.device, frozen: int) -> tuple[float, float]:
    """Seconds a training step and an evaluated image take."""
    short = replace(spec.recipe, steps=_STEPS, warmup_steps=0, evaluations=1)
    task = load_task(dataset, spec.task)
    data = DeviceData(task, short, device)
    network = build(
        spec.network,
        in_channels=task.train_images.shape[1],
        image_size_px=data.image_size_px,
        classes=len(spec.task.classes),
        seed=0,
    )
    network.module.to(device)
    if short.channels_last:
        network.module.to(memory_format=torch.channels_last)
    freeze_first(network, frozen)
    images, labels = data.test_images[:500], data.test_labels[:500]
    data.test_images, data.test_labels = images[:50], labels[:50]
    data.train_images, data.train_labels = data.train_images[:2000], data.train_labels[:2000]
    train(network, data, frozen=frozen, seed=0)  # the first steps are slower
    speed = train(network, data, frozen=frozen, seed=0).images_per_s
    started = time.perf_counter()
    evaluate(network, data, images, labels)
    return min(short.batch_size, len(task.train_labels)) / speed, (time.perf_counter() - started) / len(labels)
