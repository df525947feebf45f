"""Random-resized crops and colour jitter of a batch against torchvision's functions, one image after the other."""

import math
from dataclasses import replace

import pytest
import torch
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as torchvision

from raytransfer.tasks import TaskData
from raytransfer.training import DeviceData, augment
from raytransfer.training.augment import COLOURS, STEPS, draw_boxes
from tests.training.test_loop import CPU, RECIPE, task

STRENGTHS = {"brightness": 0.4, "contrast": 0.5, "saturation": 1.0, "hue": 0.5}
ADJUST = {
    "brightness": lambda image, moved: torchvision.adjust_brightness(image, 1 + moved),
    "contrast": lambda image, moved: torchvision.adjust_contrast(image, 1 + moved),
    "saturation": lambda image, moved: torchvision.adjust_saturation(image, 1 + moved),
    "hue": torchvision.adjust_hue,
}


def one_by_one(data: DeviceData, given: TaskData, views: torch.Tensor) -> torch.Tensor:
    """The inputs that torchvision makes of the same draws."""
    made = []
    for view in views.T.tolist():
        image = torch.tensor(given.train.images[view[0]]).float() / 255
        if data.recipe.crop_area is not None:
            image = torchvision.resized_crop(image, *view[1:3], *view[4:6], list(data.shape[1:]), antialias=True)
        if view[3]:
            image = image.flip(-1)
        for name, drawn in zip(COLOURS, view[-4:], strict=True):
            if getattr(data.recipe, name):
                image = ADJUST[name](image, getattr(data.recipe, name) * (2 * drawn / (STEPS - 1) - 1))
        made.append(image * 255)
    return data.normalize(torch.stack(made))


@pytest.fixture(autouse=True)
def several_parts(monkeypatch):
    """A cache that holds 7 of the 40 images at once."""
    monkeypatch.setattr(augment, "_CACHED", 7 * 3 * 16 * 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_area": 0.08},
        {"crop_area": 0.02, "crop_px": 12, "mirror": True},
        {"crop_area": 0.9, "crop_px": 5},  # antialiased
        *({name: strength} for name, strength in STRENGTHS.items()),
        {"crop_area": 0.3, "crop_px": 7, "mirror": True, **STRENGTHS},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_batch_is_what_torchvision_makes_image_by_image(changes):
    given = task(channels=3, side=16)
    data = DeviceData(given, replace(RECIPE, batch_size=40, **changes), CPU, 10**9)
    draws = data.draw(torch.Generator().manual_seed(7))
    for views in (next(draws), next(draws)):
        inputs, labels = data.inputs(data.fetch(views))
        assert inputs.shape == (40, 3, *[changes.get("crop_px", 16)] * 2)
        assert torch.equal(labels, data.train.labels[views[0]])
        torch.testing.assert_close(inputs, one_by_one(data, given, views), rtol=0, atol=1e-4)


def test_grey_images_take_crops_brightness_and_contrast():
    given = task(channels=1, side=16)
    recipe = replace(RECIPE, crop_area=0.5, brightness=0.5, contrast=0.5, batch_size=40)
    data = DeviceData(given, recipe, CPU, 10**9)
    views = next(data.draw(torch.Generator().manual_seed(7)))
    inputs, _ = data.inputs(data.fetch(views))
    torch.testing.assert_close(inputs, one_by_one(data, given, views), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("height", "width", "least"), [(8, 8, 0.08), (30, 90, 0.5), (200, 40, 0.9), (1, 1, 0.5)])
def test_boxes_are_drawn_as_torchvision_draws_them(height, width, least):
    count = 1500
    boxes = draw_boxes(count, height, width, least, torch.Generator().manual_seed(0))
    top, left, high, wide = boxes
    assert (boxes[:2] >= 0).all()
    assert (boxes[2:] > 0).all()
    assert ((top + high <= height) & (left + wide <= width)).all()
    torch.manual_seed(0)
    transform, image = RandomResizedCrop(8, scale=(least, 1.0)), torch.zeros(1, height, width)
    params = [transform.make_params([image]) for _ in range(count)]
    theirs = torch.tensor([[p[name] for p in params] for name in ("top", "left", "height", "width")])
    shapes = [torch.cat([drawn, (drawn[3] / drawn[2]).log()[None]]) for drawn in (boxes.double(), theirs.double())]
    for ours, others in zip(*shapes, strict=True):
        bound = 5 * math.sqrt(2 / count)  # standard errors of a difference of means
        assert abs(ours.mean() - others.mean()) <= bound * max(others.std(), 1e-9)
        assert abs(ours.std() - others.std()) <= 0.1 * others.std() + 1e-9


def test_draws_come_from_the_seed_alone_and_leave_those_of_other_recipes_alone():
    plain = DeviceData(task(channels=3), replace(RECIPE, mirror=True), CPU, 10**9)
    recipe = replace(RECIPE, mirror=True, crop_area=0.2, hue=0.1)
    data = DeviceData(task(channels=3), recipe, CPU, 10**9)
    first, again = (data.draw(torch.Generator().manual_seed(3)) for _ in range(2))
    for _ in range(5):
        views = next(first)
        assert views.shape == (10, 16)
        assert torch.equal(views, next(again))
    assert next(plain.draw(torch.Generator())).shape == (4, 16)
    assert len({tuple(view) for view in views[1:].T.tolist()}) == 16  # each image has draws of its own


def test_images_are_evaluated_as_without():
    plain, data = (
        DeviceData(task(channels=3), replace(RECIPE, crop_px=6, **changes), CPU, 10**9)
        for changes in ({}, {"crop_area": 0.2, **STRENGTHS})
    )
    rows = torch.arange(5)
    assert torch.equal(data.central(data.test, rows), plain.central(plain.test, rows))
