"""Random-resized crops and colour jitter of whole batches, by torchvision's rules for single images.

Random numbers are drawn beforehand as whole numbers, so that they are the same on every device and after resuming.
"""

import math
from collections.abc import Callable

import torch

from raytransfer.specs import Recipe

COLOURS = ("brightness", "contrast", "saturation", "hue")
"""Properties that are jittered, in this order."""

STEPS = 2**20
"""Number of evenly spaced values from which a jitter is drawn."""

_CACHED = 2**19  # values that a CPU's cache holds
_TRIES = 10  # boxes drawn for an image, of which the first that fits is taken
_LONGEST = 4 / 3  # largest aspect ratio of a box
_GREY = (0.2989, 0.587, 0.114)  # torchvision's luma


def in_parts(
    make: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], images: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """Apply a function to images (B, C, H, W) and their draws (R, B).

    On a CPU it gets as many images at once as the cache holds, which halves the time.
    """
    if images.device.type != "cpu":
        return make(images, draws)
    size = max(1, _CACHED // images[0].numel())
    return torch.cat(
        [make(*part) for part in zip(torch.split(images, size), torch.split(draws, size, dim=1), strict=True)]
    )


def draw_boxes(count: int, height: int, width: int, least: float, generator: torch.Generator) -> torch.Tensor:
    """Boxes (4, count) of random-resized crops: upper edge, left edge, height and width (Szegedy et al. 2015).

    A box's share of the image's area is uniform in ``least``..1, and the logarithm of its aspect ratio uniform between
    3:4 and 4:3. Of ten boxes the first that fits is taken, or else the largest central one. This is torchvision's rule,
    with other random numbers.
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
        [min(height, round(width * _LONGEST)), min(width, round(height * _LONGEST))]  # for most images, all of it
    ).view(2, 1)
    none = ~fits.any(0)
    sides = torch.where(none, largest, sides)
    corner = torch.where(none, (room[..., 0] - largest) // 2, corner)
    return torch.cat([corner, sides])


def resized_crops(images: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Crop boxes from images and resize them bilinearly, with antialiasing.

    Each row of the result is a weighted mean of rows of the image, and each column of columns. So this is two matrix
    products for each image, whatever its box.

    Args:
        images: (B, C, H, W).
        boxes: (4, B): upper edge, left edge, height and width.
        height: Height of the result.
        width: Width of the result.

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
    """Weights (B, seen, side) of ``side`` input pixels for ``seen`` output pixels of the interval (start, length)."""
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
    """Change brightness, contrast, saturation and hue, in this order.

    Args:
        images: (B, C, H, W), values 0..255.
        draws: (4, B), a whole number below ``STEPS`` for each of the four.
        recipe: Largest change of each.

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
    """Colours (B, 3, H, W) with hue rotated by fractions (B, 1, 1, 1) of the circle; value and saturation stay."""
    red, green, blue = images.unbind(1)
    most = images.amax(1)
    spread = most - images.amin(1)
    part = spread.clamp_min(1e-6)  # grey stays grey, whatever its hue
    sixths = torch.where(
        most == red,
        (green - blue) / part,
        torch.where(most == green, 2 + (blue - red) / part, 4 + (red - green) / part),
    )
    # 5, 3 and 1 are made on the device, as nothing may be sent there while a CUDA graph is recorded.
    place = (sixths[:, None] + 6 * turn + torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)).remainder(6)
    return most[:, None] - spread[:, None] * torch.minimum(place, 4 - place).clamp(0, 1)
