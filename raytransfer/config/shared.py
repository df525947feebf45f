"""What every sweep can be asked for, and every sweep of trainings, and every sweep over pairs of tasks.

An experiment adds options of its own in a class below one of these. What a value may be stands in the class, too:
``RULES``, ``CHOICES``, ``EFFECTS`` and ``FOLLOWERS``, which ``raytransfer.config.rules`` explains.
"""

import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raytransfer.config.rules import (
    AT_LEAST_ONE,
    BELOW_ONE,
    FRACTIONS,
    NOT_NEGATIVE,
    POSITIVE,
    REPEATS,
    UP_TO_ONE,
    Effect,
    Rule,
    at_least,
    choices_of,
    probed,
)
from raytransfer.errors import UserError
from raytransfer.specs import NetworkSpec, Recipe

MODES = ("cached", "retry", "force", "read-only")
BACKENDS = ("ray", "in-process")
WHERE_AND_HOW = {
    *("data_dir", "cache_dir", "out", "mode", "backend", "slots", "gpus_per_trial", "base_gpus_per_trial", "memory_gb"),
    *("price_per_hour", "retry_s", "save_every_s", "checkpoints", "tensorboard", "mlflow", "wandb"),
}
"""Options that say where and how a sweep runs: they are no part of what a trial is."""

_MOST_RANKS = 1024
_PASSWORD = re.compile("//[^/@]*:[^/@]+@")


def reads_gamma(config: Any) -> bool:
    """Whether some training multiplies its learning rate by ``recipe.gamma``."""
    return config.recipe.schedule == "step" or "step" in getattr(config, "schedules", ())


def _reads_data(config: Any) -> bool:
    tasks = config.tasks
    return not isinstance(tasks, dict) or any("data" not in task for task in tasks.values() if isinstance(task, dict))


def trains_bases(config: Any) -> bool:
    """Whether a sweep trains what it transfers from, and does not read weights of others."""
    return getattr(config, "weights", None) is None


def _is_share(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0.01 <= value <= 1 or (value <= _MOST_RANKS and float(value).is_integer() and value > 0)


@dataclass
class SweepConfig:
    """What every sweep has: its data, and where and how it runs.

    Attributes:
        data: Data set: digits, a torchvision classification set by name, or a folder, Parquet file or tar shards of
            images, on a disk or at an address (s3://, gs://, hf://).
        data_dir: Folder in which named data sets lie, or are downloaded to.
        cache_dir: Folder on each machine for decoded images.
        decoded: When images of a folder, Parquet files or tar shards are decoded: once, into cache_dir (cache), or
            whenever they are taken (stream); auto streams what would take more than cache_gb. It changes no result.
        cache_gb: That bound, in 10^9 bytes: images x height x width x 3, or x 1 with channels=1.
        image_size_px: Side to which images are resized and cropped when they are decoded; null keeps their own.
        interpolation: How images are resized then: bilinear or bicubic.
        channels: 1 to decode colour images as grey, 3 to decode grey ones as colour; null keeps their own.
        label_column: Label column of Parquet files that have several, or the field of tar shards' JSON for the label.
        train_per_class: Training images drawn of each class; null for all.
        seeds: Repeats of everything, with seeds 0, 1, ...
        out: Folder or s3:// or gs:// URI of the store; sweeps that share one share their trials.
        mode: cached (run what is missing, report what failed), retry (run what failed, too), force (run everything
            again) or read-only (run nothing, report what is there).
        backend: ray (many trials at once) or in-process (one after the other in this process, for debugging).
        slots: Trials at once; null for as many as the machine or cluster holds. On a cluster that starts machines when
            they are wanted it says for how many trials.
        gpus_per_trial: GPU share of a slot where there are GPUs, 0.01 to 1, or auto to measure first how many trials
            are best run side by side on one; without a GPU that changes nothing, which is said: a slot is a CPU core.
            Where trials share GPUs of one machine, the sweep starts NVIDIA's Multi-Process Service if none runs.
            A whole number from 2 on splits every training over as many GPUs of one machine, or over as many CPU cores
            where there is no GPU: each takes its part of every batch, gradients are averaged, and batch normalisation
            looks at all parts. Results then differ by rounding, and those of networks with dropout as by another seed.
            Networks in which anything else looks at several images, or keeps statistics of them, are refused.
        memory_gb: Memory of a slot, or of each process of a training that is split, in 10^9 bytes, for its images on a
            GPU, which are streamed if they do not fit, and for outputs of frozen layers, which are computed again if
            they do not fit.
        price_per_hour: Price of an hour of one GPU, or of one CPU core where there is no GPU, for what --plan says a
            sweep costs; null to say nothing.
        retry_s: Seconds for which a storage that does not answer is tried again before the sweep ends.
        save_every_s: Seconds between two savings of the state from which a training goes on if its process dies.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "image_size_px": AT_LEAST_ONE,
        "channels": (lambda v: v in (1, 3), "be 1, 3 or null"),
        "train_per_class": AT_LEAST_ONE,
        "seeds": REPEATS,
        "slots": AT_LEAST_ONE,
        "gpus_per_trial": (
            lambda v: v == "auto" or _is_share(v),
            f"lie in 0.01..1, for a share of a GPU, be a whole number of GPUs up to {_MOST_RANKS}, or be auto",
        ),
        "cache_gb": NOT_NEGATIVE,
        "memory_gb": NOT_NEGATIVE,
        "price_per_hour": NOT_NEGATIVE,
        "retry_s": NOT_NEGATIVE,
        "save_every_s": NOT_NEGATIVE,
    }
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {
        "mode": MODES,
        "backend": BACKENDS,
        "interpolation": ("bilinear", "bicubic"),
        "decoded": ("auto", "cache", "stream"),
    }
    EFFECTS: ClassVar[dict[str, Effect]] = {
        "interpolation": (lambda c: c.image_size_px is not None, "image_size_px"),
        "gpus_per_trial": (lambda c: c.backend == "ray" or c.ranks > 1, "backend=ray"),
        "cache_gb": (lambda c: c.decoded == "auto", "decoded=auto"),
    }

    data: str = "digits"
    data_dir: str = "~/.cache/raytransfer-data"
    cache_dir: str = "~/.cache/raytransfer"
    decoded: str = "auto"
    cache_gb: float = 50.0
    image_size_px: int | None = None
    interpolation: str = "bilinear"
    channels: int | None = None
    label_column: str | None = None
    train_per_class: int | None = None
    seeds: int = 2
    out: str = "results"
    mode: str = "cached"
    backend: str = "ray"
    slots: int | None = None
    gpus_per_trial: Any = 1.0
    memory_gb: float = 1.0
    price_per_hour: float | None = None
    retry_s: float = 600.0
    save_every_s: float = 60.0

    def check(self) -> None:
        """Check values that belong together.

        Raises:
            UserError: They do not fit each other.
        """
        if self.backend == "in-process" and (self.slots or 1) > 1:
            raise UserError(
                f"slots={self.slots} must be 1 or null with backend=in-process, which runs one trial at a time"
            )
        if self.ranks > 1 and not isinstance(self, TrainingConfig):
            raise UserError(f"gpus_per_trial={self.gpus_per_trial} must not exceed 1: there are no trainings to split")

    def check_given(self, given: Collection[str]) -> None:
        """Check options of the command line that ask for what another option has to say.

        Raises:
            UserError: It does not.
        """

    @property
    def ranks(self) -> int:
        """How many processes a training is split over."""
        return 1 if self.gpus_per_trial == "auto" else max(1, int(self.gpus_per_trial))

    @property
    def base_ranks(self) -> int:
        """The same of a base."""
        return self.ranks

    @property
    def memory_bytes(self) -> int:
        """``memory_gb`` in bytes, at most as many as an address can count."""
        return int(min(self.memory_gb * 1e9, sys.maxsize))


@dataclass
class TrainingConfig(SweepConfig):
    """What every sweep of trainings has: network and recipe, and what is looked at afterwards.

    Attributes:
        network: Network: convnet8, caffenet, alexnet, resnet18, torchvision/NAME, timm/NAME, or
            package.module:function, a function of num_classes that builds a module of one's own. raytransfer networks
            NAME shows how it is cut into layers.
        network_args: What its builder is given beside num_classes, as {patch_size: 4}.
        granularity: How finely a network is cut into layers: block (wherever one tensor alone passes), or fine or
            coarse, as timm groups the parameters of its networks.
        stages: Layers of one's own in place of that, as {stem: [conv1, bn1], body: [layer*], head: [fc]}: of each, in
            order, paths of modules or patterns of names; null for none.
        init: Initial weights: network (its own), kaiming or gaussian (standard deviation 0.01).
        n_layers: Layers to copy: spread (1 to N-1, or 8 of these spread evenly where there are more), all (1 to N-1),
            or a list of numbers, layer names or fractions of the depth (0.5, and 1.0 for N-1).
        recipe: How every network is trained.
        probes: Probes of every trained network, a list; raytransfer list probes shows all.
        probe_steps: Training steps at which probes look, a list of steps and last; each probe takes those that make
            sense for it (flatness none before the head has trained, a landscape the last).
        probe_images: Training images, at most, that a probe looks at.
        eigenvalues: Largest eigenvalues of the Hessian that flatness takes.
        landscape_points: Points on a side of a landscape, odd.
        base_gpus_per_trial: GPUs of one machine, or CPU cores where there is no GPU, over which every base is split, 2
            or more, in place of what gpus_per_trial says; null for that.
        checkpoints: needed (a checkpoint goes once every trial of the store that reads it has finished, but for the
            last one of a base) or all (none goes, and every training keeps its last).
        tensorboard: Folder for the learning curves of what trains, as runs for TensorBoard; null for none.
        mlflow: Tracking URI of MLflow for the same, such as http://host:5000 or sqlite:///mlflow.db; null for none.
        wandb: Project of Weights & Biases for the same; null for none. WANDB_MODE=offline in the environment writes
            runs that wandb sync sends.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "probe_images": at_least(4),
        "eigenvalues": AT_LEAST_ONE,
        "base_gpus_per_trial": (lambda v: 2 <= v <= _MOST_RANKS, f"lie in 2..{_MOST_RANKS}"),
        "landscape_points": (
            lambda v: v >= 3 and v % 2 == 1,
            "be odd and at least 3: its centre is the network itself",
        ),
        "recipe.steps": AT_LEAST_ONE,
        "recipe.batch_size": AT_LEAST_ONE,
        "recipe.learning_rate": POSITIVE,
        "recipe.momentum": BELOW_ONE,
        "recipe.beta1": BELOW_ONE,
        "recipe.beta2": BELOW_ONE,
        "recipe.weight_decay": NOT_NEGATIVE,
        "recipe.milestones": FRACTIONS,
        "recipe.gamma": POSITIVE,
        "recipe.warmup_steps": at_least(0),
        "recipe.bias_lr_multiplier": NOT_NEGATIVE,
        "recipe.bias_decay_multiplier": NOT_NEGATIVE,
        "recipe.label_smoothing": BELOW_ONE,
        "recipe.clip_norm": POSITIVE,
        "recipe.pad_px": at_least(0),
        "recipe.crop_px": AT_LEAST_ONE,
        "recipe.crop_area": (lambda v: 0 < v < 1, "lie above 0 and below 1: it is a share of an image's area"),
        "recipe.brightness": UP_TO_ONE,
        "recipe.contrast": UP_TO_ONE,
        "recipe.saturation": UP_TO_ONE,
        "recipe.hue": (lambda v: 0 <= v <= 0.5, "lie in 0..0.5: half of the circle is every hue"),
        "recipe.rand_augment": (lambda v: 0 <= v <= 16, "lie in 0..16: each is another pass over the image"),
        "recipe.rand_augment_magnitude": (lambda v: 0 <= v <= 30, "lie in 0..30, as torchvision has it"),
        "recipe.channel_mean": (lambda v: all(0 <= entry <= 1 for entry in v), "lie in 0..1: pixels are on that scale"),
        "recipe.channel_std": (
            lambda v: all(0 < entry <= 1 for entry in v),
            "lie above 0 and up to 1: pixels are on a scale of 0..1",
        ),
        "recipe.evaluations": AT_LEAST_ONE,
    }
    CHOICES: ClassVar[dict[str, Sequence[str]]] = {
        "checkpoints": ("needed", "all"),
        "init": choices_of(NetworkSpec)["init"],
        "granularity": choices_of(NetworkSpec)["granularity"],
        **{f"recipe.{name}": choices for name, choices in choices_of(Recipe).items()},
        "recipe.precision": ("auto", *choices_of(Recipe)["precision"]),
    }
    EFFECTS: ClassVar[dict[str, Effect]] = {
        "recipe.momentum": (lambda c: c.recipe.optimizer == "sgd", "recipe.optimizer=sgd"),
        "recipe.beta1": (lambda c: c.recipe.optimizer == "adamw", "recipe.optimizer=adamw"),
        "recipe.beta2": (lambda c: c.recipe.optimizer == "adamw", "recipe.optimizer=adamw"),
        "recipe.milestones": (lambda c: c.recipe.schedule == "step", "recipe.schedule=step"),
        "recipe.gamma": (reads_gamma, "recipe.schedule=step"),
        "recipe.pad_px": (
            lambda c: c.recipe.crop_area is None,
            "recipe.crop_area=null, as resized crops lie inside the image",
        ),
        "recipe.rand_augment_magnitude": (lambda c: c.recipe.rand_augment > 0, "recipe.rand_augment of at least 1"),
        "granularity": (lambda c: c.stages is None, "no stages of one's own"),
        "recipe.channel_mean": (lambda c: c.recipe.normalization == "given", "recipe.normalization=given"),
        "recipe.channel_std": (lambda c: c.recipe.normalization == "given", "recipe.normalization=given"),
        "probe_steps": (lambda c: bool(c.probes), "probes"),
        "probe_images": (lambda c: bool(c.probes), "probes"),
        "eigenvalues": (probed("flatness"), "flatness among the probes"),
        "base_gpus_per_trial": (trains_bases, "weights=null"),
        "landscape_points": (probed("landscape", "initial-landscape"), "a landscape among the probes"),
    }

    network: str = "convnet8"
    network_args: Any = field(default_factory=dict)
    granularity: str = "block"
    stages: Any = None
    init: str = "network"
    n_layers: Any = "spread"
    recipe: Any = None
    probes: list[str] = field(default_factory=list)
    probe_steps: Any = field(default_factory=lambda: ["last"])
    probe_images: int = 200
    eigenvalues: int = 20
    landscape_points: int = 21
    base_gpus_per_trial: int | None = None
    checkpoints: str = "needed"
    tensorboard: str | None = None
    mlflow: str | None = None
    wandb: str | None = None

    def check(self) -> None:
        """Check values that belong together.

        Raises:
            UserError: They do not fit each other.
        """
        super().check()
        if self.mlflow is not None and _PASSWORD.search(self.mlflow):
            raise UserError(
                "mlflow holds a password, which would end up in the sweep's files: give MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD in the environment"
            )
        recipe = self.recipe
        if recipe.warmup_steps > recipe.steps:
            raise UserError(f"recipe.warmup_steps={recipe.warmup_steps} must not exceed recipe.steps={recipe.steps}")
        if recipe.schedule == "step" and not recipe.milestones:
            raise UserError(
                "recipe.schedule=step drops at recipe.milestones, and there are none: give recipe.milestones=[...], or "
                "recipe.schedule=constant"
            )
        counts = {len(recipe.channel_mean), len(recipe.channel_std)}
        if recipe.normalization == "given" and (0 in counts or len(counts) > 1):
            raise UserError(
                f"recipe.normalization=given needs one entry for each channel in both recipe.channel_mean="
                f"{recipe.channel_mean} and recipe.channel_std={recipe.channel_std}"
            )

    @property
    def base_ranks(self) -> int:
        """How many processes a base is split over."""
        return self.base_gpus_per_trial or self.ranks


@dataclass
class WeightsConfig(TrainingConfig):
    """What every sweep has that can start from weights of others.

    Attributes:
        weights: Weights that others trained, to copy from in place of a base: a file (safetensors, or PyTorch's, read
            without running it), a name of torchvision's weights such as IMAGENET1K_V1, a tag of timm's or default, each
            of the option network or as NETWORK@WEIGHTS; or a mapping with weights and network, network_args, key and
            prefix (where in the file), rename ({pattern: replacement}, or a JSON file of them), mean, std, accuracy
            (published, 0..1) or label; null for none.
        preprocessing: How images are made for them: weights (size, crop and normalisation of their publisher's; an
            image_size_px that is given replaces size and crop) or own (as the other options say).
    """

    CHOICES: ClassVar[dict[str, Sequence[str]]] = {"preprocessing": ("weights", "own")}
    EFFECTS: ClassVar[dict[str, Effect]] = {"preprocessing": (lambda c: c.weights is not None, "weights")}

    weights: Any = None
    preprocessing: str = "weights"


@dataclass
class PairsConfig(SweepConfig):
    """What every sweep over pairs of tasks has.

    Attributes:
        tasks: Tasks by name, each a mapping: data (a data set; the option data where left out), classes (a list, all,
            or A or B for one of two random halves) and any dials.
        targets: Names of the tasks to transfer to, a list; all for every task.
        bases: Names of the tasks to transfer from, a list; all for every task. No task is paired with itself.
        dials: Dials, each with a list of values: each value makes one more base of every target. shared is the share
            of the target's classes that the base has; the others are resolution_px, blur_px, grey, inverted, noise,
            shuffle_px, labelling, merged, split and random_labels.
        base_per_class: Training images drawn of each class of a base; null for all. (train_per_class: of a target.)
        base_steps: Optimiser steps of a base; null for the recipe's. (recipe.steps: of all networks of a target.)
    """

    RULES: ClassVar[dict[str, Rule]] = {"base_per_class": AT_LEAST_ONE, "base_steps": AT_LEAST_ONE}
    EFFECTS: ClassVar[dict[str, Effect]] = {
        "data": (_reads_data, "a task without data of its own"),
        **dict.fromkeys(("bases", "dials", "base_per_class", "base_steps"), (trains_bases, "weights=null")),
    }
    FOLLOWERS: ClassVar[dict[str, dict[str, Any]]] = {"tasks": {"targets": "all", "bases": "all"}}

    tasks: Any = field(default_factory=dict)
    targets: Any = "all"
    bases: Any = "all"
    dials: Any = field(default_factory=dict)
    base_per_class: int | None = None
    base_steps: int | None = None
