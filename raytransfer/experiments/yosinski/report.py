"""The grid of Yosinski et al. 2014: from its results to a report."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.text import Text

from raytransfer.analysis import BASES, boosts, readings, treatment_means, yosinski2014
from raytransfer.analysis.checks import listed
from raytransfer.experiments.yosinski.cells import GridCell
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.figures import curves_figure, lines_figure, points_figure, readings_figure
from raytransfer.experiments.yosinski.images import (
    changes_sentences,
    changes_table,
    changes_with_images,
    for_each,
    images_figure,
)
from raytransfer.experiments.yosinski.sentences import sentences
from raytransfer.experiments.yosinski.tables import boosts_table, means_table, readings_table
from raytransfer.networks import ZOO
from raytransfer.report import Report
from raytransfer.report.rows import places_of
from raytransfer.store import Store, read_table
from raytransfer.store.schema import CELLS, arrow_schema
from raytransfer.sweep.plan import Plan
from raytransfer.words import number_of

_LEAST_POINTS = 3  # of a curve
_CAPTIONS = {
    "images": "The readings against the number of training images a class, a line an n.",
    "readings": "What was lost or gained, in percentage points, against the number of copied layers. Each reading is "
    "the difference of two treatments within one split, direction and seed. Grey, for a network of 8 layers: what came "
    "out in 2014 on ILSVRC12.",
    "lines": "Mean top-1 accuracy of every treatment against the number of copied layers (Yosinski et al. 2014, Figure "
    "2, bottom). Whiskers and bands contain the spread between targets, which the readings are free of.",
    "points": "Every run's top-1 accuracy against the number of copied layers (Yosinski et al. 2014, Figure 2, top). "
    "Bases stand at n = 0.",
    "curves": "Learning curves: mean top-1 accuracy on the test images after each evaluation, a line an n.",
}


def make_report(plan: Plan[GridCell, None], store: Store, config: GridConfig) -> Report:
    """Analyse the finished part of a grid.

    Its frames: ``results``, one row a finished cell (``schema.CELLS`` joined with ``schema.TRIALS``); ``means``,
    ``readings`` and ``boosts`` are ``raytransfer.analysis``'s of them, the last over all n, n >= 3 and n >= 5, as far
    as the network has them. Of several numbers of training images each is analysed by itself, the figures are of the
    most, and ``changes`` says what differs between the fewest and the most.
    """
    results = results_of(plan.cells, store)
    if results.empty:
        return Report(notes=["No trial of this sweep has finished."])
    numbers = sorted(results["train_per_class"].dropna().unique())
    if len(numbers) < 2:
        return _of_one_number(results, plan, store, config, _amount(numbers, config))
    most = results[results["train_per_class"] == numbers[-1]]
    report = _of_one_number(most, plan, store, config, _amount(numbers[-1:], config))
    analysed = {"means": treatment_means, "readings": readings, "boosts": _boosts}
    frames = {"results": results, **{name: for_each(results, analyse) for name, analyse in analysed.items()}}
    changes = changes_with_images(results)
    tables: list[RenderableType] = []
    for number in numbers[:-1]:
        few = frames["means"]["train_per_class"] == number, frames["readings"]["train_per_class"] == number
        heading = Text(f"{_amount([number], config)}", style="bold underline")
        tables += [heading, means_table(frames["means"][few[0]]), readings_table(frames["readings"][few[1]])]
    tables += [Text(_amount(numbers[-1:], config), style="bold underline"), *report.tables]
    told = f"{_title(plan, config, f'{listed(map(int, numbers))} training images a class')}", _sample(most)
    figures = {"images": images_figure(frames["readings"], title=told[0], subtitle=told[1])}
    return replace(
        report,
        frames={**frames, "changes": changes},
        tables=[*tables, changes_table(changes)],
        figures={**figures, **report.figures},
        answer=[*changes_sentences(changes), *(f"{_amount(numbers[-1:], config)}: {said}" for said in report.answer)],
    )


def _of_one_number(
    results: pd.DataFrame, plan: Plan[GridCell, None], store: Store, config: GridConfig, amount: str
) -> Report:
    """The report of the runs with one number of training images."""
    means, paired, averaged = treatment_means(results), readings(results), _boosts(results)
    title, subtitle = _title(plan, config, amount), _sample(results)
    figures = {}
    if not paired.empty:
        figures["readings"] = readings_figure(paired, title=title, subtitle=subtitle, published=_published(config))
    figures["lines"] = lines_figure(means, title=title, subtitle=subtitle)
    figures["points"] = points_figure(results, title=title, subtitle=subtitle)
    return Report(
        frames={"results": results, "means": means, "readings": paired, "boosts": averaged},
        main=("results", "Every trial of the sweep, one row each"),
        tables=[means_table(means), readings_table(paired), *([] if averaged.empty else [boosts_table(averaged)])],
        figures={**figures, **_curves(results, store, title, subtitle)},
        captions=_CAPTIONS,
        answer=sentences(paired),
    )


def _boosts(results: pd.DataFrame) -> pd.DataFrame:
    """Boosts over all n, n >= 3 and n >= 5, as far as there are any."""
    copied = sorted({int(n) for n in results["n_layers"] if n > 0})
    firsts = dict.fromkeys(min((n for n in copied if n >= least), default=0) for least in (1, 3, 5))
    return boosts(results, [(first, copied[-1]) for first in firsts if first])


def _amount(numbers: Sequence[int], config: GridConfig) -> str:
    number = int(numbers[0]) if len(numbers) else config.train_per_class
    return "all training images" if number is None else f"{number_of(number, 'training image')} a class"


def _title(plan: Plan[GridCell, None], config: GridConfig, amount: str) -> str:
    return f"{config.network} on {plan.data}, {amount}, {number_of(config.recipe.steps, 'step')}"


def results_of(cells: Sequence[GridCell], store: Store) -> pd.DataFrame:
    """The finished cells of a grid, each with its trial's row; one trial may fill several cells.

    Treatments without a cut stand at n_layers = 0, as bases do, even if they copy layers: at every sweep's n.
    """
    rows = places_of(cells, ["treatment", "halves", "split", "direction", "train_per_class"])
    places = pa.Table.from_pandas(rows[[column.name for column in CELLS]], arrow_schema(CELLS), preserve_index=False)
    joined: pd.DataFrame = places.to_pandas().merge(
        read_table(store, "trials"), on="id", how="inner", validate="many_to_one"
    )
    joined.loc[joined["treatment"].isin(BASES), "n_layers"] = 0
    return joined


def _curves(results: pd.DataFrame, store: Store, title: str, subtitle: str) -> dict[str, Figure]:
    """The learning curves of what was copied, if anything was and there are more evaluations than the last."""
    curves = read_table(store, "curves")[["id", "step", "top1"]]
    curves = results[["id", "treatment", "halves", "n_layers"]].merge(curves, on="id")
    if not (curves["n_layers"] > 0).any() or curves.groupby("id").size().max() < _LEAST_POINTS:
        return {}
    return {"curves": curves_figure(curves, title=title, subtitle=subtitle)}


def _published(config: GridConfig) -> pd.DataFrame | None:
    """The readings of 2014, for a network that has as many layers as theirs, so that n means the same."""
    architecture = ZOO.get(config.network)
    if config.stages is not None or architecture is None or len(architecture.stages) != len(ZOO["caffenet"].stages):
        return None
    return readings(yosinski2014(), metric="top1_best10")


def _sample(results: pd.DataFrame) -> str:
    """Sample sizes, for under the title."""
    parts = []
    for halves, rows in results.groupby("halves", sort=False):
        splits, directions, seeds = (rows[column].nunique() for column in ("split", "direction", "seed"))
        is_random = halves == "random"
        units = number_of(splits if is_random else seeds, "unit")
        counted = f"{number_of(splits, 'split')} x " if is_random else ""
        counted += f"{number_of(directions, 'direction')} x {number_of(seeds, 'seed')}"
        parts.append(f"{halves}: {counted}, {units} ({'splits' if is_random else 'seeds'})")
    return "\n".join(parts)
