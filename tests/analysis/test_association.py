import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from raytransfer.analysis import COEFFICIENTS, correlations
from raytransfer.analysis.association import coefficients
from raytransfer.analysis.pairs import axes_of, permuted_blocks, permuted_values

ONE_TARGET = [("T", f"base{i}") for i in range(9)]
THREE_TARGETS = [(target, f"base{i}") for target in ("T", "U", "V") for i in range(6)]
TWO_BASES = [(target, base) for target, base in THREE_TARGETS if base in ("base0", "base1")]
ALL_PAIRS = list(itertools.permutations("ABCDEF", 2))
DESIGNS = pytest.mark.parametrize("pairs", [ONE_TARGET, THREE_TARGETS, ALL_PAIRS], ids=["one", "three", "all pairs"])


def blocked(outcomes: pd.DataFrame, block=lambda name: name) -> pd.DataFrame:
    """With the blocks of both tasks: each its own, unless said."""
    return outcomes.assign(**{f"{role}_block": outcomes[role].map(block) for role in ("target", "base")})


def study(pairs, seed: int = 0, seeds: int = 2, n_layers=(1, 3), gaps: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up outcomes, a distance of the pair alone, and a score of every n and seed; with ties and gaps."""
    rng = np.random.default_rng(seed)
    cells = list(itertools.product(pairs, n_layers, range(seeds)))
    outcomes = pd.DataFrame(
        [(target, base, n, run, rng.integers(30, 60) / 100, rng.random()) for (target, base), n, run in cells],
        columns=["target", "base", "n_layers", "seed", "AnB", "AnB+"],
    )
    outcomes.loc[rng.choice(len(outcomes), 3 * gaps, replace=False), "AnB"] = np.nan
    rows = [("far", "distance", target, base, None, None, rng.integers(0, 5)) for target, base in pairs]
    rows += [("fit", "score", target, base, n, run, rng.random()) for (target, base), n, run in cells[2 * gaps :]]
    columns = ["measure", "kind", "target", "base", "n_layers", "seed", "value"]
    measures = pd.DataFrame(rows, columns=columns).astype({"n_layers": "Int64", "seed": "Int64", "value": "float64"})
    return blocked(outcomes), measures


def simple(outcome: dict, **measured: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One n and seed; every measure is a score."""
    outcomes = pd.DataFrame(
        [(*pair, 1, 0, value) for pair, value in outcome.items()], columns=["target", "base", "n_layers", "seed", "AnB"]
    )
    rows = [(name, "score", *pair, None, None, value) for name, of in measured.items() for pair, value in of.items()]
    return blocked(outcomes), pd.DataFrame(
        rows, columns=["measure", "kind", "target", "base", "n_layers", "seed", "value"]
    )


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
    # Means that are equal are so to the last bit, too: values here are of size 1.
    return {pair: tuple(np.mean(values, axis=0).round(12)) for pair, values in found.items()}


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


def naive_weights(found, scope) -> dict[tuple[str, str], np.ndarray]:
    """How much each pair counts in the three coefficients: alike, or by the weights of all its terms."""
    weights = {}
    for target in sorted({target for target, _ in found}) if scope == "within target" else [None]:
        group = [pair for pair in found if target in (None, pair[0])]
        if len(group) >= 4:
            best_first = sorted(group, key=lambda pair: found[pair][::-1], reverse=True)
            rank = {pair: 1 + i for i, pair in enumerate(best_first)}
            terms = {one: sum(1 / rank[one] + 1 / rank[other] for other in group if other != one) for one in group}
            for pair in group:
                weights[pair] = np.array([1 / len(group)] * 2 + [terms[pair] / sum(terms.values())])
    return weights


def naive_degrees(squares, blocks) -> np.ndarray:
    """Degrees of freedom of blocks by the squared weights of their pairs: pairs are in one block, or in two."""
    of_block: dict[str, list[np.ndarray]] = {}
    for pair, square in squares.items():
        for block in {blocks(role, name) for role, name in zip(("target", "base"), pair, strict=True)} - {None}:
            of_block.setdefault(block, []).append(square)
    sums = np.array([np.sum(of, axis=0) for of in of_block.values()])
    return np.maximum(1, sums.sum(axis=0) ** 2 / (sums**2).sum(axis=0) - 1)


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
    table = correlations(outcomes, measures, permutations=2)
    assert len(table) == 2 * 2 * 2 * 2 * 3
    for measure, outcome, n in itertools.product(("far", "fit"), ("AnB", "AnB+"), (1, 3)):
        found = naive_pairs(outcomes, measures, measure, outcome, n)
        for scope, expected in naive_correlations(found).items():
            rows = cell(table, measure, outcome, n, scope)
            np.testing.assert_allclose(rows["estimate"], expected, atol=1e-12)
            assert set(rows["pairs"]) == {len(found)}
            assert set(rows["tasks"]) == {len({name for pair in found for name in pair})}


@DESIGNS
def test_intervals_leave_blocks_out_one_by_one_on_the_scale_of_fishers_z(pairs):
    outcomes, measures = study(pairs)
    outcomes = blocked(outcomes, lambda name: f"block{int(name[-1]) // 2}" if name[-1].isdigit() else name)
    table = correlations(outcomes, measures)
    found = naive_pairs(outcomes, measures, "fit", "AnB", 3)
    blocks = {role: outcomes.set_index(role)[f"{role}_block"].to_dict() for role in ("target", "base")}
    joint = pairs is ALL_PAIRS
    assert axes_of(outcomes).joint == joint
    factors = [("target", "base")] if joint else [("base",), ("target",)][: 1 + (pairs is THREE_TARGETS)]
    for scope, whole in naive_correlations(found).items():
        parts = []
        for factor in factors:
            zs = []
            for out in sorted({blocks[role][name] for role in factor for name in blocks[role]}):
                times = lambda role, name, f=factor, o=out: int(not (role in f and blocks[role][name] == o))  # noqa: E731
                zs.append(np.arctanh(naive_correlations(found, times)[scope]))
            k = len(zs)
            squares = {pair: weight**2 for pair, weight in naive_weights(found, scope).items()}
            degrees = naive_degrees(squares, lambda role, name, f=factor: blocks[role][name] if role in f else None)
            parts.append(((k - 1) * np.var(zs, axis=0), degrees, k))
        variance = sum(v for v, _, _ in parts)
        degrees = variance**2 / sum(v**2 / of for v, of, _ in parts)
        half = stats.t.ppf(0.975, degrees) * np.sqrt(variance)
        rows = cell(table, "fit", "AnB", 3, scope)
        np.testing.assert_allclose(rows["low"], np.tanh(np.arctanh(whole) - half), atol=1e-9)
        np.testing.assert_allclose(rows["high"], np.tanh(np.arctanh(whole) + half), atol=1e-9)
        assert set(rows["blocks"]) == {parts[0][2]}
        assert set(rows["target_blocks"].fillna(0)) == {0 if joint else len({target for target, _ in pairs})}


@pytest.mark.parametrize(("pairs", "scope"), [(THREE_TARGETS[:12], "within target"), (TWO_BASES, "pooled")])
def test_two_targets_and_two_bases_have_no_interval(pairs, scope):
    outcomes, measures = study(pairs, seeds=5)
    of_scope = correlations(outcomes, measures).query("scope == @scope")
    assert of_scope["estimate"].notna().all()
    assert of_scope[["low", "high"]].isna().all(axis=None)
    assert (of_scope["p_value"].dropna() > 0.05).any()


def test_a_perfect_order_has_no_interval():
    pairs = {pair: float(i) for i, pair in enumerate(ONE_TARGET)}
    nearly = {**pairs, ONE_TARGET[0]: 1.5}
    table = correlations(*simple(pairs, perfect=pairs, nearly=nearly))
    spearman = table.query("coefficient == 'Spearman' and scope == 'within target'").set_index("measure")
    assert spearman["estimate"].to_dict() == pytest.approx({"perfect": 1.0, "nearly": 1 - 6 * 2 / (9 * 80)})
    assert spearman.loc["perfect", ["low", "high"]].isna().all()
    assert spearman.loc["nearly", "low"] < spearman.loc["nearly", "high"]


def in_twos(name: str) -> str:
    """The block of a task, of two tasks of nearby names each; targets of bases are alone."""
    return str(int(name[-1]) // 2) if name[-1].isdigit() else {"B": "A", "D": "C", "F": "E"}.get(name, name)


@DESIGNS
def test_p_values_count_the_permutations_of_blocks_that_correlate_as_well(pairs):
    # Of three targets gaps would make blocks of unequal sizes, which the naive permutation does not know.
    outcomes, measures = study(pairs, seeds=1, gaps=int(pairs is not THREE_TARGETS))
    block = str if pairs is ONE_TARGET else in_twos
    outcomes = blocked(outcomes, block)
    table = correlations(outcomes, measures, permutations=50, seed=3)
    axes = axes_of(outcomes)
    orders = permuted_blocks(axes, 50, 3)
    assert len(orders) == (50 if pairs is ONE_TARGET else math.factorial(3) - 1)
    exceeded = {"within target": {"far": 0, "fit": 0}, "pooled": {"far": 0, "fit": 0}}
    exceeded_by_any = {scope: dict(of) for scope, of in exceeded.items()}
    estimates = {
        (measure, scope): cell(table, measure, "AnB", 1, scope).loc["Spearman", "estimate"]
        for measure, scope in itertools.product(("far", "fit"), exceeded)
    }
    found = {measure: naive_pairs(outcomes, measures, measure, "AnB", 1) for measure in ("far", "fit")}
    for order in orders:
        permuted = {}
        for measure, of in found.items():
            moved = naive_permuted(of, order, block, list(axes.bases), joint=axes.joint)
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
        assert row["p_value"] == pytest.approx((1 + exceeded[scope][measure]) / (1 + len(orders)))
        assert row["p_adjusted"] == pytest.approx((1 + exceeded_by_any[scope][measure]) / (1 + len(orders)))
    assert table.loc[table["coefficient"] != "Spearman", ["p_value", "p_adjusted"]].isna().all(axis=None)


def naive_permuted(found, order, block, names, *, joint):
    """Both tasks of a pair change places with those of another block; or the blocks of one target's bases do."""
    blocks = sorted({block(name) for name in names})
    members = [[name for name in names if block(name) == one] for one in blocks]
    if joint:
        instead = {a: b for i, own in enumerate(members) for a, b in zip(own, members[order[i]], strict=True)}
        other = {(target, base): (instead[target], instead[base]) for target, base in found}
    else:
        moved = [name for i in np.argsort(order) for name in members[i]]
        other = {}
        for target in {target for target, _ in found}:
            bases = [name for name in names if (target, name) in found]
            taken = [name for name in moved if (target, name) in found]
            other |= {(target, a): (target, b) for a, b in zip(bases, taken, strict=True)}
    return {pair: (found[other[pair]][0], y) for pair, (_, y) in found.items() if other[pair] in found}


def test_orders_that_lack_pairs_rank_those_they_have():
    pairs = [pair for i, pair in enumerate(itertools.permutations("ABCDE", 2)) if i % 5]
    rng = np.random.default_rng(0)
    outcome, measured = (dict(zip(pairs, rng.random(len(pairs)), strict=True)) for _ in range(2))
    rhos = []
    for order in itertools.permutations("ABCDE"):
        instead = dict(zip("ABCDE", order, strict=True))
        other = {(a, b): (instead[a], instead[b]) for a, b in pairs}
        there = [pair for pair in pairs if other[pair] in measured]
        x, y = [measured[other[pair]] for pair in there], [outcome[pair] for pair in there]
        rhos.append(abs(stats.spearmanr(x, y).statistic))
    row = cell(correlations(*simple(outcome, own=measured)), "own", "AnB", 1, "pooled").loc["Spearman"]
    assert row["p_value"] == pytest.approx(np.mean(np.array(rhos) >= rhos[0] - 1e-12))


def test_what_is_in_a_block_stays_together_and_blocks_of_other_sizes_are_spread():
    pairs = [("T", name) for name in ("a1", "a2", "a3", "b1", "c1", "c2")]
    axes = axes_of(blocked(simple(dict.fromkeys(pairs, 0.5))[0], lambda name: name[0]))
    values = np.arange(6.0)[None, :]
    at = np.zeros(6, dtype=np.int64), np.arange(6)
    orders = permuted_blocks(axes, 9, 0)
    assert orders.tolist() == [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    moved = permuted_values(axes, values, *at, orders)
    assert moved[0].tolist() == [0, 1, 2, 5, 3, 3]  # b and c change places
    assert moved[4].tolist() == [4, 5, 5, 3, 0, 2]  # a and c do


def test_where_three_blocks_are_all_there_are_no_p_value_is_small():
    near = {("T", f"{block}{i}"): 10.0 * j + i for j, block in enumerate("abc") for i in range(4)}
    outcomes, measures = simple(near, near=near)
    of = correlations(blocked(outcomes, lambda name: name[0]), measures).query("coefficient == 'Spearman'")
    assert of["estimate"].to_numpy() == pytest.approx(1)
    assert of[["p_value", "p_adjusted"]].to_numpy() == pytest.approx(1 / 6)
    assert set(of["blocks"]) == {3}
    alone = correlations(blocked(outcomes, lambda name: "one"), measures).query("coefficient == 'Spearman'")
    assert (alone[["p_value", "p_adjusted"]] == 1).all(axis=None)


def test_a_task_is_in_one_block():
    outcomes, measures = study(ONE_TARGET)
    outcomes.loc[0, "base_block"] = "another"
    with pytest.raises(ValueError, match=r"base base0 is in the blocks (another, base0|base0, another)"):
        correlations(outcomes, measures)


def test_targets_with_the_same_bases_are_permuted_alike_and_keep_their_own_values():
    names = [("T", "abc"), ("U", "abc"), ("V", "bcd")]
    pairs = [(target, base) for target, bases in names for base in bases]
    axes = axes_of(simple(dict.fromkeys(pairs, 0.5))[0])
    assert not axes.joint
    values = np.arange(12.0).reshape(3, 4)
    targets, bases = np.array([("TUV".index(t), "abcd".index(b)) for t, b in pairs]).T
    moved = permuted_values(axes, values, targets, bases, permuted_blocks(axes, 200, 0))
    for part in (moved[:, :3], moved[:, 6:]):
        assert len({tuple(row) for row in part}) == 6
        assert (np.sort(part, axis=1) == np.sort(part[0])).all()
    assert (moved[:, :3] + 4 == moved[:, 3:6]).all()


def test_tasks_in_both_roles_are_the_same_tasks():
    assert axes_of(study(ALL_PAIRS)[0]).joint
    # Two targets that are also the undialled bases of two large families are not.
    families = [(target, f"{target}{level}") for target in "TU" for level in range(9)] + [("T", "U"), ("U", "T")]
    assert not axes_of(simple(dict.fromkeys(families, 0.5))[0]).joint
    # Two of four in both roles are half of all, and two of five are not.
    half = ["AB", "BA", "AC", "BD"]
    assert axes_of(simple(dict.fromkeys(map(tuple, half), 0.5))[0]).joint
    assert not axes_of(simple(dict.fromkeys(map(tuple, [*half, "AE"]), 0.5))[0]).joint


def test_positive_means_that_the_measure_predicts():
    near = {("T", f"base{i}"): float(i) for i in range(6)}
    outcomes, measures = simple(near, near=near)
    assert correlations(outcomes, measures, permutations=9)["estimate"].to_numpy() == pytest.approx(1)
    distances = measures.assign(kind="distance")
    assert correlations(outcomes, distances, permutations=9)["estimate"].to_numpy() == pytest.approx(-1)


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
        row = cell(correlations(outcomes, measures, permutations=9), "own", "AnB", 1, "pooled").loc["Spearman"]
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
        null = correlations(*family(np.random.default_rng(run), true=False), permutations=99, seed=run)
        unadjusted += (null["p_value"] < 0.05).any()
        adjusted += (null["p_adjusted"] < 0.05).any()
    for run in range(6):
        table = correlations(*family(np.random.default_rng(run), true=True), permutations=99, seed=run)
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
    table = correlations(outcomes, measures, permutations=50)
    for name in ("constant", "unknown", "infinite"):
        rows = table[table["measure"] == name]
        assert rows[["estimate", "low", "high", "p_value", "p_adjusted"]].isna().all(axis=None)
        assert set(rows["pairs"]) == {0}
    assert table.query("measure == 'few' and scope == 'within target'")["estimate"].isna().all()
    assert table.query("measure == 'few' and scope == 'pooled'")["estimate"].isna().all()
    assert (table.query("measure == 'rising'")["estimate"] == 1).all()
    nothing = correlations(outcomes.assign(AnB=np.nan), measures, permutations=50)
    assert nothing["estimate"].isna().all()
    assert list(nothing["pairs"].unique()) == [0]


def test_the_order_of_the_rows_changes_nothing_and_the_seed_only_the_draws():
    outcomes, measures = study(ALL_PAIRS)
    table = correlations(outcomes, measures, permutations=20)
    shuffled = correlations(
        outcomes.sample(frac=1, random_state=1), measures.sample(frac=1, random_state=2), permutations=20
    )
    pd.testing.assert_frame_equal(table, shuffled, check_exact=True)
    outcomes, measures = study(ONE_TARGET)
    table, other = (correlations(outcomes, measures, permutations=20, seed=seed) for seed in (0, 1))
    assert other.drop(columns=["p_value", "p_adjusted"]).equals(table.drop(columns=["p_value", "p_adjusted"]))
    assert not other["p_value"].equals(table["p_value"])


def test_no_rows_give_an_empty_table():
    outcomes, measures = study(ONE_TARGET)
    for table in (
        correlations(outcomes.iloc[:0], measures, permutations=9),
        correlations(outcomes, measures.iloc[:0], permutations=9),
    ):
        assert table.empty
        assert list(table) == list(correlations(outcomes, measures, permutations=9))


def test_contradictory_input_is_named():
    outcomes, measures = study(ONE_TARGET)
    with pytest.raises(ValueError, match=r"outcomes lack the column base_block; they have target, .*AnB"):
        correlations(outcomes.drop(columns="base_block"), measures)
    with pytest.raises(ValueError, match=r"outcomes have none of the columns AnB, AnB\+, boost$"):
        correlations(outcomes.drop(columns=["AnB", "AnB+", "boost"], errors="ignore"), measures)
    with pytest.raises(ValueError, match="measures lack the column kind; they have measure, target"):
        correlations(outcomes, measures.drop(columns="kind"))
    with pytest.raises(ValueError, match=r"more than one row of the same target T, base base0, n_layers 1, seed 0$"):
        correlations(pd.concat([outcomes, outcomes.head(1)]), measures)
    with pytest.raises(ValueError, match="more than one row of the same measure far, target T, base base0"):
        correlations(outcomes, pd.concat([measures, measures.head(1)]))
    with pytest.raises(ValueError, match="measure far is of kind similarity: it is either distance or score"):
        correlations(outcomes, measures.replace({"kind": {"distance": "similarity"}}))
    both = measures.assign(kind=measures["kind"].mask(measures.index == measures.index[-1], "distance"))
    with pytest.raises(ValueError, match="measure fit is of kind score, distance: it is either distance or score"):
        correlations(outcomes, both)
    with pytest.raises(ValueError, match="measure fit has a seed in some rows and none in others"):
        correlations(outcomes, measures.assign(seed=measures["seed"].replace(1, pd.NA)))


def test_bases_whose_means_are_equal_but_for_rounding_tie():
    accuracies = {"a": (0.1, 0.2), "b": (0.15, 0.15), "c": (0.2, 0.1), "d": (0.12, 0.18)}
    assert len({sum(pair) for pair in accuracies.values()}) > 1
    rows = [("T", base, 1, seed, value) for base, pair in accuracies.items() for seed, value in enumerate(pair)]
    outcomes = blocked(pd.DataFrame(rows, columns=["target", "base", "n_layers", "seed", "AnB"]))
    rows = [("of all", "score", "T", base, None, None, float(i)) for i, base in enumerate(accuracies)]
    measures = pd.DataFrame(rows, columns=["measure", "kind", "target", "base", "n_layers", "seed", "value"])
    assert correlations(outcomes, measures, permutations=50)["estimate"].isna().all()
    scores = outcomes.rename(columns={"AnB": "value"}).assign(measure="of seeds", kind="score")
    ordered = outcomes.assign(AnB=outcomes["base"].map({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}))
    at_one = scores.drop(columns="n_layers").assign(n_layers=1)
    assert correlations(ordered, at_one, permutations=50)["estimate"].isna().all()
    tiny = measures.assign(value=measures["value"] * 1e-30)
    assert (correlations(ordered, tiny, permutations=50)["estimate"] == 1).all()  # no measure is taken for rounding
