"""A training from its spec to its rows: task, network, surgery, training, results."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch

from raytransfer.networks import (
    Network,
    add_lora,
    build,
    copy_first,
    freeze,
    load_tensors,
    merged,
    read_all_layers,
    train_mode,
)
from raytransfer.specs import PretrainSpec, TrainingSpec, TransferSpec, Weights
from raytransfer.store import (
    Store,
    delete_state,
    load_state,
    load_weights,
    publish,
    save_checkpoint,
    save_state,
    stored_steps,
)
from raytransfer.tasks import Dataset, TaskData, load_task, sample_task
from raytransfer.training import (
    ALONE,
    DeviceData,
    Outcome,
    Ranks,
    Step,
    TrainingState,
    check_parts,
    never,
    stream_seed,
    train,
)
from raytransfer.trials.site import Site, common_columns

_LOG = logging.getLogger("raytransfer.trials")
_OF_SURGERY = ("frozen", "thaw", "surgical", "layer_decay", "l2_sp", "lora_rank", "reads_all")  # columns of a row
_BEST = 10  # the 2014 score is the mean of the ten best evaluations


def run_training(
    spec: TrainingSpec,
    site: Site,
    checkpoint_steps: frozenset[int],
    stop: Callable[[], bool],
    ranks: Ranks = ALONE,
) -> None:
    """Train and evaluate one network, then publish its checkpoints, its learning curve and its row.

    It goes on from the state that it left when it was stopped or killed, if it left one, to the same bits.

    Args:
        spec: What to run.
        site: Where.
        checkpoint_steps: Training steps whose weights other trials need; a base keeps its last weights in any case,
            so that a later sweep can copy from it.
        stop: Asked after each step whether to stop.
        ranks: The processes that do this together; the first alone writes, and asks whether to stop.

    Raises:
        Interrupted: ``stop`` said so, and the training's state is saved.
        RankDied: Another rank is gone.
    """
    started = time.perf_counter()
    if isinstance(spec, PretrainSpec):
        checkpoint_steps |= {spec.recipe.steps}
    device = torch.device(site.device)
    store = site.store()
    task = load_task(site.dataset(spec.task.fingerprint), spec.task)
    data = DeviceData(task, spec.recipe, device, site.memory_bytes, ranks)
    network = prepare(spec, store, data)
    left = load_state(store, spec.id)
    state = None if left is None else _state_of(left, spec, store, network, data, checkpoint_steps)
    ranks.agree(0 if state is None else state.step, device)
    first = ranks.rank == 0
    before = state.wall_time_s if state is not None else 0.0
    saved = left is not None

    def elapsed() -> float:
        return before + time.perf_counter() - started

    def save(reached: TrainingState) -> None:
        nonlocal saved
        saved = True
        save_state(store, spec.id, replace(reached, wall_time_s=elapsed()).to_bytes())

    outcome = train(
        network,
        data,
        seed=training_seed(spec),
        surgery=spec.surgery,
        checkpoint_steps=checkpoint_steps if first else frozenset(),
        on_checkpoint=lambda step, module: save_checkpoint(store, spec.id, step, module.state_dict()),
        state=state,
        on_state=save if first else None,
        save_every_s=site.save_every_s,
        stop=stop if first else never,
    )
    if not first:
        return
    row = _row(spec, data, network, outcome, elapsed())
    publish(store, "trials", row, [{"id": spec.id, **asdict(evaluation)} for evaluation in outcome.curve])
    if saved:
        delete_state(store, spec.id)  # after the row: killed in between, it leaves a state that nobody reads


def _state_of(
    content: bytes,
    spec: TrainingSpec,
    store: Store,
    network: Network,
    data: DeviceData,
    checkpoint_steps: frozenset[int],
) -> TrainingState | None:
    """The state that an earlier attempt left; None, and said aloud, if one cannot go on from it."""
    stored = stored_steps(store, spec.id)
    try:
        state = TrainingState.from_bytes(content)
        state.check(network, data, spec.surgery)
        passed = {step for step in checkpoint_steps if step <= state.step}
        if missing := passed - stored:  # a later sweep may ask for steps that this training has passed
            raise ValueError(f"checkpoints that it passed are wanted and not there: {sorted(missing)}")
    except ValueError as error:
        _LOG.warning("the state of training %s is passed over, it starts from its beginning: %s", spec.id, error)
        return None
    return state


def try_step(spec: TrainingSpec, dataset: Dataset) -> None:
    """Take one step of a training, on the CPU, on a batch as large as its own but of two images at most.

    What a batch of two goes through, a larger one does, too. Nothing is copied: the weights are fresh, and dials, which
    leave the shape of images as it is, are not turned.

    Raises:
        Exception: Whatever the network raises.
    """
    with torch.random.fork_rng(devices=[]):
        network, data = _tried(spec, dataset)
        Step(network, data, data)(data.fetch(next(data.draw(torch.Generator()))))


def try_parts(spec: TrainingSpec, dataset: Dataset) -> None:
    """Look whether the batches of a training can be split over processes.

    Raises:
        ValueError: A layer that is not batch normalisation looks at more than one image.
    """
    with torch.random.fork_rng(devices=[]):
        check_parts(_tried(spec, dataset)[0])


def _tried(spec: TrainingSpec, dataset: Dataset) -> tuple[Network, DeviceData]:
    """The network of a training before its first step, with fresh weights, and two images."""
    few = sample_task(dataset, spec.task.plain, images=2, seed=0).train
    few = replace(few, labels=np.zeros_like(few.labels))  # of the plain task there may be more than the network has
    task = TaskData(train=few, test=few, channel_mean=dataset.channel_mean, channel_std=dataset.channel_std)
    data = DeviceData(task, spec.recipe, torch.device("cpu"), memory_bytes=0)
    network = untrained(spec, data)
    freeze(network, spec.surgery.frozen_stages(len(network.stages)) if spec.surgery.thaw == "never" else ())
    train_mode(network)
    return network, data


def try_single_image(spec: TrainingSpec, dataset: Dataset) -> None:
    """Let the network of a training see one image alone, as it does where one is left over in an evaluation.

    Raises:
        Exception: Whatever the network raises.
        ValueError: It does not give the outputs of one image.
    """
    one = sample_task(dataset, spec.task.plain, images=1, seed=0)
    data = DeviceData(one, spec.recipe, torch.device("cpu"), memory_bytes=0)
    network = untrained(spec, data)
    network.module.eval()
    with torch.no_grad():
        logits = network.through(data.central(data.train, torch.zeros(1, dtype=torch.long)))
    if logits.shape != (1, spec.task.label_count):
        raise ValueError(f"it gives {tuple(logits.shape)} for one image, and not (1, {spec.task.label_count})")


def prepare(spec: TrainingSpec, store: Store, data: DeviceData) -> Network:
    """The network before its first step: fresh weights, then, for a transfer, the copied, frozen and adapted layers."""
    network, surgery = untrained(spec, data), spec.surgery
    depth = len(network.stages)
    if isinstance(spec, TransferSpec) and spec.weights is not None:
        copy_first(merged(load_weights(store, spec.weights)), network, surgery.copied(depth))
    freeze(network, surgery.frozen_stages(depth))
    if surgery.lora_rank:
        seed = stream_seed(spec.seed, spec.kind, spec.task.stream, "adapters")
        add_lora(network, surgery.n_layers, rank=surgery.lora_rank, seed=seed)
    return network


def untrained(spec: TrainingSpec, data: DeviceData) -> Network:
    """The network with fresh weights, on the device of the data and laid out in memory as the recipe says.

    Fresh weights of a base and of the transfers with the same seed come from two streams. From one, the upper layers
    of BnB would start where those of its base started, and find the same co-adapted solution again.

    All streams are of the task that is trained on, its dials left out: transfers to one target with one seed are
    paired, whatever they copy (AnB, BnB and RnB draw the same fresh layers and batches), and so are trainings on one
    task with its dials turned; other classes draw anew.
    """
    network = build(
        spec.network,
        image=data.shape,
        classes=spec.task.label_count,
        seed=stream_seed(spec.seed, spec.kind, spec.task.stream, "init"),
    )
    _place(network, data)
    if spec.surgery.reads_all:
        seed = stream_seed(spec.seed, spec.kind, spec.task.stream, "head on all layers")
        read_all_layers(network, classes=spec.task.label_count, seed=seed)
    return network


def stored_network(weights: Weights, store: Store, data: DeviceData) -> Network:
    """The network with stored weights, in eval mode; layers that trained, or were adapted, require gradients.

    Adapters are added to the weights beside which they trained: the network is a plain one.
    """
    network = build(weights.network, image=data.shape, classes=weights.outputs or 2, seed=0)
    _place(network, data)
    if weights.surgery.reads_all:
        read_all_layers(network, classes=weights.outputs or 2, seed=0)
    # Without a classifier among the weights the head stays as it was built: nothing that reads it is planned.
    load_tensors(network.module, merged(load_weights(store, weights)), strict=weights.outputs is not None)
    freeze(network, weights.surgery.kept_stages(len(network.stages)))
    network.module.eval()
    return network


def _place(network: Network, data: DeviceData) -> None:
    """Bring a network to the device of the data, laid out in memory as the recipe says."""
    network.module.to(data.device)
    if data.recipe.channels_last:
        network.module.to(memory_format=torch.channels_last)


def training_seed(spec: TrainingSpec) -> int:
    """The seed of a trial's batches, augmentation and dropout."""
    return stream_seed(spec.seed, spec.kind, spec.task.stream)


def _row(
    spec: TrainingSpec, data: DeviceData, network: Network, outcome: Outcome, wall_time_s: float
) -> dict[str, Any]:
    """The trial's row of the table ``trials``."""
    surgery, weights = (spec.surgery, spec.weights) if isinstance(spec, TransferSpec) else (None, None)
    names = [stage.name for stage in network.stages]
    best = sorted((evaluation.top1 for evaluation in outcome.curve), reverse=True)[:_BEST]
    enough = len(outcome.curve) >= 2 * _BEST  # the best of fewer would be most of the curve, its beginning included

    return {
        "dataset": spec.task.dataset,
        "base_task": weights.label if weights else None,
        "target_task": spec.task.label,
        "network": spec.network.name,
        "stages": names,
        "n_layers": surgery.n_layers if surgery else 0,
        "cut": names[surgery.n_layers - 1] if surgery else None,
        "preserved_layers": surgery.copied(len(names)) - surgery.n_layers if surgery else None,
        **{name: getattr(surgery, name) if surgery else None for name in _OF_SURGERY},
        "pretrain_id": weights.source_id if weights else None,
        "pretrain_step": weights.step if weights else None,
        "steps": spec.recipe.steps,
        "train_images": len(data.train),
        "test_images": len(data.test),
        "top1": outcome.curve[-1].top1,
        "loss_nats": outcome.curve[-1].loss_nats,
        "top1_best10": fmean(best) if enough else None,
        "train_top1": outcome.train_top1,
        "train_loss_nats": outcome.train_loss_nats,
        "images_per_s": outcome.images_per_s,
        "reused_layers": outcome.reused_layers,
        "streamed": data.streamed,
        "waited": None if math.isnan(outcome.waited) else outcome.waited,
        "ranks": data.ranks.count,
        **common_columns(spec, data.device, wall_time_s),
    }
