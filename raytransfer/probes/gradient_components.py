"""How much of the weights lies in the main directions of their gradient."""

import numpy as np
import torch

from raytransfer.probes.loss import loss_and_gradient, norm
from raytransfer.probes.subject import Reading, Subject
from raytransfer.probes.weights import trained_weights, weight_tensors
from raytransfer.training import stream_seed

_COMPONENTS = 10
_NOISE = 1e-6  # of the first singular value: what rounding leaves of the others
_DENSE = 1024  # the shorter side of a matrix up to which all its singular vectors are computed


def gradient_components(subject: Subject) -> list[Reading]:
    """Singular components of each stage's weight gradient, and the weights' projections on them.

    With G = ∂L/∂W as a matrix, out × rest, and its singular value decomposition G = Σ σᵢ uᵢ vᵢᵀ, σ₁ the largest. Of
    several weight tensors of a stage that trained, the one with the largest ‖G‖_F is taken.

    Readings, of each stage with weights that trained, for i = 1..10 (index) or as many as G has rank:

    - ``singular value``: σᵢ;
    - ``projection``: |uᵢᵀ W vᵢ|;
    - ``relative projection``: |uᵢᵀ W vᵢ| / ‖W‖_F (0..1), 0 where W = 0.

    The rank counts σᵢ above 1e-6 σ₁: directions below that are rounding. The head's gradient has a rank of at most
    K − 1, as its rows sum to 0, and where G = 0 there are no readings.

    Source: Liu et al. 2019, *Towards understanding the transferability of deep representations* (arXiv 1909.12031),
    section 4.2, in our own definition.
    """
    weights = trained_weights(subject.network)
    _, gradient = loss_and_gradient(subject, weights)
    readings = []
    for stage, tensors in weight_tensors(subject.network).items():
        names = [name for name in tensors if name in gradient and gradient[name].any()]
        if names:
            largest = max(names, key=lambda name: norm([gradient[name]]))
            readings += _components(weights[largest], gradient[largest], stage, subject.seed)
    return readings


def _components(weight: torch.Tensor, gradient: torch.Tensor, stage: str, seed: int) -> list[Reading]:
    w, g = weight.double().flatten(1), gradient.double().flatten(1)
    u, sigma, vh = leading_components(g, stream_seed(seed, "probe", "gradient-components"))
    size = norm([w])
    readings = []
    for i in range(int((sigma > _NOISE * sigma[0]).sum().item())):
        projection = (u[:, i] @ w @ vh[i]).abs().item()
        values = {
            "singular value": sigma[i].item(),
            "projection": projection,
            "relative projection": projection / size if size > 0 else 0.0,
        }
        readings += [
            Reading(quantity=quantity, value=value, stage=stage, index=i + 1) for quantity, value in values.items()
        ]
    return readings


def leading_components(matrix: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The first 10 singular triplets, or as many as there are, the largest singular value first.

    Args:
        matrix: (m, n) float64.
        seed: Seed of the vectors that Lanczos starts and goes on from, which large matrices are left to.

    Returns:
        u (m, k), σ (k,) and vᵀ (k, n).
    """
    if min(matrix.shape) <= _DENSE:
        u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
        return u[:, :_COMPONENTS], sigma[:_COMPONENTS], vh[:_COMPONENTS]
    from scipy.sparse.linalg import LinearOperator, eigsh  # slow to import, and most networks do without

    # As SciPy's svds, which takes no seed for vectors that Lanczos goes on from where the matrix has few rows but 0.
    is_wide = matrix.shape[0] < matrix.shape[1]
    tall = (matrix.mT if is_wide else matrix).numpy(force=True)
    size = tall.shape[1]
    gram = LinearOperator((size, size), matvec=lambda vector: tall.T @ (tall @ vector), dtype=tall.dtype)
    start = np.random.default_rng(seed).normal(size=size)
    basis, _ = np.linalg.qr(eigsh(gram, k=_COMPONENTS, v0=start, rng=seed)[1])
    u, sigma, vh = np.linalg.svd(tall @ basis, full_matrices=False)
    left, sizes, right = (torch.as_tensor(part, device=matrix.device) for part in (u, sigma, vh @ basis.T))
    return (right.mT, sizes, left.mT) if is_wide else (left, sizes, right)
