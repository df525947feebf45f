"""Values of the wrong kind inside options."""

import pytest

from raytransfer.config import load_config
from raytransfer.errors import UserError
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.design import make_design
from raytransfer.networks.weights_source import parse


@pytest.mark.parametrize("option", ["halves", "n_layers", "network_args", "probe_steps", "gpus_per_trial", "seeds"])
def test_null_is_no_value_of_an_option_that_is_never_null(option):
    grid = EXPERIMENTS["yosinski"]
    with pytest.raises(UserError, match=rf"{option}=null has the wrong type: it takes "):
        load_config(grid.config, grid.defaults, [f"{option}=null"])


def test_null_is_a_value_of_an_option_that_is_null_by_default():
    grid = EXPERIMENTS["yosinski"]
    config = load_config(grid.config, grid.defaults, ["weights=null", "stages=null", "image_size_px=null"])
    assert (config.weights, config.stages, config.image_size_px) == (None, None, None)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"weights": 3}, "has weights=3: it must be text"),
        ({"weights": ["a"]}, "has weights=.*: it must be text"),
        ({"weights": "a", "network": 3}, "has network=3: it must be text"),
        ({"weights": "a", "key": [1]}, "has key=.*: it must be text"),
        ({"weights": "a", "label": 3}, "has label=3: it must be text"),
        ({"weights": "a", "network_args": [1]}, "has network_args=.*: they must map names to values"),
        ({"weights": "a", "mean": [True], "std": [0.5]}, "has mean=.*: it must list one number for each channel"),
        ({"weights": "a", "mean": [float("nan")], "std": [0.5]}, "has mean=.*: it must list one number"),
    ],
)
def test_what_weights_are_must_be_of_its_kind(entry, message):
    with pytest.raises(UserError, match=message):
        parse(entry, "convnet8", {})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("targets={a: 1}", r"targets name \{'a': 1\}, which is no task"),
        ("bases=[[a]]", r"bases name \['a'\], which is no task"),
        ("tasks={a: {data: [digits]}, b: {classes: A}}", r"task a has data=\['digits'\]: it must name a data set"),
        ("tasks={a: {data: null}, b: {classes: A}}", "task a has data=null: it must name a data set"),
    ],
)
def test_names_of_tasks_and_data_must_be_text(cache_dir, option, message):
    distance = EXPERIMENTS["distance"]
    config = load_config(distance.config, distance.defaults, [option, f"cache_dir={cache_dir}"])
    with pytest.raises(UserError, match=message):
        make_design(config)
