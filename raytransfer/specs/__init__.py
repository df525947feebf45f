"""What a trial is: frozen dataclasses whose content is their identity.

A spec holds only what can change a result. Paths, workers, devices and slot sizes live elsewhere, so the same spec in
two sweeps, or on two machines, is one run.
"""

import json
from typing import cast

from raytransfer.specs.identity import HASH_VERSION, built, to_json
from raytransfer.specs.measuring import DistanceSpec, MeasureSpec, ProbeSpec, ScoreSpec, SimulationSpec
from raytransfer.specs.task import Dials, TaskSpec
from raytransfer.specs.training import (
    UNCUT,
    Imported,
    NetworkSpec,
    PretrainSpec,
    Recipe,
    Surgery,
    Trained,
    TrainingSpec,
    TransferSpec,
    Weights,
)

TrialSpec = TrainingSpec | MeasureSpec

__all__ = [
    "HASH_VERSION",
    "UNCUT",
    "Dials",
    "DistanceSpec",
    "Imported",
    "MeasureSpec",
    "NetworkSpec",
    "PretrainSpec",
    "ProbeSpec",
    "Recipe",
    "ScoreSpec",
    "SimulationSpec",
    "Surgery",
    "TaskSpec",
    "Trained",
    "TrainingSpec",
    "TransferSpec",
    "TrialSpec",
    "Weights",
    "from_json",
    "to_json",
]


def from_json(text: str) -> TrialSpec:
    """The spec that ``to_json`` wrote.

    Raises:
        ValueError: It is none.
    """
    return cast(TrialSpec, built(TrialSpec, json.loads(text)))
