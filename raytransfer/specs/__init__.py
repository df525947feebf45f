"""What a trial is: frozen dataclasses whose content is their identity.

A spec holds only what can change a result. Paths, workers, devices and slot sizes live elsewhere, so the same spec in
two sweeps, or on two machines, is one run.
"""

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from raytransfer.errors import UserError

HASH_VERSION = 1
"""Raised whenever the same content would no longer give the same result; it starts every identity anew."""

_ID_LENGTH = 16  # 64 bits: a clash among a million trials has a chance of about 3 in 10^8


@dataclass(frozen=True, kw_only=True)
class Dials:
    """How a task's images and labels differ from its data set's. Several compose, pixels in the order given here.

    The labels are made from the images as they were, training and test images alike: a task is a distribution of both.

    Attributes:
        resolution_px: Side to which images are reduced, by area, before they are enlarged again, bilinearly; None
            leaves them.
        blur_px: Standard deviation of a Gaussian blur.
        grey: Share of colour taken out, 0..1: 1 leaves luma (Rec. 601) in all channels.
        inverted: Whether pixels x become 255 - x.
        noise: Standard deviation of Gaussian noise on pixels of 0..255, the same for an image whenever it is seen.
        shuffle_px: Side of square blocks that one permutation shuffles in all images alike; None leaves them
            (Neyshabur et al. 2020, section 3).
        labelling: ``class``, or ``brightness`` for as many labels as there were classes, by the rank of an image's mean
            pixel.
        merged: Labels into which the classes are merged, at random and as evenly as they go; None leaves them.
        split: Parts into which every class is split, each a label, by the rank of an image's mean pixel in its class.
        random_labels: Share of images, 0..1, whose label is drawn anew from all labels alike (Zhang et al. 2017).
        seed: Seed of the permutation, the noise, the merging and the random labels; 0 where none is.
    """

    resolution_px: int | None = None
    blur_px: float = 0.0
    grey: float = 0.0
    inverted: bool = False
    noise: float = 0.0
    shuffle_px: int | None = None
    labelling: Literal["class", "brightness"] = "class"
    merged: int | None = None
    split: int | None = None
    random_labels: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Some classes of one data set, which of their training images, and how both are changed.

    Attributes:
        dataset: The data set's name, for people; no part of the identity.
        label: The task's name in tables, likewise.
        fingerprint: Hash of its decoded images and labels, so that other data under the same name is another task.
        classes: Class indices in the data set, ascending; without dials, the task's label i is ``classes[i]``.
        train_per_class: Training images drawn of each class, or None for all. Test images are always all.
        draw_seed: Seed of that draw; 0 where all images are used.
        dials: What is changed; None where nothing is.
    """

    dataset: str
    label: str = ""
    fingerprint: str
    classes: tuple[int, ...]
    train_per_class: int | None
    draw_seed: int
    dials: Dials | None = None

    @property
    def label_count(self) -> int:
        """Number of different labels: the outputs that a network needs."""
        if self.dials is None:
            return len(self.classes)
        return (self.dials.merged or len(self.classes)) * (self.dials.split or 1)


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A network of the zoo and how its weights start.

    Attributes:
        name: Key of ``raytransfer.networks.zoo.ZOO``.
        init: ``network`` for the network's own initialisation, ``kaiming`` (normal, fan-in, ReLU gain) or ``gaussian``
            (standard deviation 0.01) for all its weights; the biases are zero in the latter two.
    """

    name: str
    init: Literal["network", "kaiming", "gaussian"] = "network"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is trained: SGD with momentum on the cross-entropy.

    Attributes:
        steps: Optimiser steps.
        batch_size: Images a step; a task with fewer training images takes all of them each step.
        learning_rate: Peak learning rate.
        momentum: Momentum of SGD (not Nesterov's).
        weight_decay: Coefficient of the L2 penalty.
        schedule: ``constant``, ``step`` (times ``gamma`` at each milestone) or ``cosine`` (to zero).
        milestones: Where the step schedule drops, as fractions of ``steps``.
        gamma: Factor of each drop of the step schedule.
        warmup_steps: Steps over which the learning rate first rises linearly.
        bias_lr_multiplier: Learning rate of biases relative to that of weights (2 in the 2014 recipe).
        bias_decay_multiplier: Weight decay of biases relative to that of weights (0 in the 2014 recipe).
        mirror: Whether each training image is mirrored with probability one half.
        pad_px: Zero padding on every side before a training image is cropped.
        crop_px: Side of the random training crop and the central test crop; None for the image's own side.
        normalization: ``standard`` (zero mean and unit variance per channel of the data set's training images) or
            ``mean`` (only the mean is subtracted, pixels stay on 0..255, as in the 2014 recipe).
        precision: ``fp32``, or ``bf16`` for autocast to bfloat16.
        channels_last: Whether images and weights lie in channels-last memory.
        evaluations: Evaluations on the test images, evenly spaced, the last after the last step.
    """

    steps: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup_steps: int = 0
    bias_lr_multiplier: float = 1.0
    bias_decay_multiplier: float = 1.0
    mirror: bool = False
    pad_px: int = 0
    crop_px: int | None = None
    normalization: Literal["standard", "mean"] = "standard"
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    evaluations: int = 20


@dataclass(frozen=True, kw_only=True)
class PretrainSpec:
    """A base network: all layers start at random and train on one task.

    Attributes:
        task: What it is trained on.
        network: The network.
        recipe: How it is trained.
        seed: Seed of the weights, the batches and the augmentation.
    """

    task: TaskSpec
    network: NetworkSpec
    recipe: Recipe
    seed: int

    @functools.cached_property
    def id(self) -> str:
        """Identity of the run, from its content."""
        return _identity(self)


@dataclass(frozen=True, kw_only=True)
class TransferSpec:
    """A network whose first layers are copied from a base and whose others start anew.

    Attributes:
        base: The base copied from, or None for the control whose first layers stay random (RnB).
        pretrain_step: The step of the base's checkpoint; ``base.recipe.steps`` is the finished base, None goes with
            no base.
        task: The target task.
        network: The network, the base's where there is one.
        recipe: How the target is trained.
        n_layers: Layers copied, counted from the input: 1..N-1 of a network of N layers.
        frozen: Whether the copied layers stay as they are, or train with the rest.
        seed: Seed of the fresh weights, the batches and the augmentation.
    """

    base: PretrainSpec | None
    pretrain_step: int | None
    task: TaskSpec
    network: NetworkSpec
    recipe: Recipe
    n_layers: int
    frozen: bool
    seed: int

    def __post_init__(self) -> None:
        if (self.base is None) != (self.pretrain_step is None):
            raise UserError("a transfer names a base and a pretrain step, or neither")
        if self.base is not None and self.base.network != self.network:
            raise UserError(f"a transfer copies {self.base.network} into {self.network}: both must be the same network")
        if self.base is None and not self.frozen:
            raise UserError("a transfer without a base is the frozen random control: fine-tuned, it would be a base")

    @functools.cached_property
    def id(self) -> str:
        """Identity of the run, from its content."""
        return _identity(self)


@dataclass(frozen=True, kw_only=True)
class DistanceSpec:
    """One measure of how far apart two tasks are.

    Attributes:
        measure: Key of ``raytransfer.distances.DISTANCES``.
        source: The task to come from.
        target: The task to go to.
        probe: The network whose outputs, or weights, are looked at; None where pixels or names of classes are.
        n_layers: Layers of the probe that the images pass; None without a probe.
        images: Training images of each task, at most, that are looked at, drawn whatever their labels.
        seed: Seed of their draw.
        tree: The hierarchy of class names as canonical JSON, for a measure that takes one.
    """

    measure: str
    source: TaskSpec
    target: TaskSpec
    probe: PretrainSpec | None = None
    n_layers: int | None = None
    images: int
    seed: int
    tree: str | None = None

    @functools.cached_property
    def id(self) -> str:
        """Identity of the measurement, from its content."""
        return _identity(self)


@dataclass(frozen=True, kw_only=True)
class ScoreSpec:
    """One score of what a trained network makes of a target task's images.

    Attributes:
        measure: Key of ``raytransfer.scores.SCORES``.
        base: The network.
        pretrain_step: The step of its checkpoint.
        task: The target task; its training images alone are looked at.
        n_layers: Layers that the images pass; N for the whole network with its head.
        reference: The target's own network, for a similarity; None else.
        images: Images looked at, at most, drawn whatever their labels.
        seed: Seed of their draw.
    """

    measure: str
    base: PretrainSpec
    pretrain_step: int
    task: TaskSpec
    n_layers: int
    reference: PretrainSpec | None = None
    images: int
    seed: int

    @functools.cached_property
    def id(self) -> str:
        """Identity of the measurement, from its content."""
        return _identity(self)


TrainingSpec = PretrainSpec | TransferSpec


@dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """One look at a trained network's weights, gradients or loss at one step of its training.

    Attributes:
        probe: Key of ``raytransfer.probes.PROBES``.
        trained: The training whose network is looked at.
        step: The step of its checkpoint, 0..recipe.steps.
        since: The step of an earlier checkpoint that it is compared with; None for none.
        against: What the other network is to this one: ``base``, ``scratch`` or ``twin``; None without one.
        other: The training of the other network.
        other_step: The step of its checkpoint.
        images: Training images of the task looked at, at most, drawn whatever their labels; None for a probe that
            looks at none, or at all.
        eigenvalues: How many of the Hessian's; None for other probes.
        points: Points on a side of a landscape; None for other probes.
        seed: Seed of the draw of images, and of random directions.
    """

    probe: str
    trained: TrainingSpec
    step: int
    since: int | None = None
    against: Literal["base", "scratch", "twin"] | None = None
    other: TrainingSpec | None = None
    other_step: int | None = None
    images: int | None = None
    eigenvalues: int | None = None
    points: int | None = None
    seed: int

    @functools.cached_property
    def id(self) -> str:
        """Identity of the look, from its content."""
        return _identity(self)


@dataclass(frozen=True, kw_only=True)
class SimulationSpec:
    """One simulation of the two-layer theory: a network of one hidden layer, trained on P and then on Q.

    Attributes:
        source: The task P, of two labels.
        target: The task Q, of two labels.
        width: Hidden units.
        images: Training images of each task, at most, drawn whatever their labels.
        seed: Seed of the draw and of the initial weights.
    """

    source: TaskSpec
    target: TaskSpec
    width: int
    images: int
    seed: int

    @functools.cached_property
    def id(self) -> str:
        """Identity of the simulation, from its content."""
        return _identity(self)


MeasureSpec = DistanceSpec | ScoreSpec | ProbeSpec | SimulationSpec
TrialSpec = TrainingSpec | MeasureSpec

_KINDS = {
    "pretrain": PretrainSpec,
    "transfer": TransferSpec,
    "distance": DistanceSpec,
    "score": ScoreSpec,
    "probe": ProbeSpec,
    "simulation": SimulationSpec,
}


def to_json(spec: TrialSpec) -> str:
    """Canonical JSON of a spec: sorted keys, no spaces, floats as floats; ``from_json`` reads it back.

    Raises:
        UserError: A float is infinite or not a number.
    """
    kind = next(name for name, cls in _KINDS.items() if isinstance(spec, cls))
    return json.dumps({"kind": kind, **_plain(spec)}, sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> TrialSpec:
    """The spec that ``to_json`` wrote."""
    content = json.loads(text)
    spec: TrialSpec = _build(_KINDS[content.pop("kind")], content)
    return spec


def _identity(spec: TrialSpec) -> str:
    """Hash of the canonical JSON without what the tasks in it are called."""
    content = json.loads(to_json(spec))
    _drop_names(content)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{HASH_VERSION}{canonical}".encode()).hexdigest()[:_ID_LENGTH]


def _drop_names(content: dict[str, Any]) -> None:
    """Take the names of tasks out of a spec's JSON: their fingerprints and classes say what they are."""
    if "fingerprint" in content:
        del content["dataset"], content["label"]
        if content["dials"] is None:  # as before there were dials, so that stores made then still match
            del content["dials"]
    for value in content.values():
        if isinstance(value, dict):
            _drop_names(value)


def _plain(spec: Any) -> dict[str, Any]:
    """A dataclass as JSON types; what is declared a float becomes one, so that 1 and 1.0 are the same value."""
    hints = _hints(type(spec))  # type: ignore[arg-type]
    return {
        field.name: _plain_value(getattr(spec, field.name), hints[field.name]) for field in dataclasses.fields(spec)
    }


def _plain_value(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain(value)
    if isinstance(value, tuple):
        return [_plain_value(item, typing.get_args(hint)[0]) for item in value]
    if hint is float:
        if not math.isfinite(value):
            raise UserError(f"{value} is no value of a spec: its numbers must be finite")
        return float(value) + 0.0  # -0.0 becomes 0.0
    return value


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(cls: Any, content: dict[str, Any]) -> Any:
    hints = _hints(cls)
    return cls(**{name: _build_value(hints[name], value) for name, value in content.items()})


def _has_fields(cls: Any, content: dict[str, Any]) -> bool:
    """Whether a dataclass has all that the content has; of several that do, the first listed has no more than that."""
    return dataclasses.is_dataclass(cls) and {field.name for field in dataclasses.fields(cls)} >= set(content)


def _build_value(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        return _build(next(option for option in options if _has_fields(option, value)), value)
    return value
