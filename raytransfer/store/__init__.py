"""The only truth about what has been done: checkpoints and results under one root, a local folder or s3://, gs://."""

from raytransfer.storage.retries import PATIENCE_S
from raytransfer.store.checkpoints import (
    all_checkpoints,
    checkpoint_steps,
    delete_checkpoint,
    import_weights,
    imported,
    load_weights,
    save_checkpoint,
    weights_digest,
)
from raytransfer.store.locking import held, lock, refuse_if_held
from raytransfer.store.results import (
    clear_failures,
    compact,
    curve_of,
    failure,
    failures,
    finish_times,
    finished,
    is_finished,
    publish,
    publish_failure,
    read_table,
    repair,
    top1_of,
    unmerged,
)
from raytransfer.store.root import Store
from raytransfer.store.states import delete_state, load_state, save_state
from raytransfer.store.sweeps import (
    delete_progress,
    read_places,
    read_progress,
    sweep_names,
    write_places,
    write_progress,
)

__all__ = [
    "PATIENCE_S",
    "Store",
    "all_checkpoints",
    "checkpoint_steps",
    "clear_failures",
    "compact",
    "curve_of",
    "delete_checkpoint",
    "delete_progress",
    "delete_state",
    "failure",
    "failures",
    "finish_times",
    "finished",
    "held",
    "import_weights",
    "imported",
    "is_finished",
    "load_state",
    "load_weights",
    "lock",
    "publish",
    "publish_failure",
    "read_places",
    "read_progress",
    "read_table",
    "refuse_if_held",
    "repair",
    "save_checkpoint",
    "save_state",
    "sweep_names",
    "top1_of",
    "unmerged",
    "weights_digest",
    "write_places",
    "write_progress",
]
