"""From the defaults, a YAML file and the command line to one checked configuration."""

from raytransfer.config.loading import Option, as_argument, differing, load_config, options, to_yaml
from raytransfer.config.shared import (
    WHERE_AND_HOW,
    PairsConfig,
    SweepConfig,
    TrainingConfig,
    WeightsConfig,
    trains_bases,
)

__all__ = [
    "WHERE_AND_HOW",
    "Option",
    "PairsConfig",
    "SweepConfig",
    "TrainingConfig",
    "WeightsConfig",
    "as_argument",
    "differing",
    "load_config",
    "options",
    "to_yaml",
    "trains_bases",
]
