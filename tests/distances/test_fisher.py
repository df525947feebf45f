from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from raytransfer.distances import fisher as module
from raytransfer.distances.fisher import Body, by_layers, by_weights, fisher, held_by_layers
from raytransfer.distances.task2vec import directions
from raytransfer.networks import build
from raytransfer.specs import NetworkSpec
from tests.helpers import staged

IMAGE = (3, 12, 12)


class Written(nn.Module):
    """Calls convolutions itself, and writes over what they gave."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3, 3, 3))
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 6, 3)

    def forward(self, x):
        x = functional.conv2d(x, self.weight, None, 2)
        y = self.conv(x)
        y += x
        return self.last(y.relu_())


class Windows(nn.Module):
    """Full layers on sequences, and on parts of images as rows of their own."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(12, 7), nn.Linear(7, 5)

    def forward(self, x):
        rows = torch.tanh(self.one(x)).reshape(-1, 9, 7)  # four of each image
        return self.two(rows).reshape(x.shape[0], -1)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.positions = nn.Conv2d(3, 4, 3), nn.Parameter(torch.randn(4, 10, 10))

    def forward(self, x):
        return torch.tanh(self.conv(x) + self.positions)


class Tokenised(nn.Module):
    """Maps as tokens, each of them at a position of its own."""

    def __init__(self, channels):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 9, channels))

    def forward(self, x):
        return x.flatten(2).mT + self.positions


class Kept(nn.Module):
    """Keeps a table of its biases in eval mode, as attention of timm's LeViT and TinyViT does."""

    def __init__(self, width):
        super().__init__()
        self.biases, self.kept = nn.Parameter(torch.randn(width, 1)), None

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.kept = None
        return self

    def forward(self, x):
        if self.training:
            return torch.tanh(x + self.biases.expand(-1, x.shape[-1]))
        if self.kept is None:
            self.kept = self.biases.expand(-1, x.shape[-1])
        return torch.tanh(x + self.kept)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.attention = nn.Conv2d(3, 4, 4, 4), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        x = self.conv(x).flatten(2).mT
        return self.attention(x, x, x, need_weights=True)[0]


class Twice(nn.Module):
    """A weight that a layer uses, and then something else does."""

    def __init__(self, again):
        super().__init__()
        self.conv, self.again = nn.Conv2d(3, 3, 3, padding=1), again

    def forward(self, x):
        return self.again(self, torch.tanh(self.conv(x)))


class Mixed(nn.Module):
    def __init__(self, mix):
        super().__init__()
        self.conv, self.mix = nn.Conv2d(3, 4, 3), mix

    def forward(self, x):
        return self.mix(self.conv(x))


def shared():
    one, other = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
    other.weight = one.weight
    return nn.Sequential(one, nn.Tanh(), other)


def conv(*args, **kwargs):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, *args, **kwargs), nn.Tanh())


BY_LAYERS = {
    "strides": lambda: conv(6, 3, stride=2, padding=2),
    "unequal sides": lambda: conv(6, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    "dilation": lambda: conv(6, 3, dilation=2),
    "groups": lambda: conv(12, 3, groups=4),
    "depthwise": lambda: conv(16, 3, padding=1, groups=8),
    "one pixel": lambda: conv(5, 1, bias=False),
    "one position": lambda: conv(5, 12),
    "few positions, groups": lambda: conv(16, 5, stride=4, groups=2),
    "padding of what is there": lambda: conv(6, 3, padding=1, padding_mode="reflect"),
    "normalised": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
    "groups normalised": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(inplace=True)),
    "full layers": lambda: nn.Sequential(nn.Flatten(), nn.Linear(432, 9), nn.ReLU(inplace=True), nn.Linear(9, 8)),
    "sequences": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(144, 20), nn.Tanh(), nn.Linear(20, 5), nn.LayerNorm(5)),
    "windows": Windows,
    "written over": Written,
}

BY_WEIGHTS = {
    "positions": Tokens,
    "attention": Attention,
    "shared": shared,
    "made anew": lambda: nn.Sequential(parametrizations.orthogonal(nn.Conv2d(3, 4, 3))),
    "transposed": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 3)),
    "called twice": lambda: Twice(lambda self, x: self.conv(x)),
    "used by itself": lambda: Twice(lambda self, x: x * self.conv.weight.sum()),
    "not used": lambda: Twice(lambda self, x: x.detach()),
    "padded to the same": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding="same")),
    "images see each other": lambda: Mixed(lambda x: (x - x.mean(0)).tanh()),
    "statistics of the batch": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Tanh()
    ),
}


def made(build_body, classes=3):
    """A body, a head and images, no two of which are alike."""
    torch.manual_seed(0)
    layers = build_body()
    outputs = layers.eval()(torch.rand(2, *IMAGE)).flatten(1).shape[1]
    network = nn.Sequential(OrderedDict(body=layers, head=nn.Sequential(nn.Flatten(), nn.Linear(outputs, classes))))
    body = Body(staged(network, IMAGE, {"body": ["body"], "head": ["head"]}))
    return body, nn.Linear(outputs, classes), torch.rand(5, *IMAGE)


@pytest.mark.parametrize("m", [1, 2, 3, 5])
@pytest.mark.parametrize("name", BY_LAYERS)
def test_layers_tell_the_gradients_by_weights(name, m):
    """Any directions, fewer and more than classes, of which the unit vectors and one of signs are examples."""
    body, head, images = made(BY_LAYERS[name])
    given = torch.randn(len(images), m, 3)
    with torch.no_grad():
        assert held_by_layers(body, images, min(m, 2)) is not None
        expected = by_weights(body, head, images, given)
        assert (expected > 0).float().mean() > 0.8
        np.testing.assert_allclose(by_layers(body, head, images, given), expected, rtol=1e-4)


@pytest.mark.parametrize("name", BY_WEIGHTS)
def test_where_layers_do_not_tell_them_they_are_taken_of_weights(name, monkeypatch):
    body, head, images = made(BY_WEIGHTS[name])
    every = directions(images, 3)
    monkeypatch.setattr(module, "by_layers", None)
    with torch.no_grad():
        assert held_by_layers(body, images, 2) is None
        expected = by_weights(body, head, images, every).numpy() / len(images)
        np.testing.assert_allclose(fisher(body, head, images, every), expected, rtol=1e-5)


def test_the_sum_over_classes_where_tokens_are_made_of_normalised_maps():
    """Σ_k p(k|x) (∂ log p(k|x) / ∂w)² of every weight, one image and one class after the other."""
    maps = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6))
    maps[1].running_mean.copy_(torch.rand(6))
    body, head, images = made(lambda: nn.Sequential(maps, Tokenised(6), nn.Flatten(2)))
    weights, expected = [w.requires_grad_() for w in body.weights().values()], 0
    for image in images:
        log_p = head(body(image[None]))[0].log_softmax(0)
        for of_class in log_p:
            gradients = torch.autograd.grad(of_class, weights, retain_graph=True)
            means = torch.cat([g.square().flatten(1).mean(1) for g in gradients])
            expected = expected + of_class.exp().detach() * means / len(images)
    with torch.no_grad():
        assert held_by_layers(body, images, 2) is None
        np.testing.assert_allclose(fisher(body, head, images, directions(images, 3)), expected, rtol=1e-4)


def test_what_layers_keep_of_their_weights_does_not_hide_their_gradients():
    body, head, images = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(2), Kept(4)))
    with torch.no_grad():
        body(images)
        assert list(body.weights())[1] == "module.body.2.biases"
        assert (fisher(body, head, images, directions(images, 3)) > 0).all()


def test_normalisation_layers_have_no_filters():
    norm = nn.LayerNorm((4, 10, 10))  # weights and biases of three dimensions
    body, head, images = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Tanh()))
    with torch.no_grad():
        assert list(body.weights()) == ["module.body.0.weight"]
        assert held_by_layers(body, images, 2) is not None
        assert fisher(body, head, images, directions(images, 3)).shape == (4,)


@pytest.mark.parametrize("numbers", [1, 60_000])
def test_how_many_images_are_taken_at_once_changes_nothing(numbers, monkeypatch):
    body, head, images = made(BY_LAYERS["groups"])
    every = directions(images, 3)
    monkeypatch.setattr(module, "by_weights", None)
    with torch.no_grad():
        expected = fisher(body, head, images, every)
        sizes = []
        monkeypatch.setattr(module, "by_layers", lambda *given: sizes.append(len(given[2])) or by_layers(*given))
        monkeypatch.setattr(module, "_NUMBERS", numbers)
        np.testing.assert_allclose(fisher(body, head, images, every), expected, rtol=1e-5)
    assert len(sizes) > 1


@pytest.mark.parametrize(
    ("name", "image", "quick"),
    [
        ("convnet8", (1, 8, 8), True),
        ("resnet18", (3, 32, 32), True),
        ("torchvision/mobilenet_v2", (3, 32, 32), True),
        ("timm/convnext_atto", (3, 32, 32), True),
        ("timm/vit_tiny_patch16_224", (3, 224, 224), False),
    ],
)
def test_layers_tell_those_of_networks_people_use(name, image, quick):
    body = Body(build(NetworkSpec(name=name), image=image, classes=3, seed=0))
    images = torch.rand(3, *image)
    with torch.no_grad():
        assert (held_by_layers(body, images, 1) is not None) == quick
        if quick:
            head = nn.Linear(body(images).shape[1], 3)
            every = directions(images, 3)
            sizes = [len(w) for w in body.weights().values()]
            expected = by_weights(body, head, images, every).split(sizes)
            for a, b in zip(by_layers(body, head, images, every).split(sizes), expected, strict=True):
                assert (a - b).abs().max() < 1e-4 * b.max()


class Shifted(nn.Module):
    """Writes over its images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x.sub_(0.5)).tanh()


def test_images_are_not_written_over():
    body, head, images = made(Shifted)
    before, given = images.clone(), torch.randn(len(images), 2, 3)
    first = fisher(body, head, images, given)
    assert torch.equal(images, before)
    np.testing.assert_array_equal(first, fisher(body, head, images, given))
