"""What finished trials say: DataFrame in, DataFrame out. Accuracies are fractions; nothing here trains."""

from raytransfer.analysis.transfer import BASES, READINGS, Boost, boost, boosts, readings, treatment_means
from raytransfer.analysis.yosinski2014 import yosinski2014

__all__ = ["BASES", "READINGS", "Boost", "boost", "boosts", "readings", "treatment_means", "yosinski2014"]
