"""The project's own rules: which module may import which, what lies at the top level."""

import ast
import tomllib

import pytest

from raytransfer.experiments import EXPERIMENTS
from tests.helpers import ROOT

# Each may import from those before it, and none from those after it.
ROOMS = [
    {"errors", "words", "console"},
    {"specs", "storage"},
    {"config", "networks", "tasks", "analysis"},
    {"training", "store"},
    {"distances", "scores"},
    {"probes", "simulation", "report"},
    {"trials"},
    {"sweep"},
    {"experiments"},
    {"commands"},
    {"library"},
    {"cli"},
    {"__main__"},
]
HEAVY = {
    "ray": {"sweep/ray"},
    "omegaconf": {"config"},
    "rich": {"cli", "commands", "console", "library", "report", "sweep", "experiments"},
    "matplotlib": {"report", "experiments"},
    "jinja2": {"report"},
}


def imports(path):
    """Names of the modules that a file imports anywhere in it, but for type checking."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules():
    for path in sorted((ROOT / "raytransfer").rglob("*.py")):
        room = path.relative_to(ROOT / "raytransfer").parts[0].removesuffix(".py")
        if room != "__init__":
            yield path, room


def level(room):
    return next(i for i, rooms in enumerate(ROOMS) if room in rooms)


@pytest.mark.parametrize(("path", "room"), list(modules()), ids=lambda value: getattr(value, "stem", value))
def test_imports_point_one_way(path, room):
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "raytransfer" and rest:
            other = rest.partition(".")[0]
            assert other == room or level(other) < level(room), f"{path.name} imports {name}"
        elif top in HEAVY:
            allowed = HEAVY[top]
            inside = path.parent.relative_to(ROOT / "raytransfer").as_posix()
            assert room in allowed or inside in allowed, f"{path.name} imports {name}"


def test_a_wheel_holds_every_file_that_the_package_reads():
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["raytransfer"]
    package = ROOT / "raytransfer"
    held = {path for rule in rules for path in package.glob(rule)}
    read = {path for path in package.rglob("*.*") if path.suffix not in (".py", ".pyc", ".md")}
    assert read <= held
    assert {experiment.defaults for experiment in EXPERIMENTS.values()} <= held


def test_the_top_level_holds_what_was_agreed():
    made = {"build", "results", "__pycache__", "raytransfer.egg-info"}  # by installing and running; git ignores them
    agreed = {
        "pyproject.toml",
        "constraints.txt",
        "LICENSE",
        "README.md",
        "cluster.yaml",
        "raytransfer",
        "sweeps",
        "tests",
    }
    assert {path.name for path in ROOT.iterdir() if path.name[0] != "."} <= agreed | made
