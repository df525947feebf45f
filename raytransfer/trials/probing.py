"""A look at a trained network, from its spec to its row and its readings."""

import functools
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
from torch import nn

from raytransfer.networks import Network
from raytransfer.probes import PROBES, Reading, Subject
from raytransfer.specs import ProbeSpec, TaskSpec, Trained, TransferSpec
from raytransfer.store import publish
from raytransfer.tasks import TaskData, load_task, sample_task
from raytransfer.training import EvaluationInputs, stream_seed
from raytransfer.trials.site import Site, common_columns
from raytransfer.trials.training import stored_network


def run_probe(spec: ProbeSpec, site: Site) -> None:
    """Look at a network, in eval mode and in fp32 whatever the recipe's precision, and publish what was seen."""
    started = time.perf_counter()
    readings = PROBES[spec.probe].function(_subject(spec, site))
    _publish(spec, site, readings, started)


def _subject(spec: ProbeSpec, site: Site) -> Subject:
    """What the probe looks at, read from the store and the data."""
    trained = spec.trained
    data = site.device_data(_drawn(site, trained.task, spec.images or 1, spec.seed), trained.recipe)
    store = site.store()
    network = stored_network(Trained(training=trained, step=spec.step), store, data)
    subject = Subject(
        name=f"{spec.probe} of {trained.id} at step {spec.step}",
        network=network,
        inputs=data.central(data.train, torch.arange(len(data.train))),
        labels=data.train.labels,
        seed=stream_seed(spec.seed, trained.task.stream),
        learning_rate=trained.recipe.learning_rate,
        initial=None if spec.since is None else stored_network(Trained(training=trained, step=spec.since), store, data),
        other=None if spec.other is None else stored_network(spec.other, store, data),
        eigenvalues=spec.eigenvalues,
        points=spec.points,
    )
    if spec.settled:
        _settle(network, subject.inputs)
    if PROBES[spec.probe].reads != "all images":
        return subject
    every = site.device_data(load_task(site.dataset(trained.task.fingerprint), trained.task), trained.recipe)
    train, test = (EvaluationInputs(network, every, images, 0, keep=False) for images in (every.train, every.test))
    return replace(subject, train=train, test=test)


@torch.no_grad()
def _settle(network: Network, inputs: torch.Tensor) -> None:
    """Give batch normalisation that trains the statistics of these images, as it has those of its batch in training.

    Its own are those of the last ten steps or so. Before step 1 a fresh one has mean 0 and variance 1 and normalises
    nothing, and for some steps after it hardly does, while a copied one has its base's: a loss in eval mode would tell
    these apart, and not how the networks train. Frozen ones keep what they train with.
    """
    every = (m for m in network.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    layers = [layer for layer in every if layer not in network.still and layer.running_mean is not None]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.momentum = 1.0
    network.through(inputs.clone())  # it may begin by overwriting them
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.eval()
        layer.momentum = momentum


@functools.lru_cache(maxsize=4)
def _drawn(site: Site, task: TaskSpec, images: int, seed: int) -> TaskData:
    return sample_task(site.dataset(task.fingerprint), task, images, seed)


def _publish(spec: ProbeSpec, site: Site, readings: Sequence[Reading], started: float) -> None:
    transfer = spec.trained if isinstance(spec.trained, TransferSpec) else None
    row = {
        "probe": spec.probe,
        "trained_id": spec.trained.id,
        "step": spec.step,
        "base_task": transfer.weights.label if transfer and transfer.weights else None,
        "target_task": spec.trained.task.label,
        "n_layers": transfer.surgery.n_layers if transfer else 0,
        "frozen": transfer.surgery.frozen if transfer else None,
        "against": spec.against,
        "other_id": spec.other.source_id if spec.other else None,
        "images": spec.images,
        **common_columns(spec, torch.device(site.device), time.perf_counter() - started),
    }
    # Where there is nothing to read, a row says that: one whose readings are missing has not finished.
    details = [{"id": spec.id, **asdict(reading)} for reading in readings] or [{"id": spec.id}]
    publish(site.store(), "probes", row, details)
