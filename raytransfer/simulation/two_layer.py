"""Fine-tuning wide two-layer ReLU networks: how far the weights move, compared with the bound of theory."""

import math
from dataclasses import dataclass

import numpy as np

from raytransfer.distances.ntk import gram, unit_rows
from raytransfer.distances.sample import Features
from raytransfer.errors import UserError

TOLERANCE = 1e-3
"""Training stops when the distance left is this fraction of the distance from the random weights."""

_CHECK_EVERY = 20  # steps; a check takes about as long as a step
_SAME_DIRECTION = 1e-12  # 1 − cosine; the Gram matrix of two such images is singular up to rounding


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Measurements on networks of one width, and predictions for infinite width.

    W(0) are the random weights, W(P) those after training on P from W(0), and W(Q) those after training on Q from W(P);
    *from scratch* is training on Q from W(0). H_P, H_Q and H_PQ are H∞ (``distances.ntk.gram``), and
    y_{P→Q} = H_PQᵀ H_P⁻¹ y_P. The loss is L = ½‖f(X) − y‖², summed over images. All floats are finite.

    Attributes:
        distance: ‖W(Q) − W(P)‖_F.
        bound: √(rᵀ H_Q⁻¹ r), r = y_Q − y_{P→Q} (Liu et al. 2019; the theorem says distance ≤ bound + o(1)).
        distance_from_scratch: ‖W′(Q) − W(0)‖_F, W′(Q) trained on Q from scratch.
        bound_from_scratch: √(y_Qᵀ H_Q⁻¹ y_Q) (Arora et al. 2019).
        gradient: ‖∇_W L_Q(W(P))‖_F.
        gradient_predicted: √(rᵀ H_Q r).
        gradient_from_scratch: ‖∇_W L_Q(W(0))‖_F.
        gradient_from_scratch_predicted: √(y_Qᵀ H_Q y_Q).
        output_gradient: ‖∇_f L_Q‖ = ‖f(X_Q) − y_Q‖ at W(P); at W(0) it is √n_Q, as f is 0 there.
        output_gradient_predicted: ‖r‖.
        loss_p: L_P at W(P).
        loss_q: L_Q at W(Q).
        loss_from_scratch: L_Q at W′(Q).
        steps_p: Steps of gradient descent to W(P).
        steps_q: Steps to W(Q).
        steps_from_scratch: Steps to W′(Q).
        unfinished: Distance left, as a fraction of the distance from the random weights; the largest of the three
            trainings.
        converged: Whether all trainings ended before the limit on steps; otherwise the distances are too short. The
            losses say whether the network fits: with very few units it may converge without fitting.
        min_eigenvalue_p: Smallest eigenvalue of H_P, above 0.
        min_eigenvalue_q: Smallest eigenvalue of H_Q.
    """

    distance: float
    bound: float
    distance_from_scratch: float
    bound_from_scratch: float
    gradient: float
    gradient_predicted: float
    gradient_from_scratch: float
    gradient_from_scratch_predicted: float
    output_gradient: float
    output_gradient_predicted: float
    loss_p: float
    loss_q: float
    loss_from_scratch: float
    steps_p: int
    steps_q: int
    steps_from_scratch: int
    unfinished: float
    converged: bool
    min_eigenvalue_p: float
    min_eigenvalue_q: float


@dataclass(frozen=True, eq=False, kw_only=True)
class _Trained:
    """Weights after training, steps taken, the loss, and the distance left as in ``Simulation.unfinished``."""

    weights: Features
    steps: int
    loss: float
    unfinished: float


def simulate(
    x_p: Features,
    y_p: Features,
    x_q: Features,
    y_q: Features,
    *,
    width: int,
    seed: int,
    max_steps: int = 20_000,
) -> Simulation:
    """Train a two-layer ReLU network on P, then on Q, and compare how far it moved with what theory predicts.

    The network is f_W(x) = (1/√m) Σ_r a_r max(w_rᵀx, 0) with m units, and the loss ½‖f(X) − y‖². Only W is trained, by
    full-batch gradient descent with learning rate 1 / λ_max, where λ_max is the largest eigenvalue of the Gram matrix Ĥ
    of the initial weights (H∞ for infinite width). Units come in pairs of equal w_r(0) ~ N(0, I) and opposite a_r = ±1,
    so that f is exactly 0 at W(0). Theory neglects f at W(0), which would otherwise need small weights; these change
    direction sooner, and so need a larger width.

    A training stops when √(rᵀ Ĥ⁻¹ r), r = y − f(X), with Ĥ of the current weights, is at most ``TOLERANCE`` times
    √(yᵀ H∞⁻¹ y). To first order that is the distance left. So distances fall short by at most 0.1% of the distance from
    scratch. W(P) adds 0.1% of its own distance, which matters only if Q is hundreds of times nearer to P than to W(0).

    To first order in W − W(0) the bound is an equality: as width grows, distance / bound goes to 1. Predicted gradients
    are ours: by the same linearisation ∇_W L_Q = Jᵀ(f − y_Q) with J Jᵀ = H_Q, and f = y_{P→Q} at W(P) but 0 at W(0). So
    between W(0) and W(P), ‖f − y_Q‖² differs by 2 y_Qᵀ y_{P→Q} − ‖y_{P→Q}‖², and squared gradients do in the metric
    H_Q.

    Weights outside the span of the images neither change nor matter, so W is represented in coordinates of that span,
    those of Q first: with one seed, Q gets the same random network beside every P.

    Args:
        x_p: (n_P, D) images of P, which are scaled to unit norm.
        y_p: (n_P,) labels, −1 or +1.
        x_q: (n_Q, D) images of Q; they may overlap those of P.
        y_q: (n_Q,) labels.
        width: m, even.
        seed: Seed of W(0).
        max_steps: Limit on the steps of each training, which need about 7 λ_max / λ_min.

    Raises:
        UserError: An image is zero or not finite; two images of a task have the same direction, which makes H singular;
            labels are not ±1, one for each image; the images of P and Q differ in length; width is odd or below 2; or
            max_steps is below 1.
    """
    if width < 2 or width % 2 or max_steps < 1:
        raise UserError(
            f"width {width}, max_steps {max_steps}: both must be above 0, and width even, for units come in pairs"
        )
    x_p, x_q = _directions(x_p, y_p, "P"), _directions(x_q, y_q, "Q")
    if x_p.shape[1] != x_q.shape[1]:
        raise UserError(f"images of P have {x_p.shape[1]} values and those of Q {x_q.shape[1]}: bring them to one size")
    h_p, h_q = gram(x_p, x_p), gram(x_q, x_q)
    residual = y_q - gram(x_p, x_q).T @ np.linalg.solve(h_p, y_p)
    way_p, way_q = _norm_in(_inverse(h_p), y_p), _norm_in(_inverse(h_q), y_q)

    coordinates = np.asarray(np.linalg.qr(np.vstack([x_q, x_p]).T, mode="r")).T
    x_q, x_p = coordinates[: len(y_q)], coordinates[len(y_q) :]
    start = _initial(coordinates.shape[1], width, seed)
    on_p = _train(x_p, y_p, start, way=way_p, max_steps=max_steps)
    on_q = _train(x_q, y_q, on_p.weights, way=way_q, max_steps=max_steps)
    scratch = _train(x_q, y_q, start, way=way_q, max_steps=max_steps)
    unfinished = max(on_p.unfinished, on_q.unfinished, scratch.unfinished)
    return Simulation(
        distance=float(np.linalg.norm(on_q.weights - on_p.weights)),
        bound=_norm_in(_inverse(h_q), residual),
        distance_from_scratch=float(np.linalg.norm(scratch.weights - start)),
        bound_from_scratch=way_q,
        gradient=float(np.linalg.norm(_gradient(x_q, y_q, on_p.weights))),
        gradient_predicted=_norm_in(h_q, residual),
        gradient_from_scratch=float(np.linalg.norm(_gradient(x_q, y_q, start))),
        gradient_from_scratch_predicted=_norm_in(h_q, y_q),
        output_gradient=float(np.linalg.norm(_outputs(x_q, on_p.weights) - y_q)),
        output_gradient_predicted=float(np.linalg.norm(residual)),
        loss_p=on_p.loss,
        loss_q=on_q.loss,
        loss_from_scratch=scratch.loss,
        steps_p=on_p.steps,
        steps_q=on_q.steps,
        steps_from_scratch=scratch.steps,
        unfinished=unfinished,
        converged=unfinished <= TOLERANCE,
        min_eigenvalue_p=float(np.linalg.eigvalsh(h_p)[0]),
        min_eigenvalue_q=float(np.linalg.eigvalsh(h_q)[0]),
    )


def _directions(x: Features, y: Features, task: str) -> Features:
    """Check a task, and scale its images to unit norm."""
    if x.ndim != 2 or y.shape != (len(x),) or not len(x):
        raise UserError(f"{task} has images of shape {x.shape} and labels of shape {y.shape}: a label for each image")
    if not (np.abs(y) == 1).all():
        raise UserError(f"labels of {task} are {np.unique(y).tolist()}: they must be −1 or +1")
    if not np.isfinite(x).all() or not x.any(axis=1).all():
        raise UserError(f"an image of {task} is zero, NaN or infinite, and the theory needs directions")
    scaled = unit_rows(x)
    cosine = scaled @ scaled.T
    same = np.argwhere(np.triu(cosine > 1 - _SAME_DIRECTION, 1))
    if len(same):
        raise UserError(
            f"images {same[0, 0]} and {same[0, 1]} of {task} (of {len(same)} such pairs) have one direction, so its "
            "Gram matrix has no inverse: leave copies out"
        )
    return scaled


def _initial(coordinates: int, width: int, seed: int) -> Features:
    """W(0), (coordinates, width): units 2i and 2i + 1 are equal."""
    return np.repeat(np.random.default_rng(seed).normal(size=(coordinates, width // 2)), 2, axis=1)


def _signs(width: int) -> Features:
    """The factors a_r / √m, (width,)."""
    return np.tile([1.0, -1.0], width // 2) / math.sqrt(width)


def _outputs(x: Features, weights: Features) -> Features:
    """f(X), (n,)."""
    return np.asarray(np.maximum(x @ weights, 0) @ _signs(weights.shape[1]))


def _gradient(x: Features, y: Features, weights: Features) -> Features:
    """∇_W L, in the shape of the weights."""
    on = (x @ weights > 0).astype(np.float64)
    residual = _outputs(x, weights) - y
    return np.asarray(((x * residual[:, None]).T @ on) * _signs(weights.shape[1]))


def _train(x: Features, y: Features, start: Features, *, way: float, max_steps: int) -> _Trained:
    """Gradient descent until the distance left is at most ``TOLERANCE`` times ``way``."""
    weights, signs, steps = start.copy(), _signs(start.shape[1]), 0
    steepest = float(np.linalg.eigvalsh(_empirical_gram(x, weights))[-1])
    rate = 1 / steepest if steepest > 0 else 0.0  # 0 if no unit is active for any image
    units, on, step = np.empty((len(x), len(signs))), np.empty((len(x), len(signs))), np.empty_like(weights)
    while True:  # in place, as allocating arrays of this size would take half of the time
        np.matmul(x, weights, out=units)
        np.greater(units, 0, out=on)
        residual = np.multiply(units, on, out=units) @ signs - y
        if steps % _CHECK_EVERY == 0 or steps == max_steps:
            unfinished = _norm_in(_inverse(_empirical_gram(x, weights)), residual) / way
            if unfinished <= TOLERANCE or steps == max_steps:
                loss = float(residual @ residual) / 2
                return _Trained(weights=weights, steps=steps, loss=loss, unfinished=unfinished)
        np.matmul((rate * x * residual[:, None]).T, on, out=step)
        weights -= np.multiply(step, signs, out=step)
        steps += 1


def _empirical_gram(x: Features, weights: Features) -> Features:
    """Ĥ_ij = xᵢᵀxⱼ times the share of units that are active for both, (n, n)."""
    on = (x @ weights > 0).astype(np.float64)
    return np.asarray((x @ x.T) * (on @ on.T) / weights.shape[1])


def _inverse(symmetric: Features) -> Features:
    """H⁻¹, or the pseudo-inverse if there are too few units for H to be invertible."""
    return np.asarray(np.linalg.pinv(symmetric, hermitian=True), dtype=np.float64)


def _norm_in(matrix: Features, vector: Features) -> float:
    """√(vᵀ M v)."""
    return math.sqrt(max(float(vector @ matrix @ vector), 0.0))
