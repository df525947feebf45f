"""What the command teaches: help of every command, and what completes it in a shell."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from raytransfer.commands.usage import COMMANDS, completion
from raytransfer.console.definitions import print_definitions
from raytransfer.experiments import EXPERIMENTS
from raytransfer.store import Store
from raytransfer.store.schema import TABLES
from raytransfer.tasks import DataSource, open_dataset


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_is_for_with_an_example(command, name):
    code, printed, error = command(name, "--help")
    assert (code, error) == (0, "")
    usage, said = COMMANDS[name], " ".join(printed.split())
    assert f"{usage.meaning[1:]}. {usage.more}".strip() in said
    assert f"Example: {usage.example}" in printed
    assert all(f"{flag} {meaning}" in said for flag, meaning in usage.flags.items())
    assert ("Experiments:" in printed) == ("EXPERIMENT [name" in usage.arguments)
    assert f"raytransfer {name} " in usage.example


def test_help_of_a_report_of_a_store_reports_nothing(command):
    assert command("report", "no-such-store", "--help") == command("report", "-h") == command("report", "--help")


@pytest.mark.parametrize(
    ("name", "given"), [("distance", []), ("yosinski", ["data=cifar10"]), ("mechanisms", ["preset=real"])]
)
def test_help_has_every_option_with_the_default_for_what_is_given_as_one_would_write_it(
    command, monkeypatch, name, given
):
    from raytransfer.config import options, plain_yaml

    monkeypatch.setenv("COLUMNS", "9999")  # a meaning is one line then
    printed, experiment = command("run", name, *given, "--help")[1], EXPERIMENTS[name]
    assert f"Usage: raytransfer run {name} [name=value ...]" in printed
    assert all(f"  {flag} " in printed for flag in ("--plan", "--markdown", "--json", "--help"))
    assert re.search("^option +default +meaning$", printed, re.MULTILINE)
    for option in options(experiment.config, experiment.defaults, given):
        row = rf"^{re.escape(option.name)} +(\S.*?)\s+{re.escape(option.meaning)}$"
        (default,) = re.findall(row, printed, re.MULTILINE)
        assert plain_yaml.load(default) == (list(option.default) if option.default == () else option.default)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status"], "status takes STORE, and got nothing: raytransfer status results"),
        (["status", "a", "b"], "status takes STORE, and got a b"),
        (["compare", "a"], "compare takes FIRST SECOND, and got a: raytransfer compare"),
        (["gc"], r"gc takes STORE \[KIND ...\], and got nothing"),
        (["gc", "a", "cats"], "cats is nothing that gc removes; choose from checkpoints, bases, states"),
        (["status", "a", "--delete"], "--delete is no flag of status; there are --json and --help"),
        (["networks", "x", "--json"], "--json is no flag of networks; there is --help"),
        (["networks", "convnet8", "classes"], "classes is no option of networks; .*, as name=value"),
        (["networks", "convnet8", "classes=true"], "classes=True must be a whole number from 2 on"),
        (["networks", "convnet8", "network_args={"], "network_args={ cannot be read"),
        (
            ["networks", "torchvision/vit_b_16", "network_args={image_size: large}"],
            "network_args={'image_size': 'large'} have image_size=large: it must be a whole number from 1 on",
        ),
        (
            ["networks", "torchvision/vit_b_16", "network_args={image_size: []}"],
            r"network_args={'image_size': \[\]} have image_size=\[\]: it must be a whole number from 1 on",
        ),
        (["completion", "fish"], "completion is there for bash and zsh, and got fish"),
        (["report", "yosinki"], "report takes an experiment, one of yosinski, .*, or a store, and got yosinki"),
        (["run", "yosinski", "--json"], "--json goes with raytransfer plan"),
    ],
)
def test_what_is_mistyped_is_one_line(command, arguments, message):
    code, printed, error = command(*arguments)
    assert (code, printed) == (2, "")
    assert re.match(f"error: {message}", error), error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("name", ["distance", "yosinski"])
def test_no_name_is_cut_where_there_is_little_room(command, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "40")
    columns = [f"{table}.{column.name}" for table, columns in TABLES.items() for column in columns]
    printed = command("list", "columns")[1]
    assert set(columns) <= set(printed.split())
    from raytransfer.config import options

    experiment = EXPERIMENTS[name]
    names = [option.name for option in options(experiment.config, experiment.defaults, [])]
    assert set(names) <= set(command("run", name, "--help")[1].split())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_names_the_presets(command, name):
    from raytransfer.config import presets

    experiment = EXPERIMENTS[name]
    names = presets(experiment.config, experiment.defaults)
    assert re.findall(r"^Presets: (.*)$", command("run", name, "--help")[1], re.MULTILINE) == (
        [", ".join(names)] if names else []
    )


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("yosinski", ["treatments", "probes"]),
        ("distance", ["distances", "scores", "probes"]),
        ("selection", ["scores"]),
        ("mechanisms", ["probes"]),
    ],
)
def test_help_says_where_all_names_are_listed(command, name, listed):
    said = " ".join(command("run", name, "--help")[1].split())
    assert all(f"raytransfer list {what} shows all." in said for what in listed)


def test_help_has_no_list_of_probes_of_its_own(command):
    # A probe is a file and a line: such a list would lack it. None is among this experiment's defaults.
    said = command("run", "yosinski", "--help")[1]
    assert "loss-variation" not in said
    assert "gradient-scale" not in said


ROWS = st.lists(st.tuples(st.text("ab.", min_size=1, max_size=60), st.text("c d", max_size=90)), min_size=1, max_size=5)


@given(ROWS, st.integers(40, 120))
def test_names_stand_whole_and_meanings_with_them(rows, width):
    output = io.StringIO()
    print_definitions(Console(file=output, width=width), rows)
    words = output.getvalue().split()
    assert words == [word for name, meaning in rows for word in [name, *meaning.split()]]


def test_help_and_what_is_mistyped_wait_for_no_torch():
    code = "import sys; sys.argv = sys.argv[1:]; from raytransfer.cli import main\ntry:\n    main()\nfinally:\n"
    code += "    assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    asked = [["--help"], ["gc", "--help"], ["status", "--jsno"], ["run", "yosinski", "--help"], ["list", "columns"]]
    for arguments in asked:
        done = subprocess.run([sys.executable, "-c", code, "raytransfer", *arguments], capture_output=True, text=True)
        assert done.returncode == (2 if "--jsno" in arguments else 0), done.stderr


@pytest.mark.parametrize(
    ("arguments", "not_imported"),
    [
        (["status", "{}"], ["torch"]),
        (["failures", "{}"], ["torch"]),
        (["gc", "{}"], ["torch"]),
        (["plan", "yosinski", "seeds=1", "out={}", "cache_dir={}/cache"], ["matplotlib", "pandas", "ray"]),
    ],
)
def test_what_only_looks_imports_no_more_than_it_needs(tmp_path, arguments, not_imported):
    Store(str(tmp_path)).create()
    open_dataset(
        DataSource(data="digits", data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    )  # by scikit-learn
    code = "import sys; sys.argv = sys.argv[1:]; from raytransfer.cli import main\ntry:\n    main()\nfinally:\n"
    code += f"    assert not {{*{not_imported}}} & {{*sys.modules}}"
    asked = [argument.format(tmp_path) for argument in arguments]
    done = subprocess.run([sys.executable, "-c", code, "raytransfer", *asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("given", "used"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_that_wait_sleep_unless_they_are_told_otherwise(given, used):
    code = "import os, sys; sys.argv = ['raytransfer', '--version']; from raytransfer.cli import main\n"
    code += "try:\n    main()\nfinally:\n    print(os.environ['OMP_WAIT_POLICY'])"
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**others, **given})
    assert done.stdout.splitlines()[-1] == used, done.stderr


COMPLETED = {
    ("st",): "status",
    ("run", "yos"): "yosinski",
    ("plan", "yosinski", "split"): "splits=",
    ("run", "mechanisms", "preset=r"): "preset=real",
    ("plan", "yosinski", "--j"): "--json",
    ("report", "results", "--m"): "--markdown",
    ("gc", "results", "--d"): "--delete",
    ("list", "treat"): "treatments",
    ("completion", "z"): "zsh",
    ("status", "--h"): "--help",
    ("--v",): "--version",
    ("status", "no-such-folder"): "",
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes():
    cut = {  # as bash cuts words at =
        ("run", "mechanisms", "preset", "="): "cifar10 cifar10_gpu real",
        ("run", "mechanisms", "preset", "=", "r"): "real",
        ("run", "mechanisms", "seeds", "="): "",
        ("run", "mechanisms", "out", "=", "re"): "",
    }
    expected = COMPLETED | cut
    asked = [
        f"COMP_WORDS=(raytransfer {' '.join(words)}); COMP_CWORD={len(words)}; _raytransfer; echo ${{COMPREPLY[@]}}"
        for words in expected
    ]
    script = "\n".join([completion("bash"), *asked])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines(), done.stderr) == (list(expected.values()), "")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_completes():
    added = """compdef() { :; }
compadd() {
  local word kept=1
  while [[ $1 != -- ]]; do shift; done
  shift
  for word in "$@"; do [[ $word == ${words[CURRENT]}* ]] && { echo -n $word; kept=0; }; done
  return $kept
}
_files() { :; }"""
    asked = [f"words=(raytransfer {' '.join(w)}); CURRENT={len(w) + 1}; _raytransfer; echo" for w in COMPLETED]
    script = "\n".join([added, completion("zsh"), *asked])
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines(), done.stderr) == (list(COMPLETED.values()), "")


def test_json_of_a_plan_has_standard_output_for_itself(command, tmp_path):
    places = [f"cache_dir={tmp_path / 'cache'}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"]
    small = ["halves=[random]", "splits=1", "seeds=1", "n_layers=[2]", "treatments=[RnB]", "backend=in-process"]
    code, printed, error = command(
        "plan", "yosinski", "recipe.steps=10", "recipe.warmup_steps=0", *small, *places, "--json"
    )
    assert code == 0
    told = json.loads(printed)
    assert (told["trials"], told["to_run"], told["store"]) == (2, 2, str(tmp_path / "out"))
    assert told["treatments"]["RnB"] == {"to run": 2, "there": 0, "failed": 0, "waiting": 0}
    assert told["estimate"]["duration_s"] > 0
    assert "decoding digits" in error  # which is logged
