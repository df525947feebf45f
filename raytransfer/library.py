"""The library: sweeps planned and run from Python, and a store's rows as tables that can be joined."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
from rich.console import Console

from raytransfer.commands.forecasting import Forecast, forecast, print_forecast
from raytransfer.commands.opening import opened
from raytransfer.commands.planning import plan_sweep, state_of
from raytransfer.commands.sweeping import run_sweep
from raytransfer.config import as_argument, dotted, load_config, takes_text
from raytransfer.console.logs import logged
from raytransfer.console.output import is_terminal, plain_console
from raytransfer.distances import DISTANCES, Distance
from raytransfer.errors import UserError
from raytransfer.experiments import EXPERIMENTS, Experiment
from raytransfer.networks.settings import plain_settings
from raytransfer.probes import PROBES, Probe
from raytransfer.report import Report
from raytransfer.report.files import png
from raytransfer.scores import SCORES, Score
from raytransfer.specs import TrainingSpec, from_json
from raytransfer.specs.treatments import treatment_of
from raytransfer.store import Store, failures, read_table
from raytransfer.sweep.places import place_rows


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep that has run, as far as it could. In a notebook it shows its answer and figures.

    Attributes:
        report: What came out.
        folder: Where its files lie, ``report.html`` among them.
        failures: One row a place of a trial that failed, with the reason.
        complete: Whether all trials that were asked for are there.
    """

    report: Report
    folder: str
    failures: pd.DataFrame
    complete: bool

    @property
    def frames(self) -> Mapping[str, pd.DataFrame]:
        """The numbers by name; ``report.main`` names the one to start with."""
        return self.report.frames

    @property
    def figures(self) -> Mapping[str, Any]:
        """Pictures by name, figures of matplotlib."""
        return self.report.figures

    @property
    def answer(self) -> Sequence[str]:
        """What came out, in sentences; what stands against an answer where there is none."""
        return self.report.answer or self.report.notes

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.answer)
        pictures = (
            f'<img alt="{html.escape(name)}" style="max-width: 100%" '
            f'src="data:image/png;base64,{base64.b64encode(png(figure)).decode()}">'
            for name, figure in self.figures.items()
        )
        return said + "".join(pictures)


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """A sweep that has been checked and planned.

    Attributes:
        cells: One row a place of a trial: ``id``, where it stands in the sweep, and its ``state``: to run, there,
            failed, or waiting for one that failed.
        estimate: How long what is to run takes on this machine; None where nothing is, or it was not asked for.
    """

    cells: pd.DataFrame
    estimate: Forecast | None


def run(experiment: str, *overrides: str, out: str | Path = "results", quiet: bool = False, **options: Any) -> Sweep:
    """Run what is missing of a sweep, write its report, and give it, as ``raytransfer run`` does.

    Options are those of the command, with its checks: ``splits=8``, or a mapping for those of ``recipe``; or text as on
    the command line, ``"recipe.steps=100"``. ``mode="read-only"`` runs nothing.

    >>> import raytransfer as rt
    >>> sweep = rt.run("yosinski", out="results", splits=3, recipe={"steps": 100})  # doctest: +SKIP
    >>> sweep.frames["readings"]  # doctest: +SKIP
    >>> sweep.figures["lines"]  # doctest: +SKIP

    Args:
        experiment: Name of an experiment.
        overrides: Options as the command takes them.
        out: The store.
        quiet: Whether nothing is printed.
        options: Options by name.

    Raises:
        UserError: What is asked for cannot be done.
        StorageError: The storage failed on the way; the same call goes on from what is there.
    """
    chosen, arguments = _asked(experiment, overrides, out, options)
    config = load_config(chosen.config, chosen.defaults, arguments)
    console = _console(quiet=quiet)
    with logged(console), plain_settings():
        done = run_sweep(console, chosen, config, [text for text in arguments if not text.startswith("mode=")])
    return Sweep(
        report=done.report, folder=done.store.place(done.folder), failures=done.failures, complete=done.code == 0
    )


def plan(
    experiment: str,
    *overrides: str,
    out: str | Path = "results",
    estimate: bool = True,
    quiet: bool = False,
    **options: Any,
) -> PlannedSweep:
    """Check and plan a sweep, as ``raytransfer plan`` does; nothing is written.

    >>> import raytransfer as rt
    >>> few = {"halves": ["random"], "splits": 1, "seeds": 1, "n_layers": [2], "treatments": ["baseB", "AnB"]}
    >>> found = rt.plan("yosinski", out="no-store-yet", estimate=False, quiet=True, **few)
    >>> found.cells.groupby("treatment", sort=False).size().to_dict()
    {'baseB': 2, 'AnB': 2}
    >>> set(found.cells["state"])
    {'to run'}

    Args:
        experiment: Name of an experiment.
        overrides: Options as the command takes them.
        out: The store.
        estimate: Whether to measure how long it takes, for some seconds.
        quiet: Whether nothing is printed.
        options: Options by name.

    Raises:
        UserError: What is asked for cannot be done.
    """
    chosen, arguments = _asked(experiment, overrides, out, options)
    config = load_config(chosen.config, chosen.defaults, arguments)
    console = _console(quiet=quiet)
    with logged(console), plain_settings():
        sweep, todo, _ = plan_sweep(console, chosen, config)
        found = forecast(console, sweep, todo, config) if estimate else None
        if found is not None:
            print_forecast(console, found, sweep, config)
    rows = pd.DataFrame(place_rows(sweep)).drop(columns="reads")
    rows = rows.dropna(axis="columns", how="all").convert_dtypes()  # an experiment has some of the columns
    return PlannedSweep(cells=rows.assign(state=[state_of(trial, todo) for trial in rows["id"]]), estimate=found)


def _asked(
    experiment: str, overrides: Sequence[str], out: str | Path, options: Mapping[str, Any]
) -> tuple[Experiment[Any], list[str]]:
    """The experiment, and all that is asked of it as options of the command."""
    if not isinstance(experiment, str) or experiment not in EXPERIMENTS:
        raise UserError(f"{experiment} is no experiment; choose from {', '.join(EXPERIMENTS)}")
    if wrong := [text for text in overrides if not isinstance(text, str)]:
        raise UserError(f"{wrong[0]!r} is no option: give options by name, as splits=8, or as text, 'splits=8'")
    chosen = EXPERIMENTS[experiment]
    # One by one, so that an option in recipe={...} and by its whole name is seen to be given twice.
    taken_apart = [dotted({name: value}).items() for name, value in {"out": out, **options}.items()]
    given = [entry for entries in taken_apart for entry in entries]
    for name, value in given:
        if value is None and takes_text(chosen.config, name):
            raise UserError(f"{name}=None has the wrong type: it takes text")
    return chosen, [*overrides, *(as_argument(name, value) for name, value in given)]


def _console(*, quiet: bool) -> Console:
    """Standard output as it is: in a notebook plain lines, one below the other."""
    return plain_console(quiet=quiet, force_jupyter=False, force_terminal=is_terminal())


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a store holds, whichever sweeps ran it. Every table has a row's trial in ``id``; columns are in COLUMNS.md.

    Attributes:
        trials: One row a finished training, with the name of its ``treatment`` (see ``treatment_of``) and, as
            ``recipe.learning_rate`` and so on, how it was trained.
        curves: Their learning curves: one row an evaluation.
        distances: One row a distance of an ordered pair: ``base_task`` to come from and ``target_task`` to go to, as in
            ``trials``. A symmetric distance is measured once and stands here in both directions.
        scores: One row a score of a network on a target task.
        probes: One row a reading of a probe, with what was probed.
        simulations: One row a simulation of the two-layer theory.
        failures: One row a trial that failed and has not finished since: ``id`` and its ``error``.
    """

    trials: pd.DataFrame
    curves: pd.DataFrame
    distances: pd.DataFrame
    scores: pd.DataFrame
    probes: pd.DataFrame
    simulations: pd.DataFrame
    failures: pd.DataFrame


def load(out: str | Path) -> Results:
    """Read a store, while sweeps write to it or afterwards.

    Distances join with the trainings of a pair on ``["base_task", "target_task", "seed"]``. Distances, scores and
    readings of probes whose definition has changed since are left out.

    >>> import raytransfer as rt
    >>> found = rt.load("results")  # doctest: +SKIP
    >>> frozen = found.trials[found.trials["treatment"] == "AnB"]  # doctest: +SKIP
    >>> frozen.merge(found.distances, on=["base_task", "target_task", "seed"])  # doctest: +SKIP

    Args:
        out: A folder or a URI, as the option of that name.

    Raises:
        UserError: It is no store, one of another version, or one that cannot be read.
        StorageError: The storage stops answering.
        UnreadableError: A file of rows is damaged.
    """
    opened(str(out))
    store = Store(str(out))
    failed = failures(store)
    return Results(
        trials=_with_treatment_and_recipe(read_table(store, "trials")),
        curves=read_table(store, "curves"),
        distances=_on_ordered_pairs(_as_defined_now(read_table(store, "distances"), "measure", DISTANCES)),
        scores=_as_defined_now(read_table(store, "scores"), "measure", SCORES),
        probes=_as_defined_now(read_table(store, "probes"), "probe", PROBES).merge(
            read_table(store, "readings"), on="id"
        ),
        simulations=read_table(store, "simulations"),
        failures=pd.DataFrame({"id": [*failed], "error": [*failed.values()]}, dtype="str"),
    )


def _with_treatment_and_recipe(trials: pd.DataFrame) -> pd.DataFrame:
    recipes = pd.DataFrame([json.loads(config)["recipe"] for config in trials["config"]], index=trials.index)
    treatments = [treatment_of(cast(TrainingSpec, from_json(config))) for config in trials["config"]]
    trials.insert(1, "treatment", pd.Series(treatments, dtype="str"))
    return trials.join(recipes.add_prefix("recipe."))


def _as_defined_now(rows: pd.DataFrame, name: str, defined: Mapping[str, Distance | Score | Probe]) -> pd.DataFrame:
    """Rows of the revision that a measure has now, and of measures that are not defined here."""
    revisions = {measure: known.revision for measure, known in defined.items()}
    then = pd.Series([json.loads(config).get("revision", 1) for config in rows["config"]], rows.index, dtype="int64")
    return rows[then == rows[name].map(revisions).fillna(then)]


def _on_ordered_pairs(distances: pd.DataFrame) -> pd.DataFrame:
    """Distances from each base task to each target task.

    Where a network is compared it is the target's, so that the pair has an order whatever the measure.
    """
    names = {"source_task": "base_task", "target_task": "target_task"}
    symmetric = {name for name, distance in DISTANCES.items() if distance.symmetric}
    both_ways = distances["measure"].isin(symmetric) & distances["reference_id"].isna()
    back = distances[both_ways & (distances["source_task"] != distances["target_task"])]
    swapped = {"source_task": "target_task", "target_task": "base_task"}
    swapped |= {"source_images": "target_images", "target_images": "source_images"}
    return pd.concat([distances.rename(columns=names), back.rename(columns=swapped)], ignore_index=True)
