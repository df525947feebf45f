import pandas as pd
import pytest

from raytransfer.analysis import boosts, readings, treatment_means, yosinski2014
from raytransfer.experiments.yosinski.tables import boosts_table, means_table, readings_table
from tests.helpers import rendered

MEANS = ["treatment", "halves", "n_layers", "mean", "low", "high", "units"]
READINGS = ["reading", "halves", "n_layers", "estimate", "low", "high", "units", "random_units", "method"]
EVERY_READING = (
    "co-adaptation drop",
    "specificity drop",
    "recovery",
    "generalisation boost",
    "distance effect",
    "value of distant features",
)


def cells(lines: list[str], n: int) -> list[str]:
    (row,) = [line for line in lines if line.split()[:1] == [str(n)]]
    return row.split()[1:]


def a_reading(name: str, low: float = -0.299, high: float = -0.101, halves: str = "pets") -> tuple:
    return (name, halves, 1, (low + high) / 2, low, high, 4, 8 if name == "distance effect" else None, "paired t")


def test_means_are_percent_with_half_the_interval_a_row_for_each_n():
    means = pd.DataFrame(
        [
            ("baseB", "random", 0, 0.6251, 0.6205, 0.6297, 8),
            ("AnB", "random", 1, 0.6282, 0.6234, 0.6329, 8),
            ("BnB", "random", 1, 0.6267, float("nan"), float("nan"), 1),
            ("baseB-reduced", "all-1000", 0, 0.5409, float("nan"), float("nan"), 1),
        ],
        columns=MEANS,
    )
    lines = rendered(means_table(means))
    assert lines[0] == "Top-1 accuracy on the target, %. Halves: random, 1 to 8 units"
    assert next(line for line in lines if "baseB" in line).split() == ["n", "baseB", "BnB", "AnB"]
    assert cells(lines, 0) == ["62.5", "±0.5"]
    assert cells(lines, 1) == ["62.7", "62.8", "±0.5"]
    assert not any("all-1000" in line for line in lines)
    assert any(line.startswith("n = 0: bases. ±") for line in lines)


def test_treatments_of_all_layers_stand_at_0_too():
    means = pd.DataFrame([("linear-probe", "random", 0, 0.6251, 0.6205, 0.6297, 8)], columns=MEANS)
    text = " ".join(rendered(means_table(means), 200))
    assert "n = 0: bases, and treatments that copy all layers below the head. ±" in text


def test_readings_are_signed_points_with_their_interval():
    table = pd.DataFrame(
        [
            ("recovery", "random", 2, 0.0124, 0.0038, 0.02, 8, None, "paired t"),
            ("recovery", "random", 3, -0.0004, float("nan"), float("nan"), 8, None, "paired t"),
            ("boost over selffer", "random", 2, -0.1, -0.14, -0.06, 8, None, "paired t"),
        ],
        columns=READINGS,
    )
    lines = rendered(readings_table(table))
    assert lines[0] == "Readings, percentage points. Halves: random, 8 units"
    assert [line.split() for line in lines if line.startswith(" 2")] == [
        ["2", "+1.2", "[0.4,2.0]"],
        ["2", "-10.0", "[-14.0,-6.0]"],
    ]
    assert cells(lines, 3) == ["+0.0"]


def test_what_the_sweep_cannot_read_has_no_column_and_a_note_says_what_it_needs():
    lines = rendered(readings_table(readings(yosinski2014())), width=2000)
    assert not any(line.split()[-1:] == ["features"] for line in lines)
    assert "value of distant features (needs AnB and RnB on a named pair of dissimilar halves)" in lines[-2]
    assert "recovery" not in lines[-2]


def test_the_distance_effect_names_both_groups():
    table = pd.DataFrame([a_reading("distance effect")], columns=READINGS)
    assert "Halves: pets, 4 units (distance effect: against 8 units of random)" in rendered(readings_table(table))[0]


@pytest.mark.parametrize(
    ("width", "low", "high", "interval"), [(120, -0.299, -0.101, "[-29.9,-10.1]"), (80, -0.099, 0.061, "[-9.9,6.1]")]
)
def test_no_number_is_cut_or_broken_on_a_console(width, low, high, interval):
    table = pd.DataFrame([a_reading(name, low, high) for name in EVERY_READING], columns=READINGS)
    lines = rendered(readings_table(table), width)
    assert max(len(line) for line in lines) <= width
    words = " ".join(lines).split()
    assert words.count(interval) == 6
    assert "…" not in " ".join(lines)


def test_all_of_2014_fits_80_columns():
    means = treatment_means(yosinski2014(), "top1_best10")
    lines = rendered(means_table(means), 80)
    assert max(len(line) for line in lines) <= 80
    row = ["7", "62.3", "±0.9", "62.7", "54.2", "±0.5", "64.6"]
    assert row in [line.split() for line in lines]


def test_names_of_halves_are_not_markup():
    table = pd.DataFrame([a_reading("recovery", halves="[bold]x/[/bold]y")], columns=READINGS)
    assert "Halves: [bold]x/[/bold]y, 4 units" in rendered(readings_table(table))[0]


def test_an_empty_table_still_says_what_is_needed():
    lines = rendered(readings_table(pd.DataFrame(columns=READINGS)))
    assert any("needs baseB and BnB" in line for line in lines)
    assert not any("interval" in line for line in lines)  # of nothing


def test_boosts_are_those_published_and_what_pairing_makes_of_them():
    lines = rendered(boosts_table(boosts(yosinski2014(), metric="top1_best10")), width=80)
    assert "boost n = 1-7 n = 3-7 n = 5-7" in [" ".join(line.split()) for line in lines]
    rows = {tuple(words[:4]): words[4:] for line in lines if len(words := line.split()) > 4 and words[1] == "over"}
    assert rows["AnB+", "over", "baseB,", "unpaired"] == ["+1.6", "+1.8", "+2.1"]
    assert rows["AnB+", "over", "BnB+,", "unpaired"] == ["+1.4", "+1.4", "+1.7"]
    assert rows["AnB+", "over", "baseB,", "paired"] == ["+1.0", "+1.2", "+1.2"]  # of two units
    assert rows["BnB+", "over", "baseB,", "paired"] == ["+1.0", "+1.1", "+1.0"]
    assert "Under 3 units, or where all are equal: no interval." in lines
