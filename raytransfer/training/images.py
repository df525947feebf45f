"""A task's images on the device, and the random views of them that training sees."""

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch.nn import functional

from raytransfer.specs import Recipe
from raytransfer.tasks import Part, TaskData
from raytransfer.tasks.image import Images
from raytransfer.training.augment import STEPS, draw_boxes, in_parts, jittered, jitters, resized_crops
from raytransfer.training.rand_augment import draw_operations, rand_augmented
from raytransfer.training.ranks import ALONE, Ranks

ENDLESS = 2**60
"""Number of views of an image if none ever repeats."""


class DeviceImages:
    """The training or the test images of a task, uint8.

    On a CPU they are those of the data set: its memory-mapped array, which all trials of the machine share, or images
    that are decoded on every access. On a GPU they are resident, or sent on every access.

    Attributes:
        shape: Channels, height and width of an image.
    """

    def __init__(self, part: Part, device: torch.device, *, resident: bool) -> None:
        self.labels = torch.tensor(part.labels, device=device)
        channels, height, width = part.images.shape[1:]
        self.shape: tuple[int, int, int] = channels, height, width
        self._device, self._rows, self._images = device, torch.tensor(part.rows), part.images
        # PyTorch selects rows faster than NumPy.
        self._array = _unwarned(part.images) if isinstance(part.images, np.ndarray) else None
        self._resident = self._read(self._rows).to(device) if resident else None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: torch.Tensor) -> torch.Tensor:
        """The images (B, C, H, W) with these numbers (B,), 0..n-1, on the device."""
        if self._resident is not None:
            return self._resident.index_select(0, chosen.to(self._device))
        return to_device(self.read(chosen.cpu()), self._device)

    def read(self, chosen: torch.Tensor) -> torch.Tensor:
        """The same on the CPU, for numbers on the CPU."""
        return self._read(self._rows[chosen])

    def _read(self, rows: torch.Tensor) -> torch.Tensor:
        if self._array is not None:
            return self._array.index_select(0, rows)
        return torch.from_numpy(self._images[rows.numpy()])


def _unwarned(array: Images) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the array being read-only; nothing here writes to it
        return torch.from_numpy(array)


class DeviceData:
    """A task on the device: its images, and batches of them, cropped, mirrored and normalised there.

    A *view* is a training image with one outcome of all random augmentation. Views (R, B) have rows of image numbers,
    of upper and of left edges of the crop in the padded image, and of 1 where mirrored, else 0. Random-resized crops
    add rows of heights and widths; RandAugment adds a row for each operation; colour jitter adds four rows.

    Args:
        task: The task.
        recipe: How it is augmented and normalised.
        device: Where the batches are wanted.
        memory_bytes: Bytes that images may take on a GPU, and stored outputs of frozen layers on any device.
        ranks: The processes that share the work; each has all of the task.

    Attributes:
        train: The training images.
        test: The test images.
        streamed: Whether images are fetched batch by batch: on a GPU if they do not fit into ``memory_bytes``; on a CPU
            if they are decoded on every access; and for RandAugment, which runs on the CPU, since it does different
            things to each image, and a GPU would wait for each.
        memory_left: Bytes of ``memory_bytes`` that are left.
        shape: Channels, height and width of the images that the network sees, after cropping.
        views_per_image: Number of views of a training image; ``ENDLESS`` with random-resized crops, colour jitter or
            RandAugment.
    """

    stages_done = 0  # as a BatchSource

    def __init__(
        self, task: TaskData, recipe: Recipe, device: torch.device, memory_bytes: int, ranks: Ranks = ALONE
    ) -> None:
        if device.type == "cuda":  # with its number, as threads that stream images would default to the first GPU
            device = torch.device("cuda", torch.cuda.current_device())
        needed = image_bytes(task)
        on_gpu = device.type != "cpu"
        decoded = all(isinstance(part.images, np.ndarray) for part in (task.train, task.test))
        self.streamed = needed > memory_bytes if on_gpu else not decoded
        self.streamed |= recipe.rand_augment > 0
        resident = on_gpu and not self.streamed
        self.memory_left = memory_bytes - needed if resident else memory_bytes
        self.train = DeviceImages(task.train, device, resident=resident)
        self.test = DeviceImages(task.test, device, resident=resident)
        self.recipe, self.device, self.ranks = recipe, device, ranks
        mean, std = task.channel_mean, task.channel_std
        if recipe.normalization == "given":
            mean, std = (255 * np.array(given, np.float32) for given in (recipe.channel_mean, recipe.channel_std))
        self.mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        scale = 1 / torch.tensor(std, device=device).view(1, -1, 1, 1).clamp_min(1e-6)
        self.scale = torch.ones_like(scale) if recipe.normalization == "mean" else scale
        channels, height, width = self.train.shape
        crop = recipe.crop_px
        self.shape = (channels, height, width) if crop is None else (channels, crop, crop)
        # Number of positions of a crop, downwards and to the right.
        self._offsets = tuple(
            side + 2 * recipe.pad_px - seen + 1 for side, seen in zip((height, width), self.shape[1:], strict=True)
        )
        self._mirrors = 2 if recipe.mirror else 1
        self._resizes, self._jitters = recipe.crop_area is not None, jitters(recipe)
        endless = self._resizes or self._jitters or recipe.rand_augment > 0
        self.views_per_image = ENDLESS if endless else math.prod(self._offsets) * self._mirrors

    @property
    def _crops(self) -> bool:
        """Whether there are several positions for a crop of fixed size."""
        return max(self._offsets) > 1 and not self._resizes

    @property
    def view_count(self) -> int:
        """Number of views of all training images."""
        return len(self.train) * self.views_per_image

    @property
    def batch_size(self) -> int:
        """Images of a step, on all ranks together."""
        return min(self.recipe.batch_size, len(self.train))

    def draw(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Endless batches of random views (R, B) on the CPU; each epoch is a new permutation of the images.

        All random numbers are drawn on the CPU, so that every device sees the same views. A batch may span two epochs,
        so that every batch is full.
        """
        count, size = len(self.train), self.batch_size
        order = torch.empty(0, dtype=torch.long)
        while True:
            while len(order) < size:
                order = torch.cat([order, torch.randperm(count, generator=generator)])
            operations = self.recipe.rand_augment
            views = torch.zeros((4 + 2 * self._resizes + operations + 4 * self._jitters, size), dtype=torch.long)
            views[0], order = order[:size], order[size:]
            if self._crops:
                for row, places in enumerate(self._offsets, 1):
                    views[row] = torch.randint(0, places, (size,), generator=generator)
            if self.recipe.crop_area is not None:
                boxes = draw_boxes(size, *self.train.shape[1:], self.recipe.crop_area, generator)
                views[1:3], views[4:6] = boxes[:2], boxes[2:]
            if self.recipe.mirror:
                views[3] = torch.randint(0, 2, (size,), generator=generator, dtype=torch.bool)
            if self._jitters:
                views[-4:] = torch.randint(0, STEPS, (4, size), generator=generator)
            if operations:
                views[self._operations] = draw_operations(operations, size, generator)
            yield views

    def fetch(self, views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Send views to the device, and streamed images with them; with RandAugment, the augmented crops."""
        sent = to_device(views, self.device)
        if self.recipe.rand_augment:
            seen = self._cropped(self.train.read(views[0]), views)
            whole = seen if seen.dtype == torch.uint8 else seen.round().clamp(0, 255).to(torch.uint8)
            made = rand_augmented(whole, views[self._operations], self.recipe.rand_augment_magnitude)
            return sent, to_device(made, self.device)
        return (sent, self.train.take(views[0])) if self.streamed else (sent,)

    def inputs(self, sent: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's inputs (B, C, H, W), float, and labels (B,) for the views that were sent."""
        rows = sent[0][0]
        seen = sent[1] if self.streamed else self.train.take(rows)
        if not self.recipe.rand_augment:
            seen = self._cropped(seen, sent[0])
        if self._jitters:
            seen = in_parts(lambda part, drawn: jittered(part, drawn, self.recipe), seen, sent[0][-4:])
        return self.normalize(seen), self.train.labels[rows]

    @property
    def _operations(self) -> slice:
        """The rows of views with operations of RandAugment."""
        first = 4 + 2 * self._resizes
        return slice(first, first + self.recipe.rand_augment)

    def _cropped(self, images: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) cropped and mirrored."""
        _, top, left, mirrored = views[:4]
        seen = images
        if self._resizes:
            boxes = torch.cat([views[1:3], views[4:6]])
            seen = in_parts(lambda part, drawn: resized_crops(part, drawn, *self.shape[1:]), seen, boxes)
        elif self.recipe.pad_px:
            seen = functional.pad(seen, [self.recipe.pad_px] * 4)
        if self._crops:
            crops = seen.unfold(2, self.shape[1], 1).unfold(3, self.shape[2], 1)
            seen = crops[torch.arange(len(seen), device=seen.device), :, top, left]
        if self.recipe.mirror:
            seen = torch.where(mirrored.bool()[:, None, None, None], seen.flip(-1), seen)
        return seen

    def view_numbers(self, views: torch.Tensor) -> torch.Tensor:
        """The number (B,) of each view, 0..n * views_per_image - 1."""
        rows, top, left, mirrored = views.unbind()
        down, across = self._offsets
        return ((rows * down + top) * across + left) * self._mirrors + mirrored

    def numbered_views(self, numbers: torch.Tensor) -> torch.Tensor:
        """The views (4, B) that have these numbers (B,)."""
        shape = (len(self.train), *self._offsets, self._mirrors)
        # torch.unravel_index would import SymPy, which takes half a second.
        return torch.from_numpy(np.stack(np.unravel_index(numbers.numpy(), shape)))

    def central(self, images: DeviceImages, rows: torch.Tensor) -> torch.Tensor:
        """The network's inputs (B, C, H, W) for evaluation: central crops of the images with these numbers (B,)."""
        return self.centres(images.take(rows))

    def centres(self, taken: torch.Tensor) -> torch.Tensor:
        """The same for images (B, C, H, W), uint8, that are on the device."""
        top, left = ((side - seen) // 2 for side, seen in zip(taken.shape[2:], self.shape[1:], strict=True))
        _, height, width = self.shape
        return self.normalize(taken[:, :, top : top + height, left : left + width])

    def autocast(self) -> AbstractContextManager[None]:
        """The context for the recipe's precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels (B, C, H, W), 0..255, to the network's float input."""
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        scaled: torch.Tensor = (images.float() - self.mean) * self.scale
        return scaled.contiguous(memory_format=layout)


def image_bytes(task: TaskData) -> int:
    """Bytes of a task's images on a GPU, training and test images together."""
    return sum(len(part.rows) * math.prod(part.images.shape[1:]) for part in (task.train, task.test))


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a tensor without waiting for the device."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
