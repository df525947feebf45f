"""Pictures of what dials do: transfer along them and over their grid, and how distances and scores follow them.

A figure shows what its DataFrame holds: it selects and sorts rows and scales fractions to percent, and computes nothing
else.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from raytransfer.distances import DIAL_KINDS
from raytransfer.experiments.words import Row, counted, said_units, told_mean, with_interval
from raytransfer.report.style import drawable, fit_to, head, layer_colors, new_figure, panels_of, words
from raytransfer.report.svg import tell
from raytransfer.specs.treatments import ANB, ANB_PLUS, TREATMENTS
from raytransfer.words import number_of

_DASHES: dict[str, Literal["-", "--"]] = {ANB.name: "-", ANB_PLUS.name: "--"}
_DARK = "#333333"
_ITSELF = "–"  # in place of a setting: the target itself
_TELL_NOTHING = 2  # levels of a dial, of which ρ is 1 or −1 whatever happens
_KINDS = {  # of the rows of the monotonicity figure, with the right way of each
    "distance": "distances: +1 is right, they grow along the dial",
    "score": "scores: −1 is right, they fall along the dial",
    "outcome": "transfer: −1 where it falls along the dial",
}


def dial_grid_figure(means: pd.DataFrame, *, title: str) -> Figure:
    """Draw transfer over the two-dimensional grid of dials: a heat map for each outcome (rows) and n (columns).

    A cell says the mean in percent and, below, half the width of its 95% interval. One scale of colours a row.

    Args:
        means: Output of ``raytransfer.analysis.grid_means``.
        title: What was run.

    Raises:
        ValueError: There are no cells.
    """
    known = drawable(means, "outcome", _DASHES)
    outcomes = [outcome for outcome in _DASHES if outcome in set(known["outcome"])]
    all_n, inputs, labels = (sorted(known[name].unique()) for name in ("n_layers", "input_level", "label_level"))
    width, height = 0.3 + 0.62 * len(labels), 0.4 + 0.46 * len(inputs)
    figure = new_figure((2.7 + width * len(all_n), 1.2 + height * len(outcomes)), title)
    axes = figure.subplots(len(outcomes), len(all_n), squeeze=False, sharex="all", sharey="all")
    for of_row, outcome in zip(axes, outcomes, strict=True):
        shown = known[known["outcome"] == outcome]
        norm = Normalize(100 * shown["mean"].min(), 100 * shown["mean"].max())
        for axis, n_layers in zip(of_row, all_n, strict=True):
            rows = shown[shown["n_layers"] == n_layers]
            runs = "" if rows.empty else f", {counted(rows['runs'], 'run')} a cell"  # of an n that has not begun
            head(axis, f"{outcome}, n = {n_layers}{runs}")
            cells = {
                (inputs.index(row["input_level"]), labels.index(row["label_level"])): (
                    100 * row["mean"],
                    _mean(row),
                    f"{outcome}, n = {n_layers}, {_told_mean(row)}",
                )
                for row in rows.to_dict("records")
            }
            drawn = _draw_matrix(axis, cells, (len(inputs), len(labels)), norm, "Blues", origin="lower")
            axis.set_xticks(range(len(labels)), [f"{level:g}" for level in labels])
            axis.set_yticks(range(len(inputs)), [f"{level:g}" for level in inputs])
        figure.colorbar(drawn, ax=list(of_row), label=f"{outcome}: top-1, %", pad=0.01)
    figure.supxlabel("level of the label dial (0: as the target)", fontsize=10)
    figure.supylabel("level of the input dial (0: as the target)", fontsize=10)
    return figure


def dials_figure(means: pd.DataFrame, dials: pd.DataFrame, *, title: str) -> Figure:
    """Draw transfer along every one-dimensional dial: a panel per dial, a colour per n, AnB solid and AnB+ dashed.

    Whiskers are the 95% intervals of the means, as far as they lie in 0..100%; those much wider than the lines lie
    apart are cut off at the panel's edge, as for few seeds.

    Args:
        means: Output of ``raytransfer.analysis.dial_means``.
        dials: A row for each base and dial, with the setting that each level stands for; missing for the target itself.
        title: What was run.

    Raises:
        ValueError: There is no AnB or AnB+.
    """
    known = drawable(means, "outcome", _DASHES)
    shown = _dials(known["kind"], known["dial"])
    settings = dials.drop_duplicates(["dial", "level"]).set_index(["dial", "level"])["setting"]
    all_n = sorted(known["n_layers"].unique())
    colors = dict(zip(all_n, layer_colors(all_n), strict=True))
    figure, panels = panels_of(len(shown), 4, panel=(2.7, 2.4), around=(2.7, 1.2), title=title, sharey=True)
    for axis, (kind, dial) in zip(panels, shown, strict=True):
        rows = known[known["dial"] == dial]  # which is of one kind
        head(axis, _dial_name(kind, dial))
        levels = {level: _setting(settings.get((dial, level))) for level in sorted(rows["level"].unique())}
        _draw_dial(axis, rows.assign(setting=rows["level"].map(levels)), colors)
        axis.set_xticks(list(levels), list(levels.values()))
    fit_to(panels, 100 * known["mean"])
    figure.supxlabel("setting of the dial (–: the target itself)", fontsize=10)
    figure.supylabel("top-1 accuracy on the target, %", fontsize=10)
    handles = [Line2D([], [], color=color, label=f"n = {n_layers}") for n_layers, color in colors.items()]
    for name, dash in _DASHES.items():
        if name in set(known["outcome"]):
            marker = TREATMENTS[name].marker
            handles.append(Line2D([], [], color=_DARK, linestyle=dash, marker=marker, markersize=4, label=name))
    handles.append(words(f"points: means of\n{counted(known['runs'], 'run')}"))
    if np.isfinite(known["low"]).any():
        handles.append(words(f"whiskers:\n95% intervals over\n{said_units(known)}"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _draw_dial(axis: Axes, means: pd.DataFrame, colors: dict[Any, str]) -> None:
    """A line for each treatment and n, a little beside each other."""
    step = 0.008 * (means["level"].max() - means["level"].min())
    for (treatment, n_layers), rows in means.groupby(["outcome", "n_layers"]):
        name, line, color = str(treatment), rows.sort_values("level"), colors[n_layers]
        place = list(colors).index(n_layers) - (len(colors) - 1) / 2 + 0.5 * (name == ANB_PLUS.name)
        x, style = line["level"] + step * place, _DASHES[name] + TREATMENTS[name].marker
        (drawn,) = axis.plot(x, 100 * line["mean"], style, color=color, markersize=4, linewidth=1.4)
        series, told = f"n = {n_layers}", [(_dialled(row), told_mean(row)) for row in line.to_dict("records")]
        tell(drawn, series, [f"{name}, {series}, {dialled}: {mean}" for dialled, mean in told])
        low, high = (100 * line[end].clip(0, 1) for end in ("low", "high"))
        tell(axis.vlines(x, low, high, color=color, linewidth=0.9, alpha=0.6), series)


def _dialled(row: Row) -> str:
    dial = _dial_name(row["kind"], row["dial"])
    return f"{dial}, the target itself" if row["setting"] == _ITSELF else f"{dial} = {row['setting']}"


def monotonicity_figure(monotonicity: pd.DataFrame, *, title: str) -> Figure:
    """Draw how each measure moves along each dial: the mean rank correlation of level and value, as a matrix.

    Distances, scores and outcomes are apart, because the right way is up for the first and down for the others. Of a
    dial of two levels, where ρ is ±1 whatever happens, the cell says how many curves go the right way.

    Args:
        monotonicity: Output of ``raytransfer.analysis.monotonicity``, of ``outcome_monotonicity``, or both; with a
            column ``blind``, cells where it is true are hatched and say so in place of the number.
        title: What was run.

    Raises:
        ValueError: There are no rows.
    """
    known = drawable(monotonicity, "kind", _KINDS).sort_values(["measure", "n_layers"], na_position="first")
    of_n = ", n = " + known["n_layers"].astype("string")
    known["row"] = known["measure"].astype(str) + of_n.fillna("")
    known["blind"] = known["blind"].eq(True) if "blind" in known else False  # a missing entry is not blind
    dials = _dials(known["dial_kind"], known["dial"])
    rows_of = {kind: list(known.loc[known["kind"] == kind, "row"].unique()) for kind in _KINDS}
    rows_of = {kind: rows for kind, rows in rows_of.items() if rows}
    heights = [len(rows) for rows in rows_of.values()]
    size = (4.6 + 0.55 * len(dials), 2.4 + sum(0.45 + 0.27 * height for height in heights))
    figure = new_figure(size, title)
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (kind, rows) in zip(axes, rows_of.items(), strict=True):
        head(axis, _KINDS[kind])
        cells = {}
        for row in known[known["kind"] == kind].to_dict("records"):
            y, x = rows.index(row["row"]), dials.index((row["dial_kind"], row["dial"]))
            if row["blind"]:
                axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#cccccc", lw=0))
            tells = row["levels"] > _TELL_NOTHING and not row["blind"]
            value = row["estimate"] if tells else np.nan
            cells[y, x] = (value, _movement(row), f"{row['row']}, {_dial_name(*dials[x])}: {_told_movement(row)}")
        drawn = _draw_matrix(axis, cells, (len(rows), len(dials)), Normalize(-1, 1), "RdBu")
        axis.set_yticks(range(len(rows)), rows, fontsize=9)
    axes[-1].set_xticks(range(len(dials)), [_dial_name(*dial) for dial in dials], rotation=90, fontsize=9)
    figure.colorbar(drawn, ax=list(axes), label="mean Spearman ρ of level and value", shrink=0.8, aspect=30, pad=0.01)
    return figure


def _movement(row: Row) -> str:
    """What a cell says of a measure along a dial."""
    if row["blind"]:
        return "blind"
    if not np.isfinite(row["estimate"]):
        return "const."
    if row["levels"] == _TELL_NOTHING:
        return f"{row['right_way']} of {row['curves']}"
    return f"{row['estimate']:+z.2f}".replace("-", "−")


def _told_movement(row: Row) -> str:
    """The same for a tooltip, with its interval where it has one, and how many curves it is of."""
    if row["blind"] or not np.isfinite(row["estimate"]):
        return _movement(row)
    rho = with_interval(row["estimate"], row["low"], row["high"], "+z.2f")
    of_curves = f"{row['right_way']} of {number_of(row['curves'], 'curve')} the right way"
    if row["levels"] == _TELL_NOTHING:
        return of_curves
    return f"ρ = {rho}, {of_curves}, {number_of(row['units'], row['unit'])}"


def _mean(row: Row) -> str:
    """What a cell says of transfer: its mean in percent, and half the width of its interval."""
    half = f"\n±{50 * (row['high'] - row['low']):.1f}" if np.isfinite(row["low"]) else ""
    return f"{100 * row['mean']:.1f}{half}"


def _told_mean(row: Row) -> str:
    """The same for a tooltip: where it stands, its interval, and of how many units it is."""
    return f"input {row['input_level']:g}, label {row['label_level']:g}: {told_mean(row)}"


def _draw_matrix(
    axis: Axes,
    cells: Mapping[tuple[int, int], tuple[float, str, str]],
    shape: tuple[int, int],
    norm: Normalize,
    cmap: str,
    origin: Literal["upper", "lower"] = "upper",
) -> AxesImage:
    """Write a text into each cell, by row and column, and colour it by its value where that is finite.

    A cell is a value, a text, and what that tells who points at it.
    """
    image = np.full(shape, np.nan)
    for (y, x), (value, text, told) in cells.items():
        image[y, x] = value
        ink = _ink(colormaps[cmap](norm(value))) if np.isfinite(value) else _DARK
        tell(axis.text(x, y, text, ha="center", va="center", fontsize=8, color=ink), "cells", [told])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return axis.imshow(image, norm=norm, cmap=cmap, aspect="auto", origin=origin)


def _ink(color: Any) -> str:
    """Black on light cells, white on dark ones."""
    red, green, blue = color[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def _dials(kinds: "pd.Series[str]", dials: "pd.Series[str]") -> list[tuple[str, str]]:
    """The (kind, dial) there are, dials of the input first."""
    return sorted(set(zip(kinds, dials, strict=True)), key=lambda pair: (DIAL_KINDS.index(pair[0]), pair))


def _dial_name(kind: str, dial: str) -> str:
    return dial if dial == kind else f"{dial} ({kind})"


def _setting(setting: object) -> str:
    """A setting as a tick says it."""
    if pd.isna(setting):  # type: ignore[call-overload]  # of any scalar
        return _ITSELF
    return {"True": "yes"}.get(str(setting), str(setting))
