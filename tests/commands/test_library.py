"""Sweeps from Python: the same checks as the command's, and what comes back."""

import doctest

import numpy as np
import pytest
import torch

import raytransfer as rt
from raytransfer import library
from raytransfer.config import as_argument, differing, load_config
from raytransfer.errors import UserError
from raytransfer.experiments import EXPERIMENTS
from raytransfer.networks.settings import plain_settings
from raytransfer.store import publish_failure
from tests.commands.conftest import TINY


@pytest.fixture
def again(store, cache_dir, tmp_path):
    """Run the sweep of the store again, with other options."""

    def run(**options):
        given = {"out": store.root, "cache_dir": cache_dir, "data_dir": tmp_path, "quiet": True} | TINY | options
        return rt.run("yosinski", **given)

    return run


def test_a_sweep_comes_back_with_its_frames_figures_and_answer(made):
    root, sweep = made
    assert sweep.complete
    assert sweep.failures.empty
    assert {"results", "means"} <= set(sweep.frames)
    assert len(sweep.frames["results"]) == 6
    assert sweep.folder == str(next((root / "sweeps").iterdir()))
    assert set(sweep.figures) >= {"lines", "points"}
    assert sweep.answer == (sweep.report.answer or sweep.report.notes)
    assert sweep._repr_html_().count("<img") == len(sweep.figures)


@pytest.mark.usefixtures("no_pictures")
def test_read_only_runs_nothing_and_failures_come_back_as_a_table(again, store, capsys, monkeypatch):
    trial = rt.load(store.root).trials["id"][0]
    publish_failure(store, trial, "ValueError: no")
    ran = library.run_sweep
    monkeypatch.setattr(library, "run_sweep", lambda *asked: torch.set_num_threads(2) or ran(*asked))
    threads = torch.get_num_threads()
    sweep = again(mode="read-only", quiet=False)
    assert "9 trials, 0 to run" in capsys.readouterr().out
    assert torch.get_num_threads() == threads
    assert not sweep.complete
    assert set(sweep.failures["id"]) == {trial}


@pytest.mark.usefixtures("no_pictures")
def test_what_a_notebook_has_set_of_torch_changes_no_row_and_stays(again, tmp_path, monkeypatch):
    plain, told = again(out=tmp_path / "plain", splits=1), []
    ran = library.run_sweep

    def run_and_tell(*asked):
        done = ran(*asked)
        told.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark))
        return done

    monkeypatch.setattr(library, "run_sweep", run_and_tell)
    with plain_settings():
        torch.set_float32_matmul_precision("medium")  # products of fp32 have the 7 bits of bf16 where a CPU can
        torch.backends.cudnn.benchmark = True
        torch.backends.mkldnn.enabled = False
        torch.set_default_dtype(torch.float64)
        with torch.inference_mode(), torch.autocast("cpu"):
            changed = again(out=tmp_path / "changed", splits=1)
            assert torch.is_inference_mode_enabled()
            assert torch.is_autocast_enabled("cpu")
        assert (torch.get_default_dtype(), torch.backends.mkldnn.enabled) == (torch.float64, False)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == ("medium", True)
    assert told == [("highest", False)]
    assert changed.complete
    columns = ["id", "top1", "loss_nats", "train_loss_nats"]
    first, second = (sweep.frames["results"].sort_values("id")[columns] for sweep in (plain, changed))
    assert first.to_dict("list") == second.to_dict("list")


def test_a_plan_says_how_every_trial_stands(store, cache_dir, tmp_path, capsys):
    places = {"cache_dir": cache_dir, "data_dir": tmp_path, "quiet": True}
    found = rt.plan("yosinski", out=store.root, estimate=False, **places, **TINY | {"splits": 4})
    assert found.estimate is None
    states = found.cells.groupby(["treatment", "state"]).size().to_dict()
    assert states == {
        **{("AnB", "there"): 3, ("AnB", "to run"): 1, ("baseB", "there"): 3, ("baseB", "to run"): 1},
        **{("only read by others", "there"): 3, ("only read by others", "to run"): 1},
    }
    assert list(found.cells) == ["id", "treatment", "halves", "split", "direction", "n_layers", "seed", "state"]
    one = TINY | {"treatments": ["RnB"], "splits": 1}
    assert capsys.readouterr() == ("", "")  # quiet
    measured = rt.plan("yosinski", out=tmp_path / "none", **places, **one).estimate
    assert measured.duration_s * measured.slots == pytest.approx(measured.work_s)
    assert len(measured.seconds) == 1
    assert not any(trial in repr(measured) for trial in measured.seconds)  # a notebook shows it
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("experiment", "overrides", "options", "message"),
    [
        ("cats", [], {}, "cats is no experiment; choose from yosinski, distance"),
        ("yosinski", [], {"sedes": 3}, "sedes in the command line is no option: did you mean seeds"),
        ("yosinski", [], {"splits": "many"}, "splits=many has the wrong type: it takes a whole number"),
        (
            "yosinski",
            [],
            {"splits": object()},
            "splits=<object .* has the wrong type: object is neither text, a number",
        ),
        ("yosinski", [], {"recipe": {"stps": 3}}, "recipe.stps in the command line is no option"),
        ("yosinski", [], {"recipe": 3}, "recipe in the command line is no option"),
        ("yosinski", [], {"network": None}, "network=None has the wrong type: it takes text"),
        ("yosinski", ["seeds=1"], {"seeds": 2}, "seeds=1 and seeds=2 are both given: choose one"),
        ("yosinski", [], TINY | {"mode": "read-only"}, "holds no results, and mode=read-only runs nothing"),
    ],
)
def test_what_cannot_be_done_is_refused_as_by_the_command(tmp_path, cache_dir, experiment, overrides, options, message):
    with pytest.raises(UserError, match=message):
        rt.run(experiment, *overrides, out=tmp_path / "out", cache_dir=cache_dir, quiet=True, **options)
    assert not (tmp_path / "out").exists()


def test_options_that_differ_make_the_same_configuration_again(tmp_path):
    experiment = EXPERIMENTS["distance"]
    given = ["preset=real", "seeds=3", "distances=[MMD2,NTK residual]", f"out={tmp_path}", "label_column=null"]
    config = load_config(experiment.config, experiment.defaults, given)
    again = [as_argument(option.name, value) for option, value in differing(config, experiment.defaults)]
    assert load_config(experiment.config, experiment.defaults, again) == config


def test_numbers_of_other_libraries_are_taken():
    assert as_argument("seeds", np.int64(3)) == "seeds=3"
    assert as_argument("n_layers", np.array([1, 2])) == "n_layers=[1, 2]"
    assert as_argument("train_per_class", None) == "train_per_class=null"
    assert as_argument("tasks", {"ä  b": {"grey": True}}) == 'tasks={"ä  b": {"grey": true}}'


def test_what_the_docstrings_show_is_so(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # in which decoded images are kept
    assert doctest.testmod(library, raise_on_error=True).attempted >= 3
