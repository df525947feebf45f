"""From the defaults, a YAML file and the command line to one checked configuration."""

from raytransfer.config.loading import dotted, load_config, presets, takes_text
from raytransfer.config.shared import (
    WHERE_AND_HOW,
    PairsConfig,
    SweepConfig,
    TrainingConfig,
    WeightsConfig,
    trains_bases,
)
from raytransfer.config.showing import as_argument, differing, options, to_yaml

__all__ = [
    "WHERE_AND_HOW",
    "PairsConfig",
    "SweepConfig",
    "TrainingConfig",
    "WeightsConfig",
    "as_argument",
    "differing",
    "dotted",
    "load_config",
    "options",
    "presets",
    "takes_text",
    "to_yaml",
    "trains_bases",
]
