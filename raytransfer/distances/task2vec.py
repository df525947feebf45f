"""Task2Vec: which of a network's filters matter to a task."""

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
    """Cosine distance of the tasks' embeddings F, normalised by their sum: of F_P/(F_P + F_Q) and F_Q/(F_P + F_Q).

    Achille et al. 2019, *Task2Vec: task embedding for meta-learning*, the symmetric distance; ``embedding`` says what
    F is. Filters that matter to neither task are left out.

    Returns:
        0 (the same filters matter as much) to 1, which it also is where to one task alone no filter matters.

    Raises:
        UserError: A sample has no inputs or no probe, their probes differ, or a task has a single class.
    """
    (_, one), (_, other) = _probed(source), _probed(target)
    if not _equal(one, other):
        raise UserError(f"{source.name} and {target.name}: Task2Vec compares tasks under one probe network, not two")
    a, b = embedding(source), embedding(target)
    if not a.any() or not b.any():  # as of a task whose images are all equal; a cosine with 0 is undefined
        return float(a.any() != b.any())
    used = a + b > 0
    total = a[used] + b[used]
    return float(max(0.0, cosine(a[used] / total, b[used] / total)))


def embedding(sample: Sample) -> Features:
    """The diagonal Fisher information of the probe's weights on a task, averaged over each filter.

    A linear head is fitted on the outputs of all stages but the probe's own head (logistic regression, L2, C = 1, on
    standardised outputs, with all images). Then for each weight w of those stages
    F_w = mean over images of Σ_k p(k|x) (∂ log p(k|x) / ∂w)², in eval mode, and F of a filter (an output channel of a
    convolution, a unit of a full layer) is the mean over its weights; biases and normalisation layers are left out.

    Up to 10 classes the sum is exact, by one gradient for each image and class: at most 5,000 gradients, as at most 500
    images are used, the first by their digests. With more it is estimated by one gradient an image, of
    Σ_k s_k √p(k|x) log p(k|x) with the p under the root held fixed and random signs s_k = ±1, digests of the image: the
    square of it has that sum as its mean, at a cost that does not grow with classes. The estimate's noise hides much of
    what labels change. The order of the sample changes nothing in either case.

    A sample's embedding is kept as long as the sample is, so that each is computed once for all pairs.

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
            if inputs.eq(inputs[:1]).all():  # batches of other sizes round otherwise, which a head would tell apart
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
    """Fit the linear head of a task: logistic regression, with the standardisation folded into its weights.

    Args:
        outputs: (n, d) outputs of the body.
        labels: (n,) 0..K-1, K at least 2.
    """
    features = outputs.double().numpy(force=True)
    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)
    scaled[:, np.ptp(features, axis=0) == 0] = 0.0  # of what is constant the mean may be off by rounding
    model = LogisticRegression(max_iter=1000).fit(scaled, labels)
    weight, bias = model.coef_ / scaler.scale_, model.intercept_ - model.coef_ @ (scaler.mean_ / scaler.scale_)
    if len(weight) == 1:  # two classes have one logit, that of the second
        weight, bias = np.concatenate([0 * weight, weight]), np.append(0 * bias, bias)
    head = nn.Linear(weight.shape[1], len(weight), device="meta")
    head.weight, head.bias = (nn.Parameter(torch.as_tensor(part).to(outputs)) for part in (weight, bias))
    return head


def directions(inputs: torch.Tensor, classes: int) -> torch.Tensor:
    """(n, m, classes) what ``fisher`` takes: every class for itself while they are few, else one draw of signs."""
    if classes <= _EXACT_CLASSES:
        return torch.eye(classes).to(inputs).expand(len(inputs), -1, -1)
    return random_signs(inputs, classes)[:, None]


def random_signs(inputs: torch.Tensor, classes: int) -> torch.Tensor:
    """(n, classes) of ±1 that depend on each image's content alone."""
    # The first bytes of a digest order the images, and so choose them: they are not random any more.
    length = DIGEST_BYTES + math.ceil(classes / 8)
    rows = [
        np.frombuffer(digest[DIGEST_BYTES:], np.uint8) for digest in digests(inputs.numpy(force=True), length=length)
    ]
    bits = np.unpackbits(np.stack(rows), axis=1)[:, :classes]
    signs: torch.Tensor = torch.as_tensor(bits).to(inputs) * 2 - 1
    return signs
