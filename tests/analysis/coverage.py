"""How often the intervals cover and the tests err: simulated studies, analysed by the functions that reports print.

    python -m tests.analysis.coverage [studies] > tests/analysis/coverage.md

Every interval is of a nominal 95%, and should cover in 92 to 98% of studies; a test that finds something where there is
nothing should do so in at most 5%. Truths of correlations are those of studies with many more blocks. 1,000
studies, the default, leave an error of 0.7 points in a rate of 95%, and take about half an hour on two cores.
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd

from raytransfer.analysis import (
    checkpoint_peaks,
    checkpoint_verdicts,
    correlations,
    curves,
    monotonicity,
    readings,
    treatment_means,
    variance_of_dials,
    variance_of_distances,
)
from raytransfer.analysis.intervals import clustered_t, detectable, student_t
from raytransfer.analysis.selection import predictor_means
from raytransfer.analysis.units import numbers_of, with_units
from raytransfer.analysis.verdicts import Claim, judged

Rng = np.random.Generator
Frames = tuple[pd.DataFrame, pd.DataFrame]
MEASURES = 10


def all_pairs(sizes: tuple[int, ...]) -> Callable[..., Frames]:
    """Every task to every other; tasks of one source share effects as target, as base and between sources."""
    source = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"s{s:03} t{i}" for s, i in zip(source, np.concatenate([np.arange(n) for n in sizes]), strict=True)]
    off = ~np.eye(len(source), dtype=bool)
    pairs = [
        (names[t], names[b], f"s{source[t]:03}", f"s{source[b]:03}") for t, b in zip(*np.nonzero(off), strict=True)
    ]

    def values(rng: Rng) -> np.ndarray:
        k, n = len(sizes), len(source)
        as_target, as_base = rng.normal(size=(2, k))
        between = rng.normal(size=(k, k)) + rng.normal() * np.eye(k)
        found = as_target[source][:, None] + as_base[source][None, :] + between[np.ix_(source, source)]
        return (found + 0.5 * (rng.normal(size=(n, 1)) + rng.normal(size=(1, n)) + rng.normal(size=(n, n))))[off]

    return lambda *how: frames(pairs, values, *how)


def of_dials(levels: tuple[int, ...], targets: int = 1) -> Callable[..., Frames]:
    """Bases that dials make of each target; a dial has a slope over its levels, and the targets deviate from it."""
    dial = np.repeat(np.arange(len(levels)), levels)
    level = np.concatenate([(np.arange(n) + 1) / n for n in levels])
    named = [f"d{d:03} l{i}" for d, i in zip(dial, np.concatenate([np.arange(n) for n in levels]), strict=True)]
    pairs = [(f"t{t}", f"t{t} {name}", f"source {t}", name[:4]) for t in range(targets) for name in named]

    def values(rng: Rng) -> np.ndarray:
        k = len(levels)
        shared = rng.normal(size=k)[dial] * level + 0.5 * rng.normal(size=k)[dial]
        own = 0.5 * rng.normal(size=(targets, k))[:, dial] * level + 0.4 * rng.normal(size=(targets, len(dial)))
        return (shared + own + rng.normal(size=(targets, 1))).ravel()

    return lambda *how: frames(pairs, values, *how)


def frames(
    pairs: list[tuple[str, ...]],
    values: Callable[[Rng], np.ndarray],
    rng: Rng,
    relation: float,
    studies: int,
    many: int,
) -> Frames:
    """Outcomes, and measures that are alike, the first also related to the outcome; every n is a study of its own."""
    rows = pd.DataFrame(pairs * studies, columns=["target", "base", "target_block", "base_block"])
    rows = rows.assign(n_layers=np.repeat(np.arange(studies), len(pairs)))
    drawn = [[values(rng) for _ in range(many + 2)] for _ in range(studies)]
    outcome = np.concatenate([of[0] for of in drawn])
    parts = []
    for i in range(many):
        value = np.concatenate([(of[1] + of[2 + i]) / np.sqrt(2) for of in drawn]) + relation * outcome * (i == 0)
        parts.append(rows.drop(columns="base_block").assign(measure=f"m{i}", kind="score", seed=pd.NA, value=value))
    return rows.assign(seed=0, AnB=outcome), pd.concat(parts, ignore_index=True)


DESIGNS: dict[str, tuple[Callable[[tuple[int, ...]], Callable[..., Frames]], tuple[int, ...]]] = {
    "all pairs, 10 sources of 1 task": (all_pairs, (1,) * 10),
    "all pairs, 6 sources of 2 tasks": (all_pairs, (2,) * 6),
    "all pairs, 4 sources of 2 tasks": (all_pairs, (2,) * 4),
    "all pairs, 3 sources of 2, 2, 4 tasks": (all_pairs, (2, 2, 4)),
    "1 target, 34 bases of 34 sources": (of_dials, (1,) * 34),
    "1 target, 10 dials of 3 levels": (of_dials, (3,) * 10),
    "1 target, 5 dials of 3 levels": (of_dials, (3,) * 5),
    "1 target, dials of 13, 5, 3, 3, 3, 2, 2, 1, 1, 1 levels": (of_dials, (13, 5, 3, 3, 3, 2, 2, 1, 1, 1)),
    "4 targets of 4 sources, 10 dials of 3 levels": (lambda sizes: of_dials(sizes, 4), (3,) * 10),
}
"""How bases are made, and the sizes of their blocks."""


def false_stars(design: str, studies: int) -> float:
    """The share of studies without any relation in which some measure has a star, within targets."""
    make, sizes = DESIGNS[design]
    outcomes, measures = make(sizes)(np.random.default_rng(0), 0.0, studies, MEASURES)
    table = correlations(outcomes, measures, permutations=199)
    within = table[(table["scope"] == "within target") & (table["p_adjusted"] < 0.05)]
    return within["n_layers"].nunique() / studies


def interval_coverage(design: str, relation: float, studies: int) -> dict[str, float]:
    """How often the intervals of a measure cover: of its correlations, and of the variance that it explains."""
    make, sizes = DESIGNS[design]
    larger = sizes * (max(32 // sum(sizes), 3) if make is all_pairs else 20)
    outcomes, measures = make(larger)(np.random.default_rng(1), relation, 10, 2)
    # In one block, nothing is left out.
    big = _estimates(outcomes.assign(target_block="one", base_block="one"), measures)
    truth = big.groupby("of")["estimate"].mean()
    found = _estimates(*make(sizes)(np.random.default_rng(2), relation, studies, 2)).dropna()
    true = found["of"].map(truth)
    rates: dict[str, float] = ((found["low"] <= true) & (true <= found["high"])).groupby(found["of"]).mean().to_dict()
    return rates


def _estimates(outcomes: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """A row for each study and quantity: of (the quantity), estimate, low and high."""
    table = correlations(outcomes, measures[measures["measure"] == "m0"], permutations=1)
    shares = variance_of_distances(outcomes, measures, input_measure="m0", label_measure="m1").rename(
        columns={"share": "estimate"}
    )
    parts = [table.assign(of=table["scope"] + ", " + table["coefficient"]), shares.assign(of="R², " + shares["part"])]
    return pd.concat(parts)[["of", "n_layers", "estimate", "low", "high"]]


def band_coverage(sizes: tuple[int, ...], targets: int, studies: int) -> float:
    """How often the band of a curve covers the line that it is of, at 5 places, for the mean of these targets."""
    rng = np.random.default_rng(3)
    block = np.repeat(np.arange(len(sizes)), sizes)
    pairs = [(f"t{t}", f"b{i:02}", f"t{t}", f"d{block[i]}") for t in range(targets) for i in range(len(block))]
    rows = pd.DataFrame(pairs * studies, columns=["target", "base", "target_block", "base_block"])
    rows = rows.assign(n_layers=np.repeat(np.arange(studies), len(pairs)))
    shape = (studies, targets, len(block))
    x, noise = (rng.normal(size=(studies, 1, len(sizes)))[:, :, block] + 0.5 * rng.normal(size=shape) for _ in range(2))
    level = rng.normal(size=(studies, targets, 1))
    outcomes = rows.assign(seed=0, AnB=(0.5 * x + level + noise).ravel())
    measures = rows.assign(measure="m", kind="score", seed=pd.NA, value=x.ravel())
    bands = curves(outcomes, measures, "m")
    bands = bands[bands.groupby("n_layers").cumcount() % 10 == 5]
    truth = 0.5 * bands["x"] + level.mean(axis=(1, 2))[bands["n_layers"].to_numpy(dtype=int)]
    return float(((bands["low"] <= truth) & (truth <= bands["high"])).mean())


def mean_coverage(sources: tuple[int, ...], seeds: int, shares: tuple[float, float, float], studies: int) -> float:
    """How often the interval of a mean over targets covers, by how variance divides over source, target and seed.

    Of a single source, its own effect and those of its targets are no error: the interval is of these targets alone.
    """
    source = np.repeat(np.arange(len(sources)), sources)
    runs = pd.DataFrame(
        [(f"s{source[t]}", seed) for t, seed in itertools.product(range(len(source)), range(seeds))],
        columns=["target_block", "seed"],
    )
    placed = with_units(runs)
    hits = []
    for study in range(studies):
        rng = np.random.default_rng([4, study])
        parts = [rng.normal(size=(len(sources), 1))[source], rng.normal(size=(len(source), 1))]
        fixed = [np.sqrt(share) * part * (len(sources) > 1) for share, part in zip(shares[:2], parts, strict=True)]
        values = sum(fixed) + np.sqrt(shares[2]) * rng.normal(size=(len(source), seeds))
        interval = clustered_t(values.ravel(), numbers_of(placed))
        hits.append(interval.low <= 0 <= interval.high)
    return float(np.mean(hits))


def grid_coverage(splits: int, seeds: int, shares: tuple[float, float, float], studies: int) -> tuple[float, float]:
    """How often the intervals of the grid of 2014 cover: of a treatment's mean, and of the specificity drop."""
    rng = np.random.default_rng(5)
    places = list(itertools.product(range(studies), range(splits), ("A->B", "B->A"), range(seeds)))
    parts = []
    for treatment in ("BnB", "AnB"):
        shapes = ((studies, splits, 1, 1), (studies, splits, 2, 1), (studies, splits, 2, seeds))
        values = sum(np.sqrt(share) * rng.normal(size=shape) for share, shape in zip(shares, shapes, strict=True))
        rows = pd.DataFrame(places, columns=["n_layers", "split", "direction", "seed"])
        parts.append(rows.assign(split="random" + rows["split"].astype(str), treatment=treatment, top1=values.ravel()))
    results = pd.concat(parts, ignore_index=True).assign(halves="random")
    mean = treatment_means(results).query("treatment == 'AnB'")
    drop = readings(results).query("reading == 'specificity drop'")
    of_mean, of_drop = (((of["low"] <= 0) & (of["high"] >= 0)).mean() for of in (mean, drop))
    return float(of_mean), float(of_drop)


def dials_coverage(seeds: int, shared: float, studies: int) -> dict[str, float]:
    """How often the intervals of the shares of variance over a grid of dials cover.

    Of the noise's variance a share is common to all cells of a seed.
    """
    rng = np.random.default_rng(6)
    levels = list(itertools.product(range(4), range(4)))
    fixed = np.array([0.5 * i + 0.8 * j + 0.15 * i * j for i, j in levels])
    squares = [4 * float(((fixed.reshape(4, 4).mean(axis=axis) - fixed.mean()) ** 2).sum()) for axis in (1, 0)]
    squares.append(float(((fixed - fixed.mean()) ** 2).sum()) - sum(squares))
    rest = 15 * (1 - shared)  # a run's mean over its 16 cells is taken off
    total = sum(squares) + rest
    truth = dict(zip(("input", "label", "interaction"), [square / total for square in squares], strict=True))
    truth["rest"] = rest / total

    names = [f"{i} {j}" for i, j in levels]
    grid = pd.DataFrame(levels, columns=["input_level", "label_level"]).assign(target="T", base=names)
    places = itertools.product(range(studies), range(seeds), names)
    outcomes = pd.DataFrame(places, columns=["n_layers", "seed", "base"])
    parts = (np.sqrt(1 - shared), (studies, seeds, 16)), (np.sqrt(shared), (studies, seeds, 1))
    outcomes["AnB"] = (fixed + sum(scale * rng.normal(size=shape) for scale, shape in parts)).ravel()
    found = variance_of_dials(outcomes.assign(target="T", target_block="s", base_block="d"), grid)
    true = found["part"].map(truth)
    covered = ((found["low"] <= true) & (true <= found["high"])).groupby(found["part"]).mean()
    return {part: float(covered[part]) for part in truth}


def monotonicity_coverage(levels: int, seeds: int, studies: int) -> tuple[float, float]:
    """How often the interval of the rank correlation along a dial covers: on average over slopes, and at the worst.

    A level adds 0 to 1 to a value, by steps of 0.1, under noise of 1. Seeds that all agree have no interval.
    """
    places = list(itertools.product(range(studies), range(seeds), range(levels)))
    rows = pd.DataFrame(places, columns=["n_layers", "seed", "level"])
    rows = rows.assign(target="T", base=rows["level"].astype(str), target_block="s", measure="m", kind="score")
    dial = pd.DataFrame({"level": range(levels)}).assign(target="T", dial="d", kind="input")
    rates = []
    for slope in np.linspace(0, 1, 11):
        rng = np.random.default_rng(6)
        centred = np.arange(levels) - (levels - 1) / 2
        ranks = (slope * centred + rng.normal(size=(50_000, levels))).argsort(axis=1).argsort(axis=1)
        truth = float((ranks @ centred).mean() / (centred**2).sum())
        values = rows.assign(value=slope * rows["level"] + rng.normal(size=len(rows))).drop(columns="level")
        found = monotonicity(values, dial.assign(base=dial["level"].astype(str))).dropna(subset=["low"])
        rates.append(float(((found["low"] <= truth) & (truth <= found["high"])).mean()))
    return float(np.mean(rates)), min(rates)


def wrong_verdicts(units: int, claims: int, studies: int) -> float:
    """The share of studies in which some claim is supported or reversed though none has an effect."""
    wrong = 0
    for study in range(studies):
        values = np.random.default_rng([7, study]).normal(size=(claims, units))
        wrong += judged([_claim(of) for of in values])["verdict"].isin(["supported", "the reverse"]).any()
    return wrong / studies


def wrong_correlations(units: int, bases: int, claims: int, studies: int) -> float:
    """The same where every claim is of a mean of Spearman's ρ over so many bases."""
    levels, wrong = np.arange(bases) - (bases - 1) / 2, 0
    for study in range(studies):
        ranks = np.random.default_rng([10, study]).random((claims, units, bases)).argsort().argsort()
        of_claims = (ranks @ levels) / (levels**2).sum()
        told = judged([_claim(values, "ρ") for values in of_claims])["verdict"]
        wrong += told.isin(["supported", "the reverse"]).any()
    return wrong / studies


def power_at_detectable(units: int, studies: int) -> float:
    """The share of studies that see an effect as large as the detectable one of a spread of 1."""
    spread = np.arange(units) / np.std(np.arange(units), ddof=1)
    effect = detectable(student_t(spread))
    found = 0
    for study in range(studies):
        values = np.random.default_rng([8, study]).normal(effect, 1, size=units)
        found += judged([_claim(values)])["verdict"].item() == "supported"
    return found / studies


def _claim(values: np.ndarray, scale: str = "difference") -> Claim:
    of = {"values": values, "units": np.arange(len(values)), "unit": "seed"}
    return Claim(claim="c", test="t", scale=scale, above=True, **of)


STAGES = {
    "saturates: a factor of e from checkpoint to checkpoint": 20 * (1 - np.exp(-np.arange(12.0))),
    "flat from the second checkpoint on": np.minimum(np.arange(12.0), 1) * 20,
    "nothing happens": np.zeros(12),
    "the first, and falls by 2 points later on": 20 * (1 - np.exp(-np.arange(12.0))) - np.linspace(0, 2, 12),
}
"""Mean curves over 12 checkpoints, in points; every checkpoint has a noise of 1 point."""


def stage_rates(curve: str, units: int, studies: int) -> dict[str, float]:
    """The share of studies that call a rise, and a decline, supported; and whose row has a decline above 0."""
    mean = STAGES[curve]
    found = []
    for study in range(studies):
        rng = np.random.default_rng([9, study])
        rows = [
            ("cosine", "T", "s", "b", seed, "AnB", 3, step, 0.3 + 0.01 * (point + rng.normal()))
            for seed in range(units)
            for step, point in enumerate(mean)
        ]
        columns = [
            "schedule",
            "target",
            "target_block",
            "base",
            "seed",
            "treatment",
            "n_layers",
            "pretrain_step",
            "top1",
        ]
        outcomes = pd.DataFrame(rows, columns=columns)
        verdict = checkpoint_verdicts(outcomes).set_index("claim")["verdict"] == "supported"
        (peak,) = checkpoint_peaks(outcomes, resamples=2).to_dict("records")
        found.append((verdict["AnB rises"], verdict["AnB declines"], peak["decline_low"] > 0))
    return dict(zip(("rises", "declines", "decline_low above 0"), np.mean(found, axis=0).tolist(), strict=True))


def predictor_coverage(sources: tuple[int, ...], checkpoints: int, relation: float, studies: int) -> float:
    """How often the interval of a predictor's mean τ covers, where targets of one source are alike.

    What a checkpoint is worth on a target, and what the predictor says apart from it, are each the source's own (a
    variance of 1) and the target's (of 0.5).
    """
    source = np.repeat(np.arange(len(sources)), sources)

    def taus(rng: Rng, studies: int) -> np.ndarray:
        worth, said = (
            rng.normal(size=(studies, len(sources), checkpoints))[:, source]
            + math.sqrt(0.5) * rng.normal(size=(studies, len(source), checkpoints))
            for _ in range(2)
        )
        i, j = np.triu_indices(checkpoints, 1)
        signs = [np.sign(of[..., i] - of[..., j]) for of in (worth, relation * worth + said)]
        return (signs[0] * signs[1]).mean(axis=-1)

    truth = float(taus(np.random.default_rng(11), 20_000).mean())
    hits = []
    for of_targets in taus(np.random.default_rng(10), studies):
        rows = [("AnB", "p", "score", f"t{t}", f"s{source[t]}", tau, checkpoints) for t, tau in enumerate(of_targets)]
        columns = ["treatment", "predictor", "kind", "target", "target_block", "tau", "checkpoints"]
        row = predictor_means(pd.DataFrame(rows, columns=columns)).iloc[0]
        if np.isfinite(row["low"]):
            hits.append(row["low"] <= truth <= row["high"])
    return float(np.mean(hits))


def _of_design(name: str, studies: int) -> tuple[object, ...]:
    rates = [interval_coverage(name, relation, studies) for relation in (0.0, 1.0)]
    return name, false_stars(name, studies), *(found[key] for found in rates for key in _SHOWN.values())


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Print a Markdown table, a row as soon as it is there."""
    print(f"\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows:
        cells = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row]
        print(f"| {' | '.join(cells)} |", flush=True)


def main(studies: int) -> None:
    """Print all tables."""
    print(f"# How often intervals cover and tests err\n\nMade by `python -m tests.analysis.coverage {studies}`,")
    print(f"{studies:,} simulated studies a number. Intervals are of a nominal 95%; tests should err in at most 5%.")
    print("\n## Correlations, explained variance (blocks left out) and stars (blocks permuted)\n")
    print(f"Some star: of {MEASURES} measures without relation, within targets.")
    with ProcessPoolExecutor() as pool:
        table(
            ("design", "some star", *(f"{name}, {r}" for r in ("no relation", "related") for name in _SHOWN)),
            pool.map(_of_design, DESIGNS, itertools.repeat(studies)),
        )
    print("\n## Bands of curves, over blocks\n")
    bands = (((3,) * 10, 1), ((1,) * 34, 1), ((13, 5, 3, 3, 3, 2, 2, 1, 1, 1), 1), ((3,) * 4, 1), ((3,) * 10, 4))
    table(
        ("sizes of blocks", "targets", "band"),
        ((", ".join(map(str, sizes)), n, band_coverage(sizes, n, studies)) for sizes, n in bands),
    )
    print("\n## Means over targets and seeds\n\nBy the shares of variance that lie between sources, targets and seeds.")
    means = [((2,) * 4, 3), ((2, 3, 3), 3), ((1,) * 4, 2), ((1,), 3), ((1,), 5)]
    table(
        ("targets of each source", "seeds", *(f"{a} / {b} / {c}" for a, b, c in _SHARES)),
        ((", ".join(map(str, of)), n, *(mean_coverage(of, n, share, studies) for share in _SHARES)) for of, n in means),
    )
    print("\n## The grid of 2014, over splits: a treatment's mean, and the specificity drop\n")
    table(
        ("splits × directions × seeds", *(f"{a} / {b} / {c}" for a, b, c in _SHARES)),
        (
            (f"{s} × 2 × {n}", *("{:.2f}, {:.2f}".format(*grid_coverage(s, n, share, studies)) for share in _SHARES))
            for s, n in ((4, 5), (20, 1))
        ),
    )
    print("\n## The grid of dials, over seeds: shares of variance")
    print("\nBy the share of the noise's variance that all cells of a seed have in common.")
    table(
        ("seeds", "noise in common", "input", "label", "interaction", "rest"),
        ((n, share, *dials_coverage(n, share, studies).values()) for share in (0.0, 0.33, 0.9) for n in (3, 5, 10)),
    )
    print("\n## Rank correlation along a dial, over seeds\n")
    print("Of 11 slopes. ρ of a few levels takes few values, so that the rate leaps up and down from slope to slope.")
    table(
        ("levels", "seeds", "mean", "worst slope"),
        ((n, k, *monotonicity_coverage(n, k, studies)) for n in (4, 7) for k in (3, 5, 10)),
    )
    print("\n## Predictors of checkpoints, over sources: mean τ")
    relations = (0.0, 1.0, 2.0)
    table(
        ("targets of each source", "checkpoints", "no relation", "related", "closely related"),
        (
            (", ".join(map(str, of)), n, *(predictor_coverage(of, n, relation, studies) for relation in relations))
            for of in ((1,) * 4, (2,) * 4, (1, 1, 4, 2, 2))
            for n in (4, 8)
        ),
    )
    print("\n## Verdicts: some of 8 wrong; an effect of the detectable size seen by one test (80% is meant)\n")
    table(
        ("units", "some of 8 wrong", "seen", *(f"some of 8 ρ of {k} bases wrong" for k in _BASES)),
        (
            (
                *(n, wrong_verdicts(n, 8, studies), power_at_detectable(n, studies)),
                *(wrong_correlations(n, k, 8, studies) for k in _BASES),
            )
            for n in (3, 4, 8, 20)
        ),
    )
    print("\n## Along pretraining: called supported\n")
    table(
        ("mean curve", "units", "rises", "declines", "decline_low above 0"),
        ((name, n, *stage_rates(name, n, studies).values()) for name in STAGES for n in (4, 6, 12)),
    )


_BASES = (4, 6, 10)
_SHARES = ((0.0, 0.0, 1.0), (0.2, 0.2, 0.6), (0.33, 0.33, 0.34), (0.0, 0.6, 0.4))
_SHOWN = {
    "ρ within": "within target, Spearman",
    "τ within": "within target, Kendall",
    "weighted τ within": "within target, weighted Kendall",
    "ρ pooled": "pooled, Spearman",
    "R²": "R², input",
    "unique R²": "R², unique label",
}

if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
