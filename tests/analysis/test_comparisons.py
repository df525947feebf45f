import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raytransfer.analysis.comparisons import TESTS, effects
from raytransfer.analysis.comparisons import comparisons as averaged
from raytransfer.analysis.intervals import detectable, p_value, student_t, within_one
from raytransfer.analysis.profiles import profiles
from raytransfer.analysis.verdicts import NEARER, PRIMARY, Claim, judged, rank_correlations, verdicts
from raytransfer.analysis.verdicts import nearness as mean_rhos

STAGES = ["conv1", "conv2", "conv3", "fc4", "fc5"]
BASES = {"near": 0.3, "middle": 0.6, "far": 0.9}  # and how far each is, 0..1
STEPS = (0, 1, 10, 100, 1000)
COLUMNS = [
    *("treatment", "target", "base", "n_layers", "seed", "step", "probe", "against"),
    *("quantity", "stage", "index", "x", "y", "value"),
]


def row(network, step, probe, quantity, value, *, stage=None, index=pd.NA, x=math.nan, y=math.nan, against=None):
    return (*network, step, probe, against, quantity, stage, index, x, y, value)


def frame(rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["target_block"] = table["target"]  # every target is a source of its own
    return table.astype({"n_layers": "Int64", "index": "Int64", "x": float, "y": float, "value": float})


def comparisons(readings, stages):
    return averaged(effects(readings, stages))


def nearness(readings, distances):
    return mean_rhos(rank_correlations(readings, distances))


def of_network(network, far: float, rng: np.random.Generator, stages, points: int):
    """All readings of one made-up network; ``far`` is 1 from scratch and less after fine-tuning from a near base."""

    def noisy(value):
        return value * math.exp(0.1 * rng.normal())

    for step in STEPS:
        progress = math.log10(1 + step) / 3
        loss = 2.3 * math.exp(-progress * (8 - 3 * far)) if step else 2.3
        accuracy = 0.1 + 0.9 * progress
        for quantity, value in (
            ("train loss", noisy(loss)),
            ("test loss", noisy(loss + 0.5 * far * progress)),
            ("train top1", accuracy),
            ("test top1", accuracy - 0.2 * far * progress * noisy(1)),
        ):
            yield row(network, step, "generalisation", quantity, value)
        if step:
            relative = noisy(far * progress)
            yield row(network, step, "deviation", "relative deviation", relative)
            yield row(network, step, "deviation", "deviation", 20 * relative)
            for quantity, value in (("trace", 300 * far), ("filter-normalised trace", 8 * far)):
                yield row(network, step, "flatness", quantity, noisy(value * math.exp(-2 * progress)))
            for k in (1, 2, 3):
                yield row(
                    network, step, "flatness", "eigenvalue", noisy(50 * far * math.exp(-2 * progress) / k), index=k
                )
        yield row(network, step, "loss-variation", "loss variation", noisy(0.5 * far))
        yield row(network, step, "loss-variation", "gradient variation", noisy(20 * far))
        for i, stage in enumerate(stages):
            scale = 0.05 * math.exp((0.3 if network[2] is None else 0.1) * (i - len(stages)))
            yield row(network, step, "gradient-scale", "input gradient", noisy(scale), stage=stage)
            for k in range(1, 4):
                value = noisy(0.1 * far / k) if network[2] is None or k > 1 else noisy(0.02)
                yield row(network, step, "gradient-components", "relative projection", value, stage=stage, index=k)
            if step == STEPS[-1]:
                for against in ("base", "scratch", "twin")[0 if network[2] else 2 :]:
                    value = max(1 - 0.1 * i * noisy(far), 0.05)
                    yield row(network, step, "CKA", "CKA", value, stage=stage, against=against)
    for i, start in enumerate(("one start", "two starts")):
        barrier = (2 + i) * far**2
        yield row(network, STEPS[-1], "path", f"barrier from {start}", noisy(barrier), against="twin")
        for alpha in np.linspace(0, 1, 11):
            value = 0.01 + 4 * noisy(barrier) * alpha * (1 - alpha)
            yield row(network, STEPS[-1], "path", f"path loss from {start}", value, x=alpha, against="twin")
    for probe, step, low in (("initial-landscape", 0, 2.3), ("landscape", STEPS[-1], 0.01)):
        for a, b in itertools.product(np.linspace(-1, 1, points), repeat=2):
            value = low + 5 * far * (a**2 + 0.5 * b**2 + 0.3 * a * b)
            yield row(network, step, probe, "loss", value, x=a, y=b)


def sweep(bases=tuple(BASES), n_layers=(3, 4), targets=tuple("ABCD"), seeds=1, stages=STAGES, points=3) -> pd.DataFrame:
    """Made-up readings of all probes, in which every claim holds."""
    rng = np.random.default_rng(0)
    rows = []
    for target, seed in itertools.product(targets, range(seeds)):
        rows += of_network(("baseB", target, None, pd.NA, seed), 1.0, rng, stages, points)
        for base, n in itertools.product(bases, n_layers):
            far = 0.1 + 0.5 * BASES.get(base, 0.5)
            rows += of_network(("AnB+", target, base, n, seed), far, rng, stages, points)
    return frame(rows)


@pytest.fixture(scope="session")
def whole() -> pd.DataFrame:
    return sweep()


@pytest.fixture(scope="session")
def compared(whole) -> pd.DataFrame:
    return comparisons(whole, STAGES)


def of_test(table: pd.DataFrame, test: str, base: str = "near", n: int = 4) -> pd.Series:
    (found,) = [r for _, r in table.iterrows() if (r["test"], r["base"], r["n_layers"]) == (test, base, n)]
    return found


NAMES = ("treatment", "quantity", "target", "seed", "step", "base", "n_layers", "index", "stage", "against", "x", "y")


@pytest.fixture(scope="session")
def read(whole):
    """A function that looks one value of the whole sweep up."""
    found = {}
    for r in whole.to_dict("records"):
        key = tuple(None if pd.isna(r[name]) else r[name] for name in NAMES)
        found[key] = r["value"]

    def one(treatment, quantity, unit, step, *, base=None, n=None, index=None, stage=None) -> float:
        return found[treatment, quantity, *unit, step, base, n, index, stage, None, None, None]

    return one


def units():
    return [(target, 0) for target in "ABCD"]


def t_interval(numbers) -> tuple[float, float, float]:
    expected = stats.ttest_1samp(numbers, 0).confidence_interval(0.95)
    return (float(np.mean(numbers)), expected.low, expected.high)


def ends(found: pd.Series) -> tuple[float, float, float]:
    return (found["estimate"], found["low"], found["high"])


def test_a_ratio_is_exp_of_the_paired_t_interval_of_logarithms(compared, read):
    for name, quantity, index in (
        ("top eigenvalue at the last step", "eigenvalue", 1),
        ("deviation at the last step", "deviation", None),
    ):
        logs = [
            math.log(
                read("AnB+", quantity, unit, 1000, base="far", n=3, index=index)
                / read("baseB", quantity, unit, 1000, index=index)
            )
            for unit in units()
        ]
        found = of_test(compared, name, "far", 3)
        assert ends(found) == pytest.approx(tuple(math.exp(end) for end in t_interval(logs)))
        assert (found["units"], found["unit"], found["runs"], found["scale"]) == (4, "source", 4, "ratio")
        assert found["extrapolated"] == 0


def test_gaps_are_compared_as_plain_differences(compared, read):
    for name, more, less in (("top-1 gap", "train top1", "test top1"), ("loss gap", "test loss", "train loss")):
        gaps = {
            (treatment, unit): read(treatment, more, unit, 1000, base=base, n=n)
            - read(treatment, less, unit, 1000, base=base, n=n)
            for treatment, base, n in (("AnB+", "near", 4), ("baseB", None, None))
            for unit in units()
        }
        found = of_test(compared, f"{name} at the last step")
        assert ends(found) == pytest.approx(t_interval([gaps["AnB+", unit] - gaps["baseB", unit] for unit in units()]))
        assert found["scale"] == "difference"


def test_the_principal_component_is_read_at_the_copied_stages(compared, read):
    def mean_log(treatment, unit, steps, **copied):
        return np.mean(
            [
                math.log(read(treatment, "relative projection", unit, step, index=1, stage=stage, **copied))
                for stage in STAGES[:3]
                for step in steps
            ]
        )

    for when, steps in (("at step 0", [0]), ("along training", STEPS[1:])):
        logs = [mean_log("AnB+", u, steps, base="near", n=3) - mean_log("baseB", u, steps) for u in units()]
        found = of_test(compared, f"first relative projection {when}", n=3)
        assert ends(found) == pytest.approx(tuple(math.exp(end) for end in t_interval(logs)))


def test_the_spread_of_gradients_is_the_deviation_of_their_logarithms_over_stages(compared, read):
    def spread(treatment, unit, **copied):
        logs = [math.log(read(treatment, "input gradient", unit, 0, stage=s, **copied)) for s in STAGES]
        return math.sqrt(sum((log - sum(logs) / len(logs)) ** 2 for log in logs) / len(logs))

    differences = [spread("AnB+", unit, base="near", n=4) - spread("baseB", unit) for unit in units()]
    found = of_test(compared, "spread over stages at step 0")
    assert ends(found) == pytest.approx(t_interval(differences))
    assert found["scale"] == "difference"


@pytest.mark.parametrize("gradients", [[1.0, 0.0, 2.0], [1.0]])
def test_a_gradient_of_zero_or_a_single_stage_has_no_spread(gradients):
    rows = [
        row(network, 0, "gradient-scale", "input gradient", value, stage=STAGES[i])
        for network in (("AnB+", "A", "near", 4, 0), ("baseB", "A", None, pd.NA, 0))
        for i, value in enumerate(gradients)
    ]
    assert comparisons(frame(rows), STAGES).empty


def two_networks(tuned, scratch, quantity="trace", probe="flatness", seed=0) -> list:
    """Rows of one unit, from {step: (training loss, quantity)} of each."""
    rows = []
    for network, log in (
        (("AnB+", "A", "near", 4, seed), tuned),
        (("baseB", "A", None, pd.NA, seed), scratch),
    ):
        for step, (loss, value) in log.items():
            rows.append(row(network, step, "generalisation", "train loss", loss))
            rows.append(row(network, step, probe, quantity, value))
    return rows


def matched(tuned, scratch, **rest) -> pd.Series:
    table = comparisons(frame(two_networks(tuned, scratch, **rest)), STAGES)
    return of_test(table, "trace at matched training loss")


def test_at_matched_loss_the_network_that_got_further_is_read_where_it_had_that_loss():
    # ln loss runs from ln 1 to ln 0.01 and passes 0.1 halfway, where ln trace is halfway from ln 16 to ln 4.
    found = matched({1: (1.0, 16.0), 100: (0.01, 4.0)}, {1: (2.0, 99.0), 100: (0.1, 2.0)})
    assert found["estimate"] == pytest.approx(8 / 2)
    assert (found["extrapolated"], found["scale"], found["units"]) == (0, "ratio", 1)
    # The same the other way round, and with a trace below zero linearly.
    assert matched({1: (2.0, 99.0), 100: (0.1, 2.0)}, {1: (1.0, 16.0), 100: (0.01, 4.0)})["estimate"] == pytest.approx(
        2 / 8
    )
    found = matched({1: (1.0, 16.0), 100: (0.01, -4.0)}, {1: (2.0, 99.0), 100: (0.1, 2.0)})
    assert (found["estimate"], found["scale"]) == (pytest.approx(6.0 - 2.0), "difference")


def test_at_matched_loss_the_last_crossing_counts():
    bumpy = {1: (1.0, 50.0), 2: (0.01, 40.0), 3: (1.0, 16.0), 4: (0.01, 4.0)}
    assert matched(bumpy, {1: (1.0, 9.0), 4: (0.1, 2.0)})["estimate"] == pytest.approx(8 / 2)
    # Walking back from the last step, a network that ends at that loss is there already.
    risen = {1: (1.0, 50.0), 2: (0.01, 40.0), 3: (0.1, 6.0)}
    assert matched(risen, {1: (1.0, 9.0), 3: (0.1, 2.0)})["estimate"] == pytest.approx(6 / 2)


def test_a_network_that_was_always_below_the_matched_loss_counts_at_its_first_probe():
    # Step 0 does not count: there a fresh head has its own loss.
    found = matched({0: (2.3, 70.0), 1: (0.05, 16.0), 100: (0.01, 4.0)}, {1: (1.0, 9.0), 100: (0.1, 2.0)})
    assert (found["estimate"], found["extrapolated"]) == (pytest.approx(16 / 2), 1)


def test_a_training_loss_of_zero_is_floored():
    found = matched({1: (1.0, 16.0), 100: (0.0, 4.0)}, {1: (1.0, 9.0), 100: (1e-6, 2.0)})
    assert found["estimate"] == pytest.approx(8 / 2)
    assert matched({1: (1.0, 16.0), 9: (0.0, 4.0)}, {1: (1.0, 9.0), 9: (0.0, 2.0)})["estimate"] == pytest.approx(2.0)


@settings(max_examples=10)
@given(
    st.lists(st.floats(1e-6, 5.0), min_size=1, max_size=5),
    st.lists(st.floats(1e-6, 5.0), min_size=1, max_size=5),
    st.floats(0.1, 10.0),
    st.floats(-2.0, 2.0),
)
def test_where_curvature_is_a_power_of_the_loss_matching_leaves_the_factor_alone(tuned, scratch, factor, power):
    # Each starts above all losses of both, so that it reaches every loss the other ends at.
    logs = [
        {step: (loss, c * loss**power) for step, loss in enumerate([10.0, *losses], start=1)}
        for c, losses in ((factor, tuned), (1.0, scratch))
    ]
    found = matched(*logs)
    assert found["estimate"] == pytest.approx(factor)
    assert found["extrapolated"] == 0


@pytest.mark.parametrize("least", [-1.0, 0.0])
def test_one_trace_that_is_not_positive_makes_the_whole_comparison_one_of_differences(least):
    rows = two_networks({5: (0.1, 3.0)}, {5: (0.1, least)}, seed=0) + two_networks(
        {5: (0.1, 7.0)}, {5: (0.1, 2.0)}, seed=1
    )
    found = of_test(comparisons(frame(rows), STAGES), "trace at the last step")
    assert (found["estimate"], found["scale"]) == ((3 - least + 5) / 2, "difference")


def test_along_training_only_steps_that_both_were_probed_at_count():
    scratch = {0: (1.0, 5.0), 1: (1.0, 1.0), 3: (1.0, 4.0), 4: (1.0, 16.0)}
    tuned = {0: (1.0, 5.0), 1: (1.0, 2.0), 2: (1.0, 500.0), 4: (1.0, 128.0)}
    rows = two_networks(tuned, scratch, quantity="loss variation", probe="loss-variation")
    found = of_test(comparisons(frame(rows), STAGES), "loss variation along training")
    assert (found["estimate"], found["extrapolated"]) == (pytest.approx(math.sqrt(2 * 8)), 0)


def test_a_network_that_lacks_its_last_probe_is_left_out_rather_than_read_earlier():
    rows = two_networks({5: (0.1, 3.0)}, {5: (0.1, 1.0)}, seed=0) + two_networks(
        {5: (0.1, 3.0)}, {5: (0.1, 2.0), 9: (0.01, math.nan)}, seed=1
    )
    table = comparisons(frame(rows), STAGES)
    assert list(table["units"]) == [1, 1]
    assert list(table["estimate"]) == pytest.approx([3.0, 3.0])
    # Nor where nothing at all could be read there, as of weights that are no numbers.
    diverged = frame([*rows, *two_networks({}, {5: (0.1, 2.0), 9: (math.nan, math.nan)}, seed=2)])
    scratch = profiles(diverged, "trace", step="last").query("treatment == 'baseB'")
    assert (scratch["mean"].tolist(), scratch["runs"].tolist()) == ([1.0], [1])
    tuned = two_networks({5: (0.1, 3.0)}, {}, seed=2)
    assert list(comparisons(pd.concat([diverged, frame(tuned)]), STAGES)["units"]) == [1, 1]


def test_where_every_claim_holds_every_test_finds_it(compared):
    assert len(compared) == len(TESTS) * len(BASES) * 2
    found = compared[compared["base"] == "near"]
    assert (found["high"] < np.where(found["scale"] == "ratio", 1, 0)).all()


def test_seeds_are_units_of_one_source_and_part_of_one_of_several(whole):
    observed = sweep(targets=("A", "B"), seeds=4, n_layers=(4,))
    together = observed.assign(target_block="digits")
    name = "relative deviation at the last step"
    paired = effects(together, STAGES).query("test == @name and base == 'far'")
    found = of_test(comparisons(together, STAGES), name, "far")
    of_seeds = paired.groupby("seed")["ratio"].mean()
    assert ends(found) == pytest.approx(tuple(math.exp(end) for end in t_interval(of_seeds)))
    assert (found["units"], found["unit"], found["runs"]) == (4, "seed", 8)
    apart = of_test(comparisons(observed, STAGES), name, "far")
    assert (apart["units"], apart["unit"], apart["runs"]) == (2, "source", 8)
    assert math.isnan(apart["low"])
    assert (profiles(together, "trace")["units"] == 4).all()
    assert profiles(observed, "trace")["low"].isna().all()


def test_an_effect_as_large_as_the_detectable_one_is_seen_in_4_studies_of_5():
    rng = np.random.default_rng(0)
    for units in (3, 4, 8):
        spread = np.arange(units) / np.std(np.arange(units), ddof=1)
        effect = detectable(student_t(spread))  # at a spread of 1
        samples = rng.normal(effect, 1, size=(4000, units))
        t = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * math.sqrt(units)
        assert 0.78 < np.mean(np.abs(t) > stats.t.ppf(0.975, units - 1)) < 0.82


def test_swapping_who_is_fine_tuned_inverts_every_effect(whole):
    near = whole[(whole["base"] == "near") & (whole["n_layers"] == 4)]
    scratch = whole[whole["treatment"] == "baseB"]
    swapped = pd.concat(
        [
            near.assign(treatment="baseB", base=None, n_layers=pd.array([pd.NA] * len(near), dtype="Int64")),
            scratch.assign(treatment="AnB+", base="near", n_layers=pd.array([4] * len(scratch), dtype="Int64")),
        ]
    )
    table, inverse = comparisons(pd.concat([near, scratch]), STAGES), comparisons(swapped, STAGES)
    ratio = (table["scale"] == "ratio").to_numpy()
    for end, other in (("estimate", "estimate"), ("low", "high")):
        expected = np.where(ratio, 1 / table[end], -table[end])
        assert inverse[other].to_numpy() == pytest.approx(expected)
    assert inverse.loc[~ratio, "detectable"].to_numpy() == pytest.approx(table.loc[~ratio, "detectable"].to_numpy())
    judged_so, other_way = (verdicts(effects(rows, STAGES), NO_RHOS) for rows in (pd.concat([near, scratch]), swapped))
    assert set(judged_so["verdict"]) == {"supported"}
    assert set(other_way["verdict"]) == {"the reverse"}


def test_neither_the_order_of_rows_nor_other_treatments_change_anything(whole):
    part = whole[whole["base"].isna() | (whole["base"] == "far")]
    mixed = part.sample(frac=1, random_state=0)
    mixed = pd.concat([mixed, mixed[mixed["treatment"] == "AnB+"].assign(treatment="AnB", value=7.0)])
    pd.testing.assert_frame_equal(comparisons(part, STAGES), comparisons(mixed, STAGES), check_exact=True)
    pd.testing.assert_frame_equal(profiles(part, "trace"), profiles(mixed, "trace"), check_exact=True)


def test_what_was_not_probed_gives_no_rows(whole):
    only = comparisons(whole[whole["probe"] == "deviation"], STAGES)
    assert set(only["claim"]) == {"weights stay near"}
    assert set(comparisons(whole[whole["probe"] == "flatness"], STAGES)["test"]) == {
        f"{name} at the last step" for name in ("top eigenvalue", "trace", "filter-normalised trace")
    }
    assert comparisons(whole[whole["treatment"] == "AnB+"], STAGES).empty
    nothing = whole.iloc[:0]
    for table in (comparisons(nothing, STAGES), profiles(nothing, "trace"), nearness(nothing, DISTANCES)):
        assert table.empty
        assert len(table.columns) > 5
    assert verdicts(effects(nothing, STAGES), rank_correlations(nothing, DISTANCES)).empty


def test_faulty_readings_are_refused(whole):
    few = whole[whole["probe"] == "deviation"]
    with pytest.raises(ValueError, match="readings lack the column stage; they have treatment, target"):
        comparisons(few.drop(columns="stage"), STAGES)
    with pytest.raises(ValueError, match=r"more than one row of the same reading: treatment baseB.*step 1, probe dev"):
        profiles(pd.concat([few, few.iloc[:1]]), "deviation")
    with pytest.raises(ValueError, match="distances lack the column seed"):
        nearness(few, DISTANCES.drop(columns="seed"))


DISTANCES = pd.DataFrame(
    [(t, b, s, v + 0.01 * s) for t in "ABCDEF" for b, v in BASES.items() for s in (0, 1)],
    columns=["target", "base", "seed", "value"],
)
NO_RHOS = rank_correlations(frame([]), DISTANCES)


def deviations(by_unit: dict, n: int = 4) -> pd.DataFrame:
    return frame(
        row(("AnB+", target, base, n, seed), 5, "deviation", "relative deviation", value)
        for (target, seed), of_base in by_unit.items()
        for base, value in of_base.items()
    )


def test_nearness_is_the_mean_rank_correlation_over_units():
    by_unit = {
        ("A", 0): {"near": 0.1, "middle": 0.2, "far": 0.3},
        ("B", 0): {"near": 0.1, "middle": 0.3, "far": 0.2},
        ("C", 0): {"near": 5.0, "middle": 7.0, "far": 6.0},
        ("D", 1): {"near": 0.1, "middle": 0.2},  # too few
        ("E", 1): {"near": 0.1, "middle": 0.1, "far": 0.1},  # does not vary
    }
    by_unit["F", 1] = {"near": 3.0, "middle": 2.0, "far": 1.0}  # of which one went on training without a reading
    went_on = row(("AnB+", "F", "far", 4, 1), 9, "generalisation", "train loss", 0.1)
    readings = pd.concat([deviations(by_unit), frame([went_on])])
    (found,) = nearness(readings, DISTANCES).to_dict("records")
    told = within_one(student_t(np.array([1.0, 0.5, 0.5])))
    assert (found["estimate"], found["low"], found["high"]) == pytest.approx((told.estimate, told.low, told.high))
    assert found["high"] < 1
    assert (found["units"], found["unit"], found["bases"], found["n_layers"]) == (3, "source", 3, 4)
    assert found["claim"] == NEARER


@pytest.mark.parametrize(("sign", "verdict"), [(1, "supported"), (-1, "the reverse")])
def test_nearness_has_its_sign(sign, verdict):
    by_unit = {(target, 0): {b: 5 + sign * v for b, v in BASES.items()} for target in "ABCDEF"}
    (alike,) = nearness(deviations(by_unit), DISTANCES).to_dict("records")
    assert (alike["estimate"], alike["units"]) == (sign, 6)
    assert (math.isnan(alike["low"]), math.isnan(alike["high"])) == (True, True)
    by_unit["B", 0]["middle"] = 5 + sign * 1.5 * max(BASES.values())  # one unit has two bases the other way round
    (found,) = nearness(deviations(by_unit), DISTANCES).to_dict("records")
    assert found["estimate"] == pytest.approx(sign * 5.5 / 6)
    assert (found["low"] > 0, found["high"] > 0) == (sign > 0, sign > 0)
    (decided,) = verdicts(effects(frame([]), STAGES), rank_correlations(deviations(by_unit), DISTANCES)).to_dict(
        "records"
    )
    assert (decided["claim"], decided["scale"], decided["verdict"]) == (NEARER, "ρ", verdict)
    assert (decided["estimate"], decided["low"]) == (found["estimate"], found["low"])


def test_a_unit_takes_the_distance_of_its_seed_and_else_the_mean():
    by_unit = {("A", 0): {"near": 1.0, "middle": 2.0, "far": 3.0}, ("A", 5): {"near": 1.0, "middle": 2.0, "far": 3.0}}
    distances = pd.DataFrame(
        [
            *(("A", base, 0, value) for base, value in (("near", 3.0), ("middle", 2.0), ("far", 1.0))),
            *(("A", base, 1, value) for base, value in (("near", 3.0), ("middle", 9.0), ("far", 27.0))),
        ],
        columns=["target", "base", "seed", "value"],
    )
    (found,) = nearness(deviations(by_unit), distances).to_dict("records")
    assert found["estimate"] == pytest.approx((-1.0 + 1.0) / 2)  # the means are 3, 5.5 and 14


def test_nearness_reads_deviation_and_top_eigenvalue(whole):
    table = nearness(whole, DISTANCES)
    assert list(zip(table["test"], table["n_layers"], strict=True)) == [
        ("top eigenvalue at the last step", 3),
        ("top eigenvalue at the last step", 4),
        ("relative deviation at the last step", 3),
        ("relative deviation at the last step", 4),
    ]
    assert (table["estimate"] > 0.5).all()


def at(table: pd.DataFrame, **where) -> pd.Series:
    for name, value in where.items():
        table = table[table[name].isna()] if value is None else table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_profiles_of_positive_quantities_are_geometric_means_over_units(whole, read):
    table = profiles(whole, "input gradient", step="last")
    logs = [math.log(read("AnB+", "input gradient", u, 1000, base="far", n=3, stage="fc4")) for u in units()]
    found = at(table, base="far", n_layers=3, stage="fc4")
    assert (found["mean"], found["low"], found["high"]) == pytest.approx(tuple(np.exp(t_interval(logs))))
    assert (found["units"], found["scale"], found["treatment"]) == (4, "geometric", "AnB+")
    assert len(table) == (1 + 3 * 2) * len(STAGES)
    assert table["treatment"].iloc[0] == "baseB"
    assert table["step"].isna().all()
    assert (profiles(whole, "input gradient", step=10)["step"] == 10).all()


def test_profiles_of_gaps_are_plain_means_at_every_step(whole, read):
    table = profiles(whole, "generalisation gap")
    gaps = [read("baseB", "train top1", u, 10) - read("baseB", "test top1", u, 10) for u in units()]
    found = at(table, treatment="baseB", base=None, n_layers=None, step=10)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx(t_interval(gaps))
    assert found["scale"] == "arithmetic"


def test_profiles_over_stages_average_within_units_first(whole, read):
    table = profiles(whole, "relative projection", step=0, over_stages=True)
    logs = [
        np.mean([math.log(read("baseB", "relative projection", u, 0, index=2, stage=s)) for s in STAGES])
        for u in units()
    ]
    found = at(table, treatment="baseB", index=2, stage=None)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx(tuple(np.exp(t_interval(logs))))
    assert found["units"] == 4


def test_profiles_keep_apart_what_networks_are_held_against_and_where(whole):
    cka = profiles(whole, "CKA")
    assert set(cka.loc[cka["treatment"] == "AnB+", "against"]) == {"base", "scratch", "twin"}
    paths = profiles(whole, "path loss from one start")
    assert sorted(paths.loc[paths["treatment"] == "baseB", "x"]) == pytest.approx(np.linspace(0, 1, 11))
    losses = profiles(whole, "loss")
    assert len(losses) == (1 + 3 * 2) * 2 * 9
    assert set(losses["probe"]) == {"initial-landscape", "landscape"}


def claim(*values: float, above: bool = True) -> Claim:
    numbers = np.array(values)
    units = np.arange(len(values))
    return Claim(claim="c", test="t", scale="difference", above=above, values=numbers, units=units, unit="seed")


def test_a_correlation_of_which_nothing_could_be_seen_is_undecided():
    vague, sharp = (0.8, -0.7, 0.1), (0.1, -0.1, 0.05)
    for values, verdict in ((vague, "undecided"), (sharp, "no larger effect")):
        rhos = np.array(values)
        claim = Claim(claim="c", test="t", scale="ρ", above=True, values=rhos, units=np.arange(3), unit="seed")
        (row,) = judged([claim]).to_dict("records")
        assert (row["detectable"] > 1) == (values is vague)
        assert row["verdict"] == verdict


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.2, 0.5, 1.0]), min_size=3, max_size=9))
def test_of_a_correlation_interval_p_value_and_detectable_effect_are_of_one_test(values):
    rhos = np.array(values)
    claim = Claim(claim="c", test="t", scale="ρ", above=True, values=rhos, units=np.arange(len(rhos)), unit="seed")
    (row,) = judged([claim]).to_dict("records")
    plain = student_t(rhos)
    if np.ptp(rhos) == 0:
        assert math.isnan(row["p_value"])
        return
    assert -1 <= row["low"] < row["estimate"] < row["high"] <= 1
    assert (row["p_value"] < 0.05) == (not row["low"] <= 0 <= row["high"])
    assert row["p_value"] >= p_value(plain) - 1e-12  # no more is called told than by Student's t of the values
    half = row["detectable"] / detectable(plain)
    assert half == pytest.approx(1 / math.sqrt(1 - rhos.mean() ** 2))


@pytest.mark.parametrize(
    ("values", "above", "verdict"),
    [
        ((1.0, 1.1, 0.9), True, "supported"),
        ((1.0, 1.1, 0.9), False, "the reverse"),
        ((-1.0, -1.1, -0.9), True, "the reverse"),
        ((-1.0, 1.0, 0.1, -0.1), True, "no larger effect"),
        ((-0.2, 1.0, 0.9, 0.6), True, "undecided"),  # an effect of 0.6 that is not told from zero
        ((1.0, 1.0, 1.0), True, "undecided"),  # how they spread is not known
        ((0.0, 0.0, 0.0), True, "undecided"),
        ((1.0, 1.1), True, "too few units"),
        ((1.0,), True, "too few units"),
    ],
)
def test_a_verdict_is_of_one_test_over_units(values, above, verdict):
    (found,) = judged([claim(*values, above=above)]).to_dict("records")
    assert (found["verdict"], found["units"]) == (verdict, len(values))
    if len(values) >= 3 and len(set(values)) > 1:
        expected = stats.ttest_1samp(values, 0)
        assert found["p_value"] == found["p_adjusted"] == pytest.approx(expected.pvalue)
        assert ends(found) == pytest.approx(t_interval(values))
    else:
        assert math.isnan(found["p_value"])


def test_units_needed_are_those_at_which_the_effect_seen_has_a_power_of_80_percent():
    two, one, equal = judged([claim(1.0, 3.0), claim(1.0), claim(1.0, 1.0)])["units_needed"]
    assert pd.isna(one)
    assert pd.isna(equal)
    (of_rho,) = judged([replace(claim(0.5, 0.9), scale="ρ")])["units_needed"]
    # Effects in standard deviations between units; those of correlations are as around a mean of 0.
    for needed, effect in ((two, 2 / math.sqrt(2)), (of_rho, 0.7 * math.sqrt(1 - 0.7**2) / math.sqrt(0.08))):

        def power(k, effect=effect):
            return stats.nct.sf(stats.t.ppf(0.975, k - 1), k - 1, effect * math.sqrt(k))

        assert power(needed) >= 0.8 > power(needed - 1)


def test_p_values_are_corrected_for_the_number_of_claims():
    values = [(1.0, 1.2, 0.9), (1.0, 1.4, 0.7), (0.0, 1.0, -0.9), (2.0,)]
    table = judged([claim(*of) for of in values])
    p = [stats.ttest_1samp(of, 0).pvalue for of in values[:3]]
    assert p[0] < p[1] < p[2]
    assert list(table["p_adjusted"][:3]) == pytest.approx([3 * p[0], max(2 * p[1], 3 * p[0]), max(p[2], 2 * p[1])])
    assert math.isnan(table["p_adjusted"][3])
    assert judged([claim(*values[1])])["verdict"].item() == "supported"
    assert table["verdict"][1] == "undecided"


def test_every_claim_gets_one_verdict_of_its_primary_test_over_all_bases_and_n(whole):
    paired = effects(whole, STAGES)
    table = verdicts(paired, rank_correlations(whole, DISTANCES))
    assert list(table["claim"]) == list(PRIMARY)
    assert {test.claim for test in TESTS} | {NEARER} == set(PRIMARY)
    assert sum(test.primary for test in TESTS) == len(PRIMARY) - 1
    found = at(table, claim="weights stay near")
    logs = paired[paired["test"] == PRIMARY["weights stay near"]].groupby("target")["ratio"].mean()
    assert ends(found) == pytest.approx(tuple(math.exp(end) for end in t_interval(logs)))
    assert (found["units"], found["effects"], found["scale"]) == (4, 4 * 3 * 2, "ratio")
    assert found["detectable"] == pytest.approx(math.exp(detectable(student_t(logs.to_numpy()))))
    assert not (table["verdict"] == "the reverse").any()
    assert (table["verdict"] == "supported").sum() >= 6
