"""Distances and scores against the reference way to compute each, on the same inputs in one process and one thread.

    python tests/benchmarks/measures.py                      CIFAR-10's halves, 1,000 images each, grey, 16 x 16 pixels
    python tests/benchmarks/measures.py images=2000 side=32 measures=proxy-A,MMD2

The reference is what a careful user would call: scikit-learn's ``cross_val_score`` on its own pipeline (proxy-A, kNN,
linear probe) and its ``rbf_kernel`` (MMD²), SciPy's ``sqrtm`` (FID), POT's ``bures_wasserstein_distance`` for each two
classes and ``sinkhorn2`` for each of three terms (OTDD). Both are timed in turns, and the ratio is the reference's time
over ours: above 1, ours is quicker.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ot
import torch
from scipy.linalg import sqrtm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from spread import spread
from threadpoolctl import threadpool_limits

from raytransfer.distances import DISTANCES, Sample
from raytransfer.scores import SCORES, Representation
from raytransfer.tasks import DataSource, load_task, open_dataset, random_halves, task_spec

REPEATS = 3


def reference_proxy_a(a: Sample, b: Sample) -> float:
    features = np.concatenate([a.features, b.features])
    domain = np.repeat([0, 1], [len(a.features), len(b.features)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / features.shape[1], max_iter=1000))
    return float(2 * (1 - 2 * (1 - cross_val_score(model, features, domain, cv=5).mean())))


def reference_mmd2(a: Sample, b: Sample) -> float:
    pooled = np.concatenate([a.features, b.features])
    distances = np.sqrt(np.maximum(ot.dist(pooled, pooled), 0))
    gamma = 1 / (2 * np.median(distances[distances > 0]) ** 2)
    xx, yy, xy = (rbf_kernel(p.features, q.features, gamma) for p, q in ((a, a), (b, b), (a, b)))
    m, n = len(xx), len(yy)
    return float((xx.sum() - m) / (m * (m - 1)) + (yy.sum() - n) / (n * (n - 1)) - 2 * xy.mean())


def reference_fid(a: Sample, b: Sample) -> float:
    s1, s2 = (np.cov(sample.features, rowvar=False) for sample in (a, b))
    shift = a.features.mean(axis=0) - b.features.mean(axis=0)
    return float(shift @ shift + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real))


def reference_otdd(a: Sample, b: Sample) -> float:
    def gaussians(sample: Sample) -> list[tuple[Any, Any]]:
        groups = [sample.features[sample.labels == label] for label in range(len(sample.classes))]
        return [(group.mean(axis=0), np.cov(group, rowvar=False)) for group in groups]

    def costs(p: Sample, q: Sample) -> Any:
        of_classes = np.array(
            [
                [ot.gaussian.bures_wasserstein_distance(m1, m2, s1, s2) ** 2 for m2, s2 in gaussians(q)]
                for m1, s1 in gaussians(p)
            ]
        )
        return ot.dist(p.features, q.features) + of_classes[np.ix_(p.labels, q.labels)]

    across = costs(a, b)
    blur = 0.1 * across.mean()
    cross, one, other = (ot.sinkhorn2([], [], c, blur, stopThr=1e-6) for c in (across, costs(a, a), costs(b, b)))
    return float(cross - (one + other) / 2)


def reference_knn(r: Representation) -> float:
    model = KNeighborsClassifier(n_neighbors=5, weights="distance")
    return float(cross_val_score(model, r.features, r.labels, cv=5).mean())


def reference_linear_probe(r: Representation) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(cross_val_score(model, r.features, r.labels, cv=5).mean())


def main() -> None:
    given = dict(argument.split("=") for argument in sys.argv[1:])
    images, data = int(given.get("images", 1000)), given.get("data", "cifar10")
    torch.set_num_threads(1)
    threadpool_limits(1)  # of BLAS, as in a trial: threads that wait for each other took 80 times the CPU time for FID
    source = DataSource(
        data=data,
        data_dir="~/.cache/raytransfer-data",
        cache_dir="~/.cache/raytransfer",
        image_size_px=int(given.get("side", 16)),
        channels=1,
    )
    dataset = open_dataset(source)
    samples = [_sample(dataset, half, images) for half in random_halves(10, 0)]
    one = Representation(name=data, features=samples[0].features, labels=samples[0].labels)
    print(f"{images} images of each task, {samples[0].features.shape[1]} pixels, 5 classes")
    pairs: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
        "proxy-A": (lambda: DISTANCES["proxy-A"].function(*samples), lambda: reference_proxy_a(*samples)),
        "MMD2": (lambda: DISTANCES["MMD2"].function(*samples), lambda: reference_mmd2(*samples)),
        "FID": (lambda: DISTANCES["FID"].function(*samples), lambda: reference_fid(*samples)),
        "OTDD": (lambda: DISTANCES["OTDD"].function(*samples), lambda: reference_otdd(*samples)),
        "kNN": (lambda: SCORES["kNN"].function(one), lambda: reference_knn(one)),
        "linear probe": (lambda: SCORES["linear probe"].function(one), lambda: reference_linear_probe(one)),
    }
    for name in given.get("measures", ",".join(pairs)).split(","):
        ours, reference = pairs[name]
        times: tuple[list[float], list[float]] = ([], [])
        values = [0.0, 0.0]
        for _ in range(REPEATS):
            for i, compute in enumerate((ours, reference)):
                started = time.perf_counter()
                values[i] = compute()
                times[i].append(time.perf_counter() - started)
        ratios = [b / a for a, b in zip(*times, strict=True)]
        ms = [1000 * statistics.median(side) for side in times]
        print(
            f"{name:14} ours {values[0]:10.4g} in {ms[0]:8.0f} ms, reference {values[1]:10.4g} in {ms[1]:8.0f} ms, "
            f"ratio {spread(ratios)}"
        )


def _sample(dataset: Any, classes: tuple[int, ...], images: int) -> Sample:
    part = load_task(dataset, task_spec(dataset, classes, None, 0)).train
    rows = np.linspace(0, len(part.rows) - 1, images).astype(int)
    pixels = part.images[part.rows[rows]].reshape(images, -1) / 255.0
    names = tuple(str(index) for index in classes)
    return Sample(name=str(classes), features=pixels, labels=part.labels[rows], classes=names)


if __name__ == "__main__":
    main()
