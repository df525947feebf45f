"""The only truth about what has been done: checkpoints and results under one root, a local folder or s3://, gs://."""

from raytransfer.store.checkpoints import (
    all_checkpoint_steps,
    checkpoint_steps,
    delete_checkpoint,
    import_weights,
    imported,
    load_weights,
    save_checkpoint,
    weights_digest,
)
from raytransfer.store.locking import lock
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
    repair,
)
from raytransfer.store.retries import PATIENCE_S
from raytransfer.store.root import Store
from raytransfer.store.states import delete_state, load_state, save_state

__all__ = [
    "PATIENCE_S",
    "Store",
    "all_checkpoint_steps",
    "checkpoint_steps",
    "clear_failures",
    "compact",
    "delete_checkpoint",
    "delete_state",
    "failure",
    "failures",
    "finished",
    "import_weights",
    "imported",
    "is_finished",
    "load_state",
    "load_weights",
    "lock",
    "publish",
    "publish_failure",
    "read_table",
    "repair",
    "save_checkpoint",
    "save_state",
    "weights_digest",
]
