"""Small real parts that the tests share: a sweep's YAML for tiny trainings on the embedded digits."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from raytransfer.config import load_config
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.report import files, page
from tests.helpers import with_defaults

# Timings belong in benchmarks: a busy machine is no failure.
hypothesis.settings.register_profile("raytransfer", deadline=None)
hypothesis.settings.load_profile("raytransfer")

TINY = """
data: digits
train_per_class: 5
halves: [random]
splits: 1
seeds: 1
n_layers: [2, 7]
backend: in-process
recipe: {steps: 6, batch_size: 8, learning_rate: 0.01, pad_px: 1, mirror: true, evaluations: 3}
"""


LATE_AND_LONG = ("sweep/test_run.py", "training/test_loop.py", "trials/test_ranks.py", "trials/test_resume.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have long modules that would come near the end come first, or one worker waits for the other's last one."""
    items.sort(key=lambda item: not item.nodeid.partition("::")[0].endswith(LATE_AND_LONG))


def pytest_configure() -> None:
    """Compute in one thread: where two workers share two cores, more threads mostly wait for one another."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # in processes that tests start
    torch.set_num_threads(1)


def pytest_sessionfinish() -> None:
    """Let the collector see what the command kept from it, of which Triton would complain at length."""
    gc.unfreeze()


@pytest.fixture(scope="module")
def no_pictures() -> Iterator[None]:
    """Reports at which a module's tests do not look: nothing is drawn, which takes seconds a sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "png", lambda _: b"a picture")
        patch.setattr(files, "pdf", lambda _: b"a picture")
        patch.setattr(page, "inline_svg", lambda *_, **__: ('<svg role="img" aria-label="a picture"/>', []))
        yield


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(tmp_path: Path, cache_dir: Path) -> Callable[..., GridConfig]:
    """A configuration of a grid of tiny trials, with overrides, whose store is ``tmp_path/out``."""
    yaml = tmp_path / "tiny.yaml"
    yaml.write_text(TINY)

    def configure(*overrides: str) -> GridConfig:
        places = [f"cache_dir={cache_dir}", f"data_dir={tmp_path}", f"out={tmp_path / 'out'}"]
        return load_config(GridConfig, yaml, with_defaults(places, overrides))

    return configure
