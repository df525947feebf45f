"""Pictures of the loss around solutions and between them, and of how alike features are; see ``figures``."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from raytransfer.analysis.intervals import Floats
from raytransfer.analysis.profiles import profiles
from raytransfer.experiments.mechanisms.networks import (
    add_legend,
    draw_lines,
    grid_of,
    label_of,
    largest_n,
    networks,
    stage_ticks,
    styles_of,
)
from raytransfer.report.style import head, new_figure

_LEAST, _MOST = 1e-6, 1e3  # nats: what contours show of a loss
_LEVELS = 13
_WRAPPED = 18  # characters above a column


def landscape_figure(readings: pd.DataFrame, *, title: str) -> Figure:
    """Draw the loss around the initialisation and the solution: contours for one unit, cuts for all.

    Contours are of the first target and seed of which most landscapes are there, a column for each network, with one
    scale of colours and levels a row; what lies outside 1e-6..1e3 nats is cut off. Below, the cut along the first
    direction, the mean over units.

    Args:
        readings: One row per reading.
        title: What was run.

    Raises:
        ValueError: No landscape was probed.
    """
    shown, headline = largest_n(readings, title)
    kinds = {"initial-landscape": "at the initialisation", "landscape": "at the solution"}
    losses = shown[(shown["quantity"] == "loss") & shown["probe"].isin(list(kinds))]
    probes = [probe for probe in kinds if (losses["probe"] == probe).any()]
    if not probes:
        raise ValueError("nothing to draw: no reading is of a landscape")
    styles = styles_of(losses)
    there = losses.drop_duplicates(["target", "seed", "probe", "base"]).groupby(["target", "seed"]).size()
    target, seed = there.index[there == there.max()][0]
    of_unit = losses[(losses["target"] == target) & (losses["seed"] == seed)]
    beside = 1.1 + 0.08 * max(len(label_of(name)) for name in styles)  # of the legend
    figure = new_figure((max(2.9, beside) + 2.1 * max(len(styles), 3), 3.6 + 2.3 * len(probes)), headline)
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.3 * len(probes), 2.6])
    upper, lower = parts
    all_axes = upper.subplots(len(probes), len(styles), squeeze=False, sharex=True, sharey=True)
    for axes, probe in zip(all_axes, probes, strict=True):
        rows = of_unit[of_unit["probe"] == probe]
        norm, levels = _loss_scale(rows["value"].to_numpy(dtype=np.float64))
        drawn = None
        for axis, (name, of_network) in zip(axes, networks(rows, styles), strict=True):
            if probe == probes[0]:
                wrapped = textwrap.fill(label_of(name), _WRAPPED)
                axis.set_title(wrapped, fontsize=10, color=styles[name].color)
            axis.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
            if len(of_network):
                table = of_network.pivot(index="y", columns="x", values="value").clip(levels[0], levels[-1])
                drawn = axis.contourf(table.columns, table.index, table, levels, norm=norm, cmap="cividis")
                axis.contour(table.columns, table.index, table, levels, colors="white", linewidths=0.4)
                axis.plot(0, 0, "+", color="white", markersize=7)  # tells nothing, as contours have no points
        axes[0].set_ylabel(kinds[probe], fontsize=9)
        if drawn is not None:
            bar = upper.colorbar(drawn, ax=list(axes), label="loss, nats", pad=0.01, format="%.3g")
            bar.set_ticks(levels[::3])
            bar.ax.yaxis.set_minor_locator(NullLocator())
    upper.supxlabel(f"along two random directions, filter-normalised; target {target}, seed {seed}", fontsize=9)
    cuts = {
        probe: profiles(losses[(losses["probe"] == probe) & (losses["y"] == 0)], "loss", step="last")
        for probe in probes
    }
    for axis, (probe, rows) in zip(lower.subplots(1, len(probes), squeeze=False)[0], cuts.items(), strict=True):
        head(axis, kinds[probe])
        draw_lines(axis, rows, "x", styles, marked=False)
        axis.set_xticks([-1, -0.5, 0, 0.5, 1])
        axis.set_xlabel("along the first direction", fontsize=9)
        axis.set_ylabel("loss, nats", fontsize=9)
    add_legend(figure, styles, list(cuts.values()), marked=False)
    return figure


def paths_figure(readings: pd.DataFrame, stages: Sequence[str], *, title: str) -> Figure:
    """Draw the loss on the line between two networks, and how alike two networks' features are at every stage.

    The path leads from a network (α = 0) to one trained alike from another seed (α = 1), which had the same start or
    another one (``raytransfer.analysis.runs``). CKA is that with the base a network started from, with the network from
    scratch, and with its twin. Panels without readings are left out.

    Args:
        readings: One row per reading.
        stages: Names of the stages from input to head.
        title: What was run.

    Raises:
        ValueError: Neither was probed.
    """
    shown, headline = largest_n(readings, title)
    cka = profiles(shown, "CKA", step="last")
    cka = cka[cka["stage"].isin(stages)]
    cka = cka.assign(place=cka["stage"].map(list(stages).index))
    panels = {
        f"loss on the line, {start}, nats": profiles(shown, f"path loss from {start}", step="last")
        for start in ("one start", "two starts")
    }
    for against, name in (("base", "the base"), ("scratch", "scratch"), ("twin", "the twin")):
        panels[f"CKA with {name}"] = cka[cka["against"] == against]
    panels = {name: rows for name, rows in panels.items() if len(rows)}
    figure, all_axes = grid_of(len(panels), headline, columns=2, size=(4.3, 2.9))
    for axis, (name, rows) in zip(all_axes, panels.items(), strict=True):
        head(axis, name)
        if rows["quantity"].iloc[0] == "CKA":
            draw_lines(axis, rows, "place", styles_of(shown))
            axis.set_ylim(min(0.0, float(rows["mean"].min()) - 0.05), 1.03)
            stage_ticks(axis, list(stages), "stage, from input to head")
        else:
            draw_lines(axis, rows, "x", styles_of(shown))
            axis.set_xlabel("α", fontsize=9)
    add_legend(figure, styles_of(shown), list(panels.values()))
    return figure


def _loss_scale(values: Floats) -> tuple[LogNorm, Floats]:
    # Of no values, where a unit lacks what another has, the scale is of nothing.
    least, most = np.clip([values.min(initial=_MOST), values.max(initial=_LEAST)], _LEAST, _MOST)
    levels = np.geomspace(least, max(most, 1.01 * least), _LEVELS)
    return LogNorm(levels[0], levels[-1]), levels
