"""Numbers on the pages of results are those of the rows beside them."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from raytransfer.analysis import (
    boosts,
    comparisons,
    correlations,
    grid_effects,
    monotonicity,
    readings,
    variance_of_dials,
    verdicts,
)
from raytransfer.analysis.intervals import Interval, detectable, holm, p_value, student_t
from raytransfer.analysis.selection import predictor_means, predictors
from raytransfer.config import load_config
from raytransfer.experiments.verdicts import said_effect, verdicts_markdown
from raytransfer.experiments.yosinski import EXPERIMENT
from raytransfer.training import learning_rate
from tests.helpers import ROOT

RESULTS = ROOT / "sweeps" / "results"


def tables(page):
    """The tables of a page: for each the columns' names, and rows of cells."""
    for block in re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        yield head, rows


def section_of(page, heading):
    """What stands below a heading of a page, up to the next one of its second level."""
    return (RESULTS / f"{page}.md").read_text().split(heading)[1].split("\n## ")[0]


def points(text):
    """The numbers of a cell, as fractions."""
    return [float(number.replace("−", "-")) / 100 for number in re.findall(r"[-+−]?\d+\.\d+", text)]


def rounded(numbers):
    """What the numbers of a cell equal if they are these, rounded to a tenth of a point."""
    return pytest.approx(numbers, abs=0.0005 + 1e-9)


def written(interval, digits=1, sign=False):
    """An estimate and its interval as pages have them in a sentence, with a plus before the estimate or without."""
    estimate = f"{interval.estimate:{'+' if sign else ''}.{digits}f}"
    return f"{estimate} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]".replace("-", "−")


@pytest.mark.parametrize(
    ("page", "place", "rows", "halves", "columns"),
    [
        ("digits", 0, "digits_grid", "random", 6),
        ("digits", 1, "digits_twenty_splits", "random", 6),
        ("cifar10", 0, "cifar10_grid", "random", 6),
        ("cifar10", 1, "cifar10_grid", "animals/vehicles", 4),
    ],
)
def test_the_readings_of_a_grid_are_those_of_its_rows(page, place, rows, halves, columns):
    found = readings(pd.read_parquet(RESULTS / "data" / f"{rows}.parquet"))
    found = found[found["halves"] == halves].set_index(["reading", "n_layers"])
    head, rows = list(tables((RESULTS / f"{page}.md").read_text()))[place]
    assert len(head) == 1 + columns
    assert len(rows) == 7
    for n, *cells in rows:
        for reading, cell in zip(head[1:], cells, strict=True):
            expected = found.loc[(reading, int(n)), ["estimate", "low", "high"]].to_list()
            assert points(cell) == rounded(expected)


def test_what_twenty_splits_say_is_what_their_rows_say():
    section, rows = section_of("digits", "## Twenty splits"), RESULTS / "data" / "digits_twenty_splits.parquet"
    found = boosts(pd.read_parquet(rows)).query("averaged == '1-7' and low.notna()").set_index(["of", "over"])
    boost = 100 * found.loc[("AnB+", "baseB"), ["estimate", "low", "high"]].astype(float)
    assert f"AnB+ lies {written(boost)} points over baseB" in section
    over_selffer = 100 * found.loc[("AnB+", "BnB+"), ["estimate", "low", "high"]].astype(float)
    assert f"AnB+ is {over_selffer['estimate']:.1f} [".replace("-", "−") in section
    assert over_selffer["low"] < 0 < over_selffer["high"]
    top1 = 100 * pd.read_parquet(rows).pivot_table(index="split", columns=["treatment", "n_layers"], values="top1")
    mean = pd.concat([top1["AnB+", n] - top1["BnB+", n] for n in range(1, 8)], axis=1).mean(axis=1)
    assert f"not significant (detectable in 4 studies of 5: {detectable(student_t(mean.to_numpy())):.1f})" in section
    lost = [student_t((top1["baseB", 0] - top1["BnB", n]).to_numpy()) for n in range(1, 8)]
    corrected = holm(np.array([p_value(interval) for interval in lost]))
    assert [n for n in range(1, 8) if corrected[n - 1] < 0.05] == [6]
    assert f"alone is significant (p = {corrected[5]:.3f})" in section
    unseen = [detectable(interval) for interval in lost[:4]]
    assert f"(detectable in 4 studies of 5: {min(unseen):.1f} to {max(unseen):.1f})" in section
    of_n = readings(pd.read_parquet(rows)).set_index(["reading", "n_layers"])
    twice, drop = (100 * of_n.loc[name] for name in ("boost over twice the steps", "co-adaptation drop"))
    assert f"at every n, by {-twice['estimate'].max():.1f} to {-twice['estimate'].min():.1f} points" in section
    assert (twice["high"] < 0).all()
    deep = drop.loc[5:]
    assert f"lies {deep['estimate'].min():.1f} to {deep['estimate'].max():.1f} points below" in section
    assert f"exclude zero ({deep['low'].min():.1f} to {deep['high'].max():.1f})" in section
    assert ((drop["low"] > 0) == (drop.index >= 5)).all()


def test_the_recipe_of_2014_drops_its_rate_every_100_000_steps():
    config = load_config(EXPERIMENT.config, EXPERIMENT.defaults, ["preset=imagenet2014", "data=a-folder"])
    recipe = config.recipe
    assert recipe.steps == 450_000
    rates = [learning_rate(recipe, drop + past) for drop in range(100_000, 450_000, 100_000) for past in (-1, 0)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6])


def test_the_recipe_of_today_is_90_epochs_of_ilsvrc12_with_a_warm_up_of_5():
    config = load_config(EXPERIMENT.config, EXPERIMENT.defaults, ["preset=imagenet_resnet50", "data=a-folder"])
    recipe, epoch = config.recipe, 1_281_167 / 256
    assert (recipe.steps, recipe.warmup_steps) == (round(90 * epoch), round(5 * epoch))
    rates = [learning_rate(recipe, step) for step in (recipe.warmup_steps // 2, recipe.warmup_steps, recipe.steps)]
    assert rates == pytest.approx([0.05, 0.1, 0], abs=0.001)
    assert (config.network, config.image_size_px, recipe.crop_px, recipe.crop_area) == (
        "torchvision/resnet50",
        256,
        224,
        0.08,
    )


@pytest.mark.parametrize(
    ("name", "place", "columns"),
    [
        ("digits", 0, [("AnB", 2), ("AnB", 4), ("AnB", 6), ("AnB+", 4), ("AnB+", 6)]),
        ("real", 3, [("AnB", 2), ("AnB", 4), ("AnB", 6), ("AnB+", 2), ("AnB+", 6)]),
    ],
)
def test_the_correlations_of_distances_are_those_of_their_rows(name, place, columns):
    outcomes, measures = (
        pd.read_parquet(RESULTS / "data" / f"distance_{name}_{table}.parquet") for table in ("outcomes", "measures")
    )
    head, rows = list(tables((RESULTS / "distance.md").read_text()))[place]
    assert len(head) == 1 + len(columns)
    compared = [row[0].replace("MMD²", "MMD2") for row in rows]
    found = correlations(outcomes, measures)
    found = found[(found["coefficient"] == "Spearman") & (found["scope"] == "within target")]
    found = found.set_index(["measure", "outcome", "n_layers"])
    for measure, (_, *cells) in zip(compared, rows, strict=True):
        for column, cell in zip(columns, cells, strict=True):
            row = found.loc[(measure, *column)]
            assert points(cell) == pytest.approx([0.01 * row[end] for end in ("estimate", "low", "high")], abs=5.01e-5)
            assert ("*" in cell) == (row["p_adjusted"] < 0.05)


def test_what_is_said_of_scores_on_digits_is_what_the_table_says():
    page = (RESULTS / "distance.md").read_text()
    head, rows = next(tables(page))
    assert head[2:4] == ["4", "6"]
    lows = [points(cell)[1] for row in rows[:5] for cell in row[2:4]]  # frozen transfer at n = 4 and 6
    assert min(lows) > 0
    assert f"LEEP at n = 4 reaches down to {100 * min(lows):.2f}." in page
    at_6 = {row[0]: points(row[3])[0] for row in rows}
    assert [at_6["OTDD of probe"], at_6["Task2Vec"], at_6["MMD² of pixels"]] == [0.0076, 0.0075, 0.0049]


def test_transrate_by_variant_is_what_its_rows_say():
    rows = pd.read_parquet(RESULTS / "data" / "transrate_variants.parquet")
    assert rows["TransRate"].to_numpy() == pytest.approx(rows["brought to one scale, 1e-4"].to_numpy(), rel=1e-9)
    means = rows.drop(columns="seed").groupby(["target", "base"]).mean().round(10)  # equal but for rounding, they tie
    found = means.corr("spearman")["AnB"]
    page = (ROOT / "raytransfer" / "scores" / "README.md").read_text().split("## TransRate by variant")[1]
    assert f"over the {len(means)} bases" in page
    (_, table) = next(tables(page))
    for features, (said, *cells) in zip(("brought to one scale", "as they are"), table, strict=True):
        assert said.startswith(features)
        rhos = [found[f"{features}, {epsilon}"] for epsilon in ("1e-4", "1e-3", "1e-2", "1e-1", "1", "10")]
        assert [cell.strip("*") for cell in cells] == [f"{rho:.2f}".replace("-", "−") for rho in rhos]
    assert f"no labels) has {found['norm alone']:.2f}," in page


def test_what_features_of_other_data_are_worth_is_what_their_rows_say():
    rows = pd.read_parquet(RESULTS / "data" / "distance_real_outcomes.parquet").query("n_layers == 6")
    rows = rows.assign(own=rows["target_block"] == rows["base_block"], over_random=rows["AnB"] - rows["RnB"])
    section = section_of("distance", "## CIFAR-10, Fashion")
    for own, value, said in (
        (False, "over_random", "by {1} points, in each of the four"),
        (True, "over_random", "not differ significantly from random ones ({0}; detectable: {2})"),
        (True, "boost", "from the other half ({0} points at n = 6; detectable: {2})"),
        (False, "boost", "nor from other data ({0}; detectable: {2})"),
    ):
        gains = 100 * rows[rows["own"] == own].groupby("target_block")[value].mean().to_numpy()
        gain, loss = student_t(gains), student_t(-gains)
        assert said.format(written(gain, sign=True), written(loss), f"{detectable(gain):.1f}") in section


def test_how_distances_move_along_dials_is_what_their_rows_say():
    measures = pd.read_parquet(RESULTS / "data" / "distance_digits_measures.parquet").query("kind == 'distance'")
    (target,) = measures["target"].unique()
    dials = [(f"{target} unchanged", dial, 0.0) for dial in DIALS_OF_DIGITS.values()]
    for base in measures["base"].unique():
        option, _, setting = base.removeprefix(f"{target} ").partition("=")
        if option in DIALS_OF_DIGITS and " " not in setting:
            number = float(setting) if re.fullmatch(r"[\d.]+", setting) else 1.0
            level = -number if option in ("shared", "merged", "resolution_px", "shuffle_px") else number
            # By order: no rank depends on how far apart levels are.
            dials.append((base, DIALS_OF_DIGITS[option], level + 100))
    table = pd.DataFrame(dials, columns=["base", "dial", "level"]).assign(target=target, kind=lambda rows: rows["dial"])
    found = monotonicity(measures, table).set_index(["measure", "dial"])
    head, rows = list(tables((RESULTS / "distance.md").read_text()))[1]
    assert set(head[1:]) == set(DIALS_OF_DIGITS.values())
    for measure, *cells in rows:
        for dial, cell in zip(head[1:], cells, strict=True):
            if cell not in ("", "blind"):
                row = found.loc[(measure.replace("MMD²", "MMD2"), dial)]
                if row["levels"] == 2:
                    expected = f"{row['right_way']} of {row['curves']}"
                else:
                    expected = f"{row['estimate']:.2f}"
                    if not np.isnan(row["low"]):
                        expected += f" [{row['low']:.2f}, {row['high']:.2f}]"
                assert cell == expected.replace("-", "−")


DIALS_OF_DIGITS = {
    "blur_px": "blur",
    "inverted": "inverted",
    "noise": "noise",
    "resolution_px": "resolution",
    "shuffle_px": "shuffle",
    "labelling": "other labelling",
    "merged": "merged",
    "split": "split",
    "random_labels": "random labels",
    "shared": "shared",
}
"""The columns of the table of dials, by their options."""


def grid_of(outcomes, side, labels):
    """Where bases stand on the grid of shuffled blocks of an image of ``side`` pixels, and of random labels."""
    named = outcomes[["target", "base"]].drop_duplicates()
    of_input, of_label = (
        named["base"].str.extract(rf"{dial}=([\d.]+)")[0].astype(float) for dial in ("shuffle_px", "random_labels")
    )
    grid = named.assign(input_level=np.log2(side / of_input.fillna(side)), label_level=of_label.fillna(0))
    bare = grid["base"].str.replace(r" (shuffle_px|random_labels)=[\d.]+", "", regex=True)
    grid = grid[bare.isin(grid["target"] + " unchanged") | (bare == grid["target"])]
    return grid[grid["label_level"].isin(labels)]


def explained(outcomes, grid):
    """What the dials of a grid explain of outcomes, and the same in percent as pages have it."""
    shares = variance_of_dials(outcomes, grid).set_index(["outcome", "n_layers", "part"])
    percent = 100 * shares[["eta_squared", "low", "high"]].clip(0, 1)
    told = {place: f"{eta:.0f}% [{low:.0f}, {high:.0f}]" for place, eta, low, high in percent.itertuples(name=None)}
    return shares["eta_squared"], told


def test_what_labels_and_pixels_explain_on_digits_is_what_their_rows_say():
    outcomes = pd.read_parquet(RESULTS / "data" / "distance_digits_outcomes.parquet")
    page = (RESULTS / "distance.md").read_text().replace("\n", " ")
    shares, told = explained(outcomes, grid_of(outcomes, 8, (0, 0.5, 1)))
    at_6, at_4 = ((told["AnB", n, "label"], told["AnB", n, "input"]) for n in (6, 4))
    assert (
        "labels explain {} of the variance of frozen accuracy at n = 6 and pixels {}; at n = 4 {} and {}.".format(
            *at_6, *at_4
        )
        in page
    )
    rests = 100 * shares[[("AnB", 2, "rest"), *(("AnB+", n, "rest") for n in (2, 4, 6))]]
    assert f"is {rests.min():.0f} to {rests.max():.0f}% of it" in page


def test_the_verdicts_on_digits_are_those_of_their_rows():
    effects, rhos, stages = (
        pd.read_parquet(RESULTS / "data" / f"{name}.parquet")
        for name in ("mechanisms_digits_effects", "mechanisms_digits_rhos", "checkpoints_digits_verdicts")
    )
    page = (RESULTS / "liu2019.md").read_text()
    assert f"\n\n{verdicts_markdown(verdicts(effects, rhos))}\n\n" in page
    assert f"\n\n{verdicts_markdown(stages)}\n\n" in page
    twelve = (
        pd.read_parquet(RESULTS / "data" / f"mechanisms_digits_twelve_seeds_{name}.parquet")
        for name in ("effects", "rhos")
    )
    assert f"\n\n{verdicts_markdown(verdicts(*twelve))}\n\n" in page


def test_the_verdicts_along_320_epochs_are_those_of_their_rows():
    page, rows = (RESULTS / "liu2019.md").read_text(), RESULTS / "data"
    told = pd.read_parquet(rows / "checkpoints_digits_long_verdicts.parquet")
    assert f"\n\n{verdicts_markdown(told)}\n\n" in page
    section = page.split("### Pretraining for 320 epochs")[1].split("\n## ")[0]
    peaks = pd.read_parquet(rows / "checkpoints_digits_long_peaks.parquet")
    _, (_, table), *_ = tables(section)
    for peak, cells in zip(peaks.to_dict("records"), table, strict=True):
        assert (int(cells[1]), int(cells[2].split()[0])) == (peak["n_layers"], peak["peak_step"])
        for cell, name in ((cells[3], "rise"), (cells[4], "decline")):
            expected = [peak[key] for key in (name, f"{name}_low", f"{name}_high") if not np.isnan(peak[key])]
            assert points(cell) == rounded(expected)
    means = pd.read_parquet(rows / "checkpoints_digits_long_curves.parquet").set_index(
        ["treatment", "n_layers", "pretrain_step"]
    )["mean"]
    assert f"from {100 * means['AnB+', 6, 0]:.1f}% with six layers" in section
    assert f"to {100 * means['AnB+', 6, 9000]:.1f}% after 9,000 steps" in section


GAIN = ["mechanisms_cifar10_gain", "mechanisms_cifar10_gain_batch_norm"]


IMAGENET = ["mechanisms_imagenet", "mechanisms_imagenet_1000_steps"]


@pytest.mark.parametrize("name", [*GAIN, "mechanisms_real", *IMAGENET])
def test_the_verdicts_on_images_are_those_of_their_rows(name):
    effects = pd.read_parquet(RESULTS / "data" / f"{name}_effects.parquet")
    none = pd.read_parquet(RESULTS / "data" / "mechanisms_digits_rhos.parquet").head(0)  # of two bases
    assert f"\n\n{verdicts_markdown(verdicts(effects, none))}\n\n" in (RESULTS / "liu2019.md").read_text()


def test_the_verdicts_in_short_are_those_of_the_tables_below():
    (head, in_short), *later = tables((RESULTS / "liu2019.md").read_text())
    below = [{claim: told.strip("*").partition(":")[0] for claim, *_, told in rows} for h, rows in later if "p" in h]
    of_networks = [told for told in below if "weights stay near" in told]
    for column, told in enumerate(of_networks, start=1):
        shown = {row[0]: row[column].strip("*") for row in in_short}
        assert shown == {claim: told.get(claim, "–") for claim in shown}
        assert told.keys() <= shown.keys()
    assert len(of_networks) == len(head) - 1


@pytest.mark.parametrize("name", GAIN)
def test_the_gain_on_cifar10_is_that_of_its_rows(name):
    rows = pd.read_parquet(RESULTS / "data" / f"{name}_accuracies.parquet")
    top1 = 100 * rows.pivot(index="seed", columns="network", values="top1")
    page = " ".join((RESULTS / "liu2019.md").read_text().split())
    longer = top1["scratch, 1900 steps"]
    if name == GAIN[0]:
        told = [
            (top1["other classes"] - top1["scratch"], "a gain of {} points"),
            (top1["same classes"] - top1["scratch"], "a base of the same five classes {}, over 8 seeds"),
            (longer - top1["scratch"], "{} points more than for 300, and the other classes still give"),
            (top1["other classes"] - longer, "still give {} points over that"),
        ]
    else:
        assert f"From scratch it reaches {top1['scratch'].mean():.1f}%" in page
        told = [
            (top1["other classes"] - top1["scratch"], "from the other five classes it gains {} points"),
            (top1["same classes"] - top1["scratch"], "and from the same five classes {}, over 8 seeds"),
            (longer - top1["scratch"], "{} points more than for 300, and the other classes give"),
            (top1["other classes"] - longer, "the other classes give {} points over that"),
        ]
    for gains, said in told:
        assert said.format(written(student_t(gains.to_numpy()))) in page


def test_what_batch_normalisation_says_is_what_its_rows_say():
    data = RESULTS / "data"
    here, there, own = (
        pd.read_parquet(data / f"mechanisms_cifar10_gain_batch_norm_{name}.parquet")
        for name in ("effects", "other_effects", "own_statistics_effects")
    )
    none = pd.read_parquet(data / "mechanisms_digits_rhos.parquet").head(0)
    section = section_of("liu2019", "### The same with batch norm")
    told = {
        name: verdicts(effects, none).set_index("claim")
        for name, effects in {
            "here": here,
            "there": there,
            "with its own statistics": own,
            "with those of the images": here,
        }.items()
    }
    compared = [table for table in tables(section) if table[0][-1] in told]
    assert [claim for _, rows in compared for claim, *_ in rows] == told["there"].index.to_list()
    for (_, *machines), rows in compared:
        for claim, *cells in rows:
            assert cells == [said_effect(told[name].loc[claim]) for name in machines]
    for claim in ("smaller generalisation gap", "weights stay near"):
        assert told["here"].loc[claim, "verdict"] == told["there"].loc[claim, "verdict"]
    section = " ".join(section.split())
    found = comparisons(here).set_index(["test", "base"])
    matched = "at matched training loss"
    for test, base, said in (
        (f"filter-normalised trace {matched}", "CIFAR A", "trace is {} times that from scratch"),
        (f"filter-normalised trace {matched}", "unchanged", "(from the same classes {}), the plain trace"),
        (f"trace {matched}", "CIFAR A", "the plain trace and the largest eigenvalue {} and"),
        (f"top eigenvalue {matched}", "CIFAR A", "and {}. At the last step both traces are still smaller"),
        (
            "top eigenvalue at the last step",
            "CIFAR A",
            "and the eigenvalue does not differ significantly ({}; detectable: 1.50)",
        ),
        (
            "spread over stages along training",
            "CIFAR A",
            "they do not differ significantly ({} from the other classes; detectable: 0.04)",
        ),
        ("loss variation at step 0", "CIFAR A", "varies {} times as much as in a fresh network"),
        ("loss variation at step 0", "unchanged", "in a fresh network (from the same classes {})"),
        (
            "first relative projection along training",
            "CIFAR A",
            "it does not differ significantly ({} from the other classes; detectable: 1.61)",
        ),
    ):
        assert said.format(written(found.loc[test, base], 2)) in section
    barriers = pd.read_parquet(data / "mechanisms_cifar10_gain_batch_norm_barriers.parquet")
    of_pairs = barriers.groupby(["network", "starts"])["barrier_nats"]
    for network, starts, said in (
        ("other classes", 1, "meet at a barrier of {} nats"),
        ("same classes", 1, "({} from the same classes), two from scratch"),
        ("scratch", 1, "share their initialisation at {}."),
        ("other classes", 2, "from these the barrier is {}"),
        ("scratch", 2, "and from two initialisations {}."),
    ):
        values = of_pairs.get_group((network, starts)).to_numpy()
        assert said.format(written(student_t(values), 2)) in section


def test_what_denser_looks_on_cifar10_say_is_what_their_rows_say():
    rows = pd.read_parquet(RESULTS / "data" / "mechanisms_cifar10_gain_dense_effects.parquet").set_index("test")
    page = (RESULTS / "liu2019.md").read_text()
    gap, loss_gap, trace = (
        rows.loc[f"{test} at matched training loss"] for test in ("top-1 gap", "loss gap", "filter-normalised trace")
    )
    assert f"from the other classes is {written(gap, 3)} at one loss" in page
    assert f"That of the loss is {written(loss_gap, 2)}" in page
    assert f"with the denser looks {written(trace, 2)} from the other" in page


def test_the_verdicts_on_digits_in_bf16_and_with_more_looks_are_those_of_their_rows():
    data = RESULTS / "data"
    first = verdicts(*(pd.read_parquet(data / f"mechanisms_digits_{name}.parquet") for name in ("effects", "rhos")))
    others = [pd.read_parquet(data / f"mechanisms_digits_{name}_verdicts.parquet") for name in ("bf16", "dense")]
    told = [found.set_index("claim") for found in (first, *others)]
    section = section_of("liu2019", "## Digits again")
    ((_, rows),) = tables(section)
    assert [claim for claim, *_ in rows] == first["claim"].to_list()
    for claim, *cells in rows:
        for found, cell in zip(told, cells, strict=True):
            if cell:
                row = found.loc[claim]
                effect = said_effect(row)
                assert cell in (effect, f"{effect}, p = {row['p_adjusted']:.2g}")
    changed = [claim for claim in first["claim"] if len({found.loc[claim, "verdict"] for found in told[:2]}) > 1]
    assert changed == ["smoother landscape", "nearer when the target is similar"]
    assert "of eight verdicts two change:" in section


def test_random_layers_by_rate_and_norm_are_those_of_their_rows():
    rows = pd.read_parquet(RESULTS / "data" / "cifar10_random_layers.parquet").fillna({"clip_norm": 0})
    table = next(rows for head, rows in tables((RESULTS / "cifar10.md").read_text()) if head[0] == "rate")
    of_setting = rows.groupby(["learning_rate", "clip_norm", "n_layers"])
    seen = 0
    for rate, norm, *cells in table:
        for n, mean, runs in ((5, *cells[:2]), (6, *cells[2:])):
            if mean:
                found = of_setting.get_group((float(rate), 0 if norm == "any" else float(norm), n))
                interval = student_t(found.groupby("split")["top1"].mean().to_numpy())
                assert points(mean) == rounded([interval.estimate, interval.low, interval.high])
                assert runs == f"{100 * found['top1'].min():.0f} to {100 * found['top1'].max():.0f}"
                seen += len(found)
    assert seen == len(rows)


def test_what_other_tasks_give_to_bases_that_have_converged_is_what_their_rows_say():
    rows = pd.read_parquet(RESULTS / "data" / "cifar10_converged.parquet")
    page = (RESULTS / "cifar10.md").read_text()
    top1 = 100 * rows.pivot(index="split", columns="treatment", values="top1")
    table = {name: cell for name, cell, _ in next(found for head, found in tables(page) if head[1] == "3,200 steps")}
    controls = {
        "generalisation boost": "baseB",
        "boost over twice the steps": "baseB-2x",
        "boost over selffer": "BnB+",
    }
    boosts = {control: (top1["AnB+"] - top1[control]).to_numpy() for control in controls.values()}
    for reading, control in controls.items():
        assert table[reading] == written(student_t(boosts[control]), sign=True)
    longer = student_t((top1["baseB-2x"] - top1["baseB"]).to_numpy())
    assert f"gains {written(longer)}" in page
    of_four = [written(student_t(boosts[control][:4]), sign=True) for control in ("baseB-2x", "BnB+")]
    assert "and gave {} and {} over the two controls".format(*of_four) in page
    p_values = [p_value(student_t(boost)) for boost in boosts.values()]
    assert "(Holm) p is {1:.3f} and {2:.3f}".format(*holm(np.array(p_values))) in page
    base = 100 * rows[rows["treatment"] == "baseB"][["top1", "train_top1"]]
    mean, least, most = base.mean(), base["train_top1"].min(), base["train_top1"].max()
    assert f"reach {mean['top1']:.1f}% on test images and {mean['train_top1']:.1f}% ({least:.1f} to {most:.1f})" in page


def test_what_more_images_give_is_what_their_rows_say():
    page, data = (RESULTS / "cifar10.md").read_text(), RESULTS / "data"
    rows, of_few = (pd.read_parquet(data / f"cifar10_{name}.parquet") for name in ("more_images", "converged"))
    many, few = (100 * found.pivot(index="split", columns="treatment", values="top1") for found in (rows, of_few))
    table = next(found for head, found in tables(page) if head[1] == "2,400 images a class")
    seen = []
    for (_, *cells), control in zip(table, ("baseB", "baseB-2x", "BnB+"), strict=True):
        gains, before = (top1["AnB+"] - top1[control] for top1 in (many, few))
        assert cells == [written(student_t(values.to_numpy()), sign=True) for values in (gains, gains - before)]
        seen.append(f"{detectable(student_t(gains.to_numpy())):.1f}")
    assert f"is significant (detectable: {seen[1]} and {seen[2]} points)" in page
    assert f"({written(student_t((many['baseB-2x'] - many['baseB']).to_numpy()))} points here" in page
    grid = (
        pd.read_parquet(data / "cifar10_grid.parquet").query("halves == 'random'").groupby("treatment")["top1"].mean()
    )
    assert f"{100 * (grid['baseB-2x'] - grid['baseB']):.1f} at 800 steps above" in page
    base = 100 * rows[rows["treatment"] == "baseB"][["top1", "train_top1"]].mean()
    assert f"{base['top1']:.1f}% on test images, {base['train_top1']:.1f}% on those" in page


def test_what_cut_gradients_cost_is_what_their_rows_say():
    rows = pd.read_parquet(RESULTS / "data" / "cifar10_norms.parquet").fillna({"clip_norm": 0})
    page = (RESULTS / "cifar10.md").read_text()
    by_norm = {
        norm: 100 * found.pivot(index="split", columns="treatment", values="top1")
        for norm, found in rows.groupby("clip_norm")
    }
    base, tuned = (student_t((by_norm[0][name] - by_norm[1][name]).to_numpy()) for name in ("baseB", "AnB+"))
    assert f"the base loses {written(base)} points" in page
    assert f"and AnB+ at n = 5 {written(tuned)}" in page
    changes = [student_t((by_norm[5][name] - by_norm[0][name]).to_numpy()) for name in ("baseB", "AnB+")]
    told = ", ".join(written(change, sign=True) for change in changes)
    assert "({}; detectable: {:.1f} and {:.1f})".format(told, *map(detectable, changes)) in page


def test_the_grid_with_cut_gradients_is_that_of_its_rows():
    page, data = (RESULTS / "cifar10.md").read_text(), RESULTS / "data"
    rows = pd.read_parquet(data / "cifar10_cut_gradients.parquet")
    found, before = (
        readings(grid[grid["halves"] == "random"]).set_index(["reading", "n_layers"])
        for grid in (rows, pd.read_parquet(data / "cifar10_grid.parquet"))
    )
    random = rows[rows["treatment"] == "RnB"]
    top1 = 100 * random.pivot(index="split", columns="n_layers", values="top1")
    head, table = next((head, cells) for head, cells in tables(page) if "RnB" in head)
    outside = []
    for n, *cells, mean, runs in table:
        for reading, cell in zip(head[1:-2], cells, strict=True):
            expected = found.loc[(reading, int(n))]
            assert points(cell) == rounded(expected[["estimate", "low", "high"]].to_list())
            if not expected["low"] <= before.loc[(reading, int(n)), "estimate"] <= expected["high"]:
                outside.append((reading, n))
        assert mean == written(student_t(top1[int(n)].to_numpy()))
        assert runs == f"{top1[int(n)].min():.0f} to {top1[int(n)].max():.0f}"
    assert sorted(outside) == [("recovery", "5"), ("specificity drop", "5")]
    assert f"training loss is {random['train_loss_nats'].max():.2f} nats" in page
    dip, drop = (student_t((top1[one] - top1[other]).to_numpy()) for one, other in ((5, 6), (4, 5)))
    first = student_t((top1[5] - top1[6])[[f"random{split}" for split in range(6)]].to_numpy())
    assert f"({written(dip, sign=True)}; detectable: {detectable(dip):.1f})" in page
    assert f"that the dip was gone ({written(first, sign=True)})" in page
    assert f"from n = 4 to 5, {written(drop)} points" in page
    means = 100 * rows.pivot(index="split", columns=["treatment", "n_layers"], values="top1")
    twice = pd.concat([means["AnB+", n] - means["baseB-2x", 0] for n in range(1, 8)], axis=1)
    selffer = pd.concat([means["AnB+", n] - means["BnB+", n] for n in range(1, 8)], axis=1)
    assert f"at every n, by {written(student_t(-twice.mean(axis=1).to_numpy()))} points on average" in page
    over_selffer, over_twice = (student_t(of.mean(axis=1).to_numpy()) for of in (selffer, twice))
    corrected = holm(np.array([p_value(over_twice), p_value(over_selffer)]))
    assert f"points on average (p = {corrected[0]:.3f}, corrected for the two controls)" in page
    assert f"{written(over_selffer)} on average (detectable: {detectable(over_selffer):.1f})" in page
    assert [n for n in range(7) if student_t(twice.iloc[:, n].to_numpy()).high < 0] == [0, 1]
    assert (twice.mean() < 0).all()


def test_input_against_label_over_four_data_sets_is_that_of_its_rows():
    outcomes = pd.read_parquet(RESULTS / "data" / "input_label_real_outcomes.parquet")
    page = (RESULTS / "liu2019.md").read_text()
    grid = grid_of(outcomes, 16, (0, 1))
    found = grid_effects(outcomes, grid).set_index(["outcome", "turned", "n_layers"])
    table = next(rows for head, rows in tables(page) if head[-2:] == ["n = 3", "n = 6"])
    names = {"frozen": "AnB", "fine-tuned": "AnB+"}
    for _, what, *cells in table:
        outcome, dial = what.split(", ")
        for n, cell in zip((3, 6), cells, strict=True):
            expected = found.loc[(names[outcome], dial, n), ["mean", "low", "high"]].to_list()
            assert points(cell) == rounded(expected)
    assert len(table) * 2 == len(found)
    loss = -100 * found.loc[("AnB", "label", 6), "mean"]
    assert f"it falls by {loss:.1f} points at n = 6" in page
    ends = outcomes.merge(grid, on=["target", "base"]).pivot_table(
        index=["n_layers", "target_block"], columns=["input_level", "label_level"], values=["AnB", "AnB+"]
    )
    costs = {
        (outcome, n, dial): student_t(100 * (ends.loc[n][outcome][0, 0] - ends.loc[n][outcome][turned]).to_numpy())
        for outcome in ("AnB", "AnB+")
        for n in (3, 6)
        for dial, turned in (("pixels", (4, 0)), ("labels", (0, 1)))
    }
    at_6 = ends.loc[6]["AnB"]
    more = student_t(100 * (at_6[4, 0] - at_6[0, 1]).to_numpy())
    seen = {place: f"{detectable(cost):.1f}" for place, cost in costs.items()}
    assert f"{written(more)} more than with shuffled pixels" in page
    assert (
        f"{costs['AnB', 6, 'pixels'].estimate:.1f} are not significant (detectable: {seen['AnB', 6, 'pixels']})" in page
    )
    assert f"(detectable: {seen['AnB', 3, 'pixels']} for pixels, {seen['AnB', 3, 'labels']} for labels)" in page
    tuned = [seen["AnB+", 3, "pixels"], seen["AnB+", 3, "labels"], seen["AnB+", 6, "labels"]]
    assert "(Detectable: {} points for pixels at n = 3, {} and {} for labels at n = 3 and 6.)".format(*tuned) in page
    _, told = explained(outcomes, grid)
    label, pixels = told["AnB", 6, "label"], told["AnB", 6, "input"]
    assert f"labels explain {label} of the variance over the grid, shuffled pixels {pixels}." in page


def test_transfer_along_200_epochs_of_cifar10_is_that_of_its_rows():
    rows, page = RESULTS / "data", (RESULTS / "liu2019.md").read_text()
    assert f"\n\n{verdicts_markdown(pd.read_parquet(rows / 'checkpoints_cifar10_verdicts.parquet'))}\n\n" in page
    of_seeds = pd.read_parquet(rows / "checkpoints_cifar10_curves.parquet")
    steps = of_seeds.pivot(index=["treatment", "n_layers", "seed"], columns="pretrain_step", values="top1")
    peaks = pd.read_parquet(rows / "checkpoints_cifar10_peaks.parquet").set_index(["treatment", "n_layers"])
    table = next(rows for head, rows in tables(page) if head[-1] == "1,789 to 8,000")
    for arm, n, rise, decline, *cells in table:
        place = {"frozen": "AnB", "fine-tuned": "AnB+"}[arm], int(n)
        for cell, name in ((rise, "rise"), (decline, "decline")):
            expected = peaks.loc[place, [name, f"{name}_low", f"{name}_high"]].dropna().to_list()
            assert points(cell) == rounded(expected)
        for cell, (first, last) in zip(cells, ((400, 1789), (1789, 8000)), strict=True):
            found = student_t((steps.loc[place][last] - steps.loc[place][first]).to_numpy())
            assert points(cell) == rounded([found.estimate, found.low, found.high])
    assert len(table) == len(peaks)
    bases = pd.read_parquet(rows / "checkpoints_cifar10_bases.parquet").set_index(["quantity", "seed"])
    loss = bases.loc["test loss"].pivot(columns="step", values="value")
    grown = student_t((loss[8000] - loss[400]).to_numpy())
    means = f"{loss[400].mean():.2f} nats at step 400 to {loss[8000].mean():.2f} at step 8,000"
    assert f"{means} ({written(grown, 2, sign=True)})" in page


def test_the_gain_of_imagenet_weights_is_that_of_its_rows():
    rows = pd.read_parquet(RESULTS / "data" / "mechanisms_imagenet_accuracies.parquet")
    top1 = 100 * rows.pivot(index="seed", columns="network", values="top1")
    section = " ".join(section_of("liu2019", "## Pretrained on ImageNet").split())
    reached = "Fine-tuned the network reaches {fine-tuned:.1f}% on the test images, from scratch {scratch:.1f}%"
    for gains, said in (
        (top1["fine-tuned"] - top1["scratch"], f"{reached}: a gain of {{}} points"),
        (
            top1["scratch, 1000 steps"] - top1["scratch"],
            "From scratch it then reaches {scratch, 1000 steps:.1f}%, {} points more",
        ),
        (top1["fine-tuned, 1000 steps"] - top1["scratch, 1000 steps"], "fine-tuning gains {} points over that"),
        (top1["fine-tuned"] - top1["scratch, 1000 steps"], "points over that, and for 200 steps {}."),
    ):
        assert said.format(written(student_t(gains.to_numpy())), **top1.mean()) in section
    loss = rows.groupby("network")["train_loss_nats"].mean()
    for said in (
        "(its training loss is {scratch:.2f} nats at the end, and that of the fine-tuned network {fine-tuned:.2f})",
        "at a training loss of {scratch, 1000 steps:.2f} nats",
        "(a training loss of {fine-tuned, 1000 steps:.3f} nats)",
    ):
        assert said.format(**loss) in section


def test_what_is_said_of_imagenet_weights_beside_the_verdicts_is_what_the_rows_say():
    short, long = (
        comparisons(pd.read_parquet(RESULTS / "data" / f"{name}_effects.parquet")).set_index("test")
        for name in IMAGENET
    )
    section = " ".join(section_of("liu2019", "## Pretrained on ImageNet").split())
    for found, test, words in (
        (short, "loss gap at matched training loss", "that of the loss is smaller ({} nats)"),
        (long, "top-1 gap at matched training loss", "both are smaller ({}, and"),
        (long, "loss gap at matched training loss", "and {} nats)"),
        (long, "top-1 gap at the last step", "the top-1 gap is still smaller ({})"),
        (long, "loss gap at the last step", "that of the loss does not differ significantly ({}; detectable: 0.18)"),
        (short, "deviation at the last step", "by plain distance ({} and"),
        (long, "deviation at the last step", "and {})"),
        (short, "loss variation at step 0", "by {} times what it does in a fresh network"),
        (long, "loss variation at step 0", "by {} times what it does in a fresh network"),
    ):
        assert words.format(said_effect(found.loc[test]).replace("-", "−")) in section
    assert round(long.loc["loss gap at the last step", "detectable"], 2) == 0.18
    for found in (short, long):
        highs = found["high"]
        assert max(highs[f"first relative projection {when}"] for when in ("at step 0", "along training")) < 1
        assert max(highs[f"spread over stages {when}"] for when in ("at step 0", "along training")) < 0


def test_smoothness_of_imagenet_weights_is_that_of_its_curves():
    rows = pd.read_parquet(RESULTS / "data" / "mechanisms_imagenet_1000_steps_curves.parquet")
    curves = rows.pivot(index="seed", columns=["quantity", "network", "step"], values="value")
    variation, loss = np.log(curves["loss variation"]), curves["train loss"].mean()
    mean = np.exp(variation.mean())
    section = " ".join(section_of("liu2019", "## Pretrained on ImageNet").split())
    grows, falls = mean["scratch"][[0, 1000]], mean["fine-tuned"][[0, 1000]]
    assert f"the variation grows from {grows[0]:.2f} nats to {grows[1000]:.1f} after 1,000 steps" in section
    assert f"it falls from {falls[0]:.1f} to {falls[1000]:.5f}." in section
    ratio = student_t((variation["fine-tuned"][40] - variation["scratch"][1000]).to_numpy())
    ends = [f"{np.exp(end):.2f}" for end in (ratio.estimate, ratio.low, ratio.high)]
    assert f"at a training loss of {loss['fine-tuned'][40]:.2f} nats" in section
    assert f"its loss varies by {ends[0]} [{ends[1]}, {ends[2]}] times what it does after 1,000 from scratch" in section
    assert f"at {loss['scratch'][1000]:.2f} nats" in section


def test_the_gain_over_four_data_sets_is_that_of_its_rows():
    rows = pd.read_parquet(RESULTS / "data" / "mechanisms_real_accuracies.parquet")
    top1 = 100 * rows.groupby(["source", "network"])["top1"].mean().unstack()
    page = " ".join((RESULTS / "liu2019.md").read_text().split())
    gains = top1[["other classes", "same classes"]].sub(top1["scratch"], axis="index")
    cifar10, others = gains.loc["cifar10"], gains.drop("cifar10")
    assert "(+{:.1f} points from the other classes, +{:.1f} from the same)".format(*cifar10) in page
    ends = [end for name in gains for end in (others[name].min(), others[name].max())]
    assert "+{:.1f} to +{:.1f}, and +{:.1f} to +{:.1f}. Over the four it is".format(*ends) in page
    over = [written(student_t(gains[name].to_numpy()), sign=True) for name in gains]
    assert "Over the four it is {} and {} points".format(*over) in page


def test_rows_are_small_enough_to_keep():
    assert all(file.stat().st_size <= 2_000_000 for file in (RESULTS / "data").iterdir())


def test_the_accuracies_of_which_checkpoint_are_those_of_its_rows():
    rows = pd.read_parquet(RESULTS / "data" / "which_checkpoint.parquet")
    scores = pd.read_parquet(RESULTS / "data" / "which_checkpoint_scores.parquet")
    scores = scores[scores["measure"] == "linear probe"].assign(treatment="linear probe", top1=scores["value"])
    found = pd.concat([rows, scores]).fillna({"n_layers": 0}).groupby(["checkpoint", "treatment", "n_layers"])["top1"]
    intervals = found.apply(lambda top1: student_t(100 * top1.to_numpy()))
    page = (RESULTS / "which_checkpoint.md").read_text()
    (_, table), *_ = tables(page)
    checkpoint, compared = "", 0
    for name, _, what, *cells in table:
        checkpoint = name or checkpoint
        (treatment,) = re.findall(r"\((\w+\+?)\)|(linear probe)", what)
        of = intervals[checkpoint, "".join(treatment)]
        known = [np.isfinite(interval.low) and "linear probe" not in treatment for interval in of]
        expected = [written(i) if has else f"{i.estimate:.1f}" for i, has in zip(of, known, strict=True)]
        assert [cell for cell in cells if cell] == expected
        compared += len(expected)
    assert compared == 4 * (4 * 5 + 1)

    at = {
        treatment: [of.to_list() for _, of in intervals.xs(treatment, level="treatment").groupby("checkpoint")]
        for treatment in ("AnB", "AnB+", "RnB")
    }
    fifths = [of[3].estimate for t in ("AnB", "AnB+") for of in at[t]]
    without = [of[3].estimate for of in at["RnB"]] + [i.estimate for i in intervals.xs("baseB", level="treatment")]
    assert (
        f"{min(fifths):.1f} to {max(fifths):.1f}% right after 100 steps, where training from scratch and frozen random "
        f"layers reach {min(without):.1f} to {max(without):.1f}%."
    ) in page
    paired = rows.pivot(index=["checkpoint", "n_layers", "seed"], columns="treatment", values="top1")
    gains = (100 * (paired["AnB+"] - paired["AnB"])).dropna().groupby(["checkpoint", "n_layers"])
    gains = gains.apply(lambda gain: student_t(gain.to_numpy())).groupby("checkpoint").head(3)
    seen = gains.map(detectable)
    assert f"within {gains.map(lambda gain: abs(gain.estimate)).max():.1f} points" in page
    assert sum(gain.low > 0 or gain.high < 0 for gain in gains) == 1
    assert "One of the twelve intervals excludes zero" in page
    assert f"points of each other (detectable: {seen.min():.1f} to {seen.max():.1f})" in page
    trapped = [of[4].estimate for of in at["AnB"]][:3]
    assert f"right on {min(trapped):.0f} to {max(trapped):.0f}%, though" in page


def test_the_rankings_of_which_checkpoint_are_those_of_its_rows():
    rows = pd.read_parquet(RESULTS / "data" / "which_checkpoint.parquet").query("treatment == 'AnB'")
    scores = pd.read_parquet(RESULTS / "data" / "which_checkpoint_scores.parquet")
    page = (RESULTS / "which_checkpoint.md").read_text()
    worth = rows.groupby(["checkpoint", "n_layers"])["top1"].mean()
    predicted = scores.groupby(["measure", "checkpoint", "n_layers"])["value"].mean()
    taus = {}
    for cut, place in (("four fifths", 3), ("all", 4)):
        known = {measure: of.groupby("checkpoint").nth(place).to_list() for measure, of in predicted.groupby("measure")}
        known["published"] = [0.751, 0.767, 0.776, 0.71878]
        top1 = worth.groupby("checkpoint").nth(place)
        taus[cut] = {name: round(kendalltau(values, top1).statistic, 2) for name, values in known.items()}
    assert (min(taus["all"].values()), max(taus["all"].values())) == (-0.67, 0.33)
    assert "finds it (Kendall's τ −0.67 to 0.33)" in page
    others = dict.fromkeys(("LogME", "H-score", "PARC", "SFDA", "published"), 0.0)
    assert taus["four fifths"] == others | {"linear probe": 0.33, "N-LEEP": -0.33}
    assert "the linear probe has a τ of 0.33, N-LEEP −0.33, and the published accuracy and the other scores 0." in page
    at_four_fifths = rows.sort_values("n_layers").groupby(["checkpoint", "seed"])["top1"].nth(3)
    draws = rows.loc[at_four_fifths.index].pivot(index="seed", columns="checkpoint", values="top1")
    differences = [student_t(100 * (draws[a] - draws[b]).to_numpy()) for a, b in itertools.combinations(draws, 2)]
    assert len(differences) == 6
    assert all(interval.low < 0 < interval.high for interval in differences)
    seen = [detectable(interval) for interval in differences]
    assert (
        f"none of their six differences is significant (detectable: {min(seen):.1f} to {max(seen):.1f} points)" in page
    )
    apart = 100 * worth.groupby("checkpoint").nth(3)
    assert f"the four lie within {apart.max() - apart.min():.1f} points" in page


def test_the_predictors_of_which_checkpoint_are_those_of_their_rows():
    rows = pd.read_parquet(RESULTS / "data" / "which_checkpoint_targets.parquet")
    scores = pd.read_parquet(RESULTS / "data" / "which_checkpoint_targets_scores.parquet")
    names = ["mobilenet_v2", *(f"efficientnet_lite{i}" for i in range(3))]
    accuracies = [0.71878, 0.751, 0.767, 0.776]
    known = pd.DataFrame({"checkpoint": names, "accuracy": accuracies, "parameters": [2.24, 3.38, 4.15, 4.82]})
    page = (RESULTS / "which_checkpoint.md").read_text()
    _, table = list(tables(page))[2]
    compared = 0
    for init, columns in (("network", (1, 2)), ("gaussian", (3, 4))):
        drawn = rows[rows["init"] == init]
        of_draws = scores[scores["seed"].isin(drawn["seed"])]
        found = predictor_means(predictors(drawn, of_draws, known, ["AnB"])).set_index("predictor")
        for cells in table:
            row = found.loc[cells[0].partition(":")[0].partition(",")[0]]
            for column, name in zip(columns, ("tau", "lead"), strict=True):
                ends = (row["low"], row["high"]) if name == "tau" else (row["lead_low"], row["lead_high"])
                interval = Interval(estimate=row[name], low=ends[0], high=ends[1])
                assert cells[column] == ("" if np.isnan(row[name]) else written(interval, digits=2, sign=True))
                compared += 1
    assert compared == 2 * 2 * 8
    alike = rows[rows["init"] == "gaussian"].pivot(index=["target", "seed"], columns="checkpoint", values="top1")
    over = 100 * alike[names[1:]].sub(alike["mobilenet_v2"], axis=0)
    intervals = [student_t(over.loc["cifar10", name].to_numpy()) for name in names[1:]]
    assert "{}, {} and {} points over the mobilenet".format(*map(written, intervals)) in page
    behind = student_t(-over.loc["digits", "efficientnet_lite2"].to_numpy())
    assert f"lite2 lies {written(behind)} points behind it" in page
    unseen = [detectable(student_t(over.loc[t, name].to_numpy())) for t in ("fashion", "mnist") for name in names[1:]]
    assert f"six differences is significant (detectable: {min(unseen):.1f} to {max(unseen):.1f} points)" in page
    drawn = 100 * rows[rows["init"] == "network"].groupby(["target", "checkpoint"])["top1"].mean().unstack()
    first = drawn["mobilenet_v2"] - drawn[names[1:]].max(axis=1)
    assert f"first on every target, by {first.min():.1f} to {first.max():.1f} points" in page
    both = 100 * rows.groupby(["init", "target", "checkpoint"])["top1"].mean().unstack()
    paired = rows.pivot(index=["target", "checkpoint", "seed"], columns="init", values="top1").dropna()
    paired = 100 * (paired["gaussian"] - paired["network"]).unstack("seed")
    gains = {place: student_t(of_seeds.to_numpy()) for place, of_seeds in paired.iterrows()}
    of_large, of_small = ([gains[t, c] for t, c in gains if (c == names[0]) == small] for small in (False, True))
    means = [[interval.estimate for interval in found] for found in (of_large, of_small)]
    above = sum(interval.low > 0 for interval in of_large)
    assert f"the EfficientNets gain {min(means[0]):.1f} to {max(means[0]):.1f} points ({above} of 12 intervals" in page
    seen = [detectable(interval) for interval in of_small]
    small = (
        f"{min(means[1]):.1f} to {max(means[1]):.1f} (detectable: gains of {min(seen):.1f} to {max(seen):.1f})".replace(
            "-", "−"
        )
    )
    assert f"starts so by itself, {small};" in page
    leads = found.dropna(subset="lead")[["lead", "lead_low", "lead_high"]].to_numpy()
    seen = [detectable(Interval(estimate=mean, low=low, high=high, degrees=3)) for mean, low, high in leads]
    assert f"(detectable: leads of {min(seen):.1f} to {max(seen):.1f})" in page
    spread = both.loc["gaussian"].max(axis=1) - both.loc["gaussian"].min(axis=1)
    assert f"lie within {spread.min():.1f} to {spread.max():.1f} points of each other" in page


def test_what_the_start_of_heads_does_is_what_its_rows_say():
    rows = pd.read_parquet(RESULTS / "data" / "which_checkpoint_heads.parquet")
    found = rows.groupby(["checkpoint", "treatment", "init"])["top1"]
    intervals = found.apply(lambda top1: written(student_t(100 * top1.to_numpy())))
    _, table = list(tables((RESULTS / "which_checkpoint.md").read_text()))[1]
    assert len(table) == 4
    for checkpoint, *cells in table:
        assert cells == [intervals[checkpoint, t, init] for t in ("AnB", "AnB+") for init in ("network", "gaussian")]


def test_what_an_earlier_draw_said_of_four_checkpoints_is_what_its_rows_say():
    page = " ".join((RESULTS / "which_checkpoint.md").read_text().split())
    told = page.split("**Run before on another draw of the images**")[1].split("## ")[0]
    now, earlier = (pd.read_parquet(RESULTS / "data" / f"which_checkpoint{name}.parquet") for name in ("", "_earlier"))
    whole = earlier[(earlier["n_layers"] == earlier["depth"] - 1) & (earlier["checkpoint"] != "mobilenet_v2")]
    trapped = 100 * whole.groupby(["treatment", "checkpoint"])["top1"].mean()
    for treatment, words in (("AnB", "frozen"), ("AnB+", "fine-tuned")):
        assert f"{trapped[treatment].min():.1f} to {trapped[treatment].max():.1f}% {words}" in told
    means = [
        100
        * rows[rows["treatment"].isin(["AnB", "AnB+"])].groupby(["treatment", "checkpoint", "n_layers"])["top1"].mean()
        for rows in (earlier, now)
    ]
    higher = (means[0] - means[1]).groupby(["treatment", "checkpoint"]).nth(3)
    assert f"all eight means were {higher.min():.1f} to {higher.max():.1f} points higher" in told
    assert len(higher) == 8
