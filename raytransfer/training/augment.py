"""Random-resized crops and colour jitter of a whole batch at once, as torchvision makes them image by image.

What is random is drawn beforehand, as whole numbers: the same on every device, and wherever a training goes on.
"""

import math
from collections.abc import Callable

import torch

from raytransfer.specs import Recipe

COLOURS = ("brightness", "contrast", "saturation", "hue")
"""What of an image's colours is jittered, in this order."""

STEPS = 2**20
"""A colour is drawn as one of so many numbers, evenly spread over its range."""

_CACHED = 2**19  # values
_TRIES = 10  # boxes that are drawn for an image, of which the first that fits is taken
_LONGEST = 4 / 3  # sides of a box to each other, at most
_GREY = (0.2989, 0.587, 0.114)  # luma as torchvision has it


def in_parts(
    make: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], images: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """What a function makes of images (B, C, H, W) and what is drawn for them (R, B).

    A CPU is given as many at once as its cache holds, which takes half of the time; a GPU all.
    """
    if images.device.type != "cpu":
        return make(images, draws)
    size = max(1, _CACHED // images[0].numel())
    return torch.cat(
        [make(*part) for part in zip(torch.split(images, size), torch.split(draws, size, dim=1), strict=True)]
    )


def draw_boxes(count: int, height: int, width: int, least: float, generator: torch.Generator) -> torch.Tensor:
    """Boxes (4, count) of random-resized crops: upper edge, left edge, height and width (Szegedy et al. 2015).

    A box takes a share of the image's area, uniform in ``least`` to 1, and its sides are to each other as 3:4 to 4:3,
    uniform in the logarithm. Of ten that are drawn the first that fits is taken; where none does, the largest central
    one. That is torchvision's rule, with draws of our own.
    """
    share, shape = torch.rand((2, _TRIES, count), generator=generator, dtype=torch.float64)
    place = torch.rand((2, count), generator=generator, dtype=torch.float64)
    area = (least + (1 - least) * share) * height * width
    ratio = torch.exp((2 * shape - 1) * math.log(_LONGEST))
    sides = torch.stack([(area / ratio).sqrt().round(), (area * ratio).sqrt().round()]).long()
    room = torch.tensor([height, width]).view(2, 1, 1)
    fits = ((sides > 0) & (sides <= room)).all(0)
    first = fits.to(torch.uint8).argmax(0)
    sides = sides[:, first, torch.arange(count)]
    corner = (place * (room[..., 0] - sides + 1)).long()
    largest = torch.tensor(
        [min(height, round(width * _LONGEST)), min(width, round(height * _LONGEST))]  # the whole of most images
    ).view(2, 1)
    none = ~fits.any(0)
    sides = torch.where(none, largest, sides)
    corner = torch.where(none, (room[..., 0] - largest) // 2, corner)
    return torch.cat([corner, sides])


def resized_crops(images: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Boxes of images, resized: bilinear, with antialiasing where they shrink.

    Each row of the result is a weighted mean of rows of the image, and each column of columns: two products of
    matrices a image, whatever the boxes are.

    Args:
        images: (B, C, H, W).
        boxes: (4, B): upper edge, left edge, height and width.
        height: Height of the result.
        width: Its width.

    Returns:
        (B, C, height, width), float, not rounded.
    """
    count, channels, rows, columns = images.shape
    top, left, high, wide = boxes
    across = _weights(left, wide, width, columns)
    down = _weights(top, high, height, rows)
    squeezed = torch.bmm(images.float().contiguous().view(count, channels * rows, columns), across.transpose(1, 2))
    squeezed = squeezed.view(count, channels, rows, width).transpose(1, 2).reshape(count, rows, channels * width)
    return torch.bmm(down, squeezed).view(count, height, channels, width).transpose(1, 2)


def _weights(start: torch.Tensor, length: torch.Tensor, seen: int, side: int) -> torch.Tensor:
    """How much each of ``side`` pixels counts for each of ``seen``, for pieces of a side (B, seen, side)."""
    scale = (length.float() / seen).view(-1, 1, 1)
    centre = (torch.arange(seen, device=start.device) + 0.5).view(1, -1, 1) * scale
    pixel = (torch.arange(side, device=start.device) - start.view(-1, 1, 1)).float()
    weight = (1 - (pixel + 0.5 - centre).abs() / scale.clamp_min(1)).clamp_min(0)
    weight = weight * ((pixel >= 0) & (pixel < length.view(-1, 1, 1)))
    return weight / weight.sum(-1, keepdim=True)


def jitters(recipe: Recipe) -> bool:
    """Whether training images are jittered in colour."""
    return any(getattr(recipe, name) for name in COLOURS)


def jittered(images: torch.Tensor, draws: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Images with other brightness, contrast, saturation and hue, in this order.

    Args:
        images: (B, C, H, W), values 0..255.
        draws: (4, B), for each of the four a whole number below ``STEPS``.
        recipe: How much of each at most.

    Returns:
        (B, C, H, W), float, values 0..255.
    """
    seen = images.float()
    for name, drawn in zip(COLOURS, draws, strict=True):
        strength = getattr(recipe, name)
        if not strength:
            continue
        moved = (strength * (2 * drawn.double() / (STEPS - 1) - 1)).float().view(-1, 1, 1, 1)
        if name == "hue":
            seen = _turned(seen, moved)
            continue
        towards = torch.zeros_like(moved) if name == "brightness" else _grey(seen)
        if name == "contrast":
            towards = towards.mean((1, 2, 3), keepdim=True)
        seen = torch.lerp(towards, seen, 1 + moved).clamp_(0, 255)
    return seen


def _grey(images: torch.Tensor) -> torch.Tensor:
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)[:, None]


def _turned(images: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Colours (B, 3, H, W) with their hue turned by shares (B, 1, 1, 1) of the circle; value and saturation stay."""
    red, green, blue = images.unbind(1)
    most = images.amax(1)
    spread = most - images.amin(1)
    part = spread.clamp_min(1e-6)  # grey has no hue, and stays grey whatever it is given
    sixths = torch.where(
        most == red,
        (green - blue) / part,
        torch.where(most == green, 2 + (blue - red) / part, 4 + (red - green) / part),
    )
    # 5, 3 and 1 are made on the device: nothing is sent there while a step is recorded.
    place = (sixths[:, None] + 6 * turn + torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)).remainder(6)
    return most[:, None] - spread[:, None] * torch.minimum(place, 4 - place).clamp(0, 1)
