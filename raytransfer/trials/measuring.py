"""A distance between two tasks, or a score of a network on a task, from its spec to its row."""

import functools
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from raytransfer.distances import DISTANCES
from raytransfer.distances.sample import Features, Labels, Sample
from raytransfer.distances.tree import parse_tree
from raytransfer.networks import Network, pooled
from raytransfer.scores import SCORES
from raytransfer.scores.representation import Representation
from raytransfer.specs import Dials, DistanceSpec, ScoreSpec, TaskSpec, Weights
from raytransfer.store import publish
from raytransfer.tasks import INPUT_DIALS, Dataset, TaskData, label_names, sample_task
from raytransfer.trials.site import Site, common_columns
from raytransfer.trials.training import stored_network

_BATCH = 500
_KEPT = 4  # images or outputs that a process keeps for the next trial


def run_distance(spec: DistanceSpec, site: Site) -> None:
    """Measure how far apart two tasks are, and publish the row."""
    started = time.perf_counter()
    measure, tasks = DISTANCES[spec.measure], (spec.source, spec.target)
    if measure.reads == "classes":
        source, target = (_named(site, task, spec.tree) for task in tasks)
    else:
        source, target = (_sample(site, task, spec.reference, spec.n_layers, spec.images, spec.seed) for task in tasks)
    value = measure.function(source, target)
    columns = {
        "features": _features_name(spec),
        "source_task": spec.source.label,
        "target_task": spec.target.label,
        "reference_id": spec.reference.source_id if spec.reference else None,
        "source_images": 0 if measure.reads == "classes" else len(source.labels),
        "target_images": 0 if measure.reads == "classes" else len(target.labels),
    }
    _publish(site, "distances", spec, value, started, columns)


def run_score(spec: ScoreSpec, site: Site) -> None:
    """Score a network's outputs on a target task's training images, and publish the row."""
    started = time.perf_counter()
    reads = SCORES[spec.measure].reads
    drawn = _draw(site, spec.task, spec.images, spec.seed)
    below_head = None if reads == "head" else spec.n_layers
    outputs = _outputs(site, spec.weights, spec.task, below_head, spec.images, spec.seed)
    reference = None
    if spec.reference is not None:
        reference = _outputs(site, spec.reference, spec.task, below_head, spec.images, spec.seed)
    value = SCORES[spec.measure].function(
        Representation(
            name=f"{spec.measure} of {spec.weights.label} on {spec.task.label}",
            features=outputs.features,
            labels=drawn.labels,
            head=outputs.features if reads == "head" else None,
            reference=reference.features if reference else None,
        )
    )
    columns = {
        "base_task": spec.weights.label,
        "target_task": spec.task.label,
        "pretrain_id": spec.weights.source_id,
        "pretrain_step": spec.weights.step,
        "n_layers": spec.n_layers,
        "cut": outputs.cut,
        "reference_id": spec.reference.source_id if spec.reference else None,
        "images": len(drawn.labels),
        "features": outputs.features.shape[1],
    }
    _publish(site, "scores", spec, value, started, columns)


def _features_name(spec: DistanceSpec) -> str | None:
    """What a distance compares: ``pixels``, a network's layer or weights; None where it reads names of classes."""
    if spec.reference is None:
        return None if DISTANCES[spec.measure].reads == "classes" else "pixels"
    return "weights" if spec.n_layers is None else f"layer {spec.n_layers}"


def _publish(
    site: Site, table: str, spec: DistanceSpec | ScoreSpec, value: float, started: float, columns: Mapping[str, Any]
) -> None:
    """Publish a measurement's row: the columns of its own table, and those of both."""
    if not math.isfinite(value):
        raise FloatingPointError(f"{spec.measure} is {value}, which is no number to compare")
    row = {
        "measure": spec.measure,
        "value": value,
        **columns,
        **common_columns(spec, torch.device(site.device), time.perf_counter() - started),
    }
    publish(site.store(), table, row)


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """Training images of a task that are looked at.

    Attributes:
        task: The task with no other training images.
        labels: (n,) 0..K-1 of the labels that are left.
        names: K names of those.
    """

    task: TaskData
    labels: Labels
    names: tuple[str, ...]


@functools.lru_cache(maxsize=_KEPT)
def _draw(site: Site, task: TaskSpec, images: int, seed: int) -> _Drawn:
    """Draw training images.

    Labels of which a single image is left are left out with it: no measure could say how they vary.
    """
    dataset = site.dataset(task.fingerprint)
    data = sample_task(dataset, task, images, seed)
    labels = data.train.labels
    counts = np.bincount(labels, minlength=task.label_count)
    kept = np.flatnonzero(counts >= 2)
    inside = np.isin(labels, kept)
    names = label_names(dataset, task)
    return _Drawn(
        task=replace(data, train=replace(data.train, rows=data.train.rows[inside], labels=labels[inside])),
        labels=np.searchsorted(kept, labels[inside]).astype(np.int64),
        names=tuple(names[label] for label in kept),
    )


def labels_drawn(dataset: Dataset, task: TaskSpec, images: int | None, seed: int) -> Labels:
    """The labels (n,) of the training images that a measurement looks at, before any is left out; None for all."""
    if task.dials is not None:  # those of pixels change no label, and take time
        task = replace(task, dials=replace(task.dials, **{name: getattr(Dials(), name) for name in INPUT_DIALS}))
    most = len(dataset.train_labels) if images is None else images
    return sample_task(dataset, task, most, seed).train.labels


@functools.lru_cache(maxsize=_KEPT)
def _network(site: Site, weights: Weights, task: TaskSpec) -> Network:
    """A network with stored weights, in eval mode, for images of this task's shape."""
    one = sample_task(site.dataset(task.fingerprint), task.plain, images=1, seed=0)
    return stored_network(weights, site.store(), site.device_data(one, weights.recipe))


@dataclass(frozen=True, kw_only=True)
class _Outputs:
    """What a network makes of images: features (n, D), and the name of the last layer they passed."""

    features: Features
    cut: str


@functools.lru_cache(maxsize=_KEPT)
def _outputs(site: Site, weights: Weights, task: TaskSpec, n_layers: int | None, images: int, seed: int) -> _Outputs:
    """Outputs of a network's first layers for a task's images; of the whole, as probabilities, where n is None."""
    drawn, network = _draw(site, task, images, seed), _network(site, weights, task)
    data = site.device_data(drawn.task, weights.recipe)
    parts = []
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(drawn.labels)), _BATCH):
            outputs = network.through(data.central(data.train, rows), stop=n_layers)
            parts.append(outputs.softmax(1) if n_layers is None else pooled(outputs, network.image))
    features = torch.cat(parts).double().cpu().numpy()
    return _Outputs(features=features, cut=network.stages[(n_layers or 0) - 1].name)


@functools.lru_cache(maxsize=2 * _KEPT)
def _sample(
    site: Site,
    task: TaskSpec,
    reference: Weights | None,
    n_layers: int | None,
    images: int,
    seed: int,
) -> Sample:
    """What a distance may look at of one of its two tasks; measures may keep what they computed of it with it."""
    drawn = _draw(site, task, images, seed)
    pixels = drawn.task.train.images[drawn.task.train.rows]
    network: Network | None = None
    inputs: torch.Tensor | None = None
    if reference is not None and n_layers is not None:
        features = _outputs(site, reference, task, n_layers, images, seed).features
    else:
        features = (pixels / 255.0).reshape(len(pixels), -1)
        if reference is not None:
            network = _network(site, reference, task)
            data = site.device_data(drawn.task, reference.recipe)
            inputs = data.central(data.train, torch.arange(len(pixels)))
    return Sample(
        name=task.label,
        features=features,
        labels=drawn.labels,
        classes=drawn.names,
        inputs=inputs,
        probe=network,
    )


def _named(site: Site, task: TaskSpec, tree: str | None) -> Sample:
    """A sample for a distance that reads names of classes alone: all the task has, whichever images are drawn."""
    names = label_names(site.dataset(task.fingerprint), task)
    return Sample(
        name=task.label,
        features=np.zeros((len(names), 1)),
        labels=np.arange(len(names)),
        classes=names,
        tree=parse_tree(json.loads(tree)) if tree else None,
    )
