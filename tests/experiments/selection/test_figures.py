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
    figure = scores_figure(table, scores, known, title="t")
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
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top  # the first checkpoint is on top


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
