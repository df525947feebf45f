"""The training loop."""

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from raytransfer.networks import Network, train_mode
from raytransfer.training.frozen import EvaluationInputs, batch_source, evaluation_inputs
from raytransfer.training.images import DeviceData
from raytransfer.training.schedule import evaluation_steps, learning_rate
from raytransfer.training.state import Evaluation, Interrupted, TrainingState, never
from raytransfer.training.step import Step, fastest

Item = TypeVar("Item")

SAVE_EVERY_S = 60.0
"""Seconds of wall time between two savings of a training's state: short trainings never pay for one."""


def stream_seed(seed: int, *stream: str) -> int:
    """A seed of 63 bits for one named stream of random numbers, so that no two streams of a run are alike."""
    digest = hashlib.sha256("/".join([str(seed), *stream]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(kw_only=True)
class Outcome:
    """What training gave.

    Attributes:
        curve: One evaluation on the test images for each of the recipe's evaluation steps, the last one last.
        train_top1: Accuracy on the training images at the end, in eval mode without augmentation.
        train_loss_nats: Cross-entropy likewise.
        images_per_s: Training images a second, evaluation left out.
        reused_layers: Frozen layers whose outputs were computed once and looked up at every step.
    """

    curve: list[Evaluation] = field(default_factory=list)
    train_top1: float = math.nan
    train_loss_nats: float = math.nan
    images_per_s: float = math.nan
    reused_layers: int = 0


def train(
    network: Network,
    data: DeviceData,
    *,
    seed: int,
    checkpoint_steps: frozenset[int] = frozenset(),
    on_checkpoint: Callable[[int, nn.Module], None] = lambda step, module: None,
    state: TrainingState | None = None,
    on_state: Callable[[TrainingState], None] | None = None,
    save_every_s: float = SAVE_EVERY_S,
    stop: Callable[[], bool] = never,
) -> Outcome:
    """Train the network's trainable parameters as the recipe of ``data`` says, in place.

    From a state on, a training of the same network and data ends with the same bits as if it had not been stopped.

    Args:
        network: On the device of the data.
        data: The task and the recipe.
        seed: Seed of batches, augmentation and dropout.
        checkpoint_steps: Steps, 0..recipe.steps, after which ``on_checkpoint`` gets the step and the module.
        on_checkpoint: Called at those steps.
        state: What to go on from, which ``TrainingState.check`` has passed; None for the beginning. Checkpoints at
            its step or before are not taken again.
        on_state: Gets the state after a step, once ``save_every_s`` have passed since the last one, and when the
            training is told to stop; None for nobody.
        save_every_s: Seconds between two states, >= 0; 0 for one after each step.
        stop: Asked after each step whether to stop.

    Returns:
        The learning curve and the final accuracy on the training images.

    Raises:
        FloatingPointError: The training loss is infinite or not a number.
        Interrupted: ``stop`` said so.
    """
    recipe, outcome = data.recipe, Outcome()
    generator = torch.Generator().manual_seed(stream_seed(seed, "batches"))
    torch.manual_seed(stream_seed(seed, "dropout"))
    if state is not None:  # before outputs of frozen layers are computed
        network.module.load_state_dict(state.weights)
    elif 0 in checkpoint_steps:
        on_checkpoint(0, network.module)
    train_mode(network)
    started = saved = time.perf_counter()
    source = batch_source(network, data)
    tested = evaluation_inputs(network, data)
    one_step = Step(network, data, source)
    do = fastest(one_step, data)
    due, done, since, seconds = set(evaluation_steps(recipe)), 0, 0, 0.0
    if state is not None:  # after all that draws random numbers on the way to the first step
        state.put_back(one_step)
        outcome.curve, done, since, seconds = list(state.curve), state.step, state.since, state.seconds
    # The batches before are drawn again and passed over: that is cheap, and spares the state the order of the images.
    views = itertools.islice(data.draw(generator), done, None)
    batches: Iterator[tuple[torch.Tensor, ...]] = map(source.fetch, views)
    if data.streamed:
        batches = _ahead(batches)
    for step, batch in zip(range(done + 1, recipe.steps + 1), batches, strict=False):
        one_step.set_rate(learning_rate(recipe, step - 1))
        do(batch)
        since += 1
        if step in due:
            train_loss = one_step.loss_sum.item() / since  # waits for the device, so the clock below is right
            seconds += time.perf_counter() - started
            outcome.curve.append(_evaluation(network, data, tested, step, train_loss))
            train_mode(network)
            one_step.loss_sum.zero_()
            since, started = 0, time.perf_counter()
        if step in checkpoint_steps:
            on_checkpoint(step, network.module)
        stopping = stop()
        if on_state is not None and (stopping or time.perf_counter() - saved >= save_every_s):
            one_step.loss_sum.item()  # waits for the device, as above
            seconds += time.perf_counter() - started
            on_state(
                TrainingState.capture(network, one_step, step=step, since=since, seconds=seconds, curve=outcome.curve)
            )
            started = saved = time.perf_counter()
        if stopping:
            raise Interrupted(f"told to stop after step {step} of {recipe.steps}")
    outcome.images_per_s = recipe.steps * data.batch_size / seconds
    outcome.reused_layers = source.stages_done
    trained_on = EvaluationInputs(network, data, data.train, network.frozen, keep=False)
    outcome.train_top1, outcome.train_loss_nats = evaluate(network, data, trained_on)
    return outcome


def _evaluation(
    network: Network, data: DeviceData, tested: EvaluationInputs, step: int, train_loss: float
) -> Evaluation:
    """The point of the learning curve after a step."""
    if not math.isfinite(train_loss):
        raise FloatingPointError(f"training diverged: its loss is {train_loss} by step {step}")
    top1, loss = evaluate(network, data, tested)
    rate = learning_rate(data.recipe, step - 1)
    return Evaluation(step=step, learning_rate=rate, train_loss_nats=train_loss, top1=top1, loss_nats=loss)


@torch.no_grad()
def evaluate(network: Network, data: DeviceData, batches: EvaluationInputs) -> tuple[float, float]:
    """Accuracy (0..1) and mean cross-entropy (nats), in eval mode.

    Args:
        network: The network.
        data: The task.
        batches: Its images, taken through some of its stages.
    """
    network.module.eval()
    correct, loss, count = torch.zeros((), device=data.device), torch.zeros((), device=data.device), 0
    for inputs, labels in batches:
        with data.autocast():
            logits = network.through(inputs, start=batches.stages_done).float()
        correct += (logits.argmax(1) == labels).sum()
        loss += functional.cross_entropy(logits, labels, reduction="sum")
        count += len(labels)
    return correct.item() / count, loss.item() / count


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items)
        while True:
            item = coming.result()
            coming = pool.submit(next, items)
            yield item
