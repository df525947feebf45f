"""Under three units every analysis gives estimates alone: no interval, no verdict; three units give both."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest

from raytransfer.analysis import (
    asymptotic_width,
    base_curves,
    boosts,
    checkpoint_curves,
    checkpoint_peaks,
    checkpoint_verdicts,
    comparisons,
    correlations,
    curves,
    dial_means,
    drop_effects,
    effects,
    grid_effects,
    grid_means,
    monotonicity,
    nearness,
    outcome_monotonicity,
    rank_correlations,
    readings,
    theory_means,
    treatment_means,
    variance_of_dials,
    variance_of_distances,
    verdicts,
)
from raytransfer.analysis.intervals import MIN_UNITS, clustered_t, student_t, welch_t
from raytransfer.analysis.profiles import profiles
from raytransfer.experiments.checkpoints.tables import drops_table, peaks_table
from raytransfer.experiments.distance.tables import (
    correlations_table,
    grid_effects_table,
    monotonicity_table,
    variance_of_dials_table,
    variance_of_distances_table,
)
from raytransfer.experiments.mechanisms.tables import comparisons_table, nearness_table
from raytransfer.experiments.theory.tables import theory_table
from raytransfer.experiments.verdicts import verdicts_markdown, verdicts_table
from raytransfer.experiments.words import in_points, with_interval
from raytransfer.experiments.yosinski.tables import boosts_table, means_table, readings_table
from tests.analysis.test_association import blocked
from tests.analysis.test_checkpoints import bases, transfers
from tests.analysis.test_comparisons import DISTANCES, STAGES, sweep
from tests.analysis.test_theory import simulations
from tests.analysis.test_transfer import grid
from tests.helpers import rendered

AN_INTERVAL = re.compile(r"\[ *[-−+.\d][^\]a-z]*, ?[-−+.\d][^\]a-z]*\]|±\d")
NO_VERDICT = {"too few units"}
few = pytest.mark.parametrize("units", [1, 2])


@pytest.mark.parametrize(
    ("form", "low", "written"),
    [(".3g", 1, "1.23 [1, 2.35]"), ("+z.1f", -0.04, "+1.2 [0.0, 2.3]"), (lambda x: f"{x:+.0f}", 1, "+1 [1, 2]")],
)
def test_a_plus_is_the_estimate_s_alone(form, low, written):
    assert with_interval(1.234, low, 2.345, form) == written


def test_without_an_interval_a_number_stands_alone_and_without_a_number_a_dash():
    assert in_points(0.0123, math.nan, math.nan) == "+1.2"
    assert in_points(0.0123, -0.01, 0.0346) == "+1.2 [-1.0, 3.5]"
    assert in_points(math.nan, math.nan, math.nan) == "-"


def of_the_grid(units: int) -> tuple[list[pd.DataFrame], list]:
    """The grid of 2014: so many units of random halves and of a named pair."""
    splits = ["animals/vehicles", *(f"random{i}" for i in range(units))]
    results = grid(seeds=units).query(f"direction == 'A->B' and split in {splits}")
    means, differences, gains = treatment_means(results), readings(results), boosts(results, [(1, 3), (2, 3)])
    assert set(differences["units"]) == set(means["units"]) == set(gains["units"]) == {units}
    tables = [means_table(means), readings_table(differences), boosts_table(gains)]
    return [means, differences, gains[gains["method"] != "unpaired"]], tables  # unpaired ones never have an interval


def of_distance(units: int) -> tuple[list[pd.DataFrame], list]:
    """Transfer against distance: so many seeds of one target; what is over tasks, of two targets, or of three."""
    rng = np.random.default_rng(0)
    levels = list(itertools.product((0, 1, 2, 3), (0, 1)))
    on_grid = pd.DataFrame([("T", f"{i} {j}", i, j) for i, j in levels])
    on_grid.columns = ["target", "base", "input_level", "label_level"]
    dials = on_grid.query("label_level == 0").rename(columns={"input_level": "level"}).assign(dial="blur", kind="input")
    rows = [("T", base, 2, seed, *rng.random(2)) for base in on_grid["base"] for seed in range(units)]
    columns = ["target", "base", "n_layers", "seed", "AnB", "AnB+"]
    outcomes = blocked(pd.DataFrame(rows, columns=columns))
    turned, variance = grid_effects(outcomes, on_grid), variance_of_dials(outcomes, on_grid)
    measured = outcomes.rename(columns={"AnB": "value"}).assign(measure="far", kind="distance")
    moves = monotonicity(measured, dials)
    targets = ["T", "U"] if units < MIN_UNITS else ["T", "U", "V"]  # one target alone would have its bases as units
    pairs = [(target, f"base{i}") for target in targets for i in range(6)]
    tasks = blocked(pd.DataFrame([(*pair, 2, 0, *rng.random(2)) for pair in pairs], columns=columns))
    measures = pd.DataFrame(
        [(name, "distance", *pair, None, None, rng.random()) for name in ("pixels", "labels") for pair in pairs],
        columns=["measure", "kind", "target", "base", "n_layers", "seed", "value"],
    )
    predicted = correlations(tasks, measures)
    explained = variance_of_distances(tasks, measures, input_measure="pixels", label_measure="labels")
    found = [
        dial_means(outcomes, dials),
        grid_means(outcomes, on_grid),
        turned,
        variance,
        moves[moves["estimate"].notna()],
        outcome_monotonicity(outcomes, dials),
        predicted,
        curves(tasks, measures, "pixels"),
        explained,
    ]
    tables = [
        grid_effects_table(turned),
        variance_of_dials_table(variance),
        monotonicity_table(moves.assign(blind=False)),
        correlations_table(predicted),
        variance_of_distances_table(explained, of_input="pixels", of_label="labels"),
    ]
    return found, tables


def of_checkpoints(units: int) -> tuple[list[pd.DataFrame], list]:
    """Transfer along pretraining: so many pairs of target and base."""
    outcomes = transfers(curve=(0, 2, 3, 3, 3, 3), noise=3, units=units, schedules=("constant", "step"), seed=1)
    peaks = checkpoint_peaks(outcomes)
    dropped = drop_effects(outcomes, pd.DataFrame({"schedule": ["step"], "step": [500]}))
    judged = checkpoint_verdicts(outcomes)
    found = [checkpoint_curves(outcomes), base_curves(bases(units=units)), peaks, dropped, judged]
    assert {units} == {count for table in found for count in table["units"]}
    tables = [peaks_table(peaks), drops_table(dropped), verdicts_table(judged), verdicts_markdown(judged)]
    return found, tables


def of_why(units: int) -> tuple[list[pd.DataFrame], list]:
    """Fine-tuned against scratch: so many seeds of one target."""
    observed = sweep(targets=("A",), seeds=units)
    swapped = DISTANCES.assign(seed=1, base=DISTANCES["base"].replace({"near": "middle", "middle": "near"}))
    distances = pd.concat([DISTANCES[DISTANCES["seed"] != 1], swapped.drop_duplicates(["target", "base"])])
    paired, rhos = effects(observed, STAGES), rank_correlations(observed, distances)
    compared, near, judged = comparisons(paired), nearness(rhos), verdicts(paired, rhos)
    assert set(compared["units"]) == {units}
    tables = [comparisons_table(compared), nearness_table(near), verdicts_table(judged), verdicts_markdown(judged)]
    return [compared, near, judged, profiles(observed, "train loss")], tables


def of_theory(units: int) -> tuple[list[pd.DataFrame], list]:
    """Wide networks against their theory: so many seeds."""
    rows = simulations(seeds=units, bases=("blur2", "flip"))
    means, widths = theory_means(rows), asymptotic_width(rows)
    assert set(means["seeds"]) == {units}
    return [means, widths], [theory_table(means, widths)]


EXPERIMENTS = [of_the_grid, of_distance, of_checkpoints, of_why, of_theory]
every_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.__name__)


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that hold ends of intervals."""
    return table[[name for name in table if re.search(r"(^|_)(low|high)$", name)]].astype(float)


def words(tables: list) -> str:
    """What the tables print, but for the notes that say what brackets mean."""
    return "\n".join(table if isinstance(table, str) else "\n".join(rendered(table, 200)) for table in tables)


@few
@every_experiment
def test_no_analysis_gives_an_interval_and_no_table_prints_one(experiment, units):
    found, tables = experiment(units)
    for table in found:
        assert len(table)
        assert ends(table).isna().all(axis=None)
    printed = words(tables)
    assert re.search(r"\d\.\d", printed)  # the estimates are there
    assert AN_INTERVAL.findall(printed) == []


@every_experiment
def test_three_units_give_intervals_and_tables_print_them(experiment):
    found, tables = experiment(MIN_UNITS)
    for table in found:
        assert ends(table).shape[1] == 0 or ends(table).notna().any(axis=None)
    assert all(AN_INTERVAL.search(words([table])) for table in tables if "Verdicts" not in words([table]))


@few
def test_no_claim_is_judged(units):
    for experiment in (of_checkpoints, of_why):
        found, tables = experiment(units)
        judged = [table for table in found if "verdict" in table]
        assert judged
        assert {verdict for table in judged for verdict in table["verdict"]} == NO_VERDICT
        assert "too few units" in words(tables)
    (means, widths), (table,) = of_theory(units)
    assert means["exceeds"].isna().all()
    assert widths["asymptotic_width"].isna().all()
    assert words([table]).count("too few units") == 2


def test_three_units_are_judged():
    compared, near, judged, _ = of_why(MIN_UNITS)[0]
    assert NO_VERDICT.isdisjoint(judged["verdict"])
    assert (judged["verdict"] == "supported").any()
    assert all(table["detectable"].notna().any() for table in (compared, near, judged))
    assert NO_VERDICT.isdisjoint(of_checkpoints(MIN_UNITS)[0][4]["verdict"])
    (means, widths), (table,) = of_theory(MIN_UNITS)
    assert means["exceeds"].any()
    assert widths["asymptotic_width"].notna().all()
    assert "too few units" not in words([table])


def test_three_draws_cover_the_mean_as_often_as_they_say_and_two_say_nothing():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        sample = rng.normal(size=MIN_UNITS)
        interval = student_t(sample)
        covered += interval.low <= 0 <= interval.high
        fewer = [
            student_t(sample[:2]),
            welch_t(sample[:2], rng.normal(size=9)),
            clustered_t(rng.normal(size=6), np.array([0, 0, 0, 1, 1, 1])),
        ]
        assert all(math.isfinite(two.estimate) and math.isnan(two.low) and math.isnan(two.high) for two in fewer)
    assert 930 <= covered <= 970
