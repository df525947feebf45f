"""The training loop: plain PyTorch that knows neither Ray nor disks."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raytransfer.networks import Network, train_mode
from raytransfer.networks.surgery import trainable
from raytransfer.specs import Recipe
from raytransfer.tasks import TaskData

_EVALUATION_BATCH = 500


def stream_seed(seed: int, *stream: str) -> int:
    """A seed of 63 bits for one named stream of random numbers, so that no two streams of a run are alike."""
    digest = hashlib.sha256("/".join([str(seed), *stream]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One point of a learning curve.

    Attributes:
        step: Optimiser steps done.
        learning_rate: Learning rate of the last of them.
        train_loss_nats: Mean cross-entropy of the training batches since the evaluation before.
        top1: Test accuracy, 0..1.
        loss_nats: Test cross-entropy.
    """

    step: int
    learning_rate: float
    train_loss_nats: float
    top1: float
    loss_nats: float


@dataclass(kw_only=True)
class Outcome:
    """What training gave.

    Attributes:
        curve: One evaluation on the test images for each of the recipe's evaluation steps, the last one last.
        train_top1: Accuracy on the training images at the end, in eval mode without augmentation.
        train_loss_nats: Cross-entropy likewise.
        images_per_s: Training images a second, evaluation left out.
    """

    curve: list[Evaluation] = field(default_factory=list)
    train_top1: float = math.nan
    train_loss_nats: float = math.nan
    images_per_s: float = math.nan


class DeviceData:
    """A task's images and labels on the device: uint8, moved once, cropped and normalised there batch by batch."""

    def __init__(self, data: TaskData, recipe: Recipe, device: torch.device) -> None:
        def to_device(array: np.ndarray) -> torch.Tensor:
            return torch.tensor(array, device=device)

        self.train_images, self.train_labels = to_device(data.train_images), to_device(data.train_labels)
        self.test_images, self.test_labels = to_device(data.test_images), to_device(data.test_labels)
        self.mean = to_device(data.channel_mean).view(1, -1, 1, 1)
        std = to_device(data.channel_std).view(1, -1, 1, 1)
        self.scale = 1 / std.clamp_min(1e-6) if recipe.normalization == "standard" else torch.ones_like(std)
        self.recipe = recipe
        self.image_size_px = recipe.crop_px or self.train_images.shape[-1]

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels (B, C, H, W) uint8 to the network's float input."""
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        return ((images.float() - self.mean) * self.scale).contiguous(memory_format=layout)

    def central_crop(self, images: torch.Tensor) -> torch.Tensor:
        """The central crop that evaluation sees, of uint8 images (B, C, H, W)."""
        top = (images.shape[-1] - self.image_size_px) // 2
        return images[..., top : top + self.image_size_px, top : top + self.image_size_px]

    def batches(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Endless augmented training batches (inputs, labels); each epoch is a fresh permutation.

        All random numbers are drawn on the CPU, so that every device sees the same views; batches run on across
        epochs, so that every batch is full.
        """
        count = len(self.train_labels)
        size = min(self.recipe.batch_size, count)
        order = torch.empty(0, dtype=torch.long)
        while True:
            while len(order) < size:
                order = torch.cat([order, torch.randperm(count, generator=generator)])
            chosen, order = order[:size].to(self.train_labels.device), order[size:]
            images = self._augment(self.train_images[chosen], generator)
            yield self.normalize(images), self.train_labels[chosen]

    def _augment(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Random crops and mirrored views of uint8 images (B, C, H, W)."""
        recipe, count, device = self.recipe, len(images), images.device
        if recipe.pad_px:
            images = functional.pad(images, [recipe.pad_px] * 4)
        room = images.shape[-1] - self.image_size_px
        if room:
            top, left = torch.randint(0, room + 1, (2, count, 1), generator=generator).to(device)
            span = torch.arange(self.image_size_px, device=device)
            rows, columns = (top + span)[:, None, :, None], (left + span)[:, None, None, :]
            channels = torch.arange(images.shape[1], device=device)[None, :, None, None]
            images = images[torch.arange(count, device=device)[:, None, None, None], channels, rows, columns]
        if recipe.mirror:
            mirrored = torch.randint(0, 2, (count, 1, 1, 1), generator=generator, dtype=torch.bool).to(device)
            images = torch.where(mirrored, images.flip(-1), images)
        return images


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of optimiser step ``step`` (0 <= step < recipe.steps).

    Warm-up multiplies the schedule by (step + 1) / warmup_steps; the cosine falls from 1 at step 0 towards 0 at
    ``recipe.steps``; the step schedule multiplies by gamma from each milestone's step, rounded, on.
    """
    factor = 1.0
    if recipe.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    elif recipe.schedule == "step":
        factor = recipe.gamma ** sum(step >= round(milestone * recipe.steps) for milestone in recipe.milestones)
    if step < recipe.warmup_steps:
        factor *= (step + 1) / recipe.warmup_steps
    return recipe.learning_rate * factor


def evaluation_steps(recipe: Recipe) -> list[int]:
    """The steps after which the network is evaluated: evenly spaced, the last step included."""
    count = min(recipe.evaluations, recipe.steps)
    return [round(recipe.steps * (i + 1) / count) for i in range(count)]


def train(
    network: Network,
    data: DeviceData,
    *,
    frozen: int,
    seed: int,
    checkpoint_steps: frozenset[int] = frozenset(),
    on_checkpoint: Callable[[int, nn.Module], None] = lambda step, module: None,
) -> Outcome:
    """Train the network's trainable parameters as the recipe of ``data`` says, in place.

    Args:
        network: On the device of the data; the first ``frozen`` stages hold no trainable parameters.
        data: The task and the recipe.
        frozen: Stages whose normalisation layers stay in eval mode.
        seed: Seed of batches, augmentation and dropout.
        checkpoint_steps: Steps, 0..recipe.steps, after which ``on_checkpoint`` gets the step and the module.
        on_checkpoint: Called at those steps.

    Returns:
        The learning curve and the final accuracy on the training images.

    Raises:
        FloatingPointError: The training loss is infinite or not a number.
    """
    recipe, outcome = data.recipe, Outcome()
    generator = torch.Generator().manual_seed(stream_seed(seed, "batches"))
    torch.manual_seed(stream_seed(seed, "dropout"))
    optimizer, multipliers = _optimizer(network, recipe)
    due = set(evaluation_steps(recipe))
    running_loss, since, seconds = torch.zeros((), device=data.mean.device), 0, 0.0
    started = time.perf_counter()
    if 0 in checkpoint_steps:
        on_checkpoint(0, network.module)
    train_mode(network, frozen)
    for step, (inputs, labels) in zip(range(1, recipe.steps + 1), data.batches(generator), strict=False):
        rate = learning_rate(recipe, step - 1)
        for group, multiplier in zip(optimizer.param_groups, multipliers, strict=True):
            group["lr"] = rate * multiplier
        optimizer.zero_grad(set_to_none=True)
        with _precision(recipe, inputs.device):
            logits = network.module(inputs)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        running_loss += loss.detach()
        since += 1
        if step in due:
            train_loss = running_loss.item() / since  # waits for the device, so the clock below is right
            seconds += time.perf_counter() - started
            if not math.isfinite(train_loss):
                raise FloatingPointError(f"training diverged: its loss is {train_loss} by step {step}")
            top1, test_loss = evaluate(network, data, data.test_images, data.test_labels)
            outcome.curve.append(
                Evaluation(step=step, learning_rate=rate, train_loss_nats=train_loss, top1=top1, loss_nats=test_loss)
            )
            train_mode(network, frozen)
            running_loss, since, started = torch.zeros_like(running_loss), 0, time.perf_counter()
        if step in checkpoint_steps:
            on_checkpoint(step, network.module)
    outcome.images_per_s = recipe.steps * min(recipe.batch_size, len(data.train_labels)) / seconds
    outcome.train_top1, outcome.train_loss_nats = evaluate(network, data, data.train_images, data.train_labels)
    return outcome


@torch.no_grad()
def evaluate(network: Network, data: DeviceData, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Accuracy (0..1) and mean cross-entropy (nats) on uint8 images, in eval mode, on central crops."""
    network.module.eval()
    correct = torch.zeros((), device=images.device)
    loss = torch.zeros((), device=images.device)
    for start in range(0, len(labels), _EVALUATION_BATCH):
        part = slice(start, start + _EVALUATION_BATCH)
        inputs = data.normalize(data.central_crop(images[part]))
        with _precision(data.recipe, inputs.device):
            logits = network.module(inputs).float()
        correct += (logits.argmax(1) == labels[part]).sum()
        loss += functional.cross_entropy(logits, labels[part], reduction="sum")
    return correct.item() / len(labels), loss.item() / len(labels)


def _precision(recipe: Recipe, device: torch.device) -> AbstractContextManager[None]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")


def _optimizer(network: Network, recipe: Recipe) -> tuple[torch.optim.Optimizer, list[float]]:
    """SGD over the trainable parameters, and each parameter group's multiplier of the learning rate."""
    weights = [parameter for name, parameter in trainable(network) if not name.endswith(".bias")]
    biases = [parameter for name, parameter in trainable(network) if name.endswith(".bias")]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": biases, "weight_decay": recipe.weight_decay * recipe.bias_decay_multiplier},
    ]
    multipliers = [1.0, recipe.bias_lr_multiplier]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True), multipliers
