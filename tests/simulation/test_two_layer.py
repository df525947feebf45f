import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raytransfer.errors import UserError
from raytransfer.simulation import two_layer as theory
from raytransfer.simulation.two_layer import TOLERANCE, simulate

few = settings(max_examples=15, deadline=None)


def task(seed, n=8, dimensions=20):
    """Random unit vectors and random labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dimensions))
    return x / np.linalg.norm(x, axis=1, keepdims=True), rng.choice([-1.0, 1.0], n)


def naive_gram(x, other):
    return np.array(
        [[a @ b * (math.pi - math.acos(min(1.0, max(-1.0, a @ b)))) / (2 * math.pi) for b in other] for a in x]
    )


def naive_training(x, y, weights, a, steps):
    """Gradient descent with torch's own gradients, weights as rows, in all dimensions of the images."""
    x, y, w, a = (torch.tensor(array, dtype=torch.float64) for array in (x, y, weights, a))
    w.requires_grad_()
    on = (x @ w.T > 0).double()
    rate = 1 / torch.linalg.eigvalsh((x @ x.T) * (on @ on.T) / len(a))[-1]
    for step in range(steps + 1):
        outputs = torch.relu(x @ w.T) @ a / math.sqrt(len(a))
        loss = ((outputs - y) ** 2).sum() / 2
        (gradient,) = torch.autograd.grad(loss, w)
        if step == 0:
            first_gradient = gradient.norm().item()
        if step < steps:
            with torch.no_grad():
                w -= rate * gradient
    return w.detach().numpy(), loss.item(), first_gradient


def test_training_is_gradient_descent_of_the_whole_network():
    (x_p, y_p), (x_q, y_q) = task(0, n=3, dimensions=9), task(1, n=4, dimensions=9)
    ours = simulate(x_p, y_p, x_q, y_q, width=6, seed=5, max_steps=200)
    basis, _ = np.linalg.qr(np.vstack([x_q, x_p]).T)
    drawn = np.repeat(np.random.default_rng(5).normal(size=(7, 3)), 2, axis=1)
    outside = np.random.default_rng(6).normal(size=(6, 9))
    start = (basis @ drawn).T + outside - outside @ basis @ basis.T
    a = np.array([1, -1, 1, -1, 1, -1])
    on_p, loss_p, _ = naive_training(x_p, y_p, start, a, ours.steps_p)
    on_q, loss_q, gradient = naive_training(x_q, y_q, on_p, a, ours.steps_q)
    scratch, loss_from_scratch, gradient_from_scratch = naive_training(x_q, y_q, start, a, ours.steps_from_scratch)
    assert min(ours.steps_p, ours.steps_q, ours.steps_from_scratch) > 10
    assert ours.distance == pytest.approx(np.linalg.norm(on_q - on_p), rel=1e-6)
    assert ours.distance_from_scratch == pytest.approx(np.linalg.norm(scratch - start), rel=1e-6)
    assert (ours.gradient, ours.gradient_from_scratch) == pytest.approx((gradient, gradient_from_scratch), rel=1e-6)
    losses = (ours.loss_p, ours.loss_q, ours.loss_from_scratch)
    assert losses == pytest.approx((loss_p, loss_q, loss_from_scratch), rel=1e-6)


def test_predictions_are_their_formulas():
    (x_p, y_p), (x_q, y_q) = task(2), task(3)
    result = simulate(3 * x_p, y_p, 5 * x_q, y_q, width=2, seed=0, max_steps=1)
    h_p, h_q, h_pq = naive_gram(x_p, x_p), naive_gram(x_q, x_q), naive_gram(x_p, x_q)
    r = y_q - h_pq.T @ np.linalg.inv(h_p) @ y_p
    assert result.bound == pytest.approx(math.sqrt(r @ np.linalg.inv(h_q) @ r))
    assert result.bound_from_scratch == pytest.approx(math.sqrt(y_q @ np.linalg.inv(h_q) @ y_q))
    assert result.gradient_predicted == pytest.approx(math.sqrt(r @ h_q @ r))
    assert result.gradient_from_scratch_predicted == pytest.approx(math.sqrt(y_q @ h_q @ y_q))
    assert result.output_gradient_predicted == pytest.approx(math.sqrt(r @ r))
    assert result.min_eigenvalue_p == pytest.approx(np.linalg.eigvalsh(h_p).min())
    assert result.min_eigenvalue_q == pytest.approx(np.linalg.eigvalsh(h_q).min())


def test_a_wide_network_moves_as_far_as_predicted_and_a_narrow_one_does_not():
    x, labels = task(4, n=16)
    y = labels.copy()
    y[:3] *= -1  # Q shares images with P, and some labels
    wide, narrow = (simulate(x[:10], y[:10], x[2:], labels[2:], width=width, seed=0) for width in (4000, 20))
    assert wide.converged
    assert wide.bound < 0.9 * wide.bound_from_scratch
    assert wide.distance == pytest.approx(wide.bound, rel=0.03)
    assert wide.distance_from_scratch == pytest.approx(wide.bound_from_scratch, rel=0.03)
    assert wide.gradient == pytest.approx(wide.gradient_predicted, rel=0.05)
    assert wide.gradient_from_scratch == pytest.approx(wide.gradient_from_scratch_predicted, rel=0.05)
    assert wide.output_gradient == pytest.approx(wide.output_gradient_predicted, rel=0.05)
    assert abs(narrow.distance / narrow.bound - 1) > 0.1


@few
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_task_learnt_already_moves_nothing(task_seed, seed):
    x, y = task(task_seed, n=5)
    result = simulate(x, y, x, y, width=200, seed=seed)
    assert result.converged
    assert result.bound == pytest.approx(0, abs=1e-6)
    assert result.distance <= 2 * TOLERANCE * result.bound_from_scratch
    assert result.output_gradient < 0.01 * math.sqrt(5)


@few
@given(st.floats(1e-200, 1e200), st.integers(0, 10**6))
def test_the_scale_of_images_changes_nothing_but_rounding(scale, seed):
    (x_p, y_p), (x_q, y_q) = task(seed, n=4), task(seed + 1, n=4)
    plain, scaled = (simulate(x_p * s, y_p, x_q, y_q, width=100, seed=seed) for s in (1.0, scale))
    assert scaled.bound == pytest.approx(plain.bound, rel=1e-6)  # arccos near 1 makes 1e-8 of rounding
    assert scaled.distance == pytest.approx(plain.distance, rel=1e-6)


@pytest.mark.parametrize("dimensions", [20, 6])
def test_from_scratch_does_not_depend_on_the_task_before(dimensions):
    x_q, y_q = task(0, n=4, dimensions=dimensions)
    results = [simulate(*task(s, n, dimensions), x_q, y_q, width=50, seed=1) for s, n in ((1, 4), (2, 6))]
    for name in ("distance_from_scratch", "gradient_from_scratch", "loss_from_scratch", "steps_from_scratch"):
        a, b = (getattr(result, name) for result in results)
        assert a == pytest.approx(b, rel=1e-9)


def test_the_way_left_is_below_a_thousandth_of_the_way_from_scratch(monkeypatch):
    (x_p, y_p), (x_q, y_q) = task(7), task(8)
    stopped = simulate(x_p, y_p, x_q, y_q, width=500, seed=0)
    monkeypatch.setattr(theory, "TOLERANCE", 1e-8)
    finished = simulate(x_p, y_p, x_q, y_q, width=500, seed=0)
    assert finished.steps_q > 2 * stopped.steps_q
    assert 0 < finished.distance_from_scratch - stopped.distance_from_scratch < 1e-3 * stopped.bound_from_scratch
    assert abs(finished.distance - stopped.distance) < 2e-3 * stopped.bound_from_scratch
    assert finished.loss_q < 1e-10


def test_a_training_that_the_cap_stops_says_so():
    (x_p, y_p), (x_q, y_q) = task(7), task(8)
    capped = simulate(x_p, y_p, x_q, y_q, width=500, seed=0, max_steps=7)
    assert not capped.converged
    assert (capped.steps_p, capped.steps_q, capped.steps_from_scratch) == (7, 7, 7)
    assert capped.unfinished > TOLERANCE
    assert capped.distance_from_scratch < 0.99 * simulate(x_p, y_p, x_q, y_q, width=500, seed=0).distance_from_scratch


@pytest.mark.parametrize("seed", range(6))
def test_a_network_too_small_to_fit_comes_to_rest_with_finite_numbers(seed):
    (x_p, y_p), (x_q, y_q) = task(7, n=1), task(8, n=2)
    result = simulate(x_p, y_p, x_q, y_q, width=2, seed=seed, max_steps=300)
    assert all(math.isfinite(value) for value in dataclasses.astuple(result))


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others():
    (x_p, y_p), (x_q, y_q) = task(7), task(8)
    first, again, other = (simulate(x_p, y_p, x_q, y_q, width=50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.distance != other.distance


GOOD = task(7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_p": GOOD[0][[0, 1, 2, 3, 4, 5, 6, 2]]}, "images 2 and 7 of P .* have one direction"),
        ({"x_q": GOOD[0] * 0}, "an image of Q is zero"),
        ({"x_q": GOOD[0] * math.nan}, "an image of Q is zero, NaN or infinite"),
        ({"y_q": np.arange(8.0)}, r"labels of Q are \[0.0, 1.0"),
        ({"y_p": GOOD[1][:5]}, "P has images of shape .* and labels of shape"),
        ({"x_q": GOOD[0][:, :10]}, "images of P have 20 values and those of Q 10"),
        ({"width": 9}, "width 9, .* width even"),
        ({"width": 0}, "width 0, .* above 0"),
        ({"max_steps": 0}, "max_steps 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused(change, message):
    good = {"x_p": GOOD[0], "y_p": GOOD[1], "x_q": GOOD[0], "y_q": GOOD[1], "width": 4, "seed": 0}
    with pytest.raises(UserError, match=message):
        simulate(**(good | change))
