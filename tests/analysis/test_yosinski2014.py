import numpy as np
import pandas as pd
import pytest

from raytransfer.analysis import boost, readings, treatment_means, yosinski2014

MEANS = {
    "BnB": [62.67, 62.35, 62.11, 60.48, 59.35, 61.88, 62.32],
    "AnB": [62.82, 62.39, 61.89, 59.98, 57.80, 58.06, 54.25],
    "BnB+": [61.77, 62.15, 63.13, 62.87, 63.01, 62.76, 62.66],
    "AnB+": [63.73, 63.58, 64.26, 63.98, 64.46, 64.60, 64.65],
}
SPANS = [(1, 7), (3, 7), (5, 7)]


def percent(means: pd.DataFrame, treatment: str, halves: str) -> np.ndarray:
    """Means in percent in order of n, which the rows must cover."""
    rows = means[(means["treatment"] == treatment) & (means["halves"] == halves)]
    assert list(rows["n_layers"]) == ([0] if treatment == "baseB" else list(range(1, 8)))
    return 100 * rows["mean"].to_numpy()


@pytest.fixture(scope="module")
def means() -> pd.DataFrame:
    return treatment_means(yosinski2014(), "top1_best10")


def test_the_table_holds_148_networks_each_in_its_place():
    networks = yosinski2014().set_index("id")
    assert len(networks) == 148
    assert networks.index.is_unique
    runs = networks.groupby(["halves", "treatment"]).size()
    assert runs["random"].to_dict() == {"baseB": 8, "BnB": 28, "BnB+": 10, "AnB": 56, "AnB+": 10}
    assert runs["natural/man-made"].to_dict() == {"baseB": 2, "AnB": 14}
    assert runs["all"].to_dict() == {"baseB": 1, "RnB": 7}
    place = ["treatment", "split", "direction", "n_layers"]
    assert networks.loc["half2A", place].to_list() == ["baseB", "random2", "B->A", 0]
    assert networks.loc["transfer1A1B_1_3", place].to_list() == ["AnB", "random1", "A->B", 3]
    assert networks.loc["transfer0A0A_1_5", place].to_list() == ["BnB", "random0", "B->A", 5]
    assert networks.loc["transfernatmanAB_1_7", "target_task"] == "man-made"
    assert networks.loc["transfer0A0A_1_5", ["top1", "top1_best10"]].to_list() == [0.58724, 0.587631]


def test_a_frozen_run_is_one_without_a_plus_and_bases_are_neither():
    networks = yosinski2014()
    transfers = networks[networks["n_layers"] > 0]
    assert (transfers["frozen"] == ~transfers["treatment"].str.endswith("+")).all()
    assert networks.loc[networks["n_layers"] == 0, "frozen"].isna().all()


def test_the_base_is_62_5(means):
    assert percent(means, "baseB", "random").round(1) == [62.5]


@pytest.mark.parametrize("treatment", MEANS)
def test_the_means_of_figure_2(means, treatment):
    np.testing.assert_allclose(percent(means, treatment, "random"), MEANS[treatment], atol=0.0051)


@pytest.mark.parametrize(
    ("halves", "expected"),
    [
        ("natural/man-made", [0.29, -0.93, -3.24, -7.33, -12.95, -16.57, -25.01]),
        ("random", [0.31, -0.12, -0.62, -2.53, -4.71, -4.45, -8.26]),
    ],
)
def test_frozen_transfer_relative_to_the_base(means, halves, expected):
    drop = percent(means, "AnB", halves) - percent(means, "baseB", halves)
    np.testing.assert_allclose(drop, expected, atol=0.0051)


def test_random_frozen_filters_on_all_classes(means):
    assert percent(means, "baseB", "all").round(1) == [57.6]
    np.testing.assert_allclose(percent(means, "RnB", "all"), [49.17, 40.26, 0.11, 1.91, 4.99, 1.45, 1.46], atol=0.0051)


def test_bases_on_fewer_images_enter_no_mean_but_their_own(means):
    reduced = means[means["treatment"] == "baseB-reduced"].set_index("halves")
    assert len(reduced) == 12
    assert (reduced["units"] == 1).all()
    expected = {"all-1300": 55.2, "all-1000": 54.1, "all-0750": 51.5, "all-0500": 47.6, "all-0250": 38.4}
    for halves, value in expected.items():
        assert 100 * reduced.loc[halves, "mean"] == pytest.approx(value, abs=0.0501)
    assert means.query("treatment == 'baseB'")[["units", "runs"]].to_numpy().tolist() == [[4, 8], [1, 1], [1, 2]]


@pytest.mark.parametrize(
    ("of", "over", "paired", "expected"),
    [
        ("AnB+", "baseB", False, [1.598, 1.804, 2.061]),
        ("AnB+", "BnB+", False, [1.383, 1.397, 1.729]),
        ("AnB+", "baseB", True, [0.973, 1.166, 1.163]),
        ("BnB+", "baseB", True, [0.973, 1.104, 1.009]),
    ],
)
def test_the_boosts_as_published_and_paired(of, over, paired, expected):
    gains = [
        boost(yosinski2014(), of=of, over=over, first=first, last=last, paired=paired, metric="top1_best10")
        for first, last in SPANS
    ]
    assert [round(100 * gain.estimate, 3) for gain in gains] == expected
    assert [gain.runs for gain in gains] == ([10, 7, 3] if of == "AnB+" else [10, 8, 5])
    assert {gain.units for gain in gains} <= {1, 2}
    assert np.isnan([end for gain in gains for end in (gain.low, gain.high)]).all()


def test_no_unit_of_2014_ran_both_transfer_and_selffer_fine_tuned():
    gain = boost(yosinski2014(), of="AnB+", over="BnB+", first=1, last=7, paired=True)
    assert (gain.runs, gain.units) == (0, 0)
    assert np.isnan(gain.estimate)


def test_the_readings_of_2014_and_those_it_cannot_give():
    table = readings(yosinski2014(), "top1_best10")
    assert set(table["reading"]) == {
        "co-adaptation drop",
        "specificity drop",
        "recovery",
        "generalisation boost",
        "distance effect",
    }
    at = table.set_index(["reading", "n_layers"])
    assert 100 * at.loc[("distance effect", 7), "estimate"] == pytest.approx(25.0 - 8.3, abs=0.1)
    assert at.loc[("distance effect", 7), ["halves", "units", "random_units"]].to_list() == ["natural/man-made", 1, 4]
    assert table.loc[table["units"] < 3, ["low", "high"]].isna().all(axis=None)
    assert set(table.loc[table["low"].isna(), "reading"]) == {"recovery", "generalisation boost", "distance effect"}
    # Co-adaptation is strongest at n = 5 and over at n = 7, where only specificity is left.
    drops = at.loc["co-adaptation drop"]
    assert drops["estimate"].idxmax() == 5
    assert drops.loc[5, "low"] > 0.02
    assert drops.loc[7, "low"] < 0 < drops.loc[7, "high"]
    assert at.loc[("specificity drop", 7), "low"] > 0.08
