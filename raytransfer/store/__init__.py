"""The only truth about what has been done: checkpoints and results under one root, a local folder or s3://, gs://."""

from raytransfer.store.checkpoints import checkpoint_steps, delete_checkpoint, load_checkpoint, save_checkpoint
from raytransfer.store.locking import lock
from raytransfer.store.results import (
    clear_failures,
    compact,
    failure,
    failures,
    finished,
    is_finished,
    mend,
    publish,
    publish_failure,
    read_table,
)
from raytransfer.store.retries import PATIENCE_S
from raytransfer.store.root import Store
from raytransfer.store.states import delete_state, load_state, save_state

__all__ = [
    "PATIENCE_S",
    "Store",
    "checkpoint_steps",
    "clear_failures",
    "compact",
    "delete_checkpoint",
    "delete_state",
    "failure",
    "failures",
    "finished",
    "is_finished",
    "load_checkpoint",
    "load_state",
    "lock",
    "mend",
    "publish",
    "publish_failure",
    "read_table",
    "save_checkpoint",
    "save_state",
]
