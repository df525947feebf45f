"""The two pictures of Figure 2 in Yosinski et al. 2014: every run as a point, and the means as lines.

A figure shows what its DataFrame holds: it selects rows and scales fractions to percent, and computes nothing else.
"""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raytransfer.specs.treatments import ANB, BASE_B, RNB, TREATMENTS, Treatment

_APART, _WIDEST = 0.14, 0.8  # in n: between treatments that stand side by side, and of all of them
_Dash = Literal["-", "--", ":", "-."]
_DASHES: tuple[_Dash, ...] = ("--", ":", "-.")  # of other halves, in order; random halves are solid

_COMPARED = (BASE_B.name, ANB.name, RNB.name)  # over all halves, on one scale
_GREY = "#555555"


def points_figure(results: pd.DataFrame, *, title: str, subtitle: str = "", metric: str = "top1") -> Figure:
    """Draw every run's top-1 accuracy against n (Yosinski et al. 2014, Figure 2, top).

    One panel for each kind of halves shows its bases (at n = 0) and what was copied, on a scale of its own; a wide one
    below sets baseB, AnB and RnB of all halves on one scale. Treatments differ by colour, marker and a small shift
    sideways; runs on halves that are not random are hollow. What is in no table of treatments is left out.

    Args:
        results: One row a run: treatment, halves, n_layers and the metric.
        title: What was run.
        subtitle: How many runs there are, such as "random: 4 splits x 2 directions x 1 seed, 4 units (splits)".
        metric: Column of accuracies, as fractions.

    Raises:
        ValueError: No run is of a known treatment.
    """
    figure, panels = _panels(results, title, subtitle)
    halves, shifts = _halves(pd.concat([runs for _, runs in panels])), _shifts(panels)
    for axes, runs in panels:
        for (treatment, of_halves), rows in runs.groupby(["treatment", "halves"]):
            style = TREATMENTS[str(treatment)]
            axes.plot(
                rows["n_layers"] + shifts[str(treatment)],
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
        Line2D([], [], linestyle="none", color=TREATMENTS[name].color, marker=TREATMENTS[name].marker, label=name)
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
        subtitle: How many runs there are, such as "random: 4 splits x 2 directions x 1 seed, 4 units (splits)".

    Raises:
        ValueError: No row is of a known treatment.
    """
    figure, panels = _panels(means, title, subtitle)
    drawn = pd.concat([rows for _, rows in panels])
    halves, shifts = _halves(drawn), _shifts(panels)
    for axes, rows in panels:
        for (treatment, of_halves), line in rows.groupby(["treatment", "halves"]):
            shift = shifts[str(treatment)] / 2
            _draw_line(axes, line, TREATMENTS[str(treatment)], shift, _dash(str(of_halves), halves))
        axes.set_xlim(0.5, max(rows["n_layers"].max(), 1) + 0.5)
        bottom, top = axes.get_ylim()
        least, most = 100 * rows["mean"].min(), 100 * rows["mean"].max()
        margin = 0.35 * (most - least) + 0.5
        axes.set_ylim(max(bottom, least - margin), min(top, most + margin))
    handles = [
        Line2D(
            [], [], color=treatment.color, marker=treatment.marker if treatment.has_cut else "", label=treatment.name
        )
        for treatment in (TREATMENTS[name] for name in _drawn(panels))
    ]
    if halves != ["random"]:
        handles += [Line2D([], [], color=_GREY, linestyle=_dash(h, halves), label=_halves_label(h)) for h in halves]
    if np.isfinite(drawn.loc[drawn["halves"] == "random", "low"]).any():
        handles.append(Line2D([], [], linestyle="none", label="whiskers, band:\n95% intervals"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _panels(rows: pd.DataFrame, title: str, subtitle: str) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Lay out a figure, and say which rows belong in which of its panels."""
    known = rows[rows["treatment"].isin(list(TREATMENTS))]
    if known.empty:
        raise ValueError(f"nothing to draw: no row is of {', '.join(TREATMENTS)}")
    contents: dict[str, pd.DataFrame] = {}
    for halves in _halves(known):
        copied = known[(known["halves"] == halves) & (known["treatment"] != RNB.name)]
        # Where AnB alone was run, the panel below shows all there is.
        if not set(copied["treatment"]) <= set(_COMPARED):
            contents[_halves_label(halves)] = copied
    mosaic = [list(contents)] if contents else []
    compared = known[known["treatment"].isin(_COMPARED)]
    worthwhile = not mosaic or RNB.name in set(known["treatment"]) or len(_halves(known)) > 1
    if worthwhile and not compared.empty:
        below = f"{BASE_B.name}, {ANB.name} and {RNB.name} on one scale"
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


def _draw_line(axes: Axes, rows: pd.DataFrame, treatment: Treatment, shift: float, dash: _Dash) -> None:
    mean, low, high = (100 * rows[column].to_numpy() for column in ("mean", "low", "high"))
    whiskers = np.isfinite(low) & (rows["halves"] == "random").to_numpy()
    if not treatment.has_cut:
        axes.axhline(mean[0], color=treatment.color, linestyle=dash, linewidth=1.2, zorder=1)
        if treatment is BASE_B and whiskers[0]:  # two bands on each other could not be told apart
            axes.axhspan(low[0], high[0], color=treatment.color, alpha=0.1, linewidth=0, zorder=0)
        return
    x = rows["n_layers"].to_numpy() + shift
    axes.plot(x, mean, color=treatment.color, linestyle=dash, marker=treatment.marker, markersize=6, linewidth=1.5)
    axes.vlines(x[whiskers], low[whiskers], high[whiskers], color=treatment.color, linewidth=1.2)


def _drawn(panels: list[tuple[Axes, pd.DataFrame]]) -> list[str]:
    drawn = {treatment for _, rows in panels for treatment in rows["treatment"]}
    return [name for name in TREATMENTS if name in drawn]


def _shifts(panels: list[tuple[Axes, pd.DataFrame]]) -> dict[str, float]:
    """How far each treatment is shifted sideways, in n: bases by themselves, at n = 0, and what is copied."""
    shifts: dict[str, float] = {}
    for cut in (False, True):
        names = [name for name in _drawn(panels) if TREATMENTS[name].has_cut == cut]
        step = min(_APART, _WIDEST / max(len(names), 1))
        shifts |= {name: step * (i - (len(names) - 1) / 2) for i, name in enumerate(names)}
    return shifts


def _halves(rows: pd.DataFrame) -> list[str]:
    return sorted(rows["halves"].unique(), key=lambda halves: (halves != "random", halves))


def _dash(halves: str, all_halves: list[str]) -> _Dash:
    others = [h for h in all_halves if h != "random"]
    return "-" if halves == "random" else _DASHES[others.index(halves) % len(_DASHES)]


def _fill(halves: str, color: str) -> str:
    return color if halves == "random" else "none"


def _halves_label(halves: str) -> str:
    return "random halves" if halves == "random" else halves
