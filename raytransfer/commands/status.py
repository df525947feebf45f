"""How the sweeps of a store stand, while one runs and afterwards."""

import datetime
import shlex
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
from rich.console import Console

from raytransfer.commands.opening import opened, places_of_sweeps, reading
from raytransfer.console.output import print_json
from raytransfer.console.table import counts_table
from raytransfer.errors import UserError
from raytransfer.store import Store, failures, finish_times, held, read_progress
from raytransfer.sweep.backlog import reads_of, waiting
from raytransfer.sweep.places import described, place_of
from raytransfer.words import duration, number_of

STATES = ("done", "running", "failed", "waiting", "left")
"""How a trial stands: it waits where it reads the weights of one that failed."""

_MOST_SHOWN = 20  # of the trials that run
_INTERRUPTED_S = 1.0  # for a storage that does not answer: the command ends soon


@dataclass(frozen=True, kw_only=True)
class Running:
    """A trial that runs.

    Attributes:
        id: Its identity.
        place: Where it stands in the sweep.
        since: When it was handed out.
    """

    id: str
    place: str
    since: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a sweep stands.

    Attributes:
        sweep: Name of its folder.
        state: running; stopped, where it was killed and nothing has run it since; complete; or unfinished. None where
            an older raytransfer wrote the folder, which does not say which trials the sweep has.
        trials: How many trials it has, those included that others read alone.
        treatments: How many trials of each treatment stand how, by ``STATES``. A trial in two treatments counts for
            both.
        last: When its last row was written.
        host: Where it runs, or ran when it was killed.
        process: Its process there.
        started: When that began.
        left_s: Seconds until it is done, as far as is known.
        running: What runs.
    """

    sweep: str
    state: str | None
    trials: int = 0
    treatments: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    last: str | None = None
    host: str | None = None
    process: int | None = None
    started: str | None = None
    left_s: float | None = None
    running: list[Running] = field(default_factory=list)


@reading
def status(root: str) -> tuple[str | None, list[Standing]]:
    """How the sweeps of a store stand. Counts are made of what the store holds; nothing is written.

    Returns:
        Who holds the store, in words, None where nobody does; and every sweep, the last one to have written a row last.

    Raises:
        UserError: There is no store, or one that cannot be read.
    """
    return _status(opened(root))


def _status(store: Store) -> tuple[str | None, list[Standing]]:
    holder, progress = held(store), read_progress(store)
    places, failed = places_of_sweeps(store), set(failures(store))
    finished = finish_times(store)  # last, so that what has finished meanwhile is not taken for left
    standings = []
    for name, rows in places.items():
        of_sweep = progress if progress is not None and progress["sweep"] == name else None
        standings.append(
            Standing(sweep=name, state=None)
            if rows is None
            else _standing(name, rows, finished, failed, of_sweep, runs=holder is not None)
        )
    return holder, sorted(standings, key=lambda standing: standing.last or "")


def _standing(
    name: str,
    places: pd.DataFrame,
    finished: Mapping[str, datetime.datetime],
    failed: set[str],
    progress: Mapping[str, Any] | None,
    *,
    runs: bool,
) -> Standing:
    """How a sweep stands.

    Args:
        name: Name of its folder.
        places: Its trials.
        finished: When trials of the store finished.
        failed: Those that failed.
        progress: What the driver wrote last, if it is of this sweep.
        runs: Whether some driver holds the store.
    """
    trials = list(dict.fromkeys(places["id"]))
    handed_out = _handed_out(progress, finished, failed) if progress is not None and runs else {}
    states = {trial: "failed" if trial in failed else "done" if trial in finished else "left" for trial in trials}
    states |= {trial: "running" for trial in trials if trial in handed_out}  # again, where its weights were gone
    left = [trial for trial in trials if states[trial] == "left"]
    stuck = [trial for trial in trials if states[trial] == "failed"]
    states |= dict.fromkeys(waiting(left, reads_of([places]), stuck), "waiting")
    treatments: dict[str, Counter[str]] = {}
    for treatment, trial in dict.fromkeys(zip(places["treatment"], places["id"], strict=True)):
        treatments.setdefault(treatment, Counter())[states[trial]] += 1
    state = "complete" if set(states.values()) <= {"done"} else "unfinished"
    if progress is not None:
        state = "running" if runs else "stopped" if state != "complete" else state
    times = [finished[trial] for trial in trials if trial in finished]
    told = progress or {}
    return Standing(
        sweep=name,
        state=state,
        trials=len(trials),
        treatments={treatment: {state: count[state] for state in STATES} for treatment, count in treatments.items()},
        last=max(times).astimezone(datetime.UTC).isoformat(timespec="seconds") if times else None,
        host=told.get("host"),
        process=told.get("process"),
        started=told.get("started"),
        left_s=_seconds_left(told) if runs else None,
        running=_running(places, handed_out),
    )


def _handed_out(
    progress: Mapping[str, Any], finished: Mapping[str, datetime.datetime], failed: set[str]
) -> dict[str, str]:
    """What the driver said that it runs, and since when, without what has ended since it wrote that."""
    return {
        trial: since
        for trial, since in progress["running"].items()
        if trial not in failed and not (trial in finished and finished[trial] >= _time(since))
    }


def _running(places: pd.DataFrame, handed_out: Mapping[str, str]) -> list[Running]:
    rows = places[places["id"].isin(list(handed_out))].drop_duplicates("id")
    return [
        Running(id=row["id"], place=described(place_of(row)), since=handed_out[row["id"]])
        for row in rows.to_dict("records")
    ]


def _seconds_left(progress: Mapping[str, Any]) -> float | None:
    """What the driver said, less what has passed since."""
    left, written = progress.get("left_s"), progress.get("written")
    if not isinstance(left, int | float) or not isinstance(written, str):
        return None
    return max(0.0, left - _seconds_since(written))


def _time(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)


def _seconds_since(text: str) -> float:
    return max(0.0, (datetime.datetime.now(datetime.UTC) - _time(text)).total_seconds())


def print_status(console: Console, root: str, *, as_json: bool = False) -> None:
    """Print how the sweeps of a store stand.

    Args:
        console: Where to.
        root: The store.
        as_json: Whether as JSON: ``store``, ``held`` (who holds it, or null) and ``sweeps``, a list of ``Standing``.

    Raises:
        UserError: There is no store, or one that cannot be read.
    """
    holder, standings = status(root)
    if as_json:
        print_json(console, {"store": root, "held": holder, "sweeps": [asdict(standing) for standing in standings]})
        return
    if not standings:
        console.print(f"{root} holds no sweep", soft_wrap=True)
    for standing in standings:
        _print(console, standing)
    if holder is not None and not any(standing.state == "running" for standing in standings):
        console.print(f"The store is held {holder}, which has not said yet what it runs", soft_wrap=True)


def print_interrupted(console: Console, store: Store, name: str) -> None:
    """Print how a sweep stands that was told to stop, unless that was before its store knew of it.

    Args:
        console: Where to.
        store: The store.
        name: Name of the sweep's folder.
    """
    with suppress(UserError):  # what has finished is there all the same, and the command ends soon
        _, standings = _status(Store(store.root, retry_s=min(store.retry_s, _INTERRUPTED_S)))
        for standing in standings:
            if standing.sweep == name and standing.state is not None:
                console.print()
                _print(console, standing)
                console.print(f"raytransfer report {shlex.quote(store.root)} reports what there is", soft_wrap=True)


def _print(console: Console, standing: Standing) -> None:
    console.print(f"{standing.sweep}: {_headline(standing)}", soft_wrap=True)
    if standing.treatments:
        console.print(counts_table(standing.treatments, STATES))
    for trial in standing.running[:_MOST_SHOWN]:
        console.print(
            f"running  {trial.id}, {trial.place}, for {duration(_seconds_since(trial.since))}", soft_wrap=True
        )
    if len(standing.running) > _MOST_SHOWN:
        console.print(f"and {len(standing.running) - _MOST_SHOWN} more that run")
    console.print()


def _headline(standing: Standing) -> str:
    if standing.state is None:
        return (
            "an older raytransfer wrote it and did not say which trials it has; raytransfer report STORE tells, and "
            "status from then on"
        )
    said = [f"{standing.state}, {number_of(standing.trials, 'trial')}"]
    if standing.state in ("running", "stopped"):
        ran = "" if standing.state == "running" else "it was killed; it ran as "
        said.append(f"{ran}process {standing.process} on {standing.host}, since {standing.started}")
    if standing.state == "running":
        left = standing.left_s
        said.append("time left is not known yet" if left is None else f"about {duration(left)} left")
    said.append(f"last row {standing.last}" if standing.last else "no row yet")
    return "; ".join(said)
