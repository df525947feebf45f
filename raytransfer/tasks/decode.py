"""Encoded images of any source -> uint8 arrays on the disk."""

import io
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from raytransfer.errors import UserError, one_line

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Encoded = Path | bytes | Image.Image

GREY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_CHUNK = 16  # images a job: few enough that lazily opened files stay below the usual limit of 1024


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A source's images before decoding, all parts in one sequence.

    Attributes:
        class_names: One name a class.
        labels: (N,) indices into ``class_names``.
        is_test: (N,) whether each image belongs to the test part, or None where the source has no test part.
        images: Starts anew at each call and gives N pairs (where it comes from, for error messages; the image).
    """

    class_names: tuple[str, ...]
    labels: Labels
    is_test: npt.NDArray[np.bool_] | None
    images: Callable[[], Iterator[tuple[str, Encoded]]]


class _ColourFoundError(Exception):
    """An image has colour though those before it had none."""


def decode_images(
    raw: Raw,
    is_test: npt.NDArray[np.bool_],
    size_px: int | None,
    channels: int | None,
    outs: tuple[Path, Path],
    interpolation: str = "bilinear",
) -> None:
    """Decode all images into two npy files of shape (N, C, H, W), training and test images.

    Where ``channels`` is None, C is 1 if every image is grey, else 3.

    Args:
        raw: The images.
        is_test: (N,) which of them go into the second file.
        size_px: Side to resize and crop to, or None where all images have one size.
        channels: 1 to take luma (Rec. 601) of colour images, 3 to give grey ones three equal channels, or None.
        outs: The training and the test file, overwritten.
        interpolation: ``bilinear`` or ``bicubic``, of resizing.

    Raises:
        UserError: An image does not decode, or the sizes differ and ``size_px`` is None.
    """
    where, first = next(raw.images())
    with _opened(where, first) as image:
        own_channels = 1 if image.mode in GREY_MODES else 3
        shape = (image.height, image.width) if size_px is None else (size_px, size_px)
    if channels is not None:
        _decode_all(raw, is_test, size_px, (channels, *shape), outs, interpolation, convert=True)
        return
    try:
        _decode_all(raw, is_test, size_px, (own_channels, *shape), outs, interpolation)
    except _ColourFoundError:  # rare, and cheaper than reading every file's header first
        _decode_all(raw, is_test, size_px, (3, *shape), outs, interpolation)


def _decode_all(
    raw: Raw,
    is_test: npt.NDArray[np.bool_],
    size_px: int | None,
    shape: tuple[int, int, int],
    outs: tuple[Path, Path],
    interpolation: str,
    *,
    convert: bool = False,
) -> None:
    counts = (int((~is_test).sum()), int(is_test.sum()))
    _check_space(outs[0].parent, sum(counts) * math.prod(shape))
    arrays = [
        np.lib.format.open_memmap(out, mode="w+", dtype=np.uint8, shape=(count, *shape))
        for out, count in zip(outs, counts, strict=True)
    ]
    position = np.where(is_test, np.cumsum(is_test), np.cumsum(~is_test)) - 1

    def job(chunk: list[tuple[int, tuple[str, Encoded]]]) -> None:
        for i, (where, encoded) in chunk:
            arrays[int(is_test[i])][position[i]] = _pixels(
                where, encoded, size_px, shape, interpolation, convert=convert
            )

    workers = min(16, os.cpu_count() or 1)
    images = enumerate(raw.images())
    with ThreadPoolExecutor(workers) as pool:  # PIL decodes without the GIL
        pending: deque[Future[None]] = deque()
        try:
            while chunk := list(islice(images, _CHUNK)):
                pending.append(pool.submit(job, chunk))
                if len(pending) > 2 * workers:  # bounds the encoded images in memory
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
    for array in arrays:
        array.flush()


def _check_space(folder: Path, needed: int) -> None:
    """Refuse early what does not fit: writing to a mapped file on a full disk kills the process."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"cache_dir {folder.parent} has {free / 1e9:.1f} GB free, the decoded images take {needed / 1e9:.1f} GB: "
            "choose another cache_dir or a smaller image_size_px"
        )


def _pixels(
    where: str,
    encoded: Encoded,
    size_px: int | None,
    shape: tuple[int, int, int],
    interpolation: str,
    *,
    convert: bool,
) -> Images:
    """One image as (C, H, W); colour becomes grey only where it is to be converted."""
    with _opened(where, encoded) as opened:
        if shape[0] == 1 and not convert and opened.mode not in GREY_MODES:
            raise _ColourFoundError
        try:
            image = opened.convert("L" if shape[0] == 1 else "RGB")
        except Exception as error:  # PIL's decoders raise anything on broken bytes
            raise _unreadable(where, error) from None
    if size_px is not None:
        image = _resized(image, size_px, interpolation)
    if (image.height, image.width) != shape[1:]:
        raise UserError(
            f"{where} is {image.height}x{image.width} pixels, the first image {shape[1]}x{shape[2]}: "
            "images of differing size need image_size_px"
        )
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _opened(where: str, encoded: Encoded) -> Image.Image:
    if isinstance(encoded, Image.Image):
        image = encoded
    else:
        try:
            image = Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)
        except Exception as error:  # PIL's decoders raise anything on broken bytes
            raise _unreadable(where, error) from None
    if image.mode not in GREY_MODES + COLOUR_MODES:
        image.close()
        raise UserError(f"{where} has pixels of mode {image.mode}: only 8-bit grey and colour images are read")
    return image


def _resized(image: Image.Image, size_px: int, interpolation: str) -> Image.Image:
    """Shorter side resized to ``size_px``, then the central square."""
    short = min(image.size)
    width, height = (max(size_px, round(side * size_px / short)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = (width - size_px) // 2, (height - size_px) // 2
    return image.crop((left, top, left + size_px, top + size_px))


def _unreadable(where: str, error: Exception) -> UserError:
    return UserError(f"{where} is not a readable image: {one_line(error)}")
