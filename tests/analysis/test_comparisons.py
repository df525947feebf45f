import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raytransfer.analysis.comparisons import TESTS, comparisons
from raytransfer.analysis.profiles import profiles
from raytransfer.analysis.verdicts import NEARER, PRIMARY, nearness, verdicts

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
    return table.astype({"n_layers": "Int64", "index": "Int64", "x": float, "y": float, "value": float})


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


def sweep(bases=tuple(BASES), n_layers=(3, 4), targets=("A", "B"), seeds=2, stages=STAGES, points=3) -> pd.DataFrame:
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
    return list(itertools.product(("A", "B"), range(2)))


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
        assert (found["units"], found["scale"], found["claimed"]) == (4, "ratio", "below 1")


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
        assert (found["scale"], found["claimed"]) == ("difference", "below 0")


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
    assert (found["extrapolated"], found["scale"], found["verdict"]) == (0, "ratio", "too few units")
    # The same the other way round, and with a trace below zero linearly.
    assert matched({1: (2.0, 99.0), 100: (0.1, 2.0)}, {1: (1.0, 16.0), 100: (0.01, 4.0)})["estimate"] == pytest.approx(
        2 / 8
    )
    found = matched({1: (1.0, 16.0), 100: (0.01, -4.0)}, {1: (2.0, 99.0), 100: (0.1, 2.0)})
    assert (found["estimate"], found["scale"], found["claimed"]) == (pytest.approx(6.0 - 2.0), "difference", "below 0")


def test_at_matched_loss_the_last_crossing_counts():
    bumpy = {1: (1.0, 50.0), 2: (0.01, 40.0), 3: (1.0, 16.0), 4: (0.01, 4.0)}
    assert matched(bumpy, {1: (1.0, 9.0), 4: (0.1, 2.0)})["estimate"] == pytest.approx(8 / 2)


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


def test_one_trace_below_zero_makes_the_whole_comparison_one_of_differences():
    rows = two_networks({5: (0.1, 3.0)}, {5: (0.1, -1.0)}, seed=0) + two_networks(
        {5: (0.1, 7.0)}, {5: (0.1, 2.0)}, seed=1
    )
    found = of_test(comparisons(frame(rows), STAGES), "trace at the last step")
    assert (found["estimate"], found["scale"]) == (4.5, "difference")


def test_along_training_only_steps_that_both_were_probed_at_count():
    scratch = {0: (1.0, 5.0), 1: (1.0, 1.0), 3: (1.0, 4.0), 4: (1.0, 16.0)}
    tuned = {0: (1.0, 5.0), 1: (1.0, 2.0), 2: (1.0, 500.0), 4: (1.0, 128.0)}
    rows = two_networks(tuned, scratch, quantity="loss variation", probe="loss-variation")
    found = of_test(comparisons(frame(rows), STAGES), "loss variation along training")
    assert found["estimate"] == pytest.approx(math.sqrt(2 * 8))


def test_a_network_that_lacks_its_last_probe_is_left_out_rather_than_read_earlier():
    rows = two_networks({5: (0.1, 3.0)}, {5: (0.1, 1.0)}, seed=0) + two_networks(
        {5: (0.1, 3.0)}, {5: (0.1, 2.0), 9: (0.01, math.nan)}, seed=1
    )
    table = comparisons(frame(rows), STAGES)
    assert list(table["units"]) == [1, 1]
    assert list(table["estimate"]) == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize(
    ("logs", "verdict"),
    [
        ([-1.0, -1.1, -0.9], "supported"),
        ([1.0, 1.1, 0.9], "not supported"),
        ([-1.0, 1.0, 0.1], "undecided"),
        ([-1.0, -1.0, -1.0], "undecided"),  # how they spread is not known
        ([0.0, 0.0, 0.0], "undecided"),
        ([-1.0, -1.1], "too few units"),
        ([1.0, 1.1], "too few units"),
        ([-1.0], "too few units"),
    ],
)
def test_a_verdict_needs_the_whole_interval(logs, verdict):
    rows = []
    for seed, log in enumerate(logs):
        rows += two_networks({5: (0.1, math.exp(log))}, {5: (0.1, 1.0)}, seed=seed)
    found = of_test(comparisons(frame(rows), STAGES), "trace at the last step")
    assert (found["verdict"], found["units"]) == (verdict, len(logs))
    assert math.isnan(found["low"]) == (len(logs) < 3 or len(set(logs)) == 1)


def test_where_every_claim_holds_every_test_finds_it(compared):
    assert len(compared) == len(TESTS) * len(BASES) * 2
    found = compared[compared["base"] == "near"]
    assert set(found.loc[found["verdict"] != "supported", "test"]) == set()


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
    assert set(table["verdict"]) == {"supported"}
    assert set(inverse["verdict"]) == {"not supported"}


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
    assert verdicts(comparisons(nothing, STAGES), nearness(nothing, DISTANCES)).empty


def test_faulty_readings_are_refused(whole):
    few = whole[whole["probe"] == "deviation"]
    with pytest.raises(ValueError, match="readings lack the column stage; they have treatment, target"):
        comparisons(few.drop(columns="stage"), STAGES)
    with pytest.raises(ValueError, match=r"more than one row of the same reading: treatment baseB.*step 1, probe dev"):
        profiles(pd.concat([few, few.iloc[:1]]), "deviation")
    with pytest.raises(ValueError, match="distances lack the column seed"):
        nearness(few, DISTANCES.drop(columns="seed"))


DISTANCES = pd.DataFrame(
    [(t, b, s, v + 0.01 * s) for t in ("A", "B") for b, v in BASES.items() for s in (0, 1)],
    columns=["target", "base", "seed", "value"],
)


def deviations(by_unit: dict, n: int = 4) -> pd.DataFrame:
    return frame(
        row(("AnB+", target, base, n, seed), 5, "deviation", "relative deviation", value)
        for (target, seed), of_base in by_unit.items()
        for base, value in of_base.items()
    )


def test_nearness_is_the_mean_rank_correlation_within_units():
    by_unit = {
        ("A", 0): {"near": 0.1, "middle": 0.2, "far": 0.3},
        ("A", 1): {"near": 0.1, "middle": 0.3, "far": 0.2},
        ("B", 0): {"near": 5.0, "middle": 7.0, "far": 6.0},
        ("B", 1): {"near": 0.1, "middle": 0.2},  # too few
        ("B", 2): {"near": 0.1, "middle": 0.1, "far": 0.1},  # does not vary
    }
    by_unit["B", 3] = {"near": 3.0, "middle": 2.0, "far": 1.0}  # of which one went on training without a reading
    went_on = row(("AnB+", "B", "far", 4, 3), 9, "generalisation", "train loss", 0.1)
    readings = pd.concat([deviations(by_unit), frame([went_on])])
    (found,) = nearness(readings, DISTANCES).to_dict("records")
    estimate, low, _ = t_interval([1.0, 0.5, 0.5])
    assert (found["estimate"], found["low"], found["high"]) == pytest.approx((estimate, low, 1.0))
    assert (found["units"], found["bases"], found["n_layers"]) == (3, 3, 4)
    assert (found["claim"], found["claimed"], found["verdict"]) == (NEARER, "above 0", "undecided")


@pytest.mark.parametrize(("sign", "verdict"), [(1, "supported"), (-1, "not supported")])
def test_nearness_has_its_sign(sign, verdict):
    by_unit = {(t, s): {b: 5 + sign * v for b, v in BASES.items()} for t in ("A", "B") for s in (0, 1, 2)}
    (alike,) = nearness(deviations(by_unit), DISTANCES).to_dict("records")
    assert (alike["estimate"], alike["units"], alike["verdict"]) == (sign, 6, "undecided")
    assert (math.isnan(alike["low"]), math.isnan(alike["high"])) == (True, True)
    by_unit["B", 2]["middle"] = 5 + sign * 1.5 * max(BASES.values())  # one unit has two bases the other way round
    (found,) = nearness(deviations(by_unit), DISTANCES).to_dict("records")
    assert found["estimate"] == pytest.approx(sign * 5.5 / 6)
    assert (found["low"] > 0, found["high"] > 0, found["verdict"]) == (sign > 0, sign > 0, verdict)


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


def judged(claim: str, *counts: tuple[str, int]) -> pd.DataFrame:
    rows = [
        ("near", 4, claim, PRIMARY[claim], 0.5 + i, 0.4, 0.6, 4, "ratio", "below 1", verdict, 0)
        for i, verdict in enumerate(itertools.chain(*([verdict] * count for verdict, count in counts)))
    ]
    return pd.DataFrame(rows, columns=comparisons(frame([]), STAGES).columns)


@pytest.mark.parametrize(
    ("support", "contradict", "undecided", "verdict"),
    [
        (3, 0, 2, "supported"),
        (2, 0, 2, "undecided"),
        (2, 0, 3, "undecided"),
        (5, 1, 0, "mixed"),
        (0, 3, 2, "not supported"),
        (0, 2, 2, "undecided"),
        (0, 2, 3, "undecided"),
        (0, 0, 1, "undecided"),
    ],
)
def test_a_claim_s_verdict_counts_its_tests(support, contradict, undecided, verdict):
    table = judged("flatter minima", ("supported", support), ("not supported", contradict), ("undecided", undecided))
    (found,) = verdicts(table, nearness(frame([]), DISTANCES)).to_dict("records")
    assert found == {
        "claim": "flatter minima",
        "verdict": verdict,
        "tests": support + contradict + undecided,
        "support": support,
        "contradict": contradict,
        "open": undecided,
        "median_ratio": support / 2 + contradict / 2 + undecided / 2,
    }


def test_every_claim_gets_one_verdict_in_order(whole, compared):
    table = verdicts(compared, nearness(whole, DISTANCES))
    assert list(table["claim"]) == list(PRIMARY)
    assert {test.claim for test in TESTS} | {NEARER} == set(PRIMARY)
    assert all(PRIMARY[test.claim] in {t.name for t in TESTS if t.claim == test.claim} for test in TESTS)
    assert not (table["contradict"] > 0).any()
    assert math.isnan(at(table, claim=NEARER)["median_ratio"])
    assert at(table, claim="weights stay near")["median_ratio"] == pytest.approx(0.4, abs=0.05)
