"""Every table's columns, once: name, type, unit and meaning. ``raytransfer list columns`` prints them."""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 3
"""Raised whenever a store written before can no longer be read or continued."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name, with the unit where there is one.
        type: Its Arrow type.
        meaning: One sentence for people.
        repeatable: Whether the same spec gives the same value again (on the same kind of processor); what tells the
            provenance rather than the result (times, machines, versions) is not.
    """

    name: str
    type: pa.DataType
    meaning: str
    repeatable: bool = True


def _columns(*rows: tuple[str, pa.DataType, str], repeatable: bool = True) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=type_, meaning=meaning, repeatable=repeatable) for name, type_, meaning in rows)


_ID = ("id", pa.string(), "Identity of the trial: hash of its resolved config.")

CELLS = _columns(
    _ID,
    ("treatment", pa.string(), "Name of the treatment, as raytransfer list treatments has it."),
    ("halves", pa.string(), "How the classes were halved: random, the name of a pair, or its two lists of classes."),
    ("split", pa.string(), "Which halving: random0, random1, ..., or the same as halves."),
    ("direction", pa.string(), "A->B where the target is the second half, B->A where it is the first."),
    ("train_per_class", pa.int64(), "Training images drawn of each class, where the sweep has several numbers."),
)
"""The place of a trial in one sweep's grid; the same trial can have places in several sweeps."""

_PROVENANCE = _columns(
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

_NEW = "null for a base, and in rows older than the column"

TRIALS = (
    *_columns(
        _ID,
        ("dataset", pa.string(), "Data set of the target task."),
        ("base_task", pa.string(), "Task of the copied weights, or their label; null for bases and for RnB."),
        ("target_task", pa.string(), "Task trained and evaluated on."),
        ("network", pa.string(), "Name of the network."),
        ("stages", pa.list_(pa.string()), "Names of the network's layers, from input to head."),
        ("n_layers", pa.int64(), "Layers copied (for RnB: left random), counted from the input; 0 for a base."),
        ("cut", pa.string(), "Name of the last copied layer; null for a base."),
        ("frozen", pa.bool_(), "Whether the first n layers stayed as they were, or began so; null for a base."),
        (
            "preserved_layers",
            pa.int64(),
            "Layers above n that were copied too, and trained unless surgical; null for a base.",
        ),
        ("thaw", pa.string(), f"When frozen layers were released: never, halfway or gradual; {_NEW}."),
        ("surgical", pa.bool_(), f"Whether layer n alone of the copied ones trained; {_NEW}."),
        ("layer_decay", pa.float64(), f"Factor of the learning rate from each layer to the one below it; {_NEW}."),
        ("l2_sp", pa.bool_(), f"Whether the copied layers decayed towards what was copied; {_NEW}."),
        ("lora_rank", pa.int64(), f"Rank of the adapters of the first n layers, 0 without; {_NEW}."),
        ("reads_all", pa.bool_(), f"Whether the head read all layers, not the last alone; {_NEW}."),
        (
            "pretrain_id",
            pa.string(),
            "Identity of the training, or imported weights, copied from; null for bases, RnB.",
        ),
        (
            "pretrain_step",
            pa.int64(),
            "Training step of the base's checkpoint; null for bases, RnB, imported weights.",
        ),
        (
            "seed",
            pa.int64(),
            "Seed of weights, batches and augmentation; tasks of other classes draw other numbers from it.",
        ),
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
        ("reused_layers", pa.int64(), "Frozen layers whose outputs were looked up, not computed, until the last step."),
        ("streamed", pa.bool_(), "Whether images came batch by batch: too many for the GPU, or not decoded before."),
        (
            "waited",
            pa.float64(),
            "Share, 0..1, of its steps' time in which a training waited for streamed images; null for others, and in "
            "rows older than the column.",
        ),
        ("ranks", pa.int64(), "Processes the training was split over; null in rows older than the column."),
        repeatable=False,
    ),
    *_PROVENANCE,
)
"""One row a finished training: the result that everything else is derived from."""

_MEASURED = (
    *_columns(("wall_time_s", pa.float64(), "Seconds the trial took, data included."), repeatable=False),
    *_PROVENANCE,
)

DISTANCES = (
    *_columns(
        _ID,
        ("measure", pa.string(), "Name of the measure, as in raytransfer.distances.DISTANCES."),
        (
            "features",
            pa.string(),
            "What was compared: pixels, a layer or the weights of the target's network; null for class names.",
        ),
        (
            "source_task",
            pa.string(),
            "Task to come from; a symmetric measure may have the two swapped; `raytransfer.load` names it `base_task` "
            "and gives both directions.",
        ),
        ("target_task", pa.string(), "Task to go to."),
        (
            "reference_id",
            pa.string(),
            "Identity of the trial that trained the network whose outputs or weights were compared; null without one.",
        ),
        ("seed", pa.int64(), "Seed of the draw of images."),
        ("source_images", pa.int64(), "Training images of the source that were looked at; 0 for class names."),
        ("target_images", pa.int64(), "Training images of the target that were looked at; 0 for class names."),
        ("value", pa.float64(), "The distance, in the measure's own unit; larger is farther."),
        _CONFIG,
    ),
    *_MEASURED,
)
"""One row a finished distance between two tasks."""

SCORES = (
    *_columns(
        _ID,
        ("measure", pa.string(), "Name of the measure, as in raytransfer.scores.SCORES."),
        ("base_task", pa.string(), "Task the network was trained on."),
        ("target_task", pa.string(), "Task whose training images it was shown."),
        ("pretrain_id", pa.string(), "Identity of the trial that trained the network, or of the imported weights."),
        ("pretrain_step", pa.int64(), "Training step of its checkpoint; null for imported weights."),
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
)
"""One row a finished score of a trained network on a target task."""

PROBES = (
    *_columns(
        _ID,
        ("probe", pa.string(), "Name of the probe, as in raytransfer.probes.PROBES."),
        ("trained_id", pa.string(), "Identity of the trial that trained the network."),
        ("step", pa.int64(), "Training step of its checkpoint."),
        ("base_task", pa.string(), "Task its copied layers were trained on; null for bases and for RnB."),
        ("target_task", pa.string(), "Task it was trained on."),
        ("n_layers", pa.int64(), "Layers copied (for RnB: left random); 0 for a base."),
        ("frozen", pa.bool_(), "Whether they stayed as they were; null for a base."),
        (
            "against",
            pa.string(),
            "What it was compared with: base (what it copied), scratch (a base on its task), twin (its own training "
            "from another seed), cousin (a twin that copied from the twin of its base); null where with nothing.",
        ),
        ("other_id", pa.string(), "Identity of the trial that trained the other network; null without one."),
        (
            "seed",
            pa.int64(),
            "Seed of the draw of images and of directions; tasks of other classes have other directions.",
        ),
        ("images", pa.int64(), "Training images of the target that were looked at; null where all or none."),
        _CONFIG,
    ),
    *_MEASURED,
)
"""One row a finished look at a trained network; what was seen is in ``readings``."""

READINGS = _columns(
    ("id", pa.string(), "Identity of the trial."),
    (
        "quantity",
        pa.string(),
        "What was read, such as eigenvalue, as the probe's docstring defines it; null where there was nothing to read.",
    ),
    ("stage", pa.string(), "Layer of the network; null for the whole."),
    ("index", pa.int64(), "Which of several: rank of an eigenvalue, step of a walk."),
    ("x", pa.float64(), "Place in a landscape or on a path."),
    ("y", pa.float64(), "Place in a landscape."),
    ("value", pa.float64(), "The reading."),
)
"""What probes saw, one row a number."""

SIMULATIONS = (
    *_columns(
        _ID,
        ("source_task", pa.string(), "Task P, trained on first."),
        ("target_task", pa.string(), "Task Q, trained on from there and from scratch."),
        ("width", pa.int64(), "Hidden units."),
        (
            "seed",
            pa.int64(),
            "Seed of the draw of images and of the initial weights, which are others for targets of other classes.",
        ),
        ("source_images", pa.int64(), "Images of P."),
        ("target_images", pa.int64(), "Images of Q."),
        ("distance", pa.float64(), "How far the weights move on Q from where P left them, in Frobenius norm."),
        ("bound", pa.float64(), "What the theory lets them move at most, as the width grows."),
        ("distance_from_scratch", pa.float64(), "How far they move on Q from their initial values."),
        ("bound_from_scratch", pa.float64(), "What the theory lets them move at most."),
        ("gradient", pa.float64(), "Norm of the gradient of Q's loss in the weights that P left."),
        ("gradient_predicted", pa.float64(), "What the linearised network has there."),
        ("gradient_from_scratch", pa.float64(), "Norm of the gradient at the initial weights."),
        ("gradient_from_scratch_predicted", pa.float64(), "What the linearised network has there."),
        ("output_gradient", pa.float64(), "Norm of the gradient in the outputs on Q, where P left the weights."),
        ("output_gradient_predicted", pa.float64(), "What the linearised network has there."),
        ("loss_p", pa.float64(), "Squared loss on P that training on P ended with."),
        ("loss_q", pa.float64(), "Squared loss on Q that training on Q ended with."),
        ("loss_from_scratch", pa.float64(), "Squared loss on Q that training on Q alone ended with."),
        ("steps_p", pa.int64(), "Steps of gradient descent on P."),
        ("steps_q", pa.int64(), "Steps on Q from there."),
        ("steps_from_scratch", pa.int64(), "Steps on Q from the initial weights."),
        ("unfinished", pa.float64(), "Share of the distance that the last residual leaves to go, at most, linearised."),
        ("converged", pa.bool_(), "Whether all three trainings ended by their tolerance and not by their last step."),
        ("min_eigenvalue_p", pa.float64(), "Smallest eigenvalue of P's Gram matrix."),
        ("min_eigenvalue_q", pa.float64(), "Smallest eigenvalue of Q's Gram matrix."),
        _CONFIG,
    ),
    *_MEASURED,
)
"""One row a finished simulation of the two-layer theory."""

CURVES = _columns(
    ("id", pa.string(), "Identity of the trial."),
    ("step", pa.int64(), "Optimiser steps done at this evaluation."),
    ("learning_rate", pa.float64(), "Learning rate of the last step before it."),
    (
        "train_loss_nats",
        pa.float64(),
        "Mean cross-entropy of the training batches since the evaluation before, with labels smoothed as the recipe "
        "has it.",
    ),
    ("top1", pa.float64(), "Test accuracy, as a fraction."),
    ("loss_nats", pa.float64(), "Test cross-entropy, in nats."),
)
"""One row an evaluation: the learning curves."""


PLACES = _columns(
    ("treatment", pa.string(), "What the trial was for, as the sweep's first table has it."),
    ("halves", pa.string(), "How the classes were halved."),
    ("split", pa.string(), "Which halving."),
    ("direction", pa.string(), "A->B or B->A."),
    ("train_per_class", pa.int64(), "Training images drawn of each class, where the sweep has several numbers."),
    ("checkpoint", pa.string(), "Name of the checkpoint to start from."),
    ("schedule", pa.string(), "Learning-rate schedule of the base."),
    ("target", pa.string(), "Name of the target task."),
    ("base", pa.string(), "Name of the base task."),
    ("measure", pa.string(), "Name of the distance, with what it compares, or of the score."),
    ("width", pa.int64(), "Hidden units of a simulation."),
    ("step", pa.int64(), "Step of the base's checkpoint."),
    ("n_layers", pa.int64(), "Layers copied, left random or passed."),
    ("seed", pa.int64(), "The repeat."),
)
"""Where a trial stands in a sweep of any experiment; null is what that experiment does not have."""

SWEEP_TRIALS = (
    *_columns(_ID),
    *PLACES,
    *_columns(
        (
            "reads",
            pa.list_(pa.string()),
            "Weights of trainings that it reads, as IDENTITY/STEP; none where it reads no others.",
        ),
    ),
)
"""One row a place of a trial of a sweep, those included that others read alone."""

FAILURES = (
    *_columns(_ID),
    *PLACES,
    *_columns(
        ("reason", pa.string(), "Why it failed, in one line."),
        ("error", pa.string(), "Type of the error that was raised; null where its process died."),
        ("traceback", pa.string(), "All that it left: on which machine, and the traceback."),
        repeatable=False,
    ),
)
"""One row a place of a trial that failed and has not finished since."""

ESTIMATES = _columns(
    ("target_block", pa.string(), "Data set of the target: what is shared by targets that are not independent."),
    ("base_block", pa.string(), "The same of the base; of one that a dial makes of a target, the dial."),
    ("units", pa.int64(), "How many independent units an interval is over."),
    ("unit", pa.string(), "What they are: source, the data set of targets; or seed, and then of these targets alone."),
    ("runs", pa.int64(), "How many values they hold."),
    ("blocks", pa.int64(), "How many blocks of bases were left out one by one, or permuted."),
    ("target_blocks", pa.int64(), "The same of targets; null where they are the same blocks."),
    ("detectable", pa.float64(), "Smallest effect that one test at 5% would see in 4 of 5 studies so spread."),
    ("p_value", pa.float64(), "Of no effect, two-sided."),
    ("p_adjusted", pa.float64(), "The same, corrected for all measures, or claims, that were tried."),
    ("verdict", pa.string(), "On a claim: supported, the reverse, no larger effect, undecided or too few units."),
    ("units_needed", pa.int64(), "Units at which the effect seen would be detectable; null if decided or unknown."),
)
"""What stands beside the intervals of a sweep's report."""

TABLES = {
    "cells": CELLS,
    "places": SWEEP_TRIALS,
    "trials": TRIALS,
    "curves": CURVES,
    "distances": DISTANCES,
    "scores": SCORES,
    "probes": PROBES,
    "readings": READINGS,
    "simulations": SIMULATIONS,
    "failures": FAILURES,
    "estimates": ESTIMATES,
}
"""Every table by its name; cells, places, failures and estimates are of a sweep's folder, others lie in the store."""


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The Arrow schema of a table."""
    return pa.schema([(column.name, column.type) for column in columns])


def markdown(columns: tuple[Column, ...]) -> str:
    """The columns as a table in Markdown."""
    rows = [f"| `{column.name}` | {column.type} | {column.meaning} |" for column in columns]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows])
