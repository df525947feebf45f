"""From the defaults, a YAML file and the command line to one checked configuration."""

from raytransfer.config.kinds import (
    DistanceConfig,
    GridConfig,
    PairsConfig,
    StageConfig,
    SweepConfig,
    TheoryConfig,
    TrainingConfig,
    WhyConfig,
)
from raytransfer.config.loading import Option, load_config, options, to_yaml

__all__ = [
    "DistanceConfig",
    "GridConfig",
    "Option",
    "PairsConfig",
    "StageConfig",
    "SweepConfig",
    "TheoryConfig",
    "TrainingConfig",
    "WhyConfig",
    "load_config",
    "options",
    "to_yaml",
]
