"""What each kind of sweep can be asked for: its options, their defaults and their meanings."""

from dataclasses import dataclass, field
from typing import Any

from raytransfer.experiments.yosinski.cells import DIRECTIONS, TREATMENTS

DISTANCE_FEATURES = ("pixels", "probe")


@dataclass
class SweepConfig:
    """What every sweep has: its data, and where and how it runs.

    Attributes:
        data: Data set: digits, a torchvision classification set by name, or a folder or Parquet file of images.
        data_dir: Folder in which named data sets lie, or are downloaded to.
        cache_dir: Folder on each machine for decoded images.
        image_size_px: Side to which images are resized and cropped when they are decoded; null keeps their own.
        channels: 1 to decode colour images as grey, 3 to decode grey ones as colour; null keeps their own.
        label_column: Label column of Parquet files that have several.
        train_per_class: Training images drawn of each class; null for all.
        seeds: Repeats of everything, with seeds 0, 1, ...
        out: Folder or s3:// or gs:// URI of the store; sweeps that share one share their trials.
        mode: cached (run what is missing, report what failed), retry (run what failed, too), force (run everything
            again) or read-only (run nothing, report what is there).
        backend: ray (many trials at once) or in-process (one after the other in this process, for debugging).
        slots: Trials at once; null for as many as the machine or cluster holds. On a cluster that starts machines when
            they are wanted it says for how many trials.
        gpus_per_trial: GPU share of a slot where there are GPUs, or auto to measure first how many trials are best run
            side by side on one; without a GPU a slot is a CPU core.
        memory_gb: Memory of a slot, in 10^9 bytes, for its images on a GPU, which are streamed if they do not fit, and
            for outputs of frozen layers, which are computed again if they do not fit.
        price_per_hour: Price of an hour of one GPU, or of one CPU core where there is no GPU, for what --plan says a
            sweep costs; null to say nothing.
        patience_s: Seconds for which a storage that does not answer is tried again before the sweep ends.
        save_every_s: Seconds between two savings of the state from which a training goes on if its process dies.
    """

    data: str = "digits"
    data_dir: str = "~/.cache/raytransfer-data"
    cache_dir: str = "~/.cache/raytransfer"
    image_size_px: int | None = None
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
    patience_s: float = 600.0
    save_every_s: float = 60.0

    @property
    def memory_bytes(self) -> int:
        """``memory_gb`` in bytes."""
        return int(self.memory_gb * 1e9)


@dataclass
class TrainingConfig(SweepConfig):
    """What every sweep of trainings has: network and recipe, and what is looked at afterwards.

    Attributes:
        network: Network of the zoo.
        init: Initial weights: network (its own), kaiming or gaussian (standard deviation 0.01).
        n_layers: Layers to copy: all (1 to N-1), or a list of numbers or layer names.
        recipe: How every network is trained.
        probes: Probes of every trained network, a list: generalisation, deviation, flatness, landscape,
            initial-landscape, loss-variation, gradient-components, gradient-scale, path, CKA.
        probe_steps: Training steps at which probes look, a list of steps and last; each probe takes those that make
            sense for it (flatness none before the head has trained, a landscape the last).
        probe_images: Training images, at most, that a probe looks at.
        eigenvalues: Largest eigenvalues of the Hessian that flatness takes.
        landscape_points: Points on a side of a landscape, odd.
        checkpoints: needed (a checkpoint goes once every trial of the sweep that reads it has finished, but for the
            last one of a base) or all (none goes, and every training keeps its last).
    """

    network: str = "convnet8"
    init: str = "network"
    n_layers: Any = "all"
    recipe: Any = None
    probes: list[str] = field(default_factory=list)
    probe_steps: Any = field(default_factory=lambda: ["last"])
    probe_images: int = 200
    eigenvalues: int = 20
    landscape_points: int = 21
    checkpoints: str = "needed"


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
    """

    tasks: Any = field(default_factory=dict)
    targets: Any = "all"
    bases: Any = "all"
    dials: Any = field(default_factory=dict)
    base_per_class: int | None = None


@dataclass
class GridConfig(TrainingConfig):
    """The grid of Yosinski et al. 2014.

    Attributes:
        halves: Ways to halve the classes, a list of: random, the name of a fixed pair such as animals/vehicles, or
            lists of classes as {A: [...], B: [...]}. The distance effect and the value of distant features are read
            of fixed pairs alone, which are known to be unlike.
        splits: Random halvings (of halves=random).
        directions: A->B, B->A or both.
        treatments: Treatments to run, a list.
        fixed_treatments: Treatments on halves other than random, a list; null for the same.
    """

    halves: Any = field(default_factory=lambda: ["random"])
    splits: int = 2
    directions: list[str] = field(default_factory=lambda: list(DIRECTIONS))
    treatments: list[str] = field(default_factory=lambda: list(TREATMENTS))
    fixed_treatments: list[str] | None = None


@dataclass
class DistanceConfig(PairsConfig, TrainingConfig):
    """Transfer against distance, over pairs of tasks and settings of dials.

    Attributes:
        dial_grid: Two dials, as {input: {dial: values}, label: {dial: values}}, whose values are combined, each with
            each; null for none.
        distances: Distances between tasks, a list.
        distance_features: What distances of features compare, a list of pixels and probe: outputs, below the head, of
            the network trained on the target alone.
        scores: Scores of a base on the target, a list.
        images: Training images of each task, at most, that distances and scores look at.
        drawn: Distances and scores against which transfer is drawn, by the names they have in tables.
        input_distance: The distance that stands for the input where the variance of transfer is split.
        label_distance: The distance that stands for the label there.
        tree: Class names in nested groups, for the tree distance; null leaves that distance out.
    """

    dial_grid: Any = None
    distances: list[str] = field(default_factory=list)
    distance_features: list[str] = field(default_factory=lambda: list(DISTANCE_FEATURES))
    scores: list[str] = field(default_factory=list)
    images: int = 500
    drawn: list[str] = field(default_factory=list)
    input_distance: str = "MMD2 of pixels"
    label_distance: str = "class overlap"
    tree: Any = None


@dataclass
class StageConfig(PairsConfig, TrainingConfig):
    """Transfer from checkpoints along a base's training, over pairs of tasks.

    Attributes:
        base_steps: Optimiser steps of a base; null for the recipe's.
        schedules: Learning-rate schedules of the bases, a list of step, cosine and constant.
        base_milestones: Where the step schedule of a base drops, as fractions of its steps.
        base_checkpoints: How many steps of a base to transfer from, the first and the last among them, evenly on a
            logarithmic axis; or a list of steps. The steps before and after each drop are added.
    """

    base_steps: int | None = None
    schedules: list[str] = field(default_factory=lambda: ["step", "cosine", "constant"])
    base_milestones: list[float] = field(default_factory=lambda: [0.5, 0.75])
    base_checkpoints: Any = 12


@dataclass
class WhyConfig(PairsConfig, TrainingConfig):
    """Fine-tuned networks against networks trained from scratch, looked at with probes.

    Attributes:
        distance: Distance between tasks, of pixels or classes, that says how similar a base is to its target.
    """

    distance: str = "OTDD"


@dataclass
class TheoryConfig(PairsConfig):
    """Simulations of the two-layer theory, over pairs of tasks with two labels.

    Attributes:
        widths: Hidden units, a list.
        images: Training images of each task, at most.
    """

    widths: list[int] = field(default_factory=lambda: [100, 1000, 10000])
    images: int = 30
