"""A training from its spec to its rows: task, network, surgery, training, results."""

import time
from dataclasses import asdict
from statistics import fmean
from typing import Any

import torch

from raytransfer.lineage import frozen_layers
from raytransfer.networks import Network, build, copy_first, freeze_first
from raytransfer.specs import PretrainSpec, TrainingSpec, TransferSpec, to_json
from raytransfer.store import Store, load_checkpoint, publish, save_checkpoint
from raytransfer.tasks import load_task
from raytransfer.training import DeviceData, Outcome, stream_seed, train
from raytransfer.trial.site import Site, occasion

_BEST = 10  # the 2014 score is the mean of the ten best evaluations


def run_training(spec: TrainingSpec, site: Site, checkpoint_steps: frozenset[int] = frozenset()) -> None:
    """Train and evaluate one network, then publish its checkpoints, its learning curve and its row.

    On a CPU it computes in one thread: slots are cores, and the same spec gives the same bits on any number of them.

    Args:
        spec: What to run.
        site: Where.
        checkpoint_steps: Training steps whose weights other trials need; a base keeps its last weights in any case,
            so that a later sweep can copy from it.
    """
    started = time.perf_counter()
    if isinstance(spec, PretrainSpec):
        checkpoint_steps |= {spec.recipe.steps}
    torch.set_num_threads(1)
    device = torch.device(site.device)
    store = Store(site.root)
    task = load_task(site.dataset(spec.task.fingerprint), spec.task)
    data = DeviceData(task, spec.recipe, device, site.memory_bytes)
    network = prepare(spec, store, data)
    outcome = train(
        network,
        data,
        frozen=frozen_layers(spec),
        seed=training_seed(spec),
        checkpoint_steps=checkpoint_steps,
        on_checkpoint=lambda step, module: save_checkpoint(store, spec.id, step, module.state_dict()),
    )
    row = _row(spec, data, network, outcome)
    row["wall_time_s"] = time.perf_counter() - started
    publish(store, "trials", row, [{"id": spec.id, **asdict(evaluation)} for evaluation in outcome.curve])


def prepare(spec: TrainingSpec, store: Store, data: DeviceData) -> Network:
    """The network before its first step: fresh weights, then, for a transfer, the copied and frozen layers."""
    network = untrained(spec, data)
    if isinstance(spec, TransferSpec):
        if spec.base is not None and spec.pretrain_step is not None:
            copy_first(load_checkpoint(store, spec.base.id, spec.pretrain_step), network, spec.n_layers)
        if spec.frozen:
            freeze_first(network, spec.n_layers)
    return network


def untrained(spec: TrainingSpec, data: DeviceData) -> Network:
    """The network with fresh weights, on the device of the data and laid out in memory as the recipe says.

    Fresh weights of a base and of the transfers with the same seed come from two streams. From one, the upper layers
    of BnB would start where those of its base started, and find the same co-adapted solution again.
    """
    network = build(
        spec.network,
        in_channels=data.train.shape[0],
        image_size_px=data.image_size_px,
        classes=spec.task.label_count,
        seed=stream_seed(spec.seed, _phase(spec), "init"),
    )
    network.module.to(data.device)
    if spec.recipe.channels_last:
        network.module.to(memory_format=torch.channels_last)
    return network


def stored_network(spec: TrainingSpec, step: int, store: Store, data: DeviceData) -> Network:
    """The network of a training at one of its checkpoints, in eval mode; what trained requires gradients."""
    network = untrained(spec, data)
    network.module.load_state_dict(load_checkpoint(store, spec.id, step))
    freeze_first(network, frozen_layers(spec))
    network.module.eval()
    return network


def training_seed(spec: TrainingSpec) -> int:
    """The seed of a trial's batches, augmentation and dropout."""
    return stream_seed(spec.seed, _phase(spec))


def _phase(spec: TrainingSpec) -> str:
    return "pretrain" if isinstance(spec, PretrainSpec) else "transfer"


def _row(spec: TrainingSpec, data: DeviceData, network: Network, outcome: Outcome) -> dict[str, Any]:
    """The trial's row of the table ``trials``, but for its wall time."""
    transfer = spec if isinstance(spec, TransferSpec) else None
    base = transfer.base if transfer else None
    names = [stage.name for stage in network.stages]
    best = sorted((evaluation.top1 for evaluation in outcome.curve), reverse=True)[:_BEST]
    enough = len(outcome.curve) >= 2 * _BEST  # the best of fewer would be most of the curve, its beginning included

    return {
        "id": spec.id,
        "dataset": spec.task.dataset,
        "base_task": base.task.label if base else None,
        "target_task": spec.task.label,
        "network": spec.network.name,
        "stages": names,
        "n_layers": transfer.n_layers if transfer else 0,
        "cut": names[transfer.n_layers - 1] if transfer else None,
        "frozen": transfer.frozen if transfer else None,
        "pretrain_id": base.id if base else None,
        "pretrain_step": transfer.pretrain_step if transfer else None,
        "seed": spec.seed,
        "steps": spec.recipe.steps,
        "train_images": len(data.train),
        "test_images": len(data.test),
        "top1": outcome.curve[-1].top1,
        "loss_nats": outcome.curve[-1].loss_nats,
        "top1_best10": fmean(best) if enough else None,
        "train_top1": outcome.train_top1,
        "train_loss_nats": outcome.train_loss_nats,
        "config": to_json(spec),
        "images_per_s": outcome.images_per_s,
        "reused_layers": outcome.reused_layers,
        "streamed": data.streamed,
        **occasion(data.device),
    }
