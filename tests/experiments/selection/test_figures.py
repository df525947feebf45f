"""Figures of a choice among checkpoints show what their rows hold."""

import numpy as np
import pandas as pd
import pytest

from raytransfer.analysis.selection import start_means
from raytransfer.experiments.selection.figures import cuts_figure, scores_figure, starts_figure
from raytransfer.report.style import COLORS
from raytransfer.specs.treatments import TREATMENTS
from tests.helpers import legend, marks, overlaps

CHECKPOINTS = ("one", "two", "three")


def outcomes(treatments) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (t, c, target, 0, 7, 8, rng.random()) for t in treatments for c in CHECKPOINTS for target in ("cats", "dogs")
    ]
    return pd.DataFrame(rows, columns=["treatment", "checkpoint", "target", "seed", "n_layers", "depth", "top1"])


@pytest.mark.parametrize("treatments", [("AnB",), ("AnB", "AnB+")])
def test_scores_stand_against_accuracy_with_a_line_for_each_target_and_a_name_for_each_checkpoint(treatments):
    table = outcomes(treatments)
    rng = np.random.default_rng(1)
    scores = [("LogME", c, t, 0, 7, 8, rng.random()) for c in CHECKPOINTS for t in ("cats", "dogs")]
    scores = pd.DataFrame(scores, columns=["measure", "checkpoint", "target", "seed", "n_layers", "depth", "value"])
    known = pd.DataFrame({"checkpoint": CHECKPOINTS, "accuracy": [0.7, 0.8, np.nan], "parameters": [2e6, 3e6, 4e6]})
    untrained = pd.DataFrame({"checkpoint": ["untrained"], "accuracy": [0.9], "parameters": [5e6]})
    figure = scores_figure(table, scores, pd.concat([known, untrained]), title="t")
    assert {axes.get_ylabel() for axes in figure.axes} == {"test top-1, %", ""}
    values = scores.set_index(["checkpoint", "target"])["value"]
    for axes in figure.axes:
        of = {
            "LogME": values,
            "published accuracy": known.set_index("checkpoint")["accuracy"],
            "parameters, M": known.set_index("checkpoint")["parameters"] / 1e6,
        }[axes.get_xlabel()]
        for (treatment, name), rows in table.groupby(["treatment", "checkpoint"]):
            color = COLORS[CHECKPOINTS.index(name)]
            (points,) = [
                line
                for line in axes.lines
                if line.get_color() == color and (line.get_markerfacecolor() == "white") == (treatment == "AnB")
            ]
            places = [of[name, target] if axes.get_xlabel() == "LogME" else of[name] for target in rows["target"]]
            np.testing.assert_allclose(points.get_xydata(), np.stack([places, 100 * rows["top1"]], axis=1))
    panels = {axes.get_xlabel(): axes for axes in figure.axes}
    assert set(panels) == {"LogME", "published accuracy", "parameters, M"}
    for treatment in treatments:
        for target in ("cats", "dogs"):
            of_target = table[(table["target"] == target) & (table["treatment"] == treatment)]
            of_target = of_target.merge(scores[["checkpoint", "target", "value"]]).sort_values("value")
            expected = [of_target["value"].tolist(), (100 * of_target["top1"]).tolist()]
            lines = [
                [list(of) for of in line.get_data()] for line in panels["LogME"].lines if line.get_linestyle() == "-"
            ]
            assert any(np.allclose(line, expected) for line in lines)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    full = ["full: fine-tuned (AnB+)"] if "AnB+" in treatments else []
    assert texts == [*CHECKPOINTS, "hollow: frozen (AnB)", *full, "lines: one target"]
    assert [handle.get_color() for handle in legend.legend_handles[:3]] == list(COLORS[:3])


def test_long_numbers_below_scores_do_not_run_into_each_other():
    table = outcomes(("AnB",))
    values = {"one": -1.1099, "two": -1.0508, "three": -0.9366}
    scores = table.assign(value=table["checkpoint"].map(values)).drop(columns=["top1", "treatment"])
    scores = pd.concat([scores.assign(measure=name) for name in ("LogME", "H-score", "N-LEEP", "PARC")])
    known = pd.DataFrame({"checkpoint": CHECKPOINTS, "accuracy": [np.nan] * 3, "parameters": [2e6, 3e6, 4e6]})
    assert overlaps(scores_figure(table, scores, known, title="t")) == []


def test_without_scores_the_baselines_are_drawn():
    table = outcomes(("AnB",))
    scores = pd.DataFrame(columns=["measure", "checkpoint", "target", "seed", "n_layers", "depth", "value"])
    known = pd.DataFrame({"checkpoint": CHECKPOINTS, "accuracy": [np.nan] * 3, "parameters": [2e6, 3e6, 4e6]})
    figure = scores_figure(table, scores, known, title="t")
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters, M"]


def test_starts_at_one_cut_are_a_row_for_each_checkpoint():
    means = outcomes(("AnB", "AnB+")).assign(top1_low=lambda rows: rows["top1"] - 0.05, top1_high=np.nan, units=3)
    figure = starts_figure(means, title="t")
    assert [axes.get_title() for axes in figure.axes] == ["cats", "dogs"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(CHECKPOINTS)
    for axes, target in zip(figure.axes, ("cats", "dogs"), strict=True):
        drawn = {bars[0].get_color(): np.asarray(bars[0].get_xdata(), dtype=float) for bars in axes.containers}
        for treatment in ("AnB", "AnB+"):
            rows = means[(means["target"] == target) & (means["treatment"] == treatment)]
            np.testing.assert_allclose(drawn[TREATMENTS[treatment].color], 100 * rows["top1"])
    assert figure.axes[0].get_ylim() == (2.5, -0.5)  # the first checkpoint is on top


def whiskers(bars) -> np.ndarray:
    """The ends of the whiskers of a series, along the axis on which they lie."""
    segments = np.array(bars.lines[2][0].get_segments())
    return segments[:, :, int(np.ptp(segments[:, :, 0], axis=1).max() == 0)]


def test_every_mean_of_a_cut_has_its_whisker_and_scratch_its_band():
    rows = pd.concat(
        outcomes((treatment,)).assign(n_layers=n, seed=seed)
        for treatment, n in (("baseB", None), ("AnB", 4), ("AnB", 2), ("AnB+", 2), ("AnB+", 4))
        for seed in range(3)
    ).astype({"n_layers": "Int64"})
    rows["top1"] = rows["top1"] / 2 + 0.02 * rows["seed"] + 0.01 * rows["n_layers"].fillna(0)
    means = start_means(rows)
    figure = cuts_figure(means, {"one": 8, "two": 9, "three": 10}, title="t")
    assert [axes.get_title() for axes in figure.axes] == [f"{c}\non {t}" for c in CHECKPOINTS for t in ("cats", "dogs")]
    alone = cuts_figure(means[means["target"] == "cats"], dict.fromkeys(CHECKPOINTS, 8), title="t")
    assert [axes.get_title() for axes in alone.axes] == list(CHECKPOINTS)  # side by side
    assert len({axes.get_subplotspec().rowspan.start for axes in alone.axes}) == 1
    assert [axes.get_xlabel() for axes in figure.axes[::2]] == [f"layers copied, n (of {n})" for n in (7, 8, 9)]
    assert [axes.get_ylabel() for axes in figure.axes] == ["test top-1, %", ""] * 3
    for axes, (_, panel) in zip(figure.axes, means.groupby(["checkpoint", "target"], sort=False), strict=True):
        of = {name: rows.sort_values("n_layers") for name, rows in panel.groupby("treatment")}
        (across,) = [line for line in axes.lines if line.get_linestyle() == "-" and len(set(line.get_ydata())) == 1]
        assert across.get_ydata()[0] == pytest.approx(100 * of["baseB"]["top1"].item())
        (band,) = axes.patches
        ends = (100 * of["baseB"][end].clip(0, 1).item() for end in ("top1_low", "top1_high"))
        assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(tuple(ends))
        for bars, name in zip(axes.containers, ("AnB", "AnB+"), strict=True):
            assert bars[0].get_color() == TREATMENTS[name].color
            np.testing.assert_allclose(bars[0].get_xydata(), np.stack([[2, 4], 100 * of[name]["top1"]], axis=1))
            np.testing.assert_allclose(whiskers(bars), 100 * of[name][["top1_low", "top1_high"]].clip(0, 1))


def test_a_row_of_cuts_is_of_one_checkpoint_though_nothing_of_it_has_finished_on_some_target():
    means = start_means(pd.concat(outcomes(("AnB",)).assign(n_layers=n) for n in (2, 4)))
    begun = means[(means["checkpoint"] != "two") | (means["target"] != "cats")]
    figure = cuts_figure(begun, dict.fromkeys(CHECKPOINTS, 8), title="t")
    rows = {}
    for axes in figure.axes:
        rows.setdefault(axes.get_subplotspec().rowspan.start, []).append(axes.get_title().split("\n")[0])
    assert rows == {0: ["one", "one"], 1: ["two"], 2: ["three", "three"]}


def test_every_start_has_its_whisker_in_the_row_of_its_checkpoint():
    means = outcomes(("AnB", "AnB+")).assign(units=3)
    means = means.assign(top1_low=means["top1"] - 0.3, top1_high=means["top1"] + 0.2)  # some of them beyond 0 and 100%
    figure = starts_figure(means, title="t")
    assert figure.get_supxlabel() == "test top-1, %"
    for axes, target in zip(figure.axes, ("cats", "dogs"), strict=True):
        for bars, treatment, shift in zip(axes.containers, ("AnB", "AnB+"), (-0.175, 0.175), strict=True):
            rows = means[(means["target"] == target) & (means["treatment"] == treatment)]
            assert rows["checkpoint"].tolist() == list(CHECKPOINTS)
            np.testing.assert_allclose(bars[0].get_ydata().astype(float), np.arange(3) + shift)
            np.testing.assert_allclose(whiskers(bars), 100 * rows[["top1_low", "top1_high"]].clip(0, 1))


def test_cuts_and_starts_tell_accuracy_interval_and_repeats():
    rows = pd.concat(
        outcomes((treatment,)).assign(n_layers=n, seed=seed, top1=0.5 + 0.01 * seed + (n or 0) / 100)
        for treatment, all_n in (("baseB", (None,)), ("AnB", (2, 4)))
        for n in all_n
        for seed in range(3)
    ).astype({"n_layers": "Int64"})
    means = start_means(rows)
    told, series = marks(cuts_figure(means, dict.fromkeys(CHECKPOINTS, 8), title="t"))
    assert len(told) == len(set(told)) == len(means) == 18
    assert "one on cats, baseB: 51.0 [48.5, 53.5]%, 3 repeats" in told
    assert "two on dogs, AnB, n = 4: 55.0 [52.5, 57.5]%, 3 repeats" in told
    assert series == ["baseB", "AnB"]
    some = means[(means["checkpoint"] != "one") | (means["treatment"] == "baseB")]  # of one no transfer has finished
    assert legend(cuts_figure(some, dict.fromkeys(CHECKPOINTS, 8), title="t")) == ["baseB", "AnB"]
    starts = means[means["n_layers"].isna() | (means["n_layers"] == 4)]
    told, series = marks(starts_figure(starts, title="t"))
    assert len(told) == len(set(told)) == len(starts) == 12
    assert "three on cats, AnB, n = 4: 55.0 [52.5, 57.5]%, 3 repeats" in told
    assert series == ["baseB", "AnB"]


def test_scores_tell_checkpoint_target_accuracy_and_value_where_both_are_known():
    table = outcomes(("AnB", "AnB+"))
    table = pd.concat([table, table.query("checkpoint == 'two'").assign(seed=1)])
    scores = table.query("treatment == 'AnB' and seed == 0").assign(measure="LogME", value=-0.125)
    known = pd.DataFrame({"checkpoint": CHECKPOINTS, "accuracy": [0.7, 0.8, np.nan], "parameters": [2e6, 3e6, 4e6]})
    told, series = marks(scores_figure(table, scores, known, title="t"))
    assert len(told) == len(set(told)) == 4 * (3 + 2 + 3)
    top1 = table.query("treatment == 'AnB+' and checkpoint == 'two' and target == 'dogs'")["top1"].iloc[0]
    for said in ("LogME = -0.125, 1 repeat", "published accuracy = 0.8", "parameters, M = 3"):
        assert f"two on dogs, AnB+: {100 * top1:.1f}%, 2 repeats, {said}" in told
    assert series == list(CHECKPOINTS)
