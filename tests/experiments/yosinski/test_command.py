"""The command as a user runs it: real Ray, real processes, real kills."""

import html
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import raytransfer as rt
from raytransfer.cli import run_script
from raytransfer.store import Store, finished, read_table
from tests.helpers import REPEATABLE, ROOT, run, wait_for_trials

SCRIPT = ROOT / "sweeps" / "yosinski_grid.py"

TINY = [
    "halves=[random]",
    "splits=1",
    "seeds=1",
    "n_layers=[2,7]",
    "recipe.steps=20",
    "recipe.warmup_steps=2",
    "recipe.evaluations=2",
]


@pytest.fixture
def command(tmp_path, cache_dir):
    """The command line of a tiny sweep into ``tmp_path/out``, with more arguments, or others for those it has."""
    usual = [*TINY, f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"]

    def command_line(*arguments):
        given = {argument.partition("=")[0] for argument in arguments}
        replaced = given | ({"splits"} if "halves" in given else set())  # which only random halves have
        kept = [argument for argument in usual if argument.partition("=")[0] not in replaced]
        return [sys.executable, str(SCRIPT), *kept, *arguments]

    return command_line


@pytest.fixture
def call(command, monkeypatch, capsys, no_pictures):
    """Run the script's main in this process, without pictures; gives exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def call_with(*arguments):
        monkeypatch.setattr("sys.argv", command(*arguments)[1:])
        with pytest.raises(SystemExit, match=r"\d") as end:
            run_script("yosinski", "The grid.")
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call_with


@pytest.fixture
def environment():
    alone = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return alone | {"COLUMNS": "200"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a sweep that nothing disturbs prints and leaves."""
    folder = tmp_path_factory.mktemp("undisturbed")
    places = [f"cache_dir={folder / 'cache'}", f"data_dir={folder}", f"out={folder / 'out'}"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    result = run([sys.executable, str(SCRIPT), *TINY, *places], alone | {"COLUMNS": "200"})
    return result, Store(str(folder / "out"))


@pytest.mark.usefixtures("no_pictures")
def test_learning_curves_are_of_the_halves_on_which_layers_were_copied(tmp_path, cache_dir):
    places = {"out": tmp_path / "out", "cache_dir": str(cache_dir), "data_dir": str(tmp_path)}
    options = {"halves": ["random", "loops/no-loops"], "treatments": ["baseB"], "fixed_treatments": ["AnB"]}
    options |= {"backend": "in-process", "splits": 1, "directions": ["A->B"], "n_layers": [2]}
    recipe = {"steps": 6, "warmup_steps": 0, "evaluations": 3}
    figures = rt.run("yosinski", quiet=True, **places, **options, recipe=recipe).figures
    assert figures["curves"].get_suptitle().splitlines()[1:] == ["loops/no-loops: 1 direction x 1 seed, 1 unit (seeds)"]
    assert len(figures["lines"].get_suptitle().splitlines()) == 3


def test_the_sweep_shows_counts_tables_pictures_and_the_way_to_pandas(undisturbed):
    result, store = undisturbed
    assert result.stderr == ""
    assert "24 trials, 24 to run" in result.stdout
    assert "Running 24 trials" in result.stdout
    assert re.search(r"AnB\+ +4 trials done after \d+ s", result.stdout)
    for reading in ("co-adaptation drop", "specificity drop", "recovery", "generalisation boost"):
        assert reading in result.stdout
    assert not re.search("ray::|WARNING|Traceback|Trial _Worker", result.stdout)
    lines = [line.strip() for line in result.stdout.splitlines() if "pandas" in line or "read_parquet" in line]
    scope = {}
    exec("\n".join(lines[-2:]), scope)
    assert len(scope["results"]) == 24
    assert {"treatment", "split", "direction", "top1", "n_layers", "seed"} <= set(scope["results"].columns)
    (page,) = re.findall(r"Report: (\S+)", result.stdout)
    assert "24 of 24 finished" in Path(page).read_text()
    assert "raytransfer run yosinski 'halves=[random]' splits=1" in html.unescape(Path(page).read_text())
    assert result.stdout.rstrip().splitlines()[-1].startswith("At n = 7, ")
    for picture in ("readings.png", "points.png", "lines.png"):
        (path,) = re.findall(rf"\S+{picture}", result.stdout)
        assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert len(store.names("trials")) == len(store.names("curves")) == 1


def test_as_markdown_a_report_has_standard_output_for_itself(undisturbed, call):
    code, printed, error = call("mode=read-only", "--markdown", f"out={undisturbed[1].root}")
    assert code == 0
    assert printed.startswith("- At n = 7, the network's own layers, frozen (BnB), ")
    assert "| n | baseB | baseB-2x | BnB | BnB+ | AnB | AnB+ | RnB |\n| ---: |" in printed
    assert "24 trials, 0 to run" in error
    assert "24 trials" not in printed


def test_ray_and_the_debugging_backend_give_the_same_bits(undisturbed, call, tmp_path):
    assert call("backend=in-process")[0] == 0
    in_process = read_table(Store(str(tmp_path / "out")), "trials")
    on_ray = read_table(undisturbed[1], "trials")
    pd.testing.assert_frame_equal(in_process[REPEATABLE], on_ray[REPEATABLE], check_exact=True)


def test_storage_that_fails_on_the_way_ends_the_sweep_with_one_line(undisturbed, command, call, environment, tmp_path):
    store = Store(str(tmp_path / "out"))
    process = subprocess.Popen(command(), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_trials(store, 3, process)
    (tmp_path / "out").rename(tmp_path / "away")
    (tmp_path / "out").touch()
    output, error = process.communicate(timeout=120)
    assert process.returncode == 3, output + error
    assert re.fullmatch(r"error: .*/out/.*: .*Not a directory.*\n", error), error
    assert "What finished is in the store; the same command goes on from there.\n" in output
    assert "Traceback" not in output + error
    (tmp_path / "out").unlink()
    (tmp_path / "away").rename(tmp_path / "out")
    there = len(finished(store))
    assert 3 <= there < 24
    assert f"24 trials, {24 - there} to run" in call("backend=in-process")[1]
    rows = read_table(store, "trials")
    pd.testing.assert_frame_equal(rows[REPEATABLE], read_table(undisturbed[1], "trials")[REPEATABLE], check_exact=True)


def test_ctrl_c_ends_it_and_says_how_to_go_on(command, environment, tmp_path):
    process = subprocess.Popen(
        command(),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores it
    )
    wait_for_trials(Store(str(tmp_path / "out")), 2, process)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, output + error
    assert "the same command goes on from there" in output
    assert "Traceback" not in output + error


def test_the_plan_counts_and_writes_nothing(undisturbed, call, tmp_path):
    _, printed, _ = call("--plan")
    assert "24 trials, 24 to run" in printed
    assert re.search(r"About \d+ s on \d+ slots? of this machine", printed)
    assert not (tmp_path / "out").exists()
    _, printed, _ = call("--plan", f"out={undisturbed[1].root}", "seeds=2")
    assert "48 trials, 24 to run" in printed
    assert "an hour of" not in printed


def test_the_plan_says_what_the_work_costs_and_a_price_makes_no_other_trials(undisturbed, call):
    _, printed, _ = call("--plan", f"out={undisturbed[1].root}", "seeds=2", "price_per_hour=3600")
    assert "48 trials, 24 to run" in printed
    (work,) = re.findall(r": (\d+) s of work", printed)
    price = (
        r"At a price of 3600 an hour of a (?:GPU|CPU core): about ([\d.]+), in the currency of that price, for (\d+) s"
    )
    ((cost, paid),) = re.findall(price, printed)
    assert paid == work  # a slot is a whole GPU or core
    assert 0 < float(cost) == pytest.approx(float(work), abs=0.51)


def test_a_failed_trial_ends_in_exit_code_1_with_its_reason(call):
    code, printed, _ = call("treatments=[baseB]", "backend=in-process", "recipe.learning_rate=1e9")
    assert code == 1
    assert "failed" in printed
    assert "training diverged" in printed
    assert "mode=retry runs them again" in printed


def test_damaged_files_are_named_and_what_they_held_is_made_anew(undisturbed, call, tmp_path):
    call("treatments=[baseB]", "backend=in-process")
    store = Store(str(tmp_path / "out"))
    (merged,) = store.names("trials")
    for damaged in (f"trials/{merged}", f"checkpoints/{store.names('checkpoints')[0]}/20.safetensors"):
        path = tmp_path / "out" / damaged
        path.write_bytes(path.read_bytes()[:1000])
    code, _, error = call("treatments=[baseB]", "--plan")
    assert code == 2
    assert f"trials/{merged} is damaged" in error
    _, shown, _ = call("treatments=[baseB,BnB+]", "backend=in-process")
    assert f"trials/{merged} was damaged; it lies in damaged/ now, and its trials run again" in shown
    for path in (tmp_path / "out").glob("checkpoints/*/20.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    shown = " ".join(call("treatments=[AnB]", "backend=in-process")[1].split())
    assert "20.safetensors is damaged: " in shown
    assert "Still to run: 6 trials; weights that they read are trained anew" in shown
    rows = read_table(store, "trials")
    expected = read_table(undisturbed[1], "trials").set_index("id").loc[rows["id"]].reset_index()
    assert len(rows) == 2 + 4 + 4
    pd.testing.assert_frame_equal(rows[REPEATABLE], expected[REPEATABLE], check_exact=True)


def test_an_address_that_no_ray_answers_at_is_named(call, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    code, _, error = call()
    assert code == 2
    assert error == f"error: RAY_ADDRESS={address} leads to no Ray cluster: start one there, or unset it\n"
    assert not (tmp_path / "out").exists()


def test_help_lists_every_option_with_default_and_meaning(environment):
    result = run([sys.executable, str(SCRIPT), "--help"], environment)
    assert re.search(r"data +digits +Data set", result.stdout)
    assert re.search(r"recipe\.steps +200 +Optimiser steps", result.stdout)
    assert re.search(r"slots +null +Trials at once", result.stdout)
    other = run([sys.executable, str(SCRIPT), "--help", "data=cifar10"], environment)
    assert re.search(r"recipe\.steps +800", other.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sedes=5"], "sedes in the command line is no option: did you mean seeds?"),
        (["--plam"], "--plam is no flag"),
        (["--markdown"], "--markdown goes with raytransfer report, which runs nothing (mode=read-only)"),
        (["data=no-such-data"], "no-such-data"),
        (["network=convnet9"], "network=convnet9 is not known; choose one of convnet8"),
        (["n_layers=[8]"], "n_layers=8 must lie in 1..7, be a fraction of the depth, or name a layer of convnet8"),
        (["n_layers=[conv9]"], "n_layers=conv9 must lie in 1..7"),
        (["n_layers=[2,conv2]"], "must name at least one layer, each once"),
        (["halves={A: [0,1,2], B: [2,3]}"], "halves A and B overlap: both hold 2"),
        (["halves={A: [zero,1,2], B: [4,3]}"], "zero"),
        (["halves=[animals/vehicles]"], "does not fit the classes of digits"),
        (["halves=[random,random]"], "must name at least one way to halve the classes, each once"),
        (["halves=null"], "halves="),
        (["halves=[3]"], "halves=3 must be random, the name of a pair, or lists"),
        (["halves=[{A: [0,1], B: [2,3]},{A: [1,0], B: [3,2]}]"], "are there twice"),
        (["halves=[{A: [0,1], B: [2,3]},{A: [2,3], B: [0,1]}]"], "are there twice"),
        (["out="], "out= is empty: give a value"),
        (["out=~nosuchuser/x"], "out=~nosuchuser/x is no path"),
        (["recipe.pad_px=100000"], "recipe.pad_px=100000 must not exceed the images' side: 8 x 8 pixels"),
        (["--plan", "slots=1000"], "slots=1000 must not exceed what is there"),
        (["--plan", "price_per_hour=-1"], "price_per_hour=-1.0 must be zero or positive, and finite"),
        (["train_per_class=1000"], "1000"),
        (
            [
                "recipe.normalization=given",
                "recipe.channel_mean=[0.485, 0.456, 0.406]",
                "recipe.channel_std=[0.229, 0.224, 0.225]",
            ],
            "recipe.channel_mean=[0.485, 0.456, 0.406] must have one entry for each channel of the images, which have",
        ),
        (
            ["recipe.hue=0.1"],
            "recipe.saturation=0.0 and recipe.hue=0.1 change nothing of grey images: leave",
        ),
        (["recipe.crop_px=9"], "recipe.crop_px=9 must not exceed the images' side: 8 x 8 pixels"),
        (["out=/dev/null/out"], "out=/dev/null/out"),
        (["mode=read-only"], "mode=read-only runs nothing"),
        (["seeds=1", "seeds=2"], "seeds=1 and seeds=2 are both given: choose one"),
        (["seeds=01"], "seeds='01' has the wrong type: it takes a whole number"),
        (["data=0123"], "'0123'"),
        (["data=a\nb"], r"a\nb"),
        (["data=\udcff"], r"data=\udcff is not valid UTF-8"),
        (["recipe.milestones=[0.5]"], "recipe.milestones is given and would change nothing: it takes recipe.schedule"),
        (["halves={A: [0, 1], B: [2, 3]}", "splits=2"], "splits is given and would change nothing: it takes halves"),
        (["lr=0.1"], "lr in the command line is no option: did you mean recipe.learning_rate? --help lists them"),
        (["halves={A: ['02', 1], B: [3, 4]}"], "half A names class '02', which digits does not have"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_with_nothing_written(call, tmp_path, arguments, message):
    code, _, error = call(*arguments)
    assert code == 2
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def planned(call, *arguments):
    """Trials by treatment, as the plan of a command lists them, and all that it printed."""
    _, printed, _ = call("--plan", *arguments)
    return {
        name: int(count) for name, count in re.findall(r"^(base\S+|\wnB\+?) +(\d+) +\d+ *$", printed, re.M)
    }, printed


def test_treatments_that_are_asked_for_are_planned_whatever_the_data_set_s_own(call):
    asked_for = ["backend=in-process", "halves={A: [0,1,2,3,4], B: [5,6,7,8,9]}", "n_layers=[1,7]"]
    asked, _ = planned(call, *asked_for, "treatments=[baseB,AnB,AnB+]")
    assert asked == {"baseB": 2, "AnB": 4, "AnB+": 4}
    usual, _ = planned(call, *asked_for)
    assert usual == {"baseB": 2, "AnB": 4, "RnB": 4}


def test_a_trial_of_two_treatments_is_said_to_count_once(call):
    # a linear probe is AnB at the last cut
    asked_for = ["backend=in-process", "halves={A: [0,1,2,3,4], B: [5,6,7,8,9]}", "n_layers=[1,7]"]
    _, printed = planned(call, *asked_for, "treatments=[baseB,AnB,linear-probe]")
    (line,) = [line for line in printed.splitlines() if " to run, in " in line]
    assert line.startswith("6 trials, 6 to run")
    assert line.endswith("; a trial of two treatments counts once")


@pytest.mark.parametrize("name", ["2024_11_26", "0123", "a #b", "1e3", "yes"])
def test_a_store_lies_where_its_option_says(call, tmp_path, name):
    _, printed, _ = call("--plan", "backend=in-process", f"out={tmp_path}/{name}")
    assert f"24 trials, 24 to run, in {tmp_path}/{name}\n" in printed
