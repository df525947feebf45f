"""Pictures of a choice among checkpoints.

A figure shows what its DataFrames hold: it selects rows and scales fractions to percent, and computes means alone.
"""

import itertools

import pandas as pd
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raytransfer.analysis.selection import at_last_cut
from raytransfer.experiments.words import Row, in_percent
from raytransfer.report.style import COLORS, MARKERS, dot, panels_of, words
from raytransfer.report.svg import tell
from raytransfer.specs.treatments import ANB, ANB_PLUS, TREATMENTS
from raytransfer.words import number_of

_COLUMNS = 4


def cuts_figure(means: pd.DataFrame, depth: dict[str, int], *, title: str) -> Figure:
    """Accuracy against the cut: a panel for each checkpoint and target, its network from scratch as a line across.

    Of several targets a row of panels is of one checkpoint. No whisker goes beyond 0 to 100%, where no accuracy lies.

    Args:
        means: Output of ``raytransfer.analysis.selection.start_means``.
        depth: The number of layers of each checkpoint's network.
        title: What was run.
    """
    means = _clipped(means)
    checkpoints, targets = (list(dict.fromkeys(means[name])) for name in ("checkpoint", "target"))
    panels = list(itertools.product(checkpoints, targets))
    several = len(targets) > 1
    columns = len(targets) if several else _COLUMNS
    figure, grid = panels_of(len(panels), columns, panel=(3.0, 2.6), around=(1.2, 1.2), title=title, sharey=True)
    for axes, (checkpoint, target) in zip(grid, panels, strict=True):
        of_panel = means[(means["checkpoint"] == checkpoint) & (means["target"] == target)]
        if of_panel.empty:  # nothing of it has finished
            axes.remove()
            continue
        for treatment, line in of_panel.groupby("treatment", sort=False):
            style = TREATMENTS[str(treatment)]
            if line["n_layers"].isna().all():
                (row,) = line.to_dict("records")
                across = axes.axhline(100 * row["top1"], color=style.color, linewidth=1.2, label=style.name)
                tell(across, style.name, [_told(row)])
                if not pd.isna(row["top1_low"]):
                    ends = (100 * row["top1_low"], 100 * row["top1_high"])
                    tell(axes.axhspan(*ends, color=style.color, alpha=0.12, lw=0), style.name)
                continue
            line = line.sort_values("n_layers")
            below, above = line["top1"] - line["top1_low"], line["top1_high"] - line["top1"]
            drawn = axes.errorbar(
                line["n_layers"].astype(float),
                100 * line["top1"],
                yerr=[100 * below.fillna(0), 100 * above.fillna(0)],
                color=style.color,
                marker=style.marker,
                markersize=5,
                linewidth=1.3,
                elinewidth=0.8,
                capsize=2,
                label=style.name,
            )
            _tell_all(drawn, style.name, line)
        axes.set_title(f"{checkpoint}\non {target}" if several else str(checkpoint), fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"layers copied, n (of {depth[str(checkpoint)] - 1})", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel("test top-1, %", fontsize=9)
    # Of a checkpoint some trainings may not have finished: each panel may have others.
    drawn_as = {label: mark for axes in grid for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    handles, labels = [*drawn_as.values()], [*drawn_as]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def starts_figure(means: pd.DataFrame, *, title: str) -> Figure:
    """Accuracy from each checkpoint, each cut at one place alone: a panel for each target, a row for each checkpoint.

    Each panel has a scale of its own, as checkpoints are compared on one target.

    Args:
        means: Output of ``raytransfer.analysis.selection.start_means``.
        title: What was run.
    """
    means = _clipped(means)
    targets, checkpoints = (list(dict.fromkeys(means[name])) for name in ("target", "checkpoint"))
    treatments = [TREATMENTS[str(name)] for name in dict.fromkeys(means["treatment"])]
    height = 0.7 + max(0.35, 0.18 * len(treatments)) * len(checkpoints)
    figure, grid = panels_of(len(targets), _COLUMNS, panel=(2.5, height), around=(3.0, 1.2), title=title, sharey=True)
    step = 0.7 / len(treatments)
    for axes, target in zip(grid, targets, strict=True):
        of_target = means[means["target"] == target]
        for i, style in enumerate(treatments):
            line = of_target[of_target["treatment"] == style.name]
            drawn = axes.errorbar(
                100 * line["top1"],
                [checkpoints.index(name) + (i - (len(treatments) - 1) / 2) * step for name in line["checkpoint"]],
                xerr=[(100 * (line[a] - line[b])).fillna(0) for a, b in (("top1", "top1_low"), ("top1_high", "top1"))],
                linestyle="none",
                color=style.color,
                marker=style.marker,
                markersize=5,
                elinewidth=0.8,
                capsize=2,
            )
            _tell_all(drawn, style.name, line)
        axes.set_title(str(target), fontsize=9)
        axes.grid(axis="x", color="#eeeeee", linewidth=0.8)
        axes.set_yticks(range(len(checkpoints)), checkpoints)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylim(len(checkpoints) - 0.5, -0.5)  # the first on top
    figure.supxlabel("test top-1, %", fontsize=9)
    handles = [dot(style.color, style.name, marker=style.marker) for style in treatments]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=9)
    return figure


def scores_figure(outcomes: pd.DataFrame, scores: pd.DataFrame, known: pd.DataFrame, *, title: str) -> Figure:
    """Each score at the last cut, and each baseline, against accuracy with every layer below the head copied.

    A colour and a marker for each checkpoint, a point for each target; hollow points are frozen, full ones fine-tuned.
    A line joins the points of one target, from the lowest score to the highest: it rises where the score ranks the
    checkpoints as they came out.

    Args:
        outcomes: As for ``raytransfer.analysis.selection.start_means``, with depth.
        scores: As for ``raytransfer.analysis.selection.predictors``.
        known: One row per checkpoint: checkpoint, accuracy and parameters.
        title: What was run.
    """
    last, at_last = outcomes[outcomes["n_layers"] == outcomes["depth"] - 1], at_last_cut(scores)
    keys = ["target", "checkpoint"]
    trained, scored = last.groupby([*keys, "treatment"])["top1"], at_last.groupby([*keys, "measure"])["value"]
    accuracy = trained.mean().unstack("treatment").reset_index()
    values = scored.mean().unstack("measure").reset_index()
    repeats = {
        place: f", {number_of(count, 'repeat')}" for of in (trained, scored) for place, count in of.count().items()
    }
    points = accuracy.merge(values, on=keys, how="left").merge(
        known[["checkpoint", "accuracy", "parameters"]], on="checkpoint"
    )
    points = points.assign(parameters=points["parameters"] / 1e6).astype({"accuracy": float})
    points = points.rename(columns={"accuracy": "published accuracy", "parameters": "parameters, M"})
    drawn = [*at_last["measure"].unique(), "published accuracy", "parameters, M"]
    drawn = [name for name in drawn if points[name].notna().sum() >= 2]
    figure, grid = panels_of(len(drawn), _COLUMNS, panel=(2.9, 2.5), around=(1.2, 1.4), title=title, sharey=True)
    names = list(dict.fromkeys(known["checkpoint"]))
    looks = {name: (COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}
    treatments = [treatment for treatment in (ANB.name, ANB_PLUS.name) if treatment in points]
    for axes, name in zip(grid, drawn, strict=True):
        for treatment in treatments:
            for _, of_target in points.sort_values(name).groupby("target"):
                axes.plot(of_target[name], 100 * of_target[treatment], color="#bbbbbb", linewidth=0.8, zorder=1)
            for checkpoint, (color, marker) in looks.items():
                here = points[points["checkpoint"] == checkpoint]
                face = color if treatment == ANB_PLUS.name else "white"
                (marks,) = axes.plot(here[name], 100 * here[treatment], marker, color=color, mfc=face, zorder=2)
                told = [
                    f"{checkpoint} on {target}, {treatment}: "
                    f"{100 * top1:.1f}%{repeats[target, checkpoint, treatment]}, "
                    f"{name} = {value:.3g}{repeats.get((target, checkpoint, name), '')}"
                    for target, top1, value in here[["target", treatment, name]].dropna().itertuples(index=False)
                ]
                tell(marks, checkpoint, told)
        axes.set_xlabel(str(name), fontsize=9)
        # Of long numbers more would run into each other.
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[::_COLUMNS]:
        axes.set_ylabel("test top-1, %", fontsize=9)
    handles = [
        dot(color, name, marker=marker) for name, (color, marker) in looks.items() if name in set(points["checkpoint"])
    ]
    said = {ANB.name: f"hollow: frozen ({ANB.name})", ANB_PLUS.name: f"full: fine-tuned ({ANB_PLUS.name})"}
    handles += [words(said[treatment]) for treatment in treatments]
    handles.append(words("lines: one target"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _tell_all(drawn: ErrorbarContainer, series: str, rows: pd.DataFrame) -> None:
    """Have the markers tell their rows; whiskers are of the same series."""
    line, caps, whiskers = drawn.lines
    tell(line, series, [_told(row) for row in rows.to_dict("records")])
    for part in (*caps, *whiskers):
        tell(part, series)


def _told(row: Row) -> str:
    at: str = "" if pd.isna(row["n_layers"]) else f", n = {row['n_layers']}"
    top1 = f"{in_percent(row['top1'], row['top1_low'], row['top1_high'])}%, {number_of(row['units'], 'repeat')}"
    return f"{row['checkpoint']} on {row['target']}, {row['treatment']}{at}: {top1}"


def _clipped(means: pd.DataFrame) -> pd.DataFrame:
    """With ends of intervals within 0..1, as no accuracy lies beyond."""
    return means.assign(**{end: means[end].clip(0, 1) for end in ("top1_low", "top1_high")})
