import dataclasses
import re
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from raytransfer.config import load_config, options, plain_yaml, to_yaml
from raytransfer.errors import UserError
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.distance.config import DistanceConfig
from raytransfer.experiments.yosinski.config import GridConfig
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
    assert (config.seeds, config.splits, config.train_per_class) == (3, 4, 7)
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
        ("image_size_px=few", "image_size_px=few has the wrong type: it takes a whole number or null"),
        ("recipe.mirror=maybe", "recipe.mirror=maybe has the wrong type: it takes true or false"),
        ("recipe.milestones=0.5", "recipe.milestones=0.5 has the wrong type: it takes a list of numbers"),
        ("recipe.steps=99999999999999999999", "recipe.steps=99999999999999999999 must lie in 1..2147483647"),
        ("recipe.warmup_steps=101", "recipe.warmup_steps=101 must not exceed recipe.steps=100"),
        ("gpus_per_trial=.inf", "gpus_per_trial=inf must lie in 0.01..1, for a share of a GPU"),
        ("treatments=[AnB,AnC]", "treatments=AnC is not known; choose from baseB, baseB-2x, BnB, BnB+, AnB, AnB+, RnB"),
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
        ("recipe.label_smoothing=1", "recipe.label_smoothing=1.0 must lie in 0..1, 1 left out"),
        ("recipe.clip_norm=0", "recipe.clip_norm=0.0 must be positive and finite"),
        ("recipe.optimizer=adam", "recipe.optimizer=adam is not known; choose from sgd, adamw"),
        ("recipe.beta2=0.99", "recipe.beta2 is given and would change nothing: it takes recipe.optimizer=adamw"),
        ("recipe.milestones=[0.7,0.3]", "must be fractions of the steps between 0 and 1, ascending"),
        (
            "gpus_per_trial=1.5",
            "gpus_per_trial=1.5 must lie in 0.01..1, for a share of a GPU, be a whole",
        ),
        ("gpus_per_trial=1025", "gpus_per_trial=1025 must lie in"),
        ("base_gpus_per_trial=1", "base_gpus_per_trial=1 must lie in 2..1024"),
        ("gpus_per_trial=1e-320", "gpus_per_trial=1e-320 must lie in"),
        ("halves={A: [1", "cannot be read"),
        ("halves=" + 21 * "[" + 21 * "]", "nested more than 20 levels deep"),
        (
            "recipe.lr=0.1",
            "recipe.lr in the command line is no option: did you mean recipe.learning_rate?",
        ),
        ("recipe.min=0.1", "recipe.min in the command line is no option: --help lists them"),
        ("lr=0.1", "lr in the command line is no option: did you mean recipe.learning_rate? --help lists them"),
        ("mir=1", "mir in the command line is no option: --help lists them"),
        ("seeds=007", "seeds='007' has the wrong type: it takes a whole number"),
        ("seeds=1_000", "seeds='1_000' has the wrong type: it takes a whole number"),
        ('seeds="5"', "seeds='5' has the wrong type: it takes a whole number"),
        ("memory_gb=1:30", "memory_gb='1:30' has the wrong type: it takes a number"),
        ("channels=true", "channels=true has the wrong type: it takes a whole number or null"),
        ("recipe.mirror=yes", "recipe.mirror='yes' has the wrong type: it takes true or false"),
        ("recipe.mirror=1", "recipe.mirror=1 has the wrong type: it takes true or false"),
        (
            "recipe.milestones=[0.5, 007]",
            "recipe.milestones=[0.5, '007'] has the wrong type: it takes a list of numbers",
        ),
        ("out=", "out= is empty: give a value"),
        ("slots=", "slots= is empty: give a value, or null"),
        ("seeds=a\nb", "seeds=a b has the wrong type"),
        ("mode=a\nb", r"mode=a\nb is not known"),
        ("out=\udcff", r"out=\udcff is not valid UTF-8"),
        ("cache_dir=a\0b", r"cache_dir=a\x00b holds the character 0, which no name can"),
        ("halves=!!binary aGk=", "!, & and * have no meaning here"),
        ("halves=&a [*a]", "!, & and * have no meaning here"),
        ("halves=" + 1000 * "[", "nested more than 20 levels deep"),
        ("recipe.schedule=step", "recipe.schedule=step drops at recipe.milestones, and there are none"),
        ("out='results'", "out='results' is in quotes of its own: give text as it is, without them"),
        ("out=/x/${USER}", "out=/x/${USER} holds ${...}, which nothing fills in"),
        ("halves=${data}", "halves=${data} holds ${...}, which nothing fills in"),
        ("halves={A: [1, 2], A: [3, 4]}", "A is there twice"),
        ("recipe.gamma=0.5", "recipe.gamma is given and would change nothing: it takes recipe.schedule=step"),
        ("recipe.normalization=own", "recipe.normalization=own is not known; choose from standard, mean, given"),
        (
            "recipe.normalization=given",
            "recipe.normalization=given needs one entry for each channel in both recipe.channel_mean=[] and "
            "recipe.channel_std=[]",
        ),
        ("recipe.channel_mean=0.5", "recipe.channel_mean=0.5 has the wrong type: it takes a list of numbers"),
        ("recipe.channel_mean=[123.7]", "recipe.channel_mean=[123.7] must lie in 0..1: pixels are on that scale"),
        ("recipe.channel_mean=[.nan]", "recipe.channel_mean=[nan] must lie in 0..1"),
        ("recipe.channel_std=[0.2, 0]", "recipe.channel_std=[0.2, 0.0] must lie above 0 and up to 1"),
        ("recipe.channel_std=[58.4]", "recipe.channel_std=[58.4] must lie above 0 and up to 1"),
        (
            "recipe.channel_mean=[0.5]",
            "recipe.channel_mean is given and would change nothing: it takes recipe.normalization=given",
        ),
        ("recipe.channel_std=[0.5]", "recipe.channel_std is given and would change nothing: it takes recipe.normaliz"),
        ("fixed_treatments=[AnB]", "fixed_treatments is given and would change nothing: it takes halves other than"),
        ("recipe.crop_area=0", "recipe.crop_area=0.0 must lie above 0 and below 1: it is a share of an image's area"),
        ("recipe.crop_area=1", "recipe.crop_area=1.0 must lie above 0 and below 1"),
        ("recipe.brightness=1.5", "recipe.brightness=1.5 must lie in 0..1"),
        ("recipe.saturation=-0.1", "recipe.saturation=-0.1 must lie in 0..1"),
        ("recipe.rand_augment=-1", "recipe.rand_augment=-1 must lie in 0..16"),
        ("recipe.rand_augment=1.5", "recipe.rand_augment=1.5"),
        ("recipe.rand_augment_magnitude=31", "recipe.rand_augment_magnitude=31 must lie in 0..30"),
        (
            "recipe.rand_augment_magnitude=5",
            "recipe.rand_augment_magnitude is given and would change nothing: it takes recipe.rand_augment of at least",
        ),
        ("recipe.hue=0.6", "recipe.hue=0.6 must lie in 0..0.5: half of the circle is every hue"),
        ("probe_steps=[0]", "probe_steps is given and would change nothing: it takes probes"),
    ],
)
def test_bad_options_are_named(yaml, override, message):
    arguments = [override, *(["recipe.schedule=cosine"] if "gamma" in override else [])]
    if override == "recipe.schedule=step":
        arguments.append("recipe.milestones=[]")
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_config(GridConfig, yaml, arguments)
    assert "\n" not in str(error.value)


def test_statistics_that_come_with_weights_are_given_for_every_channel(yaml):
    arguments = ["recipe.normalization=given", "recipe.channel_mean=[0.5, 0.4, 0]", "recipe.channel_std=[0.2, 0.3, 1]"]
    recipe = load_config(GridConfig, yaml, arguments).recipe
    assert (recipe.channel_mean, recipe.channel_std) == ((0.5, 0.4, 0.0), (0.2, 0.3, 1.0))
    with pytest.raises(
        UserError, match=r"in both recipe.channel_mean=\[0.5, 0.4, 0.0\] and recipe.channel_std=\[0.2\]$"
    ):
        load_config(GridConfig, yaml, [*arguments[:2], "recipe.channel_std=[0.2]"])
    yaml.write_text(YAML + "presets: {a: {recipe: {channel_mean: [0.5], channel_std: [0.5]}}, b: {recipe: {}}}\n")
    unread, standard = (load_config(GridConfig, yaml, [f"preset={name}"]).recipe for name in "ab")
    assert unread == standard  # what is not read makes no other run


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


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_defaults_of_every_experiment_are_sound(name):
    kind, path = EXPERIMENTS[name].config, EXPERIMENTS[name].defaults
    content = OmegaConf.load(path)
    assert load_config(kind, path, []).out == "results"
    for data in content.get("per_data", {}):
        assert load_config(kind, path, [f"data={data}"]).data == data
    for preset, values in content.get("presets", {}).items():
        assert load_config(kind, path, [f"preset={preset}"]).seeds == values.seeds


@pytest.mark.parametrize(
    "text",
    ["2024_11_26", "0123", "/x/a #b", "1e3", "yes", "1:30", "2024-11-26", "[a]", "{a: 1}", "a: b", "~", "null", "-"],
)
def test_text_is_taken_as_it_stands(yaml, text):
    config = load_config(GridConfig, yaml, [f"out={text}", f"data={text}", f"data_dir={text}"])
    assert (config.out, config.data, config.data_dir) == (text, text, text)
    assert load_config(GridConfig, yaml, [f"label_column={text}"]).label_column == (None if text == "null" else text)


def test_text_in_a_file_is_text(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "out: 2024_11_26\ndata: 0123\ndata_dir: 1.50\nrecipe: {steps: 10, batch_size: 2, learning_rate: 1e-3}\n"
        "presets: {a: {data: 007, label_column: null}}\n"
    )
    config = load_config(GridConfig, path, [])
    assert (config.out, config.data, config.data_dir) == ("2024_11_26", "0123", "1.50")
    assert config.recipe.learning_rate == 0.001
    assert load_config(GridConfig, path, ["preset=a"]).data == "007"


def test_what_is_no_plain_number_is_a_word(yaml):
    given = "halves={A: [007, 1_000, 1:30, no, 2024-11-26], B: [1e1, 0x1f, -3, .5, true, null]}"
    (halves,) = load_config(GridConfig, yaml, [given]).halves
    assert halves["A"] == ["007", "1_000", "1:30", "no", "2024-11-26"]
    assert halves["B"] == [10.0, "0x1f", -3, 0.5, True, None]
    assert (
        load_config(GridConfig, yaml, ["treatments=[baseB]", "recipe.learning_rate=1e-3"]).recipe.learning_rate == 1e-3
    )


def test_the_command_line_wins_over_what_the_file_narrows(request):
    path = EXPERIMENTS["yosinski"].defaults
    halves = "halves={A: [0,1,2,3,4], B: [5,6,7,8,9]}"
    config = load_config(GridConfig, path, [halves, "treatments=[baseB,AnB,AnB+]"])
    assert config.treatments == ["baseB", "AnB", "AnB+"]
    assert config.fixed_treatments is None
    both = load_config(GridConfig, path, ["treatments=[baseB,AnB]", "fixed_treatments=[baseB]"])
    assert both.treatments == ["baseB", "AnB"]
    assert both.fixed_treatments == ["baseB"]
    assert load_config(GridConfig, path, []).fixed_treatments == ["baseB", "AnB", "RnB"]
    path = EXPERIMENTS["distance"].defaults
    config = load_config(DistanceConfig, path, ["tasks={cats: {classes: A}, dogs: {classes: B}}"])
    assert (config.targets, config.bases) == ("all", "all")
    assert load_config(DistanceConfig, path, ["tasks={a: {}, b: {}}", "bases=[b]"]).bases == ["b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seeds=2", "seeds=3"], "seeds=2 and seeds=3 are both given: choose one"),
        (["out=a", "out=b"], "out=a and out=b are both given: choose one"),
        (["preset=a", "preset=b"], "preset=a and preset=b are both given: choose one"),
        (["preset=a", "data=digits"], "preset=a is of data=cifar10, and data=digits is given"),
        (["halves=[animals/vehicles]", "splits=3"], "splits is given and would change nothing: it takes halves that"),
        (
            ["recipe.crop_area=0.1", "recipe.pad_px=1"],
            "recipe.pad_px is given and would change nothing: it takes",
        ),
        (["recipe.schedule=cosine", "recipe.milestones=[0.5]"], "recipe.milestones is given and would change nothing"),
        (["seeds=1", "seeds=true"], "seeds=1 and seeds=true are both given: choose one"),
        (
            ["halves={A: [0, 1], B: [2, 3]}", "treatments=[AnB]", "fixed_treatments=[baseB]"],
            "treatments is given and would change nothing: it takes halves that are random, or no fixed_treatments",
        ),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(yaml, arguments, message):
    yaml.write_text(YAML + "presets: {a: {data: cifar10}, b: {seeds: 1}}\n")
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(GridConfig, yaml, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preset=real", "data=digits"], "data is given and would change nothing: it takes a task without data of its"),
        (["tasks={a: {data: mnist}}", "data=fashion"], "data is given and would change nothing"),
        (["drawn=[LogMe]"], "drawn names LogMe, which this sweep does not measure: it measures proxy-A, MMD2, FID"),
        (["drawn=[FID of probe]", "distances=[OTDD]"], "drawn names FID of probe, which this sweep does not measure"),
        (["input_distance=FID of pixels", "distances=[FID]"], "input_distance is given and would change nothing: it"),
        (["distances=[tree]", "data=mnist"], "distances has tree, which takes tree={group: [class, ...], ...}: give"),
        (["distances=[FID]", "tree={a: [b], c: [d]}"], "tree is given and would change nothing"),
    ],
)
def test_what_would_measure_or_draw_nothing_is_refused(request, arguments, message):
    path = EXPERIMENTS["distance"].defaults
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(DistanceConfig, path, arguments)


def test_data_that_choose_values_of_the_file_have_an_effect(request):
    path = EXPERIMENTS["distance"].defaults
    config = load_config(DistanceConfig, path, ["tasks={a: {data: mnist, classes: A}}", "data=cifar10"])
    assert config.train_per_class == 100


def test_gamma_is_for_bases_too(request):
    path = EXPERIMENTS["checkpoints"].defaults
    assert load_config(EXPERIMENTS["checkpoints"].config, path, ["recipe.gamma=0.5"]).recipe.gamma == 0.5
    with pytest.raises(UserError, match=r"recipe\.gamma is given and would change nothing"):
        load_config(EXPERIMENTS["checkpoints"].config, path, ["recipe.gamma=0.5", "schedules=[cosine]"])
    with pytest.raises(UserError, match="schedules has step, which drops at base_milestones, and there are none"):
        load_config(EXPERIMENTS["checkpoints"].config, path, ["base_milestones=[]"])


def test_names_of_tasks_and_their_data_are_text(request):
    path = EXPERIMENTS["distance"].defaults
    tasks = "tasks={1e3: {data: 1.10, classes: [0, 1]}, 007: {data: 0123}, 1: {}}"
    config = load_config(DistanceConfig, path, [tasks, "targets=[1e3, 1]", "bases=007"])
    assert config.tasks == {"1e3": {"data": "1.10", "classes": [0, 1]}, "007": {"data": "0123"}, "1": {}}
    assert (config.targets, config.bases) == (["1e3", "1"], "007")
    selection = EXPERIMENTS["selection"]
    config = load_config(selection.config, selection.defaults, ["weights=x", tasks.replace("tasks", "targets")])
    assert config.targets == {"1e3": {"data": "1.10", "classes": [0, 1]}, "007": {"data": "0123"}, "1": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out: ${seeds}", "out=${seeds} holds ${...}, which nothing fills in"),
        ("per_data: {digits: 3}", "per_data must be a mapping of names to options and values"),
        ("presets: 3", "presets must be a mapping of names to options and values"),
        ("recipe: 3", "recipe must be a mapping of options to values"),
        ("1: 2", "1 in bad.yaml is no option"),
        ("seeds: yes", "seeds='yes' has the wrong type"),
        ("[a]: b", "a list or mapping stands where a name must be"),
        ("seeds: 1\nseeds: 2", "seeds is there twice"),
        ("- a", "it must be a mapping of options to values"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_config(GridConfig, path, ["recipe.steps=1", "recipe.batch_size=1", "recipe.learning_rate=1"])
    assert "\n" not in str(error.value)


@given(names=st.lists(st.one_of(st.text(max_size=6), st.from_regex(r"[-+.0-9eE_:~]{1,6}", fullmatch=True)), max_size=4))
@example(names=["\x85", "a\u2028b", "a\nb", "\t"])
@example(
    names=["007", "1e3", ".5e3", "no", "null", "true", "~", "", "1:30", "2024-11-26", "0x1f", "-", "!a", "&a", "="]
)
def test_what_is_written_is_read_again(names):
    value = {"names": names, "numbers": [1, -2, 1e-5, 0.5, 1e300, True, None], "1": {"no": names}}
    assert plain_yaml.load(plain_yaml.dump(value)) == value


def test_the_same_argument_twice_is_no_contradiction(yaml):
    assert load_config(GridConfig, yaml, ["seeds=2", "seeds=2"]).seeds == 2


ODD = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "null", "[]", "{}", "[[", "a: b", "'", "1e999", "-1", "0", "[1,1]", "[null]", "all", "[all]"]),
    st.sampled_from(
        ["007", "1_0", "1:30", "yes", "true", "[true]", "step", "???", "['???']", "${x}", "\udcff", "a\nb"]
    ),
    st.sampled_from(["&a *a", "&a [*a]", "!!bool x", "!!python/name:os.system", "[[a]]", "[{a: b}]", "{a: {data: 1}}"]),
    st.integers().map(str),
    st.floats().map(str),
)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_odd_values_give_a_configuration_or_one_line(data):
    experiment = data.draw(st.sampled_from(list(EXPERIMENTS.values())))
    kind, path = experiment.config, experiment.defaults
    own = [field.name for field in dataclasses.fields(kind) if field.name != "recipe"]
    names = ["preset", *own, *(f"recipe.{field.name}" for field in dataclasses.fields(Recipe))]
    arguments = [f"{data.draw(st.sampled_from(names))}={data.draw(ODD)}" for _ in range(data.draw(st.integers(1, 3)))]
    config, refusal = None, "-"
    try:
        config = load_config(kind, path, arguments)
    except UserError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) == 1
    if config is not None:
        assert repr(load_text(kind, to_yaml(config))) == repr(config)  # as text, since nan is not nan


def load_text(kind, text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "again.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(kind, path, [])


def test_a_configuration_is_free_of_those_that_were_loaded_before(yaml):
    first = load_config(GridConfig, yaml, ["n_layers=[1, 3]"])
    other = load_config(GridConfig, yaml, ["seeds=7", "n_layers=[1, 3]", "recipe.gamma=0.3", "splits=2"])
    other.n_layers.append(5)
    other.halves.clear()
    assert load_config(GridConfig, yaml, ["n_layers=[1, 3]"]) == first


def test_more_memory_than_there_are_addresses_is_all_of_them(yaml):
    assert load_config(GridConfig, yaml, ["memory_gb=1e308"]).memory_bytes == sys.maxsize
    assert load_config(GridConfig, yaml, ["memory_gb=0.5"]).memory_bytes == 5 * 10**8
