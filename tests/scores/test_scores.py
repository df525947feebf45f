import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import linalg, optimize, stats
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture

from raytransfer.errors import UserError
from raytransfer.scores import SCORES, Representation
from raytransfer.scores.cka import cka
from raytransfer.scores.gbc import gbc
from raytransfer.scores.hscore import hscore
from raytransfer.scores.knn import knn
from raytransfer.scores.leep import leep
from raytransfer.scores.linear_probe import linear_probe
from raytransfer.scores.logme import logme
from raytransfer.scores.nce import nce
from raytransfer.scores.nleep import nleep
from raytransfer.scores.parc import parc
from raytransfer.scores.sfda import sfda
from raytransfer.scores.transrate import transrate

SHAPES = {"n > D": (120, 20), "n < D": (60, 150)}
CLASSES = 4

all_scores = pytest.mark.parametrize("name", SCORES)
both_shapes = pytest.mark.parametrize(("n", "d"), SHAPES.values(), ids=SHAPES)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(labels.max() + 1)[labels]


def made_up(n: int, d: int, *, noise: float = 0.0, seed: int = 0, spread: float = 1.0) -> Representation:
    """Classes far apart, of whose labels a part is then drawn anew.

    The head, of 7 classes, knows the labels before; the reference network learnt the labels after.
    """
    rng, chance = np.random.default_rng(seed), np.random.default_rng(1000 + seed)
    clean = rng.permutation(np.arange(n) % CLASSES)
    labels = clean.copy()
    each = [
        chance.permutation(np.flatnonzero(clean == label))[: round(noise * n / CLASSES)] for label in range(CLASSES)
    ]
    redrawn = np.concatenate(each)
    # Dealt out evenly over each true class: no label is right more often than by chance, and classes keep their sizes.
    labels[redrawn] = np.arange(len(redrawn)) % CLASSES

    def network(learnt: np.ndarray) -> np.ndarray:
        means = 3 * rng.normal(size=(CLASSES, 8)) @ rng.normal(size=(8, d))
        return 5.0 + means[learnt] / math.sqrt(8) + spread * rng.normal(size=(n, d))

    return Representation(
        name="made up",
        features=network(clean),
        labels=labels,
        head=softmax(3 * one_hot(clean) @ np.eye(CLASSES, 7) + rng.normal(size=(n, 7))),
        reference=network(labels),
    )


def digits(labels: np.ndarray | None = None, n: int = 200) -> Representation:
    pixels, truth = load_digits(return_X_y=True)
    pixels, truth = pixels[:n], truth[:n]
    labels = truth if labels is None else labels
    head = softmax(LogisticRegression(C=1e-3, max_iter=500).fit(pixels, truth).decision_function(pixels))
    reference = pixels @ np.random.default_rng(1).normal(size=(64, 30)) / 30 + 20 * one_hot(labels) @ np.eye(10, 30)
    return Representation(name="digits", features=pixels, labels=labels, head=head, reference=reference)


def rows(r: Representation, order: np.ndarray) -> Representation:
    return replace(
        r, features=r.features[order], labels=r.labels[order], head=r.head[order], reference=r.reference[order]
    )


def uneven(r: Representation) -> Representation:
    """With only three images in four of class 0, and half of class 1."""
    of_0, of_1 = r.labels == 0, r.labels == 1
    drop = (of_0 & (np.cumsum(of_0) % 4 == 0)) | (of_1 & (np.cumsum(of_1) % 2 == 0))
    return rows(r, np.flatnonzero(~drop))


def centred(features: np.ndarray) -> np.ndarray:
    """Centred, with rows of mean squared norm 1."""
    z = features - features.mean(axis=0)
    return z / math.sqrt(sum(row @ row for row in z) / len(z))


def entropy(labels: np.ndarray) -> float:
    return -sum(p * math.log(p) for p in np.bincount(labels) / len(labels))


# --- LogME


def literal_evidence(features: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    n, d = features.shape
    a = alpha * np.eye(d) + beta * features.T @ features
    m = beta * np.linalg.solve(a, features.T @ y)
    return (
        n / 2 * math.log(beta)
        + d / 2 * math.log(alpha)
        - n / 2 * math.log(2 * math.pi)
        - beta / 2 * float(np.sum((features @ m - y) ** 2))
        - alpha / 2 * float(m @ m)
        - 0.5 * float(np.linalg.slogdet(a).logabsdet)
    )


def literal_logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Search a grid of ln α and ln β, then go downhill from its best point."""
    total = 0.0
    for label in range(labels.max() + 1):
        y = (labels == label).astype(float)

        def loss(logs: np.ndarray, y: np.ndarray = y) -> float:
            return -literal_evidence(features, y, math.exp(logs[0]), math.exp(logs[1]))

        start = np.array(min(itertools.product(range(-6, 16), range(-3, 12)), key=loss), dtype=float)
        simplex = start + np.array([[0, 0], [1, 0], [0, 1]])
        options = {"xatol": 1e-5, "fatol": 1e-10, "initial_simplex": simplex}
        found = optimize.minimize(loss, start, method="Nelder-Mead", options=options)
        total -= found.fun / len(y)
    return total / (labels.max() + 1)


@pytest.mark.parametrize(("n", "d"), [(60, 12), (30, 45), (40, 40)])
@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_logme_is_the_largest_literal_evidence(n, d, noise):
    r = made_up(n, d, noise=noise, spread=3.0)
    assert logme(r) == pytest.approx(literal_logme(r.features, r.labels), abs=1e-7)


@pytest.mark.parametrize(("n", "d", "seed"), [(16, 40, 4), (16, 40, 67), (20, 6, 161)])
def test_logme_is_the_largest_of_several_local_maxima(n, d, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3)
    features = rng.normal(size=(n, d)) * np.logspace(0, -3, d) + 1
    assert logme(Representation(name="r", features=features, labels=labels)) == pytest.approx(
        literal_logme(features, labels), abs=1e-7
    )


def test_logme_of_digits_is_the_largest_literal_evidence():
    r = digits(n=60)
    assert logme(r) == pytest.approx(literal_logme(r.features, r.labels), abs=1e-7)


def test_logme_of_features_that_are_the_labels_stops_at_the_least_noise():
    labels = np.arange(40) % 4
    r = Representation(name="r", features=one_hot(labels), labels=labels)
    # Residuals are 0, so beta is 1e10. Four directions of σ² = 10 count and ‖m‖² = 1, so alpha is 4.
    expected = 0.5 * math.log(1e10 / (2 * math.pi)) + (4 / 2 * math.log(4 / 1e11) - 4 / 2) / 40
    assert logme(r) == pytest.approx(expected, abs=1e-6)


def test_logme_of_blank_features_is_the_likelihood_of_noise_alone():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    r = Representation(name="r", features=np.zeros((60, 5)), labels=labels)
    expected = np.mean([-0.5 * math.log(2 * math.pi * share) - 0.5 for share in (1 / 6, 1 / 3, 1 / 2)])
    assert logme(r) == pytest.approx(expected, abs=1e-9)


# --- LEEP and NCE


def literal_leep(head: np.ndarray, labels: np.ndarray) -> float:
    n, sources = head.shape
    joint = np.zeros((labels.max() + 1, sources))
    for i, z in itertools.product(range(n), range(sources)):
        joint[labels[i], z] += head[i, z] / n
    total = 0.0
    for i in range(n):
        total += math.log(sum(joint[labels[i], z] / joint[:, z].sum() * head[i, z] for z in range(sources)))
    return total / n


def literal_nce(head: np.ndarray, labels: np.ndarray) -> float:
    seen = [max(range(len(row)), key=lambda z: row[z]) for row in head.tolist()]
    total = 0.0
    for y, z in zip(labels, seen, strict=True):
        both = sum(a == y and b == z for a, b in zip(labels, seen, strict=True))
        total += math.log(both / seen.count(z))
    return total / len(labels)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_leep_and_nce_are_their_formulas(noise):
    r = made_up(90, 5, noise=noise)
    assert leep(r) == pytest.approx(literal_leep(r.head, r.labels), abs=1e-12)
    assert nce(r) == pytest.approx(literal_nce(r.head, r.labels), abs=1e-12)


@pytest.mark.parametrize("score", [leep, nce])
def test_a_head_that_names_the_label_scores_0_and_a_blind_one_the_entropy_of_the_labels(score):
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    r = Representation(name="r", features=np.ones((60, 1)), labels=labels, head=one_hot(labels)[:, [2, 0, 1]])
    assert score(r) == pytest.approx(0.0, abs=1e-12)
    # Of five classes one is never given any probability.
    blind = np.tile([0.1, 0.2, 0.0, 0.3, 0.4], (60, 1))
    assert score(replace(r, head=blind)) == pytest.approx(-entropy(labels), abs=1e-12)
    merged = one_hot(np.minimum(labels, 1))  # one source class for the targets 1 and 2
    assert score(replace(r, head=merged)) == pytest.approx((20 * math.log(0.4) + 30 * math.log(0.6)) / 60, abs=1e-12)


@pytest.mark.parametrize("score", [leep, nce])
def test_a_head_never_scores_below_the_entropy_of_the_labels(score):
    for seed in range(5):
        r = made_up(60, 3, noise=1.0, seed=seed)
        assert -entropy(r.labels) <= score(r) < 0


# --- H-score


@both_shapes
def test_hscore_is_its_formula_with_scikit_learns_shrinkage(n, d):
    r = uneven(made_up(n, d, noise=0.3))
    covariance, shrinkage = ledoit_wolf(r.features)
    between = np.zeros((d, d))
    for label in range(CLASSES):
        members = r.features[r.labels == label]
        step = members.mean(axis=0) - r.features.mean(axis=0)
        between += len(members) / len(r.labels) * np.outer(step, step)
    assert 0.01 < shrinkage < 1
    expected = (1 - shrinkage) * np.trace(np.linalg.inv(covariance) @ between)
    assert hscore(r) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_hscore_of_collapsed_classes_is_one_less_than_their_number(classes):
    labels = np.arange(1000 * classes) % classes
    r = Representation(name="r", features=one_hot(labels), labels=labels)
    assert 0.99 * (classes - 1) < hscore(r) <= classes - 1


def test_hscore_of_equal_class_means_is_0():
    features = np.random.default_rng(0).normal(size=(50, 8))
    r = Representation(name="r", features=np.concatenate([features, features]), labels=np.repeat([0, 1], 50))
    assert hscore(r) == pytest.approx(0.0, abs=1e-12)


# --- TransRate


def literal_rate(z: np.ndarray) -> float:
    n, d = z.shape
    return 0.5 * math.log(np.linalg.det(np.eye(d) + z.T @ z / (n * 1e-4)))


@pytest.mark.parametrize(("n", "d"), [(120, 20), (24, 40)])
def test_transrate_is_its_formula(n, d):
    r = uneven(made_up(n, d, noise=0.3))
    z = centred(r.features)
    expected = literal_rate(z)
    for label in range(CLASSES):
        expected -= np.mean(r.labels == label) * literal_rate(z[r.labels == label])
    assert transrate(r) == pytest.approx(expected, rel=1e-9)


def test_transrate_of_three_points_is_its_closed_form_and_of_two_0():
    labels = np.arange(30) % 3
    r = Representation(name="r", features=one_hot(labels), labels=labels)
    # A regular triangle: covariance I/2 in the plane; each class has one direction of mean square 1.
    assert transrate(r) == pytest.approx(math.log(1 + 0.5e4) - 0.5 * math.log(1 + 1e4), rel=1e-9)
    pair = np.arange(30) % 2
    assert transrate(Representation(name="r", features=one_hot(pair), labels=pair)) == pytest.approx(0.0, abs=1e-9)


# --- GBC


@pytest.mark.parametrize(("n", "d"), [(120, 20), (60, 150), (300, 90)])
def test_gbc_is_its_formula_after_a_principal_component_analysis(n, d):
    r = uneven(made_up(n, d, noise=0.5, spread=4.0))
    kept = min(64, d, len(r.labels) - 1)
    z = PCA(kept, svd_solver="full").fit_transform(r.features)
    z /= math.sqrt(np.mean(z**2))
    gaussians = [(z[r.labels == c].mean(axis=0), z[r.labels == c].var(axis=0).mean()) for c in range(CLASSES)]
    expected = 0.0
    for (mean_i, variance_i), (mean_j, variance_j) in itertools.permutations(gaussians, 2):
        cov_i, cov_j = variance_i * np.eye(kept), variance_j * np.eye(kept)
        cov = (cov_i + cov_j) / 2
        log_dets = [np.linalg.slogdet(c).logabsdet for c in (cov, cov_i, cov_j)]
        distance = (mean_i - mean_j) @ np.linalg.inv(cov) @ (mean_i - mean_j) / 8
        distance += 0.5 * (log_dets[0] - 0.5 * (log_dets[1] + log_dets[2]))
        expected -= math.exp(-distance)
    assert -12 < expected < -1e-6
    assert gbc(r) == pytest.approx(expected, rel=1e-9)


def test_gbc_of_two_spheres_is_the_coefficient_of_their_gaussians():
    rng = np.random.default_rng(0)
    n, d = 20_000, 3
    features = np.concatenate([rng.normal(0, 1, (n, d)), rng.normal([1, 2, 0], 2, (n, d))])
    r = Representation(name="r", features=features, labels=np.repeat([0, 1], n))
    distance = 5 / 8 / 2.5 + d / 2 * math.log(2.5 / 2)
    assert gbc(r) == pytest.approx(-2 * math.exp(-distance), abs=0.01)


def test_gbc_of_collapsed_classes_is_0_and_of_constant_features_the_least():
    labels = np.arange(30) % 3
    r = Representation(name="r", features=one_hot(labels), labels=labels)
    assert gbc(r) == pytest.approx(0.0, abs=1e-9)
    assert gbc(replace(r, features=np.full((30, 4), 0.1))) == pytest.approx(-6.0, abs=1e-12)
    near = np.array([[0.0, 0], [0.3, 0], [20, 0]])  # the first two overlap by the least variance alone
    expected = -2 * math.exp(-(0.3**2) / near.var(axis=0).mean() / (8 * 1e-4))
    assert gbc(replace(r, features=near[labels])) == pytest.approx(expected, rel=1e-9)


# --- N-LEEP


@both_shapes
def test_nleep_is_leep_of_the_posterior_of_a_mixture_on_principal_components(n, d):
    r = uneven(made_up(n, d, noise=0.3))
    r = rows(r, np.array(sorted(range(len(r.labels)), key=lambda i: r.features[i].tolist())))
    left, singular, _ = np.linalg.svd(r.features - r.features.mean(axis=0), full_matrices=False)
    kept = next(k for k in range(1, d) if (singular[:k] ** 2).sum() > 0.8 * (singular**2).sum())
    z = left[:, :kept] * singular[:kept]
    z /= math.sqrt(np.mean(z**2))
    components = min(5 * CLASSES, len(r.labels) // 5)
    mixture = GaussianMixture(components, covariance_type="diag", random_state=0, max_iter=1000).fit(z)
    densities = np.array(
        [
            weight * stats.multivariate_normal(mean, np.diag(variances)).pdf(z)
            for weight, mean, variances in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
        ]
    ).T
    expected = literal_leep(densities / densities.sum(axis=1, keepdims=True), r.labels)
    assert expected < -0.1
    assert nleep(r) == pytest.approx(expected, abs=1e-9)


def test_nleep_of_classes_that_are_clusters_is_0_and_of_two_in_one_cluster_what_leep_says():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    r = Representation(name="r", features=one_hot(labels), labels=labels)
    assert nleep(r) == pytest.approx(0.0, abs=1e-9)
    merged = replace(r, features=one_hot(np.minimum(labels, 1)))
    assert nleep(merged) == pytest.approx((20 * math.log(0.4) + 30 * math.log(0.6)) / 60, abs=1e-9)


def test_nleep_and_sfda_of_noise_fall_to_the_entropy_of_the_labels_as_images_become_more():
    rng = np.random.default_rng(0)
    for score in (nleep, sfda):
        few, many = (
            score(Representation(name="r", features=rng.normal(size=(n, 6)), labels=np.arange(n) % 3))
            for n in (40, 4000)
        )
        assert -math.log(3) < many < few
        assert many == pytest.approx(-math.log(3), abs=0.02)


# --- PARC


@pytest.mark.parametrize(("n", "d"), [(40, 12), (24, 60)])
def test_parc_is_the_rank_correlation_of_correlation_distances(n, d):
    r = uneven(made_up(n, d, noise=0.3, spread=3.0))
    z = (r.features - r.features.mean(axis=0)) / r.features.std(axis=0)
    pairs = list(itertools.combinations(range(len(r.labels)), 2))
    of_features = [1 - stats.pearsonr(z[i], z[j]).statistic for i, j in pairs]
    of_labels = [1 - round(stats.pearsonr(*one_hot(r.labels)[[i, j]]).statistic, 9) for i, j in pairs]
    expected = stats.spearmanr(of_features, of_labels).statistic
    assert 0.1 < expected < 0.9
    for factors in (1, np.logspace(-170, 0, d)):
        assert parc(replace(r, features=r.features * factors)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_parc_of_collapsed_classes_is_1_and_of_separate_ones_what_untied_distances_allow(classes):
    labels = np.arange(40 * classes) % classes
    r = Representation(name="r", features=one_hot(labels), labels=labels)
    assert parc(r) == pytest.approx(1.0, abs=1e-12)
    noise = np.random.default_rng(0).normal(size=(len(labels), 30))
    separate = replace(
        r, features=np.repeat(one_hot(labels), 20, axis=1) + 1e-3 * np.tile(noise, 20)[:, : 20 * classes]
    )
    different = 1 - sum(math.comb(count, 2) for count in np.bincount(labels)) / math.comb(len(labels), 2)
    assert parc(separate) == pytest.approx(math.sqrt(3 * different * (1 - different)), abs=1e-3)


def test_parc_of_noise_is_about_0_and_of_one_column_0():
    rng = np.random.default_rng(0)
    r = Representation(name="r", features=rng.normal(size=(300, 50)), labels=np.arange(300) % 5)
    assert abs(parc(r)) < 0.02
    assert parc(replace(r, features=one_hot(r.labels)[:, :1])) == 0.0


# --- SFDA


def literal_fda(z: np.ndarray, labels: np.ndarray, shrinkage: float | None) -> tuple[np.ndarray, float]:
    """Probabilities (n, K) by way of the K - 1 leading directions of the Fisher space, and the shrinkage used."""
    n, d = z.shape
    within, between, means = np.zeros((d, d)), np.zeros((d, d)), []
    for label in range(labels.max() + 1):
        members = z[labels == label]
        means.append(members.mean(axis=0))
        within += (members - means[-1]).T @ (members - means[-1]) / n
        between += len(members) / n * np.outer(means[-1] - z.mean(axis=0), means[-1] - z.mean(axis=0))
    if shrinkage is None:
        shrinkage = math.exp(-5 * np.linalg.eigvalsh(within)[-1])
    regularised = (1 - shrinkage) * within + shrinkage * np.trace(within) / d * np.eye(d)
    directions = linalg.eigh(between, regularised)[1][:, -labels.max() :]
    fisher, centres = z @ directions, np.array(means) @ directions
    logits = fisher @ centres.T - 0.5 * (centres**2).sum(axis=1) + np.log(np.bincount(labels) / n)
    return softmax(logits), shrinkage


@pytest.mark.parametrize(("n", "d"), [(120, 20), (90, 150)])
@pytest.mark.parametrize("noise", [0.2, 0.5])
def test_sfda_is_its_formula_in_fisher_space(n, d, noise):
    r = uneven(made_up(n, d, noise=noise, spread=4.0))
    kept = min(d, len(r.labels) // 5)
    z = PCA(kept, svd_solver="full").fit_transform(centred(r.features))
    first, shrinkage = literal_fda(z, r.labels, None)
    assert math.exp(-5) < shrinkage < 0.9
    means = [z[r.labels == label].mean(axis=0) for label in range(CLASSES)]
    mixed = z.copy()
    for i, label in enumerate(r.labels):
        others = np.mean([means[other] for other in range(CLASSES) if other != label], axis=0)
        mixed[i] = first[i, label] * z[i] + (1 - first[i, label]) * others
    second, _ = literal_fda(mixed, r.labels, shrinkage)
    expected = np.mean(np.log(second[np.arange(len(z)), r.labels]))
    assert expected < -0.01
    assert sfda(r) == pytest.approx(expected, rel=1e-7)


def test_sfda_of_collapsed_classes_is_0():
    labels = np.arange(60) % 3
    assert sfda(Representation(name="r", features=one_hot(labels), labels=labels)) == pytest.approx(0.0, abs=1e-9)


# --- kNN and linear probe


def literal_folds(r: Representation) -> np.ndarray:
    """Shuffle the images, of which none is there twice, and deal them to five folds class by class."""
    by_features = sorted(range(len(r.labels)), key=lambda i: r.features[i].tolist())
    turn = dict(zip(by_features, np.random.default_rng(0).permutation(len(by_features)), strict=True))
    folds = np.empty(len(r.labels), dtype=int)
    for place, i in enumerate(sorted(by_features, key=lambda i: (r.labels[i], turn[i]))):
        folds[i] = place % 5
    return folds


def few_digits() -> Representation:
    """Digits whose smallest class has 4 images."""
    r = digits(n=150)
    keep = np.flatnonzero((r.labels != 3) | (np.cumsum(r.labels == 3) <= 4))
    rng = np.random.default_rng(0)
    features = (rng.uniform(size=(len(keep), 64)) * 8 + r.features[keep]) * np.logspace(-1.5, 1.5, 64)
    return replace(rows(r, keep), features=features)


def test_knn_is_a_vote_of_the_five_nearest_images_of_the_other_folds():
    r = few_digits()
    folds = literal_folds(r)
    right = 0
    for i, image in enumerate(r.features):
        others = [j for j in range(len(r.labels)) if folds[j] != folds[i]]
        nearest = sorted((math.dist(image, r.features[j]), j) for j in others)[:5]
        votes = np.zeros(10)
        for distance, j in nearest:
            votes[r.labels[j]] += 1 / distance
        right += int(votes.argmax() == r.labels[i])
    assert 0.5 < right / len(r.labels) < 1
    assert knn(r) == pytest.approx(right / len(r.labels), abs=1e-12)


def test_which_copies_are_neighbours_does_not_depend_on_the_order_of_the_images():
    for seed in (1189, 1235, 1241, 1277, 1348):
        rng = np.random.default_rng(seed)
        labels = np.concatenate([np.repeat(np.arange(3), 2), rng.integers(0, 3, 24)])
        features = (rng.normal(size=(30, 80)) + rng.normal(size=(3, 80))[labels])[rng.integers(0, 4, 30)]
        orders = [rng.permutation(30) for _ in range(6)]
        found = {knn(Representation(name="copies", features=features[o], labels=labels[o])) for o in orders}
        assert len(found) == 1


def test_where_a_regression_stops_does_not_depend_on_the_order_of_the_images():
    for seed in (7, 35):
        rng = np.random.default_rng(seed)
        labels = np.arange(60) % 6
        features = (rng.normal(size=(60, 1)) + labels[:, None]) * rng.normal(size=(1, 300))
        orders = [rng.permutation(60) for _ in range(4)]
        found = {linear_probe(Representation(name="r", features=features[o], labels=labels[o])) for o in orders}
        assert len(found) == 1


def test_the_linear_probe_is_a_logistic_regression_on_the_other_folds():
    r = few_digits()
    folds = literal_folds(r)
    right = 0
    for fold in range(5):
        train, test = folds != fold, folds == fold
        mean, std = r.features[train].mean(axis=0), r.features[train].std(axis=0)
        probe = LogisticRegression(max_iter=1000).fit((r.features[train] - mean) / std, r.labels[train])
        right += int((probe.predict((r.features[test] - mean) / std) == r.labels[test]).sum())
    assert 0.5 < right / len(r.labels) < 1
    assert linear_probe(r) == pytest.approx(right / len(r.labels), abs=1e-12)


@pytest.mark.parametrize("score", [knn, linear_probe])
def test_accuracies_are_of_images_held_out(score):
    rng = np.random.default_rng(0)
    r = Representation(name="r", features=rng.normal(size=(400, 300)), labels=rng.integers(0, 2, 400))
    assert 0.4 < score(r) < 0.6  # both fit their own training images perfectly
    assert score(replace(r, features=r.features + 99 * r.labels[:, None])) == 1


@pytest.mark.parametrize("score", [knn, linear_probe])
def test_copies_of_an_image_are_held_out_together(score):
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(200, 30)), np.arange(200) % 4
    r = Representation(name="r", features=np.concatenate([noise, noise]), labels=np.concatenate([labels, labels]))
    assert 0.15 < score(r) < 0.35
    # Of every image one copy in three has another label: nothing is right of that, and no fold knows the images.
    mixed = np.concatenate([labels, labels, (labels + 1) % 4])
    assert 0.15 < score(replace(r, features=np.tile(noise, (3, 1)), labels=mixed)) < 0.35


def test_noise_of_few_images_scores_chance():
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 5
    scores = [knn(Representation(name="r", features=rng.normal(size=(50, 1)), labels=labels)) for _ in range(100)]
    assert np.mean(scores) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("score", [knn, linear_probe])
def test_where_nothing_can_be_held_out_the_guess_is_the_commonest_class(score):
    labels = np.repeat([0, 1], [3, 7])
    r = Representation(name="r", features=np.column_stack([labels, labels]), labels=labels)
    assert score(r) == 0.7


# --- CKA


def literal_hsic(k: np.ndarray, l_: np.ndarray) -> float:
    n = len(k)
    k, l_, ones = k - np.diag(np.diag(k)), l_ - np.diag(np.diag(l_)), np.ones(len(k))
    total = np.trace(k @ l_) + (ones @ k @ ones) * (ones @ l_ @ ones) / ((n - 1) * (n - 2))
    return float(total - 2 / (n - 2) * (ones @ k @ l_ @ ones)) / (n * (n - 3))


@pytest.mark.parametrize(("n", "d"), [(120, 20), (60, 150), (4, 3), (5, 9)])
def test_cka_is_its_formula(n, d):
    rng = np.random.default_rng(n)
    x, labels = rng.normal(size=(n, d)) + 1, np.arange(n) % 2
    y = x @ rng.normal(size=(d, 7)) + rng.normal(size=(n, 7))
    k, l_ = x @ x.T, y @ y.T
    expected = literal_hsic(k, l_) / math.sqrt(literal_hsic(k, k) * literal_hsic(l_, l_))
    r = Representation(name="r", features=x, labels=labels, reference=y)
    assert cka(r) == pytest.approx(expected, abs=1e-9)


@both_shapes
def test_cka_of_features_with_themselves_turned_scaled_and_shifted_is_1(n, d):
    r = made_up(n, d, spread=3.0)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))
    assert cka(replace(r, reference=1e3 * r.features @ turn - 7)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(100, 400), (1000, 10)])
def test_cka_of_independent_features_is_about_0(n, d):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    values = [
        cka(Representation(name="r", features=x, labels=labels, reference=y))
        for x, y in (rng.normal(size=(2, n, d)) for _ in range(10))
    ]
    assert np.abs(values).max() < 0.1
    assert abs(np.mean(values)) < 0.02


# --- What holds for every score


@both_shapes
@all_scores
def test_a_score_is_a_finite_number_inside_its_range_and_leaves_its_input_alone(name, n, d):
    score = SCORES[name]
    for noise in (0.0, 0.5, 1.0):
        r = made_up(n, d, noise=noise)
        before = replace(r, features=r.features.copy(), head=r.head.copy(), reference=r.reference.copy())
        value = score.function(r)
        assert type(value) is float
        assert math.isfinite(value)
        assert score.low is None or value >= score.low
        assert score.high is None or value <= score.high
        for part in ("features", "labels", "head", "reference"):
            assert np.array_equal(getattr(r, part), getattr(before, part))
        assert score.function(before) == value  # last, as it may write into what it is given just as well


@both_shapes
@all_scores
def test_a_score_does_not_depend_on_the_order_of_the_images(name, n, d):
    r = made_up(n, d, noise=0.4, spread=3.0)
    twice = rows(r, np.concatenate([np.arange(n), np.arange(n // 2)]))
    for each in (r, twice):
        value = SCORES[name].function(each)
        for seed in range(2):
            order = np.random.default_rng(seed).permutation(len(each.labels))
            assert SCORES[name].function(rows(each, order)) == pytest.approx(value, rel=1e-9, abs=1e-12)


@both_shapes
@all_scores
def test_a_score_falls_as_labels_are_randomised(name, n, d):
    along = [
        np.mean([SCORES[name].function(made_up(n, d, noise=noise, seed=seed)) for seed in range(3)])
        for noise in (0.0, 0.3, 0.6, 1.0)
    ]
    assert along == sorted(along, reverse=True)
    assert len(set(along)) == 4


@all_scores
def test_a_score_of_digits_is_higher_than_of_shuffled_labels(name):
    r = digits()
    shuffled = digits(np.random.default_rng(0).permutation(r.labels))
    assert SCORES[name].function(r) > SCORES[name].function(shuffled)


@both_shapes
@pytest.mark.parametrize("factor", [1e-6, 1e6, 1e-170])
@all_scores
def test_a_factor_changes_no_score(name, n, d, factor):
    r = made_up(n, d, noise=0.4, spread=3.0)
    scaled = replace(r, features=factor * r.features, reference=r.reference / factor)
    assert SCORES[name].function(scaled) == pytest.approx(SCORES[name].function(r), rel=1e-8, abs=1e-12)


@both_shapes
@pytest.mark.parametrize("name", sorted(set(SCORES) - {"LogME"}))
def test_a_shift_changes_no_score_but_logme(name, n, d):
    r = made_up(n, d, noise=0.4, spread=3.0)
    shifted = replace(r, features=r.features + np.linspace(-50, 100, d))
    assert SCORES[name].function(shifted) == pytest.approx(SCORES[name].function(r), rel=1e-8, abs=1e-12)


@both_shapes
@pytest.mark.parametrize("name", ["LogME", "H-score", "TransRate", "GBC", "SFDA", "CKA"])
def test_a_rotation_changes_no_score_that_says_so(name, n, d):
    r = made_up(n, d, noise=0.4, spread=3.0)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))
    turned = replace(r, features=r.features @ turn)
    assert SCORES[name].function(turned) == pytest.approx(SCORES[name].function(r), rel=1e-8, abs=1e-12)


@all_scores
def test_awkward_features_have_a_finite_score(name):
    r = made_up(40, 6, noise=0.2)
    some_constant = r.features.copy()
    some_constant[:, ::2] = 0.1
    tiny = rows(r, np.concatenate([np.flatnonzero(r.labels == label)[:2] for label in range(CLASSES)]))
    pair = rows(r, np.concatenate([np.flatnonzero(r.labels == label)[:2] for label in range(2)]))
    copies = rows(r, np.repeat([np.flatnonzero(r.labels == label)[0] for label in range(CLASSES)], 3))
    wide = np.random.default_rng(0).normal(size=(8, 500))
    awkward = {
        "all constant": replace(r, features=np.full((40, 6), 0.1), reference=np.full((40, 6), 0.1)),
        "all zero": replace(r, features=np.zeros((40, 6))),
        "some constant": replace(r, features=some_constant),
        "one column": replace(r, features=r.features[:, :1], reference=r.reference[:, :1]),
        "equal columns": replace(r, features=np.repeat(r.features[:, :1], 50, axis=1)),
        "the labels": replace(r, features=one_hot(r.labels), reference=one_hot(r.labels)),
        "far from 0": replace(r, features=r.features + 1e9),
        "very unequal columns": replace(r, features=r.features * np.logspace(-12, 12, 6)),
        "two images a class": tiny,
        "two classes of two": pair,
        "two classes of two, wide": replace(pair, features=wide[:4], reference=wide[4:]),
        "copies of one image a class": copies,
    }
    score = SCORES[name]
    for case, each in awkward.items():
        value = score.function(each)
        assert math.isfinite(value), case
        assert score.low is None or value >= score.low, case
        assert score.high is None or value <= score.high, case


def test_constant_features_tell_nothing():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    r = Representation(
        name="r",
        features=np.full((60, 2), [0.1, -0.1]),
        labels=labels,
        reference=np.random.default_rng(0).normal(size=(60, 3)),
    )
    assert (hscore(r), transrate(r), cka(r), parc(r)) == (0.0, 0.0, 0.0, 0.0)
    assert cka(replace(r, features=r.reference, reference=r.features)) == 0.0
    assert nleep(r) == pytest.approx(-entropy(labels), abs=1e-12)
    rounded = replace(r, features=r.features + 1e-15 * np.random.default_rng(0).normal(size=(60, 2)))
    assert nleep(rounded) == pytest.approx(-entropy(labels), abs=1e-12)
    assert sfda(r) == pytest.approx(-entropy(labels), abs=1e-12)
    assert linear_probe(r) == 0.5
    assert knn(r) <= 0.5


@all_scores
def test_a_score_names_the_part_that_it_lacks(name):
    full = made_up(60, 5)
    missing = {"stage": None, "head": "softmax of the network's own head", "reference": "trained on the target"}
    needed = SCORES[name].reads
    bare = replace(full, head=None, reference=None)
    if missing[needed] is None:
        assert SCORES[name].function(bare) == SCORES[name].function(full)
    else:
        with pytest.raises(UserError, match=f"made up: .*{missing[needed]}.* none is given"):
            SCORES[name].function(bare)
        rest = replace(full, head=full.head if needed == "head" else None, reference=None)
        if needed == "head":
            assert SCORES[name].function(rest) == SCORES[name].function(full)


@all_scores
def test_a_score_computes_in_float64(name):
    r = made_up(60, 20, noise=0.3)
    single = [np.asarray(part, dtype=np.float32) for part in (r.features, r.head, r.reference)]
    double = [part.astype(np.float64) for part in single]
    low, high = (replace(r, **dict(zip(("features", "head", "reference"), p, strict=True))) for p in (single, double))
    assert SCORES[name].function(low) == SCORES[name].function(high)


@all_scores
def test_a_score_is_said_in_one_line(name):
    assert SCORES[name].meaning
    assert "\n" not in SCORES[name].meaning


# --- What a representation refuses


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("features", np.ones((8, 0)), r"features of shape \(8, 0\) for 8 labels"),
        ("features", np.ones(8), r"features of shape \(8,\) for 8 labels"),
        ("reference", np.ones((7, 2)), r"reference of shape \(7, 2\) for 8 labels"),
        ("features", np.where(np.eye(8, 2), np.nan, 1), "its features holds NaN or infinity"),
        ("reference", np.where(np.eye(8, 2), np.inf, 1), "its reference holds NaN or infinity"),
        ("head", np.full((8, 3), 0.5), "its head must hold probabilities"),
        ("head", np.tile([1.5, -0.5], (8, 1)), "its head must hold probabilities"),
        ("labels", np.arange(8) // 4 - 1, "labels must be .* whole numbers 0..K-1"),
        ("labels", np.arange(8) / 4, "labels must be .* whole numbers 0..K-1"),
        ("labels", np.zeros(8, dtype=int), r"at least 2 classes .* \[8\]"),
        ("labels", np.array([0, 0, 0, 1, 1, 1, 1, 2]), r"at least 2 images each; images of each are \[3, 4, 1\]"),
        ("labels", np.array([0, 0, 0, 0, 2, 2, 2, 2]), r"images of each are \[4, 0, 4\]"),
    ],
)
def test_a_representation_says_what_it_refuses(part, value, message):
    parts = {"features": np.ones((8, 2)), "labels": np.arange(8) % 2}
    with pytest.raises(UserError, match=f"stage 3: .*{message}"):
        Representation(name="stage 3", **{**parts, part: value})
