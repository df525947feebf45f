"""The theory of fine-tuning against its simulation, as a picture.

A figure shows what its DataFrame holds: it selects and sorts rows, and computes nothing else.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from raytransfer.analysis.theory import NEAR_ONE
from raytransfer.experiments.words import Row, with_interval
from raytransfer.report.style import head, new_figure, words
from raytransfer.report.svg import tell
from raytransfer.words import number_of

_COLORS = {"none": "#333333", "input": "#1f5fbf", "label": "#b2182b"}  # by what of a base differs from the target
_DASHES = {"none": ":", "input": "-", "label": "--"}
_MARKERS = "vs^DoPX<>*"
_RATIOS = {"ratio": "distance / bound", "gradient_ratio": "gradient / its prediction"}


def theory_figure(means: pd.DataFrame, *, title: str) -> Figure:
    """Draw how far networks moved against the bound, and how the ratio goes to 1 as they get wider.

    Left: a point for each base and width, the means over seeds; on the diagonal, networks move exactly as far as the
    bound allows. Middle: distance / bound against width, a line per base, coloured by what of it differs from
    the target, with 95% intervals. Right: the same for the norm of the gradient at the start of fine-tuning. Intervals
    that leave the means far behind are cut off at the panel's edge.

    Args:
        means: Output of ``raytransfer.analysis.theory_means``.
        title: What was run.

    Raises:
        ValueError: No simulation has a distance.
    """
    known = means.dropna(subset=["distance"])
    if known.empty:
        raise ValueError("nothing to draw: no simulation has converged")
    widths = sorted(known["width"].unique())
    figure = new_figure((14.5, 4.4), title)
    left, *right = figure.subplots(1, 3)
    places = np.linspace(0, 0.9, len(widths)) if len(widths) > 1 else [0.5]
    styles = {
        w: (to_hex(colormaps["viridis_r"](p)), _MARKERS[i % len(_MARKERS)])
        for i, (w, p) in enumerate(zip(widths, places, strict=True))
    }
    _draw_distances(left, known, styles)
    bases = _bases(known)
    for axes, name in zip(right, _RATIOS, strict=True):
        _draw_ratios(axes, known, name, widths, bases)
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=color, label=f"width {width:,}")
        for width, (color, marker) in styles.items()
    ]
    for (kind, base), marker in bases.items():
        handles.append(Line2D([], [], marker=marker, markersize=4, **_line(kind), label=_label(kind, base)))
    if np.isfinite(known["ratio_low"].astype(float)).any():
        handles.append(words("whiskers:\n95% intervals\nover seeds"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _draw_distances(axes: Axes, means: pd.DataFrame, styles: dict[Any, tuple[str, str]]) -> None:
    head(axes, "distance moved")
    most = 1.08 * max(means["bound"].max(), means["distance"].max())
    axes.plot([0, most], [0, most], color="#999999", linewidth=1, zorder=0)
    for width, rows in means.groupby("width"):
        color, marker = styles[width]
        (drawn,) = axes.plot(
            rows["bound"], rows["distance"], linestyle="none", marker=marker, color=color, markersize=5.5
        )
        tell(drawn, f"width {width:,}", [_told(row, ["distance", "bound"], "seeds") for row in rows.to_dict("records")])
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_xlabel("bound, √(rᵀ H⁻¹ r)")
    axes.set_ylabel("distance, ‖W(Q) − W(P)‖")


def _bases(means: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The marker of each base that differs from its target, by what differs and its name."""
    there = means[means["ratio"].notna()].sort_values(["dial", "level"])
    found = sorted(dict.fromkeys(zip(there["kind"], there["base"], strict=True)), key=lambda of: of[0])
    return {of: _MARKERS[i % len(_MARKERS)] for i, of in enumerate(found)}


def _label(kind: str, base: str) -> str:
    """What the legend calls a base."""
    return base if kind == "none" else f"{base}: {kind} differs"


def _told(row: Row, names: Sequence[str], seeds: str) -> str:
    """Means for a tooltip, with their intervals; and a column of how many seeds they are of."""
    values = [(name, with_interval(*(row[f"{name}{end}"] for end in ("", "_low", "_high")))) for name in names]
    said = ", ".join(f"{_RATIOS.get(name, name)} {value}" for name, value in values)
    return f"{row['base']} to {row['target']}, width {row['width']:,}: {said}, {number_of(row[seeds], 'seed')}"


def _line(kind: str) -> dict[str, Any]:
    return {"color": _COLORS[kind], "linestyle": _DASHES[kind]}


def _draw_ratios(
    axes: Axes, means: pd.DataFrame, name: str, widths: list[int], bases: dict[tuple[str, str], str]
) -> None:
    head(axes, _RATIOS[name])
    axes.axhspan(*NEAR_ONE, color="#eeeeee", linewidth=0, zorder=0)
    axes.axhline(1, color="#999999", linewidth=1, zorder=0)
    axes.set_xscale("log")
    lines = list(means.dropna(subset=[name]).groupby(["kind", "dial", "level", "target", "base"], dropna=False))
    beside = 1.2 * 1.015 ** (len(lines) / 2)
    axes.set_xlim(widths[0] / beside, widths[-1] * beside)  # which of one width would be none
    for i, (key, rows) in enumerate(lines):
        line = rows.sort_values("width")
        kind, base = str(key[0]), str(key[-1])
        x = line["width"] * 1.015 ** (i - (len(lines) - 1) / 2)  # side by side
        marker, label = bases.get((kind, base), "."), _label(kind, base)
        (drawn,) = axes.plot(x, line[name], linewidth=1.3, marker=marker, markersize=4, **_line(kind))
        tell(drawn, label, [_told(row, [name], f"{name}_seeds") for row in line.to_dict("records")])
        ends = (line[f"{name}_low"], line[f"{name}_high"])
        tell(axes.vlines(x, *ends, color=_COLORS[kind], linewidth=0.8, alpha=0.6), label)
    axes.set_xticks(widths)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda width, _: f"{width:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("width")
    if lines:
        least, most = min(means[name].min(), NEAR_ONE[0]), max(means[name].max(), NEAR_ONE[1])
        margin = 0.25 * (most - least)
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, least - margin), min(top, most + margin))
