"""What of a store can go, since nothing that is left to run reads it."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from rich.console import Console

from raytransfer.commands.opening import opened, places_of_sweeps, reading
from raytransfer.console.output import print_json
from raytransfer.console.table import NumberTable
from raytransfer.errors import UserError
from raytransfer.store import Store, all_checkpoints, failures, finished, lock, read_table, refuse_if_held
from raytransfer.sweep.backlog import left_to_run, reads_of
from raytransfer.words import number_of

KINDS = {
    "checkpoints": "weights that no trial reads which is left to run",
    "bases": "weights of a base's last step that no trial reads which is left to run: a later sweep trains it again",
    "states": "where trainings stood that have finished since, and do not run again",
    "damaged": "damaged files that were set aside",
    "unfinished": "what was being written when a process was killed",
}
"""What can go, and what is lost with it."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file that can go.

    Attributes:
        kind: One of ``KINDS``.
        name: The file, within its store.
        size: Its bytes.
    """

    kind: str
    name: str
    size: int


@reading
def garbage(root: str, kinds: Sequence[str] = tuple(KINDS), *, delete: bool = False) -> list[Garbage]:
    """What of a store can go; with ``delete`` it goes.

    Weights stay where a trial of some sweep of the store is left to run, failed ones included, and reads them, or where
    one does that has to run again for its weights. Weights imported from elsewhere stay, for nothing makes them anew.

    Args:
        root: The store.
        kinds: Which of ``KINDS``.
        delete: Whether to remove it.

    Raises:
        UserError: There is no store, a sweep is at work on it, or one of an older raytransfer does not say which
            weights it still reads.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"{kind} is nothing that gc removes; choose from {', '.join(KINDS)}")
    store = opened(root)
    refuse_if_held(store)
    with lock(store) if delete else nullcontext():
        files = [file for file in _garbage(store, kinds) if file.kind in kinds]
        for file in files if delete else ():
            _delete(store, file)
    return files


def _garbage(store: Store, kinds: Sequence[str]) -> list[Garbage]:
    done = finished(store) - set(failures(store))
    there = all_checkpoints(store)
    places = places_of_sweeps(store)
    reads = reads_of(rows for rows in places.values() if rows is not None)
    left, read = left_to_run(reads.keys() - done, reads, there)
    found = [
        Garbage(kind="states", name=f"states/{name}", size=size)
        for name, size in store.sizes_below("states").items()
        if (trial := name.removesuffix(".safetensors")) in done and trial not in left
    ]
    found += [
        Garbage(kind="damaged", name=f"damaged/{name}", size=size)
        for name, size in store.sizes_below("damaged").items()
    ]
    top = store.place("")
    for path in store.unfinished():
        with suppress(FileNotFoundError):  # whole meanwhile: a worker may outlive its driver for a moment
            found.append(Garbage(kind="unfinished", name=str(path).removeprefix(top), size=path.stat().st_size))
    if {"checkpoints", "bases"} & {*kinds}:
        for name, rows in places.items():
            if rows is None:
                raise UserError(
                    f"{name} was written by an older raytransfer, which did not say which weights it still reads: "
                    "raytransfer report STORE says it; states, damaged and unfinished can go without"
                )
        found += _weights(store, {name: size for name, size in there.items() if name not in read})
    return found


def _weights(store: Store, unread: Mapping[str, int]) -> list[Garbage]:
    """Checkpoints that nothing reads which is left to run, given their bytes by IDENTITY/STEP."""
    trials = read_table(store, "trials")[["id", "steps", "frozen"]]
    bases = trials[trials["frozen"].isna()]
    last = {f"{trial}/{steps}" for trial, steps in zip(bases["id"], bases["steps"], strict=True)}
    return [
        Garbage(kind="bases" if name in last else "checkpoints", name=f"checkpoints/{name}.safetensors", size=size)
        for name, size in unread.items()
    ]


def _delete(store: Store, file: Garbage) -> None:
    store.delete(file.name)
    folder = file.name.rpartition("/")[0]
    if file.kind in ("checkpoints", "bases") and store.is_empty(folder):
        store.delete_folder(folder)


def print_garbage(
    console: Console, root: str, kinds: Sequence[str], *, delete: bool = False, as_json: bool = False
) -> None:
    """Print what of a store can go, or has gone.

    Args:
        console: Where to.
        root: The store.
        kinds: Which of ``KINDS``; all where none is named.
        delete: Whether to remove it.
        as_json: Whether as JSON: ``store``, ``removed`` (whether that was done) and ``files``, a list of ``Garbage``.

    Raises:
        UserError: As ``garbage`` does.
    """
    found = garbage(root, kinds or tuple(KINDS), delete=delete)
    if as_json:
        print_json(console, {"store": root, "removed": delete, "files": [vars(file) for file in found]})
        return
    if not found:
        console.print(f"Nothing of {root} can go", soft_wrap=True)
        return
    table = NumberTable({"kind": "left", "files": "right", "size": "right", "what it is": "left"}, line=False)
    for kind, meaning in KINDS.items():
        sizes = [file.size for file in found if file.kind == kind]
        if sizes:
            table.add_row(kind, str(len(sizes)), _size(sum(sizes)), meaning)
    console.print(table)
    total = f"{number_of(len(found), 'file')}, {_size(sum(file.size for file in found))}"
    what = f"{total} removed" if delete else f"{total} can go; --delete removes them, of these kinds or of those named"
    console.print(what, soft_wrap=True)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
