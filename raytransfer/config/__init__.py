"""From the defaults, a YAML file and the command line to one checked configuration."""

from raytransfer.config.loading import Option, as_argument, differing, load_config, options, to_yaml
from raytransfer.config.shared import PairsConfig, SweepConfig, TrainingConfig, WeightsConfig

__all__ = [
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
]
