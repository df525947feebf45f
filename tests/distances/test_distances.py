import copy
import itertools
import re
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from raytransfer.distances import DIAL_KINDS, DISTANCES, Sample, parse_tree
from raytransfer.distances.bures import gaussian, w2_squared
from raytransfer.distances.content import DIGEST_BYTES, content_order, digests
from raytransfer.distances.fid import fid
from raytransfer.distances.fisher import Body, fisher
from raytransfer.distances.mmd import mmd2
from raytransfer.distances.ntk import _RIDGE, gram, ntk_residual
from raytransfer.distances.otdd import otdd
from raytransfer.distances.overlap import class_overlap
from raytransfer.distances.proxy_a import proxy_a
from raytransfer.distances.task2vec import directions, embedding, fit_head, random_signs, task2vec
from raytransfer.distances.tree import check_in_tree, tree_distance
from raytransfer.errors import UserError
from raytransfer.networks import build
from raytransfer.specs import NetworkSpec
from tests.helpers import staged

PROBE = build(NetworkSpec(name="convnet8"), image=(1, 8, 8), classes=5, seed=0)
TREE = parse_tree({"low": list("01234"), "high": {"less": ["5", "6"], "more": ["7", "8", "9"]}})
MEASURES = sorted(DISTANCES)
ON_FEATURES = [name for name in MEASURES if DISTANCES[name].reads in ("features", "pixels")]


def plain(features, labels=None, name="task") -> Sample:
    """A sample of nothing but features, by default of one class."""
    features = np.asarray(features, dtype=np.float64)
    labels = np.zeros(len(features), dtype=np.int64) if labels is None else np.asarray(labels)
    classes = tuple(f"made/{i}" for i in range(labels.max(initial=0) + 1))
    return Sample(name=name, features=features, labels=labels, classes=classes)


def images(pixels, labels, classes) -> Sample:
    """A sample with all that any measure reads, of 8 x 8 images."""
    inputs = torch.as_tensor(np.asarray(pixels), dtype=torch.float32).reshape(-1, 1, 8, 8)
    return Sample(name="digits", features=pixels, labels=labels, classes=classes, inputs=inputs, probe=PROBE, tree=TREE)


def digits(first: int, start: int, n: int) -> Sample:
    """Images ``start`` to ``start + n`` of the five digits from ``first``."""
    pixels, labels = load_digits(return_X_y=True)
    shuffled = np.random.default_rng(0).permutation(len(labels))  # as stored, one writer follows the other
    rows = shuffled[(labels[shuffled] >= first) & (labels[shuffled] < first + 5)][start : start + n]
    classes = tuple(f"digits/{first + i}" for i in range(5))
    return images(pixels[rows] / 16, labels[rows].astype(np.int64) - first, classes)


def reordered(sample: Sample, seed: int) -> Sample:
    order = np.random.default_rng(seed).permutation(len(sample.labels))
    inputs = None if sample.inputs is None else sample.inputs[order]
    return replace(sample, features=sample.features[order], labels=sample.labels[order], inputs=inputs)


def inverted(sample: Sample) -> Sample:
    return images(1 - sample.features, sample.labels, sample.classes)


def comparable(name: str, one: Sample, other: Sample) -> Sample:
    """The other sample, under the labels of the first where a measure takes no others."""
    return replace(other, classes=one.classes) if DISTANCES[name].same_labels else other


def dialled(sample: Sample, kind: str) -> Sample:
    """The same sample with a dial of one kind turned far."""
    if kind == "input":
        return inverted(sample)
    if kind == "shared":
        return digits(5, 0, len(sample.labels))
    if kind == "labelling":
        return images(sample.features, sample.labels // 2, ("digits/0+1", "digits/2+3", "digits/4"))
    labels = np.random.default_rng(0).permutation(sample.labels)
    return images(sample.features, labels, sample.classes)


@pytest.fixture(scope="module")
def some() -> Sample:
    return digits(0, 0, 120)


@pytest.fixture(scope="module")
def far() -> Sample:
    """A task that differs from ``some`` in everything: pixels, classes and their names."""
    return inverted(digits(5, 0, 90))


# The contract that every measure keeps


@pytest.mark.parametrize("name", MEASURES)
def test_a_registered_measure_says_what_it_reads_and_is_blind_to(name):
    distance = DISTANCES[name]
    assert distance.reads in ("features", "pixels", "probe", "classes")
    assert distance.blind_to < set(DIAL_KINDS)
    assert distance.meaning


@pytest.mark.parametrize("name", MEASURES)
def test_it_is_finite_and_larger_for_another_task_than_for_the_same(name, some, far):
    function = DISTANCES[name].function
    same, other = function(some, replace(some)), function(some, comparable(name, some, far))
    assert type(same) is type(other) is float
    assert np.isfinite([same, other]).all()
    assert other > 0
    assert abs(same) < 0.05 * other


@pytest.mark.parametrize("name", [name for name in ON_FEATURES if name != "NTK residual"])
def test_disjoint_samples_of_one_task_are_nearer_than_another_task(name, some, far):
    function = DISTANCES[name].function
    assert function(some, digits(0, 120, 120)) < 0.3 * function(some, far)


@pytest.mark.parametrize("name", MEASURES)
def test_it_is_symmetric_where_it_says_so(name, some, far):
    distance = DISTANCES[name]
    far = comparable(name, some, far)
    there, back = distance.function(some, far), distance.function(far, some)
    assert (there == pytest.approx(back, rel=1e-6)) == distance.symmetric


@pytest.mark.parametrize("name", MEASURES)
def test_the_order_of_the_images_changes_nothing(name, some, far):
    function = DISTANCES[name].function
    for one, other in ((some, comparable(name, some, far)), (some, digits(0, 60, 120)), (some, some)):
        expected = function(one, other)
        for seed in (1, 2):
            again = function(reordered(one, seed), reordered(other, seed + 10))
            assert again == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", DIAL_KINDS)
@pytest.mark.parametrize("name", MEASURES)
def test_it_sees_every_dial_but_those_it_says_it_is_blind_to(name, kind, some):
    distance = DISTANCES[name]
    turned = dialled(some, kind)
    if distance.same_labels and turned.classes != some.classes:
        with pytest.raises(UserError, match="is defined for tasks with the same labels"):
            distance.function(some, turned)
        return
    before, after = distance.function(some, some), distance.function(some, turned)
    if kind in distance.blind_to:
        assert after == before
    else:
        assert after > before + 0.01


@pytest.mark.parametrize("name", ON_FEATURES)
def test_features_of_unequal_length_are_a_clear_error(name, some):
    shorter = replace(some, features=some.features[:, :48])
    with pytest.raises(UserError, match="64 features an image and digits 48: bring their images to one size"):
        DISTANCES[name].function(some, shorter)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("awkward", ["constant", "constant columns", "fewer images than features", "copies"])
def test_awkward_samples_have_a_finite_distance(name, awkward, some):
    few = reordered(some, 0)
    few = images(few.features[:20], np.arange(20) % 5, some.classes)
    made = {
        "constant": lambda: (images(np.full((20, 64), 0.1), few.labels, few.classes), few),
        "constant columns": lambda: (images(few.features * (np.arange(64) < 3), few.labels, few.classes), few),
        "fewer images than features": lambda: (few, digits(0, 60, 25)),
        "copies": lambda: (images(np.repeat(few.features, 3, axis=0), np.repeat(few.labels, 3), few.classes), few),
    }
    one, other = made[awkward]()
    function = DISTANCES[name].function
    assert np.isfinite([function(one, other), function(other, one), function(one, replace(one))]).all()


@pytest.mark.parametrize("name", MEASURES)
def test_two_equal_constant_samples_are_not_apart(name):
    constant = images(np.full((20, 64), 0.3), np.arange(20) % 5, tuple(f"digits/{i}" for i in range(5)))
    if name == "NTK residual":  # one image with five labels: no weights fit it, and this says so
        assert np.isfinite(ntk_residual(constant, constant))
    else:
        assert DISTANCES[name].function(constant, replace(constant)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_a_class_with_one_image_is_measured_or_refused_in_words(name, some):
    lonely = images(some.features[:21], np.append(np.arange(20) % 4, 4), some.classes)
    for pair in ((lonely, some), (some, lonely)):
        if name == "OTDD":
            with pytest.raises(UserError, match="class digits/4 has a single image, and OTDD needs the covariance"):
                DISTANCES[name].function(*pair)
        else:
            assert np.isfinite(DISTANCES[name].function(*pair))


@pytest.mark.parametrize("name", ["FID", "MMD2", "proxy-A"])
def test_a_single_image_is_too_few_where_a_spread_is_needed(name):
    with pytest.raises(UserError, match="at least 2 images of each, not"):
        DISTANCES[name].function(plain([[1.0, 2.0]]), plain([[1.0, 2.0], [3.0, 4.0]]))


# Samples


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.array([[1.0], [np.nan]])}, "its features hold NaN or infinity"),
        ({"features": np.zeros((3, 1))}, r"features of shape \(3, 1\) for 2 labels"),
        ({"features": np.zeros((2, 0))}, r"features of shape \(2, 0\) for 2 labels"),
        ({"labels": np.array([0, 2])}, r"labels must be 0\.\.1"),
        ({"labels": np.array([0, -1])}, r"labels must be 0\.\.1"),
        ({"labels": np.array([0, 0])}, r"every class needs an image; images of each are \[2, 0\]"),
        ({"classes": ("a", "a")}, "they must be named, each once"),
        ({"features": np.zeros((0, 1)), "labels": np.zeros(0, np.int64), "classes": ()}, "they must be named"),
        ({"inputs": torch.zeros(3, 1, 8, 8)}, "3 inputs for 2 labels"),
        ({"inputs": torch.full((2, 1, 8, 8), torch.nan)}, "without NaN or infinity"),
    ],
)
def test_a_sample_refuses_what_no_distance_can_be_taken_of(changes, message):
    good = plain([[1.0], [2.0]], [0, 1])
    with pytest.raises(UserError, match=message):
        replace(good, **changes)


def test_digests_know_rows_by_their_content_alone():
    rows = np.array([[0.0, 1.0], [2.0, 3.0], [-0.0, 1.0]])
    keys = digests(rows)
    assert keys[0] == keys[2] != keys[1]
    order = content_order(rows, np.array([1, 0, 0]))
    assert order.index(2) < order.index(0)


# Proxy-A


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_proxy_a_of_two_gaussians_is_that_of_the_best_classifier(shift):
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 3000, 2)) + np.array([[[0.0, 0.0]], [[shift, 0.0]]])
    error = stats.norm.cdf(-shift / 2)
    assert proxy_a(plain(source), plain(target)) == pytest.approx(2 * (1 - 2 * error), abs=0.06)


def test_proxy_a_balances_samples_of_unequal_size():
    rng = np.random.default_rng(1)
    assert proxy_a(plain(rng.normal(size=(60, 3))), plain(rng.normal(size=(2000, 3)))) < 0.4
    assert proxy_a(plain(rng.normal(size=(60, 3))), plain(rng.normal(size=(2000, 3)) + 9)) == 2


def test_which_images_of_the_larger_sample_proxy_a_takes_does_not_depend_on_their_order():
    rng = np.random.default_rng(3)
    small, large = plain(rng.normal(size=(60, 3))), plain(rng.normal(size=(300, 3)) + 0.7)
    assert len({proxy_a(small, reordered(large, seed)) for seed in range(5)}) == 1


def test_proxy_a_never_learns_an_image_whose_copy_it_is_tested_on():
    """With copies in different folds, the twin it has learnt as the other sample's would make ε exceed ½ or fall."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(40, 200))  # more features than images: it can learn every image by heart
    assert proxy_a(plain(features), plain(features)) == 0
    copies = np.repeat(features[:20], 2, axis=0)  # copies within a sample: with the order leaking, 2
    assert proxy_a(plain(copies), plain(np.repeat(features[20:], 2, axis=0))) < 1
    # All of one sample are one image: without it nothing is left to tell from, and half of its copies count as wrong.
    assert proxy_a(plain(np.zeros((4, 1))), plain(np.array([[9.0], [9.0], [10.0], [10.0]]))) == 1


# MMD


def test_mmd_is_its_double_loop():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 1
    pooled = np.concatenate([x, y])
    sigma = np.median([np.linalg.norm(a - b) for a, b in itertools.combinations(pooled, 2)])

    def k(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * sigma**2))

    within_x = sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
    within_y = sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
    across = sum(k(a, b) for a in x for b in y) / 35
    assert mmd2(plain(x), plain(y)) == pytest.approx(within_x + within_y - 2 * across, abs=1e-12)


def test_mmd_is_unbiased():
    rng = np.random.default_rng(0)
    values = [mmd2(plain(rng.normal(size=(10, 2))), plain(rng.normal(size=(10, 2)))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20
    assert min(values) < 0


def test_the_bandwidth_of_mmd_takes_no_notice_of_copies():
    x = np.array([[0.0]] * 9 + [[1.0]])
    kernel = np.exp(-0.5)  # the only distance there is, 1, is the bandwidth
    within = (72 + 18 * kernel) / 90
    assert mmd2(plain(x), plain(x)) == pytest.approx(2 * within - 2 * (82 + 18 * kernel) / 100, abs=1e-12)


# FID and the distance between Gaussians


def naive_w2_squared(x, y):
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(s1)
    cross = np.real(linalg.sqrtm(root @ s2 @ root))
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s1) + np.trace(s2) - 2 * np.trace(cross)


@pytest.mark.parametrize(("n", "m"), [(50, 60), (50, 4), (8, 6)])
def test_fid_is_that_of_the_matrix_square_root(n, m):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 6)) * np.arange(1, 7), rng.normal(size=(m, 6)) + 1
    tolerance = 1e-9 if min(n, m) > 6 else 1e-5  # sqrtm is inexact on singular covariances
    assert fid(plain(x), plain(y)) == pytest.approx(naive_w2_squared(x, y), rel=tolerance)


def test_fid_of_one_feature_is_in_closed_form():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 1)), 3 * rng.normal(size=(7, 1)) + 2
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert fid(plain(x), plain(y)) == pytest.approx(expected, rel=1e-12)


def test_fid_of_fewer_images_than_features_is_biased_as_it_says():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 4000))
    assert fid(plain(x), plain(y)) == pytest.approx(2 * 4000, rel=0.25)
    assert fid(plain(x), plain(x)) < 1e-6


def test_the_distances_of_many_gaussians_are_those_of_each_pair():
    rng = np.random.default_rng(0)
    a = [rng.normal(size=(n, 4)) for n in (2, 3, 9)]
    b = [rng.normal(size=(n, 4)) + n for n in (12, 2)]
    table = w2_squared([gaussian(x) for x in a], [gaussian(x) for x in b])
    assert table.shape == (3, 2)
    for (i, x), (j, y) in itertools.product(enumerate(a), enumerate(b)):
        assert table[i, j] == pytest.approx(naive_w2_squared(x, y), rel=1e-5)


# OTDD


def naive_otdd(a: Sample, b: Sample) -> float:
    """The definition: costs of every pair in a loop, and Sinkhorn's iterations on logarithms until nothing moves."""

    def costs(one, other):
        return np.array(
            [
                [
                    np.sum((x - z) ** 2)
                    + naive_w2_squared(one.features[one.labels == y], other.features[other.labels == w])
                    for z, w in zip(other.features, other.labels, strict=True)
                ]
                for x, y in zip(one.features, one.labels, strict=True)
            ]
        )

    blur = 0.1 * costs(a, b).mean()

    def ot(one, other):
        c = costs(one, other)
        n, m = c.shape
        f, g = np.zeros(n), np.zeros(m)
        for _ in range(1000):
            g = -blur * logsumexp((f[:, None] - c) / blur - np.log(n), axis=0)
            f = -blur * logsumexp((g - c) / blur - np.log(m), axis=1)
        plan = np.exp((f[:, None] + g - c) / blur) / (n * m)
        return (plan * c).sum() + blur * (plan * np.log(plan * n * m)).sum()

    return ot(a, b) - ot(a, a) / 2 - ot(b, b) / 2


def test_otdd_is_its_definition():
    rng = np.random.default_rng(0)
    a = plain(rng.normal(size=(9, 2)), np.arange(9) % 2)
    b = plain(2 * rng.normal(size=(12, 2)) + 1, np.arange(12) % 3)
    assert otdd(a, b) == pytest.approx(naive_otdd(a, b), rel=1e-5)


def test_otdd_of_a_moved_task_is_twice_the_square_of_the_way():
    """Once for the images and once for their classes: what the move adds to the costs is the same for every plan."""
    rng = np.random.default_rng(0)
    a = plain(rng.normal(size=(60, 3)) + 4 * (np.arange(60) % 3)[:, None], np.arange(60) % 3)
    for way in ([0.5, 0, 0], [3, 4, 0], [30, 40, 0]):
        moved = replace(a, features=a.features + np.array(way))
        assert otdd(a, moved) == pytest.approx(2 * np.sum(np.square(way)), rel=1e-4)


@pytest.mark.parametrize("n", [10, 40, 160])
def test_otdd_of_a_task_with_itself_is_zero_at_every_size(n):
    pixels, labels = load_digits(return_X_y=True)
    a = plain(pixels[:n] / 16, np.sort(labels[:n] % 2).astype(np.int64))
    assert otdd(a, a) < 1e-4 * otdd(a, replace(a, features=1 - a.features))


def test_otdd_survives_an_image_far_from_all_others():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 3))
    features[0] = 1e6
    a, b = plain(features), plain(rng.normal(size=(50, 3)))
    assert otdd(a, b) == pytest.approx(otdd(b, a), rel=1e-4)
    assert otdd(a, b) > 1e9


# Task2Vec


def naive_fisher(head, inputs):
    """Σ_k p(k|x) (∂ log p(k|x) / ∂w)², class by class and image by image, and its mean over each filter's weights."""
    weights = [w for layer in PROBE.module[:-1].modules() for w in layer.parameters(recurse=False) if w.ndim > 1]
    expected = [np.zeros(len(w)) for w in weights]
    for image in inputs:
        log_p = head(PROBE.through(image[None], 0, 7)).log_softmax(1)[0]
        for k in range(len(log_p)):
            gradients = torch.autograd.grad(log_p[k], weights, retain_graph=True)
            for total, gradient in zip(expected, gradients, strict=True):
                for i in range(len(total)):
                    total[i] += log_p[k].exp().item() * (gradient[i] ** 2).mean().item() / len(inputs)
    return np.concatenate(expected)


def test_the_fisher_information_is_its_definition():
    torch.manual_seed(0)
    inputs, classes = torch.rand(4, 1, 8, 8), 3
    body, head = Body(PROBE), nn.Linear(64, classes)
    expected = naive_fisher(head, inputs)
    with torch.no_grad():
        exact = fisher(body, head, inputs, directions(inputs, classes))
        # Over all signs, the mean of what one gradient gives is the sum over classes, each by its own gradient.
        combinations = itertools.product([-1.0, 1.0], repeat=classes)
        estimates = [fisher(body, head, inputs, torch.tensor([[s]] * 4)) for s in combinations]
    np.testing.assert_allclose(exact, expected, rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(np.mean(estimates, axis=0), expected, rtol=1e-3, atol=1e-9)
    assert max(np.abs(each - exact).max() for each in estimates) > 0.1 * exact.max()  # one alone is far off


@pytest.mark.parametrize("classes", [2, 10])
def test_embeddings_of_few_classes_are_exact(classes):
    pixels, labels = load_digits(return_X_y=True)
    rows = np.flatnonzero(labels < classes)[:30]
    few = images(pixels[rows] / 16, labels[rows].astype(np.int64), tuple(f"digits/{i}" for i in range(classes)))
    with torch.no_grad():
        head = fit_head(Body(PROBE)(few.inputs), few.labels)
    np.testing.assert_allclose(embedding(few), naive_fisher(head, few.inputs), rtol=1e-3, atol=1e-9)


def test_embeddings_of_many_classes_are_estimated_by_one_gradient_an_image():
    inputs = torch.rand(6, 1, 8, 8)
    assert directions(inputs, 10).shape == (6, 10, 10)
    assert directions(inputs, 11).equal(random_signs(inputs, 11)[:, None])


@pytest.mark.parametrize("classes", [2, 4])
def test_the_head_is_logistic_regression_on_standardised_outputs(classes):
    rng = np.random.default_rng(0)
    outputs = 5 * rng.normal(size=(40, 6)) + 3
    outputs[:, 2] = 1.5  # a dead unit
    labels = np.arange(40) % classes
    scaled = StandardScaler().fit_transform(outputs)
    expected = LogisticRegression(max_iter=1000).fit(scaled, labels).predict_proba(scaled)
    found = fit_head(torch.as_tensor(outputs), labels)(torch.as_tensor(outputs)).softmax(1)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("n", [20, 26, 53])  # the last batches have one image and a few
def test_no_filter_matters_to_a_task_of_equal_images(n, some):
    constant = images(np.full((n, 64), 0.1), np.arange(n) % 5, some.classes)
    assert not embedding(constant).any()
    assert task2vec(constant, some) == 1
    assert task2vec(constant, images(np.full((20, 64), 0.3), np.arange(20) % 5, some.classes)) == 0


def test_signs_are_even_and_no_part_of_what_orders_the_images():
    inputs = torch.rand(600, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    signs = random_signs(inputs, 17)
    assert signs.shape == (600, 17)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    first = content_order(inputs.numpy(), np.zeros(600, np.int64))[:100]
    for part in (signs, signs[first]):
        assert part.mean(0).abs().max() < 5 / np.sqrt(len(part))
    assert (random_signs(inputs.flip(0), 17).flip(0) == signs).all()
    assert len({key[:DIGEST_BYTES] for key in digests(inputs.numpy(), length=18)}) == 600


def test_the_distance_of_embeddings_is_the_normalised_cosine_distance(some, far):
    a, b = embedding(some), embedding(far)
    assert len(a) == 16 + 4 * 32 + 2 * 64  # a number for each channel and unit below the head
    used = a + b > 0
    u, v = a[used] / (a + b)[used], b[used] / (a + b)[used]
    expected = 1 - u @ v / np.linalg.norm(u) / np.linalg.norm(v)
    assert task2vec(some, far) == pytest.approx(expected, rel=1e-9)


def test_task2vec_leaves_the_probe_as_it_was_and_ignores_its_head(some, far):
    probe = copy.deepcopy(PROBE)
    probe.module.train()
    nn.init.zeros_(probe.module.fc8[0].weight)
    before = copy.deepcopy(probe.module.state_dict())
    one, other = replace(some, probe=probe), replace(far, probe=probe)
    assert task2vec(one, other) == pytest.approx(task2vec(some, far), rel=1e-9)
    assert probe.module.training
    assert probe.module.conv1[1].inplace or probe.module.conv1[2].inplace
    assert all(parameter.grad is None and parameter.requires_grad for parameter in probe.module.parameters())
    assert all(value.equal(before[name]) for name, value in probe.module.state_dict().items())


def test_task2vec_looks_at_the_probe_in_eval_mode(some, far):
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten()]
    module = nn.Sequential(OrderedDict(body=nn.Sequential(*layers), head=nn.Linear(4 * 36, 2)))
    values = []
    for mode in (True, False):
        probe = staged(copy.deepcopy(module).train(mode), (1, 8, 8), {"body": ["body"], "head": ["head"]})
        values.append(task2vec(replace(some, probe=probe), replace(far, probe=probe)))
        assert probe.module.body[1].num_batches_tracked == 0
    assert values[0] == values[1]


def test_task2vec_uses_a_fixed_number_of_images():
    many = digits(0, 0, 700)
    assert len(many.labels) > 500
    assert task2vec(many, reordered(many, 0)) == pytest.approx(0, abs=1e-9)


def test_task2vec_says_what_it_lacks(some):
    other = build(NetworkSpec(name="convnet8"), image=(1, 8, 8), classes=5, seed=1)
    for lacking in ({"probe": None}, {"inputs": None}):
        with pytest.raises(UserError, match="digits: Task2Vec needs a probe network and the images as it takes them"):
            task2vec(some, replace(some, **lacking))
    with pytest.raises(UserError, match="compares tasks under one probe network, not two"):
        task2vec(some, replace(some, probe=other))
    with pytest.raises(UserError, match="takes at least 2 classes, not 1"):
        task2vec(some, images(some.features, 0 * some.labels, ("digits/0",)))
    linear = nn.Sequential(OrderedDict(body=nn.AvgPool2d(2), head=nn.Sequential(nn.Flatten(), nn.Linear(16, 5))))
    other = staged(linear, (1, 8, 8), {"body": ["body"], "head": ["head"]})
    with pytest.raises(UserError, match="looks at a probe's filters below its head, and it has none"):
        task2vec(replace(some, probe=other), replace(some, probe=other))


# NTK residual


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_the_kernel_is_the_mean_over_random_relu_units():
    rng = np.random.default_rng(0)
    x, y = unit(rng.normal(size=(4, 3))), unit(rng.normal(size=(3, 3)))
    weights = rng.normal(size=(200_000, 3))
    both_on = np.mean((weights @ x.T > 0)[:, :, None] & (weights @ y.T > 0)[:, None, :], axis=0)
    np.testing.assert_allclose(gram(x, y), (x @ y.T) * both_on, atol=0.005)
    np.testing.assert_allclose(np.diag(gram(x, x)), 0.5, atol=1e-7)


def naive_ntk_residual(x_p, y_p, x_q, y_q):
    def h(a, b):
        cosines = [[min(1.0, max(-1.0, float(i @ j / np.linalg.norm(i) / np.linalg.norm(j)))) for j in b] for i in a]
        return np.array([[c * (np.pi - np.arccos(c)) / (2 * np.pi) for c in row] for row in cosines])

    h_p, h_q = h(x_p, x_p) + _RIDGE * np.eye(len(x_p)), h(x_q, x_q) + _RIDGE * np.eye(len(x_q))
    total = 0.0
    for k in range(y_p.shape[1]):
        residual = y_q[:, k] - h(x_p, x_q).T @ np.linalg.inv(h_p) @ y_p[:, k]
        total += residual @ np.linalg.inv(h_q) @ residual
    return total / len(x_q)


def test_the_ntk_residual_is_its_definition_whatever_the_order_of_the_classes():
    rng = np.random.default_rng(0)
    x_p, x_q = rng.normal(size=(6, 4)), 7 * rng.normal(size=(5, 4))
    source = replace(plain(x_p, [0, 1, 0, 1, 1, 0]), classes=("d/cat", "d/dog"))
    target = replace(plain(x_q, [0, 1, 1, 0, 1]), classes=("d/dog", "d/cat"))
    y_p = np.eye(2)[[0, 1, 0, 1, 1, 0]]  # cat, dog
    y_q = np.eye(2)[[1, 0, 0, 1, 0]]
    assert ntk_residual(source, target) == pytest.approx(naive_ntk_residual(x_p, y_p, x_q, y_q), rel=1e-7)


def test_other_labels_are_refused(some):
    for classes in (tuple(f"other/{i}" for i in range(5)), ("digits/7", *some.classes[1:])):
        with pytest.raises(UserError, match=r"same labels: digits has \['digits/0', .*\], digits has \['") as error:
            ntk_residual(some, replace(some, classes=classes))
        assert "\n" not in str(error.value)


def test_all_zero_images_are_left_out_of_the_ntk_residual(some, far):
    far = replace(far, classes=some.classes)

    def blank(sample):
        features, labels = np.concatenate([np.zeros((3, 64)), sample.features]), np.append([0, 1, 2], sample.labels)
        return replace(sample, features=features, labels=labels, inputs=None)

    assert ntk_residual(blank(some), blank(far)) == pytest.approx(ntk_residual(some, far), rel=1e-12)
    with pytest.raises(UserError, match="blank: all its images are zero, and the NTK residual needs directions"):
        ntk_residual(plain(np.zeros((2, 3)), name="blank"), plain(np.ones((2, 3))))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_ntk_residual_does_not_see_the_scale_of_images(scale, some, far):
    far = replace(far, classes=some.classes)
    scaled = replace(some, features=some.features * scale)
    assert ntk_residual(scaled, far) == pytest.approx(ntk_residual(some, far), rel=1e-9)


# Names of classes


def named(*classes: str, tree=None) -> Sample:
    n = len(classes)
    return Sample(name="named", features=np.zeros((n, 1)), labels=np.arange(n), classes=classes, tree=tree)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("ab", "ab", 0), ("ab", "ba", 0), ("ab", "cd", 1), ("abc", "bcd", 1 / 2), ("a", "abcd", 3 / 4)],
)
def test_class_overlap_by_hand(a, b, expected):
    assert class_overlap(named(*a), named(*b)) == expected


ANIMALS = parse_tree(
    {"animals": ["bird", "cat", "dog"], "vehicles": {"road": ["automobile", "truck"], "other": ["ship"]}}
)


@pytest.mark.parametrize(
    ("one", "other", "edges"),
    [("cat", "cat", 0), ("cat", "dog", 2), ("truck", "automobile", 2), ("truck", "ship", 4), ("cat", "ship", 5)],
)
def test_edges_between_classes_by_hand(one, other, edges):
    assert ANIMALS.edges(one, other) == ANIMALS.edges(other, one) == edges
    assert ANIMALS.longest == 5
    assert tree_distance(named(f"a/{one}", tree=ANIMALS), named(f"b/c/{other}", tree=ANIMALS)) == edges / 5


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (["cat", "truck"], ["dog", "bird", "ship"], ((2 + 4) / 2 + (2 + 2 + 4) / 3) / 2 / 5),
        (["cat+ship", "truck"], ["dog"], ((2 + 5) / 2 + 2) / 2 / 5),
        (["cat+dog", "bird"], ["cat", "dog", "bird"], 0),
        (["cat part 1 of 2", "cat part 2 of 2"], ["cat+dog part 1 of 3"], 0),
    ],
)
def test_the_tree_distance_by_hand(a, b, expected):
    one, other = (named(*(f"cifar10/{name}" for name in names), tree=ANIMALS) for names in (a, b))
    assert tree_distance(one, other) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("nested", "paths", "longest"),
    [
        (["a", "b"], {"a": (), "b": ()}, 2),
        (["a", {"g": ["b"]}], {"a": (), "b": ("g",)}, 3),
        ({"g": {"h": ["a", "b"]}}, {"a": ("g", "h"), "b": ("g", "h")}, 2),
        ({"g": ["a"], "h": {"g": ["b"]}}, {"a": ("g",), "b": ("h", "g")}, 5),
    ],
)
def test_a_tree_is_read_as_written(nested, paths, longest):
    tree = parse_tree(nested)
    assert (dict(tree.paths), tree.longest) == (paths, longest)


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ({"a": ["x"], "b": {"c": ["x"]}}, "class 'x' is in a and b/c; a class has one place"),
        (["x", "x"], "class 'x' is in the top and the top"),
        ({"a": ["x", 3]}, "group 'a' names 3, which is no string; put quotes around it"),
        ({7: ["x", "y"]}, "the top names 7, which is no string"),
        ({"a": ["x"], "b": {"c": []}}, "group 'b/c' is empty"),
        ({}, "the top is empty"),
        ({"a": "x"}, "group 'a' holds 'x'; it must be a list of classes or a mapping of groups"),
        (None, "the top holds None"),
        ({"a": ["x"]}, "it has only the class 'x'"),
    ],
)
def test_what_is_no_tree_is_refused_in_words(nested, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_tree(nested)


def test_classes_that_the_tree_lacks_are_named():
    message = "lacks class 'frog' (of cifar10/cat+frog); it has automobile, bird, cat, dog, ship, truck"
    with pytest.raises(UserError, match=re.escape(message)):
        check_in_tree(["cifar10/dog", "cifar10/cat+frog"], ANIMALS)
    with pytest.raises(UserError, match=r"lacks class .frog.*; give a tree that has it, or tree=null to leave"):
        tree_distance(named("cat", tree=ANIMALS), named("frog", tree=ANIMALS))
    with pytest.raises(UserError, match=re.escape("lacks class 'T-shirt/top' (of fashion/T-shirt/top)")):
        check_in_tree(["fashion/T-shirt/top"], ANIMALS)
    with pytest.raises(UserError, match=re.escape("it has 0, 1, 10, 11, 12, 13, 14, 15, ...")):
        check_in_tree(["x"], parse_tree([str(i) for i in range(20)]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fashion/T-shirt/top", ["T-shirt/top"]),
        ("fashion/T-shirt/top+Bag", ["T-shirt/top", "Bag"]),
        ("fashion/Bag+T-shirt/top", ["Bag", "T-shirt/top"]),
        ("fashion/Bag+Tank/top part 1 of 2", ["Bag", "top"]),
        ("fashion/C+/C", ["C+/C"]),
        ("fashion/C+/C+Bag", ["C+/C+Bag"]),
    ],
)
def test_classes_with_a_slash_in_their_names_are_found_by_all_of_it(name, expected):
    tree = parse_tree(["T-shirt/top", "top", "Bag", "C+/C", "C+/C+Bag"])
    assert check_in_tree([name], tree) == [expected]


def test_a_tree_distance_needs_one_tree():
    for trees in ((None, ANIMALS), (ANIMALS, None), (None, None), (ANIMALS, parse_tree(["cat", "dog"]))):
        with pytest.raises(UserError, match="named and named: a tree distance needs one tree of classes for both"):
            tree_distance(*(named("cat", tree=tree) for tree in trees))
