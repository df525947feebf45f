"""Distances between tasks, each computed from two samples of labelled images.

To add one, write a function of two samples in a file of its own, and add its line to ``DISTANCES``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from raytransfer.distances.fid import fid
from raytransfer.distances.mmd import mmd2
from raytransfer.distances.ntk import ntk_residual
from raytransfer.distances.otdd import otdd
from raytransfer.distances.overlap import class_overlap
from raytransfer.distances.proxy_a import proxy_a
from raytransfer.distances.sample import Sample
from raytransfer.distances.task2vec import task2vec
from raytransfer.distances.tree import parse_tree, tree_distance

__all__ = ["DIAL_KINDS", "DISTANCES", "Distance", "Sample", "parse_tree"]

# What a dial may change in a task: pixels (blur, noise, shuffling, another data set), which classes it shares, how the
# same images are labelled (classes merged, split or replaced), and what share of labels is random.
DIAL_KINDS = ("input", "shared", "labelling", "random labels")


@dataclass(frozen=True)
class Distance:
    """A distance and its properties.

    Attributes:
        function: From source and target to the distance.
        reads: What it reads: ``features``, pixels or outputs of a stage of a probe network; only ``pixels``; ``probe``,
            a probe network and its input images; or ``classes``, only their names.
        blind_to: Those of ``DIAL_KINDS`` that cannot change it, by construction.
        meaning: One line for the user.
        symmetric: Whether it is the same in both directions.
        least_labels: Number of labels, with at least two images each, that a task must have.
        same_labels: Whether it is defined only for tasks with the same labels.
        revision: Incremented when values for the same input change, so that old ones are not reused.
    """

    function: Callable[[Sample, Sample], float]
    reads: Literal["features", "pixels", "probe", "classes"]
    blind_to: frozenset[str]
    meaning: str
    symmetric: bool = True
    least_labels: int = 1
    same_labels: bool = False
    revision: int = 1


_SEES_ALL: frozenset[str] = frozenset()
_NO_LABELS = frozenset({"labelling", "random labels"})
_NO_IMAGES = frozenset({"input", "random labels"})
_NO_IMAGES_NOR_MERGING = frozenset({"input", "labelling", "random labels"})

DISTANCES: dict[str, Distance] = {
    "proxy-A": Distance(
        proxy_a, "features", _NO_LABELS, "how well a classifier tells their images apart, 0..2", revision=2
    ),
    "MMD2": Distance(mmd2, "features", _NO_LABELS, "squared distance of kernel means, about 0..2", revision=2),
    "FID": Distance(fid, "features", _NO_LABELS, "squared Fréchet distance of Gaussians of their images", revision=2),
    "OTDD": Distance(otdd, "features", _SEES_ALL, "debiased cost of moving labelled images, squared units", revision=2),
    "Task2Vec": Distance(
        task2vec, "probe", _SEES_ALL, "how much other filters of a probe matter, 0..1", least_labels=2
    ),
    "NTK residual": Distance(
        ntk_residual,
        "pixels",
        _SEES_ALL,
        "squared move of a wide network; of tasks with the same labels",
        symmetric=False,
        same_labels=True,
    ),
    "class overlap": Distance(
        class_overlap, "classes", _NO_IMAGES, "part of all their classes they do not share, 0..1", revision=2
    ),
    "tree": Distance(
        tree_distance, "classes", _NO_IMAGES_NOR_MERGING, "way between classes in a hierarchy, 0..1", revision=2
    ),
}
