"""Networks that break in one place."""

import torch
from torch import nn


def normed(num_classes: int) -> nn.Module:
    """Batch norm of one number an image, which takes two images to train."""
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), pool, nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, num_classes))


class _Squeezed(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.squeeze()


def squeezed(num_classes: int) -> nn.Module:
    """It gives an image alone no row of its own."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), _Squeezed(), nn.Linear(4, num_classes))


class _Written(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 1

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no gradient here")


class _NoGradient(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return _Written.apply(inputs) if torch.is_grad_enabled() else inputs * 1


def no_gradient(num_classes: int) -> nn.Module:
    """It gives outputs, and no gradients."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), _NoGradient(), nn.Flatten(), nn.Linear(144, num_classes))


class _Crowded(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > 4 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("4 images fit the memory")
        return inputs * 1


def crowded(num_classes: int) -> nn.Module:
    """It trains on a few images at once, and no more."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), _Crowded(), nn.Flatten(), nn.Linear(144, num_classes))
