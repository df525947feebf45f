import dataclasses
import re

import pytest
from omegaconf import OmegaConf

from raytransfer.config import DistanceConfig, GridConfig, load_config, options, to_yaml
from raytransfer.errors import UserError
from raytransfer.specs import Recipe

YAML = """
seeds: 3
recipe: {steps: 100, batch_size: 16, learning_rate: 0.1}
per_data:
  digits: {train_per_class: 7, recipe: {pad_px: 2, schedule: step, milestones: [0.5]}}
  cifar10: {recipe: {mirror: true}}
"""


@pytest.fixture
def yaml(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(YAML)
    return path


def test_each_layer_overrides_the_one_before(yaml):
    config = load_config(
        GridConfig, yaml, ["recipe.pad_px=3", "halves=[random,animals/vehicles]", "n_layers=[1,conv3]"]
    )
    assert (config.seeds, config.splits, config.train_per_class) == (3, 2, 7)
    assert config.recipe == Recipe(
        steps=100, batch_size=16, learning_rate=0.1, pad_px=3, schedule="step", milestones=(0.5,)
    )
    assert config.halves == ["random", "animals/vehicles"]
    assert config.n_layers == [1, "conv3"]


def test_values_of_another_data_set_stay_out(yaml):
    config = load_config(GridConfig, yaml, ["data=/somewhere/CIFAR10.parquet"])
    assert (config.train_per_class, config.recipe.mirror, config.recipe.pad_px) == (None, True, 0)


def test_one_way_to_halve_needs_no_list(yaml):
    assert load_config(GridConfig, yaml, ["halves={A: [1, 2], B: [3, 4]}"]).halves == [{"A": [1, 2], "B": [3, 4]}]
    assert load_config(GridConfig, yaml, ["halves=animals/vehicles"]).halves == ["animals/vehicles"]


def test_the_resolved_configuration_starts_the_same_sweep(yaml, tmp_path):
    config = load_config(GridConfig, yaml, ["halves={A: [1, 2], B: [3, 4]}", "slots=2", "recipe.crop_px=6"])
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config))
    assert load_config(GridConfig, again, []) == config


def test_every_option_has_a_meaning(yaml):
    rows = options(GridConfig, yaml, [])
    recipe = {f"recipe.{field.name}" for field in dataclasses.fields(Recipe)}
    own = {field.name for field in dataclasses.fields(GridConfig)} - {"recipe"}
    assert {row.name for row in rows} == recipe | own
    assert all(len(row.meaning) > 10 for row in rows)
    assert {row.name: row.default for row in rows}["recipe.pad_px"] == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sedes=5", "sedes in the command line is no option: did you mean seeds?"),
        ("steps=5", "steps in the command line is no option: did you mean recipe.steps?"),
        ("recipe.step=5", "recipe.step in the command line is no option: did you mean recipe.steps?"),
        ("recipe=5", "recipe in the command line is no option"),
        ("seeds", "seeds is no option: options are given as name=value"),
        ("seeds=two", "seeds=two has the wrong type: it takes a whole number"),
        ("seeds=1.5", "seeds=1.5 has the wrong type: it takes a whole number"),
        ("train_per_class=few", "train_per_class=few has the wrong type: it takes a whole number or null"),
        ("recipe.mirror=maybe", "recipe.mirror=maybe has the wrong type: it takes true or false"),
        ("recipe.milestones=0.5", "recipe.milestones=0.5 has the wrong type: it takes a list of numbers"),
        ("recipe.steps=99999999999999999999", "recipe.steps=99999999999999999999 must lie in 1..2147483647"),
        ("recipe.warmup_steps=101", "recipe.warmup_steps=101 must not exceed recipe.steps=100"),
        ("gpus_per_trial=.inf", "gpus_per_trial=inf must lie above 0 and up to 1, or be whole"),
        ("treatments=[AnB,AnC]", "treatments=AnC is not known; choose from baseB, BnB, BnB+, AnB, AnB+, RnB"),
        ("treatments=[]", "treatments=[] must name at least one"),
        ("treatments=[AnB,AnB]", "must name at least one, each once"),
        ("directions=[A-B]", "directions=A-B is not known; choose from A->B, B->A"),
        ("mode=again", "mode=again is not known; choose from cached, retry, force, read-only"),
        ("backend=slurm", "backend=slurm is not known; choose from ray, in-process"),
        ("init=xavier", "init=xavier is not known; choose from network, kaiming, gaussian"),
        ("recipe.schedule=linear", "recipe.schedule=linear is not known; choose from constant, step, cosine"),
        ("seeds=0", "seeds=0 must lie in 1.."),
        ("recipe.learning_rate=-1", "recipe.learning_rate=-1.0 must be positive and finite"),
        ("recipe.learning_rate=.inf", "recipe.learning_rate=inf must be positive and finite"),
        ("recipe.learning_rate=.nan", "recipe.learning_rate=nan must be positive and finite"),
        ("recipe.momentum=1", "recipe.momentum=1.0 must lie in 0..1"),
        ("recipe.milestones=[0.7,0.3]", "must be fractions of the steps between 0 and 1, ascending"),
        ("gpus_per_trial=1.5", "gpus_per_trial=1.5 must lie above 0 and up to 1, or be whole"),
        ("halves={A: [1", "cannot be read"),
    ],
)
def test_bad_options_are_named(yaml, override, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_config(GridConfig, yaml, [override])
    assert "\n" not in str(error.value)


def test_in_process_runs_one_at_a_time(yaml):
    with pytest.raises(UserError, match="slots=2 must be 1 or null with backend=in-process"):
        load_config(GridConfig, yaml, ["backend=in-process", "slots=2"])


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "bad.yaml"
    with pytest.raises(UserError, match=r"bad\.yaml cannot be read"):
        load_config(GridConfig, path, [])
    path.write_text("seeds: 2\nspilts: 3\n")
    with pytest.raises(UserError, match=r"spilts in bad\.yaml is no option: did you mean splits"):
        load_config(GridConfig, path, [])
    path.write_text("seeds: 2\n")
    with pytest.raises(UserError, match=r"recipe\.batch_size has no value: give recipe\.batch_size="):
        load_config(GridConfig, path, [])
    path.write_text("per_data: {digits: {recipe: {stepz: 3}}}\n")
    with pytest.raises(UserError, match=r"recipe\.stepz in bad\.yaml, per_data\.digits is no option"):
        load_config(GridConfig, path, [])


@pytest.mark.parametrize(("name", "kind"), [("yosinski_grid", GridConfig), ("transfer_vs_distance", DistanceConfig)])
def test_the_sweep_s_own_file_is_sound(request, name, kind):
    path = request.config.rootpath / "sweeps" / f"{name}.yaml"
    content = OmegaConf.load(path)
    assert content.per_data
    for data in content.per_data:
        assert load_config(kind, path, [f"data={data}"]).data == data
    for preset, values in content.get("presets", {}).items():
        assert load_config(kind, path, [f"preset={preset}"]).seeds == values.seeds
