import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from scipy import stats

from raytransfer.analysis.theory import asymptotic_width, theory_means
from raytransfer.experiments.theory.figures import theory_figure
from raytransfer.experiments.theory.tables import theory_table
from tests.helpers import legend, marks, overlaps, rendered, titles

WIDTHS = (100, 1000, 10000)
BASES = {"same": ("none", None, math.nan), "blur2": ("input", "blur", 2.0), "flip": ("label", "flipped", 0.25)}


def simulations(ratios=(1.3, 1.05, 1.01), spread=0.01, seeds=4, bases=tuple(BASES), targets=("digits",)):
    """Simulations whose distance / bound has these means at the widths; base ``same`` solves the target already."""
    rng = np.random.default_rng(0)
    rows = []
    for (width, ratio), target, base, seed in itertools.product(
        zip(WIDTHS, ratios, strict=True), targets, bases, range(seeds)
    ):
        kind, dial, level = BASES[base]
        bound = 1e-9 if base == "same" else 3.0 + seed
        gradient = bound / 3
        rows.append(
            {"width": width, "target": target, "base": base, "seed": seed, "kind": kind, "dial": dial, "level": level}
            | {"distance": bound * (ratio + spread * rng.normal()), "bound": bound, "bound_from_scratch": 8.0}
            | {"gradient": gradient * (1 + spread * rng.normal()), "gradient_predicted": gradient}
            | {"gradient_from_scratch_predicted": 4.0, "converged": True}
        )
    return pd.DataFrame(rows)


def at(means, base, width):
    (row,) = means[(means["base"] == base) & (means["width"] == width)].to_dict("records")
    return row


def test_ratios_are_means_over_seeds_with_the_t_interval():
    rows = simulations()
    row = at(theory_means(rows), "flip", 1000)
    of_cell = rows[(rows["base"] == "flip") & (rows["width"] == 1000)]
    for name, values in (
        ("ratio", [a / b for a, b in zip(of_cell["distance"], of_cell["bound"], strict=True)]),
        ("gradient_ratio", [a / b for a, b in zip(of_cell["gradient"], of_cell["gradient_predicted"], strict=True)]),
        ("distance", list(of_cell["distance"])),
        ("bound", list(of_cell["bound"])),
    ):
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert row[name] == pytest.approx(sum(values) / 4)
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((expected.low, expected.high))
    assert (row["kind"], row["dial"], row["level"], row["seeds"], row["unconverged"]) == (
        "label",
        "flipped",
        0.25,
        4,
        0,
    )


def test_there_is_no_ratio_where_there_is_nothing_to_move():
    rows = simulations()
    same = at(theory_means(rows), "same", 1000)
    assert math.isnan(same["ratio"])
    assert math.isnan(same["gradient_ratio"])
    assert same["distance"] == pytest.approx(1.05e-9, rel=0.05)
    one_too_near = (rows["base"] == "flip") & (rows["width"] == 1000) & (rows["seed"] == 0)
    rows.loc[one_too_near, ["distance", "bound"]] = [0.5, 0.0799]  # 1% from scratch is 0.08
    assert at(theory_means(rows), "flip", 1000)["ratio"] == pytest.approx(1.05, abs=0.02)
    rows.loc[one_too_near, "bound"] = 0.0801
    assert at(theory_means(rows), "flip", 1000)["ratio"] > 2


def test_a_ratio_is_of_the_seeds_that_have_somewhere_to_move():
    rows = simulations(seeds=5, bases=("flip",))
    rows.loc[rows["seed"] > 1, ["distance", "bound"]] = 0.01
    rows.loc[rows["seed"] > 2, "gradient_predicted"] = 0
    means = theory_means(rows)
    told, _ = marks(theory_figure(means, title="t"))
    assert {text.rpartition(", ")[2] for text in told if "gradient" in text} == {"3 seeds"}
    assert (set(means["seeds"]), set(means["ratio_seeds"])) == ({5}, {2})
    table = "\n".join(rendered(theory_table(means, asymptotic_width(rows)), 100))
    assert "at each width, 2 seeds" in table
    assert "too few units" in table


def test_what_did_not_converge_is_counted_and_left_out():
    rows = simulations()
    stopped = (rows["base"] == "flip") & (rows["width"] == 1000) & (rows["seed"] < 2)
    rows.loc[stopped, "converged"] = False
    rows.loc[stopped, "distance"] = 0.1
    row = at(theory_means(rows), "flip", 1000)
    assert (row["seeds"], row["unconverged"]) == (2, 2)
    assert row["ratio"] == pytest.approx(1.05, abs=0.03)
    rows["converged"] &= rows["base"] != "flip"
    means = theory_means(rows)
    none = at(means, "flip", 1000)
    assert (none["seeds"], none["unconverged"]) == (0, 4)
    assert math.isnan(none["distance"])
    (line,) = [line for line in rendered(theory_table(means, asymptotic_width(rows)), 100) if "flip" in line]
    assert line.split() == ["label:", "flip", *("-" for _ in range(5))]


@pytest.mark.parametrize(
    ("ratios", "spread", "width"),
    [
        ((1.3, 1.05, 1.01), 0.01, 1000),
        ((1.0, 1.3, 1.01), 0.01, 10000),
        ((0.95, 1.05, 1.01), 0.01, 100),
        ((1.0, 1.0, 1.2), 0.01, None),
        ((1.0, 0.7, 0.85), 0.01, None),
        ((1.0, 1.0, 1.0), 0.3, None),
    ],
)
def test_the_asymptotic_width_is_the_first_from_which_on_all_intervals_lie_near_one(ratios, spread, width):
    rows = simulations(ratios, spread)
    (row,) = asymptotic_width(rows.query("base == 'flip'")).to_dict("records")
    assert (None if pd.isna(row["asymptotic_width"]) else row["asymptotic_width"]) == width
    assert row["widest"] == 10000
    assert row["ratio"] == pytest.approx(at(theory_means(rows), "flip", 10000)["ratio"])


def test_one_seed_or_no_ratio_has_no_asymptotic_width():
    assert asymptotic_width(simulations(seeds=1))["asymptotic_width"].isna().all()
    assert asymptotic_width(simulations()).set_index("base")["asymptotic_width"].isna().to_dict() == {
        "same": True,
        "blur2": False,
        "flip": False,
    }


def test_where_the_bound_is_exceeded_and_by_how_much_is_said():
    (row,) = asymptotic_width(simulations((1.3, 1.05, 0.99), bases=("flip",))).to_dict("records")
    assert row["exceeds_up_to"] == 1000
    assert row["largest_excess"] == pytest.approx(0.3, abs=0.02)
    (below,) = asymptotic_width(simulations((0.9, 0.95, 0.99), bases=("flip",))).to_dict("records")
    assert pd.isna(below["exceeds_up_to"])
    assert math.isnan(below["largest_excess"])
    assert list(theory_means(simulations((1.3, 0.9, 1.0), bases=("flip",)))["exceeds"]) == [True, False, False]


@settings(max_examples=4, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(random):
    rows = simulations(seeds=2)
    order = list(range(len(rows)))
    random.shuffle(order)
    pd.testing.assert_frame_equal(theory_means(rows), theory_means(rows.iloc[order]), check_exact=True)
    pd.testing.assert_frame_equal(asymptotic_width(rows), asymptotic_width(rows.iloc[order]), check_exact=True)


def test_a_missing_column_and_a_repeated_row_are_named():
    rows = simulations()
    with pytest.raises(ValueError, match="rows lack the column bound, converged"):
        theory_means(rows.drop(columns=["bound", "converged"]))
    with pytest.raises(ValueError, match="more than one row is of width 100, target digits, base same, seed 0"):
        asymptotic_width(pd.concat([rows, rows.iloc[[0]]]))


def test_the_figure_shows_distances_against_bounds_and_ratios_against_width():
    means = theory_means(simulations())
    figure = theory_figure(means, title="two-layer networks on digits")
    assert titles(figure) == ["distance moved", "distance / bound", "gradient / its prediction"]
    assert overlaps(figure) == []
    left, ratio, gradient = figure.axes
    diagonal, *widths = left.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    for line, width in zip(widths, WIDTHS, strict=True):
        rows = means[means["width"] == width]
        np.testing.assert_allclose(line.get_xdata(), rows["bound"])
        np.testing.assert_allclose(line.get_ydata(), rows["distance"])
    for axes, name in ((ratio, "ratio"), (gradient, "gradient_ratio")):
        drawn = [line for line in axes.lines if len(line.get_xdata()) == 3]
        for line, base in zip(drawn, ("blur2", "flip"), strict=True):
            np.testing.assert_allclose(line.get_ydata(), [at(means, base, width)[name] for width in WIDTHS])
            np.testing.assert_allclose(line.get_xdata(), WIDTHS, rtol=0.02)
            for line, whiskers in zip(drawn, axes.collections, strict=True):  # in the same place and colour
                places = [segment[0, 0] for segment in whiskers.get_segments()]
                np.testing.assert_allclose(places, line.get_xdata())
                assert to_hex(whiskers.get_color()[0]) == to_hex(line.get_color())
            for whiskers, base in zip(axes.collections, ("blur2", "flip"), strict=True):
                ends = [[at(means, base, width)[f"{name}_{end}"] for end in ("low", "high")] for width in WIDTHS]
                np.testing.assert_allclose([segment[:, 1] for segment in whiskers.get_segments()], ends)
            (near,) = axes.patches
            assert (near.get_y(), near.get_y() + near.get_height()) == pytest.approx((0.9, 1.1))
            assert (axes.get_xlabel(), axes.get_xscale(), axes.get_xticks().tolist()) == ("width", "log", list(WIDTHS))
            low, high = axes.get_ylim()
            assert low < 0.9 < means[name].max() < high < 2
    assert (left.get_xlabel(), left.get_ylabel()) == ("bound, √(rᵀ H⁻¹ r)", "distance, ‖W(Q) − W(P)‖")
    assert (
        left.get_xlim()
        == left.get_ylim()
        == pytest.approx((0, 1.08 * max(means["bound"].max(), means["distance"].max())))
    )
    words = [*(f"width {width:,}" for width in WIDTHS), "blur2: input differs", "flip: label differs"]
    assert legend(figure) == [*words, "whiskers:\n95% intervals\nover seeds"]
    drawn = [*widths, *(line for line in ratio.lines if len(line.get_xdata()) == 3)]
    looks = [(line.get_marker(), to_hex(line.get_color()), line.get_linestyle()) for line in drawn]
    entries = figure.legends[0].legend_handles[:5]
    assert looks == [(entry.get_marker(), to_hex(entry.get_color()), entry.get_linestyle()) for entry in entries]
    assert len(set(looks)) == 5


@pytest.mark.parametrize("ratios", [(1.3, 1.05, 1.01), (0.5, 0.95, 0.99), (1.3, 0.95, 0.5)])
def test_the_scales_are_those_of_the_means_and_of_the_band_near_one(ratios):
    means = theory_means(simulations(ratios))
    ends = {
        f"{name}_{end}": value for name in ("ratio", "gradient_ratio") for end, value in (("low", -5.0), ("high", 9.0))
    }
    left, *right = theory_figure(means.assign(**ends), title="t").axes  # as of few seeds: cut off
    for axes, name in zip(right, ("ratio", "gradient_ratio"), strict=True):
        least, most = min(means[name].min(), 0.9), max(means[name].max(), 1.1)
        assert axes.get_ylim() == pytest.approx((least - 0.25 * (most - least), most + 0.25 * (most - least)))
        assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "1,000", "10,000"]
        assert [line.get_ydata() for line in axes.lines if line.get_color() == "#999999"] == [[1, 1]]
    assert left.get_xlim()[1] == pytest.approx(1.08 * max(means["bound"].max(), means["distance"].max()))


def test_simulations_tell_width_and_means_with_their_intervals_and_seeds():
    means = theory_means(simulations())
    told, series = marks(theory_figure(means, title="t"))
    row = at(means, "flip", 1000)

    def interval(name):
        return f"{row[name]:.3g} [{row[f'{name}_low']:.3g}, {row[f'{name}_high']:.3g}]"

    seeds = f"{row['seeds']} seeds"
    assert f"flip to digits, width 1,000: distance {interval('distance')}, bound {interval('bound')}, {seeds}" in told
    assert f"flip to digits, width 1,000: distance / bound {interval('ratio')}, {seeds}" in told
    assert f"flip to digits, width 1,000: gradient / its prediction {interval('gradient_ratio')}, {seeds}" in told
    assert len(told) == len(means) + 2 * len(means.dropna(subset=["ratio"]))
    widths = [f"width {width:,}" for width in WIDTHS]
    assert series == [*widths, "blur2: input differs", "flip: label differs"]


def test_a_base_that_no_dial_made_stands_in_the_legend_by_its_name_alone():
    rows = simulations(bases=("flip",)).assign(base="other classes", kind="none", dial="", level=float("nan"))
    assert legend(theory_figure(theory_means(rows), title="t"))[3:4] == ["other classes"]


def test_a_single_width_of_one_seed_can_be_drawn():
    rows = simulations(seeds=1).query("width == 100")
    said = ["width 100", "blur2: input differs", "flip: label differs"]
    assert legend(theory_figure(theory_means(rows), title="t")) == said
    same = theory_figure(theory_means(rows.query("base == 'same'")), title="t")
    assert legend(same) == ["width 100"]
    alone = theory_figure(theory_means(simulations(bases=("flip",)).query("width == 100")), title="t")
    assert all(axes.get_xlim()[0] < 99 < 101 < axes.get_xlim()[1] for axes in alone.axes[1:])
    with pytest.raises(ValueError, match="nothing to draw: no simulation has converged"):
        theory_figure(theory_means(rows.assign(converged=False)), title="t")


def test_the_table_has_a_row_a_base_and_a_column_a_width():
    rows = simulations()
    lines = rendered(theory_table(theory_means(rows), asymptotic_width(rows)), 100)
    assert lines[0] == "Distance moved / bound at each width, 4 seeds"
    assert next(line for line in lines if "holds" in line).split() == [
        *("base", "bound", "100", "1,000", "10,000", "holds", "from"),
    ]
    flip = at(theory_means(rows), "flip", 100)
    half = f"±{flip['ratio_high'] - flip['ratio']:.2f}"
    (row,) = [line.split() for line in lines if "flip" in line]
    assert row[:5] == ["label:", "flip", "4.50", f"{flip['ratio']:.2f}*", half]
    assert row[-1] == "1,000"
    (same,) = [line.split() for line in lines if line.strip().startswith("same")]
    assert same == ["same", "0.00", "-", "-", "-", "-"]


def test_the_table_names_a_base_by_the_setting_of_its_dial_and_not_by_its_level():
    rows = simulations(bases=("flip",)).assign(base="digits shuffle_px=4", kind="input", dial="shuffle_px", level=1.0)
    lines = rendered(theory_table(theory_means(rows), asymptotic_width(rows)), 100)
    assert any(line.strip().startswith("input: shuffle_px=4 ") for line in lines)


def test_several_targets_are_named_and_what_was_left_out_is_said():
    rows = simulations(targets=("digits", "letters"))
    rows.loc[rows["seed"] == 3, "converged"] = rows["width"] > 100
    lines = rendered(theory_table(theory_means(rows), asymptotic_width(rows)), 80)
    assert max(len(line) for line in lines) <= 80
    assert lines[0].endswith("3 to 4 seeds")
    assert sum("letters:" in line for line in lines) == 3
    assert "Left out, because training did not converge: 6 simulations." in lines
