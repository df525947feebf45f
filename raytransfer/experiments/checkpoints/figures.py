"""Transfer along the training of the base, as a picture.

A figure shows what its DataFrame holds: it selects rows and scales fractions to percent, and computes nothing else.
"""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from raytransfer.analysis.intervals import Floats
from raytransfer.experiments.words import Row, counted, told_mean, with_interval
from raytransfer.report.style import drawable, fit_to, head, layer_colors, new_figure, words
from raytransfer.report.svg import tell
from raytransfer.specs.treatments import ANB, ANB_PLUS
from raytransfer.words import number_of

_MARKERS = "osD^vPX<>*"
_TREATMENTS = {ANB.name: f"frozen ({ANB.name})", ANB_PLUS.name: f"fine-tuned ({ANB_PLUS.name})"}
_SCHEDULES = ("step", "cosine", "constant")
_GREY = "#777777"
_STRIP = 0.04  # of a panel's height, for one n's peak


def checkpoints_figure(
    curves: pd.DataFrame, bases_mean: pd.DataFrame, peaks: pd.DataFrame, drops: pd.DataFrame, *, title: str
) -> Figure:
    """Draw transfer against the step of the base: a column of panels per schedule, frozen above fine-tuned.

    A line is an n, with the 95% band of its mean. Below each panel's curves, a strip per n shows the best checkpoint
    and its interval. Where there is no interval, there is no band. The base's accuracy on its own task is dashed
    grey, with a scale of its own on the right, because it starts at chance and would flatten the rest; drops of the
    learning rate are dotted. Steps are logarithmic but for 0.

    Args:
        curves: Output of ``raytransfer.analysis.checkpoint_curves``.
        bases_mean: Output of ``raytransfer.analysis.base_curves``; may be empty.
        peaks: Output of ``raytransfer.analysis.checkpoint_peaks``; may be empty.
        drops: A row per drop of the learning rate: schedule, step.
        title: What was run.

    Raises:
        ValueError: No row is of AnB or AnB+.
    """
    known = drawable(curves, "treatment", _TREATMENTS)
    schedules = sorted(known["schedule"].unique(), key=_SCHEDULES.index)
    treatments = [name for name in _TREATMENTS if name in set(known["treatment"])]
    all_n = sorted(known["n_layers"].unique())
    styles = dict(zip(all_n, zip(layer_colors(all_n), cycle(_MARKERS), strict=False), strict=True))
    figure = new_figure((2.9 + 4.1 * len(schedules), 1.2 + 2.9 * len(treatments)), title)
    axes = figure.subplots(len(treatments), len(schedules), squeeze=False, sharex="all", sharey="row")
    steps = np.sort(np.concatenate([known["pretrain_step"], bases_mean["step"]]).astype(float))
    for i, treatment in enumerate(treatments):
        of_row = known[known["treatment"] == treatment]
        for j, schedule in enumerate(schedules):
            of_panel = of_row[of_row["schedule"] == schedule]
            for step in drops.loc[drops["schedule"] == schedule, "step"]:
                axes[i, j].axvline(step, color=_GREY, linewidth=1, linestyle=":", zorder=0)
            for n_layers, line in of_panel.groupby("n_layers"):
                _draw_line(axes[i, j], line.sort_values("pretrain_step"), *styles[n_layers])
            units = "" if of_panel.empty else f", {counted(of_panel['units'])}"  # of one that has not begun
            head(axes[i, j], f"{schedule}: {_TREATMENTS[treatment]}{units}")
            _scale_steps(axes[i, j], steps)
            best = peaks[(peaks["treatment"] == treatment) & (peaks["schedule"] == schedule)]
            _draw_peaks(axes[i, j], best, styles)
            if len(bases_mean):
                of_base = bases_mean[bases_mean["schedule"] == schedule]
                _draw_base(axes[i, j], of_base, bases_mean["mean"], last=j == len(schedules) - 1)
        _fit(axes[i, 0], 100 * of_row["mean"], len(all_n) if len(peaks) else 0)
    figure.supxlabel("step of the base's training at which its layers were copied", fontsize=10)
    figure.supylabel("top-1 accuracy, %", fontsize=10)
    handles = [
        Line2D([], [], color=color, marker=marker, markersize=4.5, label=f"n = {n}")
        for n, (color, marker) in styles.items()
    ]
    handles += _other_handles(bases_mean, drops[drops["schedule"].isin(schedules)], peaks, known)
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _draw_base(axes: Axes, rows: pd.DataFrame, all_means: pd.Series, *, last: bool) -> None:
    line = rows.sort_values("step")
    right = axes.twinx()
    (drawn,) = right.plot(line["step"], 100 * line["mean"], color=_GREY, linestyle="--", linewidth=1.2)
    ends = line.to_dict("records")[-1:]
    tell(drawn, "base", [f"base, {row['schedule']}, step {row['step']}: {told_mean(row)}" for row in ends])
    margin = 0.05 * (all_means.max() - all_means.min()) + 0.005
    right.set_ylim(100 * (all_means.min() - margin), 100 * (all_means.max() + margin))
    right.spines[["top", "left"]].set_visible(False)
    right.spines["right"].set_color(_GREY)
    right.tick_params(axis="y", colors=_GREY, labelright=last)


def _draw_line(axes: Axes, line: pd.DataFrame, color: str, marker: str) -> None:
    x = line["pretrain_step"].to_numpy(dtype=np.float64)
    mean, low, high = (100 * line[name].to_numpy(dtype=np.float64) for name in ("mean", "low", "high"))
    (drawn,) = axes.plot(x, mean, color=color, marker=marker, markersize=4.5, linewidth=1.6, zorder=3)
    rows = line.to_dict("records")
    tell(drawn, _series(rows[0]), [f"{_place(row)}, step {row['pretrain_step']}: {told_mean(row)}" for row in rows])
    tell(axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0, zorder=2), _series(rows[0]))


def _series(row: Row) -> str:
    return f"n = {row['n_layers']}"


def _place(row: Row) -> str:
    return f"{row['schedule']}, {row['treatment']}, {_series(row)}"


def _draw_peaks(axes: Axes, peaks: pd.DataFrame, styles: dict[int, tuple[str, str]]) -> None:
    """One strip per n above the bottom of the panel, the smallest n on top."""
    for row in peaks.to_dict("records"):
        color, marker = styles[row["n_layers"]]
        y = _STRIP * (len(styles) - list(styles).index(row["n_layers"]) - 0.3)
        across = axes.get_xaxis_transform()
        if np.isfinite(row["low"]):
            ends = [row["low"], row["high"]]
            (drawn,) = axes.plot(ends, [y, y], color=color, linewidth=2, alpha=0.5, transform=across)
            tell(drawn, _series(row))
        best = with_interval(row["peak_step"], row["low"], row["high"], ",.0f")
        (drawn,) = axes.plot(
            [row["peak_step"]], [y], color=color, marker=marker, markersize=6, transform=across, clip_on=False
        )
        count = number_of(row["units"], row["unit"])
        tell(drawn, _series(row), [f"{_place(row)}: the best checkpoint is that of step {best}, {count}"])


def _scale_steps(axes: Axes, steps: Floats) -> None:
    above = steps[steps > 0]
    if not len(above):
        return
    # Linear from 0 to the first step, in as much room as a factor of three takes beyond it.
    axes.set_xscale("symlog", linthresh=above[0], linscale=0.5)
    decades = 10.0 ** np.arange(np.ceil(np.log10(above[0])), np.floor(np.log10(above[-1])) + 1)
    axes.xaxis.set_major_locator(FixedLocator([0, *(decades if len(decades) > 1 else (above[0], above[-1]))]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def _fit(axes: Axes, means: pd.Series, strips: int) -> None:
    """Cut a row of panels off where bands leave the means far behind, and make room for the strips of peaks."""
    fit_to([axes], means, share=0.15)
    bottom, top = axes.get_ylim()
    share = _STRIP * (strips + 0.5) if strips else 0.0
    axes.set_ylim(bottom - (top - bottom) * share / (1 - share), top)
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= top])


def _other_handles(bases: pd.DataFrame, drops: pd.DataFrame, peaks: pd.DataFrame, curves: pd.DataFrame) -> list[Line2D]:
    handles = []
    if np.isfinite(curves["low"].astype(float)).any():
        handles.append(words("bands: 95% intervals\nof the means"))
    if len(peaks):
        ends = "\nand its 95% interval" if np.isfinite(peaks["low"].astype(float)).any() else ""
        handles.append(words(f"at the bottom:\nthe best checkpoint{ends}"))
    if len(bases):
        handles.append(Line2D([], [], color=_GREY, linestyle="--", label="the base on its own\ntask: right scale, %"))
    if len(drops):
        handles.append(Line2D([], [], color=_GREY, linestyle=":", label="learning rate drops"))
    return handles
