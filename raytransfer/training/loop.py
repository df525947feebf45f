"""The training loop."""

import contextlib
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from raytransfer.networks import Network, freeze, frozen_prefix, load_tensors, seed_layers, train_mode, trainable
from raytransfer.specs import UNCUT, Surgery
from raytransfer.tasks.threads import ahead
from raytransfer.training.frozen import EvaluationInputs, batch_source, evaluation_inputs
from raytransfer.training.images import DeviceData
from raytransfer.training.schedule import evaluation_steps, learning_rate, phases
from raytransfer.training.state import Evaluation, Interrupted, TrainingState, never
from raytransfer.training.step import Step, fastest

Batch = TypeVar("Batch")

SAVE_EVERY_S = 60.0
"""Seconds between two saved states of a training, long enough that short trainings save none."""


def stream_seed(seed: int, *stream: str) -> int:
    """A seed of 63 bits for a named stream of random numbers, different for each stream of a run."""
    digest = hashlib.sha256("/".join([str(seed), *stream]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(kw_only=True)
class Outcome:
    """The results of a training.

    Attributes:
        curve: An evaluation on the test images for each of the recipe's evaluation steps, in order.
        train_top1: Accuracy on the training images at the end, in eval mode without augmentation.
        train_loss_nats: Cross-entropy likewise.
        images_per_s: Training images per second of steps, without evaluation.
        reused_layers: Number of frozen layers whose outputs were stored and reused in the last phase.
        waited: Share of the time of steps, since the training started or resumed, that was spent waiting for streamed
            images, 0..1; NaN if images are not streamed, or no step was left.
    """

    curve: list[Evaluation] = field(default_factory=list)
    train_top1: float = math.nan
    train_loss_nats: float = math.nan
    images_per_s: float = math.nan
    reused_layers: int = 0
    waited: float = math.nan


def train(
    network: Network,
    data: DeviceData,
    *,
    seed: int,
    surgery: Surgery = UNCUT,
    checkpoint_steps: frozenset[int] = frozenset(),
    on_checkpoint: Callable[[int, nn.Module], None] = lambda step, module: None,
    state: TrainingState | None = None,
    on_state: Callable[[TrainingState], None] | None = None,
    save_every_s: float = SAVE_EVERY_S,
    stop: Callable[[], bool] = never,
) -> Outcome:
    """Train the network's trainable parameters by the recipe of ``data``, in place.

    Frozen layers may be released during training. Each phase between two releases stores outputs of frozen layers anew.
    Released parameters join the optimiser with buffers of zero; the schedule of the learning rate does not restart.

    A training that resumes from a state ends with the same bits as one that was never stopped.

    Args:
        network: On the device of the data.
        data: The task and the recipe.
        seed: Seed of batches, augmentation and dropout.
        surgery: When frozen layers are released, and how learning rate and decay differ between layers. The network
            must already have its copied and frozen layers.
        checkpoint_steps: Steps, 0..recipe.steps, after which ``on_checkpoint`` is called.
        on_checkpoint: Gets the step and the module.
        state: State to resume from, for which ``TrainingState.check`` has passed; None to start. Checkpoints at its
            step or before are not taken again.
        on_state: Gets the state after a step, once ``save_every_s`` have passed since the last one, and when the
            training is told to stop.
        save_every_s: Seconds between two states, >= 0; 0 for one after each step.
        stop: Called after each step; returns whether to stop.

    Returns:
        The learning curve and the final accuracy on the training images.

    Raises:
        FloatingPointError: The training loss is infinite or not a number.
        Interrupted: ``stop`` returned True.
    """
    recipe, outcome = data.recipe, Outcome()
    generator = torch.Generator().manual_seed(stream_seed(seed, "batches"))
    seed_layers(stream_seed(seed, "dropout"), data.device)
    copied = set(network.first_names(surgery.copied(len(network.stages)))) if surgery.l2_sp else set()
    anchors = {name: tensor.detach().clone() for name, tensor in trainable(network) if name in copied}
    done, since, seconds = 0, 0, 0.0
    if state is not None:  # before outputs of frozen layers are computed
        load_tensors(network.module, state.weights)
        outcome.curve, done, since, seconds = list(state.curve), state.step, state.since, state.seconds
    elif 0 in checkpoint_steps:
        on_checkpoint(0, network.module)
    # Earlier batches are drawn again and skipped: that is cheap, and the state need not hold the order of the images.
    views = map(data.ranks.part, itertools.islice(data.draw(generator), done, None))
    due, memory = set(evaluation_steps(recipe)), data.memory_left
    clock, waits, saved = _Clock(seconds), _Waits(), time.perf_counter()
    for phase in phases(recipe.steps, network.frozen, surgery.thaw):
        if phase.last <= done and phase.last < recipe.steps:  # the last is always entered, for the evaluation below
            continue
        freeze(network, phase.frozen)
        train_mode(network)
        data.memory_left = memory  # outputs that the phase before stored are freed
        source = batch_source(network, data, phase.last - phase.first)
        tested = evaluation_inputs(network, data)
        one_step = Step(network, data, source, layer_decay=surgery.layer_decay, anchors=anchors)
        do = fastest(one_step, data)
        if state is not None:  # last, as setting up the phase draws random numbers
            state.put_back(one_step)
        left = itertools.islice(views, phase.last - done)
        batches = waits.noted(ahead(source.fetch, left)) if data.streamed else map(source.fetch, left)
        for step, batch in enumerate(batches, done + 1):
            one_step.set_rate(learning_rate(recipe, step - 1))
            if data.ranks.rank:  # dropout differs between ranks, and only that of rank 0 is part of the state
                seed_layers(stream_seed(seed, "dropout", f"rank {data.ranks.rank}", f"step {step}"), data.device)
            do(batch)
            since += 1
            if step in due:
                with clock.stopped(one_step):
                    outcome.curve.append(_evaluation(network, data, tested, step, one_step.loss_sum.item() / since))
                    train_mode(network)
                    one_step.loss_sum.zero_()
                    since = 0
            if step in checkpoint_steps:
                on_checkpoint(step, network.module)
            stopping = stop()
            saving = on_state is not None and (stopping or time.perf_counter() - saved >= save_every_s)
            # A phase starts from a state, as a resumed training does, so that stopping in between gives the same bits.
            if saving or step == phase.last < recipe.steps:
                with clock.stopped(one_step):
                    state = TrainingState.capture(
                        network, one_step, step=step, since=since, seconds=clock.seconds, curve=outcome.curve
                    )
                    if on_state is not None and saving:
                        on_state(state)
                        saved = time.perf_counter()
            if stopping:
                raise Interrupted(f"told to stop after step {step} of {recipe.steps}")
        done, outcome.reused_layers = phase.last, source.stages_done
        del source, tested, one_step, do, batches  # frees their memory for the next phase
    outcome.images_per_s = recipe.steps * data.batch_size / clock.seconds
    if data.streamed and clock.seconds > seconds:
        outcome.waited = min(1.0, waits.seconds / (clock.seconds - seconds))
    trained_on = EvaluationInputs(network, data, data.train, frozen_prefix(network), keep=False)
    outcome.train_top1, outcome.train_loss_nats = evaluate(network, data, trained_on)
    return outcome


class _Clock:
    """Measures the seconds that a training spends on its steps, added to those before it resumed."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._started = seconds, time.perf_counter()

    @contextlib.contextmanager
    def stopped(self, one_step: Step) -> Iterator[None]:
        """Wait for the device to finish its steps; the time of the block does not count."""
        one_step.loss_sum.item()
        self.seconds += time.perf_counter() - self._started
        yield
        self._started = time.perf_counter()


class _Waits:
    """Measures the seconds that a training waits for its batches."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def noted(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the same batches, and count the time until each arrives."""
        started = time.perf_counter()
        for batch in batches:
            self.seconds += time.perf_counter() - started
            yield batch
            started = time.perf_counter()


def _evaluation(
    network: Network, data: DeviceData, tested: EvaluationInputs, step: int, train_loss: float
) -> Evaluation:
    """Evaluate the network for the learning curve.

    Raises:
        FloatingPointError: The training loss is infinite or not a number.
    """
    if not math.isfinite(train_loss):
        raise FloatingPointError(f"training diverged: its loss is {train_loss} by step {step}")
    top1, loss = evaluate(network, data, tested)
    rate = learning_rate(data.recipe, step - 1)
    return Evaluation(step=step, learning_rate=rate, train_loss_nats=train_loss, top1=top1, loss_nats=loss)


@torch.no_grad()
def evaluate(network: Network, data: DeviceData, batches: EvaluationInputs) -> tuple[float, float]:
    """Accuracy (0..1) and mean cross-entropy (nats) in eval mode, over the images of all ranks."""
    network.module.eval()
    correct, loss, count = (torch.zeros((), device=data.device) for _ in range(3))
    for inputs, labels in batches:
        with data.autocast():
            logits = network.through(inputs, start=batches.stages_done).float()
        correct += (logits.argmax(1) == labels).sum()
        loss += functional.cross_entropy(logits, labels, reduction="sum")
        count += len(labels)
    data.ranks.total([correct, loss, count])
    return correct.item() / count.item(), loss.item() / count.item()
