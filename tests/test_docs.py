"""What the documents promise: links lead somewhere, commands exist, the tree and the columns are those of the code."""

import contextlib
import posixpath
import re
import shlex

import pytest

from raytransfer.cli import main
from raytransfer.config import load_config
from raytransfer.experiments import EXPERIMENTS
from raytransfer.store.schema import TABLES, markdown
from tests.helpers import ROOT

FOLDERS = ("raytransfer", "sweeps", "tests")  # others hold what installing and running make
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
}
README = PAGES["README.md"]
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SCRIPTS = {experiment.script: experiment for experiment in EXPERIMENTS.values()}


def anchors(page):
    """The places in a page that a link can name, as GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(name, pages):
    """The relative links of a page that lead to no file or folder, or to no heading of a page."""
    for link in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", pages[name])):
        if "://" in link:
            continue
        place, _, heading = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), place)) if place else name
        there = target in pages or (ROOT / target).exists()
        if not there or (heading and heading not in anchors(pages.get(target, ""))):
            yield link


def commands(page):
    """The command lines of a page that run raytransfer or a Python file, in words: of its blocks and of its text."""
    blocks = "\n".join(FENCE.findall(page)).replace("\\\n", " ")
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", page))
    for line in [*blocks.splitlines(), *inline]:
        for found in re.findall(r"(?:^|[ /])((?:raytransfer|python3?|ray submit --tmux \S+) .*)", line):
            words = shlex.split(found.removeprefix("ray submit --tmux cluster.yaml "), comments=True)
            words = words[1:] if words[0].startswith("python") else words
            named = words in (
                ["raytransfer", "run"],
                ["raytransfer", "plan"],
                ["raytransfer", "report"],
                ["raytransfer", "as", "rt"],
            )  # not a command
            if words[0].endswith(".py") or (words[0] == "raytransfer" and not named):
                yield tuple(words)


def sweep_of(words):
    """The experiment that a command line runs and the arguments it gets; None for other commands."""
    if words[0] == "raytransfer" and words[1] in ("run", "plan", "report") and words[2] != "results":  # a store
        return EXPERIMENTS[words[2]], words[3:]
    if words[0].startswith("sweeps/"):
        return SCRIPTS[words[0].removeprefix("sweeps/").removesuffix(".py")], words[1:]
    return None


COMMANDS = sorted({command for page in PAGES.values() for command in commands(page)})


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_somewhere(name):
    assert list(broken_links(name, PAGES)) == []


def test_a_broken_link_is_seen():
    pages = {"sweeps/x.md": "[a](no.md) [b](#here) [c](#gone) [d](results) [e](https://x.y)\n# Here\n"}
    assert list(broken_links("sweeps/x.md", pages)) == ["no.md", "#gone"]


def test_the_pages_are_all_here():
    assert {"README.md", "sweeps/results/README.md", "raytransfer/store/COLUMNS.md"} <= PAGES.keys()


def test_every_figure_is_shown():
    shown = {link for page in PAGES.values() for link in re.findall(r"figures/(\w+\.png)\)", page)}
    assert {path.name for path in (ROOT / "sweeps" / "results" / "figures").iterdir()} == shown


@pytest.mark.parametrize("words", [words for words in COMMANDS if sweep_of(words)], ids=" ".join)
def test_a_sweep_s_command_has_options_that_exist(words):
    experiment, arguments = sweep_of(words)
    options = [argument for argument in arguments if argument not in ("--plan", "--markdown", "--help")]
    load_config(experiment.config, experiment.defaults, options)


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] != "raytransfer"], ids=" ".join)
def test_a_command_s_file_exists(words):
    assert (ROOT / words[0]).is_file()


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] == "raytransfer" and not sweep_of(words)], ids=" ".join
)
def test_other_commands_are_understood(words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", list(words))
    with contextlib.suppress(SystemExit):  # with the exit code of an error nothing is printed but that
        main()
    printed = capsys.readouterr()
    if "results" in words:  # what takes a store has got as far as looking for it
        assert re.match(r"error: (results is no store|report takes an experiment, .* or a store)", printed.err)
    else:
        assert printed.out


def test_readme_has_a_command_for_every_experiment():
    found = [sweep_of(words) for words in commands(README)]
    assert {sweep[0].name for sweep in found if sweep} == set(EXPERIMENTS)
    for script in SCRIPTS:
        assert f"{script}.py`" in README


def test_readme_s_tree_names_every_folder():
    tree = re.search(r"^raytransfer/\n(.*?)^tests/", README, re.DOTALL | re.MULTILINE).group(1)
    named, above = set(), {}
    for indent, folder in re.findall(r"^( +)(\w+)/  ", tree, re.MULTILINE):
        above[len(indent)] = above.get(len(indent) - 2, "") + f"{folder}/"
        named.add(above[len(indent)])
    package = ROOT / "raytransfer"
    assert named == {f"{path.parent.relative_to(package).as_posix()}/" for path in package.glob("*/**/__init__.py")}


def test_readme_is_short():
    assert len(README.splitlines()) <= 260


def test_columns_are_the_schema_s():
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGES["raytransfer/store/COLUMNS.md"], re.DOTALL | re.M))
    assert {name: text[text.index("| column") :].strip() for name, text in sections.items()} == {
        name: markdown(columns) for name, columns in TABLES.items()
    }
