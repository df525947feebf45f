"""Data sets, their classes in halves, and the arrays of a task."""

from raytransfer.tasks.dataset import Dataset
from raytransfer.tasks.dials import INPUT_DIALS, LABEL_DIALS
from raytransfer.tasks.halves import class_indices, halves, random_halves
from raytransfer.tasks.opening import open_dataset, open_fingerprint
from raytransfer.tasks.sources import DataSource
from raytransfer.tasks.task import (
    Part,
    TaskData,
    label_names,
    load_task,
    sample_task,
    task_label,
    task_spec,
)

__all__ = [
    "INPUT_DIALS",
    "LABEL_DIALS",
    "DataSource",
    "Dataset",
    "Part",
    "TaskData",
    "class_indices",
    "halves",
    "label_names",
    "load_task",
    "open_dataset",
    "open_fingerprint",
    "random_halves",
    "sample_task",
    "task_label",
    "task_spec",
]
