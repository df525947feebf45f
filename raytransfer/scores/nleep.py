"""N-LEEP: LEEP with clusters of the features in place of the source's classes."""

from dataclasses import replace

import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from raytransfer.scores.content import places_by_content
from raytransfer.scores.leep import leep
from raytransfer.scores.representation import Features, Representation
from raytransfer.scores.scaling import centred_to_unit_norm

_VARIANCE_KEPT = 0.8
_COMPONENTS_OF_A_CLASS = 5
_IMAGES_OF_A_COMPONENT = 5
_SEED = 0
_MOST_STEPS = 10_000


def nleep(r: Representation) -> float:
    """LEEP with the posterior of a Gaussian mixture as the head (nats, −ln K at worst, 0 at best).

    The features are reduced to the first principal components with 80% of their variance, and a mixture of 5K Gaussians
    is fitted to them by expectation maximisation. θ(x)_z in ``leep`` is the posterior of component z. The 80% and 5K
    are the paper's. The rest is our choice for few images: at most n/5 components, so that each has 5 images on
    average, and at most as many as there are distinct images; diagonal covariances, since full ones would have more
    parameters than a component has data; one start from k-means with seed 0. The reduced features are scaled to a mean
    variance of 1, to which scikit-learn adds 1e-6 for each component.

    Images are sorted by their features first, so their order does not matter, nor does scaling or shifting the features
    except for rounding where some are equal. A rotation changes the start, and possibly the optimum. The mixture is
    fitted to the images that are scored, and the fewer images a component has, the higher any labels score: compare
    scores at equal n. Constant features score minus the entropy of the labels.

    Source: Li, Jia, Sang, Zhu, Green, Wang, Gong 2021, "Ranking neural checkpoints" (arXiv 2011.11200), N-LEEP.
    """
    places = places_by_content(r.features)
    order = np.argsort(places, kind="stable")
    features = centred_to_unit_norm(r.features[order])
    components = min(
        _COMPONENTS_OF_A_CLASS * (int(r.labels.max()) + 1), len(places) // _IMAGES_OF_A_COMPONENT, int(places.max()) + 1
    )
    has_clusters = components > 1 and features.any()  # features that differ only by rounding are now all 0
    posterior = _posterior(features, components) if has_clusters else np.ones((len(places), 1))
    return leep(replace(r, features=features, labels=r.labels[order], head=posterior, reference=None))


def _posterior(features: Features, components: int) -> Features:
    """(n, components) posterior of a Gaussian mixture fitted to the rows."""
    reduced = PCA(_VARIANCE_KEPT, svd_solver="full").fit_transform(features)
    reduced /= np.sqrt((reduced**2).mean())
    mixture = GaussianMixture(components, covariance_type="diag", random_state=_SEED, max_iter=_MOST_STEPS)
    posterior: Features = mixture.fit(reduced).predict_proba(reduced)
    return posterior
