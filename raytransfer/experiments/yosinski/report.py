"""The grid of Yosinski et al. 2014: from its results to a report."""

from collections.abc import Mapping, Sequence
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
    images_figure,
)
from raytransfer.experiments.yosinski.sentences import sentences
from raytransfer.experiments.yosinski.tables import boosts_table, means_table, readings_table
from raytransfer.networks import ZOO
from raytransfer.report import Report
from raytransfer.report.rows import places_of
from raytransfer.specs import Imported, TransferSpec
from raytransfer.store import Store, read_table
from raytransfer.store.schema import CELLS, arrow_schema
from raytransfer.sweep.plan import Plan
from raytransfer.words import number_of

_LEAST_POINTS = 3  # of a curve
_CAPTIONS = {
    "images": "The readings against the number of training images a class, a line an n.",
    "readings": "What was lost or gained, in percentage points, against the number of copied layers. Each reading is "
    "the difference of two treatments within one split, direction and seed; the distance effect is that of dissimilar "
    "halves less that of random ones. Intervals are not corrected for their number.",
    "lines": "Mean top-1 accuracy of every treatment against the number of copied layers (Yosinski et al. 2014, Figure "
    "2, bottom). Whiskers and bands contain the spread between targets, which the readings are free of.",
    "points": "Every run's top-1 accuracy against the number of copied layers (Yosinski et al. 2014, Figure 2, top). "
    "Bases stand at n = 0.",
    "curves": "Learning curves: mean top-1 accuracy on the test images after each evaluation, a line an n.",
}


def make_report(plan: Plan[GridCell, None], store: Store, config: GridConfig) -> Report:
    """Analyse the finished part of a grid.

    Its frames: ``results``, one row per finished cell (``schema.CELLS`` joined with ``schema.TRIALS``); ``means``,
    ``readings`` and ``boosts`` are ``raytransfer.analysis``'s of them, the last over all n, n >= 3 and n >= 5, as far
    as the network has them. Of several numbers of training images each is analysed by itself, the figures are of the
    most, and ``changes`` says what differs between the fewest and the most.
    """
    results = results_of(plan.cells, store)
    if results.empty:
        return Report(notes=["No trial of this sweep has finished."])
    numbers = [int(number) for number in sorted(results["train_per_class"].dropna().unique())]
    if len(numbers) < 2:
        return _of_one_number(
            _analysed(results), plan, store, config, numbers[0] if numbers else config.train_per_class
        )
    each = {number: _analysed(results[results["train_per_class"] == number]) for number in numbers}
    report = _of_one_number(each[numbers[-1]], plan, store, config, numbers[-1])
    frames = {name: _of_all_numbers(name, each) for name in ("means", "readings", "boosts")}
    changes = changes_with_images(results)
    tables: list[RenderableType] = []
    for number in numbers[:-1]:
        tables += [_heading(number), means_table(each[number]["means"]), readings_table(each[number]["readings"])]
    tables += [_heading(numbers[-1]), *report.tables]
    figures = {}
    if not frames["readings"].empty:
        title = _title(plan, config, f"{listed(numbers)} training images a class")
        figures["images"] = images_figure(
            frames["readings"], title=title, subtitle=_sample(each[numbers[-1]]["results"])
        )
    if not changes.empty:
        tables.append(changes_table(changes))
    return replace(
        report,
        frames={"results": results, **frames, "changes": changes},
        tables=tables,
        figures={**figures, **report.figures},
        answer=[*changes_sentences(changes), *(f"{_amount(numbers[-1])}: {said}" for said in report.answer)],
    )


def _of_all_numbers(name: str, each: Mapping[int, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """One frame of the analyses of every number; those without rows, whose columns have no types, are left out."""
    tables = [frames[name].assign(train_per_class=number) for number, frames in each.items()]
    return pd.concat([table for table in tables if not table.empty] or tables, ignore_index=True)


def _analysed(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The frames of runs with one number of training images."""
    return {
        "results": results,
        "means": treatment_means(results),
        "readings": readings(results),
        "boosts": _boosts(results),
    }


def _of_one_number(
    frames: dict[str, pd.DataFrame], plan: Plan[GridCell, None], store: Store, config: GridConfig, number: int | None
) -> Report:
    """The report of runs with one number of training images."""
    results, means, paired, averaged = (frames[name] for name in ("results", "means", "readings", "boosts"))
    title, subtitle = _title(plan, config, _amount(number)), _sample(results)
    figures, captions = {}, dict(_CAPTIONS)
    if not paired.empty:
        published = _published(plan, config)
        figures["readings"] = readings_figure(paired, title=title, subtitle=subtitle, published=published)
        if published is not None:
            captions["readings"] += " Grey: what came out in 2014 on ILSVRC12."
    figures["lines"] = lines_figure(means, title=title, subtitle=subtitle)
    figures["points"] = points_figure(results, title=title, subtitle=subtitle)
    return Report(
        frames=frames,
        main=("results", "Every trial of the sweep, one row each"),
        tables=[means_table(means), readings_table(paired), *([] if averaged.empty else [boosts_table(averaged)])],
        figures={**figures, **_curves(results, store, title)},
        captions=captions,
        answer=sentences(paired, _checkpoint(plan)),
    )


def _boosts(results: pd.DataFrame) -> pd.DataFrame:
    """Boosts over all n, n >= 3 and n >= 5, as far as there are any."""
    copied = sorted({int(n) for n in results["n_layers"] if n > 0})
    firsts = dict.fromkeys(min((n for n in copied if n >= least), default=0) for least in (1, 3, 5))
    return boosts(results, [(first, copied[-1]) for first in firsts if first])


def _amount(number: int | None) -> str:
    return "all training images" if number is None else f"{number_of(number, 'training image')} a class"


def _heading(number: int) -> Text:
    return Text(_amount(number), style="bold underline")


def _title(plan: Plan[GridCell, None], config: GridConfig, amount: str) -> str:
    title = f"{plan.network} on {plan.data}, {amount}, {number_of(config.recipe.steps, 'step')}"
    checkpoint = _checkpoint(plan)
    return title if checkpoint is None else f"{title}\nA: {checkpoint}"


def _checkpoint(plan: Plan[GridCell, None]) -> str | None:
    """What the weights of others are called that stand in for those of base A; None where none do."""
    copied = (spec.weights for spec in plan.trainings if isinstance(spec, TransferSpec))
    return next((weights.label for weights in copied if isinstance(weights, Imported)), None)


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


def _curves(results: pd.DataFrame, store: Store, title: str) -> dict[str, Figure]:
    """The learning curves of what was copied, if anything was and there are more evaluations than the last.

    They are of one kind of halves, of random ones where layers were copied there.
    """
    copied = sorted(results.loc[results["n_layers"] > 0, "halves"].unique(), key=lambda halves: halves != "random")
    of_halves = results[results["halves"].isin(copied[:1])]
    curves = read_table(store, "curves")[["id", "step", "top1"]]
    curves = of_halves[["id", "treatment", "halves", "n_layers"]].merge(curves, on="id")
    if curves.empty or curves.groupby("id").size().max() < _LEAST_POINTS:
        return {}
    return {"curves": curves_figure(curves, title=title, subtitle=_sample(of_halves))}


def _published(plan: Plan[GridCell, None], config: GridConfig) -> pd.DataFrame | None:
    """The readings of 2014, for a network that has as many layers as theirs, so that n means the same."""
    architecture = ZOO.get(plan.network)
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
