"""Two sweeps side by side: the options that differ, and what changed, paired by what both ran."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from rich.console import Console

from raytransfer.analysis import grid_changes, mean_changes, paired
from raytransfer.analysis.changes import CELL
from raytransfer.commands.opening import READING_PATIENCE_S, experiment_of, is_sweep, opened, options_of, reading
from raytransfer.config import WHERE_AND_HOW, plain_yaml
from raytransfer.console.output import print_json
from raytransfer.console.table import NumberTable
from raytransfer.errors import UserError, one_line
from raytransfer.experiments import EXPERIMENTS, Experiment
from raytransfer.experiments.words import in_points
from raytransfer.storage.addresses import without_options
from raytransfer.store import Store, sweep_names
from raytransfer.words import number_of


@dataclass(frozen=True, kw_only=True)
class SweepFolder:
    """A sweep's folder.

    Attributes:
        store: The folder itself, as files.
        name: Its name.
        experiment: Its experiment.
        options: Its resolved options.
    """

    store: Store
    name: str
    experiment: Experiment[Any]
    options: dict[str, Any]

    def frame(self, name: str) -> pd.DataFrame:
        """A table of its report.

        Raises:
            UserError: It has none, or a damaged one.
        """
        file = f"{name}.parquet"
        try:
            return pd.read_parquet(io.BytesIO(self.store.read(file)))
        except FileNotFoundError:
            raise UserError(
                f"{self.name} has no {file}: nothing of it has finished, or it has no report yet, which raytransfer "
                "report STORE writes"
            ) from None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{self.store.place(file)} is damaged: {one_line(error)}; raytransfer report STORE writes it anew"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sweeps of one experiment.

    Attributes:
        first: Name of one.
        second: Name of the other.
        options: Options that differ: name, first and second value, of those that change what is run.
        changes: What changed from the first to the second: what it is ``of``, where, ``estimate``, ``low`` and ``high``
            (fractions), ``units``, ``runs`` and whether the interval is ``clear`` of zero; None where the experiment
            has nothing to pair.
        shared: How many rows both have.
        same: How many of these are the same trial in both.
        repeated_otherwise: How many of these have another result, as on another kind of CPU or GPU.
    """

    first: str
    second: str
    options: Sequence[tuple[str, Any, Any]]
    changes: pd.DataFrame | None
    shared: int
    same: int
    repeated_otherwise: int


@reading
def compare(first: str, second: str) -> list[Comparison]:
    """Compare two sweeps, or the sweeps of two stores.

    Of two stores, sweeps are compared that have the same experiment and data; where each holds one alone, these are.

    Args:
        first: A sweep's folder, or a store.
        second: Likewise.

    Raises:
        UserError: There is no such sweep, it cannot be read, or the two have nothing in common.
    """
    return [_compared(*pair) for pair in _pairs(first, second)]


def _pairs(first: str, second: str) -> list[tuple[SweepFolder, SweepFolder]]:
    sides = [_sweeps(place) for place in (first, second)]
    if all(len(side) == 1 for side in sides):
        return [(sides[0][0], sides[1][0])]
    kinds: list[dict[str, list[SweepFolder]]] = [{}, {}]
    for side, kind in zip(sides, kinds, strict=True):
        for sweep in side:
            kind.setdefault(sweep.name.rpartition("-")[0], []).append(sweep)
    shared = [name for name in kinds[0] if name in kinds[1]]
    if not shared:
        held = " and ".join(", ".join(sweep.name for sweep in side) for side in sides)
        raise UserError(f"{first} and {second} share no experiment on the same data: they hold {held}")
    for place, kind in zip((first, second), kinds, strict=True):
        for name in shared:
            if len(kind[name]) > 1:
                folders = " or ".join(sweep.store.root for sweep in kind[name])
                raise UserError(f"{place} holds several sweeps {name}: name the folder of one, {folders}")
    return [(kinds[0][name][0], kinds[1][name][0]) for name in shared]


def _sweeps(place: str) -> list[SweepFolder]:
    """The sweep whose folder a place is, or the sweeps of a store."""
    folder = Store(place, retry_s=READING_PATIENCE_S)
    if folder.exists("config.yaml"):
        return [_sweep(folder)]
    store = opened(place)
    names = [name for name in sweep_names(store) if is_sweep(name) and store.exists(f"sweeps/{name}/config.yaml")]
    if not names:
        raise UserError(f"{place} holds no sweep")
    return [_sweep(Store(store.place(f"sweeps/{name}"), retry_s=READING_PATIENCE_S)) for name in names]


def _sweep(folder: Store) -> SweepFolder:
    name = without_options(folder.root).rstrip("/").rpartition("/")[2]
    experiment = experiment_of(name)
    _, options = options_of(folder)
    return SweepFolder(store=folder, name=name, experiment=experiment, options=_flat(options))


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    recipe = options.get("recipe")
    inner = {f"recipe.{name}": value for name, value in recipe.items()} if isinstance(recipe, dict) else {}
    return {name: value for name, value in options.items() if name != "recipe"} | inner


def _compared(first: SweepFolder, second: SweepFolder) -> Comparison:
    if first.experiment != second.experiment:
        raise UserError(
            f"{first.name} is of {first.experiment.name} and {second.name} of {second.experiment.name}: two of one "
            "experiment can be compared"
        )
    names = [name for name in dict.fromkeys([*first.options, *second.options]) if name not in WHERE_AND_HOW]
    pairs = [(name, first.options.get(name), second.options.get(name)) for name in names]
    changes, shared = _changes(first, second)
    return Comparison(
        first=first.name,
        second=second.name,
        options=[pair for pair in pairs if pair[1] != pair[2]],
        changes=changes,
        shared=len(shared),
        same=int(shared["same"].sum()),
        repeated_otherwise=int((shared["same"] & (shared["change"] != 0)).sum()),
    )


def _changes(first: SweepFolder, second: SweepFolder) -> tuple[pd.DataFrame | None, pd.DataFrame]:
    """What changed, and the rows that both have."""
    compared = first.experiment.compared
    if compared is None:
        return None, pd.DataFrame({"same": [], "change": []})
    one, other = first.frame(compared.frame), second.frame(compared.frame)
    if compared.by is None:
        return _grid_changes(one, other, first, second)
    # Frames of before have no such column.
    sources = dict(zip(one["target"], one["target_block" if "target_block" in one else "target"], strict=True))
    parts, every = [], []
    for value in compared.values:
        if value in one and value in other:
            every.append(_once(paired(_of(one, value), _of(other, value), compared.keys, value), compared.by))
            placed = every[-1].assign(target_block=every[-1]["target"].map(sources))
            parts.append(mean_changes(placed, compared.by).assign(of=value))
    of_trials = [rows for rows in every if "id" in rows]  # a boost is of two
    shared = pd.concat(of_trials) if of_trials else max(every, key=len, default=pd.DataFrame())
    _check_shared(shared, first, second)
    found = pd.concat([part for part in parts if not part.empty], ignore_index=True)
    return found[["of", *(column for column in found if column != "of")]], shared


def _grid_changes(
    one: pd.DataFrame, other: pd.DataFrame, first: SweepFolder, second: SweepFolder
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same of two grids."""
    _check_halves(one, other, names=(first.name, second.name))
    # Frames of before have no such column.
    one, other = (
        frame if "train_per_class" in frame else frame.assign(train_per_class=math.nan) for frame in (one, other)
    )
    several = any(frame["train_per_class"].nunique() > 1 for frame in (one, other))  # else the two may differ in it
    by = ["train_per_class"] if several else []
    if several:
        one, other = _numbered(one, first), _numbered(other, second)
    shared = paired(one, other, [*CELL, *by], "top1")
    _check_shared(shared, first, second)
    if not several:
        return grid_changes(one, other), shared
    parts = [
        grid_changes(one[one[by[0]] == number], other[other[by[0]] == number]).assign(train_per_class=int(number))
        for number in sorted(shared[by[0]].unique())
    ]
    return pd.concat(parts, ignore_index=True), shared


def _numbered(frame: pd.DataFrame, sweep: SweepFolder) -> pd.DataFrame:
    """A grid's results with their number of training images, which those of a grid of one number leave out."""
    number = sweep.options.get("train_per_class")
    return frame.fillna({"train_per_class": number}) if isinstance(number, int) else frame


def _of(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """A table of outcomes with the trial of one of them as ``id``, where it has a column of those."""
    return frame.assign(id=frame[f"{value}_id"]) if f"{value}_id" in frame else frame


def _once(pairs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Each training of a target once, where it stands beside every base of it, as one on random layers does."""
    return pairs.drop_duplicates([*by, "target", "seed", "id"]) if "id" in pairs else pairs


def _check_shared(shared: pd.DataFrame, first: SweepFolder, second: SweepFolder) -> None:
    if shared.empty:
        raise UserError(f"{first.name} and {second.name} have no run in common by which they could be paired")


def _check_halves(first: pd.DataFrame, second: pd.DataFrame, *, names: tuple[str, str]) -> None:
    """Check that units of one name are one unit: the same classes of the same data are the target.

    Raises:
        UserError: They are not.
    """
    targets = []
    for frame in (first, second):
        rows = frame.drop_duplicates(["halves", "split", "direction"])
        tasks = [json.loads(config)["task"] for config in rows["config"]]
        units = zip(rows["halves"], rows["split"], rows["direction"], strict=True)
        targets.append({unit: (task["dataset"], task["classes"]) for unit, task in zip(units, tasks, strict=True)})
    for unit in sorted(targets[0].keys() & targets[1].keys()):
        if targets[0][unit] != targets[1][unit]:
            told = [f"classes {classes} of {data}" for data, classes in (of[unit] for of in targets)]
            raise UserError(
                f"the two cannot be paired: the target of {' '.join(unit[1:])} is {told[0]} in {names[0]} and "
                f"{told[1]} in {names[1]}"
            )


def print_comparisons(console: Console, first: str, second: str, *, as_json: bool = False) -> None:
    """Print how two sweeps, or the sweeps of two stores, differ.

    Args:
        console: Where to.
        first: A sweep's folder, or a store.
        second: Likewise.
        as_json: Whether as JSON: a list of ``Comparison``, its changes as rows.

    Raises:
        UserError: They cannot be compared.
    """
    found = compare(first, second)
    if as_json:
        print_json(console, [_as_json(comparison) for comparison in found])
        return
    for comparison in found:
        _print(console, comparison)


def _as_json(comparison: Comparison) -> dict[str, Any]:
    rows = None if comparison.changes is None else comparison.changes.astype(object).to_dict("records")
    options = [{"option": name, "first": one, "second": other} for name, one, other in comparison.options]
    return vars(comparison) | {"options": options, "changes": rows}


def _print(console: Console, comparison: Comparison) -> None:
    console.print(f"first:  {comparison.first}\nsecond: {comparison.second}\n", soft_wrap=True)
    if comparison.options:
        console.print("Options that differ:")
        for name, one, other in comparison.options:
            console.print(f"  {name}: {plain_yaml.one_line(one)} -> {plain_yaml.one_line(other)}", soft_wrap=True)
    elif comparison.shared and not comparison.same:
        console.print(
            "No option differs that could change a result, yet no run is the same trial in both: the data, or the "
            "source of a network, may have changed.",
            soft_wrap=True,
        )
    else:
        console.print("No option differs that could change a result.")
    console.print()
    if comparison.changes is None:
        compared = ", ".join(name for name, experiment in EXPERIMENTS.items() if experiment.compared)
        console.print(f"Results are paired for {compared}; of this experiment the options above are compared alone.")
        return
    shared = number_of(comparison.shared, "run")
    same = f"{shared} in common, {comparison.same} of them the same trial in both"
    if comparison.repeated_otherwise:
        console.print(
            f"{same}: {comparison.repeated_otherwise} of these came out otherwise, as on another kind of CPU or GPU or "
            "split over other numbers of processes. So changes are in part of these, and not of options.",
            soft_wrap=True,
        )
    else:
        console.print(f"{same}, which did not change.", soft_wrap=True)
    where = [str(c) for c in comparison.changes if c not in ("of", "estimate", "low", "high", "units", "runs", "clear")]
    table = NumberTable({"change of": "left", **dict.fromkeys([*where, "points", "units", "clear"], "right")})
    for row in comparison.changes.to_dict("records"):
        points = in_points(row["estimate"], row["low"], row["high"])
        cells = ["" if pd.isna(row[name]) else str(row[name]) for name in where]
        table.add_row(row["of"], *cells, points, str(row["units"]), "*" * row["clear"])
    console.print(table)
    rows = number_of(len(comparison.changes), "row")
    console.print(
        "Second minus first, percentage points, paired by run. [95%]: Student t over units (of a grid splits, "
        "or seeds of fixed halves; else sources of targets or, of one source, seeds), none under 3 units or where all "
        f"are equal. *: clear of zero, by intervals that are not corrected for the {rows}.",
        soft_wrap=True,
    )
