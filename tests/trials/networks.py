"""Networks of the tests' own, which processes of their own import by its name."""

from torch import nn


def normed(num_classes: int) -> nn.Module:
    """Three convolutions with batch normalisation, and a head."""

    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    return nn.Sequential(block(1, 8), block(8, 8), block(8, 16), nn.Flatten(), nn.Linear(16 * 64, num_classes))


def followed(num_classes: int) -> nn.Module:
    """A network with statistics that are not of batch normalisation."""
    norm = nn.InstanceNorm2d(8, track_running_stats=True)
    return nn.Sequential(nn.Conv2d(1, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, num_classes))
