"""A task: some classes of a data set, a draw of their training images, and dials that change both."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raytransfer.errors import UserError
from raytransfer.specs import Dials, TaskSpec
from raytransfer.tasks.dataset import Dataset
from raytransfer.tasks.decode import Labels
from raytransfer.tasks.dialled import DialledImages, Relabelling, dialled_images, merged_into
from raytransfer.tasks.dials import INPUT_DIALS, LABEL_DIALS, check_dials
from raytransfer.tasks.draws import stable_permutation
from raytransfer.tasks.streamed import ImageRows
from raytransfer.words import number_of

_LABEL_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class Part:
    """The training or the test images of a task, read-only: rows of the data set's images, which are not copied.

    Attributes:
        images: (N, C, H, W), all images of the data set, C = 1 (grey) or 3 (RGB), values 0..255. Where dials have
            changed the pixels of an array, it holds the task's images only.
        rows: (n,) which of these are the task's, ascending.
        labels: (n,) 0..K-1; without dials, label i is the class ``spec.classes[i]``.
    """

    images: ImageRows
    rows: Labels
    labels: Labels


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task's images and labels.

    Attributes:
        train: The training images drawn for it.
        test: All test images of its classes.
        channel_mean: (C,) mean over the whole data set's training images, before any dial, in 0..255 units.
        channel_std: (C,) standard deviation likewise, above 0.
    """

    train: Part
    test: Part
    channel_mean: npt.NDArray[np.float32]
    channel_std: npt.NDArray[np.float32]


def task_spec(
    dataset: Dataset,
    classes: Sequence[int],
    train_per_class: int | None,
    draw_seed: int,
    dials: Mapping[str, Any] | None = None,
    paired_with: Sequence[int] = (),
) -> TaskSpec:
    """Check what is asked of a task, and describe it.

    The same images give the same spec: where ``train_per_class`` takes every image, it becomes None and the seed 0.

    Args:
        dataset: The data set.
        classes: Class indices, in any order, at least 2.
        train_per_class: Training images to draw of each class, at least 1, or None for all.
        draw_seed: Seed of the draw, and of the dials, at least 0.
        dials: Value of each dial; a value that is None or changes nothing is dropped.
        paired_with: Classes of another task whose random numbers this one shares; empty, or its own classes, for none.

    Returns:
        The task, with its classes ascending.

    Raises:
        UserError: A class is out of range or named twice, or has fewer training images than asked for; or a dial
            cannot take its value, or not with streamed images.
    """
    count = len(dataset.class_names)
    for index in classes:
        if not 0 <= index < count:
            raise UserError(f"class index {index} is out of range: {dataset.name} has classes 0..{count - 1}")
    if len(set(classes)) < max(2, len(classes)):
        raise UserError(f"task classes {list(classes)} are no task: it takes at least 2 different classes")
    if draw_seed < 0:
        raise UserError(f"draw_seed is {draw_seed}: it must be at least 0")
    ascending = tuple(sorted(int(index) for index in classes))
    pair = tuple(sorted(int(index) for index in paired_with))
    counts = np.bincount(dataset.train_labels, minlength=count)
    if train_per_class is not None:
        _check_enough(dataset, ascending, train_per_class, counts)
        if all(counts[index] == train_per_class for index in ascending):
            train_per_class = None
    spec = TaskSpec(
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        classes=ascending,
        train_per_class=train_per_class,
        draw_seed=0 if train_per_class is None else draw_seed,
        dials=check_dials(
            dict(dials or {}),
            shape=dataset.train_images.shape[1:],
            classes=len(ascending),
            per_class=train_per_class or int(min(counts[index] for index in ascending)),
            seed=draw_seed,
        ),
        paired_with=() if pair == ascending else pair,
    )
    if dataset.streamed and spec.dials is not None and (spec.dials.split or spec.dials.labelling != "class"):
        raise UserError(
            f"{dials_label(spec.dials).strip()} needs the brightness of all images of {dataset.name} whenever one of "
            "its tasks is opened, and they are decoded as they are taken: give decoded=cache, or other dials"
        )
    return dataclasses.replace(spec, label=task_label(dataset, spec))


def _check_enough(dataset: Dataset, classes: tuple[int, ...], wanted: int, counts: npt.NDArray[np.int64]) -> None:
    if wanted < 1:
        raise UserError(f"train_per_class is {wanted}: it must be at least 1, or left out for all images")
    fewest = min(classes, key=lambda index: int(counts[index]))
    if counts[fewest] < wanted:
        raise UserError(
            f"train_per_class is {wanted}, but class {dataset.class_names[fewest]!r} of {dataset.name} has only "
            f"{number_of(int(counts[fewest]), 'training image')}: ask for at most {counts[fewest]}"
        )


def load_task(dataset: Dataset, spec: TaskSpec) -> TaskData:
    """Find a task's images in its data set.

    The draw depends on the seed and on the task's stream. Tasks with different classes draw different images of a class
    that they share; a task draws the same images whatever its dials; a larger draw contains every smaller one. Images
    keep the data set's order.

    Args:
        dataset: The data set that the spec was made for.
        spec: The task.

    Returns:
        Its training and test images, as rows of the data set's arrays.

    Raises:
        UserError: The spec was made for other data, or asks for what they do not have.
    """
    test = _rows_of(dataset.test_labels, spec.classes)
    return _assembled(dataset, spec, _training_rows(dataset, spec), test)


def sample_task(dataset: Dataset, spec: TaskSpec, images: int, seed: int) -> TaskData:
    """Draw some of a task's training images, regardless of labels; its test part holds the same images.

    A task draws the same images whatever its dials. Dials are applied to these images only, so this is faster than
    ``load_task``.

    Args:
        dataset: The data set that the spec was made for.
        spec: The task.
        images: How many, at most.
        seed: Seed of the draw.

    Raises:
        UserError: As for ``load_task``.
    """
    rows = _training_rows(dataset, spec)
    drawn = rows[np.sort(stable_permutation(len(rows), "measured", seed)[:images])]
    task = _assembled(dataset, spec, drawn, np.empty(0, dtype=np.int64))
    return dataclasses.replace(task, test=task.train)


def _rows_of(labels: Labels, classes: tuple[int, ...]) -> Labels:
    """The rows with labels of these classes, ascending."""
    return np.flatnonzero(np.isin(labels, classes))


def _training_rows(dataset: Dataset, spec: TaskSpec) -> Labels:
    """The task's rows of the data set's training images, ascending."""
    if spec.fingerprint != dataset.fingerprint:
        raise UserError(
            f"the task was made for {spec.dataset} with fingerprint {spec.fingerprint}, "
            f"this is {dataset.name} with {dataset.fingerprint}"
        )
    if spec.train_per_class is None:
        return _rows_of(dataset.train_labels, spec.classes)
    counts = np.bincount(dataset.train_labels, minlength=len(dataset.class_names))
    _check_enough(dataset, spec.classes, spec.train_per_class, counts)
    of_classes = np.split(np.argsort(dataset.train_labels, kind="stable"), np.cumsum(counts)[:-1])
    chosen = []
    for index in spec.classes:
        order = stable_permutation(len(of_classes[index]), spec.draw_seed, spec.stream, index)
        chosen.append(of_classes[index][order[: spec.train_per_class]])
    return np.sort(np.concatenate(chosen))


def _assembled(dataset: Dataset, spec: TaskSpec, train: Labels, test: Labels) -> TaskData:
    """The task with these rows of training and of test images."""
    parts = [
        Part(images=images, rows=rows, labels=np.searchsorted(spec.classes, labels[rows]).astype(np.int64))
        for images, labels, rows in (
            (dataset.train_images, dataset.train_labels, train),
            (dataset.test_images, dataset.test_labels, test),
        )
    ]
    if spec.dials is not None:
        parts = _dialled(dataset, spec, spec.dials, parts)
    for part in parts:
        for array in (part.rows, part.labels):  # read-only, as the mapped images are
            array.setflags(write=False)
    return TaskData(train=parts[0], test=parts[1], channel_mean=dataset.channel_mean, channel_std=dataset.channel_std)


def _dialled(dataset: Dataset, spec: TaskSpec, dials: Dials, parts: Sequence[Part]) -> list[Part]:
    """The parts as the dials make them."""
    every = _rows_of(dataset.train_labels, spec.classes)
    own = np.searchsorted(spec.classes, dataset.train_labels[every])
    relabel = Relabelling(dials, len(spec.classes), dataset.train_images, every, own)
    pixels_change = bool(_turned(dials, INPUT_DIALS))
    changed = []
    for name, part in zip(("train", "test"), parts, strict=True):
        key = f"{spec.fingerprint} {name}"
        images, rows = part.images, part.rows
        if not len(rows):  # of a sample, which has no test images of its own
            changed.append(part)
            continue
        if pixels_change and dataset.streamed:
            images = DialledImages(images, dials, key)
        elif pixels_change:
            images, rows = dialled_images(images, rows, dials, key), np.arange(len(rows))
        changed.append(Part(images=images, rows=rows, labels=relabel(part.images, part.rows, part.labels, key)))
    return changed


def label_names(dataset: Dataset, spec: TaskSpec) -> tuple[str, ...]:
    """Name each of a task's labels, such as ``digits/3``, ``digits/3+5`` or ``digits/3 part 1 of 2``.

    Labels of two tasks mean the same if their names are equal. Random labels do not change the names.
    """
    names = [dataset.class_names[index] for index in spec.classes]
    if spec.dials is not None and spec.dials.labelling == "brightness":
        names = [f"{'+'.join(names)} part {i + 1} of {len(names)}" for i in range(len(names))]
    if spec.dials is not None and spec.dials.merged is not None:
        groups = merged_into(len(spec.classes), spec.dials.merged, spec.dials.seed)
        names = [
            "+".join(name for name, group in zip(names, groups, strict=True) if group == label)
            for label in range(spec.dials.merged)
        ]
    if spec.dials is not None and spec.dials.split is not None:
        names = [f"{name} part {i + 1} of {spec.dials.split}" for name in names for i in range(spec.dials.split)]
    return tuple(f"{dataset.name}/{name}" for name in names)


def task_label(dataset: Dataset, spec: TaskSpec) -> str:
    """Short name of a task for tables, such as ``digits[0 3 5 6 9]`` or ``digits[0 3 5 6 9] 25/class``.

    A long list of classes is replaced by its length and a hash: ``cifar100[50 classes 1f2e3d]``.
    """
    drawn = "" if spec.train_per_class is None else f" {spec.train_per_class}/class"
    pair = f" drawn as [{_listed(dataset, spec.paired_with)}]" if spec.paired_with else ""
    return f"{dataset.name}[{_listed(dataset, spec.classes)}]{drawn}{dials_label(spec.dials)}{pair}"


def _listed(dataset: Dataset, classes: tuple[int, ...]) -> str:
    names = [dataset.class_names[index] for index in classes]
    listed = (", " if any(" " in name for name in names) else " ").join(names)
    if len(listed) > _LABEL_LENGTH:
        digest = hashlib.sha256(repr(classes).encode()).hexdigest()[:6]
        listed = f"{len(names)} classes {digest}"
    return listed


def dials_label(dials: Dials | None) -> str:
    """Dials that change something, such as `` blur_px=1 random_labels=0.5``; empty for none."""
    if dials is None:
        return ""
    turned = _turned(dials, INPUT_DIALS + LABEL_DIALS)
    return "".join(f" {name}" if value is True else f" {name}={_short(value)}" for name, value in turned.items())


def _turned(dials: Dials, names: Sequence[str]) -> dict[str, Any]:
    """Values of those of the named dials that change something."""
    values = {name: getattr(dials, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(Dials(), name)}


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
