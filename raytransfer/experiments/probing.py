"""The probes of a sweep's networks that the option ``probes`` asks for, and whether they work."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from raytransfer.config import TrainingConfig
from raytransfer.config.rules import as_list, check_names, is_whole_number
from raytransfer.errors import UserError, first_line
from raytransfer.networks import Network, Shape, build, freeze, read_all_layers, trainable
from raytransfer.probes import PROBES, Subject
from raytransfer.probes.flatness import hessian_product
from raytransfer.specs import PretrainSpec, ProbeSpec, Trained, TrainingSpec, TransferSpec, Weights
from raytransfer.sweep.plan import SomeCell
from raytransfer.words import number_of

TWIN = 1_000_000
"""What is added to a training's seed for its twin: the same task and base, but other fresh weights and batches."""

_IMAGES = 4  # on which it is tried whether a network supports a probe


def with_probes(cells: Sequence[SomeCell], config: TrainingConfig, image_shape: Shape) -> list[SomeCell]:
    """The cells, and one for each probe of each of their trainings; its treatment is ``probe`` and the probe's name.

    Args:
        cells: Places of a sweep; measurements are not probed.
        config: Says which probes, at which steps.
        image_shape: Channels, height and width of the images.

    Raises:
        UserError: A probe is not known, looks at a step that is not there or makes no sense, or does not work on a
            network; or more eigenvalues are asked for than there are parameters.
    """
    check_names("probes", config.probes, PROBES)
    looks: list[SomeCell] = []
    tried: set[tuple[Any, ...]] = set()
    for cell in cells:
        spec = cell.spec
        if not isinstance(spec, TrainingSpec):
            continue
        surgery = spec.surgery
        kind = spec.network, spec.task.label_count, surgery.frozen_layers, surgery.surgical, surgery.reads_all
        if config.probes and kind not in tried:
            _try(spec, config, image_shape)
            tried.add(kind)
        looks += [
            replace(cell, treatment=f"probe {name}", spec=look)  # type: ignore[type-var]
            for name in config.probes
            for look in probe_specs(name, spec, config)
        ]
    return [*cells, *looks]


def probe_specs(name: str, trained: TrainingSpec, config: TrainingConfig) -> list[ProbeSpec]:
    """The trials of one probe on one training.

    Raises:
        UserError: A step is not one of the training's, or none of them makes sense for the probe.
    """
    probe = PROBES[name]
    return [
        ProbeSpec(
            probe=name,
            trained=trained,
            step=step,
            since=0 if probe.reads_initial else None,
            against=against,
            other=other,
            images=config.probe_images if probe.reads == "images" else None,
            eigenvalues=config.eigenvalues if name == "flatness" else None,
            points=config.landscape_points if name.endswith("landscape") else None,
            settled=probe.reads == "images" and (probe.steps == "all" or step == 0),
            seed=trained.seed,
            revision=probe.revision,
        )
        for step in _steps(name, trained, config.probe_steps)
        for against, other in _others(probe.against, trained)
    ]


def _steps(name: str, trained: TrainingSpec, wanted: Any) -> list[int]:
    """The steps of a training that are probed."""
    last, kind = trained.recipe.steps, PROBES[name].steps
    asked = as_list(wanted)
    for step in asked:
        if step != "last" and (not is_whole_number(step) or not 0 <= step <= last):
            raise UserError(f"probe_steps has {step}, which no training reaches: a step lies in 0..{last}, or is last")
    steps = sorted({last if step == "last" else step for step in asked})
    if kind == "initial":
        return [0]
    if kind != "all":
        steps = [step for step in steps if step > 0]
    if not steps:
        raise UserError(
            f"probe_steps={wanted} leave nothing for {name}: before step 1 the head has not trained (the landscape of "
            "such a network is the probe initial-landscape); name a later step, or last"
        )
    if kind == "solution" and steps[-1] < last:  # what it is compared with, such as a twin, is at its own last step
        raise UserError(f"probe_steps={wanted} leave out step {last}, the last, and {name} looks there alone: add last")
    return steps[-1:] if kind == "solution" else steps


def _others(kinds: Sequence[str], trained: TrainingSpec) -> list[tuple[Any, Weights | None]]:
    """The weights that a training's are compared with, and what they are to it."""
    if not kinds:
        return [(None, None)]
    found: list[tuple[Any, Weights | None]] = []
    if isinstance(trained, TransferSpec) and trained.weights is not None:
        scratch = PretrainSpec(task=trained.task, network=trained.network, recipe=trained.recipe, seed=trained.seed)
        found += [("base", trained.weights), ("scratch", scratch.weights)]
    twin = replace(trained, seed=trained.seed + TWIN)
    found.append(("twin", Trained(training=twin, step=trained.recipe.steps)))
    return [other for other in found if other[0] in kinds]


def _try(spec: TrainingSpec, config: TrainingConfig, image_shape: Shape) -> None:
    """Run every probe once, as small as it can be, on an untrained network and random images."""
    image = spec.recipe.seen_shape(image_shape)
    first, second = (_untrained(spec, image, seed) for seed in range(2))
    parameters = sum(parameter.numel() for _, parameter in trainable(first))
    if "flatness" in config.probes and config.eigenvalues > parameters:
        raise UserError(
            f"eigenvalues={config.eigenvalues} must not exceed the parameters that train: {spec.network.name} has "
            f"{parameters} with {number_of(len(first.frozen), 'layer')} frozen"
        )
    images = torch.rand((_IMAGES, *image), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(_IMAGES) % spec.task.label_count
    for name in config.probes:
        subject = Subject(
            name=name,
            network=first,
            inputs=images,
            labels=labels,
            seed=0,
            learning_rate=spec.recipe.learning_rate,
            initial=second,
            other=second,
            train=[(images, labels)],
            test=[(images, labels)],
            points=3,
        )
        try:
            if name == "flatness":  # as a whole it would take a minute on a larger network
                hessian_product(subject)(torch.ones(parameters))
            else:
                PROBES[name].function(subject)
        except Exception as error:  # whatever a network of the user's raises
            reason = first_line(error)
            raise UserError(f"probes={name} does not work on network={spec.network.name}: {reason}") from error


def _untrained(spec: TrainingSpec, image: Shape, seed: int) -> Network:
    labels = spec.task.label_count
    network = build(spec.network, image=image, classes=labels, seed=seed)
    if spec.surgery.reads_all:
        read_all_layers(network, classes=labels, seed=seed)
    freeze(network, spec.surgery.kept_stages(len(network.stages)))
    network.module.eval()
    return network
