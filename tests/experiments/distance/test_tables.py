import math

import pandas as pd

from raytransfer.experiments.distance.tables import (
    correlations_table,
    monotonicity_table,
    variance_of_dials_table,
    variance_of_distances_table,
)
from tests.helpers import rendered

NAN = math.nan


def correlations(rows, pairs=7, tasks=8):
    columns = ["measure", "outcome", "n_layers", "scope", "estimate", "low", "high", "p_adjusted"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(coefficient="Spearman", pairs=pairs, tasks=tasks)


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
    assert lines[0] == "Spearman's ρ with frozen accuracy (AnB) within target, 7 pairs, 8 tasks"
    first, second, third = lines[4:7]
    assert first.split() == ["LogME", *["+.98*[.68,1.00]"] * 3]
    assert second.split("  ")[0].strip() == "FID of pixels"
    assert second.count("+.25 [-.05,1.00]") == 3
    assert third.split() == ["proxy-A", "of", "pixels", "-", "-", "-"]
    assert not any("boost" in line for line in lines)  # within one target it is the accuracy's order


def test_with_several_targets_the_boost_is_pooled():
    rows = [("LogME", "boost", 2, scope, 0.5, 0.4, 0.6, 0.01) for scope in ("within target", "pooled")]
    lines = rendered(correlations_table(correlations(rows, pairs=56, tasks=8)))
    headings = [line for line in lines if line.startswith("Spearman")]
    assert headings == ["Spearman's ρ with boost (AnB+ over baseB) pooled, 56 pairs, 8 tasks"]


def test_monotonicity_tells_blind_from_still():
    columns = ["measure", "kind", "dial", "dial_kind", "estimate", "low", "high", "curves", "constant", "blind"]
    rows = [
        ("FID", "distance", "blur_px", "input", 0.9, 0.35, 1.0, 3, 0, False),
        ("FID", "distance", "merged", "labelling", NAN, NAN, NAN, 0, 3, True),
        ("tree", "distance", "blur_px", "input", NAN, NAN, NAN, 0, 3, False),
        ("tree", "distance", "merged", "labelling", 1.0, 1.0, 1.0, 3, 0, False),
        ("MMD2", "distance", "blur_px", "input", 0.5, NAN, NAN, 3, 0, False),
        ("MMD2", "distance", "merged", "labelling", NAN, NAN, NAN, 3, 0, False),
        ("LogME", "score", "blur_px", "input", -1.0, -1.0, -1.0, 3, 0, False),
    ]
    lines = rendered(monotonicity_table(pd.DataFrame(rows, columns=columns)), width=80)
    assert lines[0].endswith("of 3 curves (targets x seeds)")
    fid, tree = ([line.split()[1:] for line in lines if line.split()[:1] == [name]] for name in ("FID", "tree"))
    assert fid == [["+.90", "[.35,1.00]"], ["blind"]]
    assert tree == [["still"], ["+1.00"]]
    assert [line.split()[1:] for line in lines if line.split()[:1] == ["MMD2"]] == [["+.50"], ["2", "levels"]]
    assert not any("LogME" in line for line in lines)


def test_shares_of_variance_are_percent_and_stay_inside_0_to_100():
    parts = ("input", "label", "interaction", "rest")
    dials = pd.DataFrame(
        [("AnB", 2, part, 0.25, -0.5, 1.5, 3) for part in parts],
        columns=["outcome", "n_layers", "part", "eta_squared", "low", "high", "units"],
    )
    lines = rendered(variance_of_dials_table(dials))
    assert "3 units" in lines[0]
    assert next(line for line in lines if line.split()[:1] == ["AnB"]).split() == ["AnB", "2", *["25%", "[0,100]"] * 4]
    measures = pd.DataFrame(
        [
            ("AnB", 2, "input", 0.5, 0.1, 0.8, 34),
            ("AnB", 2, "common", -0.05, -0.2, 0.1, 34),
            ("AnB", 2, "label", NAN, NAN, NAN, 34),
        ],
        columns=["outcome", "n_layers", "part", "share", "low", "high", "pairs"],
    )
    lines = rendered(variance_of_distances_table(measures, of_input="MMD2", of_label="tree"))
    assert lines[0] == "R² of ranks: input (MMD2), label (tree), 34 pairs"
    row = next(line for line in lines if line.split()[:1] == ["AnB"]).split()
    assert row == ["AnB", "2", "50%", "[10,80]", "-5%", "[-20,10]", "-"]
