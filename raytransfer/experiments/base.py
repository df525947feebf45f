"""An experiment: a configuration, how it makes a plan, and how results make a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from raytransfer.config import SweepConfig

if TYPE_CHECKING:  # these import torch and matplotlib, for which --help and a mistyped option need not wait
    from raytransfer.report import Report
    from raytransfer.store import Store
    from raytransfer.sweep.plan import Plan

Config = TypeVar("Config", bound=SweepConfig)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How ``raytransfer compare`` pairs two sweeps of an experiment.

    Attributes:
        frame: Name of the report's table.
        keys: Columns that identify a row; not for a grid.
        values: Columns that are compared: outcomes, as fractions; not for a grid.
        by: Columns that make a group, whose mean is compared; None for a grid, whose readings are compared as well.
    """

    frame: str
    keys: Sequence[str] = ()
    values: Sequence[str] = ()
    by: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment(Generic[Config]):
    """One experiment.

    Attributes:
        name: What the command calls it: ``raytransfer run NAME``. Its package below ``raytransfer.experiments`` has the
            same name, and holds ``defaults.yaml`` (of its options), ``plan.make_plan`` and ``report.make_report``.
        script: Name of its script below ``sweeps/``, and of its reports' folders.
        question: What it asks, in one line.
        config: Its options.
        compared: How two sweeps are compared; None where they are not.
    """

    name: str
    script: str
    question: str
    config: type[Config]
    compared: Compared | None = None

    @property
    def defaults(self) -> Path:
        """Its file of defaults."""
        with as_file(files(self._package) / "defaults.yaml") as path:
            return path  # packages are installed as files

    def plan(self, config: Config) -> "Plan[Any, Any]":
        """From a configuration to all trials, everything checked that can be before training."""
        found: Plan[Any, Any] = import_module(f"{self._package}.plan").make_plan(config)
        return found

    def report(self, plan: "Plan[Any, Any]", store: "Store", config: Config) -> "Report":
        """From a plan and what has finished in a store to a report."""
        found: Report = import_module(f"{self._package}.report").make_report(plan, store, config)
        return found

    @property
    def _package(self) -> str:
        return f"raytransfer.experiments.{self.name}"
