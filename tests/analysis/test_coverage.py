"""Quick versions of tests/analysis/coverage.py, which prints all rates: with fewer studies, and so wider bounds."""

import pytest

from tests.analysis import coverage


@pytest.mark.parametrize(
    ("design", "most"),
    [
        ("all pairs, 3 sources of 2, 2, 4 tasks", 0),  # where no p-value can be small
        ("all pairs, 4 sources of 2 tasks", 3),
        ("1 target, 10 dials of 3 levels", 3),
    ],
)
def test_without_any_relation_hardly_a_study_has_a_star(design, most, monkeypatch):
    assert 25 * coverage.false_stars(design, studies=25) <= most


def test_without_blocks_most_studies_of_dials_have_one(monkeypatch):
    make, sizes = coverage.DESIGNS["1 target, 10 dials of 3 levels"]

    def of_single_bases(rng, relation):
        outcomes, measures = make(sizes)(rng, relation)
        return outcomes.assign(base_block=outcomes["base"]), measures

    monkeypatch.setitem(coverage.DESIGNS, "bases", (lambda sizes: of_single_bases, sizes))
    assert coverage.false_stars("bases", studies=25) > 0.3


def test_means_cover_over_sources_and_over_seeds_of_one():
    for sources, seeds in (((2,) * 4, 3), ((1,), 3)):
        assert 0.9 <= coverage.mean_coverage(sources, seeds, (0.33, 0.33, 0.34), studies=200) <= 0.99


def test_of_eight_claims_of_nothing_hardly_one_is_decided_and_a_detectable_effect_is_seen():
    assert coverage.wrong_verdicts(units=4, claims=8, studies=200) <= 0.09
    assert 0.72 <= coverage.power_at_detectable(units=6, studies=200) <= 0.88


def test_bands_cover_over_dials():
    assert 0.9 <= coverage.band_coverage((3,) * 10, targets=1, studies=60) <= 0.99
