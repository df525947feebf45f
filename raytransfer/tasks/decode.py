"""Decode the images of any source into uint8 arrays on disk."""

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raytransfer.errors import UserError
from raytransfer.tasks.image import ColourFoundError, Decoding, Encoded, ImageError, decoding_of, unlimited_sizes
from raytransfer.tasks.threads import THREADS, Made, ahead

Labels = npt.NDArray[np.int64]

MOST_BROKEN = 100
"""Broken images after which the search for more ends."""

_SHOWN = 5  # broken images that an error names beside the first
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # how file systems say that they cannot reserve
_ZEROS = 2**20  # bytes written at once
_CHUNK = 16  # images a job: few enough that open files stay below the usual limit of 1024

Chunk = list[tuple[int, tuple[str, Encoded]]]
"""Some images of ``Raw.images``, each with its number."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A source's images before decoding, training and test images in one sequence.

    Attributes:
        class_names: Name of each class.
        labels: (N,) indices into ``class_names``.
        is_test: (N,) whether each image belongs to the test part; None if the source has no test part.
        images: Returns a new iterator over N pairs: where the image comes from, for error messages, and the image.
    """

    class_names: tuple[str, ...]
    labels: Labels
    is_test: npt.NDArray[np.bool_] | None
    images: Callable[[], Iterator[tuple[str, Encoded]]]


def first_decoding(raw: Raw, size_px: int | None, channels: int | None, interpolation: str) -> Decoding:
    """How to decode images, by ``decoding_of`` the first that can be read.

    Raises:
        ImageError: None can be read.
    """
    broken: ImageError | None = None
    for where, encoded in raw.images():
        try:
            return decoding_of(where, encoded, size_px, channels, interpolation)
        except ImageError as error:
            broken = broken or error
    assert broken is not None, "a data set has images"
    raise broken


def decode_images(raw: Raw, is_test: npt.NDArray[np.bool_], how: Decoding, outs: tuple[Path, Path]) -> None:
    """Decode all images into two npy files of shape (N, C, H, W), training and test images.

    Args:
        raw: The images.
        is_test: (N,) which of them go into the second file.
        how: How to decode them.
        outs: The training and the test file, overwritten.

    Raises:
        ImageError, ColourFoundError: As for ``Decoding.decode``.
        UserError: The disk has too little space.
        OSError: The disk is full.
    """
    counts = (int((~is_test).sum()), int(is_test.sum()))
    check_space(outs[0].parent.parent, sum(counts) * math.prod(how.shape), "the decoded images take")
    arrays = [
        np.lib.format.open_memmap(out, mode="w+", dtype=np.uint8, shape=(count, *how.shape))
        for out, count in zip(outs, counts, strict=True)
    ]
    for out in outs:
        _reserve(out)
    position = np.where(is_test, np.cumsum(is_test), np.cumsum(~is_test)) - 1

    def job(chunk: Chunk) -> None:
        for i, (where, encoded) in chunk:
            arrays[int(is_test[i])][position[i]] = how.decode(where, encoded)

    for _ in _chunkwise(job, raw):
        pass
    for array in arrays:
        array.flush()


def every_error(raw: Raw, how: Decoding) -> ImageError | None:
    """One error that counts the broken images, up to ``MOST_BROKEN``, and names some; None if there are none."""

    def errors(chunk: Chunk) -> list[ImageError]:
        found = []
        for _, (where, encoded) in chunk:
            try:
                how.decode(where, encoded)
            except ImageError as error:
                found.append(error)
            except (UserError, ColourFoundError):
                pass
        return found

    broken: list[ImageError] = []
    for found in _chunkwise(errors, raw):
        broken += found
        if len(broken) >= MOST_BROKEN:
            break
    if not broken:
        return None
    first, *others = broken
    if not others:
        return first
    shown = ", ".join(error.where for error in others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
    count = f"{len(broken)} of" if len(broken) < MOST_BROKEN else f"at least {MOST_BROKEN} of"
    return ImageError(
        first.where,
        f"{first.reason}; {count} {len(raw.labels)} images cannot be used, also {shown}: mend or remove them",
    )


def _chunkwise(job: Callable[[Chunk], Made], raw: Raw) -> Iterator[Made]:
    """Results of a job on ``_CHUNK`` images at a time, in order; threads run it, and few encoded images are held."""
    images = enumerate(raw.images())
    chunks = iter(lambda: list(islice(images, _CHUNK)), [])
    with unlimited_sizes():
        yield from ahead(job, chunks, 2 * THREADS, THREADS)


def check_space(cache: Path, needed: int, what: str) -> None:
    """Check that the disk of ``cache`` has ``needed`` bytes free.

    Raises:
        UserError: It does not.
    """
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise UserError(
            f"cache_dir {cache} has {free / 1e9:.1f} GB free, {what} {needed / 1e9:.1f} GB: choose another cache_dir "
            "or a smaller image_size_px"
        )


def _reserve(file: Path) -> None:
    """Allocate a file's whole length on disk: writing to a mapped file on a full disk kills the process (SIGBUS).

    If the file system cannot allocate, zeros are written instead.

    Raises:
        OSError: The disk is full.
    """
    with file.open("r+b") as stream:
        length = os.fstat(stream.fileno()).st_size
        try:
            os.posix_fallocate(stream.fileno(), 0, length)
            return
        except AttributeError:  # not on this system
            pass
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        np.lib.format.read_magic(stream)  # zeros follow the header
        np.lib.format.read_array_header_1_0(stream)
        for start in range(stream.tell(), length, _ZEROS):
            stream.seek(start)
            stream.write(bytes(min(_ZEROS, length - start)))
