"""Task2Vec: which filters of a network matter for a task."""

import math
from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy.spatial.distance import cosine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from raytransfer.distances.content import DIGEST_BYTES, content_order, digests
from raytransfer.distances.fisher import Body, fisher
from raytransfer.distances.sample import Features, Labels, Sample
from raytransfer.errors import UserError
from raytransfer.networks import Network

_MAX_IMAGES = 500
_EXACT_CLASSES = 10
_BATCH = 25
_EMBEDDINGS: WeakKeyDictionary[Sample, Features] = WeakKeyDictionary()


def task2vec(source: Sample, target: Sample) -> float:
    """Cosine distance between F_P/(F_P + F_Q) and F_Q/(F_P + F_Q), with the tasks' embeddings F.

    Achille et al. 2019, *Task2Vec: task embedding for meta-learning*, the symmetric distance. ``embedding`` defines F.
    Filters that matter for neither task are left out.

    Returns:
        0 (every filter matters equally for both) to 1; 1 also if no filter matters for exactly one of the tasks.

    Raises:
        UserError: A sample has no inputs or no probe, their probes differ, or a task has a single class.
    """
    (_, one), (_, other) = _probed(source), _probed(target)
    if not _equal(one, other):
        raise UserError(f"{source.name} and {target.name}: Task2Vec compares tasks under one probe network, not two")
    a, b = embedding(source), embedding(target)
    if not a.any() or not b.any():  # as for a task whose images are all equal; a cosine with 0 is undefined
        return float(a.any() != b.any())
    used = a + b > 0
    total = a[used] + b[used]
    return float(max(0.0, cosine(a[used] / total, b[used] / total)))


def embedding(sample: Sample) -> Features:
    """The diagonal Fisher information of the probe's weights for a task, averaged over each filter.

    The probe's head is replaced by a linear one, fitted to all images (logistic regression, L2, C = 1, on standardised
    outputs of the stage below). Then for each weight w below it, in eval mode,
    F_w = mean over images of Σ_k p(k|x) (∂ log p(k|x) / ∂w)². F of a filter (an output channel of a convolution, or a
    unit of a full layer) is the mean over its weights. Biases and normalisation layers are left out.

    At most 500 images are used, the first by digest. With up to 10 classes the sum over k is exact, from a gradient for
    each image and class. With more it is estimated from one gradient for each image, of Σ_k s_k √p(k|x) log p(k|x),
    where the p under the root is held constant and s_k = ±1 are random signs from a digest of the image. The expected
    square of that gradient is the sum, at a cost that does not grow with classes, but its noise hides much of what
    labels change. The order of the sample does not matter.

    A sample's embedding is cached as long as the sample exists.

    Args:
        sample: With inputs and probe; neither is changed.

    Returns:
        (filters,) the embedding, at least 0, in the order of the probe's parameters.

    Raises:
        UserError: The sample has no inputs or no probe, a single class, or a probe without filters below its head.
    """
    if sample not in _EMBEDDINGS:
        inputs, probe = _probed(sample)
        if len(sample.classes) < 2:
            raise UserError(f"{sample.name}: Task2Vec fits a head, which takes at least 2 classes, not 1")
        order = content_order(inputs.numpy(force=True), sample.labels)
        inputs = inputs[torch.as_tensor(order, device=inputs.device)]
        body = Body(probe)
        if not body.weights():
            raise UserError(f"{sample.name}: Task2Vec looks at a probe's filters below its head, and it has none")
        with torch.no_grad():
            outputs = torch.cat([body(batch) for batch in torch.split(inputs, _BATCH)])
            if inputs.eq(inputs[:1]).all():  # rounding differs between batch sizes, from which a head would learn
                outputs = outputs[:1].expand_as(outputs)
            head = fit_head(outputs, sample.labels[order])
            used = inputs[:_MAX_IMAGES]
            _EMBEDDINGS[sample] = fisher(body, head, used, directions(used, len(sample.classes)))
    return _EMBEDDINGS[sample]


def _probed(sample: Sample) -> tuple[torch.Tensor, Network]:
    if sample.inputs is None or sample.probe is None:
        raise UserError(f"{sample.name}: Task2Vec needs a probe network and the images as it takes them")
    return sample.inputs, sample.probe


def _equal(one: Network, other: Network) -> bool:
    a, b = one.module.state_dict(), other.module.state_dict()
    return a.keys() == b.keys() and all(a[key].shape == b[key].shape and a[key].equal(b[key]) for key in a)


def fit_head(outputs: torch.Tensor, labels: Labels) -> nn.Linear:
    """Fit a linear head by logistic regression, with the standardisation folded into its weights.

    Args:
        outputs: (n, d) outputs of the body.
        labels: (n,) 0..K-1, K at least 2.
    """
    features = outputs.double().numpy(force=True)
    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)
    scaled[:, np.ptp(features, axis=0) == 0] = 0.0  # the mean of a constant may be off by rounding
    model = LogisticRegression(max_iter=1000).fit(scaled, labels)
    weight, bias = model.coef_ / scaler.scale_, model.intercept_ - model.coef_ @ (scaler.mean_ / scaler.scale_)
    if len(weight) == 1:  # for two classes scikit-learn has one logit, that of the second
        weight, bias = np.concatenate([0 * weight, weight]), np.append(0 * bias, bias)
    head = nn.Linear(weight.shape[1], len(weight), device="meta")
    head.weight, head.bias = (nn.Parameter(torch.as_tensor(part).to(outputs)) for part in (weight, bias))
    return head


def directions(inputs: torch.Tensor, classes: int) -> torch.Tensor:
    """(n, m, classes) directions for ``fisher``: all unit vectors if classes are few, else a vector of random signs."""
    if classes <= _EXACT_CLASSES:
        return torch.eye(classes).to(inputs).expand(len(inputs), -1, -1)
    return random_signs(inputs, classes)[:, None]


def random_signs(inputs: torch.Tensor, classes: int) -> torch.Tensor:
    """(n, classes) of ±1 that depend on each image's content only."""
    # The first bytes of a digest decided which images are used, so they are not random any more.
    length = DIGEST_BYTES + math.ceil(classes / 8)
    rows = [
        np.frombuffer(digest[DIGEST_BYTES:], np.uint8) for digest in digests(inputs.numpy(force=True), length=length)
    ]
    bits = np.unpackbits(np.stack(rows), axis=1)[:, :classes]
    signs: torch.Tensor = torch.as_tensor(bits).to(inputs) * 2 - 1
    return signs
