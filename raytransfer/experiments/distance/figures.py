"""Pictures of transfer against distances and scores: curves and correlations.

A figure shows what its DataFrame holds: it selects and sorts rows and scales fractions to percent, and computes nothing
else.
"""

import math
import re

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from raytransfer.analysis.intervals import SURE
from raytransfer.analysis.pairs import OUTCOMES
from raytransfer.experiments.words import Row, counted, in_percent, in_points, no_p_below, said_blocks, with_interval
from raytransfer.report.style import dot, drawable, fit_to, head, layer_colors, new_figure, words
from raytransfer.report.svg import tell
from raytransfer.specs.treatments import ANB, ANB_PLUS
from raytransfer.words import number_of

_COLORS = {ANB.name: ANB.color, ANB_PLUS.name: ANB_PLUS.color, "boost": "#1f5fbf"}
_MARKERS = {ANB.name: ANB.marker, ANB_PLUS.name: ANB_PLUS.marker, "boost": "o"}
_DARK = "#333333"


def transfer_figure(points: pd.DataFrame, curves: pd.DataFrame, *, title: str) -> Figure:
    """Draw transfer against one measure, a column of panels for each n, with the fitted curve and its 95% band.

    For one target, AnB and AnB+ share a row of panels and differ by colour. For several, each outcome has a row and
    the colours are those of the targets. The boost, in points, always has a row and a scale of its own.

    Args:
        points: Output of ``raytransfer.analysis.transfer_points``: a point is a pair, the mean over its seeds.
        curves: Output of ``raytransfer.analysis.curves`` for the same measure.
        title: What was run.

    Raises:
        ValueError: There are no points, or those of more than one measure.
    """
    known = drawable(points, "outcome", OUTCOMES)
    if known["measure"].nunique() > 1:
        raise ValueError(f"one measure a figure, not {', '.join(known['measure'].unique())}")
    measure, kind = known["measure"].iloc[0], known["kind"].iloc[0]
    curves = curves[curves["measure"] == measure]
    present = [outcome for outcome in OUTCOMES if outcome in set(known["outcome"])]
    accuracies = [outcome for outcome in present if outcome != "boost"]
    targets, all_n = (sorted(known[name].unique()) for name in ("target", "n_layers"))
    if len(targets) == 1:
        rows = [accuracies]
        known = known.assign(color=known["outcome"].map(_COLORS), series=known["outcome"])
        line_colors = _COLORS
        handles = [dot(_COLORS[name], name, marker=_MARKERS[name]) for name in present]
        fitted_to = "the points"
    else:
        rows = [[outcome] for outcome in accuracies]
        palette = colormaps["tab10" if len(targets) <= 10 else "tab20"]
        of_target = {target: to_hex(palette(i % palette.N)) for i, target in enumerate(targets)}
        known = known.assign(color=known["target"].map(of_target), series="target " + known["target"].astype(str))
        line_colors = dict.fromkeys(OUTCOMES, _DARK)
        handles = [dot(color, f"target {target}") for target, color in of_target.items()]
        fitted_to = "them,\nat the mean target"
    rows += [["boost"]] if "boost" in present else []
    figure = new_figure((2.7 + 3.1 * len(all_n), 1.2 + 2.6 * len(rows)), title)
    axes = figure.subplots(len(rows), len(all_n), squeeze=False, sharex="col", sharey="row")
    for of_row, outcomes in zip(axes, rows, strict=True):
        shown = known[known["outcome"].isin(outcomes)]
        of_row[0].set_ylabel("boost, points" if outcomes == ["boost"] else f"{' and '.join(outcomes)}: top-1, %")
        for axis, n_layers in zip(of_row, all_n, strict=True):
            here, fits = shown[shown["n_layers"] == n_layers], curves[curves["n_layers"] == n_layers]
            head(axis, f"n = {n_layers}, {number_of(len(here[['target', 'base']].drop_duplicates()), 'pair')}")
            _draw_pairs(axis, here)
            for outcome, fit in fits[fits["outcome"].isin(outcomes)].groupby("outcome"):  # few pairs have none
                _draw_fit(axis, fit, line_colors[str(outcome)], str(outcome) if len(targets) == 1 else "fits")
            if outcomes == ["boost"]:
                axis.axhline(0, color="#999999", linewidth=0.8, zorder=0)
        fit_to(of_row, 100 * shown["y"])
    figure.supxlabel(f"{measure} ({'larger is farther' if kind == 'distance' else 'larger should transfer better'})")
    handles.append(words("points: pairs of tasks,\nmeans over seeds"))
    banded = np.isfinite(curves["low"].astype(float)).any()
    bands = f"\nbands: 95% intervals\nover {said_blocks(curves)}" if banded else ""
    if not curves.empty:
        handles.append(words(f"lines: fits to {fitted_to}{bands}"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _draw_pairs(axis: Axes, points: pd.DataFrame) -> None:
    for (outcome, _), group in points.groupby(["outcome", "target"]):
        color, marker = group["color"].iloc[0], _MARKERS[str(outcome)]
        x, y = group["x"], 100 * group["y"]
        (drawn,) = axis.plot(x, y, marker, color=color, markersize=4.5, alpha=0.75, markeredgewidth=0)
        tell(drawn, group["series"].iloc[0], [_told_pair(row) for row in group.to_dict("records")])


def _draw_fit(axis: Axes, curve: pd.DataFrame, color: str, series: str) -> None:
    (drawn,) = axis.plot(curve["x"], 100 * curve["y"], color=color, linewidth=1.6)
    low, high = 100 * curve["low"].astype(float), 100 * curve["high"].astype(float)
    tell(axis.fill_between(curve["x"], low, high, color=color, alpha=0.15, linewidth=0), series)
    rows = curve.to_dict("records")
    values = [_said_transfer(row["outcome"], row["y"], row["low"], row["high"]) for row in rows]
    fitted = f"{values[0]} at {rows[0]['x']:.3g}, {values[-1]} at {rows[-1]['x']:.3g}"
    tell(drawn, series, [f"{_place(rows[0])}, fit: {fitted}, {said_blocks(curve)}"])


def _told_pair(row: Row) -> str:
    value, seeds = _said_transfer(row["outcome"], row["y"]), number_of(row["seeds"], "seed")
    return f"{_place(row)}, {row['base']} to {row['target']}: {value} at {row['measure']} {row['x']:.3g}, {seeds}"


def _told_correlation(row: Row) -> str:
    estimate = with_interval(row["estimate"], row["low"], row["high"], "z.2f")
    p_value = "" if math.isnan(row["p_adjusted"]) else f", adjusted p = {row['p_adjusted']:.2g}"
    counts = f"{number_of(row['pairs'], 'pair')}, {number_of(row['blocks'], 'block')}"
    return f"{_signed(row['measure'], row['kind'])}, {_place(row)}: {estimate}, {counts}{p_value}"


def _place(row: Row) -> str:
    return f"{row['outcome']}, n = {row['n_layers']}"


def _signed(measure: str, kind: str) -> str:
    """A measure as its correlation has it: minus a distance."""
    return f"− {measure}" if kind == "distance" else measure


def _said_transfer(outcome: str, value: float, low: float = math.nan, high: float = math.nan) -> str:
    """An accuracy in percent, or a boost in points, with its interval where there is one."""
    if outcome == "boost":
        return f"{in_points(value, low, high)} points"
    return f"{in_percent(value, low, high)}%"


def correlations_figure(correlations: pd.DataFrame, *, title: str) -> Figure:
    """Draw how well each measure predicts transfer within targets: Spearman's ρ and its 95% interval.

    A panel for each of AnB and AnB+ (the boost ranks the bases of a target as AnB+ does), a row for each measure, the
    best on average on top, and in it a dot for each n. Distances are named with a minus, because it is minus the
    distance that predicts. Dots are filled where the adjusted p-value is below 0.05.

    Args:
        correlations: Output of ``raytransfer.analysis.correlations``.
        title: What was run.

    Raises:
        ValueError: There is no such ρ.
    """
    outcomes = (ANB.name, ANB_PLUS.name)
    known = correlations[(correlations["scope"] == "within target") & (correlations["coefficient"] == "Spearman")]
    known = known[known["outcome"].isin(outcomes)]
    if known.empty:
        raise ValueError("nothing to draw: no row is Spearman within target")
    order = known.groupby("measure")["estimate"].mean().sort_values(na_position="first", kind="stable").index
    kinds = known.drop_duplicates("measure").set_index("measure")["kind"]
    all_n = sorted(known["n_layers"].unique())
    colors = dict(zip(all_n, layer_colors(all_n), strict=True))
    tested = bool(known["p_adjusted"].notna().any())
    height = 0.5 + max(0.26, 0.13 * len(all_n)) * len(order)
    figure = new_figure((2.7 + 2.9 * len(outcomes), 1.2 + height), title)
    axes = figure.subplots(1, len(outcomes), squeeze=False, sharey="row")[0]
    for axis, outcome in zip(axes, outcomes, strict=True):
        rows = known[known["outcome"] == outcome]
        head(axis, f"{outcome}: {counted(rows['pairs'], 'pair')}, {said_blocks(rows)}")
        _draw_estimates(axis, rows, order, colors, tested=tested)
    axes[0].set_yticks(range(len(order)), [_signed(m, kinds[m]) for m in order], fontsize=9)
    axes[0].set_ylim(-0.6, len(order) - 0.4)
    figure.supxlabel("Spearman's correlation with transfer, within target", fontsize=10)
    handles = [dot(color, f"n = {n_layers}") for n_layers, color in colors.items()]
    if tested:
        handles += [dot(_DARK, "adjusted p < 0.05"), dot(_DARK, "adjusted p ≥ 0.05", face="white")]
        least = no_p_below(known.loc[known["p_adjusted"].notna(), "blocks"])
        handles += [words(re.sub("([:,;]) ", r"\1\n", least))] if least else []
    lines = "lines: 95% intervals\n" if np.isfinite(known["low"].astype(float)).any() else ""
    handles.append(words(f"{lines}−: minus a distance"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _draw_estimates(axis: Axes, rows: pd.DataFrame, order: pd.Index, colors: dict[int, str], *, tested: bool) -> None:
    """A row for each measure, from the bottom in order, and in it a dot for each n, the smallest on top."""
    axis.axvline(0, color="#999999", linewidth=1, zorder=0)
    step = min(0.8 / len(colors), 0.3)
    for i, (n_layers, color) in enumerate(colors.items()):
        of_n = rows[rows["n_layers"] == n_layers].set_index("measure").reindex(order)
        y = np.arange(len(order)) - (i - (len(colors) - 1) / 2) * step
        tell(axis.hlines(y, of_n["low"], of_n["high"], color=color, linewidth=1.1), f"n = {n_layers}")
        filled = (of_n["p_adjusted"] < SURE).to_numpy(dtype=bool) | (not tested)
        for which, face in ((filled, color), (~filled, "white")):
            x = of_n["estimate"][which]
            (drawn,) = axis.plot(x, y[which], "o", markersize=4.5, color=color, markerfacecolor=face, zorder=3)
            known = of_n[which & of_n["estimate"].notna()].reset_index()
            tell(drawn, f"n = {n_layers}", [_told_correlation(row) for row in known.to_dict("records")])
    axis.set_xlim(-1.05, 1.05)
    axis.set_xticks([-1, -0.5, 0, 0.5, 1])
    axis.grid(axis="both", color="#eeeeee", linewidth=0.8)
