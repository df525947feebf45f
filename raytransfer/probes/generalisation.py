"""Accuracy and loss on all training and all test images."""

import torch
from torch.nn import functional

from raytransfer.errors import UserError
from raytransfer.probes.subject import Batches, Reading, Subject


def generalisation(subject: Subject) -> list[Reading]:
    """Accuracy (0..1) and mean cross-entropy (nats) on all training and all test images, in eval mode.

    Readings: ``train top1``, ``train loss``, ``test top1``, ``test loss``. Gaps are differences of these, as in Liu et
    al. 2019, *Towards understanding the transferability of deep representations* (arXiv 1909.12031).

    Raises:
        UserError: There are no training or no test images.
    """
    readings = []
    for part, batches in {"train": subject.train, "test": subject.test}.items():
        top1, loss = _evaluate(subject, part, batches)
        readings.append(Reading(quantity=f"{part} top1", value=top1))
        readings.append(Reading(quantity=f"{part} loss", value=loss))
    return readings


@torch.no_grad()
def _evaluate(subject: Subject, part: str, batches: Batches) -> tuple[float, float]:
    correct, loss, count = 0, 0.0, 0
    for inputs, labels in batches:
        logits = subject.network.module(inputs)
        correct += int((logits.argmax(1) == labels).sum().item())
        loss += functional.cross_entropy(logits, labels, reduction="sum").item()
        count += len(labels)
    if not count:
        raise UserError(f"{subject.name}: generalisation needs training and test images, and has no {part} images")
    return correct / count, loss / count
