"""Networks of the user's own: imported from where the command runs, taken to every worker, told apart by content."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raytransfer.store import Store, read_table

CODE = """
import os

from torch import nn

from own_parts import WIDTH


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.one = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.two = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.head = nn.Linear(WIDTH, num_classes)

    def forward(self, x):
        x = self.two(self.one(x).relu()).relu()
        return self.head(x.mean((2, 3))) * 1.0


def build(num_classes):
    with open(os.environ["SEEN"], "a") as file:
        print(__file__, file=file)
    return Net(num_classes)


number = 3


def none(num_classes):
    return num_classes


def raises(num_classes):
    raise RuntimeError("no weights today")


def takes_nothing():
    return Net(2)
"""
RUN = """
import os
import sys
from raytransfer.cli import main
from raytransfer.commands import sweeping  # with all that takes seconds to import, once for all commands
from raytransfer.report import files, page

files.png = files.pdf = lambda _: b"a picture"  # which take seconds, and no one looks
page.inline_svg = lambda *_, **__: ("<svg></svg>", [])

commands, sys.argv[1:] = [line.split("\\t") for line in sys.argv[1].splitlines()], sys.argv[2:]
for folder, what, network in commands:  # each in a process of its own, which has imported nothing of the user's
    process = os.fork()
    if not process:
        os.chdir(folder)
        sys.argv[1:1] = [what, "yosinski", f"network={network}"]
        main()
    print("exit code", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
SHORT = ["halves=[random]", "treatments=[baseB,AnB]", "splits=1", "seeds=1", "recipe.steps=4", "recipe.warmup_steps=0"]


def project(folder):
    """Fill a folder with a network of one's own."""
    folder.mkdir()
    (folder / "own_net.py").write_text(CODE)
    (folder / "own_parts.py").write_text("WIDTH = 6\n")
    (folder / "unrelated.py").write_text("1 / 0\n")
    return folder


@pytest.fixture
def run(tmp_path, cache_dir):
    """Run commands one after the other, each a folder, run or plan, and a network."""

    def run_all(*commands, options=()):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"SEEN": str(tmp_path / "seen"), "COLUMNS": "200"}
        places = [f"out={tmp_path / 'out'}", f"cache_dir={cache_dir}", f"data_dir={tmp_path}"]
        lines = "\n".join("\t".join(map(str, command)) for command in commands)
        command = [sys.executable, "-c", RUN, lines, *SHORT, *options, *places]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    return run_all


def ids(tmp_path):
    return set(read_table(Store(str(tmp_path / "out")), "trials")["id"])


def test_its_code_reaches_rays_workers(run, tmp_path):
    folder = project(tmp_path / "project")
    result = run((folder, "run", "own_net:build"), options=["slots=1"])  # a second worker would take seconds to start
    assert (result.stdout.splitlines()[-1], result.stderr) == ("exit code 0", "")
    files = {Path(line).parent for line in (tmp_path / "seen").read_text().splitlines()}
    assert folder in files  # the driver's
    assert any("runtime_resources" in str(file) for file in files), files  # the workers' copy, wherever they run
    assert len(ids(tmp_path)) == 2 * 3


def test_another_width_or_code_is_another_network(run, tmp_path):
    first, same, wider, doubled = (project(tmp_path / name) for name in ("first", "same", "wider", "doubled"))
    (same / "unrelated.py").write_text("2 / 0\n")
    (wider / "own_parts.py").write_text("WIDTH = 7\n")
    (doubled / "own_net.py").write_text(CODE.replace("* 1.0", "* 2.0"))
    options = ["backend=in-process", "n_layers=[1]"]
    commands = [(first, "run"), (first, "plan"), (same, "plan"), (wider, "plan"), (doubled, "plan")]
    result = run(*((*command, "own_net:build") for command in commands), options=options)
    assert re.findall(r"exit code (\d+)", result.stdout) == ["0"] * len(commands), result.stdout + result.stderr
    assert re.findall(r"4 trials, (\d) to run", result.stdout) == ["4", "0", "0", "4", "4"]


REFUSED = {
    "nowhere:build": "cannot be imported: No module named 'nowhere'",
    "own_net:missing": "cannot be imported: own_net has no missing",
    "own_net:number": "is a int, and not a function that builds a network",
    "own_net:none": "gives a int, and not a torch.nn.Module",
    "own_net:raises": "does not take images of 1x8x8: no weights today",
    "own_net:takes_nothing": "does not take these arguments: ",
    "unrelated:build": "cannot be imported: division by zero",
}


def test_what_is_no_network_is_refused_in_one_line(run, tmp_path):
    folder = project(tmp_path / "project")
    result = run(*((folder, "plan", network) for network in REFUSED))
    assert re.findall(r"exit code (\d+)", result.stdout) == ["2"] * len(REFUSED)
    for line, (network, message) in zip(result.stderr.splitlines(), REFUSED.items(), strict=True):
        assert line.startswith(f"error: network={network} {message}")
    assert not (tmp_path / "out").exists()
