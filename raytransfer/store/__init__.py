"""The only truth about what has been done: checkpoints and results under one root, a local folder or s3://, gs://."""

from raytransfer.store.checkpoints import checkpoint_steps, delete_checkpoint, load_checkpoint, save_checkpoint
from raytransfer.store.results import (
    clear_failures,
    compact,
    failure,
    failures,
    finished,
    is_finished,
    publish,
    publish_failure,
    read_table,
)
from raytransfer.store.root import Store

__all__ = [
    "Store",
    "checkpoint_steps",
    "clear_failures",
    "compact",
    "delete_checkpoint",
    "failure",
    "failures",
    "finished",
    "is_finished",
    "load_checkpoint",
    "publish",
    "publish_failure",
    "read_table",
    "save_checkpoint",
]
