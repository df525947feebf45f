"""SFDA: how well a Fisher discriminant separates the classes after hard images are made harder."""

import numpy as np
from scipy import linalg
from scipy.special import log_softmax

from raytransfer.scores.representation import Features, Labels, Representation
from raytransfer.scores.scaling import centred_to_unit_norm, principal_components

_STRENGTH = 5.0
_IMAGES_OF_A_DIMENSION = 5
_LEAST_VARIANCE = 1e-9


def sfda(r: Representation) -> float:
    """Mean log-probability of the labels under a self-challenging Fisher discriminant (nats, at most 0).

    Regularised Fisher discriminant analysis (FDA) models the classes as Gaussians with one covariance

        S = (1 − λ) S_W + λ tr(S_W)/d · I,  λ = exp(−5 σ(S_W)),  S_W = (1/n) Σ_i (f_i − μ_{y_i})(f_i − μ_{y_i})ᵀ

    with σ the largest eigenvalue. For each image

        ln p(c | f) = fᵀS⁻¹μ_c − ½ μ_cᵀS⁻¹μ_c + ln(n_c/n) + a constant, so that Σ_c p(c | f) = 1.

    This equals the paper's Bayes classifier in Fisher space, fᵀUUᵀμ_c with the leading K − 1 directions U: other
    directions add the same number for every class, so no eigenproblem need be solved. Then every image is moved towards
    the other classes, the further the less probable its label is (ConfMix),

        f_i ← p_i f_i + (1 − p_i) · mean of the μ_c with c ≠ y_i,  p_i = p(y_i | f_i)

    and the score is (1/n) Σ_i ln p(y_i | f_i) of a second FDA, with the λ of the first, on the mixed features.

    The 5 and the target tr(S_W)/d of the shrinkage are those of the authors' code. That code applies another softmax to
    p before it mixes, and averages p in place of ln p; we do neither. Scale and dimensions are our choice. Features are
    centred and scaled so that rows have a mean squared norm of 1; λ is then 1 if the classes are points, and at least
    e⁻⁵. They are reduced to the first d = min(D, n/5) principal components, since the classifier is fitted to the
    images that it scores, and for n ≤ D would fit any labels. Even so, the fewer images a class has, the higher any
    labels score: compare scores at equal n. Scaling, shifting or rotating the features changes nothing. Constant
    features score minus the entropy of the labels.

    Source: Shao, Zhao, Ge, Zhang, Yang, Wang, Shan, Luo 2022, "Not all models are equal: predicting model
    transferability in a self-challenging Fisher space" (arXiv 2207.03036), section 4.
    """
    features = centred_to_unit_norm(r.features)
    n, d = features.shape
    features = principal_components(features, min(d, max(n // _IMAGES_OF_A_DIMENSION, 1)))
    means = _class_means(features, r.labels)
    shrinkage = float(np.exp(-_STRENGTH * np.linalg.norm(features - means[r.labels], 2) ** 2 / n))
    own = np.exp(_log_posterior(features, r.labels, shrinkage))[:, None]
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    mixed = own * features + (1 - own) * others[r.labels]
    return min(float(_log_posterior(mixed, r.labels, shrinkage).mean()), 0.0)


def _class_means(features: Features, labels: Labels) -> Features:
    """(K, d)."""
    return np.stack([features[labels == label].mean(axis=0) for label in range(labels.max() + 1)])


def _log_posterior(features: Features, labels: Labels, shrinkage: float) -> Features:
    """(n,) the log-probability of each image's label, by an FDA with λ = ``shrinkage`` of the same images."""
    means = _class_means(features, labels)
    within = features - means[labels]
    n, d = features.shape
    covariance = (1 - shrinkage) * within.T @ within / n
    # The minimum keeps the covariance invertible if all classes are points.
    covariance.flat[:: d + 1] += shrinkage * max(float((within**2).sum()) / n, _LEAST_VARIANCE) / d
    weights = linalg.solve(covariance, means.T, assume_a="pos")
    shares = np.bincount(labels) / n
    logits = features @ weights - 0.5 * (means * weights.T).sum(axis=1) + np.log(shares)
    posterior: Features = log_softmax(logits, axis=1)[np.arange(n), labels]
    return posterior
