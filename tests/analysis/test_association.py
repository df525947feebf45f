import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from raytransfer.analysis import COEFFICIENTS, correlations
from raytransfer.analysis.association import coefficients
from raytransfer.analysis.pairs import axes_of, permuted_tasks, permuted_values, resampled_tasks

ONE_TARGET = [("T", f"base{i}") for i in range(9)]
THREE_TARGETS = [(target, f"base{i}") for target in ("T", "U", "V") for i in range(6)]
TWO_BASES = [(target, base) for target, base in THREE_TARGETS if base in ("base0", "base1")]
ALL_PAIRS = list(itertools.permutations("ABCDEF", 2))
DESIGNS = pytest.mark.parametrize("pairs", [ONE_TARGET, THREE_TARGETS, ALL_PAIRS], ids=["one", "three", "all pairs"])


def study(pairs, seed: int = 0, seeds: int = 2, n_layers=(1, 3)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up outcomes, a distance of the pair alone, and a score of every n and seed; with ties and gaps."""
    rng = np.random.default_rng(seed)
    cells = list(itertools.product(pairs, n_layers, range(seeds)))
    outcomes = pd.DataFrame(
        [(target, base, n, run, rng.integers(30, 60) / 100, rng.random()) for (target, base), n, run in cells],
        columns=["target", "base", "n_layers", "seed", "AnB", "AnB+"],
    )
    outcomes.loc[rng.choice(len(outcomes), 3, replace=False), "AnB"] = np.nan
    rows = [("far", "distance", target, base, None, None, rng.integers(0, 5)) for target, base in pairs]
    rows += [("fit", "score", target, base, n, run, rng.random()) for (target, base), n, run in cells[2:]]
    columns = ["measure", "kind", "target", "base", "n_layers", "seed", "value"]
    measures = pd.DataFrame(rows, columns=columns).astype({"n_layers": "Int64", "seed": "Int64", "value": "float64"})
    return outcomes, measures


def simple(outcome: dict, **measured: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One n and seed; every measure is a score."""
    outcomes = pd.DataFrame(
        [(*pair, 1, 0, value) for pair, value in outcome.items()], columns=["target", "base", "n_layers", "seed", "AnB"]
    )
    rows = [(name, "score", *pair, None, None, value) for name, of in measured.items() for pair, value in of.items()]
    return outcomes, pd.DataFrame(rows, columns=["measure", "kind", "target", "base", "n_layers", "seed", "value"])


def naive_pairs(outcomes, measures, measure, outcome, n) -> dict[tuple[str, str], tuple[float, float]]:
    """Loop over all rows of both tables, and average over the seeds that match."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in outcomes[outcomes["n_layers"] == n].to_dict("records"):
        for value in measures[measures["measure"] == measure].to_dict("records"):
            same = (row["target"], row["base"]) == (value["target"], value["base"])
            same &= pd.isna(value["n_layers"]) or value["n_layers"] == n
            same &= pd.isna(value["seed"]) or value["seed"] == row["seed"]
            if same and np.isfinite(row[outcome]):
                sign = -1 if value["kind"] == "distance" else 1
                found.setdefault((row["target"], row["base"]), []).append((sign * value["value"], row[outcome]))
    return {pair: tuple(np.mean(values, axis=0)) for pair, values in found.items()}


def scipys(x, y) -> list[float]:
    if len(set(x)) < 2 or len(set(y)) < 2:
        return [np.nan] * 3
    return [
        stats.spearmanr(x, y).statistic,
        stats.kendalltau(x, y).statistic,
        stats.weightedtau(y, x, rank=None).statistic,
    ]


def naive_correlations(found, times=lambda role, name: 1, at_least=4) -> dict[str, list[float]]:
    """Coefficients within target and pooled, each pair repeated as often as its tasks were drawn."""
    within = []
    for target in sorted({target for target, _ in found}):
        mine = {base: values for (of, base), values in found.items() if of == target}
        if len(mine) >= at_least:
            x, y = ([v[i] for base, v in mine.items() for _ in range(times("base", base))] for i in (0, 1))
            within += [scipys(x, y)] * times("target", target)
    pooled = [
        [v[i] for (target, base), v in found.items() for _ in range(times("target", target) * times("base", base))]
        for i in (0, 1)
    ]
    defined = [row for row in within if np.isfinite(row).all()]
    return {"within target": list(np.mean(defined, axis=0)) if defined else [np.nan] * 3, "pooled": scipys(*pooled)}


def cell(table, measure, outcome, n, scope) -> pd.DataFrame:
    at = (table["measure"] == measure) & (table["outcome"] == outcome) & (table["n_layers"] == n)
    rows = table[at & (table["scope"] == scope)].set_index("coefficient")
    assert list(rows.index) == list(COEFFICIENTS)
    return rows


def test_coefficients_of_counted_pairs_are_scipys_of_the_repeated_ones():
    rng = np.random.default_rng(0)
    for size in (2, 5, 12):
        x, y = (rng.integers(0, 6, size).astype(float) for _ in range(2))
        counts = rng.integers(0, 4, (60, size))
        expected = [scipys(np.repeat(x, times), np.repeat(y, times)) for times in counts]
        np.testing.assert_allclose(coefficients(x, y, counts), expected, atol=1e-12)


@DESIGNS
def test_estimates_are_scipys_on_the_pairs_means_over_matching_seeds(pairs):
    outcomes, measures = study(pairs)
    table = correlations(outcomes, measures, ("AnB", "AnB+"), resamples=2)
    assert len(table) == 2 * 2 * 2 * 2 * 3
    for measure, outcome, n in itertools.product(("far", "fit"), ("AnB", "AnB+"), (1, 3)):
        found = naive_pairs(outcomes, measures, measure, outcome, n)
        for scope, expected in naive_correlations(found).items():
            rows = cell(table, measure, outcome, n, scope)
            np.testing.assert_allclose(rows["estimate"], expected, atol=1e-12)
            assert set(rows["pairs"]) == {len(found)}
            assert set(rows["tasks"]) == {len({name for pair in found for name in pair})}


@DESIGNS
def test_intervals_are_percentiles_over_resampled_tasks(pairs):
    outcomes, measures = study(pairs)
    table = correlations(outcomes, measures, ("AnB",), resamples=60, seed=5)
    axes = axes_of(outcomes, ("AnB",))
    assert axes.joint == (pairs is ALL_PAIRS)
    of_targets, of_bases = resampled_tasks(axes, 60, 5)
    assert (of_bases.sum(axis=1) == len(axes.bases)).all()
    assert (of_targets is of_bases) == axes.joint
    found = naive_pairs(outcomes, measures, "fit", "AnB", 3)
    drawn: dict[str, list[list[float]]] = {"within target": [], "pooled": []}
    for r in range(60):
        times = {"base": dict(zip(axes.bases, of_bases[r], strict=True))}
        times["target"] = dict(zip(axes.targets, of_targets[r], strict=True))
        for scope, values in naive_correlations(found, lambda role, name, t=times: t[role][name]).items():
            drawn[scope].append(values)
    for scope, values in drawn.items():
        low, high = np.nanpercentile(values, [2.5, 97.5], axis=0)
        rows = cell(table, "fit", "AnB", 3, scope)
        np.testing.assert_allclose(rows["low"], low, atol=1e-12)
        np.testing.assert_allclose(rows["high"], high, atol=1e-12)


@pytest.mark.parametrize(("pairs", "scope"), [(THREE_TARGETS[:12], "within target"), (TWO_BASES, "pooled")])
def test_two_targets_and_two_bases_have_no_interval(pairs, scope):
    outcomes, measures = study(pairs, seeds=5)
    of_scope = correlations(outcomes, measures, ("AnB",), resamples=60).query("scope == @scope")
    assert of_scope["estimate"].notna().all()
    assert of_scope[["low", "high"]].isna().all(axis=None)
    assert (of_scope["p_value"].dropna() > 0.05).any()


def test_a_perfect_order_has_no_interval():
    pairs = {pair: float(i) for i, pair in enumerate(ONE_TARGET)}
    nearly = {**pairs, ONE_TARGET[0]: 1.5}
    table = correlations(*simple(pairs, perfect=pairs, nearly=nearly), ("AnB",), resamples=200)
    spearman = table.query("coefficient == 'Spearman' and scope == 'within target'").set_index("measure")
    assert spearman["estimate"].to_dict() == pytest.approx({"perfect": 1.0, "nearly": 1 - 6 * 2 / (9 * 80)})
    assert spearman.loc["perfect", ["low", "high"]].isna().all()
    assert spearman.loc["nearly", "low"] < spearman.loc["nearly", "high"]


@DESIGNS
def test_p_values_count_the_permutations_of_tasks_that_correlate_as_well(pairs):
    outcomes, measures = study(pairs, seeds=1)
    table = correlations(outcomes, measures, ("AnB",), resamples=50, seed=3)
    axes = axes_of(outcomes, ("AnB",))
    places = permuted_tasks(axes, 50, 3)
    exceeded = {"within target": {"far": 0, "fit": 0}, "pooled": {"far": 0, "fit": 0}}
    exceeded_by_any = {scope: dict(of) for scope, of in exceeded.items()}
    estimates = {
        (measure, scope): cell(table, measure, "AnB", 1, scope).loc["Spearman", "estimate"]
        for measure, scope in itertools.product(("far", "fit"), exceeded)
    }
    found = {measure: naive_pairs(outcomes, measures, measure, "AnB", 1) for measure in ("far", "fit")}
    for place in places:
        permuted = {}
        for measure, of in found.items():
            moved = naive_permuted(of, dict(zip(axes.bases, place, strict=True)), list(axes.bases), axes.joint)
            large = {target for target, _ in of if sum(other == target for other, _ in of) >= 4}
            within = {pair: values for pair, values in moved.items() if pair[0] in large}
            permuted[measure] = {
                "within target": np.nan_to_num(naive_correlations(within, at_least=2)["within target"][0]),
                "pooled": naive_correlations(moved)["pooled"][0],
            }
        for (measure, scope), estimate in estimates.items():
            rhos = {name: abs(of[scope]) for name, of in permuted.items()}
            exceeded[scope][measure] += rhos[measure] >= abs(estimate) - 1e-12
            exceeded_by_any[scope][measure] += max(rhos.values()) >= abs(estimate) - 1e-12
    for measure, scope in estimates:
        row = cell(table, measure, "AnB", 1, scope).loc["Spearman"]
        assert row["p_value"] == pytest.approx((1 + exceeded[scope][measure]) / 51)
        assert row["p_adjusted"] == pytest.approx((1 + exceeded_by_any[scope][measure]) / 51)
    assert table.loc[table["coefficient"] != "Spearman", ["p_value", "p_adjusted"]].isna().all(axis=None)


def naive_permuted(found, place, names, joint):
    """Both tasks of a pair change places with others; or the bases of one target are sorted by their places."""
    if joint:
        other = {(target, base): (names[place[target]], names[place[base]]) for target, base in found}
    else:
        other = {}
        for target in {target for target, _ in found}:
            bases = sorted(base for of, base in found if of == target)
            for base, instead in zip(bases, sorted(bases, key=place.__getitem__), strict=True):
                other[target, base] = (target, instead)
    return {pair: (found[other[pair]][0], y) for pair, (_, y) in found.items() if other[pair] in found}


def test_targets_with_the_same_bases_are_permuted_alike_and_keep_their_own_values():
    names = [("T", "abc"), ("U", "abc"), ("V", "bcd")]
    pairs = [(target, base) for target, bases in names for base in bases]
    axes = axes_of(simple(dict.fromkeys(pairs, 0.5))[0], ())
    assert not axes.joint
    values = np.arange(12.0).reshape(3, 4)
    targets, bases = np.array([("TUV".index(t), "abcd".index(b)) for t, b in pairs]).T
    moved = permuted_values(axes, values, targets, bases, permuted_tasks(axes, 200, 0))
    for part in (moved[:, :3], moved[:, 6:]):
        assert len({tuple(row) for row in part}) == 6
        assert (np.sort(part, axis=1) == np.sort(part[0])).all()
    assert (moved[:, :3] + 4 == moved[:, 3:6]).all()


def test_tasks_in_both_roles_are_the_same_tasks():
    assert axes_of(study(ALL_PAIRS)[0], ()).joint
    # Two targets that are also the undialled bases of two large families are not.
    families = [(target, f"{target}{level}") for target in "TU" for level in range(9)] + [("T", "U"), ("U", "T")]
    assert not axes_of(simple(dict.fromkeys(families, 0.5))[0], ()).joint


def test_positive_means_that_the_measure_predicts():
    near = {("T", f"base{i}"): float(i) for i in range(6)}
    outcomes, measures = simple(near, near=near)
    assert correlations(outcomes, measures, ("AnB",), 9)["estimate"].to_numpy() == pytest.approx(1)
    distances = measures.assign(kind="distance")
    assert correlations(outcomes, distances, ("AnB",), 9)["estimate"].to_numpy() == pytest.approx(-1)


def test_intervals_cover_no_correlation_where_pairs_share_tasks_and_resampled_pairs_do_not():
    tasks = [f"task{i}" for i in range(10)]
    pairs = list(itertools.permutations(range(10), 2))
    target, base = np.array(pairs).T
    covered, naively = 0, 0
    for run in range(50):
        rng = np.random.default_rng(run)
        # Both sides are sums of two tasks' own numbers, independent of each other: the true correlation is 0.
        x, y = (a[target] + b[base] for a, b in rng.normal(size=(2, 2, 10)))
        names = [(tasks[t], tasks[b]) for t, b in pairs]
        outcomes, measures = simple(dict(zip(names, y, strict=True)), own=dict(zip(names, x, strict=True)))
        row = cell(correlations(outcomes, measures, ("AnB",), 200, run), "own", "AnB", 1, "pooled").loc["Spearman"]
        covered += row["low"] <= 0 <= row["high"]
        counts = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), size=200)
        low, high = np.percentile(coefficients(x, y, counts)[:, 0], [2.5, 97.5])
        naively += low <= 0 <= high
    assert covered >= 45
    assert naively <= 36


def family(rng: np.random.Generator, *, true: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """12 bases of one target, and 20 measures that correlate with each other; one with the outcome too, if true."""
    pairs = [("T", f"base{i}") for i in range(12)]
    outcome, shared = rng.normal(size=(2, 12))
    measured = {f"measure{i}": shared / 2 + rng.normal(size=12) for i in range(20)}
    if true:
        measured["measure7"] = outcome + 0.3 * rng.normal(size=12)
    named = {name: dict(zip(pairs, values, strict=True)) for name, values in measured.items()}
    return simple(dict(zip(pairs, outcome, strict=True)), **named)


def test_adjusted_p_values_hold_the_family_wise_error_and_find_what_is_true():
    unadjusted, adjusted, found, false = 0, 0, 0, 0
    for run in range(25):
        null = correlations(*family(np.random.default_rng(run), true=False), ("AnB",), 99, run)
        unadjusted += (null["p_value"] < 0.05).any()
        adjusted += (null["p_adjusted"] < 0.05).any()
    for run in range(6):
        table = correlations(*family(np.random.default_rng(run), true=True), ("AnB",), 99, run)
        small = table[(table["p_adjusted"] < 0.05) & (table["scope"] == "pooled")]
        found += "measure7" in set(small["measure"])
        false += (small["measure"] != "measure7").any()
    assert unadjusted >= 6
    assert adjusted <= 3
    assert found >= 5
    assert false <= 1


def test_where_one_side_is_constant_or_missing_there_is_no_estimate_and_no_warning():
    pairs = [("T", f"base{i}") for i in range(6)]
    rising = {pair: float(i) for i, pair in enumerate(pairs)}
    few = {pair: value for pair, value in rising.items() if value < 3}
    unknown = dict.fromkeys(pairs, np.nan)
    infinite = dict.fromkeys(pairs, -np.inf)
    constant = dict.fromkeys(pairs, 0.1)
    outcomes, measures = simple(rising, constant=constant, unknown=unknown, infinite=infinite, few=few, rising=rising)
    table = correlations(outcomes, measures, ("AnB",), 50)
    for name in ("constant", "unknown", "infinite"):
        rows = table[table["measure"] == name]
        assert rows[["estimate", "low", "high", "p_value", "p_adjusted"]].isna().all(axis=None)
        assert set(rows["pairs"]) == {0}
    assert table.query("measure == 'few' and scope == 'within target'")["estimate"].isna().all()
    assert table.query("measure == 'few' and scope == 'pooled'")["estimate"].isna().all()
    assert (table.query("measure == 'rising'")["estimate"] == 1).all()
    nothing = correlations(outcomes.assign(AnB=np.nan), measures, ("AnB",), 50)
    assert nothing["estimate"].isna().all()
    assert list(nothing["pairs"].unique()) == [0]


def test_the_order_of_the_rows_changes_nothing_and_the_seed_only_the_draws():
    outcomes, measures = study(ALL_PAIRS)
    table = correlations(outcomes, measures, ("AnB",), 20)
    shuffled = correlations(
        outcomes.sample(frac=1, random_state=1), measures.sample(frac=1, random_state=2), ("AnB",), 20
    )
    pd.testing.assert_frame_equal(table, shuffled, check_exact=True)
    other = correlations(outcomes, measures, ("AnB",), 20, seed=1)
    assert other["estimate"].equals(table["estimate"])
    assert not other["low"].equals(table["low"])


def test_no_rows_give_an_empty_table():
    outcomes, measures = study(ONE_TARGET)
    for table in (
        correlations(outcomes.iloc[:0], measures, ("AnB",), 9),
        correlations(outcomes, measures.iloc[:0], ("AnB",), 9),
    ):
        assert table.empty
        assert list(table) == list(correlations(outcomes, measures, ("AnB",), 9))


def test_contradictory_input_is_named():
    outcomes, measures = study(ONE_TARGET)
    with pytest.raises(ValueError, match=r"outcomes lack the column boost; they have target, .*AnB\+"):
        correlations(outcomes, measures)
    with pytest.raises(ValueError, match="measures lack the column kind; they have measure, target"):
        correlations(outcomes, measures.drop(columns="kind"), ("AnB",))
    with pytest.raises(ValueError, match=r"more than one row of the same target T, base base0, n_layers 1, seed 0$"):
        correlations(pd.concat([outcomes, outcomes.head(1)]), measures, ("AnB",))
    with pytest.raises(ValueError, match="more than one row of the same measure far, target T, base base0"):
        correlations(outcomes, pd.concat([measures, measures.head(1)]), ("AnB",))
    with pytest.raises(ValueError, match="measure far is of kind similarity: it is either distance or score"):
        correlations(outcomes, measures.replace({"kind": {"distance": "similarity"}}), ("AnB",))
    with pytest.raises(ValueError, match="measure fit has a seed in some rows and none in others"):
        correlations(outcomes, measures.assign(seed=measures["seed"].replace(1, pd.NA)), ("AnB",))
