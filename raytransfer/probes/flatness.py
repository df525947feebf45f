"""How sharply the loss curves: eigenvalues and traces of its Hessian."""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from raytransfer.errors import UserError
from raytransfer.probes.loss import CHUNK, leaves_of, losses
from raytransfer.probes.subject import Reading, Subject
from raytransfer.probes.weights import Tensors, filter_normalised, random_signs, trained_parameters, trained_weights
from raytransfer.training import stream_seed

_VECTORS = 16  # of a trace
_TOLERANCE = 1e-3  # relative, of an eigenvalue
_RESTARTS = 50  # of Lanczos, before it is given up

Vector = npt.NDArray[np.float64]
Product = Callable[[torch.Tensor], torch.Tensor]


def flatness(subject: Subject) -> list[Reading]:
    """Largest eigenvalues and trace of H = ∇²L with respect to the parameters that trained.

    Readings:

    - ``eigenvalue`` with index 1..k: the largest, in algebraic order, by Lanczos to a relative tolerance of 1e-3; from
      the dense matrix where Lanczos would need as many products as that;
    - ``trace`` and ``trace standard error``: Hutchinson's estimate, the mean of zᵀHz over 16 vectors of random signs;
    - ``filter-normalised trace`` and ``filter-normalised trace standard error``: the same of E[dᵀHd], where each filter
      of d (a row of a weight tensor as out × rest) is a vector of random signs rescaled to the norm ‖w_f‖ of that
      filter, and d is 0 at biases and normalisation layers. It is Σ_f ‖w_f‖² tr(H_ff) / (weights of f), whichever
      distribution the random directions have. Weights of a ReLU layer scaled up with its biases, and the next
      layer's scaled down, leave it as it was, which the other two are not.

    H is applied to a vector by differentiating the gradient once more in reverse. curvlinops 3.0 goes forward through
    ``torch.func.jacrev`` instead, which in PyTorch 2.15 is not available for group normalisation and is off by percents
    for layer normalisation. Attention is written out for it: PyTorch cannot differentiate its fused kernels twice.

    Source: the quantities are those of Liu et al. 2019 (arXiv 1909.12031), section 3; the filter-normalised trace is
    our own definition, after Li et al. 2018 (arXiv 1712.09913), section 4.

    Raises:
        UserError: The number of eigenvalues is missing, below 1, or larger than that of parameters.
        scipy.sparse.linalg.ArpackNoConvergence: Lanczos did not converge.
    """
    weights, parameters = trained_weights(subject.network), trained_parameters(subject.network)
    size = sum(tensor.numel() for tensor in parameters.values())
    count = subject.eigenvalues
    if count is None or not 1 <= count <= size:
        raise UserError(f"{subject.name}: eigenvalues={count} must be 1 to {size}, the parameters that trained")
    product = hessian_product(subject)
    values = largest_eigenvalues(product, size, count, stream_seed(subject.seed, "probe", "eigenvalues"), parameters)
    readings = [Reading(quantity="eigenvalue", value=value, index=i) for i, value in enumerate(values, start=1)]
    generator = torch.Generator().manual_seed(stream_seed(subject.seed, "probe", "trace"))
    signs = (flat(random_signs(parameters, generator), parameters) for _ in range(_VECTORS))
    readings += _estimate("trace", quadratic_forms(product, signs))
    normalised = (
        flat(filter_normalised(random_signs(weights, generator), weights), parameters) for _ in range(_VECTORS)
    )
    return readings + _estimate("filter-normalised trace", quadratic_forms(product, normalised))


def hessian_product(subject: Subject) -> Product:
    """The function v -> Hv of flat vectors (P,), P the number of parameters that trained, in their order."""
    leaves = leaves_of(trained_parameters(subject.network))

    def gradients() -> Iterator[tuple[float, torch.Tensor]]:
        for share, part in losses(subject, leaves):
            gradient = torch.autograd.grad(part, list(leaves.values()), create_graph=True, materialize_grads=True)
            yield share, torch.cat([tensor.flatten() for tensor in gradient])

    # The graph of one chunk may stay in memory; those of all may not.
    with sdpa_kernel(SDPBackend.MATH):
        kept = list(gradients()) if len(subject.labels) <= CHUNK else None

    def product(vector: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(vector)
        with sdpa_kernel(SDPBackend.MATH):
            for share, gradient in kept or gradients():
                parts = torch.autograd.grad(
                    gradient, list(leaves.values()), vector, retain_graph=kept is not None, materialize_grads=True
                )
                total.add_(torch.cat([part.flatten() for part in parts]), alpha=share)
        return total

    return product


def largest_eigenvalues(product: Product, size: int, count: int, seed: int, like: Tensors) -> list[float]:
    """The largest eigenvalues in algebraic order, descending.

    Args:
        product: v -> Hv, of flat vectors.
        size: Their length P.
        count: How many, 1..P.
        seed: Seed of the vectors that Lanczos starts from, and goes on from where H has nothing more to give.
        like: The parameters, for their dtype and device.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh  # slow to import, and most probes do without

    first = next(iter(like.values()))

    def multiply(vector: Vector) -> Vector:
        image = product(torch.as_tensor(vector.ravel(), dtype=first.dtype, device=first.device))
        return image.double().numpy(force=True)

    basis = max(2 * count + 1, 20)
    if size <= basis:  # Lanczos would take them all
        dense = np.stack([multiply(unit) for unit in np.eye(size)])
        return [float(value) for value in np.linalg.eigvalsh((dense + dense.T) / 2)[::-1][:count]]
    start = multiply(np.random.default_rng(seed).normal(size=size))
    if not start.any():  # H = 0, which Lanczos cannot start on
        return [0.0] * count
    operator = LinearOperator((size, size), matvec=multiply, dtype=np.float64)
    values = eigsh(
        operator,
        k=count,
        which="LA",
        ncv=basis,
        v0=start,
        tol=_TOLERANCE,
        maxiter=_RESTARTS,
        return_eigenvectors=False,
        rng=seed,
    )
    return [float(value) for value in np.sort(values)[::-1]]


def quadratic_forms(product: Product, vectors: Iterable[torch.Tensor]) -> list[float]:
    """vᵀHv of each vector."""
    return [(vector.double() @ product(vector).double()).item() for vector in vectors]


def flat(tensors: Tensors, like: Tensors) -> torch.Tensor:
    """Tensors by name as one vector (P,), in the order of ``like`` and 0 where there is none."""
    return torch.cat([tensors.get(name, torch.zeros_like(tensor)).flatten() for name, tensor in like.items()])


def _estimate(quantity: str, forms: list[float]) -> list[Reading]:
    """Mean and standard error."""
    error = float(np.std(forms, ddof=1)) / math.sqrt(len(forms))
    return [
        Reading(quantity=quantity, value=float(np.mean(forms))),
        Reading(quantity=f"{quantity} standard error", value=error),
    ]
