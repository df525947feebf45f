"""Distances between all pairs of 20 tasks of 2,000 images, as trials on Ray, on all cores.

    python tests/benchmarks/all_pairs.py               CIFAR-10 and Fashion-MNIST, grey, 16 x 16 pixels
    python tests/benchmarks/all_pairs.py images=500    or any other option of sweeps/transfer_vs_distance.py

Only distances that need no network are taken, and nothing is trained. Symmetric ones are taken once for a pair.
"""

import logging
import sys
import time
from collections import Counter
from tempfile import TemporaryDirectory

from spread import Finishes, spread, with_defaults

from raytransfer.config import load_config
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.distance.config import DistanceConfig
from raytransfer.experiments.distance.plan import make_plan
from raytransfer.specs import DistanceSpec
from raytransfer.store import Store, failures, read_table
from raytransfer.sweep.ray import Slots, cluster, run_on_ray
from raytransfer.sweep.run import Run
from raytransfer.trials import Site

HALVES = [(data, half) for data in ("cifar10", "fashion_mnist") for half in "AB"]
DIALS = ["", ", blur_px: 1", ", noise: 40", ", inverted: true", ", random_labels: 0.5"]
TASKS = ", ".join(
    f"t{i}: {{data: {data}, classes: {half}{dial}}}"
    for i, ((data, half), dial) in enumerate((pair, dial) for pair in HALVES for dial in DIALS)
)


def main() -> None:
    asked = [
        f"tasks={{{TASKS}}}",
        *("targets=all", "bases=all", "dials={}", "dial_grid=null", "tree=null", "seeds=1", "scores=[]"),
        *("image_size_px=16", "channels=1", "images=2000", "distance_features=[pixels]"),
        *("train_per_class=null", "distances=[proxy-A,MMD2,FID,OTDD,NTK residual,class overlap]"),
    ]
    config = load_config(DistanceConfig, EXPERIMENTS["distance"].defaults, with_defaults(asked, sys.argv[1:]))
    plan = make_plan(config)
    specs = {trial: spec for trial, spec in plan.trials.items() if isinstance(spec, DistanceSpec)}
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with TemporaryDirectory() as root, cluster():
        store = Store(root)
        store.create()
        slots = Slots(None, 1.0)
        site = Site(sources=plan.sources, root=root, device="cpu", memory_bytes=0)
        started = time.monotonic()
        run_on_ray(Run(specs, site, Finishes()), slots)
        elapsed, used = time.monotonic() - started, slots.now()
        rows = read_table(store, "distances")
        assert not failures(store), failures(store)
    tasks = {spec.source for spec in specs.values()} | {spec.target for spec in specs.values()}
    print(f"{len(tasks)} tasks of {config.images} images, {len(specs)} distances on {used} slots: {elapsed:.0f} s")
    for measure, count in Counter(rows["measure"]).items():
        seconds = rows.loc[rows["measure"] == measure, "wall_time_s"]
        print(f"  {measure:14} {count:4} pairs, {spread(list(seconds), 2)} s each")


if __name__ == "__main__":
    main()
