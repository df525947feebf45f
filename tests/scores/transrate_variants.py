"""TransRate's order of bases in each of its variants: the rows behind the table in raytransfer/scores/README.md.

    python -m tests.scores.transrate_variants STORE

runs `raytransfer run distance` on digits at one cut with each variant as a score of its own, in a few minutes on one
core, and writes sweeps/results/data/transrate_variants.parquet.
"""

import itertools
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import raytransfer
from raytransfer.scores import SCORES, Representation
from raytransfer.scores.scaling import centred_to_unit_norm

ROWS = Path(__file__).parents[2] / "sweeps" / "results" / "data" / "transrate_variants.parquet"
EPSILONS = ("1e-4", "1e-3", "1e-2", "1e-1", "1", "10")
SCALED, AS_THEY_ARE, NORM = "brought to one scale", "as they are", "norm alone"


def variant(r: Representation, *, scaled: bool, epsilon: float) -> float:
    """TransRate on one scale, classes weighed by their images; or as in the paper's listing, which does neither."""
    features = centred_to_unit_norm(r.features) if scaled else r.features - r.features.mean(axis=0)
    counts = np.bincount(r.labels)
    weights = counts / len(r.labels) if scaled else np.full(len(counts), 1 / len(counts))
    rates = [_coding_rate(features[r.labels == label], epsilon) for label in range(len(counts))]
    return _coding_rate(features, epsilon) - float(weights @ rates)


def norm(r: Representation) -> float:
    """Root mean squared norm of the centred features; no label enters."""
    return float(np.sqrt(np.square(r.features - r.features.mean(axis=0)).sum(axis=1).mean()))


def _coding_rate(z: np.ndarray, epsilon: float) -> float:
    return 0.5 * float(np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * epsilon)).logabsdet)


def main(store: str) -> None:
    plain = replace(SCORES["TransRate"], low=None)
    SCORES[NORM] = replace(plain, function=norm)
    for features, epsilon in itertools.product((SCALED, AS_THEY_ARE), EPSILONS):
        function = partial(variant, scaled=features == SCALED, epsilon=float(epsilon))
        SCORES[f"{features}, {epsilon}"] = replace(plain, function=function)
    scores = ["TransRate", *(name for name in SCORES if name.startswith((SCALED, AS_THEY_ARE, NORM)))]
    sweep = raytransfer.run(
        "distance", backend="in-process", out=store, n_layers=[6], distances=[], scores=scores, drawn=["TransRate"]
    )
    measures, outcomes = (sweep.frames[name] for name in ("measures", "outcomes"))
    rows = measures.pivot(index=["target", "base", "seed"], columns="measure", values="value").reset_index()
    rows.merge(outcomes[["target", "base", "seed", "AnB"]]).to_parquet(ROWS, index=False)


if __name__ == "__main__":
    main(sys.argv[1])
