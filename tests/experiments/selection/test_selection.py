"""Which checkpoint to start from, with checkpoints of the project's own small network on real digits."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from scipy.stats import kendalltau

from raytransfer.analysis.selection import predictor_means, predictors, score_ranks, start_means
from raytransfer.cli import main
from raytransfer.commands.sweeping import _folder
from raytransfer.config import load_config
from raytransfer.errors import UserError
from raytransfer.experiments.selection import EXPERIMENT
from raytransfer.experiments.selection.plan import make_plan, told_apart
from raytransfer.experiments.selection.tables import predictors_table, ranking_table, starts_table
from raytransfer.experiments.weights import checkpoint
from raytransfer.networks import build
from raytransfer.specs import NetworkSpec
from raytransfer.store import Store, read_table
from tests.bad_input.test_data import folders
from tests.helpers import rendered

SHORT = [
    "backend=in-process",
    "seeds=1",
    "n_layers=[0.5, 1.0]",
    "images=40",
    "recipe.steps=6",
    "recipe.warmup_steps=2",
    "recipe.evaluations=1",
    "scores=[LogME, LEEP]",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three checkpoints: two networks of 10 classes, one of them trained a little, and one without a head."""
    folder = tmp_path_factory.mktemp("weights")
    for i, name in enumerate(("one", "two", "headless")):
        state = build(NetworkSpec(name="convnet8"), image=(1, 8, 8), classes=10, seed=i).module.state_dict()
        if name == "headless":
            state = {key: tensor for key, tensor in state.items() if not key.startswith("fc8")}
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, folder / f"{name}.pth")
    return folder


def entries(folder, *names, **more):
    return [
        {
            "network": "convnet8",
            "weights": str(folder / f"{name}.pth"),
            "mean": [0.3],
            "std": [0.4],
            "label": name,
            **more,
        }
        for name in names
    ]


@pytest.fixture
def arguments(tmp_path, cache_dir, files):
    def of(*options, names=("one", "two", "headless"), **more):
        places = [f"out={tmp_path / 'out'}", f"cache_dir={cache_dir}", f"data_dir={tmp_path}"]
        given = {option.partition("=")[0] for option in options}
        usual = [option for option in SHORT if option.partition("=")[0] not in given]
        weights = json.dumps(entries(files, *names, **more)).replace(":", ": ")
        return [*usual, *places, "image_size_px=8", f"weights={weights}", *options]

    return of


def called(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["raytransfer", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_code:
        main()
    captured = capsys.readouterr()
    return exit_code.value.code, captured.out, captured.err


@pytest.mark.usefixtures("no_pictures")
def test_checkpoints_are_read_scored_trained_and_compared(arguments, tmp_path, monkeypatch, capsys):
    code, printed, error = called(monkeypatch, capsys, "run", "selection", *arguments())
    assert (code, error) == (0, "")
    assert "one: 16 tensors matched (key state_dict, prefix module.), with its classifier of 10 classes" in printed
    assert "headless: 14 tensors matched (key state_dict, prefix module.), without a classifier" in printed
    assert "What foretells AnB+ with every layer below the head copied, 3 checkpoints, 1 target" in printed
    store = Store(str(tmp_path / "out"))
    trials, scores = read_table(store, "trials"), read_table(store, "scores")
    assert set(trials["base_task"].dropna()) == {"one", "two", "headless"}
    assert set(trials["n_layers"]) == {0, 4, 7}
    assert len(trials) == 3 * 2 * 2 + 2 + 1  # frozen and fine-tuned; random layers and scratch are one network's
    assert set(scores[scores["measure"] == "LEEP"]["base_task"]) == {"one", "two"}  # which have a head
    (folder,) = (tmp_path / "out" / "sweeps").iterdir()
    assert {file.name for file in folder.iterdir()} >= {"cuts.png", "scores.png", "outcomes.parquet", "means.parquet"}
    code, printed, _ = called(monkeypatch, capsys, "run", "selection", *arguments())
    assert (code, "0 to run" in printed) == (0, True)


@pytest.mark.usefixtures("no_pictures")
def test_only_the_best_are_trained(arguments, tmp_path, monkeypatch, capsys):
    options = arguments("best=1", "treatments=[AnB]", "scores=[LogME]", "n_layers=[1.0]")
    code, _, error = called(monkeypatch, capsys, "run", "selection", *options)
    assert (code, error) == (0, "")
    store = Store(str(tmp_path / "out"))
    values = read_table(store, "scores").set_index("base_task")["value"]
    assert len(values) == 3
    assert set(read_table(store, "trials")["base_task"]) == {values.idxmax()}
    (folder,) = (tmp_path / "out" / "sweeps").iterdir()  # what was scored first has none of its own
    assert set(pd.read_parquet(folder / "places.parquet")["treatment"]) >= {"AnB", "score"}
    assert "4 trials, 0 to run" in called(monkeypatch, capsys, "plan", "selection", *options)[1]
    scored = _folder(EXPERIMENT, make_plan(load_config(EXPERIMENT.config, EXPERIMENT.defaults, options)))
    store.write(f"{scored}/report.html", b"of a sweep that only scores")
    assert called(monkeypatch, capsys, "run", "selection", *options)[0] == 0
    assert store.names(scored) == ["report.html"]


@pytest.mark.usefixtures("no_pictures")
def test_where_every_training_fails_the_scores_are_reported(arguments, tmp_path, monkeypatch, capsys):
    options = arguments("treatments=[AnB]", "scores=[LogME]", "n_layers=[1.0]", "recipe.learning_rate=1e30")
    code, printed, _ = called(monkeypatch, capsys, "run", "selection", *options)
    assert code == 1
    (folder,) = (tmp_path / "out" / "sweeps").iterdir()
    assert f"scores = pd.read_parquet('{folder / 'scores.parquet'}')" in printed
    assert "outcomes" not in printed


@pytest.mark.usefixtures("no_pictures")
def test_without_scores_three_checkpoints_are_compared_all_the_same(arguments, monkeypatch, capsys):
    given = arguments("treatments=[AnB]", "scores=[]", "n_layers=[1.0]")
    code, printed, error = called(monkeypatch, capsys, "run", "selection", *[o for o in given if "images=" not in o])
    assert (code, error) == (0, "")
    assert "scores.parquet" not in printed


def config_of(options):
    return load_config(EXPERIMENT.config, EXPERIMENT.defaults, options)


@pytest.mark.parametrize(
    ("options", "names", "more", "message"),
    [
        ([], ("one", "one"), {}, "weights name one twice: give one of them another label"),
        (["scores=[CKA]"], ("one",), {}, "scores has CKA, which is not known; choose from LogME"),
        (["targets={a: {classes: 3}}"], ("one",), {}, "target a has classes=3: they must be a list"),
        ([], ("one",), {"std": [40.0]}, "must have mean and std together, on a scale of 0..1"),
        ([], ("one",), {"mean": [0.1, 0.2, 0.3]}, "must have mean and std together"),
        ([], ("one",), {"size": 3}, "has the key size: it takes network, network_args, weights"),
        ([], ("gone",), {}, r"weights=gone: .*gone\.pth does not exist"),
        ([], ("one",), {"key": "model"}, "weights=one: key=model is not in"),
        ([], ("one",), {"network": "resnet18"}, "network=resnet18 does not take images of 1x8x8"),
        ([], ("one",), {"accuracy": 71.0}, "has accuracy=71.0: it must lie between 0 and 1"),
        ([], ("one",), {"accuracy": "high"}, "has accuracy=high: it must lie between 0 and 1"),
        (
            ["best=2", "scores=[LogME]"],
            ("one",),
            {},
            "best=2 must not exceed the number of checkpoints: weights name 1",
        ),
        (["best=1", "rank_by=PARC"], ("one",), {}, "rank_by=PARC is none of the scores: LogME, LEEP"),
    ],
)
def test_what_cannot_be_done_is_said_before_training(arguments, options, names, more, message):
    with pytest.raises(UserError, match=message):
        make_plan(config_of(arguments(*options, names=names, **more)))


def test_targets_of_data_sets_that_differ_have_names_of_their_own(arguments, tmp_path):
    for place, count in (("north", 8), ("south", 9)):
        folders(tmp_path / place / "birds", "train", "test", count=count)
    targets = f"targets={{n: {{data: {tmp_path}/north/birds}}, s: {{data: {tmp_path}/south/birds}}}}"
    with pytest.raises(UserError, match=r"north/birds and .*south/birds are different .* both named birds: .* rename"):
        make_plan(config_of(arguments(targets, "train_per_class=8", names=("one",))))


def test_weights_of_one_name_in_two_libraries_have_labels_of_their_own():
    names = ("torchvision/resnet18@default", "timm/resnet18@default", "timm/resnet34@default")
    config = config_of([f"weights=[{','.join(names)}]", "image_size_px=32", "channels=3"])
    assert [entry.label for entry in told_apart([checkpoint(name, config) for name in names])] == [
        "torchvision/resnet18@default",
        "timm/resnet18@default",
        "resnet34@default",
    ]


def test_a_plan_says_that_nothing_is_cut(arguments):
    told = "n_layers=[1] changes nothing: none of the treatments is cut at n"
    for scores, expected in (("[]", True), ("[LogME]", False)):
        given = arguments("treatments=[baseB,linear-probe]", "n_layers=[1]", f"scores={scores}")
        given = [option for option in given if "images=" not in option]  # which are for scores
        assert (told in make_plan(config_of(given)).accounts) == expected


def test_weights_without_a_value_are_asked_for():
    with pytest.raises(UserError, match=r"weights has no value: name the checkpoints, as weights=\["):
        make_plan(config_of([]))


def test_weights_of_a_network_of_ones_own_need_their_normalisation(arguments, files):
    options = [option for option in arguments() if not option.startswith("weights=")]
    with pytest.raises(UserError, match="come with no normalisation: say mean and std"):
        make_plan(config_of([*options, f"weights=[{files / 'one.pth'}]"]))
    plan = make_plan(config_of([*options, f"weights=[{files / 'one.pth'}]", "preprocessing=own"]))
    assert {cell.spec.recipe.normalization for cell in plan.cells if cell.treatment == "AnB"} == {"standard"}


def outcomes_of(rows):
    table = pd.DataFrame(rows, columns=["treatment", "checkpoint", "target", "seed", "n_layers", "top1"])
    return table.astype({"n_layers": "Int64"}).assign(depth=8, target_block=table["target"])


def test_gains_are_paired_by_repeat():
    rng = np.random.default_rng(0)
    level = rng.normal(0.5, 0.1, 4)
    rows = [("baseB", "a", "t", s, None, level[s]) for s in range(4)]
    rows += [("AnB+", "a", "t", s, 7, level[s] + 0.1 + 0.01 * s) for s in range(4)]
    means = start_means(outcomes_of(rows)).set_index("treatment")
    gains = 0.1 + 0.01 * np.arange(4)
    half = 3.182446305284263 * gains.std(ddof=1) / 2  # t(0.975, 3)
    assert means.loc["AnB+", "gain"] == pytest.approx(gains.mean())
    assert means.loc["AnB+", ["gain_low", "gain_high"]].tolist() == pytest.approx(
        [gains.mean() - half, gains.mean() + half]
    )
    assert means.loc["AnB+", "top1_high"] - means.loc["AnB+", "top1_low"] > 5 * half
    fewer = start_means(outcomes_of([row for row in rows if row[3] < 2]))
    assert fewer["gain_low"].isna().all()


def test_headings_say_of_how_few_repeats_and_targets_a_number_is():
    rows = [("baseB", "a", "t", s, None, 0.3) for s in range(3)]
    rows += [("AnB+", "a", "t", s, 7, 0.5) for s in range(1, 6)]
    means = start_means(outcomes_of(rows)).set_index("treatment")
    assert means.loc["AnB+", ["units", "gain_units"]].tolist() == [5, 2]
    assert "mean over 2 to 5 repeats" in "\n".join(rendered(starts_table(means.reset_index(), {"a": 8}), 120))
    taus = [("LogME", f"t{t}", t / 10) for t in range(5)] + [("LEEP", f"t{t}", t / 10) for t in range(2)]
    found = pd.DataFrame(taus, columns=["predictor", "target", "tau"])
    found = found.assign(treatment="AnB", kind="score", target_block=found["target"], checkpoints=4)
    table = "\n".join(rendered(predictors_table(predictor_means(found)), 120))
    assert "4 checkpoints, 2 to 5 targets, 2 to 5 sources" in table
    fewer = predictor_means(found.assign(checkpoints=found["target"].map({"t0": 3}).fillna(4)))
    assert set(fewer["checkpoints"]) == {3}


def test_tables_have_no_empty_column_and_random_layers_are_no_checkpoint_s_cut():
    rows = [("baseB", None, 0.4), ("RnB", 4, 0.9), ("AnB", 4, 0.5), ("AnB+", 4, 0.6)]
    table = outcomes_of([(treatment, "a", "t", 0, n, top1) for treatment, n, top1 in rows])
    lines = rendered(starts_table(start_means(table), {"a": 8}), 120)
    assert lines[1].split() == ["checkpoint", "scratch", "best", "cut", "top-1", "there"]
    assert lines[2].split() == ["a", "40.0", "AnB+,n=4", "60.0"]
    ranks = pd.DataFrame([("a", "LogME", 0.5, 1.0)], columns=["checkpoint", "measure", "value", "rank"])
    for accuracy, shown in ((float("nan"), False), (0.7, True)):
        known = pd.DataFrame([("a", accuracy, 1e6)], columns=["checkpoint", "accuracy", "parameters"])
        table = "\n".join(rendered(ranking_table(ranks, known), 120))
        assert ("published" in table) == shown
        assert "0.500 (1.0)" in table  # as many digits as other values have


def test_tables_have_the_best_checkpoint_on_top_and_frozen_beside_fine_tuned_layers():
    ranks = [("a", "LogME", 0.5, 1.75), ("b", "LogME", 0.25, 1.25), ("a", "kNN", 0.7, 1.5), ("b", "kNN", 0.9, 1.0)]
    ranks = pd.DataFrame(ranks, columns=["checkpoint", "measure", "value", "rank"])
    known = [("a", 0.69758, 11_689_512), ("b", 0.8, 25_557_032)]
    lines = rendered(ranking_table(ranks, pd.DataFrame(known, columns=["checkpoint", "accuracy", "parameters"])), 120)
    assert lines[0] == "Scores before the head, with the mean rank over targets and repeats (1 is best)"
    assert [re.split("  +", line.strip()) for line in lines[1:4]] == [
        ["checkpoint", "published top-1 %", "parameters, M", "LogME", "kNN"],
        ["b", "80.0", "25.6", "0.250 (1.2)", "0.900 (1.0)"],
        ["a", "69.8", "11.7", "0.500 (1.8)", "0.700 (1.5)"],
    ]
    rows = [("AnB", "a", 7, 0.5), ("AnB+", "a", 7, 0.6), ("AnB", "b", 7, 0.8), ("AnB+", "b", 7, 0.7)]
    table = outcomes_of([(treatment, c, "t", seed, n, top1) for treatment, c, n, top1 in rows for seed in range(3)])
    lines = rendered(starts_table(start_means(table), {"a": 8, "b": 8}), 120)
    assert lines[0] == "Top-1 on t, %: mean over 3 repeats [95%]"  # and not of none, with which gains are paired
    assert [re.split("  +", line.strip()) for line in lines[1:4]] == [
        ["checkpoint", "AnB, all", "AnB+, all", "best cut", "top-1 there"],
        ["b", "80.0", "70.0", "AnB,n=7", "80.0"],
        ["a", "50.0", "60.0", "AnB+,n=7", "60.0"],
    ]


def test_predictors_stand_from_the_best_down_with_their_leads():
    taus = {"LogME": (0.5, 0.6, 0.7), "kNN": (0.8, 0.8, 0.9), "parameters": (0.2, 0.2, 0.2)}
    found = pd.DataFrame(
        [(name, t, tau, tau - 0.2) for name, of in taus.items() for t, tau in zip("xyz", of, strict=True)],
        columns=["predictor", "target", "tau", "lead over parameters"],
    )
    kind = np.where(found["predictor"] == "parameters", "baseline", "score")
    found = found.assign(treatment="AnB", kind=kind, target_block=found["target"], checkpoints=4)
    lines = rendered(predictors_table(predictor_means(found)), 120)
    assert [re.split("  +", line.strip()) for line in lines[1:5]] == [
        ["predictor", "kind", "Kendall's τ", "lead over parameters"],
        ["kNN", "score", "+0.83 [0.63,0.93]", "+0.63 [0.49,0.78]"],
        ["LogME", "score", "+0.60 [0.30,0.79]", "+0.40 [0.15,0.65]"],
        ["parameters", "baseline", "+0.20"],
    ]


def test_a_cut_of_fewer_repeats_is_not_the_best():
    level = (0.5, 0.6, 0.7)  # the last draw is an easy one
    rows = [("AnB", "a", "t", s, 4, top1) for s, top1 in enumerate(level)] + [("AnB", "a", "t", 2, 7, 0.65)]
    lines = rendered(starts_table(start_means(outcomes_of(rows)), {"a": 8}), 120)
    assert lines[2].split()[-3:-1] == ["AnB,n=4", "60.0"]


def test_zero_has_no_minus_sign():
    rows = [("baseB", "a", "t", 0, None, 0.5004), ("AnB+", "a", "t", 0, 7, 0.5)]
    lines = rendered(starts_table(start_means(outcomes_of(rows)), {"a": 8}), 120)
    assert "+0.0" in lines[2].split()
    found = pd.DataFrame([("LogME", "t", -0.001)], columns=["predictor", "target", "tau"])
    found = found.assign(treatment="AnB", kind="score", target_block="t", checkpoints=4)
    assert "+0.00" in rendered(predictors_table(predictor_means(found)), 120)[2].split()


def test_the_ends_of_an_interval_have_no_plus():
    gains, taus = (0.1, 0.11, 0.12), (0.5, 0.6, 0.7)
    rows = [("baseB", "a", "t", s, None, 0.5) for s in range(3)]
    rows += [("AnB+", "a", "t", s, 7, 0.5 + gain) for s, gain in enumerate(gains)]
    lines = rendered(starts_table(start_means(outcomes_of(rows)), {"a": 8}), 120)
    assert "+11.0 [8.5,13.5]" in lines[2]
    found = pd.DataFrame(
        [("LogME", f"t{i}", tau) for i, tau in enumerate(taus)], columns=["predictor", "target", "tau"]
    )
    found = found.assign(treatment="AnB", kind="score", target_block=found["target"], checkpoints=4)
    assert "+0.60 [0.30,0.79]" in rendered(predictors_table(predictor_means(found)), 120)[2]


def test_predictors_are_kendalls_tau_beside_baselines_that_look_at_no_image():
    rng = np.random.default_rng(1)
    names, targets = list("abcde"), ["x", "y", "z"]
    accuracy = {(t, c): rng.random() for t in targets for c in names}
    rows = [("AnB", c, t, s, 7, a + 0.01 * s) for (t, c), a in accuracy.items() for s in range(2)]
    rows += [("AnB", c, t, s, 3, rng.random()) for (t, c) in accuracy for s in range(2)]  # another cut: not read
    values = {(t, c): rng.random() for t in targets for c in names}
    scores = pd.DataFrame(
        [("LogME", c, t, 0, n, v if n == 7 else rng.random(), 8) for (t, c), v in values.items() for n in (3, 7)],
        columns=["measure", "checkpoint", "target", "seed", "n_layers", "value", "depth"],
    ).astype({"n_layers": "Int64"})
    known = pd.DataFrame({"checkpoint": names, "accuracy": [0.7, None, 0.8, 0.6, 0.75], "parameters": [5, 4, 3, 2, 1]})
    found = predictors(outcomes_of(rows), scores, known, ["AnB", "AnB+"]).set_index(["predictor", "target"])
    for target in targets:
        truth = [accuracy[target, c] for c in names]
        tau = kendalltau(truth, [values[target, c] for c in names]).statistic
        assert found.loc[("LogME", target), "tau"] == pytest.approx(tau)
        assert found.loc[("parameters", target), "tau"] == pytest.approx(kendalltau(truth, [5, 4, 3, 2, 1]).statistic)
        others = [t for t in targets if t != target]
        ranks = [np.mean([sorted(accuracy[t, d] for d in names).index(accuracy[t, c]) for t in others]) for c in names]
        assert found.loc[("fixed ranking", target), "tau"] == pytest.approx(kendalltau(truth, ranks).statistic)
        assert found.loc[("published accuracy", target), "checkpoints"] == 4
    means = predictor_means(found.reset_index()).set_index("predictor")
    taus = found.loc["LogME", "tau"].to_numpy()
    best = means[means["kind"] == "baseline"]["tau"].idxmax()
    assert means.loc["LogME", "tau"] == pytest.approx(taus.mean())
    assert (means.loc["LogME", "over"], means.loc["LogME", "targets"]) == (best, 3)
    assert means.loc[means["kind"] == "baseline", "over"].isna().all()
    lead = taus - found.loc[best, "tau"].to_numpy()
    assert means.loc["LogME", "lead"] == pytest.approx(lead.mean())
    assert means.loc["LogME", "lead_low"] < lead.mean() < means.loc["LogME", "lead_high"]
    # Equal means tie, though 0.15 + 0.15 is less than 0.1 + 0.2 in the last bit; where all do, there is no order.
    pairs = dict(zip(names, [(0.1, 0.2), (0.15, 0.15), (0.2, 0.1), (0.12, 0.18), (0.0, 0.3)], strict=True))
    level = outcomes_of([("AnB", c, t, s, 7, pairs[c][s]) for t in targets for c in names for s in range(2)])
    assert predictors(level, scores, known, ["AnB"])["tau"].isna().all()
    alike = [("LogME", c, t, s, 7, pairs[c][s], 8) for t in targets for c in names for s in range(2)]
    alike = pd.DataFrame(alike, columns=scores.columns).astype({"n_layers": "Int64"})
    tied = predictors(outcomes_of(rows), alike, known, ["AnB"]).set_index("predictor")
    assert tied.loc["LogME", "tau"].isna().all()
    related = outcomes_of(rows).replace({"target_block": {"y": "x"}})
    of_others = predictors(related, scores, known, ["AnB"]).set_index(["predictor", "target"])["tau"]
    truth, of_z = ([accuracy[t, c] for c in names] for t in ("x", "z"))
    assert of_others["fixed ranking", "x"] == pytest.approx(kendalltau(truth, of_z).statistic)
    one = predictors(related[related["target"] != "z"], scores, known, ["AnB"])
    assert "fixed ranking" not in set(one["predictor"])
    alike = predictor_means(found.reset_index().replace({"target_block": {"y": "x"}})).set_index("predictor")
    assert (alike.loc["LogME", "targets"], alike.loc["LogME", "sources"]) == (3, 2)
    assert np.isnan(alike.loc["LogME", "low"])


def test_checkpoints_are_ranked_on_the_repeats_that_all_have():
    # Each draw of images has a level of its own, and d lacks the easy one.
    level, worth = {0: 0.2, 1: 0.6}, dict(zip("abcd", (0.0, 0.01, 0.02, 0.03), strict=True))
    places = [(c, s) for c in worth for s in level if (c, s) != ("d", 1)]
    rows = [("AnB", c, "t", s, 7, level[s] + worth[c]) for c, s in places]
    columns = ["measure", "checkpoint", "target", "seed", "n_layers", "value", "depth"]
    whole = [("LogME", c, "t", s, 7, level[s] + worth[c], 8) for c in worth for s in level]
    partly = [("kNN", c, "t", s, 7, level[s] + worth[c], 8) for c, s in places]
    scores = pd.DataFrame(whole + partly, columns=columns).astype({"n_layers": "Int64"})
    known = pd.DataFrame({"checkpoint": list(worth), "accuracy": [0.1, 0.2, 0.3, 0.4], "parameters": [1, 2, 3, 4]})
    found = predictors(outcomes_of(rows), scores, known, ["AnB"])
    assert set(found["predictor"]) == {"LogME", "kNN", "published accuracy", "parameters"}
    assert found["tau"].tolist() == pytest.approx([1.0] * 4)
    assert set(found["checkpoints"]) == {4}


def test_the_fixed_ranking_takes_targets_that_have_all_checkpoints():
    # Every target has the same order, and one of them has the two best alone, whose ranks there are 1 and 2.
    places = [(t, c) for t in "xyz" for c in "abcde" if t != "x" or c in "de"]
    rows = [("AnB", c, t, 0, 7, "abcde".index(c) / 10) for t, c in places]
    scores = pd.DataFrame(columns=["measure", "checkpoint", "target", "seed", "n_layers", "value", "depth"])
    known = pd.DataFrame({"checkpoint": list("abcde"), "accuracy": None, "parameters": 1})
    found = predictors(outcomes_of(rows), scores.astype({"n_layers": "Int64"}), known, ["AnB"])
    fixed = found[found["predictor"] == "fixed ranking"].set_index("target")
    assert fixed["tau"].to_dict() == pytest.approx({"y": 1.0, "z": 1.0})
    assert set(fixed["checkpoints"]) == {5}


def test_the_fixed_ranking_ranks_a_target_s_own_checkpoints_alone():
    # Among these three the others' targets have c and d once each before the other; others stand between them once.
    orders = {"x": "cde", "y": "dabce", "z": "cdeab"}
    rows = [("AnB", c, t, 0, 7, i / 10) for t, order in orders.items() for i, c in enumerate(order)]
    scores = pd.DataFrame(columns=["measure", "checkpoint", "target", "seed", "n_layers", "value", "depth"])
    known = pd.DataFrame({"checkpoint": list("abcde"), "accuracy": None, "parameters": 1})
    found = predictors(outcomes_of(rows), scores.astype({"n_layers": "Int64"}), known, ["AnB"])
    tau = found.set_index(["predictor", "target"]).loc[("fixed ranking", "x"), "tau"]
    assert tau == pytest.approx(kendalltau([1, 2, 3], [1.5, 1.5, 3]).statistic)


def test_a_lead_is_of_the_checkpoints_that_score_and_baseline_both_know():
    names = list("abcde")
    rows = [("AnB", c, t, 0, 7, i / 10) for t in ("x", "y") for i, c in enumerate(names)]
    scores = pd.DataFrame(
        [("LogME", c, t, 0, 7, value, 8) for t in ("x", "y") for c, value in zip(names, (1, 2, 3, 5, 4), strict=True)],
        columns=["measure", "checkpoint", "target", "seed", "n_layers", "value", "depth"],
    ).astype({"n_layers": "Int64"})
    # The published accuracies that there are rank three checkpoints rightly, and so does the score.
    known = pd.DataFrame({"checkpoint": names, "accuracy": [0.1, 0.2, 0.3, None, None], "parameters": [5, 4, 3, 2, 1]})
    found = predictors(outcomes_of(rows).assign(target_block="one"), scores, known, ["AnB"])
    row = predictor_means(found).set_index("predictor").loc["LogME"]
    assert row["tau"] == pytest.approx(0.8)
    assert (row["over"], row["checkpoints"], row["lead"]) == ("published accuracy", 5, 0)
    # Of fewer than three that both know there is none.
    few = scores[scores["checkpoint"].isin(["b", "c", "d", "e"])]
    row = predictor_means(predictors(outcomes_of(rows), few, known, ["AnB"])).set_index("predictor").loc["LogME"]
    assert (row["over"], row["checkpoints"]) == ("published accuracy", 4)
    assert np.isnan(row["lead"])


def test_a_grid_takes_weights_in_place_of_base_a(tiny, files):
    from raytransfer.experiments.yosinski.plan import make_plan as grid_plan

    text = json.dumps(entries(files, "one")).replace(":", ": ")
    plan = grid_plan(tiny("treatments=[baseB, BnB, AnB]", f"weights={text}", "image_size_px=8"))
    sources = {c.treatment: {type(c.spec.weights).__name__} for c in plan.cells if c.treatment != "baseB"}
    assert sources == {"BnB": {"Trained"}, "AnB": {"Imported"}}
    assert {c.spec.recipe.channel_mean for c in plan.cells} == {(0.3,)}
    assert list(plan.imports) == [next(c.spec.weights.digest for c in plan.cells if c.treatment == "AnB")]
    two = json.dumps(entries(files, "one", "two")).replace(":", ": ")
    with pytest.raises(UserError, match=r"must be one entry; sweeps/which_checkpoint\.py compares several"):
        grid_plan(tiny(f"weights={two}"))


@pytest.mark.parametrize(("init", "unlike"), [("network", True), ("gaussian", False)])
def test_a_plan_says_that_fresh_heads_start_unlike(init, unlike, arguments, tmp_path):
    timms = []
    for name in ("test_convnext", "test_efficientnet"):
        file = tmp_path / f"{name}.pth"
        torch.save(timm.create_model(name).state_dict(), file)
        timms.append(
            {"network": f"timm/{name}", "weights": str(file), "mean": [0.5] * 3, "std": [0.5] * 3, "label": name}
        )
    replaced = ("image_size_px=", "weights=")
    options = [option for option in arguments("channels=3", f"init={init}") if not option.startswith(replaced)]
    options += ["image_size_px=64", f"weights={json.dumps(timms).replace(':', ': ')}"]
    plan = make_plan(load_config(EXPERIMENT.config, EXPERIMENT.defaults, options))
    said = [account for account in plan.accounts if "heads start unlike" in account]
    assert len(said) == unlike
    if unlike:
        pattern = r"norm of 0\.\d+ \(test_convnext\) to 2\.\d \(test_efficientnet\); .* init=gaussian"
        assert re.search(pattern, said[0])


def test_ranks_of_checkpoints_are_means_over_targets_and_repeats_at_the_last_cut():
    places = [("x", 0), ("x", 1), ("x", 2), ("y", 0)]  # on y all values are larger
    values = {"a": (0.9, 0.2, 0.8, 9.0), "b": (0.5, 0.6, 0.1, 8.0)}
    rows = [("LogME", c, *at, 3, 4, value) for c, of in values.items() for at, value in zip(places, of, strict=True)]
    rows += [("LogME", "b", "x", 0, 2, 4, 99.0)]  # below the last cut
    rows += [("LEEP", "a", "x", 0, None, 4, -1.0)]  # of the whole network
    columns = ["measure", "checkpoint", "target", "seed", "n_layers", "depth", "value"]
    found = score_ranks(pd.DataFrame(rows, columns=columns)).set_index(["measure", "checkpoint"])
    assert found["value"].to_dict() == pytest.approx(
        {("LogME", "a"): 10.9 / 4, ("LogME", "b"): 9.2 / 4, ("LEEP", "a"): -1}
    )
    assert found["rank"].to_dict() == pytest.approx({("LogME", "a"): 5 / 4, ("LogME", "b"): 7 / 4, ("LEEP", "a"): 1})
