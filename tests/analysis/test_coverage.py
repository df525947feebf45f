"""Quick versions of tests/analysis/coverage.py, which prints all rates: with fewer studies, and so wider bounds."""

import pytest

from tests.analysis import coverage


@pytest.mark.parametrize(
    ("design", "most"),
    [
        ("all pairs, 3 sources of 2, 2, 4 tasks", 0),  # where no p-value can be small
        ("all pairs, 4 sources of 2 tasks", 0.12),
        ("1 target, 10 dials of 3 levels", 0.12),
    ],
)
def test_without_any_relation_hardly_a_study_has_a_star(design, most):
    assert coverage.false_stars(design, studies=40) <= most


def test_without_blocks_many_studies_of_dials_have_one(monkeypatch):
    make, sizes = coverage.DESIGNS["1 target, 10 dials of 3 levels"]

    def of_single_bases(*how):
        outcomes, measures = make(sizes)(*how)
        return outcomes.assign(base_block=outcomes["base"]), measures

    monkeypatch.setitem(coverage.DESIGNS, "bases", (lambda sizes: of_single_bases, sizes))
    assert coverage.false_stars("bases", studies=40) > 0.12


def test_means_cover_over_sources_and_over_seeds_of_one():
    for sources, seeds in (((2,) * 4, 3), ((1,), 3)):
        assert 0.92 <= coverage.mean_coverage(sources, seeds, (0.33, 0.33, 0.34), studies=1000) <= 0.98


def test_of_eight_claims_of_nothing_hardly_one_is_decided_and_a_detectable_effect_is_seen():
    assert coverage.wrong_verdicts(units=4, claims=8, studies=150) <= 0.1
    assert 0.7 <= coverage.power_at_detectable(units=6, studies=150) <= 0.9


def test_of_eight_correlations_of_nothing_hardly_one_is_decided():
    assert coverage.wrong_correlations(units=4, bases=4, claims=8, studies=400) <= 0.05


def test_intervals_and_bands_cover_over_dials():
    rates = coverage.interval_coverage("1 target, 10 dials of 3 levels", 1.0, studies=60)
    assert 0.88 <= rates["within target, Spearman"] <= 1
    assert 0.88 <= coverage.band_coverage((3,) * 10, targets=1, studies=60) <= 1


def test_intervals_of_mean_rank_correlations_cover_over_seeds_and_over_sources():
    assert 0.9 <= coverage.monotonicity_coverage(levels=4, seeds=5, studies=20)[0] <= 1
    assert 0.88 <= coverage.predictor_coverage((1, 1, 4, 2, 2), checkpoints=8, relation=1.0, studies=40) <= 1


def test_of_dials_of_unequal_numbers_of_levels_intervals_and_bands_cover():
    rates = coverage.interval_coverage("1 target, dials of 13, 5, 3, 3, 3, 2, 2, 1, 1, 1 levels", 0.0, studies=50)
    assert 0.9 <= rates["within target, Kendall"] <= 1
    assert 0.9 <= coverage.band_coverage((13, 5, 3, 3, 3, 2, 2, 1, 1, 1), targets=1, studies=50) <= 1
