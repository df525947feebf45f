import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from scipy import stats

from raytransfer.analysis.checkpoints import (
    base_curves,
    checkpoint_curves,
    checkpoint_peaks,
    checkpoint_verdicts,
    drop_effects,
)
from raytransfer.analysis.intervals import detectable, student_t
from raytransfer.experiments.checkpoints.figures import checkpoints_figure
from raytransfer.experiments.checkpoints.tables import drops_table, peaks_table
from tests.helpers import legend, marks, overlaps, rendered, titles

STEPS = (0, 10, 100, 1000, 2000, 2010)
few = settings(max_examples=10, deadline=None)


def transfers(
    curve=(0, 3, 6, 9, 8, 5), noise=0.0, units=4, schedules=("step",), treatments=("AnB",), layers=(2,), seed=0
):
    """Transfers whose mean is 30% and the curve's points, with noise of so many points at each checkpoint."""
    rng = np.random.default_rng(seed)
    rows = [
        (
            schedule,
            f"t{unit % 2}",
            f"b{unit % 2}",
            unit,
            treatment,
            n,
            step,
            0.3 + 0.01 * (point + noise * rng.normal()),
        )
        for schedule, unit, treatment, n in itertools.product(schedules, range(units), treatments, layers)
        for step, point in zip(STEPS, curve, strict=True)
    ]
    columns = ["schedule", "target", "base", "seed", "treatment", "n_layers", "pretrain_step", "top1"]
    return pd.DataFrame(rows, columns=columns).assign(target_block="digits")  # so that seeds are units


def bases(schedules=("step",), units=4):
    rows = [
        (schedule, target, "b", seed, step, 0.1 + 0.02 * i + 0.01 * seed, 0.9)
        for schedule, target, seed in itertools.product(schedules, ("t0", "t1"), range(units))
        for i, step in enumerate(STEPS)
    ]
    return pd.DataFrame(rows, columns=["schedule", "target", "base", "seed", "step", "top1", "train_top1"])


def arrays(outcomes):
    """(units, checkpoints), by loops."""
    units = sorted({(row.target, row.base, row.seed) for row in outcomes.itertuples()})
    at = {(row.target, row.base, row.seed, row.pretrain_step): row.top1 for row in outcomes.itertuples()}
    return np.array([[at[(*unit, step)] for step in STEPS] for unit in units])


def test_a_curve_is_the_t_interval_over_the_units_that_have_the_point():
    outcomes = transfers(noise=1).drop(index=3)  # step 1000 of the first unit
    outcomes.loc[4, "top1"] = math.nan
    curve = checkpoint_curves(outcomes).set_index("pretrain_step")
    assert list(curve["units"]) == [4, 4, 4, 3, 3, 4]
    for step in STEPS:
        values = outcomes.loc[outcomes["pretrain_step"] == step, "top1"].dropna()
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert curve.loc[step, "mean"] == pytest.approx(values.mean())
        assert tuple(curve.loc[step, ["low", "high"]]) == pytest.approx((expected.low, expected.high))


def test_a_base_that_serves_two_targets_counts_once():
    curve = base_curves(bases()).set_index("step")
    assert list(curve.index) == list(STEPS)
    assert list(curve["units"]) == [4] * 6
    expected = stats.ttest_1samp([0.14, 0.15, 0.16, 0.17], 0).confidence_interval(0.95)
    assert curve.loc[100, "mean"] == pytest.approx(0.155)
    assert tuple(curve.loc[100, ["low", "high"]]) == pytest.approx((expected.low, expected.high))


def test_rise_and_decline_read_each_unit_at_the_peak_of_the_others():
    outcomes = transfers(curve=(0, 4, 5, 5, 5, 4), noise=2, units=5, seed=3)
    values = arrays(outcomes)
    peaks = [max(range(6), key=lambda k: sum(v[k] for j, v in enumerate(values) if j != i)) for i in range(5)]
    assert len(set(peaks)) > 1
    (row,) = checkpoint_peaks(outcomes).to_dict("records")
    for name, end in (("rise", 0), ("decline", -1)):
        differences = [values[i][peak] - values[i][end] for i, peak in enumerate(peaks)]
        expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        assert row[name] == pytest.approx(np.mean(differences))
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((expected.low, expected.high))
        assert row[f"{name}_detectable"] == pytest.approx(detectable(student_t(np.array(differences))))
    mean = values.mean(axis=0)
    assert row["peak_step"] == STEPS[mean.argmax()]
    assert row["decline_naive"] == pytest.approx(mean.max() - mean[-1])
    assert (row["units"], row["unit"], row["runs"]) == (5, "seed", 5)


def test_of_checkpoints_that_are_equal_but_for_rounding_the_earliest_is_the_peak():
    outcomes = transfers(units=3)
    accuracies = np.array([[0.15, 0.1], [0.15, 0.2], [0.4, 0.4]])  # 0.15 + 0.15 is less than 0.1 + 0.2 in the last bit
    outcomes["top1"] = np.concatenate([accuracies, np.zeros((3, 4))], axis=1).ravel()
    peak = checkpoint_peaks(outcomes).iloc[0]
    assert peak["peak_step"] == 0
    # Left out, the first unit is read at the second checkpoint, and the two others at the first.
    assert peak["rise"] == pytest.approx((0.1 - 0.15) / 3)
    assert peak["decline"] == pytest.approx((0.1 + 0.15 + 0.4) / 3)


def test_runs_of_one_unit_are_averaged_before_anything_is_read_off():
    outcomes = transfers(noise=2, units=8, seed=3)
    apart = outcomes.assign(target_block=outcomes["seed"].map(lambda seed: f"source{seed // 2}"))
    values = arrays(outcomes).reshape(2, 4, 6)  # targets t0 and t1, each with every second seed
    of_sources = values.mean(axis=0)
    (row,) = checkpoint_peaks(apart).to_dict("records")
    assert (row["units"], row["unit"], row["runs"]) == (4, "source", 8)
    assert row["decline_naive"] == pytest.approx(of_sources.mean(axis=0).max() - of_sources.mean(axis=0)[-1])
    curve = checkpoint_curves(apart).set_index("pretrain_step")
    expected = stats.ttest_1samp(of_sources[:, 2], 0).confidence_interval(0.95)
    assert tuple(curve.loc[100, ["low", "high"]]) == pytest.approx((expected.low, expected.high))


def test_the_best_of_many_noisy_checkpoints_is_no_decline():
    layers = tuple(range(150))  # as many studies
    peaks = checkpoint_peaks(transfers(curve=(0, 9, 9, 9, 9, 9), noise=1, layers=layers), resamples=2)
    assert len(peaks) == 150
    assert peaks["decline_naive"].mean() > 0.004
    assert abs(peaks["decline"].mean()) < 0.0015
    declines = peaks["decline_low"] > 0
    assert declines.mean() < 0.06


@pytest.mark.parametrize(
    ("curve", "noise", "rises", "declines"),
    [
        ((0, 3, 6, 9, 8, 5), 0.3, "supported", "supported"),
        ((0, 3, 6, 9, 10, 12), 0.3, "supported", "undecided"),  # 0 by construction
        ((9, 8, 7, 4, 3, 2), 0.3, "undecided", "supported"),
        ((0, 3, 6, 9, 8, 5), 0, "undecided", "undecided"),  # all units are equal
    ],
)
def test_rising_and_declining_are_a_claim_each(curve, noise, rises, declines):
    table = checkpoint_verdicts(transfers(curve=curve, noise=noise, layers=(2, 3)))
    assert dict(zip(table["claim"], table["verdict"], strict=True)) == {"AnB rises": rises, "AnB declines": declines}
    assert set(table["units"]) == {4}
    assert set(table["effects"]) == {8}


def test_a_claim_on_checkpoints_is_of_the_means_of_units_over_schedules_and_n():
    outcomes = transfers(noise=2, schedules=("constant", "step"), layers=(2, 3), units=5, treatments=("AnB", "AnB+"))
    table = checkpoint_verdicts(outcomes).set_index("claim")
    assert list(table.index) == ["AnB rises", "AnB declines", "AnB+ rises", "AnB+ declines"]
    changes = []
    for _, of_curve in outcomes[outcomes["treatment"] == "AnB+"].groupby(["schedule", "n_layers"]):
        values = arrays(of_curve.sort_values("seed"))[[0, 3, 1, 4, 2]]  # by seed
        peaks = [(values.sum(axis=0) - own).argmax() for own in values]
        changes.append([own[peak] - own[0] for own, peak in zip(values, peaks, strict=True)])
    expected = stats.ttest_1samp(np.mean(changes, axis=0), 0)
    found = table.loc["AnB+ rises"]
    assert found["estimate"] == pytest.approx(np.mean(changes))
    assert found["p_value"] == pytest.approx(expected.pvalue)
    assert found["p_adjusted"] >= found["p_value"]


def test_one_unit_has_a_peak_and_no_verdict():
    (row,) = checkpoint_peaks(transfers(units=1)).to_dict("records")
    assert (row["peak_step"], row["units"]) == (1000, 1)
    assert row["decline_naive"] == pytest.approx(0.04)
    missing = ("low", "high", "rise", "rise_low", "rise_high", "decline", "decline_low", "decline_high")
    assert all(math.isnan(row[name]) for name in missing)
    assert set(checkpoint_verdicts(transfers(units=1))["verdict"]) == {"too few units"}
    assert set(checkpoint_verdicts(transfers(units=2))["verdict"]) == {"too few units"}


def test_only_whole_units_have_a_peak():
    outcomes = transfers(noise=1)
    assert checkpoint_peaks(outcomes.drop(index=2))["units"].item() == 3
    last = outcomes["seed"] == 3
    assert checkpoint_peaks(
        outcomes[last & (outcomes["pretrain_step"] > 0) | ~last & (outcomes["pretrain_step"] < 9)]
    ).empty


def test_the_peak_s_interval_spans_checkpoints_that_may_be_best():
    agreed = checkpoint_peaks(transfers(noise=0.1)).iloc[0]
    assert agreed["peak_step"] == 1000
    assert agreed[["low", "high"]].isna().all()
    halves = pd.concat(
        [
            transfers(curve=(0, 9.1, 0, 0, 0, 0)),
            transfers(curve=(0, 0, 0, 0, 9, 0)).assign(seed=lambda rows: rows["seed"] + 9),
        ]
    )
    torn = checkpoint_peaks(halves).iloc[0]
    assert (torn["low"], torn["peak_step"], torn["high"]) == (10, 10, 2000)


def test_the_peak_s_interval_leaves_one_resample_in_forty_out_on_either_side():
    for seed in (19, 21, 24):
        outcomes = transfers(curve=(0, 8, 9, 9, 8, 7), noise=2, seed=seed)
        # The 256 equally likely resamples of four units; the seventh reaches over 2.5% of them.
        values = arrays(outcomes)
        resamples = (values[list(drawn)].sum(axis=0) for drawn in itertools.product(range(4), repeat=4))
        peaks = sorted(STEPS[drawn.argmax()] for drawn in resamples)
        (row,) = checkpoint_peaks(outcomes, resamples=50_000).to_dict("records")
        assert (row["low"], row["high"]) == (peaks[6], peaks[-7])


@few
@given(st.randoms(use_true_random=False), st.lists(st.floats(-0.3, 0.3), min_size=4, max_size=4))
def test_neither_the_order_of_rows_nor_the_level_of_a_unit_changes_a_peak(random, levels):
    outcomes = transfers(noise=2)
    shifted = outcomes.assign(top1=outcomes["top1"] + outcomes["seed"].map(dict(enumerate(levels))))
    order = list(range(len(outcomes)))
    random.shuffle(order)
    expected, moved = checkpoint_peaks(outcomes, resamples=50), checkpoint_peaks(shifted.iloc[order], resamples=50)
    pd.testing.assert_frame_equal(expected, moved, check_exact=False, atol=1e-9)
    pd.testing.assert_frame_equal(expected, checkpoint_peaks(outcomes.iloc[order], resamples=50), check_exact=True)


def test_a_drop_s_effect_is_the_change_beyond_that_under_a_constant_rate():
    outcomes = transfers(noise=1, schedules=("constant", "step"), layers=(1, 2), units=5)
    dropped = (outcomes["schedule"] == "step") & (outcomes["pretrain_step"] > 1000) & (outcomes["n_layers"] == 2)
    outcomes.loc[dropped, "top1"] += 0.5
    drops = pd.DataFrame({"schedule": ["step", "step"], "step": [1000, 2010]})
    effects = drop_effects(outcomes, drops).set_index("n_layers")
    assert list(effects.index) == [1, 2]  # after the second drop there is no checkpoint
    # The checkpoint at the drop's own step is still before it.
    assert tuple(effects.loc[2, ["drop_step", "before_step", "after_step"]]) == (1000, 1000, 2000)
    for n, added in ((1, 0.0), (2, 0.5)):
        step, constant = (
            arrays(outcomes[(outcomes["schedule"] == s) & (outcomes["n_layers"] == n)]) for s in ("step", "constant")
        )
        differences = (step[:, 4] - step[:, 3]) - (constant[:, 4] - constant[:, 3])
        expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        assert effects.loc[n, "estimate"] == pytest.approx(differences.mean()) == pytest.approx(added, abs=0.05)
        assert tuple(effects.loc[n, ["low", "high"]]) == pytest.approx((expected.low, expected.high))
        assert effects.loc[n, "units"] == 5


def test_a_drop_s_effect_needs_a_constant_arm_and_both_checkpoints_of_a_unit():
    outcomes = transfers(noise=1, schedules=("constant", "step"))
    drops = pd.DataFrame({"schedule": ["step"], "step": [500]})
    assert drop_effects(outcomes[outcomes["schedule"] == "step"], drops).empty
    constant = outcomes["schedule"] == "constant"
    assert drop_effects(outcomes[~constant | (outcomes["pretrain_step"] != 1000)], drops).empty
    one = constant & (outcomes["seed"] == 1) & (outcomes["pretrain_step"] == 100)
    assert drop_effects(outcomes[~one], drops)["units"].item() == 3
    assert drop_effects(outcomes, drops.iloc[:0]).empty


def test_a_missing_column_and_a_repeated_row_are_named():
    outcomes = transfers()
    with pytest.raises(ValueError, match="rows lack the column pretrain_step"):
        checkpoint_curves(outcomes.drop(columns="pretrain_step"))
    with pytest.raises(
        ValueError, match="more than one row is of schedule step, treatment AnB, n_layers 2, pretrain_step 10"
    ):
        checkpoint_peaks(pd.concat([outcomes, outcomes.iloc[[1]]]))


def everything(schedules, layers):
    outcomes = transfers(noise=1, schedules=schedules, treatments=("AnB", "AnB+"), layers=layers)
    drops = pd.DataFrame({"schedule": ["step", "other"], "step": [1000, 7]})
    return checkpoint_curves(outcomes), base_curves(bases(schedules)), checkpoint_peaks(outcomes, resamples=50), drops


@pytest.mark.parametrize("schedules", [("step",), ("constant", "cosine", "step")])
@pytest.mark.parametrize("layers", [(2,), (1, 2, 4, 6)])
def test_every_schedule_and_treatment_has_a_panel_with_a_line_for_each_n(schedules, layers):
    curves, bases_mean, peaks, drops = everything(schedules, layers)
    figure = checkpoints_figure(curves, bases_mean, peaks, drops, title="convnet8 on cifar10")
    panels = [axes for axes in figure.axes if axes.get_title("left")]
    order = [name for name in ("step", "cosine", "constant") if name in schedules]
    assert titles(figure)[: len(panels)] == [
        f"{s}: {t}, 4 units" for t in ("frozen (AnB)", "fine-tuned (AnB+)") for s in order
    ]
    assert overlaps(figure) == []
    frozen = curves[(curves["treatment"] == "AnB") & (curves["schedule"] == "step")]
    lines = [line for line in panels[0].lines if len(line.get_xdata()) == 6]
    assert len(lines) == len(layers)
    for line, n in zip(lines, layers, strict=True):
        np.testing.assert_allclose(line.get_ydata(), 100 * frozen.loc[frozen["n_layers"] == n, "mean"])
    vertical = [line for line in panels[0].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in vertical] == [1000]
    best = [line.get_xdata()[0] for line in panels[0].lines if len(line.get_xdata()) == 1]
    assert best == list(peaks[(peaks["treatment"] == "AnB") & (peaks["schedule"] == "step")]["peak_step"])
    of_base = [axes.lines[0].get_ydata() for axes in figure.axes if not axes.get_title("left")]
    assert len(of_base) == len(panels)
    np.testing.assert_allclose(of_base[0], 100 * bases_mean.loc[bases_mean["schedule"] == "step", "mean"])


def test_every_panel_has_the_lines_bands_bests_and_base_of_its_schedule_and_treatment():
    schedules, layers = ("constant", "step", "cosine"), (1, 2, 4)
    curves, bases_mean, peaks, drops = everything(schedules, layers)
    figure = checkpoints_figure(curves, bases_mean, peaks, drops, title="t")
    left = [axes for axes in figure.axes if axes.get_title("left")]
    right = [axes for axes in figure.axes if not axes.get_title("left")]
    looks = {
        handle.get_label(): (to_hex(handle.get_color()), handle.get_marker())
        for handle in figure.legends[0].legend_handles[: len(layers)]
    }
    assert list(looks) == [f"n = {n}" for n in layers]
    assert len(set(looks.values())) == len(layers)
    places = itertools.product(("AnB", "AnB+"), ("step", "cosine", "constant"))
    for axes, twin, (treatment, schedule) in zip(left, right, places, strict=True):
        of_panel = curves[(curves["treatment"] == treatment) & (curves["schedule"] == schedule)]
        best = peaks[(peaks["treatment"] == treatment) & (peaks["schedule"] == schedule)].set_index("n_layers")
        strips = []
        for n in layers:
            color, marker = looks[f"n = {n}"]
            rows = of_panel[of_panel["n_layers"] == n].sort_values("pretrain_step")
            lines = [line for line in axes.lines if to_hex(line.get_color()) == color]
            (curve,) = [line for line in lines if len(line.get_xdata()) == len(STEPS)]
            np.testing.assert_allclose(curve.get_xdata(), rows["pretrain_step"])
            np.testing.assert_allclose(curve.get_ydata(), 100 * rows["mean"])
            assert curve.get_marker() == marker
            (band,) = [band for band in axes.collections if to_hex(band.get_facecolor()[0]) == color]
            corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices}
            assert {
                (x, round(100 * y, 6)) for x, y in rows[["pretrain_step", "low"]].itertuples(index=False)
            } <= corners
            assert {
                (x, round(100 * y, 6)) for x, y in rows[["pretrain_step", "high"]].itertuples(index=False)
            } <= corners
            (peak,) = [line for line in lines if len(line.get_xdata()) == 1]
            assert (peak.get_xdata()[0], peak.get_marker()) == (best.loc[n, "peak_step"], marker)
            ends = [tuple(line.get_xdata()) for line in lines if len(line.get_xdata()) == 2]
            assert ends == [tuple(best.loc[n, ["low", "high"]])] * int(np.isfinite(best.loc[n, "low"]))
            strips.append(peak.get_ydata()[0])
        assert strips == sorted(strips, reverse=True)  # the smallest n on top
        bottom, top = axes.get_ylim()
        assert bottom + max(strips) * (top - bottom) < 100 * of_panel["mean"].min()  # below all curves
        (base,) = twin.lines
        rows = bases_mean[bases_mean["schedule"] == schedule].sort_values("step")
        np.testing.assert_allclose(base.get_xydata(), np.stack([rows["step"], 100 * rows["mean"]], axis=1))
        assert twin.get_ylim()[0] < 100 * bases_mean["mean"].min() < 100 * bases_mean["mean"].max() < twin.get_ylim()[1]
        assert twin.yaxis.get_tick_params()["labelright"] == (schedule == "constant")  # the last of a row
        (drop,) = drops.loc[drops["schedule"] == schedule, "step"] if schedule == "step" else (None,)
        dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert dotted == ([] if drop is None else [drop])
        assert axes.get_xscale() == "symlog"
        assert axes.get_xticks().tolist() == [0, 10, 100, 1000]
    assert legend(figure)[-2:] == ["the base on its own\ntask: right scale, %", "learning rate drops"]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (
        "step of the base's training at which its layers were copied",
        "top-1 accuracy, %",
    )


def test_the_scales_are_those_of_the_means_with_room_below_for_the_best_checkpoints():
    curves, bases_mean, peaks, drops = everything(("step",), tuple(range(1, 9)))
    wide = curves.assign(low=-1.0, high=2.0)  # as of few units
    figure = checkpoints_figure(wide, bases_mean, peaks, drops, title="t")
    for axes, treatment in zip(figure.axes[:2], ("AnB", "AnB+"), strict=True):
        means = 100 * curves.loc[curves["treatment"] == treatment, "mean"]
        margin = 0.15 * (means.max() - means.min()) + 0.5
        bottom, top = axes.get_ylim()
        assert top == pytest.approx(means.max() + margin)
        strips = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
        assert len(strips) == 8
        assert bottom < bottom + max(strips) * (top - bottom) < means.min() - margin  # of the panel, from its bottom
        assert means.min() - margin == pytest.approx(bottom + 0.34 * (top - bottom))
        assert all(means.min() - margin <= tick <= top for tick in axes.get_yticks())
    of_bases = 100 * bases_mean["mean"]
    margin = 0.05 * (of_bases.max() - of_bases.min()) + 0.5
    assert figure.axes[-1].get_ylim() == pytest.approx((of_bases.min() - margin, of_bases.max() + margin))


def test_an_axis_of_few_checkpoints_names_the_first_and_the_last():
    curves, bases_mean, peaks, _ = (
        rows[rows[step].isin([0, 1000, 2000])] if step in rows else rows.iloc[:0]
        for rows, step in zip(everything(("step",), (2,)), ("pretrain_step", "step", "peak_step", "x"), strict=True)
    )
    drops = pd.DataFrame({"schedule": ["step"], "step": [1000]})
    figure = checkpoints_figure(curves, bases_mean, peaks, drops, title="t")
    assert figure.axes[0].get_xticks().tolist() == [0, 1000, 2000]


def test_checkpoints_peaks_and_bases_tell_step_accuracy_interval_and_units():
    curves, bases_mean, peaks, drops = everything(("constant", "step"), (2, 4))
    told, series = marks(checkpoints_figure(curves, bases_mean, peaks, drops, title="t"))
    assert series == ["n = 2", "n = 4", "base"]
    for row in curves.itertuples():
        value = f"{100 * row.mean:.1f} [{100 * max(row.low, 0):.1f}, {100 * min(row.high, 1):.1f}]%, 4 seeds"
        place = f"{row.schedule}, {row.treatment}, n = {row.n_layers}"
        assert f"{place}, step {row.pretrain_step}: {value}" in told
    ends = {f"{row.low:,.0f}, {row.high:,.0f}" for row in peaks.dropna(subset=["low"]).itertuples()}
    best = [text for text in told if "the best checkpoint is that of step" in text]
    assert len(best) == len(peaks)
    assert {text.partition("[")[2].partition("]")[0] for text in best} - {""} == ends != set()
    last = bases_mean[(bases_mean["schedule"] == "step")].iloc[-1]
    assert sum(text.startswith(f"base, step, step {last['step']}: {100 * last['mean']:.1f}") for text in told) == 2
    assert len(told) == len(curves) + len(peaks) + 4


def test_a_figure_of_what_a_sweep_has_so_far_names_nothing_else():
    curves, bases_mean, peaks, drops = everything(("step",), (2,))
    words = legend(checkpoints_figure(curves, bases_mean.iloc[:0], peaks.iloc[:0], drops.iloc[:0], title="t"))
    assert words == ["n = 2", "bands: 95% intervals\nof the means"]
    both = everything(("constant", "step"), (2,))[0]
    begun = both[(both["treatment"] == "AnB") == (both["schedule"] == "step")]  # one arm of each schedule
    figure = checkpoints_figure(begun, bases_mean.iloc[:0], peaks.iloc[:0], drops.iloc[:0], title="t")
    ends = (", 4 units", "", "", ", 4 units")
    assert [title.partition(")")[2] for title in titles(figure)] == list(ends)
    single = checkpoint_curves(transfers(units=1))
    assert legend(checkpoints_figure(single, bases_mean.iloc[:0], peaks.iloc[:0], drops.iloc[:0], title="t")) == [
        "n = 2"
    ]
    with pytest.raises(ValueError, match=r"nothing to draw: no row is of AnB, AnB\+"):
        checkpoints_figure(curves.iloc[:0], bases_mean, peaks, drops, title="t")


def test_peaks_are_steps_and_points_with_their_intervals_and_what_would_be_seen():
    outcomes = transfers(units=4, treatments=("AnB", "AnB+"))
    outcomes.loc[outcomes["treatment"] == "AnB+", "top1"] += 0.01 * outcomes["seed"] * (outcomes["pretrain_step"] == 0)
    lines = rendered(peaks_table(checkpoint_peaks(outcomes)), 80)
    assert lines[0] == "Does transfer rise, then decline? Points. Schedule: step, 4 seeds"
    assert lines[2].split() == ["treatment", "n", "peak", "step", "rise", "decline", "would", "see"]
    assert "Rise: peak - first checkpoint. Decline: peak - last." in "\n".join(lines)
    rows = {line.split()[0]: line.split()[1:] for line in lines if "AnB" in line}
    assert rows["AnB"] == ["2", "1000", "+9.0", "+4.0", "-"]  # all units are equal
    assert rows["AnB+"] == ["2", "1000", "+7.5", "[5.4,9.6]", "+4.0", "-"]
    one, two = (
        [
            line.split()
            for line in rendered(peaks_table(checkpoint_peaks(transfers(noise=0.1, units=units))))
            if "AnB" in line
        ]
        for units in (1, 2)
    )
    assert one == [["AnB", "2", "1000", "-", "-", "-"]]
    assert two == [["AnB", "2", "1000", "+8.9", "+3.9", "-"]]


def test_drops_are_points():
    outcomes = transfers(schedules=("constant", "step"))
    dropped = (outcomes["schedule"] == "step") & (outcomes["pretrain_step"] > 1000)
    outcomes.loc[dropped, "top1"] += 0.02 + 0.01 * (outcomes["seed"] - 1.5)
    effects = drop_effects(outcomes, pd.DataFrame({"schedule": ["step"], "step": [1500]}))
    lines = rendered(drops_table(effects), 80)
    assert lines[0] == "Drops of the learning rate, points. Schedule: step, 4 seeds"
    assert lines[2].split() == [
        "treatment",
        "n",
        "drop",
        "at",
        "step",
        "from",
        "to",
        "effect",
        "on",
        "transfer",
        "would",
        "see",
    ]
    assert ["AnB", "2", "1500", "1000", "2000", "+2.0", "[-0.1,4.1]", "2.7"] in [line.split() for line in lines]
