"""Networks of the user's own: imported from where the command runs, taken to every worker, told apart by content."""

import importlib
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raytransfer.errors import UserError
from raytransfer.networks import build, resolved, sources_of
from raytransfer.networks.settings import plain_settings
from raytransfer.specs import NetworkSpec
from raytransfer.store import Store, read_table
from raytransfer.training import use_one_core

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


def raises_type_error(num_classes):
    return Net(2, 3, 4, 5)


def takes_nothing():
    return Net(2)
"""
LATIN = """# -*- coding: latin-1 -*-
from torch import nn


def build(num_classes):  # é
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, num_classes))
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
    (folder / "lacking.py").write_text("import os\n\nos.nothing\n")
    (folder / "latin.py").write_bytes(LATIN.encode("latin-1"))
    (folder / "script.py").write_text("import sys\n\nsys.exit(0)\n")
    return folder


@pytest.fixture
def run(tmp_path, cache_dir):
    """Run commands one after the other, each a folder, run or plan, and a network."""

    def run_all(*commands, options=()):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"SEEN": str(tmp_path / "seen"), "COLUMNS": "200"}
        places = [f"out={tmp_path / 'out'}", f"cache_dir={cache_dir}", f"data_dir={tmp_path}"]
        lines = "\n".join("\t".join(map(str, command)) for command in commands)
        quiet = ("-W", "ignore:This process:DeprecationWarning")  # of threads and a fork, from Python 3.12 on
        command = [sys.executable, *quiet, "-c", RUN, lines, *SHORT, *options, *places]
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
    "own_net:number": "is of type int, and no function that builds a network",
    "own_net:none": "gives what is of type int, and no torch.nn.Module",
    "own_net:raises": "cannot be built for images of 1x8x8: RuntimeError: no weights today",
    "own_net:raises_type_error": "cannot be built for images of 1x8x8: TypeError: ",
    "own_net:takes_nothing": "does not take these arguments: ",
    "unrelated:build": "cannot be imported: division by zero",
    "lacking:build": "cannot be imported: module 'os' has no attribute 'nothing'",
    "script:build": "cannot be imported: importing script ends the process",
    "latin:build": "must be saved as UTF-8, and ",
    "own_net.py:build": "cannot be imported: No module named 'own_net.py'; 'own_net' is not a package; a module goes "
    "without its ending: own_net:build",
}


def test_what_is_no_network_is_refused_in_one_line(run, tmp_path):
    folder = project(tmp_path / "project")
    result = run(*((folder, "plan", network) for network in REFUSED))
    assert re.findall(r"exit code (\d+)", result.stdout) == ["2"] * len(REFUSED)
    for line, (network, message) in zip(result.stderr.splitlines(), REFUSED.items(), strict=True):
        assert line.startswith(f"error: network={network} {message}")
    assert not (tmp_path / "out").exists()


def plain(num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, num_classes))


def lazy(num_classes):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), *plain(num_classes)[2:])


def compiled(num_classes):
    return torch.compile(plain(num_classes))


def scripted(num_classes):
    return nn.Sequential(torch.jit.script(nn.Conv2d(1, 4, 3)), *plain(num_classes)[1:])


def same(num_classes):
    return nn.Sequential(LAYER, *plain(num_classes)[1:])


def of_numpy(num_classes):
    module = plain(num_classes)
    module[0].weight.data = torch.from_numpy(np.random.rand(4, 1, 3, 3).astype(np.float32))
    return module


def seeded(num_classes):
    torch.manual_seed(0)
    return plain(num_classes)


class Scaled(nn.Conv2d):
    """Draws numbers that it keeps to itself."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.scale = torch.rand(())

    def forward(self, x):
        return super().forward(x) * self.scale


def keeps_numbers(num_classes):
    return nn.Sequential(Scaled(1, 4, 3), *plain(num_classes)[1:])


class Noted(nn.Conv2d):
    """Has more in its state dict than tensors."""

    def get_extra_state(self):
        return {"made": "here"}

    def set_extra_state(self, state):
        pass


def notes(num_classes):
    return nn.Sequential(Noted(1, 4, 3), *plain(num_classes)[1:])


class Renamed(nn.Sequential):
    def state_dict(self, *args, **kwargs):
        return {f"net.{name}": tensor for name, tensor in super().state_dict(*args, **kwargs).items()}


def renamed(num_classes):
    return Renamed(*plain(num_classes))


class Freezes(nn.Sequential):
    def forward(self, x):
        self[0].requires_grad_(False)
        return super().forward(x)


def freezes(num_classes):
    return Freezes(*plain(num_classes))


class Bounded(nn.Conv2d):
    """Bounds its own weights in each pass."""

    def forward(self, x):
        with torch.no_grad():
            self.weight.clamp_(-0.1, 0.1)
        return super().forward(x)


def bounded(num_classes):
    return nn.Sequential(Bounded(1, 4, 3), *plain(num_classes)[1:])


MADE = []


def fails_again(num_classes):
    MADE.append(num_classes)
    if len(MADE) > 1:
        raise RuntimeError("made once")
    return plain(num_classes)


LAYER = nn.Conv2d(1, 4, 3)
UNFIT = {
    "compiled": "it is compiled, and layers of compiled code cannot be told: leave that out",
    "scripted": "its part 0 is compiled, and layers",
    "same": "its function gives layers that it gave before: it must make new ones at each call",
    "of_numpy": "its first weights are not told by the seed alone: draw them from torch's random numbers",
    "seeded": "its first weights are the same for every seed: its function must not set a seed itself",
    "notes": "its state dict must hold its parameters and buffers by their names, and nothing else: 0._extra_state",
    "renamed": "its state dict must hold its parameters and buffers by their names, and nothing else: 0.weight",
    "freezes": "its forward sets requires_grad of 0.weight: set it where its layers are made",
    "fails_again": "cannot be built for images of 1x8x8: RuntimeError: made once",
    "keeps_numbers": "with the weights of another it gives other numbers, so that layers cannot be copied: what",
}


def spec(function):
    return NetworkSpec(name=f"{__name__}:{function}")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize(("function", "message"), UNFIT.items())
def test_networks_that_cannot_be_made_anew_by_a_seed_or_copied_are_refused(function, message):
    with pytest.raises(UserError, match=rf"^network=[\w.]+:{function}:? {re.escape(message)}"):
        resolved(spec(function), (1, 8, 8))


def test_layers_may_change_their_own_weights():
    resolved(spec("bounded"), (1, 8, 8))


def test_what_a_module_draws_at_import_changes_no_weights(tmp_path, monkeypatch):
    (tmp_path / "draws_at_import.py").write_text(
        "import torch\n\nDRAWN = torch.rand(3)\n\n\ndef build(num_classes):\n    return torch.nn.Sequential("
        "torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    drawn, weights = [], []
    for _ in range(2):
        torch.rand(3)
        weights += [
            build(NetworkSpec(name="draws_at_import:build"), image=(1, 8, 8), classes=5, seed=0).module[0].weight
            for _ in range(2)
        ]
        drawn.append(sys.modules.pop("draws_at_import").DRAWN)
    assert torch.equal(*drawn)
    assert all(torch.equal(tensor, weights[0]) for tensor in weights)


SETS = (
    "torch.set_num_threads({threads}); torch.set_float32_matmul_precision('medium'); cudnn.benchmark = True; "
    "torch.backends.mkldnn.enabled = False; torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False); "
    "torch.set_autocast_enabled('cpu', True)"
)


def test_what_a_module_or_function_sets_of_torch_ends_with_it(tmp_path, monkeypatch):
    at_import, called = SETS.format(threads=2), SETS.format(threads=3)
    (tmp_path / "sets_threads.py").write_text(
        f"import torch\nfrom torch.backends import cudnn\n\n{at_import}\n\n\ndef build(num_classes):\n    {called}\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with plain_settings():
        use_one_core()
        build(NetworkSpec(name="sets_threads:build"), image=(1, 8, 8), classes=5, seed=0)
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (1, "highest")
        assert not torch.backends.cudnn.benchmark
        assert (torch.backends.mkldnn.enabled, torch.is_grad_enabled()) == (True, True)
        assert (torch.get_default_dtype(), torch.is_autocast_enabled("cpu")) == (torch.float32, False)


def test_the_script_that_runs_is_part_of_a_network_that_it_defines(tmp_path, monkeypatch):
    script = types.ModuleType("__main__")
    script.__file__ = str(tmp_path / "starts_sweeps.py")
    for name in ("starts_sweeps", "lies_beside"):
        (tmp_path / f"{name}.py").write_text("def build(num_classes): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", [script.__file__])
    for name in ("__main__", "__mp_main__"):  # both are there once multiprocessing is imported
        monkeypatch.setitem(sys.modules, name, script)
    assert list(sources_of(NetworkSpec(name="lies_beside:build"))) == ["lies_beside.py"]
    assert list(sources_of(NetworkSpec(name="starts_sweeps:build"))) == ["lies_beside.py", "starts_sweeps.py"]


def test_a_package_may_have_no_init_file_and_lie_in_several_folders(tmp_path, monkeypatch):
    text = "def build(num_classes): ...\n"
    for folder in ("here", "there"):
        inner = tmp_path / folder / "no_init" / folder
        inner.mkdir(parents=True)
        (inner / "part.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / folder)
    (tmp_path / "here" / "no_init" / "net.py").write_text(f"import no_init.there.part\n\n\n{text}")
    monkeypatch.chdir(tmp_path / "there")
    importlib.import_module("no_init.here.part")
    assert list(sources_of(NetworkSpec(name="no_init.here.part:build"))) == ["no_init/here/part.py"]
    importlib.import_module("no_init.net")
    parts = ["no_init/here/part.py", "no_init/net.py", "no_init/there/part.py"]
    assert list(sources_of(NetworkSpec(name="no_init.net:build"))) == parts


def test_code_that_has_changed_since_its_import_is_refused(tmp_path, monkeypatch):
    file, network = tmp_path / "changes_in_a_notebook.py", NetworkSpec(name="changes_in_a_notebook:build")
    file.write_text("def build(num_classes): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert sources_of(network) == sources_of(network) == {file.name: "def build(num_classes): ...\n"}
    file.write_text("def build(num_classes): pass\n")
    with pytest.raises(UserError, match=rf"^network={network.name}: {file} has changed since it was imported: start"):
        sources_of(network)
    importlib.reload(sys.modules[file.stem])
    assert sources_of(network) == {file.name: "def build(num_classes): pass\n"}


HALF = """
import functools

from torch import nn

from {name}_parts import Part


def noted(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)

    return inner


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 4, 3), Part(), nn.Linear(4, num_classes)

    @noted
    def forward(self, x):
        return self.head(self.two(self.one(x)).mean((2, 3)))


def build(num_classes):
    return Net(num_classes)
"""
PART = """
from torch import nn


class Part(nn.Conv2d):
    def __init__(self):
        super().__init__(4, 4, 3)

    @property
    def slope(self):
        return 1.0

    def forward(self, x):
        return super().forward(x) * self.slope
"""


@pytest.fixture
def halves(tmp_path, monkeypatch):
    """A network in two files that have just been imported: what writes them, what imports them anew, and its spec."""
    name = f"halves_of_{tmp_path.name}"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which would be taken for that of what is as long
    for file, content in {name: HALF.format(name=name), f"{name}_parts": PART}.items():
        (tmp_path / f"{file}.py").write_text(content)
    importlib.import_module(name)

    def change(part, old, new):
        file = tmp_path / f"{name}{part}.py"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def reload(*parts):
        for part in parts:
            importlib.reload(sys.modules[f"{name}{part}"])

    yield change, reload, NetworkSpec(name=f"{name}:build")
    for file in (name, f"{name}_parts"):
        del sys.modules[file]


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("", "mean((2, 3)))", "mean((2, 3))) * 2.0"),
        ("", "class Net", "# More of it\nclass Net"),
        ("", "return Net(num_classes)", "return Net(num_classes"),
        ("_parts", "return 1.0", "return 2.0"),
    ],
)
def test_functions_that_changed_between_their_import_and_the_first_look_are_refused(halves, part, old, new):
    change, _, network = halves
    change(part, old, new)
    for _ in range(2):
        with pytest.raises(UserError, match=r"^network=\w+:build: .* has changed since it was imported: start"):
            sources_of(network)


def test_a_class_that_another_module_holds_of_before_is_refused(halves):
    change, reload, network = halves
    first = resolved(network, (1, 8, 8))
    change("_parts", "return 1.0", "return 2.0")
    reload("_parts")
    with pytest.raises(UserError, match="has changed since it was imported"):
        sources_of(network)
    reload("")
    assert resolved(network, (1, 8, 8)) != first


def test_a_network_that_is_imported_anew_is_followed_anew(halves):
    change, reload, network = halves
    first = resolved(network, (1, 8, 8))
    change("", "mean((2, 3)))", "mean((2, 3))) * 2.0")
    reload("")
    assert resolved(network, (1, 8, 8)) != first
    change("", "def noted", "def remarked")
    change("", "@noted", "@remarked")
    reload("")  # which leaves what its file has no more
    resolved(network, (1, 8, 8))


def test_lazy_layers_have_shapes_and_the_weights_of_their_seed():
    resolved(spec("lazy"), (1, 8, 8))
    states = []
    for seed in (0, 0, 1):
        torch.rand(3)
        states.append(build(spec("lazy"), image=(1, 8, 8), classes=5, seed=seed).module.state_dict())
    first, again, other = states
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert first["2.num_batches_tracked"] == 0
