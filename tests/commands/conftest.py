"""A store with a finished sweep, made once, and the command in this process."""

import shutil
from pathlib import Path

import pytest

import raytransfer as rt
from raytransfer.cli import main
from raytransfer.report import files, page
from raytransfer.store import Store

TINY = {
    "halves": ["random"],
    "splits": 3,
    "seeds": 1,
    "directions": ["A->B"],
    "n_layers": [2],
    "treatments": ["baseB", "AnB"],
    "train_per_class": 5,
    "backend": "in-process",
    "recipe": {"steps": 4, "batch_size": 8, "evaluations": 1, "warmup_steps": 0},
}
"""Nine trials: of three splits, base A, base B and AnB."""


def without_pictures(patch):
    """Have reports written whose pictures are not drawn, which takes seconds."""
    patch.setattr(files, "png", lambda _: b"a picture")
    patch.setattr(files, "pdf", lambda _: b"a picture")
    patch.setattr(page, "inline_svg", lambda *_, **__: ("<svg></svg>", []))


@pytest.fixture
def no_pictures(monkeypatch):
    """Reports without pictures."""
    without_pictures(monkeypatch)


@pytest.fixture(scope="session")
def made(tmp_path_factory, cache_dir):
    """A store with one finished sweep, and what ``rt.run`` gave; it is copied, never changed."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        sweep = rt.run("yosinski", out=root / "out", cache_dir=cache_dir, data_dir=root, quiet=True, **TINY)
    return root / "out", sweep


@pytest.fixture
def store(made, tmp_path):
    """A copy of it."""
    shutil.copytree(made[0], tmp_path / "out")
    return Store(str(tmp_path / "out"))


@pytest.fixture
def folder(store):
    """The sweep's folder."""
    (found,) = Path(store.root, "sweeps").iterdir()
    return found


@pytest.fixture
def command(monkeypatch, capsys):
    """Run ``raytransfer`` with arguments; gives its exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["raytransfer", *map(str, arguments)])
        with pytest.raises(SystemExit, match=r"\d*") as end:
            main()
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call
