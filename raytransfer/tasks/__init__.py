"""Data sets, their classes in halves, and the arrays of a task."""

from raytransfer.tasks.dataset import Dataset, open_dataset, open_fingerprint
from raytransfer.tasks.halves import halves, random_halves
from raytransfer.tasks.sources import DataSource
from raytransfer.tasks.task import Part, TaskData, load_task, task_label, task_spec

__all__ = [
    "DataSource",
    "Dataset",
    "Part",
    "TaskData",
    "halves",
    "load_task",
    "open_dataset",
    "open_fingerprint",
    "random_halves",
    "task_label",
    "task_spec",
]
