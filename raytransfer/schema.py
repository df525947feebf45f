"""Every table's columns, once: name, type, unit and meaning. README's table is made from this."""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 2
"""Raised whenever a store written before can no longer be read or continued."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name, with the unit where there is one.
        type: Its Arrow type.
        meaning: One sentence for people.
        repeatable: Whether the same spec gives the same value again (on the same kind of processor); what names the
            occasion rather than the result (times, machines, versions) is not.
    """

    name: str
    type: pa.DataType
    meaning: str
    repeatable: bool = True


def _columns(*rows: tuple[str, pa.DataType, str], repeatable: bool = True) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=type_, meaning=meaning, repeatable=repeatable) for name, type_, meaning in rows)


CELLS = _columns(
    ("id", pa.string(), "Identity of the trial: hash of its resolved config."),
    ("treatment", pa.string(), "baseB, BnB, BnB+, AnB, AnB+, RnB, or baseB-2x (a base trained for twice the steps)."),
    ("halves", pa.string(), "How the classes were halved: random, or the name of a fixed pair."),
    ("split", pa.string(), "Which halving: random0, random1, ..., or the name of the fixed pair."),
    ("direction", pa.string(), "A->B where the target is the second half, B->A where it is the first."),
)
"""The place of a trial in one sweep's grid; the same trial can have places in several sweeps."""

_OCCASION = _columns(
    ("device", pa.string(), "Processor it ran on."),
    ("host", pa.string(), "Machine it ran on."),
    ("finished_at", pa.timestamp("us", tz="UTC"), "When it finished."),
    ("versions", pa.string(), "Versions of raytransfer, Python, torch and Ray, as JSON."),
    ("commit", pa.string(), "Commit of the raytransfer checkout; null where it is not one."),
    repeatable=False,
)
_CONFIG = (
    "config",
    pa.string(),
    "The resolved config: canonical JSON, whose hash, but for what tasks are called, is the id.",
)

TRIALS = (
    *_columns(
        ("id", pa.string(), "Identity of the trial: hash of its resolved config."),
        ("dataset", pa.string(), "Data set of the target task."),
        ("base_task", pa.string(), "Task the copied layers were trained on; null for bases and for RnB."),
        ("target_task", pa.string(), "Task trained and evaluated on."),
        ("network", pa.string(), "Name of the network."),
        ("stages", pa.list_(pa.string()), "Names of the network's layers, from input to head."),
        ("n_layers", pa.int64(), "Layers copied (for RnB: left random), counted from the input; 0 for a base."),
        ("cut", pa.string(), "Name of the last copied layer; null for a base."),
        ("frozen", pa.bool_(), "Whether the first n layers stayed as they were; null for a base."),
        ("pretrain_id", pa.string(), "Identity of the base copied from; null for bases and RnB."),
        ("pretrain_step", pa.int64(), "Training step of the base's checkpoint; null for bases and RnB."),
        ("seed", pa.int64(), "Seed of weights, batches and augmentation."),
        ("steps", pa.int64(), "Optimiser steps."),
        ("train_images", pa.int64(), "Training images of the target task."),
        ("test_images", pa.int64(), "Test images of the target task."),
        ("top1", pa.float64(), "Test accuracy after the last step, as a fraction."),
        ("loss_nats", pa.float64(), "Test cross-entropy after the last step, in nats."),
        (
            "top1_best10",
            pa.float64(),
            "Mean of the 10 best test accuracies (2014's optimistic score), as a fraction; null under 20 evaluations.",
        ),
        ("train_top1", pa.float64(), "Accuracy on the training images, in eval mode without augmentation."),
        ("train_loss_nats", pa.float64(), "Cross-entropy on the training images, likewise, in nats."),
        _CONFIG,
    ),
    *_columns(
        ("wall_time_s", pa.float64(), "Seconds the trial took, data and evaluation included."),
        ("images_per_s", pa.float64(), "Training images a second, evaluation left out."),
        ("reused_layers", pa.int64(), "Frozen layers whose outputs were computed once and reused at every step."),
        ("streamed", pa.bool_(), "Whether the images did not fit the GPU's share and were sent batch by batch."),
        repeatable=False,
    ),
    *_OCCASION,
)
"""One row a finished training: the result that everything else is derived from."""

_MEASURED = _columns(("wall_time_s", pa.float64(), "Seconds the trial took, data included."), repeatable=False)

DISTANCES = (
    *_columns(
        ("id", pa.string(), "Identity of the trial: hash of its resolved config."),
        ("measure", pa.string(), "Name of the measure, as in raytransfer.distances.DISTANCES."),
        ("features", pa.string(), "What was compared: pixels, or a layer of the probe network; null for class names."),
        ("source_task", pa.string(), "Task to come from; a symmetric measure may have the two swapped."),
        ("target_task", pa.string(), "Task to go to."),
        ("probe_id", pa.string(), "Identity of the trial that trained the probe network; null without one."),
        ("seed", pa.int64(), "Seed of the draw of images."),
        ("source_images", pa.int64(), "Training images of the source that were looked at."),
        ("target_images", pa.int64(), "Training images of the target that were looked at."),
        ("value", pa.float64(), "The distance, in the measure's own unit; larger is farther."),
        _CONFIG,
    ),
    *_MEASURED,
    *_OCCASION,
)
"""One row a finished distance between two tasks."""

SCORES = (
    *_columns(
        ("id", pa.string(), "Identity of the trial: hash of its resolved config."),
        ("measure", pa.string(), "Name of the measure, as in raytransfer.scores.SCORES."),
        ("base_task", pa.string(), "Task the network was trained on."),
        ("target_task", pa.string(), "Task whose training images it was shown."),
        ("pretrain_id", pa.string(), "Identity of the trial that trained the network."),
        ("pretrain_step", pa.int64(), "Training step of its checkpoint."),
        ("n_layers", pa.int64(), "Layers the images passed; all N, with the head, for a score of the head."),
        ("cut", pa.string(), "Name of the last of them."),
        ("reference_id", pa.string(), "Identity of the target's own network, for a similarity; else null."),
        ("seed", pa.int64(), "Seed of the draw of images."),
        ("images", pa.int64(), "Training images of the target that were looked at."),
        ("features", pa.int64(), "Length of the feature vector of an image, after pooling."),
        ("value", pa.float64(), "The score, in the measure's own unit; larger promises better transfer."),
        _CONFIG,
    ),
    *_MEASURED,
    *_OCCASION,
)
"""One row a finished score of a trained network on a target task."""

CURVES = _columns(
    ("id", pa.string(), "Identity of the trial."),
    ("step", pa.int64(), "Optimiser steps done at this evaluation."),
    ("learning_rate", pa.float64(), "Learning rate of the last step before it."),
    ("train_loss_nats", pa.float64(), "Mean cross-entropy of the training batches since the evaluation before."),
    ("top1", pa.float64(), "Test accuracy, as a fraction."),
    ("loss_nats", pa.float64(), "Test cross-entropy, in nats."),
)
"""One row an evaluation: the learning curves."""


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The Arrow schema of a table."""
    return pa.schema([(column.name, column.type) for column in columns])


def markdown(columns: tuple[Column, ...]) -> str:
    """The table of columns that README shows."""
    rows = [f"| `{column.name}` | {column.type} | {column.meaning} |" for column in columns]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])
