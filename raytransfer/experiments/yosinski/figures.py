"""The paired readings, and the two pictures of Figure 2 in Yosinski et al. 2014: runs as points, and means as lines.

A figure shows what its DataFrame holds: it selects rows and scales fractions to percent, and computes nothing else.
What it draws says which treatment or halves it belongs to, and every marker its numbers.
"""

from typing import Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from raytransfer.analysis import READINGS
from raytransfer.analysis.transfer import halves_rank
from raytransfer.experiments.words import Row, in_points, told_mean
from raytransfer.report.style import COLORS, MARKERS, drawable, fit_to, head, new_figure, panels_of, words
from raytransfer.report.svg import tell
from raytransfer.specs.treatments import ANB, BASE_B, RNB, TREATMENTS, Treatment
from raytransfer.words import number_of

_APART, _WIDEST = 0.14, 0.8  # in n: between treatments that stand side by side, and of all of them
_Dash = Literal["-", "--", ":", "-."] | tuple[int, tuple[int, ...]]
_DASHES: tuple[_Dash, ...] = (  # of other halves, in order; random halves are solid
    *("--", ":", "-."),
    *((0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 3))),
)

_COMPARED = (BASE_B.name, ANB.name, RNB.name)  # over all halves, on one scale
_GREY, _PALE = "#555555", "#b5b5b5"
_MOST_TICKS = 12


def points_figure(results: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw every run's top-1 accuracy against n (Yosinski et al. 2014, Figure 2, top).

    One panel for each kind of halves shows its bases (at n = 0) and what was copied, on a scale of its own; a wide one
    below sets baseB, AnB and RnB of all halves on one scale. Treatments differ by colour, marker and a small shift
    sideways; runs on halves that are not random are hollow. What is in no table of treatments is left out.

    Args:
        results: One row per run: treatment, halves, split, direction, seed, n_layers and top1, a fraction.
        title: What was run.
        subtitle: How many runs there are, such as "random: 4 splits x 2 directions x 1 seed, 4 units (splits)".

    Raises:
        ValueError: No run is of a known treatment.
    """
    figure, panels = _panels(results, title, subtitle)
    halves, shifts = _halves(pd.concat([runs for _, runs in panels])), _shifts(panels)
    for axes, runs in panels:
        for (treatment, of_halves), rows in runs.groupby(["treatment", "halves"]):
            style = TREATMENTS[str(treatment)]
            (drawn,) = axes.plot(
                rows["n_layers"] + shifts[str(treatment)],
                100 * rows["top1"],
                linestyle="none",
                marker=style.marker,
                markersize=5,
                markerfacecolor=_fill(str(of_halves), style.color),
                markeredgecolor=style.color,
                alpha=0.7,
            )
            columns = ["n_layers", "top1", "split", "direction", "seed"]
            tell(
                drawn,
                str(treatment),
                [
                    f"{treatment}{_at(n)}: {100 * top1:.1f}% ({split}, {direction}, seed {seed})"
                    for n, top1, split, direction, seed in rows[columns].itertuples(index=False, name=None)
                ],
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
        fit_to([axes], 100 * rows["mean"])
    handles = [
        Line2D(
            [], [], color=treatment.color, marker=treatment.marker if treatment.has_cut else "", label=treatment.name
        )
        for treatment in (TREATMENTS[name] for name in _drawn(panels))
    ]
    if halves != ["random"]:
        handles += [Line2D([], [], color=_GREY, linestyle=_dash(h, halves), label=_halves_label(h)) for h in halves]
    if np.isfinite(drawn.loc[drawn["halves"] == "random", "low"]).any():
        handles.append(words("whiskers, band:\n95% intervals"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def readings_figure(
    readings: pd.DataFrame, *, title: str, subtitle: str = "", published: pd.DataFrame | None = None
) -> Figure:
    """Draw the readings, differences of treatments in percentage points, against n: the result of a grid.

    A panel for each reading, all on one scale with a line at zero; halves differ by colour, marker and a small shift
    sideways. Whiskers are the 95% intervals, where there are any: under 3 units a marker stands alone.

    Args:
        readings: Output of ``raytransfer.analysis.readings`` on accuracies.
        title: What was run.
        subtitle: How many runs there are.
        published: The same of the networks of 2014, for a grid whose n mean the same: a grey line behind.

    Raises:
        ValueError: There is no reading.
    """
    readings = drawable(readings, "reading", READINGS)
    halves, all_n = _halves(readings), sorted({int(n) for n in readings["n_layers"]})
    looks = {  # of the first, the random halves, the last marker, a dot
        of_halves: (COLORS[i % len(COLORS)], MARKERS[(i - 1) % len(MARKERS)]) for i, of_halves in enumerate(halves)
    }
    figure, panels = reading_panels(readings, "number of copied layers n", title, subtitle)
    step = min(_APART, _WIDEST / len(halves))
    for name, axes in panels.items():
        if published is not None:
            _draw_published(axes, published[(published["reading"] == name) & published["n_layers"].isin(all_n)])
        for i, of_halves in enumerate(halves):
            rows = readings[(readings["reading"] == name) & (readings["halves"] == of_halves)]
            if rows.empty:
                continue
            color, marker = looks[of_halves]
            x = rows["n_layers"].to_numpy() + step * (i - (len(halves) - 1) / 2)
            estimate, low, high = (100 * rows[column].to_numpy() for column in ("estimate", "low", "high"))
            known = np.isfinite(low)
            label = _halves_label(of_halves)
            tell(axes.vlines(x[known], low[known], high[known], color=color, linewidth=1.4), label)
            (drawn,) = axes.plot(
                x, estimate, linestyle="none", marker=marker, markersize=5, color=color, mfc=_fill(of_halves, color)
            )
            tell(
                drawn,
                label,
                [f"{name}, {label}{_at(row['n_layers'])}: {points(row)}" for row in rows.to_dict("records")],
            )
        axes.set_xlim(all_n[0] - 0.6, all_n[-1] + 0.6)
        axes.xaxis.set_major_locator(FixedLocator(all_n, nbins=_MOST_TICKS))  # the n that ran
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=color, mfc=_fill(name, color), label=_halves_label(name))
        for name, (color, marker) in looks.items()
    ]
    if published is not None:
        handles.append(Line2D([], [], color=_PALE, linewidth=2, label="2014, ILSVRC12"))
    if np.isfinite(readings["low"]).any():
        handles.append(words("whiskers:\n95% intervals"))
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def curves_figure(curves: pd.DataFrame, *, title: str, subtitle: str = "") -> Figure:
    """Draw learning curves: top-1 accuracy on the test images against steps, a panel per treatment, a line per n.

    A line is the mean over the runs of one kind of halves, of random ones where there are any; the darker, the more
    layers are copied. Bases lie behind every panel as a black line, where they took as many steps.

    Args:
        curves: One row per evaluation of a run: treatment, halves, n_layers, step and top1, a fraction.
        title: What was run.
        subtitle: How many runs there are.

    Raises:
        ValueError: No curve is of a known treatment that has a cut.
    """
    known = curves[curves["halves"] == _halves(curves)[0]]
    means = known.groupby(["treatment", "n_layers", "step"], as_index=False)["top1"].mean()
    names = [name for name in TREATMENTS if name in set(means["treatment"]) and TREATMENTS[name].has_cut]
    if not names:
        raise ValueError(f"nothing to draw: no curve is of {', '.join(n for n, t in TREATMENTS.items() if t.has_cut)}")
    all_n = sorted({int(n) for n in means["n_layers"] if n > 0})
    shades = dict(zip(all_n, matplotlib.colormaps["viridis_r"](np.linspace(0.1, 1, len(all_n))), strict=True))
    figure, panels = _multiples(len(names), title, subtitle)
    figure.supxlabel("training steps", fontsize=10)
    figure.supylabel("top-1 accuracy on the target, %", fontsize=10)
    base = means[means["treatment"] == BASE_B.name]
    for axes, name in zip(panels, names, strict=True):
        head(axes, name)
        (drawn,) = axes.plot(base["step"], 100 * base["top1"], color="black", linewidth=1.2)
        tell(drawn, BASE_B.name, [BASE_B.name])
        for n, rows in means[means["treatment"] == name].groupby("n_layers"):
            (drawn,) = axes.plot(rows["step"], 100 * rows["top1"], color=shades[int(n)], linewidth=1.4)
            tell(drawn, f"n = {n}", [f"{name}, n = {n}: {100 * rows['top1'].iloc[-1]:.1f}% at the end"])
    handles = [Line2D([], [], color="black", label=BASE_B.name)] if not base.empty else []
    handles += [Line2D([], [], color=shades[n], label=f"n = {n}") for n in all_n]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


def _draw_published(axes: Axes, readings: pd.DataFrame) -> None:
    """A line of what came out in 2014, of random halves where the reading is of these; a dash where one n ran."""
    for of_halves, rows in readings.groupby("halves"):
        marker = "_" if len(rows) == 1 else ""
        (line,) = axes.plot(
            rows["n_layers"],
            100 * rows["estimate"],
            color=_PALE,
            linewidth=2,
            marker=marker,
            markersize=14,
            markeredgewidth=2,
            zorder=1.5,
        )
        told = [
            f"2014, {_halves_label(str(of_halves))}{_at(row['n_layers'])}: {points(row)}"
            for row in rows.to_dict("records")
        ]
        tell(line, "2014", told)


def reading_panels(readings: pd.DataFrame, across: str, title: str, subtitle: str) -> tuple[Figure, dict[str, Axes]]:
    """Lay out a panel for each reading that has rows, by its name, with a line at zero; ``across`` is named below."""
    names = [name for name in READINGS if name in set(readings["reading"])]
    figure, panels = _multiples(len(names), title, subtitle)
    figure.supxlabel(across, fontsize=10)
    figure.supylabel("difference of top-1 accuracy, percentage points", fontsize=10)
    for axes, name in zip(panels, names, strict=True):
        head(axes, f"{name}\n{_difference(name)}", size_pt=9)
        axes.axhline(0, color="#888888", linewidth=1, zorder=1)
    return figure, dict(zip(names, panels, strict=True))


def _difference(reading: str) -> str:
    """Which treatments a reading compares."""
    first, second = READINGS[reading]
    return f"({first} − {second}) less random's" if reading == "distance effect" else f"{first} − {second}"


def _at(n_layers: float) -> str:
    return f", n = {n_layers:.0f}" if n_layers else ""


def points(row: Row) -> str:
    """A reading for a tooltip."""
    return f"{in_points(row['estimate'], row['low'], row['high'])} points, {number_of(row['units'], 'unit')}"


def _multiples(count: int, title: str, subtitle: str) -> tuple[Figure, list[Axes]]:
    """Lay out a figure of so many small panels on one scale, with room for a legend."""
    figure, panels = panels_of(
        count,
        4,
        panel=(2.7, 2.5),
        around=(2.2, 1.3),
        title=title,
        subtitle=subtitle,
        sharex=True,
        sharey=True,
    )
    for axes in panels:
        axes.tick_params(labelbottom=True, labelleft=True)
    return figure, panels


def _panels(rows: pd.DataFrame, title: str, subtitle: str) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Lay out a figure, and say which rows belong in which of its panels."""
    known = drawable(rows, "treatment", TREATMENTS)
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
        *others, last = [name for name in _COMPARED if name in set(compared["treatment"])]
        below = f"{', '.join(others)} and {last} on one scale" if others else last
        mosaic.append([below] * max(len(contents), 1))
        contents[below] = compared
    figure = new_figure((4 + 5 * len(mosaic[0]), 1.5 + 3.5 * len(mosaic)), title, subtitle)
    figure.supxlabel("number of copied layers n", fontsize=10)
    figure.supylabel("top-1 accuracy on the target, %", fontsize=10)
    all_n = sorted(set(known["n_layers"]))
    all_axes: dict[str, Axes] = figure.subplot_mosaic(mosaic)  # type: ignore[arg-type]  # lists of str are hashable lists
    for name, axes in all_axes.items():
        head(axes, name)
        axes.xaxis.set_major_locator(FixedLocator(all_n, nbins=_MOST_TICKS))  # the n that ran
    return figure, [(all_axes[name], content) for name, content in contents.items()]


def _draw_line(axes: Axes, rows: pd.DataFrame, treatment: Treatment, shift: float, dash: _Dash) -> None:
    # No accuracy lies beyond 0 and 100.
    mean, low, high = (np.clip(100 * rows[column].to_numpy(), 0, 100) for column in ("mean", "low", "high"))
    whiskers = np.isfinite(low) & (rows["halves"] == "random").to_numpy()
    color, name = treatment.color, treatment.name
    told = [
        f"{name}, {_halves_label(row['halves'])}{_at(row['n_layers'])}: {told_mean(row)}"
        for row in rows.to_dict("records")
    ]
    if not treatment.has_cut:
        tell(axes.axhline(mean[0], color=color, linestyle=dash, linewidth=1.2, zorder=1), name, told[:1])
        if treatment is BASE_B and whiskers[0]:  # two bands on each other could not be told apart
            tell(axes.axhspan(low[0], high[0], color=color, alpha=0.1, linewidth=0, zorder=0), name)
        return
    x = rows["n_layers"].to_numpy() + shift
    (line,) = axes.plot(x, mean, color=color, linestyle=dash, marker=treatment.marker, markersize=6, linewidth=1.5)
    tell(line, name, told)
    tell(axes.vlines(x[whiskers], low[whiskers], high[whiskers], color=color, linewidth=1.2), name)


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
    return sorted(rows["halves"].unique(), key=halves_rank)


def _dash(halves: str, all_halves: list[str]) -> _Dash:
    others = [h for h in all_halves if h != "random"]
    return "-" if halves == "random" else _DASHES[others.index(halves) % len(_DASHES)]


def _fill(halves: str, color: str) -> str:
    return color if halves == "random" else "none"


def _halves_label(halves: str) -> str:
    return "random halves" if halves == "random" else halves
