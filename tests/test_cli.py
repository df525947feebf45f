"""The command: what it lists, what it runs, and how it refuses."""

import json
import os
import re
import subprocess
import sys

import pytest

from raytransfer.cli import main, run_script
from raytransfer.distances import DISTANCES
from raytransfer.experiments import EXPERIMENTS
from raytransfer.networks import ZOO
from raytransfer.probes import PROBES
from raytransfer.scores import SCORES
from raytransfer.specs.treatments import TREATMENTS
from raytransfer.store.schema import TABLES
from tests.helpers import ROOT

TINY = ["halves=[random]", "splits=1", "seeds=1", "n_layers=[2]", "treatments=[baseB,AnB]", "backend=in-process"]
STEPS = ["train_per_class=5", "recipe.steps=6", "recipe.batch_size=8", "recipe.evaluations=3", "recipe.warmup_steps=1"]


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, cache_dir):
    """Run the command with arguments; gives its exit code, output and errors. A sweep's store is ``tmp_path/out``."""
    monkeypatch.setenv("COLUMNS", "120")

    def call_with(*arguments):
        sweep = len(arguments) > 1 and arguments[1] in EXPERIMENTS
        places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"] if sweep else []
        monkeypatch.setattr("sys.argv", ["raytransfer", *arguments, *places])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call_with


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ((), EXPERIMENTS),
        (("experiments",), EXPERIMENTS),
        (("treatments",), TREATMENTS),
        (("networks",), [*ZOO, "torchvision/NAME", "timm/NAME", "package.module:function"]),
        (("distances",), DISTANCES),
        (("scores",), SCORES),
        (("probes",), PROBES),
        (("columns",), [column.name for columns in TABLES.values() for column in columns]),
    ],
)
def test_list_names_every_entry(call, what, names):
    code, printed, _ = call("list", *what)
    assert code == 0
    assert all(re.search(rf"(^|\s|\.){re.escape(name)}(\s|$)", printed, re.MULTILINE) for name in names)


def test_python_m_raytransfer_is_the_command():
    done = subprocess.run([sys.executable, "-m", "raytransfer", "list", "treatmentz"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: list treatmentz is not known; choose from ")


def test_json_of_a_list_has_names_and_meanings(call):
    told = [{"name": name, "meaning": treatment.meaning} for name, treatment in TREATMENTS.items()]
    assert json.loads(call("list", "treatments", "--json")[1]) == told


def test_a_list_of_columns_has_their_types(call):
    assert re.search(r"^trials\.top1 +(float|double): ", call("list", "columns")[1], re.MULTILINE)


def test_help_and_version(call):
    for arguments in ((), ("--help",)):
        code, printed, _ = call(*arguments)
        assert code == 0
        assert "run EXPERIMENT" in printed
        said = " ".join(printed.split())
        assert all(f" {name} {experiment.question}" in said for name, experiment in EXPERIMENTS.items())
        assert " --version " in said
    assert re.fullmatch(r"raytransfer \d+\.\d+\.\d+\n", call("--version")[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["walk"],
            "walk is no command; there are run, plan, report, status, failures, compare, gc, list, networks and",
        ),
        (
            ["run"],
            "run takes an experiment, one of yosinski, distance, checkpoints, .*, and got nothing",
        ),
        (["plan", "cats"], "plan takes an experiment, one of yosinski, .*, and got cats"),
        (["list", "cats"], "list cats is not known; choose from experiments, .*, probes, columns"),
        (["list", "scores", "probes"], "list takes one thing to list, and got scores probes"),
        (["run", "yosinski", "--dry"], "--dry is no flag; there are --plan, --markdown, --json and --help"),
        (["networks"], "networks takes the name of a network first"),
        (["networks", "convnet8", "image_size_px=abc"], "image_size_px=abc must be a whole number from 1 on"),
        (["networks", "convnet8", "classes=0"], "classes=0 must be a whole number from 2 on"),
        (["networks", "convnet8", "channels=null"], "channels=None must be a whole number from 1 on"),
        (["networks", "convnet8", "granularity=tiny"], "granularity=tiny is not known; choose from block, fine"),
        (["networks", "convnet8", "size=8"], "size=8 is no option of networks; there are image_size_px"),
        (["networks", "convnet8", "stages={a: conv1}"], r"stages=\{'a': 'conv1'\} must name the modules of each"),
        (["networks", "convnet8", "network_args=3"], "network_args=3 must be a mapping of names to values"),
        (["networks", "timm/resnet19"], "network=timm/resnet19 is not known; did you mean timm/resnet1"),
        (["networks", "torchvision/alexnet", "image_size_px=8"], "network=torchvision/alexnet does not take images"),
        (["networks", "torchvision/resnet18", "channels=1"], "network=torchvision/resnet18 .*; give channels=3"),
        (["networks", "torchvision/resnet18", "network_args={depth: 3}"], "network=torchvision/resnet18 does not take"),
        (["run", "yosinski", "=3"], "=3 is no option: options are given as name=value"),
        (["run", "yosinski", "mode=force", "data=./nowhere"], "data '.*nowhere' does not exist"),
        (["report", "yosinski", "mode=retry"], "mode=retry and mode=read-only are both given"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(call, tmp_path, arguments, message):
    code, printed, error = call(*arguments)
    assert (code, printed) == (2, "")
    assert re.match(f"error: {message}", error)
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_pictures")
def test_plan_writes_nothing_run_runs_what_is_missing_and_report_runs_nothing(call, tmp_path):
    code, printed, error = call("report", "yosinski", *TINY, *STEPS)
    assert (code, (tmp_path / "out").exists()) == (2, False)
    assert "holds no results, and mode=read-only runs nothing" in error
    code, printed, _ = call("plan", "yosinski", *TINY, *STEPS)
    assert (code, (tmp_path / "out").exists()) == (0, False)
    assert "4 trials, 4 to run" in printed
    assert call("run", "yosinski", *TINY, *STEPS)[0] == 0
    rows = sorted((tmp_path / "out" / "trials").iterdir())
    code, printed, _ = call("report", "yosinski", *TINY, *STEPS)
    assert code == 0
    assert "4 trials, 0 to run" in printed
    assert "Pictures:" in printed
    assert sorted((tmp_path / "out" / "trials").iterdir()) == rows


def test_a_script_does_what_the_experiment_s_command_does(call, monkeypatch, capsys, tmp_path, cache_dir):
    _, of_command, _ = call("plan", "yosinski", *TINY, *STEPS)
    places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"]
    monkeypatch.setattr("sys.argv", ["yosinski_grid.py", *TINY, *STEPS, *places, "--plan"])
    with pytest.raises(SystemExit, match="0"):
        run_script("yosinski", "a script")
    counts = re.compile(r"^(\w+\+? +\d+ +\d+|\d+ trials.*) *$", re.MULTILINE)
    assert counts.findall(capsys.readouterr().out) == counts.findall(of_command) != []


def test_a_script_s_help_fills_lines_and_breaks_no_command(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["which_checkpoint.py", "--help"])
    command = "    python sweeps/which_checkpoint.py data=/my/images " + "weights=[a,b] " * 5
    with pytest.raises(SystemExit, match="0"):
        run_script("selection", f"A question.\n\n{'word ' * 20}\n{'word ' * 20}\n\n{command}\n\nThe end.\n")
    lines = capsys.readouterr().out.splitlines()
    assert command.rstrip() in [line.rstrip() for line in lines]
    assert [len(line.split()) for line in lines if "word" in line] == [16, 16, 8]


def test_a_network_s_layers_are_shown(call):
    code, printed, error = call("networks", "convnet8", "image_size_px=8", "channels=1", "classes=10")
    assert (code, error) == (0, "")
    assert "convnet8: 8 layers, 45,610 parameters" in printed
    lines = [line.split() for line in printed.splitlines()]
    assert ["1", "conv1", "160", "16x8x8", "0.0184", "conv1"] in lines  # 2 * 9 * 16 * 64 operations
    assert ["head", "fc8", "650", "10", "0.00128", "fc8.0"] in lines


def test_a_network_s_layers_say_what_they_draw_and_update_and_what_joined_them(call):
    _, printed, _ = call("networks", "timm/test_resnet", "network_args={drop_rate: 0.1}", "image_size_px=64")
    heading, first, *_, head = [re.split("  +", line.strip()) for line in printed.splitlines()[1:-1]]
    assert heading == ["n", "layer", "parameters", "output", "MFLOPs", "draws", "moves", "parts"]
    assert first == ["1", "conv1.0", "464", "16x32x32", "0.885", "statistics", "conv1.0, (conv1.1), (conv1.2)"]
    assert head[-2:] == ["random", "(global_pool), (dropout), fc"]
    assert "33 MFLOPs an image of 64 pixels" in printed
    _, printed, _ = call("networks", "convnet8", "image_size_px=8")
    assert printed.splitlines()[1].split()[-2:] == ["MFLOPs", "parts"]


def test_a_large_network_s_operations_are_whole_numbers(call):
    stages = "stages={low: [conv1, layer1], high: [layer2, layer3, layer4], head: [fc]}"
    _, printed, _ = call("networks", "torchvision/resnet18", stages)
    assert "11,689,512 parameters, 3,628 MFLOPs an image of 224 pixels" in printed
    assert ["1", "low", "157,504", "64x56x56", "1,161"] in [line.split()[:5] for line in printed.splitlines()]


@pytest.mark.parametrize("arguments", [("status", "results"), ("plan", "yosinski"), ("gc", "results")])
def test_a_folder_that_is_gone_is_one_line(call, tmp_path, monkeypatch, arguments):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    line = "error: the current folder cannot be read: No such file or directory; change to one that is there\n"
    assert call(*arguments) == (2, "", line)


def test_ray_without_a_home_is_one_line(tmp_path, cache_dir):
    """As in a container for a user that it was not made for."""
    code = "import pwd\n\ndef unknown(uid):\n    raise KeyError(uid)\n\npwd.getpwuid = unknown\n"
    code += "from raytransfer.cli import main; main()"
    places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"]
    asked = [sys.executable, "-c", code, "run", "yosinski", *TINY[:-1], *STEPS, *places]
    homeless = {name: value for name, value in os.environ.items() if name != "HOME"}
    homeless["MPLCONFIGDIR"] = str(tmp_path)  # else matplotlib adds a line of its own
    done = subprocess.run(asked, capture_output=True, text=True, env=homeless, cwd=tmp_path)
    assert done.returncode == 2
    told = "error: Ray does not start on this machine: HOME is not set, .*; set HOME .*\n"
    assert re.fullmatch(told, done.stderr), done.stderr


def test_ray_without_docstrings_is_refused():
    """Its Tune reads its own when it is imported."""
    code = "import sys; from raytransfer.errors import UserError\ntry: import raytransfer.sweep.ray\n"
    code += "except UserError as error: sys.exit(str(error))"
    done = subprocess.run([sys.executable, "-OO", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("Ray needs docstrings")) == (1, True)
