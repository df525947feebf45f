"""A report where standard output or its files cannot be written, or stand elsewhere than one would like."""

import io
import os
import subprocess
import sys

import pytest

from raytransfer import cli, library
from raytransfer.cli import main
from raytransfer.console.output import new_console
from tests.helpers import ROOT

SWEEP = ["halves=[random]", "splits=1", "seeds=1", "n_layers=[2]", "treatments=[baseB,AnB]", "backend=in-process"]
SWEEP += ["train_per_class=5", "recipe.steps=2", "recipe.batch_size=8", "recipe.evaluations=1", "recipe.warmup_steps=0"]


@pytest.fixture(scope="module")
def places(tmp_path_factory, cache_dir):
    return [f"out={tmp_path_factory.mktemp('report') / 'out'}", f"cache_dir={cache_dir}", f"data_dir={cache_dir}"]


@pytest.fixture
def call(monkeypatch, capsys, places):
    """Run the command on one small sweep; gives its exit code, output and errors."""

    def call_with(command):
        monkeypatch.setattr("sys.argv", ["raytransfer", command, "yosinski", *SWEEP, *places])
        with pytest.raises(SystemExit, match=r"\d") as end:
            main()
        return end.value.code, *capsys.readouterr()

    return call_with


@pytest.fixture(autouse=True)
def _no_pictures(no_pictures):
    """No one looks at them here."""


def folder(places):
    return next(iter((ROOT / places[0].removeprefix("out=") / "sweeps").iterdir()))


def test_a_full_disk_below_standard_output_costs_neither_the_trials_nor_the_files(call, monkeypatch, places):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr("sys.stdout", full)
        code, _, error = call("run")
    assert code == 3
    assert error == "standard output cannot be written: No space left on device; going on without it\n"
    assert {"results.parquet", "points.png", "lines.png"} <= {file.name for file in folder(places).iterdir()}


def test_what_an_encoding_lacks_is_written_otherwise(call, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
    code, _, error = call("run")
    sys.stdout.flush()
    assert (code, error) == (0, "")
    assert "+-: half of the 95% interval" in written.getvalue().decode("ascii")


def test_letters_that_are_no_text_are_shown_as_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="utf-8"))
    new_console().print("é \udcff")
    sys.stdout.flush()
    assert written.getvalue().decode() == "é \\udcff\n"


@pytest.mark.parametrize(("columns", "width"), [("0", 80), ("00", 80), ("7", 40), ("132", 132), ("wide", 80)])
def test_a_console_is_never_narrower_than_a_number(monkeypatch, capsys, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    assert new_console().width == width


def test_words_between_colons_are_no_pictures(monkeypatch, capsys):
    line = "nets:two: 5 layers; nets.py:100: no"
    for console in (new_console(), library._console(quiet=False), cli._beside()):
        console.print(line)
    monkeypatch.setattr("sys.argv", ["raytransfer", "list", line])
    with pytest.raises(SystemExit, match=r"2"):
        main()
    printed, error = capsys.readouterr()
    assert printed == f"{line}\n" * 2
    assert error.startswith(f"{line}\nerror: list {line} is not known")


def test_a_store_that_takes_no_files_still_gives_its_tables(call, places):
    call("run")
    sweeps = folder(places).parent
    sweeps.rename(sweeps.with_name("before"))
    sweeps.write_text("in the way")
    code, printed, error = call("report")
    assert (code, error) == (0, "")
    assert "Top-1 accuracy on the target" in printed
    assert f"The report's files are not written: {sweeps}" in printed
    code, printed, error = call("run")
    assert code == 3
    assert "Top-1 accuracy on the target" in printed
    assert error.startswith(f"error: {sweeps}")
    assert len(error.splitlines()) == 1
    sweeps.unlink()


def test_a_notebook_s_backend_is_not_asked_for(call, places):
    call("run")
    environment = {**os.environ, "MPLBACKEND": "module://a_notebook_s", "COLUMNS": "0", "PYTHONIOENCODING": "ascii"}
    code = "from raytransfer.cli import main; main()"
    command = [sys.executable, "-c", code, "report", "yosinski", *SWEEP, *places]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "Pictures: " in result.stdout


def test_a_notebook_or_a_build_that_asks_for_colours_is_no_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks' kernels set it
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert not new_console().is_terminal
    assert not library._console(quiet=False).is_terminal
