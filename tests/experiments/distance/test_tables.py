import math

import pandas as pd
import pytest

from raytransfer.experiments.distance.tables import (
    correlations_table,
    grid_effects_table,
    monotonicity_table,
    variance_of_dials_table,
    variance_of_distances_table,
)
from tests.helpers import rendered

NAN = math.nan


def correlations(rows, pairs=7, tasks=8, blocks=8):
    columns = ["measure", "outcome", "n_layers", "scope", "estimate", "low", "high", "p_adjusted"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(coefficient="Spearman", pairs=pairs, tasks=tasks, blocks=blocks, target_blocks=1)


def test_correlations_stand_by_measure_best_first_and_fit_80_columns():
    rows = [
        (measure, outcome, n, "within target", estimate, estimate - 0.3, 1.0, p)
        for outcome in ("AnB", "AnB+", "boost")
        for n in (2, 4, 6)
        for measure, estimate, p in (
            ("FID of pixels", 0.25, 0.3),
            ("LogME", 0.98, 0.01),
            ("proxy-A of pixels", NAN, NAN),
        )
    ]
    lines = rendered(correlations_table(correlations(rows)), width=80)
    assert lines[0] == "Spearman's ρ with frozen accuracy (AnB) within target, 7 pairs, 8 blocks"
    first, second, third = lines[4:7]
    assert first.split() == ["LogME", *["+.98*[.68,1.00]"] * 3]
    assert second.split("  ")[0].strip() == "FID of pixels"
    assert second.count("+.25 [-.05,1.00]") == 3
    assert third.split() == ["proxy-A", "of", "pixels", "-", "-", "-"]
    assert not any("boost" in line for line in lines)  # within one target it is the accuracy's order


def test_zero_has_no_minus_sign():
    rows = [("LogME", "AnB", 2, "within target", -0.001, -0.4, 0.4, 1.0)]
    assert "+.00 [-.40,.40]" in "\n".join(rendered(correlations_table(correlations(rows))))
    effect = {"outcome": "AnB", "turned": "input", "n_layers": 2, "mean": -1e-4, "low": -2e-4, "high": 0.01}
    effects = pd.DataFrame([effect | {"units": 3, "unit": "seed"}])
    assert "+0.0 [0.0,1.0]" in "\n".join(rendered(grid_effects_table(effects)))


@pytest.mark.parametrize(
    ("blocks", "said"), [(3, "3 blocks: no p below 1/6, so none can be below 0.05."), (4, "4 blocks: no p below 1/24.")]
)
def test_few_blocks_say_which_p_values_there_can_be(blocks, said):
    rows = [("LogME", "AnB", 2, "within target", 0.9, 0.4, 1.0, 1 / 6)]
    text = " ".join(rendered(correlations_table(correlations(rows, blocks=blocks)), 200))
    assert said in text
    assert "no p below" not in " ".join(rendered(correlations_table(correlations(rows, blocks=9)), 200))


def test_p_values_are_told_of_the_measures_that_have_one():
    rows = [(name, "AnB", 2, "within target", 0.5, 0.4, 0.6, 0.01) for name in ("LogME", "NTK residual", "none")]
    hidden = [("LogME", "AnB", 2, "pooled", 0.5, 0.4, 0.6, 0.01)]  # of one target this is not shown
    table = correlations(rows + hidden).assign(blocks=[10, 3, 0, 2], estimate=[0.5, 0.4, NAN, 0.5])
    text = " ".join(rendered(correlations_table(table), 200))
    assert "all measures tried. 3 blocks: no p below 1/6, so none can be below 0.05." in text
    assert text.count("no p below") == 1


def test_headings_say_of_how_few_pairs_and_blocks_a_measure_is():
    rows = [(name, "AnB", 2, "within target", 0.5, 0.4, 0.6, 0.01) for name in ("LogME", "NTK residual", "none")]
    table = correlations(rows).assign(pairs=[34, 23, 0], blocks=[10, 6, 0], estimate=[0.5, 0.4, NAN])
    assert rendered(correlations_table(table))[0].endswith("within target, 23 to 34 pairs, 6 to 10 blocks")


def test_with_several_targets_the_boost_is_pooled():
    rows = [("LogME", "boost", 2, scope, 0.5, 0.4, 0.6, 0.01) for scope in ("within target", "pooled")]
    lines = rendered(correlations_table(correlations(rows, pairs=56, tasks=8)))
    headings = [line for line in lines if line.startswith("Spearman")]
    assert headings == ["Spearman's ρ with boost (AnB+ over baseB) pooled, 56 pairs, 8 blocks"]


def test_monotonicity_tells_blind_from_still():
    columns = [
        "measure",
        "kind",
        "dial",
        "dial_kind",
        "estimate",
        "low",
        "high",
        "curves",
        "constant",
        "blind",
        "levels",
        "right_way",
    ]
    rows = [
        ("FID", "distance", "blur_px", "input", 0.9, 0.35, 1.0, 3, 0, False, 4, 3),
        ("FID", "distance", "merged", "labelling", NAN, NAN, NAN, 0, 3, True, 4, 0),
        ("tree", "distance", "blur_px", "input", NAN, NAN, NAN, 0, 3, False, 4, 0),
        ("tree", "distance", "merged", "labelling", 1.0, 1.0, 1.0, 3, 0, False, 4, 3),
        ("tree", "distance", "inverted", "input", 1.0, NAN, NAN, 3, 0, False, 2, 3),
        ("LogME", "score", "blur_px", "input", -1.0, -1.0, -1.0, 3, 0, False, 4, 3),
    ]
    table = pd.DataFrame(rows, columns=columns).assign(unit="seed")
    lines = rendered(monotonicity_table(table.assign(units=table["curves"])), width=80)
    assert any("95% interval over 3 seeds of these targets alone" in line for line in lines)  # not 0 to 3
    assert lines[0].endswith("of 3 curves (targets x seeds)")
    fid, tree = ([line.split()[1:] for line in lines if line.split()[:1] == [name]] for name in ("FID", "tree"))
    assert fid == [["+.90", "[.35,1.00]"], ["blind"]]
    assert tree == [["still", "3", "of", "3"], ["+1.00"]]  # of two levels ρ says nothing
    assert not any("LogME" in line for line in lines)


def test_shares_of_variance_are_percent_and_stay_inside_0_to_100():
    parts = ("input", "label", "interaction", "rest")
    dials = pd.DataFrame(
        [("AnB", 2, part, 0.25, -0.5, 1.5, 3, "seed") for part in parts],
        columns=["outcome", "n_layers", "part", "eta_squared", "low", "high", "units", "unit"],
    )
    lines = rendered(variance_of_dials_table(dials))
    assert "3 seeds of these targets alone" in lines[0]
    assert next(line for line in lines if line.split()[:1] == ["AnB"]).split() == ["AnB", "2", *["25", "[0,100]"] * 4]
    measures = pd.DataFrame(
        [
            ("AnB", 2, "input", 0.5, 0.1, 0.8, 34),
            ("AnB", 2, "common", -0.05, -0.2, 0.1, 34),
            ("AnB", 2, "label", NAN, NAN, NAN, 34),
        ],
        columns=["outcome", "n_layers", "part", "share", "low", "high", "pairs"],
    ).assign(blocks=4, target_blocks=3)
    lines = rendered(variance_of_distances_table(measures, of_input="MMD2", of_label="tree"))
    assert lines[0] == "R² of ranks in %: input (MMD2), label (tree), 34 pairs, 4 blocks, 3 sources of targets"
    row = next(line for line in lines if line.split()[:1] == ["AnB"]).split()
    assert row == ["AnB", "2", "50", "[10,80]", "-5", "[-20,10]", "-"]
