"""Checks of the trials that are to run, made by trying parts of them before the first starts."""

from collections.abc import Collection
from typing import Any

import numpy as np

from raytransfer.errors import UserError, first_line
from raytransfer.specs import NetworkSpec, PretrainSpec, Recipe, TaskSpec, TrainingSpec, TrialSpec
from raytransfer.sweep.plan import Cell, Plan
from raytransfer.tasks import load_task
from raytransfer.training import EVALUATION_BATCH, use_one_core
from raytransfer.trials import Look, looks_of, try_parts, try_single_image, try_step
from raytransfer.words import number_of

_CHOICES = 12  # that are named


def check_trials(
    specs: Collection[TrialSpec], plan: Plan[Cell, Any], *, images: str, ranks: int = 1, base_ranks: int = 1
) -> None:
    """Check that trainings can take a step, and that measurements find the images they need.

    Of every network the training with the fewest frozen layers takes a step of its real batch size, two images at most:
    what more freezing leaves of a network is a part of that. Where the images of a task leave one over in an
    evaluation, the network is given one alone. The images that measurements look at are drawn as they will be.

    A training is split over processes only where each gets as many images of every batch, and nothing but batch
    normalisation looks at more than one of them.

    Args:
        specs: The trials that are to run.
        plan: The sweep they belong to, with their data.
        images: The option that says how many images distances and scores look at.
        ranks: How many processes a training is split over.
        base_ranks: The same of a base.

    Raises:
        UserError: A network cannot train or be evaluated so, a training cannot be split so, or too few images are
            looked at.
    """
    use_one_core()  # as in trials; with more, where OMP_THREAD_LIMIT allows 1, torch waits for ever in a backward pass
    trainings = [spec for spec in specs if isinstance(spec, TrainingSpec)]
    by_network: dict[NetworkSpec, list[TrainingSpec]] = {}
    batches: dict[tuple[str, TaskSpec, Recipe], TrainingSpec] = {}
    for training in trainings:
        by_network.setdefault(training.network, []).append(training)
        option, count = _split(training, ranks, base_ranks)
        if count > 1:
            batches.setdefault((option, training.task, training.recipe), training)
    for training in batches.values():
        _check_batch(training, plan, *_split(training, ranks, base_ranks))
    for same in by_network.values():
        _check_step(min(same, key=_frozen_layers), plan)
    for same in by_network.values():
        if split := [training for training in same if _split(training, ranks, base_ranks)[1] > 1]:
            training = min(split, key=_frozen_layers)
            _check_parts(training, plan, *_split(training, ranks, base_ranks))
    leave_one = {task for task in {training.task for training in trainings} if _leaves_one(task, plan)}
    for same in by_network.values():
        if with_one := [training for training in same if training.task in leave_one]:
            _check_single_image(with_one[0], plan)
    looks: dict[tuple[TaskSpec, int | None, int], list[Look]] = {}
    for spec in specs:
        for look in looks_of(spec):
            looks.setdefault((look.task, look.images, look.seed), []).append(look)
    for of_draw in looks.values():
        _check_looks(of_draw, plan, images)


def _split(training: TrainingSpec, ranks: int, base_ranks: int) -> tuple[str, int]:
    """The option that says over how many processes a training is split, and how many."""
    if isinstance(training, PretrainSpec) and base_ranks != ranks:
        return "base_gpus_per_trial", base_ranks
    return "gpus_per_trial", ranks


def _frozen_layers(training: TrainingSpec) -> int:
    return training.surgery.frozen_layers


def _leaves_one(task: TaskSpec, plan: Plan[Cell, Any]) -> bool:
    """Whether the last batch of an evaluation on a task holds a single image."""
    data = load_task(plan.datasets[task.fingerprint], task.plain)
    return any(len(part.rows) % EVALUATION_BATCH == 1 for part in (data.train, data.test))


def _check_batch(training: TrainingSpec, plan: Plan[Cell, Any], option: str, count: int) -> None:
    """Check that a batch can be split evenly over ``count`` processes."""
    dataset = plan.datasets[training.task.fingerprint]
    batch_size = min(training.recipe.batch_size, len(load_task(dataset, training.task.plain).train.rows))
    if batch_size % count:
        few = "" if batch_size == training.recipe.batch_size else f", all that {training.task.label} has"
        choices = [str(n) for n in range(1, batch_size + 1) if batch_size % n == 0][:_CHOICES]
        raise UserError(
            f"{option}={count} must divide the {number_of(batch_size, 'image')} of a batch{few}: choose from "
            f"{', '.join(choices)}, or another recipe.batch_size"
        )


def _check_parts(training: TrainingSpec, plan: Plan[Cell, Any], option: str, count: int) -> None:
    """Check that only batch normalisation looks at more than one image of a batch."""
    try:
        try_parts(training, plan.datasets[training.task.fingerprint])
    except ValueError as error:
        raise UserError(
            f"{option}={count} cannot split the batches of network={training.network.name}: {error}, and only batch "
            f"normalisation is computed over all parts; leave {option} out"
        ) from error


def _check_step(training: TrainingSpec, plan: Plan[Cell, Any]) -> None:
    dataset, recipe, name = plan.datasets[training.task.fingerprint], training.recipe, training.network.name
    try:
        try_step(training, dataset)
    except Exception as error:  # whatever a network of the user's raises
        reason = first_line(error)
        if recipe.batch_size > 1:
            raise UserError(f"network={name} cannot be trained on such images: {reason}") from error
        raise UserError(f"recipe.batch_size=1 is too small for network={name}: {reason}") from error


def _check_single_image(training: TrainingSpec, plan: Plan[Cell, Any]) -> None:
    try:
        try_single_image(training, plan.datasets[training.task.fingerprint])
    except Exception as error:  # whatever a network of the user's raises
        raise UserError(
            f"network={training.network.name} does not take an image alone, and {training.task.label} leaves one "
            f"over in an evaluation: {first_line(error)}"
        ) from error


def _check_looks(looks: list[Look], plan: Plan[Cell, Any], images: str) -> None:
    """Check what looks at one draw of images."""
    from raytransfer.trials.measuring import labels_drawn  # the measures' libraries take a second to import

    first = looks[0]
    labels = labels_drawn(plan.datasets[first.task.fingerprint], first.task, first.images, first.seed)
    usable = int((np.bincount(labels) >= 2).sum())
    for look in looks:
        drawn = f"of {look.task.label} {len(labels)} are drawn at seed {look.seed}"
        option = images if look.least_labels else "probe_images"
        more = f"raise {option}={look.images}" if len(labels) == look.images else "its classes need more images"
        if len(labels) < look.least_images:
            raise UserError(f"{look.measure} takes at least {look.least_images} images, and {drawn}: {more}")
        if usable < look.least_labels:
            wanted = f"{number_of(look.least_labels, 'label')} with two images or more"
            raise UserError(f"{look.measure} takes at least {wanted}, and {drawn}, {usable} such labels: {more}")
