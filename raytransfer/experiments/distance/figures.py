"""Pictures of transfer against distance: curves, correlations, dials.

A figure shows what its DataFrame holds: it selects and sorts rows and scales fractions to percent, and computes nothing
else.
"""

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from raytransfer.distances import DIAL_KINDS
from raytransfer.experiments.words import counted, no_p_below, said_blocks, said_units
from raytransfer.report.style import dot, drawable, fit_to, head, layer_colors, new_figure, words
from raytransfer.specs.treatments import ANB, ANB_PLUS
from raytransfer.words import number_of

_OF_OUTCOME = {ANB.name: ANB.color, ANB_PLUS.name: ANB_PLUS.color, "boost": "#1f5fbf"}
_MARKERS = {ANB.name: ANB.marker, ANB_PLUS.name: ANB_PLUS.marker, "boost": "o"}
_DASHES: dict[str, Literal["-", "--"]] = {ANB.name: "-", ANB_PLUS.name: "--"}
_DARK = "#333333"
_TELL_NOTHING = 2  # levels of a dial, of which ρ is 1 or −1 whatever happens
_KINDS = {  # of the rows of the monotonicity figure, with the right way of each
    "distance": "distances: +1 is right, they grow along the dial",
    "score": "scores: −1 is right, they fall along the dial",
    "outcome": "transfer: −1 where it falls along the dial",
}


def transfer_figure(points: pd.DataFrame, curves: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw transfer against one measure, a column of panels for each n, with the fitted curve and its 95% band.

    For one target, AnB and AnB+ share a row of panels and differ by colour. For several, each outcome has a row and
    the colours are those of the targets. The boost, in points, always has a row and a scale of its own.

    Args:
        points: Output of ``raytransfer.analysis.transfer_points``: a point is a pair, the mean over its seeds.
        curves: Output of ``raytransfer.analysis.curves`` for the same measure.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: There are no points, or those of more than one measure.
    """
    known = drawable(points, "outcome", _OF_OUTCOME)
    if known["measure"].nunique() > 1:
        raise ValueError(f"one measure a figure, not {', '.join(known['measure'].unique())}")
    measure, kind = known["measure"].iloc[0], known["kind"].iloc[0]
    targets = sorted(known["target"].unique())
    present = [outcome for outcome in _OF_OUTCOME if outcome in set(known["outcome"])]
    accuracies = [outcome for outcome in present if outcome != "boost"]
    together = [accuracies] if len(targets) == 1 and accuracies else [[outcome] for outcome in accuracies]
    rows = together + ([["boost"]] if "boost" in present else [])
    all_n = sorted(known["n_layers"].unique())
    figure, axes = _panels(len(rows), len(all_n), (3.1, 2.6), title, subtitle, sharex="col", sharey="row")
    of_target = dict(zip(targets, _target_colors(len(targets)), strict=True))
    for i, outcomes in enumerate(rows):
        axes[i, 0].set_ylabel("boost, points" if outcomes == ["boost"] else f"{' and '.join(outcomes)}: top-1, %")
        for j, n_layers in enumerate(all_n):
            here = known[known["outcome"].isin(outcomes) & (known["n_layers"] == n_layers)]
            pairs = len(here[["target", "base"]].drop_duplicates())
            head(axes[i, j], f"n = {n_layers}, {number_of(pairs, 'pair')}")
            for (outcome, target), group in here.groupby(["outcome", "target"]):
                color = _OF_OUTCOME[outcome] if len(targets) == 1 else of_target[target]
                axes[i, j].plot(
                    group["x"],
                    100 * group["y"],
                    linestyle="none",
                    marker=_MARKERS[outcome],
                    markersize=4.5,
                    color=color,
                    alpha=0.75,
                    markeredgewidth=0,
                )
            for outcome in outcomes:
                fitted = curves[(curves["outcome"] == outcome) & (curves["n_layers"] == n_layers)]
                fitted = fitted[fitted["measure"] == measure]
                color = _OF_OUTCOME[outcome] if len(targets) == 1 else _DARK
                axes[i, j].plot(fitted["x"], 100 * fitted["y"], color=color, linewidth=1.6)
                low, high = 100 * fitted["low"].astype(float), 100 * fitted["high"].astype(float)
                axes[i, j].fill_between(fitted["x"], low, high, color=color, alpha=0.15, linewidth=0)
            if outcomes == ["boost"]:
                axes[i, j].axhline(0, color="#999999", linewidth=0.8, zorder=0)
        fit_to(axes[i], 100 * known.loc[known["outcome"].isin(outcomes), "y"])
    figure.supxlabel(f"{measure} ({'larger is farther' if kind == 'distance' else 'larger should transfer better'})")
    if len(targets) == 1:
        handles = [dot(_OF_OUTCOME[name], name, marker=_MARKERS[name]) for name in present]
    else:
        handles = [dot(of_target[target], f"target {target}") for target in targets]
    handles.append(words("points: pairs of tasks,\nmeans over seeds"))
    banded = np.isfinite(curves["low"].astype(float)).any()
    bands = f"\nbands: 95% intervals\nover {said_blocks(curves)}" if banded else ""
    of_what = "the points" if len(targets) == 1 else "them,\nat the mean target"
    handles.append(words(f"lines: fits to {of_what}{bands}"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def correlations_figure(
    correlations: pd.DataFrame,
    *,
    title: str,
    subtitle: str = "",
    scope: str = "within target",
    coefficient: str = "Spearman",
) -> Figure:
    """Draw how well each measure predicts transfer: a dot and its 95% interval for each measure, outcome and n.

    A panel for each outcome, a row for each measure, the best on average on top; distances are named with a minus,
    because it is minus the distance that predicts. Within targets the boost has no panel beside AnB+, whose order it
    has. Where there are adjusted p-values, dots are filled where theirs is
    below 0.05.

    Args:
        correlations: Output of ``raytransfer.analysis.correlations``.
        title: What was run.
        subtitle: How many runs there are.
        scope: ``within target`` or ``pooled``.
        coefficient: ``Spearman``, ``Kendall`` or ``weighted Kendall``.

    Raises:
        ValueError: Nothing is of that scope and coefficient.
    """
    of_scope = correlations[(correlations["scope"] == scope) & (correlations["coefficient"] == coefficient)]
    if of_scope.empty:
        raise ValueError(f"nothing to draw: no row is {coefficient} {scope}")
    order = of_scope.groupby("measure")["estimate"].mean().sort_values(na_position="first", kind="stable").index
    kinds = of_scope.drop_duplicates("measure").set_index("measure")["kind"]
    outcomes = [outcome for outcome in _OF_OUTCOME if outcome in set(of_scope["outcome"])]
    if scope == "within target" and ANB_PLUS.name in outcomes:
        outcomes = [outcome for outcome in outcomes if outcome != "boost"]
    all_n = sorted(of_scope["n_layers"].unique())
    tested = bool(of_scope["p_adjusted"].notna().any())
    row_height = max(0.26, 0.13 * len(all_n))
    size = (2.9, 0.5 + row_height * len(order))
    figure, axes = _panels(1, len(outcomes), size, title, subtitle, sharey="row")
    shifts = (np.arange(len(all_n)) - (len(all_n) - 1) / 2) * min(0.8 / len(all_n), 0.3)
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        rows = of_scope[of_scope["outcome"] == outcome]
        head(axis, f"{outcome}: {counted(rows['pairs'], 'pair')}, {said_blocks(rows)}")
        axis.axvline(0, color="#999999", linewidth=1, zorder=0)
        for shift, color, n_layers in zip(shifts, layer_colors(all_n), all_n, strict=True):
            of_n = rows[rows["n_layers"] == n_layers].set_index("measure").reindex(order)
            y = np.arange(len(order)) - shift  # the smallest n on top
            axis.hlines(y, of_n["low"], of_n["high"], color=color, linewidth=1.1)
            filled = (of_n["p_adjusted"] < 0.05).to_numpy(dtype=bool) | (not tested)
            for which, face in ((filled, color), (~filled, "white")):
                axis.plot(
                    of_n["estimate"][which], y[which], "o", markersize=4.5, color=color, markerfacecolor=face, zorder=3
                )
        axis.set_xlim(-1.05, 1.05)
        axis.set_xticks([-1, -0.5, 0, 0.5, 1])
        axis.grid(axis="both", color="#eeeeee", linewidth=0.8)
    axes[0, 0].set_yticks(range(len(order)), [f"− {m}" if kinds[m] == "distance" else m for m in order], fontsize=9)
    axes[0, 0].set_ylim(-0.6, len(order) - 0.4)
    figure.supxlabel(f"{coefficient}'s correlation with transfer, {scope}", fontsize=10)
    handles = [dot(color, f"n = {n_layers}") for color, n_layers in zip(layer_colors(all_n), all_n, strict=True)]
    if tested:
        handles += [dot(_DARK, "adjusted p < 0.05"), dot(_DARK, "adjusted p ≥ 0.05", face="white")]
        least = no_p_below(int(of_scope["blocks"].max()))
        handles += [words(least.replace(": ", ":\n").replace(", ", ",\n"))] if least else []
    lines = "lines: 95% intervals\n" if np.isfinite(of_scope["low"].astype(float)).any() else ""
    handles.append(words(f"{lines}−: minus a distance"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def dial_grid_figure(means: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw transfer over the two-dimensional grid of dials: a heat map for each outcome (rows) and n (columns).

    A cell says the mean in percent and, below, half the width of its 95% interval. One scale of colours a row.

    Args:
        means: Output of ``raytransfer.analysis.grid_means``.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: There are no cells.
    """
    known = drawable(means, "outcome", _OF_OUTCOME)
    outcomes = [outcome for outcome in _OF_OUTCOME if outcome in set(known["outcome"])]
    all_n = sorted(known["n_layers"].unique())
    inputs, labels = (sorted(known[name].unique()) for name in ("input_level", "label_level"))
    cell = (0.62, 0.46)
    size = (0.3 + cell[0] * len(labels), 0.4 + cell[1] * len(inputs))
    figure, axes = _panels(len(outcomes), len(all_n), size, title, subtitle, sharex="all", sharey="all")
    for i, outcome in enumerate(outcomes):
        of_row = 100 * known.loc[known["outcome"] == outcome, "mean"]
        most = of_row.abs().max()
        boost = outcome == "boost"
        norm = Normalize(-most, most) if boost else Normalize(of_row.min(), of_row.max())
        for j, n_layers in enumerate(all_n):
            rows = known[(known["outcome"] == outcome) & (known["n_layers"] == n_layers)]
            image = np.full((len(inputs), len(labels)), np.nan)
            for row in rows.to_dict("records"):
                image[inputs.index(row["input_level"]), labels.index(row["label_level"])] = 100 * row["mean"]
            drawn = axes[i, j].imshow(
                image, origin="lower", aspect="auto", norm=norm, cmap="RdBu" if boost else "Blues"
            )
            for row in rows.to_dict("records"):
                at = labels.index(row["label_level"]), inputs.index(row["input_level"])
                text = f"{100 * row['mean']:.1f}".replace("-", "−")
                if np.isfinite(row["low"]):
                    text += f"\n±{50 * (row['high'] - row['low']):.1f}"
                axes[i, j].text(
                    *at, text, ha="center", va="center", fontsize=8, color=_ink(drawn.to_rgba(image[at[::-1]]))
                )
            head(axes[i, j], f"{outcome}, n = {n_layers}, {counted(rows['runs'], 'run')} a cell")
            axes[i, j].grid(visible=False)
            axes[i, j].spines[:].set_visible(False)
            axes[i, j].tick_params(length=0)
            axes[i, j].set_xticks(range(len(labels)), [f"{level:g}" for level in labels])
            axes[i, j].set_yticks(range(len(inputs)), [f"{level:g}" for level in inputs])
        label = "boost, points" if boost else f"{outcome}: top-1, %"
        figure.colorbar(drawn, ax=list(axes[i]), label=label, pad=0.01)
    figure.supxlabel("level of the label dial (0: as the target)", fontsize=10)
    figure.supylabel("level of the input dial (0: as the target)", fontsize=10)
    return figure


def dials_figure(means: pd.DataFrame, dials: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw transfer along every one-dimensional dial: a panel a dial, a colour an n, AnB solid and AnB+ dashed.

    Whiskers are the 95% intervals of the means, as far as they lie in 0..100%; those much wider than the lines lie
    apart are cut off at the panel's edge, as for few seeds.

    Args:
        means: Output of ``raytransfer.analysis.dial_means``.
        dials: A row for each base and dial, with the setting that each level stands for; missing for the target itself.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: There is no AnB or AnB+.
    """
    known = drawable(means, "outcome", (ANB.name, ANB_PLUS.name))
    shown = _dials(known.rename(columns={"kind": "dial_kind"}))
    settings = dials.drop_duplicates(["dial", "level"]).set_index(["dial", "level"])["setting"]
    all_n = sorted(known["n_layers"].unique())
    colors = layer_colors(all_n)
    columns = min(len(shown), 4)
    figure, axes = _panels(-(-len(shown) // columns), columns, (2.7, 2.4), title, subtitle, sharey="all")
    for axis, (kind, dial) in zip(axes.flat, shown, strict=False):
        rows = known[(known["kind"] == kind) & (known["dial"] == dial)]
        head(axis, _dial_name(kind, dial))
        step = 0.008 * (rows["level"].max() - rows["level"].min())
        for (name, n_layers), points in rows.groupby(["outcome", "n_layers"]):
            outcome, place = str(name), all_n.index(n_layers)
            line, color = points.sort_values("level"), colors[place]
            x = line["level"] + step * (place - (len(all_n) - 1) / 2 + 0.5 * (outcome == ANB_PLUS.name))
            axis.plot(
                x,
                100 * line["mean"],
                linestyle=_DASHES[outcome],
                marker=_MARKERS[outcome],
                color=color,
                markersize=4,
                linewidth=1.4,
            )
            low, high = (100 * line[end].clip(0, 1) for end in ("low", "high"))
            axis.vlines(x, low, high, color=color, linewidth=0.9, alpha=0.6)
        levels = sorted(rows["level"].unique())
        axis.set_xticks(levels, [_setting(settings.get((dial, level))) for level in levels])
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    fit_to(axes.flat[: len(shown)], 100 * known["mean"])
    figure.supxlabel("setting of the dial (–: the target itself)", fontsize=10)
    figure.supylabel("top-1 accuracy on the target, %", fontsize=10)
    handles = [
        Line2D([], [], color=color, label=f"n = {n_layers}") for color, n_layers in zip(colors, all_n, strict=True)
    ]
    for outcome, dash in _DASHES.items():
        if outcome in set(known["outcome"]):
            handles.append(
                Line2D([], [], color=_DARK, label=outcome, linestyle=dash, marker=_MARKERS[outcome], markersize=4)
            )
    handles.append(words(f"points: means of\n{counted(known['runs'], 'run')}"))
    if np.isfinite(known["low"]).any():
        handles.append(words(f"whiskers:\n95% intervals over\n{said_units(known)}"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def monotonicity_figure(monotonicity: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw how each measure moves along each dial: the mean rank correlation of level and value, as a matrix.

    Distances, scores and outcomes are apart, because the right way is up for the first and down for the others. Of a
    dial of two levels, where ρ is ±1 whatever happens, the cell says how many curves go the right way.

    Args:
        monotonicity: Output of ``raytransfer.analysis.monotonicity``, of ``outcome_monotonicity``, or both; with a
            column ``blind``, cells where it is true are hatched and say so in place of the number.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: There are no rows.
    """
    known = drawable(monotonicity, "kind", _KINDS).copy()
    numbered = known["n_layers"].notna()
    known["row"] = known["measure"].astype(str)
    known.loc[numbered, "row"] += ", n = " + known.loc[numbered, "n_layers"].astype(str)
    known["n_layers"] = known["n_layers"].fillna(0)
    known["blind"] = known["blind"].eq(True) if "blind" in known else False  # a missing entry is not blind
    dials = _dials(known)
    blocks = [
        (kind, list(known[known["kind"] == kind].sort_values(["measure", "n_layers"])["row"].unique()))
        for kind in _KINDS
        if (known["kind"] == kind).any()
    ]
    size = (4.6 + 0.55 * len(dials), 2.4 + sum(0.45 + 0.27 * len(rows) for _, rows in blocks))
    figure = new_figure(size, title, subtitle)
    heights = [len(rows) for _, rows in blocks]
    axes = figure.subplots(len(blocks), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    norm, cmap = Normalize(-1, 1), colormaps["RdBu"]
    for axis, (kind, rows) in zip(axes, blocks, strict=True):
        axis.set_title(_KINDS[kind], fontsize=10, loc="left", color="#444444")
        image = np.full((len(rows), len(dials)), np.nan)
        for cell in known[known["kind"] == kind].to_dict("records"):
            y, x = rows.index(cell["row"]), dials.index((cell["dial_kind"], cell["dial"]))
            blind = cell["blind"]
            if blind:
                axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#cccccc", lw=0))
            elif cell["levels"] > _TELL_NOTHING:
                image[y, x] = cell["estimate"]
            defined = np.isfinite(cell["estimate"])
            number = f"{cell['estimate']:+.2f}".replace("-", "−")
            if cell["levels"] == _TELL_NOTHING:
                number = f"{cell['right_way']} of {cell['curves']}"
            text = "blind" if blind else number if defined else "const."
            ink = _ink(cmap(norm(cell["estimate"]))) if np.isfinite(image[y, x]) else _DARK
            axis.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)
        drawn = axis.imshow(image, norm=norm, cmap=cmap, aspect="auto")
        axis.set_yticks(range(len(rows)), rows, fontsize=9)
        axis.tick_params(length=0, labelbottom=axis is axes[-1])
        axis.spines[:].set_visible(False)
    axes[-1].set_xticks(range(len(dials)), [_dial_name(*dial) for dial in dials], rotation=90, fontsize=9)
    figure.colorbar(drawn, ax=list(axes), label="mean Spearman ρ of level and value", shrink=0.8, aspect=30, pad=0.01)
    return figure


def _panels(
    rows: int, columns: int, size: tuple[float, float], title: str, subtitle: str, **shared: Any
) -> tuple[Figure, Any]:
    """Lay out a figure of equal panels, each ``size`` inches, with room for a legend: figure, (rows, columns) axes."""
    figure = new_figure((2.7 + size[0] * columns, 1.2 + size[1] * rows), title, subtitle)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _dials(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The (kind, dial) there are, dials of the input first."""
    pairs = set(zip(rows["dial_kind"], rows["dial"], strict=True))
    rank = {kind: i for i, kind in enumerate(DIAL_KINDS)}
    return sorted(pairs, key=lambda pair: (rank.get(pair[0], len(rank)), pair))


def _dial_name(kind: str, dial: str) -> str:
    return dial if dial == kind else f"{dial} ({kind})"


def _setting(setting: object) -> str:
    """A setting as a tick says it."""
    if pd.isna(setting):  # type: ignore[call-overload]  # of any scalar
        return "–"
    return {"True": "yes"}.get(str(setting), str(setting))


def _target_colors(count: int) -> list[str]:
    palette = colormaps["tab10" if count <= 10 else "tab20"]
    return [to_hex(palette(i % palette.N)) for i in range(count)]


def _ink(color: Any) -> str:
    """Black on light cells, white on dark ones."""
    red, green, blue = color[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
