"""The project's own networks and their stages, among them those of 2014."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from raytransfer.networks.partition import Table
from raytransfer.networks.stages import Shape

Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True)
class Architecture:
    """How to build a network.

    Attributes:
        build: From image shape and number of classes to a module with its own initialisation.
        stages: Its stages, and the modules of each.
        meaning: One line for the user.
    """

    build: Callable[[Shape, int], nn.Module]
    stages: Table
    meaning: str


def _convnet8(image: Shape, classes: int) -> nn.Module:
    """Five 3x3 convolutions and three fully connected layers, like the network of 2014, for small images.

    Images with a side below 16 pixels get half the width and no pooling after conv1, so that for 8x8 images conv5 still
    has 2x2 maps to pool. Weights are Kaiming-normal: with smaller ones, eight layers without norms do not train.
    """
    in_channels, height, width_px = image
    small = min(height, width_px) < 16
    width, hidden = (16, 64) if small else (32, 256)
    pooled = {2, 5} if small else {1, 2, 5}
    channels = [in_channels, width, *[2 * width] * 4]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, 6):
        parts: list[nn.Module] = [nn.Conv2d(channels[i - 1], channels[i], 3, padding=1)]
        if i in pooled:  # before the ReLU, which gives the same numbers with a quarter of the work
            parts.append(nn.MaxPool2d(2))
            height, width_px = height // 2, width_px // 2
        layers[f"conv{i}"] = nn.Sequential(*parts, nn.ReLU(inplace=True))
    features = channels[5] * height * width_px
    layers["fc6"] = nn.Sequential(nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(inplace=True))
    layers["fc7"] = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(inplace=True))
    layers["fc8"] = nn.Sequential(nn.Linear(hidden, classes))
    module = nn.Sequential(layers)
    module.apply(_kaiming)
    return module


def _caffenet(image: Shape, classes: int) -> nn.Module:
    """The network of Yosinski et al. 2014: CaffeNet for 227-pixel crops.

    Pooling comes before response normalisation; conv2, conv4 and conv5 have two groups; weights start Gaussian with
    standard deviation 0.01 (fc6 and fc7: 0.005), biases at 1 in conv2, conv4, conv5, fc6 and fc7, else at 0.
    It expects pixels on 0..255 with the mean subtracted: ``recipe.normalization=mean``.
    """
    if image[1:] != (227, 227):
        raise ValueError(f"it takes images of 227 x 227 pixels, not {image[1]} x {image[2]}: set recipe.crop_px=227")

    def conv(i: int, o: int, k: int, *, stride: int = 1, padding: int = 0, groups: int = 1, bias: float) -> nn.Conv2d:
        return _gaussian(nn.Conv2d(i, o, k, stride=stride, padding=padding, groups=groups), 0.01, bias)

    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, stride=2)

    def norm() -> nn.LocalResponseNorm:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(conv(image[0], 96, 11, stride=4, bias=0.0), nn.ReLU(), pool(), norm()),
            conv2=nn.Sequential(conv(96, 256, 5, padding=2, groups=2, bias=1.0), nn.ReLU(), pool(), norm()),
            conv3=nn.Sequential(conv(256, 384, 3, padding=1, bias=0.0), nn.ReLU()),
            conv4=nn.Sequential(conv(384, 384, 3, padding=1, groups=2, bias=1.0), nn.ReLU()),
            conv5=nn.Sequential(conv(384, 256, 3, padding=1, groups=2, bias=1.0), nn.ReLU(), pool()),
            fc6=nn.Sequential(
                nn.Flatten(), _gaussian(nn.Linear(256 * 6 * 6, 4096), 0.005, 1.0), nn.ReLU(), nn.Dropout(0.5)
            ),
            fc7=nn.Sequential(_gaussian(nn.Linear(4096, 4096), 0.005, 1.0), nn.ReLU(), nn.Dropout(0.5)),
            fc8=nn.Sequential(_gaussian(nn.Linear(4096, classes), 0.01, 0.0)),
        )
    )


def _torchvision(name: str) -> Callable[[Shape, int], nn.Module]:
    """A network of torchvision's with its default arguments, for colour images."""

    def build(image: Shape, classes: int) -> nn.Module:
        if image[0] != 3:
            raise ValueError(f"it takes colour images of 3 channels, not {image[0]}")
        from torchvision import models  # slow to import, and most sweeps do without

        module: nn.Module = models.get_model(name, num_classes=classes)
        return module

    return build


_EIGHT_STAGES = {name: [name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")}

_ALEXNET_STAGES = {
    "conv1": ["features.0"],
    "conv2": ["features.3"],
    "conv3": ["features.6"],
    "conv4": ["features.8"],
    "conv5": ["features.10"],
    # torchvision puts the dropout before the layer, not after
    "fc6": ["avgpool", "classifier.0", "classifier.1"],
    "fc7": ["classifier.3", "classifier.4"],
    "fc8": ["classifier.6"],
}

_RESNET18_STAGES = {
    "stem": ["conv1", "bn1"],
    # Cut only between blocks: inside one, the skip connection joins both sides of the cut.
    **{f"layer{i}.{j}": [f"layer{i}.{j}"] for i in range(1, 5) for j in range(2)},
    "fc": ["avgpool", "fc"],
}

ZOO: dict[str, Architecture] = {
    "convnet8": Architecture(_convnet8, _EIGHT_STAGES, "5 convolutions and 3 full layers, for 8 to 64 pixels"),
    "caffenet": Architecture(_caffenet, _EIGHT_STAGES, "the network of Yosinski et al. 2014, for 227 pixels"),
    "alexnet": Architecture(_torchvision("alexnet"), _ALEXNET_STAGES, "torchvision's AlexNet, for 63 pixels and more"),
    "resnet18": Architecture(_torchvision("resnet18"), _RESNET18_STAGES, "torchvision's ResNet-18, cut between blocks"),
}
"""Networks with names without a prefix; ``raytransfer.networks.sources`` builds all others."""


def initialise(module: nn.Module, init: str) -> None:
    """Reinitialise all convolutions and fully connected layers: ``kaiming`` or ``gaussian``."""
    for layer in module.modules():
        if init == "kaiming":
            _kaiming(layer)
        else:
            _gaussian(layer, std=0.01, bias=0.0)


def _kaiming(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _gaussian(layer: Layer, std: float, bias: float) -> Layer:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.normal_(layer.weight, std=std)
        if layer.bias is not None:
            nn.init.constant_(layer.bias, bias)
    return layer
