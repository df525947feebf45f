"""The library on a real store: tables that join without losing or inventing rows."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

import raytransfer as rt
from raytransfer.cli import main
from raytransfer.distances import DISTANCES
from raytransfer.errors import UserError
from raytransfer.scores import SCORES
from raytransfer.specs import from_json
from raytransfer.specs.treatments import TREATMENTS, treatment_of
from raytransfer.store import Store, publish_failure, read_table, sweep_names

SHORT = ["backend=in-process", "seeds=1", "n_layers=[2,7]", "train_per_class=5"]
SHORT += ["recipe.steps=4", "recipe.warmup_steps=0", "recipe.evaluations=1"]
DISTANCE = ["images=40", "base_per_class=20", "dials={noise: [80]}", "dial_grid=null", "distance_features=[pixels]"]
DISTANCE += ["distances=[MMD2,NTK residual,class overlap]", "scores=[LogME]", "drawn=[MMD2 of pixels]"]
PAIR = ["base_task", "target_task", "seed"]


@pytest.fixture(scope="module")
def store(tmp_path_factory, no_pictures):
    """A store of a grid of several treatments and a sweep of distances."""
    root = tmp_path_factory.mktemp("library")
    places = [f"out={root / 'out'}", f"cache_dir={root / 'cache'}", f"data_dir={root}"]
    grid = ["halves=[random]", "splits=1", "treatments=[baseB,BnB,BnB+,AnB,AnB+,RnB,AnB-LoRA,AnB-preserve1]"]
    with pytest.MonkeyPatch.context() as patch:
        for experiment, options in (("yosinski", grid), ("distance", DISTANCE)):
            # Two cuts of which one leaves no room for a preserved layer: that treatment runs at the other alone.
            patch.setattr("sys.argv", ["raytransfer", "run", experiment, *SHORT, *options, *places])
            with pytest.raises(SystemExit, match="0"):
                main()
    return Store(str(root / "out"))


@pytest.fixture(scope="module")
def results(store):
    return rt.load(store.root)


def test_trainings_have_their_treatment_and_recipe_as_columns(results):
    trials = results.trials
    counts = trials["treatment"].value_counts()
    assert set(counts.index) == {"baseB", "BnB", "BnB+", "AnB", "AnB+", "RnB", "AnB-LoRA", "AnB-preserve1"}
    assert counts["AnB-LoRA"] == 2 * counts["AnB-preserve1"] == 4  # two directions, two cuts
    assert (trials["recipe.steps"] == trials["steps"]).all()
    assert set(trials["recipe.optimizer"]) == {"sgd"}
    copied = trials[trials["treatment"].isin(["BnB", "BnB+"])]
    assert (copied["base_task"] == copied["target_task"]).all()
    assert len(results.curves) == len(trials) == trials["id"].nunique()


def test_every_transfer_joins_with_every_distance_of_its_pair_once(results):
    frozen = results.trials[(results.trials["treatment"] == "AnB") & (results.trials["recipe.batch_size"] > 0)]
    frozen = frozen[frozen["base_task"].isin(results.distances["base_task"])]
    joined = frozen.merge(results.distances, on=PAIR, suffixes=("", "_of_distance"))
    assert len(frozen) == 2 * 2  # bases, cuts
    assert joined.groupby("measure").size().to_dict() == {"MMD2": 4, "NTK residual": 4, "class overlap": 4}


def test_a_sweep_s_tables_have_plain_names_and_name_their_trials(store):
    (folder,) = [name for name in sweep_names(store) if name.startswith("transfer_vs_distance")]
    files = store.names(f"sweeps/{folder}")
    assert not any(" " in name for name in files)
    assert "points-of-MMD2-of-pixels.parquet" in files
    read = {name: pd.read_parquet(f"{store.root}/sweeps/{folder}/{name}.parquet") for name in ("outcomes", "measures")}
    trials = read_table(store, "trials").set_index("id")["top1"]
    for treatment in ("AnB", "AnB+", "RnB", "baseB", "baseA"):
        outcomes = read["outcomes"].dropna(subset=[treatment])
        assert len(outcomes)
        assert (trials[outcomes[f"{treatment}_id"]].to_numpy() == outcomes[treatment]).all()
    measured = pd.concat([read_table(store, name) for name in ("distances", "scores")]).set_index("id")["value"]
    assert (measured[read["measures"]["id"]].to_numpy() == read["measures"]["value"]).all()


def test_symmetric_distances_stand_in_both_directions_and_others_in_one(results):
    pairs = results.distances.groupby("measure").apply(lambda rows: set(zip(*(rows[c] for c in PAIR), strict=True)))
    for measure, directed in pairs.items():
        reversed_too = {(target, base, seed) for base, target, seed in directed}
        assert (directed == reversed_too) == (measure != "NTK residual"), measure
    assert not results.distances.duplicated(["measure", "features", *PAIR]).any()


def test_measures_whose_definition_has_changed_are_left_out_and_measured_anew(store, tmp_path, monkeypatch):
    before = rt.load(store.root)
    for measures, name in ((DISTANCES, "MMD2"), (SCORES, "LogME")):
        monkeypatch.setitem(measures, name, dataclasses.replace(measures[name], revision=measures[name].revision + 1))
    after = rt.load(store.root)
    assert set(before.distances["measure"]) - set(after.distances["measure"]) == {"MMD2"}
    assert len(after.scores) == 0 < len(before.scores)
    places = {"out": store.root, "cache_dir": tmp_path / "cache", "data_dir": tmp_path}
    cells = rt.plan("distance", *SHORT, *DISTANCE, estimate=False, quiet=True, **places).cells
    assert set(cells.loc[cells["state"] == "to run", "measure"]) == {"MMD2 of pixels", "LogME"}


def test_failures_are_a_table(store):
    assert list(rt.load(store.root).failures) == ["id", "error"]
    publish_failure(store, "0123456789abcdef", "ValueError: no")
    assert rt.load(store.root).failures.to_dict("records") == [{"id": "0123456789abcdef", "error": "ValueError: no"}]


def test_an_empty_store_has_empty_tables_and_no_store_is_refused(tmp_path):
    Store(str(tmp_path)).create()
    found = rt.load(str(tmp_path))
    assert all(isinstance(table, pd.DataFrame) and table.empty for table in vars(found).values())
    assert {"treatment", "top1"} <= set(found.trials)
    with pytest.raises(UserError, match=r"is no store of raytransfer: it holds no store\.json"):
        rt.load(str(tmp_path / "none"))


def test_what_the_readme_says_in_python_runs(store, tmp_path, monkeypatch):
    """On a small store in place of its own: what its options ask for is made small, and pictures are drawn."""
    code = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == 2
    small = {option.partition("=")[0]: option.partition("=")[2] for option in SHORT if "recipe" not in option}
    small |= {"recipe": {"steps": 4, "warmup_steps": 0, "evaluations": 1}, "splits": 1, "treatments": "[baseB, AnB]"}
    places = {"cache_dir": str(tmp_path / "cache"), "quiet": True}
    for name in ("run", "plan"):
        full = getattr(rt, name)
        monkeypatch.setattr(rt, name, lambda which, full=full, **options: full(which, **(options | small | places)))
    monkeypatch.chdir(tmp_path)
    Path("results").symlink_to(store.root)
    (folder,) = Path("results/sweeps").glob("yosinski_grid-digits-*")
    names: dict[str, object] = {}
    exec("\n".join(code).replace("yosinski_grid-digits-HASH", folder.name), names)
    assert {"readings", "lines"} <= {*names["sweep"].frames, *names["sweep"].figures}
    assert len(names["trials"]) == len(names["found"].trials)


def test_a_treatment_is_told_from_its_training(results):
    for config, name in zip(results.trials["config"], results.trials["treatment"], strict=True):
        assert treatment_of(from_json(config)) == name
        assert name in TREATMENTS


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        ([{"splits": 2}], {}, r"^\{'splits': 2\} is no option: give options by name, as splits=8, or as text"),
        ([], {"recipe": {"steps": 30}, "recipe.steps": 40}, "^recipe.steps=30 and recipe.steps=40 are both given"),
        ([], {"out": None}, "^out=None has the wrong type: it takes text$"),
        ([], {"cache_dir": None}, "^cache_dir=None has the wrong type: it takes text$"),
    ],
)
def test_options_in_python_are_of_their_kind_and_given_once(overrides, options, message):
    with pytest.raises(UserError, match=message):
        rt.plan("yosinski", *overrides, estimate=False, quiet=True, **options)
    with pytest.raises(UserError, match=r"^\['yosinski'\] is no experiment; choose from yosinski, "):
        rt.plan(["yosinski"])


def test_what_is_not_there_is_said_with_what_is():
    with pytest.raises(
        AttributeError, match="raytransfer has no lod; it has PlannedSweep, Results, Sweep, load, plan, run"
    ):
        _ = rt.lod
