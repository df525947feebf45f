"""How much loss and gradient change along the gradient: Lipschitzness and smoothness."""

from raytransfer.probes.loss import clipped, loss_and_gradient, norm
from raytransfer.probes.subject import Reading, Subject
from raytransfer.probes.weights import trained_parameters

_STEPS = 10


def loss_variation(subject: Subject) -> list[Reading]:
    """Walk from W along its own gradient g = ∇L(W), with the recipe's peak learning rate η as step: W − p·η·g.

    g is that of the start throughout, on the same images, for the parameters that trained.

    Readings:

    - ``walk loss`` with index p = 0..10, from 0: L(W − p·η·g), in nats;
    - ``loss variation``: the largest minus the smallest of them;
    - ``gradient variation`` with index p = 1..10: ‖∇L(W − p·η·g) − ∇L(W)‖ / ‖p·η·g‖, and with no index their maximum,
      the effective β-smoothness. They are 0 where g = 0.

    What overflows is the largest float32, 3.4e38.

    Source: Santurkar, Tsipras, Ilyas, Madry 2018, "How does batch normalization help optimization?" (arXiv
    1805.11604), section 3.2; Liu et al. 2019 (arXiv 1909.12031), section 4.
    """
    start = trained_parameters(subject.network)
    walk_loss, gradient = loss_and_gradient(subject, start)
    length = norm(gradient.values())
    losses, variations = [clipped(walk_loss)], []
    for p in range(1, _STEPS + 1):
        step = p * subject.learning_rate
        moved = {name: weight - step * gradient[name] for name, weight in start.items()}
        walk_loss, there = loss_and_gradient(subject, moved)
        losses.append(clipped(walk_loss))
        change = norm(there[name] - gradient[name] for name in gradient)
        variations.append(0.0 if step * length == 0 else clipped(change / (step * length)))
    return [
        *(Reading(quantity="walk loss", value=value, index=p) for p, value in enumerate(losses)),
        Reading(quantity="loss variation", value=max(losses) - min(losses)),
        *(Reading(quantity="gradient variation", value=value, index=p) for p, value in enumerate(variations, start=1)),
        Reading(quantity="gradient variation", value=max(variations)),
    ]
