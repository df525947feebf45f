"""Pictures of why transfer works: fine-tuned networks against networks trained from scratch.

Where several n were run, the largest is shown, and the title says so. Scratch is black, and every base task has a
colour and a marker of its own in all figures. Bands and whiskers are 95% intervals over units, cut off where they
leave the means far behind. ``raytransfer.analysis.why`` says what *readings* are and how they are averaged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from raytransfer.analysis.why import profiles

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind
_MARKERS = ("s", "^", "D", "v", "P", "X", "o")
_Dash = Literal["-", "--", ":", "-."]
_DASHES: tuple[_Dash, ...] = ("-", "--", ":", "-.")  # for the bases after the first six, the next six, ...
_SCRATCH = "scratch (baseB)"
_GREY, _DARK = "#999999", "#444444"
_LEAST, _MOST = 1e-6, 1e3  # nats: what contours show of a loss
_LEVELS = 13


@dataclass(frozen=True, kw_only=True)
class _Style:
    color: str
    marker: str
    dash: _Dash = "-"


def comparisons_figure(comparisons: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw every comparison with its 95% interval: a row for each test, a colour for each base, hollow if undecided.

    Ratios stand above, on a logarithmic axis, and differences below, on one that is linear around zero and logarithmic
    outside. Claims are headings; all claim that the effect lies left of the line.

    Args:
        comparisons: Output of ``raytransfer.analysis.comparisons``.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: There are no rows.
    """
    rows, headline = _largest_n(comparisons, title)
    styles = _styles(rows)
    scales = [scale for scale in ("ratio", "difference") if (rows["scale"] == scale).any()]
    labels = {scale: _headed(rows[rows["scale"] == scale]) for scale in scales}
    heights = [max(len(labels[scale]), 2) for scale in scales]
    row_height = 0.24 + 0.035 * len(styles)
    figure = _figure((9.6, 2 + row_height * sum(heights)), headline, subtitle)
    axes = figure.subplots(len(scales), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, scale in zip(axes, scales, strict=True):
        of_scale = rows[rows["scale"] == scale]
        for i, (base, style) in enumerate(styles.items()):
            shift = (i - (len(styles) - 1) / 2) * min(0.7 / len(styles), 0.2)
            of_base = of_scale[of_scale["base"] == base]
            y = np.array([labels[scale].index(test) + shift for test in of_base["test"]])
            axis.hlines(y, of_base["low"], of_base["high"], color=style.color, linewidth=1.2)
            for x, place, verdict in zip(of_base["estimate"], y, of_base["verdict"], strict=True):
                face = "white" if verdict == "undecided" else style.color
                axis.plot(x, place, style.marker, color=style.color, markerfacecolor=face, markersize=5, zorder=3)
        _forest_axis(axis, of_scale["estimate"].to_numpy(dtype=np.float64), scale)
        claims = set(of_scale["claim"])
        axis.set_yticks(range(len(labels[scale])), labels[scale], fontsize=9)
        for tick in axis.get_yticklabels():
            tick.set_fontweight("bold" if tick.get_text() in claims else "normal")
        axis.set_ylim(len(labels[scale]) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
    handles = [_dot(style.color, style.color, f"base {base}", style.marker) for base, style in styles.items()]
    handles += [_dot(_DARK, _DARK, "decided"), _dot(_DARK, "white", "undecided")]
    handles += [_words("lines:\n95% intervals")] if rows["low"].notna().any() else []
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def training_figure(readings: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw what happens along training, scratch against each base: a panel for each quantity that was probed.

    Training loss, generalisation gap (train − test top-1), relative deviation of all weights, top eigenvalue of the
    Hessian, and loss variation along the gradient, against the training step on an axis that shows step 0.

    Args:
        readings: One row a reading.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: None of these was probed.
    """
    shown, headline = _largest_n(readings, title)
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
    figure, all_axes = _grid_of(len(panels), headline, subtitle)
    steps = sorted({int(step) for rows in panels.values() for step in rows["step"]})
    for axis, (name, rows) in zip(all_axes, panels.items(), strict=True):
        _head(axis, name)
        _lines(axis, rows, "step", _styles(shown))
        axis.set_xscale("symlog", linthresh=_decade(next((s for s in steps if s > 0), 1)), linscale=0.5)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlim(0, max(steps[-1], 1) * 1.15)
    figure.supxlabel("training step", fontsize=10)
    _legend(figure, _styles(shown), list(panels.values()))
    return figure


def gradients_figure(readings: pd.DataFrame, stages: Sequence[str], *, title: str, subtitle: str = "") -> Figure:
    """Draw the gradient's size from head to input, and the weights' share in its principal components.

    Left: the norm of the loss's gradient with respect to each stage's input, from the head back to the images. Right:
    |uᵢᵀWvᵢ| / ‖W‖ against i, averaged over the copied stages. Above at step 0, below at the last step.

    Args:
        readings: One row a reading.
        stages: Names of the stages from input to head.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: Neither was probed.
    """
    shown, headline = _largest_n(readings, title)
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
    figure, all_axes = _grid_of(len(panels), headline, subtitle, columns=columns, size=(4.3, 2.9))
    for axis, (name, rows) in zip(all_axes, panels, strict=True):
        _head(axis, name)
        _lines(axis, rows, "place", _styles(shown))
        if rows["quantity"].iloc[0] == "input gradient":
            _stage_ticks(axis, backwards, "stage, from head to input")
        else:
            axis.set_xlabel(f"i (mean over {_spans(copied)})", fontsize=9)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, _styles(shown), [rows for _, rows in panels])
    return figure


def landscape_figure(readings: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw the loss around the initialisation and the solution: contours for one unit, cuts for all.

    Contours are of the first target and seed, a column for each network, with one scale of colours and levels a row;
    what lies outside 1e-6..1e3 nats is cut off. Below, the cut along the first direction, the mean over units.

    Args:
        readings: One row a reading.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: No landscape was probed.
    """
    shown, headline = _largest_n(readings, title)
    kinds = {"initial-landscape": "at the initialisation", "landscape": "at the solution"}
    losses = shown[(shown["quantity"] == "loss") & shown["probe"].isin(list(kinds))]
    probes = [probe for probe in kinds if (losses["probe"] == probe).any()]
    if not probes:
        raise ValueError("nothing to draw: no reading is of a landscape")
    styles = _styles(losses)
    target, seed = min(zip(losses["target"], losses["seed"], strict=True))
    of_unit = losses[(losses["target"] == target) & (losses["seed"] == seed)]
    figure = _figure((2.9 + 2.1 * max(len(styles), 3), 3.6 + 2.3 * len(probes)), headline, subtitle)
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.3 * len(probes), 2.6])
    upper, lower = parts
    all_axes = upper.subplots(len(probes), len(styles), squeeze=False, sharex=True, sharey=True)
    for axes, probe in zip(all_axes, probes, strict=True):
        rows = of_unit[of_unit["probe"] == probe]
        norm, levels = _loss_scale(rows["value"].to_numpy(dtype=np.float64))
        drawn = None
        for axis, (name, of_network) in zip(axes, _networks(rows, styles), strict=True):
            if probe == probes[0]:
                axis.set_title(_label(name), fontsize=10, color=styles[name].color)
            axis.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
            if len(of_network):
                table = of_network.pivot(index="y", columns="x", values="value").clip(levels[0], levels[-1])
                drawn = axis.contourf(table.columns, table.index, table, levels, norm=norm, cmap="cividis")
                axis.contour(table.columns, table.index, table, levels, colors="white", linewidths=0.4)
                axis.plot(0, 0, "+", color="white", markersize=7)
        axes[0].set_ylabel(kinds[probe], fontsize=9)
        if drawn is not None:
            bar = upper.colorbar(drawn, ax=list(axes), label="loss, nats", pad=0.01, format="%.2g")
            bar.set_ticks(levels[::3])
            bar.ax.yaxis.set_minor_locator(NullLocator())
    upper.supxlabel(f"along two random directions, filter-normalised; target {target}, seed {seed}", fontsize=9)
    cuts = {
        probe: profiles(losses[(losses["probe"] == probe) & (losses["y"] == 0)], "loss", step="last")
        for probe in probes
    }
    for axis, (probe, rows) in zip(lower.subplots(1, len(probes), squeeze=False)[0], cuts.items(), strict=True):
        _head(axis, f"{kinds[probe]}, along the first direction")
        _lines(axis, rows, "x", styles, marked=False)
        axis.set_xticks([-1, -0.5, 0, 0.5, 1])
        axis.set_ylabel("loss, nats", fontsize=9)
    _legend(figure, styles, list(cuts.values()), marked=False)
    return figure


def paths_figure(readings: pd.DataFrame, stages: Sequence[str], *, title: str, subtitle: str = "") -> Figure:
    """Draw the loss on the line between twins, and how alike two networks' features are at every stage.

    The path leads from a network (α = 0) to one trained alike from another seed (α = 1). CKA is that with the base a
    network started from, with the network from scratch, and with its twin. Panels without readings are left out.

    Args:
        readings: One row a reading.
        stages: Names of the stages from input to head.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: Neither was probed.
    """
    shown, headline = _largest_n(readings, title)
    cka = profiles(shown, "CKA", step="last")
    cka = cka[cka["stage"].isin(stages)]
    cka = cka.assign(place=cka["stage"].map(list(stages).index))
    panels = {"loss on the line to the twin, nats": profiles(shown, "path loss", step="last")}
    for against, name in (("base", "the base"), ("scratch", "scratch"), ("twin", "the twin")):
        panels[f"CKA with {name}"] = cka[cka["against"] == against]
    panels = {name: rows for name, rows in panels.items() if len(rows)}
    figure, all_axes = _grid_of(len(panels), headline, subtitle, columns=2, size=(4.3, 2.9))
    for axis, (name, rows) in zip(all_axes, panels.items(), strict=True):
        _head(axis, name)
        if rows["quantity"].iloc[0] == "CKA":
            _lines(axis, rows, "place", _styles(shown))
            axis.set_ylim(min(0.0, float(rows["mean"].min()) - 0.05), 1.03)
            _stage_ticks(axis, list(stages), "stage, from input to head")
        else:
            _lines(axis, rows, "x", _styles(shown))
            axis.set_xlabel("α", fontsize=9)
    _legend(figure, _styles(shown), list(panels.values()))
    return figure


def _largest_n(rows: pd.DataFrame, title: str) -> tuple[pd.DataFrame, str]:
    """Rows from scratch and of the largest n, and the title with the n where there are several."""
    if rows.empty:
        raise ValueError("nothing to draw: there are no rows")
    treated = rows[rows["treatment"].isin(["baseB", "AnB+"])] if "treatment" in rows else rows
    all_n = treated["n_layers"].dropna().unique()
    if not len(all_n):
        return treated, title
    shown = treated[treated["n_layers"].isna() | (treated["n_layers"] == max(all_n))]
    return shown, f"{title}, n = {max(all_n)}" if len(all_n) > 1 else title


def _styles(rows: pd.DataFrame) -> dict[str, _Style]:
    """What every network is drawn with, by the label of its line: scratch, where it has rows, and the bases by name."""
    styles = {}
    if "treatment" in rows and (rows["treatment"] == "baseB").any():
        styles[_SCRATCH] = _Style(color="#000000", marker="o")
    for i, base in enumerate(sorted(rows["base"].dropna().unique())):
        round_, place = divmod(i, len(_COLORS))
        dash = _DASHES[round_ % len(_DASHES)]
        styles[str(base)] = _Style(color=_COLORS[place], marker=_MARKERS[i % len(_MARKERS)], dash=dash)
    return styles


def _networks(rows: pd.DataFrame, styles: dict[str, _Style]) -> Iterator[tuple[str, pd.DataFrame]]:
    for name in styles:
        yield name, rows[rows["base"].isna() if name == _SCRATCH else rows["base"] == name]


def _has_index(rows: pd.DataFrame, index: int | None) -> "pd.Series[bool]":
    has: pd.Series[bool] = rows["index"].isna() if index is None else rows["index"].eq(index).fillna(False)
    return has.astype(bool)


def _lines(axis: Axes, rows: pd.DataFrame, x: str, styles: dict[str, _Style], *, marked: bool = True) -> None:
    """Means of every network against a column, with bands; a logarithmic axis where the means are geometric."""
    for name, of_network in _networks(rows, styles):
        if of_network.empty:
            continue
        line = of_network.sort_values(x)
        style = styles[name]
        places, mean, low, high = (line[column].to_numpy(dtype=np.float64) for column in (x, "mean", "low", "high"))
        marker = style.marker if marked else ""
        axis.plot(places, mean, style.dash, color=style.color, marker=marker, markersize=4, linewidth=1.5)
        axis.fill_between(places, low, high, color=style.color, alpha=0.13, linewidth=0)
    if (rows["scale"] == "geometric").all():
        axis.set_yscale("log")
        _cut_off(axis.set_ylim, axis.get_ylim(), rows["mean"].to_numpy(dtype=np.float64), log=True)
        _log_ticks(axis.yaxis, axis.get_ylim())
    else:
        _cut_off(axis.set_ylim, axis.get_ylim(), rows["mean"].to_numpy(dtype=np.float64), log=False)


def _cut_off(set_limits: Any, limits: tuple[float, float], means: NDArray[np.float64], *, log: bool) -> None:
    """Keep an axis to where the means are, and half their range around it."""
    scaled = np.log(means) if log else means
    margin = 0.5 * np.ptp(scaled) + (0.1 if log else 0.1 * np.abs(scaled).max())
    least, most = scaled.min() - margin, scaled.max() + margin
    if log:
        least, most = np.exp([least, most])
    set_limits(max(limits[0], least), min(limits[1], most))


def _log_ticks(axis: XAxis | YAxis, limits: tuple[float, float]) -> None:
    """Plain numbers, at 1, 2 and 5 of each decade where there are few."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if limits[1] < 50 * limits[0] else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def _decade(value: float) -> float:
    """The power of ten at or below; ticks of a symlog axis collide where it turns linear between two."""
    return float(10 ** np.floor(np.log10(value)))


def _forest_axis(axis: Axes, estimates: NDArray[np.float64], scale: str) -> None:
    axis.axvline(1 if scale == "ratio" else 0, color=_GREY, linewidth=1, zorder=1)
    axis.grid(axis="x", color="#eeeeee", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if scale == "ratio":
        axis.set_xscale("log")
        _cut_off(axis.set_xlim, axis.get_xlim(), np.append(estimates, 1.0), log=True)
        _log_ticks(axis.xaxis, axis.get_xlim())
        axis.set_xlabel("ratio fine-tuned / scratch", fontsize=9)
    else:
        sizes = np.abs(estimates[estimates != 0])
        # Linear below the smallest effect, but not much more than two decades below the largest.
        threshold = _decade(max(float(sizes.min()), float(sizes.max()) / 100)) if len(sizes) else 1.0
        axis.set_xscale("symlog", linthresh=threshold)
        axis.xaxis.set_major_formatter("{x:g}")
        most = 4 * max(float(np.abs(estimates).max()), threshold)
        axis.set_xlim(max(axis.get_xlim()[0], -most), min(axis.get_xlim()[1], most))
        axis.set_xlabel("difference fine-tuned − scratch, in each test's unit", fontsize=9)


def _headed(rows: pd.DataFrame) -> list[str]:
    """Labels of a forest plot: every claim, and its tests below it."""
    labels: list[str] = []
    for claim, of_claim in rows.groupby("claim", sort=False):
        labels += [str(claim), *dict.fromkeys(of_claim["test"])]
    return labels


def _loss_scale(values: NDArray[np.float64]) -> tuple[LogNorm, NDArray[np.float64]]:
    least, most = np.clip([values.min(), values.max()], _LEAST, _MOST)
    levels = np.geomspace(least, max(most, 1.01 * least), _LEVELS)
    return LogNorm(levels[0], levels[-1]), levels


def _spans(copied: list[str]) -> str:
    return copied[0] if len(copied) == 1 else f"{copied[0]} to {copied[-1]}"


def _stage_ticks(axis: Axes, stages: list[str], label: str) -> None:
    axis.set_xticks(range(len(stages)), stages, rotation=90, fontsize=8)
    axis.set_xlabel(label, fontsize=9)


def _figure(size: tuple[float, float], title: str, subtitle: str) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"{title}\n{subtitle}".strip(), fontsize=12)
    return figure


def _grid_of(
    count: int, title: str, subtitle: str, *, columns: int = 3, size: tuple[float, float] = (3.6, 2.7)
) -> tuple[Figure, list[Axes]]:
    """Lay out ``count`` panels, each ``size`` inches, with room for a legend."""
    if not count:
        raise ValueError("nothing to draw: no reading is of a quantity that this figure shows")
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = _figure((2.4 + size[0] * columns, 1 + size[1] * rows), title, subtitle)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def _head(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=10, loc="left", color=_DARK)
    axis.grid(axis="y", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, styles: dict[str, _Style], drawn: list[pd.DataFrame], *, marked: bool = True) -> None:
    handles = [
        Line2D(
            *([], []),
            color=style.color,
            linestyle=style.dash,
            marker=style.marker if marked else "",
            markersize=5,
            label=_label(name),
        )
        for name, style in styles.items()
    ]
    if any(rows["low"].notna().any() for rows in drawn):
        handles.append(_words("bands:\n95% intervals"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)


def _label(name: str) -> str:
    return name if name == _SCRATCH else f"base {name}"


def _dot(color: str, face: str, label: str, marker: str = "o") -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, color=color, mfc=face, markersize=5, label=label)


def _words(label: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=label)
