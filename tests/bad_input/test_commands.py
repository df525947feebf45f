"""Options, stores and environments that cannot be: one line, exit 2 (or 3), nothing written."""

import json
import re

import pytest

from tests.bad_input.commands import QUICK, call
from tests.helpers import with_defaults

OWN = "network=tests.bad_input.networks"
MEASURED = [*QUICK["distance"], "bases=all", "distances=[FID]", "scores=[]", "drawn=[]"]

OPTIONS = [
    # what comes too late otherwise: a step of training, the images that measures find, GPUs
    (
        "yosinski",
        [f"{OWN}:normed", "n_layers=[1]", "recipe.batch_size=1"],
        "recipe.batch_size=1 is too small for network=tests.*Expected",
    ),
    (
        "yosinski",
        [f"{OWN}:no_gradient", "n_layers=[1]"],
        "network=tests.* cannot be trained on such images: no gradient here",
    ),
    (
        "distance",
        ["images=2"],
        "takes at least 2 labels with two images or more, and of .* 2 are drawn .* raise images=2",
    ),
    ("distance", [*MEASURED, "images=2"], "FID takes at least 1 label with two images or more"),
    ("distance", [*MEASURED, "images=4", "distances=[Task2Vec]"], "Task2Vec takes at least 2 labels with two images"),
    (
        "mechanisms",
        ["probe_steps=[last]", "probe_images=4", "tasks={a: {classes: all}, b: {classes: A}}"],
        "OTDD .*raise probe_images=4",
    ),
    (
        "mechanisms",
        ["probe_steps=[last]", "probes=[CKA]", "train_per_class=1"],
        "CKA takes at least 4 images, .* its classes need more images",
    ),
    ("yosinski", ["gpus_per_trial=2.5", "backend=ray"], "gpus_per_trial=2.5 must lie in 0.01..1, for a share of a GPU"),
    (
        "yosinski",
        ["gpus_per_trial=3", "recipe.batch_size=8"],
        "gpus_per_trial=3 must divide the 8 images of a batch: choose from 1, 2, 4, 8, or another recipe.batch_size",
    ),
    (
        "yosinski",
        ["base_gpus_per_trial=2", "recipe.batch_size=999", "train_per_class=5"],
        r"base_gpus_per_trial=2 must divide the 25 images of a batch, all that digits\[.* has: choose from 1, 5, 25",
    ),
    (
        "yosinski",
        ["base_gpus_per_trial=2", "network=tests.trials.networks:followed", "n_layers=[1]"],
        r"base_gpus_per_trial=2 cannot split the batches of network=tests\.trials\.networks:followed: 1\.running_mean "
        "keeps statistics of the images .*; leave base_gpus_per_trial out",
    ),
    ("yosinski", ["base_gpus_per_trial=1.5"], "base_gpus_per_trial=1.5 has the wrong type: it takes a whole number"),
    ("theory", ["gpus_per_trial=2"], "gpus_per_trial=2 must not exceed 1: there are no trainings to split"),
    ("yosinski", ["gpus_per_trial=0", "backend=ray"], "gpus_per_trial=0 must lie in"),
    ("yosinski", ["gpus_per_trial=0.5"], "gpus_per_trial is given and would change nothing: it takes backend=ray"),
    # images and networks
    ("yosinski", ["image_size_px=1"], "network=convnet8 does not take images of 1x1x1"),
    ("yosinski", ["image_size_px=3"], "network=convnet8 does not take images of 1x3x3"),
    ("yosinski", ["network=alexnet", "channels=3"], "network=alexnet does not take images of 3x8x8"),
    ("yosinski", ["network=caffenet", "channels=3"], "recipe.normalization=standard starves caffenet"),
    ("yosinski", ["network=resnet18"], "network=resnet18 .*give channels=3"),
    ("yosinski", ["network=nothing.here:f"], "network=nothing.here:f"),
    ("yosinski", ["network=resnet"], "network=resnet is not known"),
    ("yosinski", ["network_args={x: 1}"], "network=convnet8"),
    ("yosinski", ["recipe.crop_px=9"], "recipe.crop_px=9 must not exceed the images' side"),
    ("yosinski", ["recipe.pad_px=9"], "recipe.pad_px=9 must not exceed the images' side"),
    ("yosinski", ["channels=2"], "channels=2 must be 1, 3 or null"),
    ("yosinski", ["n_layers=[8]"], "n_layers=8 must lie in 1..7"),
    ("yosinski", ["n_layers=[]"], "must name at least one layer, each once"),
    ("yosinski", ["n_layers=[2, conv2]"], "must name at least one layer, each once"),
    ("yosinski", ["n_layers={a: 1}"], "n_layers={'a': 1} must lie in 1..7"),
    # tasks
    ("yosinski", ["data=cats"], "unknown data set 'cats'"),
    ("yosinski", ["data=/nowhere/at/all"], "data '/nowhere/at/all' does not exist"),
    ("yosinski", ["data=~nosuchuser/x"], "data=~nosuchuser/x is no path"),
    ("yosinski", ["train_per_class=999"], "train_per_class is 999, but class"),
    ("yosinski", ["halves=[cats/dogs]"], "cats/dogs"),
    ("yosinski", ["halves={A: [1], B: [1]}"], "halves|class|task"),
    ("yosinski", ["halves=[]"], "halves=.* must name at least one way"),
    ("yosinski", ["seeds=2147483647"], "seeds=2147483647 must lie in 1..1000"),
    ("yosinski", ["splits=2147483647"], "splits=2147483647 must lie in 1..1000"),
    ("checkpoints", ["base_checkpoints=100000000"], "base_checkpoints=100000000 must lie in 2..1000"),
    ("checkpoints", ["base_checkpoints=[0, 9]"], "base_checkpoints has 9, which a base never reaches"),
    ("distance", ["bases={a: {}}"], "bases name {'a': {}}, which is no task"),
    ("distance", ["targets=[[a]]"], r"targets name \['a'\], which is no task"),
    ("distance", ["targets=[]"], r"targets=\[\] must name at least one task"),
    ("distance", ["targets=[a]", "bases=[a]"], "leave no pair"),
    ("distance", ["tasks={}"], "tasks={} must name at least one task"),
    ("distance", ["tasks={a: 3}"], "task a is 3: it must be a mapping"),
    ("distance", ["tasks={a: {class: [0, 1]}}"], "task a has the key class: a task takes"),
    ("distance", ["dials={blur: [1]}"], "dials has blur, which is no dial"),
    ("distance", ["dials={shuffle_px: [3]}"], "shuffle_px"),
    ("distance", ["distances=[FIT]"], "distances has FIT, which is not known"),
    ("distance", ["scores=[LogME, LogME]"], "must name each once"),
    ("distance", ["images=1"], "images=1 must lie in 2.."),
    ("theory", ["widths=[3]"], "widths=.* must be even numbers of at least 2"),
    ("theory", ["images=1"], "images=1 must lie in 2.."),
    ("theory", ["tasks={a: {classes: [0, 1, 2]}}"], "has 3 labels: the theory is of two"),
    ("selection", [], "weights has no value: name the checkpoints"),
    ("selection", ["weights=[/nowhere.safetensors]"], "/nowhere.safetensors"),
    ("mechanisms", ["probes=[]"], r"probes=\[\] leaves nothing to compare"),
    ("mechanisms", ["probes=[flat]"], "probes has flat, which is not known"),
    ("mechanisms", ["probe_steps=[99]"], "probe_steps has 99, which no training reaches"),
    ("mechanisms", ["distance=Task2Vec"], "distance=Task2Vec is not known, or needs more than images"),
]


@pytest.mark.parametrize(("experiment", "given", "message"), OPTIONS, ids=lambda value: str(value)[:60])
def test_options_that_cannot_be(tmp_path, cache_dir, experiment, given, message):
    refused(tmp_path, cache_dir, experiment, given, message)


def refused(tmp_path, cache, experiment, given, message, code=2):
    """Refused in one line before anything runs, and no store is made."""
    there = sorted(tmp_path.rglob("*"))
    arguments = with_defaults(QUICK[experiment], given)
    got, _, error = call("run", experiment, *arguments, folder=tmp_path, cache=cache)
    assert got == code, error
    assert len(error.splitlines()) == 1
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert sorted(tmp_path.rglob("*")) == there


def mark(content):
    def make(root):
        root.mkdir()
        (root / "store.json").write_text(content)

    return make


def other_files(root):
    root.mkdir()
    (root / "notes.txt").write_text("mine")


STORES = [
    (mark("null"), "has a damaged store.json"),
    (mark("[1]"), "has a damaged store.json"),
    (mark(""), "has a damaged store.json"),
    (mark("{"), "has a damaged store.json"),
    (mark("{}"), "was written with {'schema_version': None"),
    (mark(json.dumps({"schema_version": 99, "hash_version": 1})), "was written with {'schema_version': 99"),
    (other_files, "holds other files and is no store of raytransfer"),
    (lambda root: root.write_text("a file"), "cannot be (read|written)"),
    (lambda root: (root / "store.json").mkdir(parents=True), "holds other files and is no store|cannot be read"),
]


@pytest.mark.parametrize(("make", "message"), STORES)
def test_folders_that_are_no_store(tmp_path, cache_dir, make, message):
    make(tmp_path / "out")
    refused(tmp_path, cache_dir, "yosinski", [], message)


PLACES = [
    ("out=", "out= is empty: give a value"),
    ("out=~nosuchuser/x", "out=~nosuchuser/x is no path"),
    ("out=nowhere://bucket/x", "out=nowhere://bucket/x is no place for a store"),
    ("out=hf://datasets/a/b", "out=hf://datasets/a/b is no place for a store: from the hub data alone are read"),
    ("out=s3://", "out=s3:// is no place for a store: it names no bucket"),
    ("out=s3://user:secret@bucket/x", "holds a password"),
    ("out=/dev/null/x", "out=/dev/null/x"),
    ("out=/proc/x", "out=/proc/x cannot be written"),
    ("cache_dir=/dev/null/x", "cache_dir /dev/null/x cannot be written"),
    ("cache_dir=~nosuchuser/x", "cache_dir=~nosuchuser/x is no path"),
    ("data_dir=", "data_dir= is empty"),
    ("mode=read-only", "holds no results, and mode=read-only runs nothing"),
]


@pytest.mark.parametrize(("option", "message"), PLACES)
def test_places_that_cannot_be(tmp_path, cache_dir, option, message):
    refused(tmp_path, cache_dir, "yosinski", [option], message)


ENVIRONMENTS = [{"COLUMNS": "1"}, {"NO_COLOR": "1", "TERM": "dumb"}, {"LANG": "C", "LC_ALL": "C"}, {"HOME": "/nowhere"}]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_a_refusal_is_one_line_whatever_the_environment(monkeypatch, tmp_path, cache_dir, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    refused(tmp_path, cache_dir, "yosinski", ["seeds=0"], "seeds=0 must lie in 1..1000")
