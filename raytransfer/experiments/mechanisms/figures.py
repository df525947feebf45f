"""Pictures of why transfer works: fine-tuned networks against networks trained from scratch.

Where several n were run, the largest is shown, and the title says so. Scratch is black, and every base task has a
colour and a marker of its own in all figures. Bands and whiskers are 95% intervals over units, where there are any, cut
off where they leave the means far behind. ``raytransfer.analysis.runs`` says what *readings* are and how they are
averaged.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from raytransfer.analysis.intervals import Floats
from raytransfer.analysis.profiles import profiles
from raytransfer.experiments.mechanisms.networks import (
    add_legend,
    cut_off,
    draw_lines,
    grid_of,
    largest_n,
    log_ticks,
    stage_ticks,
    styles_of,
)
from raytransfer.experiments.words import counted, with_interval
from raytransfer.report.style import DARK, dot, head, new_figure, words
from raytransfer.report.svg import tell
from raytransfer.words import number_of

_GREY = "#999999"


_UNITS = {
    "top-1 gap": ", fractions",
    "loss gap": ", nats",
    "spread over stages": ", of logarithms",
    "barrier": ", nats",
}
"""Units of the quantities of which differences are taken, by how their tests begin."""


def comparisons_figure(comparisons: pd.DataFrame, *, title: str) -> Figure:
    """Draw every comparison with its 95% interval: a row for each test, a colour for each base.

    A dot is filled where its interval excludes no effect, not corrected for the number of comparisons; else it is
    hollow.

    Ratios stand above, on a logarithmic axis; below, differences of each quantity have an axis of their own. Claims are
    headings; all claim that the effect lies left of the line.

    Args:
        comparisons: Output of ``raytransfer.analysis.comparisons``.
        title: What was run.

    Raises:
        ValueError: There are no rows.
    """
    rows, headline = largest_n(comparisons, title)
    styles = styles_of(rows)
    rows = rows.sort_values("scale", key=lambda scales: scales != "ratio", kind="stable")
    quantities = pd.Series([_quantity(*of) for of in zip(rows["test"], rows["scale"], strict=True)], index=rows.index)
    labels = {quantity: _headed(rows[quantities == quantity]) for quantity in dict.fromkeys(quantities)}
    heights = [max(len(of), 2) for of in labels.values()]
    row_height = 0.24 + 0.035 * len(styles)
    figure = new_figure((9.6, 1.4 + row_height * sum(heights) + 0.6 * len(labels)), headline)
    axes = figure.subplots(len(labels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (quantity, names) in zip(axes, labels.items(), strict=True):
        of_axis = rows[quantities == quantity]
        scale = of_axis["scale"].iloc[0]
        for i, (base, style) in enumerate(styles.items()):
            shift = (i - (len(styles) - 1) / 2) * min(0.7 / len(styles), 0.2)
            of_base = of_axis[of_axis["base"] == base]
            y = np.array([names.index(test) + shift for test in of_base["test"]])
            name = f"base {base}"
            tell(axis.hlines(y, of_base["low"], of_base["high"], color=style.color, linewidth=1.2), name)
            none = 1 if scale == "ratio" else 0
            told = (of_base["low"] > none) | (of_base["high"] < none)
            for row, place, filled in zip(of_base.to_dict("records"), y, told, strict=True):
                face, x = style.color if filled else "white", row["estimate"]
                look = {"color": style.color, "markerfacecolor": face, "markersize": 5, "zorder": 3}
                (drawn,) = axis.plot(x, place, style.marker, **look)
                value = with_interval(x, row["low"], row["high"])
                of, count = quantity.split(", ", 1)[-1], number_of(row["units"], row["unit"])
                tell(drawn, name, [f"{name}, {row['test']}: {value} ({of}), {count}"])
        _forest_axis(axis, of_axis["estimate"].to_numpy(dtype=np.float64), quantity, scale)
        claims = set(of_axis["claim"])
        axis.set_yticks(range(len(names)), names, fontsize=9)
        for tick in axis.get_yticklabels():
            tick.set_fontweight("bold" if tick.get_text() in claims else "normal")
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
    handles = [dot(style.color, f"base {base}", marker=style.marker) for base, style in styles.items()]
    handles += [dot(DARK, "interval on one\nside of no effect"), dot(DARK, "on both, or none", face="white")]
    over = f"lines:\n95% intervals\nover {counted(rows['units'], rows['unit'].iloc[0])}"
    handles += [words(over)] if rows["low"].notna().any() else []
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def training_figure(readings: pd.DataFrame, *, title: str) -> Figure:
    """Draw what happens along training, scratch against each base: a panel for each quantity that was probed.

    Training loss, generalisation gap (train − test top-1), relative deviation of all weights, top eigenvalue of the
    Hessian, and loss variation along the gradient, against the training step on an axis that shows step 0.

    Args:
        readings: One row per reading.
        title: What was run.

    Raises:
        ValueError: None of these was probed.
    """
    shown, headline = largest_n(readings, title)
    panels = {}
    for name, quantity, index in (
        ("training loss, nats", "train loss", None),
        ("generalisation gap (top-1, train − test)", "generalisation gap", None),
        ("relative deviation ‖W − W(0)‖ / ‖W(0)‖", "relative deviation", None),
        ("top eigenvalue of the Hessian", "eigenvalue", 1),
        ("loss variation along the gradient, nats", "loss variation", None),
    ):
        # Only some of a quantity's rows are drawn, and only they should decide whether its axis is logarithmic.
        left_out = (shown["quantity"] == quantity) & (shown["stage"].notna() | ~_has_index(shown, index))
        rows = profiles(shown[~left_out], quantity)
        if len(rows):
            panels[name] = rows
    figure, all_axes = grid_of(len(panels), headline)
    steps = sorted({int(step) for rows in panels.values() for step in rows["step"]})
    for axis, (name, rows) in zip(all_axes, panels.items(), strict=True):
        head(axis, name)
        draw_lines(axis, rows, "step", styles_of(shown))
        first = next((s for s in steps if s > 0), 1)
        axis.set_xscale("symlog", linthresh=_decade(first), linscale=0.5)
        if steps[-1] < 10 * first:  # one power of ten does not say how an axis goes on
            axis.xaxis.set_major_locator(FixedLocator(sorted({0, first, steps[-1]})))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlim(0, max(steps[-1], 1) * 1.15)
    figure.supxlabel("training step", fontsize=10)
    add_legend(figure, styles_of(shown), list(panels.values()))
    return figure


def gradients_figure(readings: pd.DataFrame, stages: Sequence[str], *, title: str) -> Figure:
    """Draw the gradient's size from head to input, and the weights' share in its principal components.

    Left: the norm of the loss's gradient with respect to each stage's input, from the head back to the images. Right:
    |uᵢᵀWvᵢ| / ‖W‖ against i, averaged over the copied stages. Above at step 0, below at the last step.

    Args:
        readings: One row per reading.
        stages: Names of the stages from input to head.
        title: What was run.

    Raises:
        ValueError: Neither was probed.
    """
    shown, headline = largest_n(readings, title)
    copied = list(stages[: int(shown["n_layers"].max())]) if shown["n_layers"].notna().any() else list(stages)
    backwards = list(reversed(stages))
    elsewhere = (shown["quantity"] == "relative projection") & ~shown["stage"].isin(copied)
    steps: dict[str, int | Literal["last"]] = {"step 0": 0, "last step": "last"}
    panels: list[tuple[str, pd.DataFrame]] = []
    for when, step in steps.items():
        norms = profiles(shown, "input gradient", step=step)
        norms = norms[norms["stage"].isin(stages)]
        panels.append((f"norm of ∂L/∂x at each stage, {when}", norms.assign(place=norms["stage"].map(backwards.index))))
        components = profiles(shown[~elsewhere], "relative projection", step=step, over_stages=True)
        panels.append((f"|uᵢᵀWvᵢ| / ‖W‖, {when}", components.assign(place=components["index"])))
    panels = [(name, rows) for name, rows in panels if len(rows)]
    columns = len({rows["quantity"].iloc[0] for _, rows in panels})
    figure, all_axes = grid_of(len(panels), headline, columns=columns, size=(4.3, 2.9))
    for axis, (name, rows) in zip(all_axes, panels, strict=True):
        head(axis, name)
        draw_lines(axis, rows, "place", styles_of(shown))
        if rows["quantity"].iloc[0] == "input gradient":
            stage_ticks(axis, backwards, "stage, from head to input")
        else:
            axis.set_xlabel(f"i (mean over {_spans(copied)})", fontsize=9)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure, styles_of(shown), [rows for _, rows in panels])
    return figure


def _has_index(rows: pd.DataFrame, index: int | None) -> "pd.Series[bool]":
    has: pd.Series[bool] = rows["index"].isna() if index is None else rows["index"].eq(index).fillna(False)
    return has.astype(bool)


def _decade(value: float) -> float:
    """The power of ten at or below; ticks of a symlog axis collide where it turns linear between two."""
    return float(10 ** np.floor(np.log10(value)))


def _quantity(test: str, scale: str) -> str:
    """What a test is of, with its unit: tests of one share an axis, on which ratios of all quantities stand."""
    if scale == "ratio":
        return "ratio fine-tuned / scratch"
    name = next(iter(unit for unit in _UNITS if test.startswith(unit)), test)
    return f"{name}, fine-tuned − scratch{_UNITS.get(name, '')}"


def _forest_axis(axis: Axes, estimates: Floats, quantity: str, scale: str) -> None:
    axis.axvline(1 if scale == "ratio" else 0, color=_GREY, linewidth=1, zorder=1)
    axis.grid(axis="x", color="#eeeeee", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel(quantity, fontsize=9)
    if scale == "ratio":
        axis.set_xscale("log")
        cut_off(axis.set_xlim, axis.get_xlim(), np.append(estimates, 1.0), log=True)
        log_ticks(axis.xaxis, axis.get_xlim())
    else:
        cut_off(axis.set_xlim, axis.get_xlim(), np.append(estimates, 0.0), log=False)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.xaxis.set_major_formatter("{x:g}")


def _headed(rows: pd.DataFrame) -> list[str]:
    """Labels of a forest plot: every claim, and its tests below it."""
    labels: list[str] = []
    for claim, of_claim in rows.groupby("claim", sort=False):
        labels += [str(claim), *dict.fromkeys(of_claim["test"])]
    return labels


def _spans(copied: list[str]) -> str:
    return copied[0] if len(copied) == 1 else f"{copied[0]} to {copied[-1]}"
