"""RandAugment of a batch against torchvision's own, operation by operation and image by image."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torchvision.transforms.v2 import RandAugment
from torchvision.transforms.v2 import functional as torchvision

from raytransfer.training import DeviceData
from raytransfer.training.rand_augment import MOST_MAGNITUDE, OPERATIONS, draw_operations, rand_augmented
from tests.training.test_loop import CPU, RECIPE, task

NAMES = tuple(OPERATIONS)
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
THEIRS = RandAugment()


def pictures(count, channels=3, height=19, width=23):
    """Images (B, C, H, W) of smooth colours, and some of noise, of one value and of few."""
    generator = torch.Generator().manual_seed(height)
    coarse = torch.rand((count, channels, 4, 5), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    images = (40 + 150 * smooth).to(torch.uint8)
    images[0] = 77
    images[1] = torch.randint(0, 256, images[1].shape, generator=generator)
    images[2] = 85 * (images[2] // 85)
    return images


def theirs(image, name, magnitude, sign):
    """What torchvision's RandAugment makes of an image once it has drawn this."""
    values, signed = THEIRS._AUGMENTATION_SPACE[name]
    levels = values(MOST_MAGNITUDE + 1, *image.shape[-2:])
    level = 0.0 if levels is None else float(levels[magnitude]) * (sign if signed else 1)
    return THEIRS._apply_image_or_video_transform(image, name, level, THEIRS.interpolation, THEIRS._fill)


def test_the_operations_are_torchvision_s():
    assert set(NAMES) == set(THEIRS._AUGMENTATION_SPACE)
    assert tuple(name for name in NAMES if THEIRS._AUGMENTATION_SPACE[name][1]) == SIGNED
    assert THEIRS.num_magnitude_bins == MOST_MAGNITUDE + 1
    assert (THEIRS.num_ops, THEIRS.magnitude) == (2, RECIPE.rand_augment_magnitude)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 19, 23), (1, 16, 16), (3, 331, 8)])
def test_an_operation_is_torchvision_s_to_the_bit(name, sign, channels, height, width):
    images = pictures(5, channels, height, width)
    number = 2 * NAMES.index(name) + (sign < 0)
    changed = 0
    for magnitude in range(MOST_MAGNITUDE + 1):
        made = rand_augmented(images, torch.full((1, 5), number), magnitude)
        assert made.dtype == torch.uint8
        for image, ours in zip(images, made, strict=True):
            assert torch.equal(ours, theirs(image, name, magnitude, sign))
        changed += not torch.equal(made, images)
    assert (changed > 0) == (name != "Identity" and not (name == "Color" and channels == 1))


def one_by_one(data, given, views):
    """The inputs that torchvision makes of the same draws."""
    made = []
    for view in views.T.tolist():
        image = torch.tensor(given.train.images[view[0]])
        if data.recipe.crop_area is not None:
            size = list(data.shape[1:])
            image = torchvision.resized_crop(image.float(), *view[1:3], *view[4:6], size, antialias=True)
            image = image.round().clamp(0, 255).to(torch.uint8)
        if view[3]:
            image = image.flip(-1)
        first = 4 if data.recipe.crop_area is None else 6
        for number in view[first : first + data.recipe.rand_augment]:
            magnitude = data.recipe.rand_augment_magnitude
            image = theirs(image, NAMES[number // 2], magnitude, -1 if number % 2 else 1)
        image = image.float()
        if data.recipe.brightness:
            drawn = view[-4] / (2**20 - 1)
            image = torchvision.adjust_brightness(image / 255, 1 + data.recipe.brightness * (2 * drawn - 1)) * 255
        made.append(image)
    return data.normalize(torch.stack(made))


@pytest.mark.parametrize(
    "changes",
    [
        {"rand_augment": 1},
        {"rand_augment": 2, "mirror": True},
        {"rand_augment": 3, "rand_augment_magnitude": 30, "brightness": 0.4},
        {"rand_augment": 2, "rand_augment_magnitude": 15, "crop_area": 0.3, "crop_px": 7, "mirror": True},
    ],
    ids=lambda changes: "-".join(changes),
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_what_torchvision_makes_image_by_image(changes, channels):
    given = task(channels=channels, side=16)
    data = DeviceData(given, replace(RECIPE, batch_size=40, **changes), CPU, 10**9)
    assert data.streamed
    draws = data.draw(torch.Generator().manual_seed(7))
    for views in (next(draws), next(draws)):
        inputs, labels = data.inputs(data.fetch(views))
        assert torch.equal(labels, data.train.labels[views[0]])
        expected = one_by_one(data, given, views)
        # Crops are rounded before the operations: where one lies at a half of a pixel value, either may be right.
        close = (inputs - expected).abs() <= 1e-4
        assert close.all() or ("crop_area" in changes and close.float().mean() > 0.99)


def test_operations_and_signs_are_drawn_alike_often():
    drawn = draw_operations(2, 28_000, torch.Generator().manual_seed(0))
    counts = Counter(drawn.flatten().tolist())
    assert set(counts) == set(range(28))
    assert all(abs(count - 2000) < 5 * 2000**0.5 for count in counts.values())


def test_draws_come_from_the_seed_alone_and_leave_those_of_other_recipes_alone():
    changes = {"mirror": True, "crop_area": 0.2, "hue": 0.1}
    plain = DeviceData(task(channels=3), replace(RECIPE, **changes), CPU, 10**9)
    data = DeviceData(task(channels=3), replace(RECIPE, rand_augment=2, **changes), CPU, 10**9)
    first, again = (data.draw(torch.Generator().manual_seed(3)) for _ in range(2))
    for _ in range(5):
        views = next(first)
        assert views.shape == (12, 16)
        assert torch.equal(views, next(again))
    views = next(data.draw(torch.Generator().manual_seed(3)))
    without = next(plain.draw(torch.Generator().manual_seed(3)))
    assert torch.equal(torch.cat([views[:6], views[8:]]), without)
    assert len({tuple(view) for view in views[6:8].T.tolist()}) > 8  # each image has draws of its own


def test_images_are_not_written_to_and_are_evaluated_as_without():
    given = task(channels=3)
    before = torch.tensor(given.train.images)
    plain, data = (
        DeviceData(given, replace(RECIPE, crop_px=6, **changes), CPU, 10**9)
        for changes in ({}, {"rand_augment": 2, "rand_augment_magnitude": 30})
    )
    views = next(data.draw(torch.Generator().manual_seed(3)))
    one, other = (data.inputs(data.fetch(views))[0] for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(before, torch.tensor(given.train.images))
    rows = torch.arange(5)
    assert torch.equal(data.central(data.test, rows), plain.central(plain.test, rows))
