"""RandAugment of a batch (Cubuk et al. 2019, arXiv 1909.13719): torchvision's operations, other random numbers."""

import math
from collections.abc import Callable
from typing import Any

import torch

MOST_MAGNITUDE = 30
"""The largest magnitude; torchvision has 31 of them, from 0."""

_MOVE = 150 / 331  # largest translation, as a fraction of the image's side


def _level(magnitude: int, last: float, first: float = 0.0) -> float:
    """The value of a magnitude on a linear scale from ``first`` to ``last``, rounded as by torchvision."""
    return float(torch.linspace(first, last, MOST_MAGNITUDE + 1)[magnitude])


def _sheared(tv: Any, images: torch.Tensor, across: float, down: float) -> torch.Tensor:
    shear = [math.degrees(math.atan(across)), math.degrees(math.atan(down))]
    made: torch.Tensor = tv.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
    return made


def _moved(tv: Any, images: torch.Tensor, across: int, down: int) -> torch.Tensor:
    made: torch.Tensor = tv.affine(images, angle=0.0, translate=[across, down], scale=1.0, shear=[0.0, 0.0])
    return made


OPERATIONS: dict[str, Callable[[Any, torch.Tensor, int, int], torch.Tensor]] = {
    "ShearX": lambda tv, x, m, sign: _sheared(tv, x, sign * _level(m, 0.3), 0.0),
    "ShearY": lambda tv, x, m, sign: _sheared(tv, x, 0.0, sign * _level(m, 0.3)),
    "TranslateX": lambda tv, x, m, sign: _moved(tv, x, int(sign * _level(m, _MOVE * x.shape[-1])), 0),
    "TranslateY": lambda tv, x, m, sign: _moved(tv, x, 0, int(sign * _level(m, _MOVE * x.shape[-2]))),
    "Rotate": lambda tv, x, m, sign: tv.rotate(x, sign * _level(m, 30.0)),
    "Brightness": lambda tv, x, m, sign: tv.adjust_brightness(x, 1 + sign * _level(m, 0.9)),
    "Color": lambda tv, x, m, sign: tv.adjust_saturation(x, 1 + sign * _level(m, 0.9)),
    "Contrast": lambda tv, x, m, sign: tv.adjust_contrast(x, 1 + sign * _level(m, 0.9)),
    "Sharpness": lambda tv, x, m, sign: tv.adjust_sharpness(x, 1 + sign * _level(m, 0.9)),
    "Posterize": lambda tv, x, m, _: tv.posterize(x, 8 - round(m * 4 / MOST_MAGNITUDE)),
    "Solarize": lambda tv, x, m, _: tv.solarize(x, 255 * _level(m, 0.0, first=1.0)),
    "AutoContrast": lambda tv, x, m, _: tv.autocontrast(x),
    "Equalize": lambda tv, x, m, _: tv.equalize(x),
    "Identity": lambda tv, x, m, _: x,
}
"""Operations on images (B, C, H, W), uint8, given a magnitude and a sign, 1 or -1, which some ignore."""

_ALL = tuple(OPERATIONS.values())


def draw_operations(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Draw operations (count, size) to apply to each image in turn: twice the operation's index, plus 1 for sign -1."""
    return torch.randint(0, 2 * len(OPERATIONS), (count, size), generator=generator)


def rand_augmented(images: torch.Tensor, draws: torch.Tensor, magnitude: int) -> torch.Tensor:
    """Apply the operations that were drawn (R, B) to images (B, C, H, W), uint8, on the CPU.

    Images with the same operation are processed together, with the same result as alone.
    """
    from torchvision.transforms.v2 import functional as tv  # takes a second, and few recipes need it

    made = images.clone()
    for drawn in draws:
        for number in drawn.unique().tolist():
            chosen = (drawn == number).nonzero()[:, 0]
            taken = made.index_select(0, chosen)
            made.index_copy_(0, chosen, _ALL[number // 2](tv, taken, magnitude, -1 if number % 2 else 1))
    return made
