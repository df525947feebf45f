"""The two pictures of Figure 2 in Yosinski et al. 2014: every run as a point, and the means as lines.

A figure shows what its DataFrame holds: it selects rows and scales fractions to percent, and computes nothing else.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator


@dataclass(frozen=True, kw_only=True)
class _Style:
    color: str
    marker: str
    offset: float  # in n, so that treatments of one n stand side by side


_STYLES = {  # blue on the target's own layers, red on another task's, pale when fine-tuned, as in the paper
    "baseB": _Style(color="#000000", marker="o", offset=-0.08),
    "baseB-2x": _Style(color="#7a7a7a", marker="D", offset=0.08),
    "BnB": _Style(color="#1f5fbf", marker="s", offset=-0.28),
    "BnB+": _Style(color="#6fb7ea", marker="P", offset=-0.14),
    "AnB": _Style(color="#b2182b", marker="v", offset=0.0),
    "AnB+": _Style(color="#f4866a", marker="^", offset=0.14),
    "RnB": _Style(color="#8a7a2f", marker="X", offset=0.28),
}
_BASES = ("baseB", "baseB-2x")
_Dash = Literal["-", "--", ":", "-."]
_DASHES: tuple[_Dash, ...] = ("--", ":", "-.")  # of other halves, in order; random halves are solid

_COMPARED = ("baseB", "AnB", "RnB")  # over all halves, on one scale
_GREY = "#555555"


def points_figure(results: pd.DataFrame, *, title: str, subtitle: str = "", metric: str = "top1") -> Figure:
    """Draw every run's top-1 accuracy against n (Yosinski et al. 2014, Figure 2, top).

    One panel for each kind of halves shows its bases (at n = 0) and what was copied, on a scale of its own; a wide one
    below sets baseB, AnB and RnB of all halves on one scale. Treatments differ by colour, marker and a small shift
    sideways; runs on halves that are not random are hollow. Treatments that the paper does not have are left out.

    Args:
        results: One row a run: treatment, halves, n_layers and the metric.
        title: What was run.
        subtitle: How many runs there are, such as "8 units = 2 splits x 2 directions x 2 seeds".
        metric: Column of accuracies, as fractions.

    Raises:
        ValueError: No run is of a known treatment.
    """
    figure, panels = _panels(results, title, subtitle)
    halves = _halves(pd.concat([runs for _, runs in panels]))
    for axes, runs in panels:
        for (treatment, of_halves), rows in runs.groupby(["treatment", "halves"]):
            style = _STYLES[str(treatment)]
            axes.plot(
                rows["n_layers"] + style.offset,
                100 * rows[metric],
                linestyle="none",
                marker=style.marker,
                markersize=5,
                markerfacecolor=_fill(str(of_halves), style.color),
                markeredgecolor=style.color,
                alpha=0.7,
            )
        axes.set_xlim(-0.5, max(runs["n_layers"].max(), 1) + 0.5)
    handles = [
        Line2D([], [], linestyle="none", color=_STYLES[name].color, marker=_STYLES[name].marker, label=name)
        for name in _drawn(panels)
    ]
    if halves != ["random"]:
        handles += [
            Line2D([], [], linestyle="none", marker="o", color=_GREY, mfc=_fill(h, _GREY), label=_halves_label(h))
            for h in halves
        ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def lines_figure(means: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw the mean top-1 accuracy of every treatment against n (Yosinski et al. 2014, Figure 2, bottom).

    Panels as in ``points_figure``. Bases are horizontal lines, halves that are not random dashed. On random halves the
    whiskers, and the band of baseB, are the 95% intervals of the means, where there are any; one much wider than the
    panel's lines lie apart, as few units give, is cut off at the panel's edge. Other halves have none: theirs would
    mostly show how the pair's two targets differ, and the intervals that count are those of the paired readings.

    Args:
        means: Output of ``raytransfer.analysis.treatment_means`` on accuracies.
        title: What was run.
        subtitle: How many runs there are, such as "8 units = 2 splits x 2 directions x 2 seeds".

    Raises:
        ValueError: No row is of a known treatment.
    """
    figure, panels = _panels(means, title, subtitle)
    drawn = pd.concat([rows for _, rows in panels])
    halves = _halves(drawn)
    for axes, rows in panels:
        for (treatment, of_halves), line in rows.groupby(["treatment", "halves"]):
            _draw_line(axes, line, _STYLES[str(treatment)], _dash(str(of_halves), halves))
        axes.set_xlim(0.5, max(rows["n_layers"].max(), 1) + 0.5)
        bottom, top = axes.get_ylim()
        least, most = 100 * rows["mean"].min(), 100 * rows["mean"].max()
        margin = 0.35 * (most - least) + 0.5
        axes.set_ylim(max(bottom, least - margin), min(top, most + margin))
    handles = [
        Line2D([], [], color=_STYLES[name].color, marker="" if name in _BASES else _STYLES[name].marker, label=name)
        for name in _drawn(panels)
    ]
    if halves != ["random"]:
        handles += [Line2D([], [], color=_GREY, linestyle=_dash(h, halves), label=_halves_label(h)) for h in halves]
    if np.isfinite(drawn.loc[drawn["halves"] == "random", "low"]).any():
        handles.append(Line2D([], [], linestyle="none", label="whiskers, band:\n95% intervals"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _panels(rows: pd.DataFrame, title: str, subtitle: str) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Lay out a figure, and say which rows belong in which of its panels."""
    known = rows[rows["treatment"].isin(list(_STYLES))]
    if known.empty:
        raise ValueError(f"nothing to draw: no row is of {', '.join(_STYLES)}")
    contents: dict[str, pd.DataFrame] = {}
    for halves in _halves(known):
        copied = known[(known["halves"] == halves) & (known["treatment"] != "RnB")]
        # Where AnB alone was run, the panel below shows all there is.
        if not set(copied["treatment"]) <= set(_COMPARED):
            contents[_halves_label(halves)] = copied
    mosaic = [list(contents)] if contents else []
    compared = known[known["treatment"].isin(_COMPARED)]
    worthwhile = not mosaic or "RnB" in set(known["treatment"]) or len(_halves(known)) > 1
    if worthwhile and not compared.empty:
        below = "baseB, AnB and RnB on one scale"
        mosaic.append([below] * max(len(contents), 1))
        contents[below] = compared
    figure = Figure(figsize=(4 + 5 * len(mosaic[0]), 1.5 + 3.5 * len(mosaic)), layout="constrained")
    figure.suptitle(f"{title}\n{subtitle}".strip(), fontsize=12)
    figure.supxlabel("number of copied layers n", fontsize=10)
    figure.supylabel("top-1 accuracy on the target, %", fontsize=10)
    all_axes: dict[str, Axes] = figure.subplot_mosaic(mosaic)  # type: ignore[arg-type]  # lists of str are hashable lists
    for name, axes in all_axes.items():
        axes.set_title(name, fontsize=10, loc="left", color="#444444")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, [(all_axes[name], content) for name, content in contents.items()]


def _draw_line(axes: Axes, rows: pd.DataFrame, style: _Style, dash: _Dash) -> None:
    mean, low, high = (100 * rows[column].to_numpy() for column in ("mean", "low", "high"))
    whiskers = np.isfinite(low) & (rows["halves"] == "random").to_numpy()
    if rows["treatment"].iloc[0] in _BASES:
        axes.axhline(mean[0], color=style.color, linestyle=dash, linewidth=1.2, zorder=1)
        if rows["treatment"].iloc[0] == "baseB" and whiskers[0]:  # two bands on each other could not be told apart
            axes.axhspan(low[0], high[0], color=style.color, alpha=0.1, linewidth=0, zorder=0)
        return
    x = rows["n_layers"].to_numpy() + style.offset / 2
    axes.plot(x, mean, color=style.color, linestyle=dash, marker=style.marker, markersize=6, linewidth=1.5)
    axes.vlines(x[whiskers], low[whiskers], high[whiskers], color=style.color, linewidth=1.2)


def _drawn(panels: list[tuple[Axes, pd.DataFrame]]) -> list[str]:
    drawn = {treatment for _, rows in panels for treatment in rows["treatment"]}
    return [treatment for treatment in _STYLES if treatment in drawn]


def _halves(rows: pd.DataFrame) -> list[str]:
    return sorted(rows["halves"].unique(), key=lambda halves: (halves != "random", halves))


def _dash(halves: str, all_halves: list[str]) -> _Dash:
    others = [h for h in all_halves if h != "random"]
    return "-" if halves == "random" else _DASHES[others.index(halves) % len(_DASHES)]


def _fill(halves: str, color: str) -> str:
    return color if halves == "random" else "none"


def _halves_label(halves: str) -> str:
    return "random halves" if halves == "random" else halves
