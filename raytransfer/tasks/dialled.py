"""Applying dials: a task's images and labels, changed from those of its data set.

What a dial draws depends only on the seed, the data and the dial. So changing one dial leaves the draws of the others
as they were, and a larger share of random labels contains every smaller share of the same seed.
"""

import numpy as np
import numpy.typing as npt

from raytransfer.specs import Dials
from raytransfer.tasks.decode import Labels
from raytransfer.tasks.draws import stable_permutation, stable_seed
from raytransfer.tasks.image import Images
from raytransfer.tasks.streamed import ImageRows

Pixels = npt.NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601


class DialledImages:
    """Streamed images to which ``dialled_images`` is applied on every access.

    Args:
        images: The images.
        dials: The dials.
        key: As for ``dialled_images``.

    Attributes:
        shape: (N, C, H, W).
    """

    def __init__(self, images: ImageRows, dials: Dials, key: str) -> None:
        self._images, self._dials, self._key = images, dials, key
        self.shape = images.shape

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Labels, /) -> Images:
        """The images (n, C, H, W) of these rows."""
        return dialled_images(self._images, rows, self._dials, self._key)


def dialled_images(images: ImageRows, rows: Labels, dials: Dials, key: str) -> Images:
    """Read images and apply the dials that change pixels.

    Args:
        images: (N, C, H, W) uint8.
        rows: (n,) which of them.
        dials: The dials.
        key: Name of the array of images, so that two arrays get different noise.

    Returns:
        (n, C, H, W) uint8; every dial rounds pixels to whole numbers and clips them to 0..255.
    """
    pixels: Images = images[rows]
    if dials.resolution_px is not None:
        pixels = _whole(_coarse(pixels, dials.resolution_px))
    if dials.blur_px:
        from scipy.ndimage import gaussian_filter  # slow to import, as the others here, and most tasks have no dials

        sigma = (0, dials.blur_px, dials.blur_px)
        pixels = _whole(np.stack([gaussian_filter(image.astype(np.float32), sigma) for image in pixels]))
    if dials.grey:
        luma = np.einsum("nchw,c->nhw", pixels.astype(np.float32), _LUMA)[:, None]
        pixels = _whole(pixels + np.float32(dials.grey) * (luma - pixels))
    if dials.inverted:
        pixels = 255 - pixels
    if dials.noise:
        from scipy.special import ndtri

        uniform = _uniform(rows, pixels[0].size, "noise", dials.seed, key)
        normal = ndtri(uniform).astype(np.float32).reshape(pixels.shape)
        pixels = _whole(pixels + np.float32(dials.noise) * normal)
    if dials.shuffle_px is not None:
        pixels = _shuffled(pixels, dials.shuffle_px, dials.seed)
    return pixels


def _whole(pixels: Pixels) -> Images:
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _coarse(pixels: Images, resolution_px: int) -> Pixels:
    import torch
    from torch.nn import functional

    height, width = pixels.shape[2:]
    factor = resolution_px / min(height, width)
    size = [round(height * factor), round(width * factor)]
    small = functional.interpolate(torch.from_numpy(pixels).float(), size=size, mode="area")
    large = functional.interpolate(small, size=[height, width], mode="bilinear", align_corners=False)
    coarse: Pixels = large.numpy()
    return coarse


def _shuffled(pixels: Images, block: int, seed: int) -> Images:
    count, channels, height, width = pixels.shape
    down, across = height // block, width // block
    order = stable_permutation(down * across, "shuffle", seed, block)
    blocks = pixels.reshape(count, channels, down, block, across, block).transpose(0, 2, 4, 1, 3, 5)
    mixed = blocks.reshape(count, down * across, channels, block, block)[:, order]
    whole = mixed.reshape(count, down, across, channels, block, block).transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(whole.reshape(pixels.shape))


def _uniform(rows: Labels, each: int, *key: str | int) -> npt.NDArray[np.float64]:
    """Uniform numbers (n, each) in (0, 1), which depend on the key and the number of the row only.

    They come from the raw output of PCG64, which NumPy promises to keep.
    """
    seed = stable_seed(*key)
    out = np.empty((len(rows), each))
    for i, row in enumerate(rows.tolist()):
        raw = np.random.PCG64(seed).advance(row * each).random_raw(each)
        out[i] = ((raw >> np.uint64(11)) + 0.5) * 2.0**-53
    return out


class Relabelling:
    """Maps the classes of images to a task's labels.

    Args:
        dials: The dials.
        classes: K, the number of the task's classes.
        images: (N, C, H, W) uint8, the data set's training images.
        rows: (n,) all rows of the task's classes: their brightness decides where labels are cut, so that an image's
            label does not depend on which images are drawn.
        own: (n,) their classes 0..K-1.
    """

    def __init__(self, dials: Dials, classes: int, images: ImageRows, rows: Labels, own: Labels) -> None:
        self._dials = dials
        if dials.labelling == "brightness":  # all images are one group, cut into K parts
            self._group_of, groups, self._parts = np.zeros(classes, dtype=np.int64), 1, classes
        else:
            groups, self._parts = dials.merged or classes, dials.split or 1
            self._group_of = np.arange(classes) if dials.merged is None else merged_into(classes, groups, dials.seed)
        self._count = groups * self._parts
        if self._parts > 1:
            self._edges = _edges(_brightness(images, rows), self._group_of[own], groups, self._parts)

    def __call__(self, images: ImageRows, rows: Labels, own: Labels, key: str) -> Labels:
        """Labels (n,) of the images in these rows, whose classes are ``own``; ``key`` is the name of the array."""
        dials, labels = self._dials, self._group_of[own]
        if self._parts > 1:
            labels = labels * self._parts + _part(_brightness(images, rows), labels, self._edges)
        if dials.random_labels:
            drawn, new = _uniform(rows, 2, "random labels", dials.seed, key).T
            labels = np.where(drawn < dials.random_labels, (new * self._count).astype(np.int64), labels)
        return labels


def merged_into(classes: int, labels: int, seed: int) -> Labels:
    """The label (classes,), 0..labels - 1, of each class after merging at random, as evenly as possible."""
    groups = np.empty(classes, dtype=np.int64)
    groups[stable_permutation(classes, "merged", seed)] = np.arange(classes) % labels
    return groups


def _brightness(images: ImageRows, rows: Labels) -> npt.NDArray[np.float64]:
    """Mean pixel (n,)."""
    brightness: npt.NDArray[np.float64] = images[rows].reshape(len(rows), -1).mean(axis=1, dtype=np.float64)
    return brightness


def _edges(brightness: npt.NDArray[np.float64], groups: Labels, count: int, parts: int) -> npt.NDArray[np.float64]:
    """Edges (count, parts - 1) that cut each group into parts of equal size, up to ties."""
    quantiles = np.arange(1, parts) / parts
    return np.stack([np.quantile(brightness[groups == group], quantiles) for group in range(count)])


def _part(brightness: npt.NDArray[np.float64], groups: Labels, edges: npt.NDArray[np.float64]) -> Labels:
    """The part (n,), 0..parts - 1, of each image in its group."""
    parts: Labels = (brightness[:, None] > edges[groups]).sum(axis=1).astype(np.int64)
    return parts
