"""Encoded images of any source -> uint8 arrays on the disk."""

import errno
import io
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from raytransfer.errors import UserError, one_line

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Encoded = Path | bytes | Image.Image

GREY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
MOST_PIXELS = 2**27
"""Pixels of the largest image that is read; decoding one takes up to 8 bytes a pixel, on each core at once."""

THREADS = min(16, os.cpu_count() or 1)
"""That decode at once: without the GIL, which an image holds for about a tenth of a millisecond in all."""

MOST_BROKEN = 100
"""Broken images after which no more are looked for."""

_SHOWN = 5  # of them
_LONGEST = 3  # in widths: of a longer image only the middle is resized, since the rest is cut off anyway
_ORIENTATION = 0x0112  # EXIF's tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # how file systems say that they cannot reserve
_ZEROS = 2**20  # bytes written at once
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


class ImageError(UserError):
    """An image cannot be used."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} {reason}")
        self.where, self.reason = where, reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """As processes send it to each other."""
        return type(self), (self.where, self.reason)


class ColourFoundError(Exception):
    """An image has colour though those before it had none."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How images are decoded: the same bytes give the same array, whoever decodes them, when and with how many threads.

    Images are turned as their EXIF orientation says, if they have one that can be read. Of several frames the first is
    taken. An image of more than ``MOST_PIXELS`` is refused.

    Attributes:
        shape: Channels (1 or 3), height and width of every image.
        size_px: Side to resize the shorter side to, and to crop the centre to; None where all images have one size.
        interpolation: ``bilinear`` or ``bicubic``, of resizing.
        convert: Whether colour becomes grey where there is one channel: luma (Rec. 601); else it raises
            ``ColourFoundError``. Grey ones get three equal channels where there are three in any case.
    """

    shape: tuple[int, int, int]
    size_px: int | None
    interpolation: str
    convert: bool

    def decode(self, where: str, encoded: Encoded) -> Images:
        """One image (C, H, W).

        Args:
            where: Where it comes from, for errors.
            encoded: Its file, its bytes or itself.

        Raises:
            ImageError: It cannot be read or is too large.
            UserError: It is of another size.
            ColourFoundError: It has colour, and nobody said that it is to become grey.
        """
        with _opened(where, encoded) as opened:
            if self.shape[0] == 1 and not self.convert and opened.mode not in GREY_MODES:
                raise ColourFoundError
            mode = "L" if self.shape[0] == 1 else "RGB"
            pixels = _jpeg_pixels(encoded, opened, mode) if self.size_px in (None, min(opened.size)) else None
            if pixels is None:
                upright = _upright(where, opened)
                try:
                    image = upright if upright.mode == mode else upright.convert(mode)
                except Exception as error:  # as above
                    raise _unreadable(where, error) from None
                if self.size_px is not None:
                    image = _resized(image, self.size_px, self.interpolation)
                pixels = np.asarray(image)
        height, width = pixels.shape[:2]
        if self.size_px is not None:
            top, left = ((side - self.size_px) // 2 for side in (height, width))
            pixels = pixels[top : top + self.size_px, left : left + self.size_px]
        elif (height, width) != self.shape[1:]:
            raise UserError(  # nothing is wrong with it, so that it is not counted with those that are broken
                f"{where} is {height}x{width} pixels, the first image {self.shape[1]}x{self.shape[2]}: "
                "images of differing size need image_size_px"
            )
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def first_decoding(raw: Raw, size_px: int | None, channels: int | None, interpolation: str) -> Decoding:
    """How to decode images, as far as the first of them tells that can be read.

    Args:
        raw: The images.
        size_px: Side to resize and crop to, or None where all images have one size.
        channels: 1 to take luma of colour images, 3 to give grey ones three equal channels, or None for those of the
            first image: if a later one has colour and it has none, ``ColourFoundError`` says so.
        interpolation: ``bilinear`` or ``bicubic``.

    Raises:
        ImageError: None can be read.
    """
    broken: ImageError | None = None
    for where, encoded in raw.images():
        try:
            with unlimited_sizes(), _opened(where, encoded) as image:
                found = channels or (1 if image.mode in GREY_MODES else 3)
                height, width = (size_px, size_px) if size_px is not None else _upright(where, image).size[::-1]
        except ImageError as error:
            broken = broken or error
            continue
        return Decoding(
            shape=(found, height, width), size_px=size_px, interpolation=interpolation, convert=channels is not None
        )
    assert broken is not None, "a data set has images"
    raise broken


class _PillowsLimit:
    """Pillow's own limit of size, which warns first and says less: it stands back while anything decodes here."""

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._before: int | None = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    Image.MAX_IMAGE_PIXELS = self._before


unlimited_sizes = _PillowsLimit().lifted
"""A context in which images are held to ``MOST_PIXELS`` alone."""


def decode_images(raw: Raw, is_test: npt.NDArray[np.bool_], how: Decoding, outs: tuple[Path, Path]) -> None:
    """Decode all images into two npy files of shape (N, C, H, W), training and test images.

    Args:
        raw: The images.
        is_test: (N,) which of them go into the second file.
        how: How.
        outs: The training and the test file, overwritten.

    Raises:
        ImageError: As for ``Decoding.decode``.
        ColourFoundError: Likewise.
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

    def job(chunk: list[tuple[int, tuple[str, Encoded]]]) -> None:
        for i, (where, encoded) in chunk:
            arrays[int(is_test[i])][position[i]] = how.decode(where, encoded)

    images = enumerate(raw.images())
    with unlimited_sizes(), ThreadPoolExecutor(THREADS) as pool:  # images are decoded without the GIL
        pending: deque[Future[None]] = deque()
        try:
            while chunk := list(islice(images, _CHUNK)):
                pending.append(pool.submit(job, chunk))
                if len(pending) > 2 * THREADS:  # bounds the encoded images in memory
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
    for array in arrays:
        array.flush()


def every_error(raw: Raw, how: Decoding) -> ImageError | None:
    """All images that cannot be used in one error, up to ``MOST_BROKEN``; None where there is none.

    Args:
        raw: The images.
        how: How they are decoded.
    """

    def errors(chunk: list[tuple[str, Encoded]]) -> list[ImageError]:
        found = []
        for where, encoded in chunk:
            try:
                how.decode(where, encoded)
            except ImageError as error:
                found.append(error)
            except (UserError, ColourFoundError):
                pass
        return found

    images, broken = raw.images(), list[ImageError]()
    with unlimited_sizes(), ThreadPoolExecutor(THREADS) as pool:
        while len(broken) < MOST_BROKEN and (chunk := list(islice(images, _CHUNK * THREADS))):
            parts = [chunk[start : start + _CHUNK] for start in range(0, len(chunk), _CHUNK)]
            broken += [error for found in pool.map(errors, parts) for error in found]
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


def check_space(cache: Path, needed: int, what: str) -> None:
    """Refuse early what does not fit.

    Raises:
        UserError: The disk of ``cache`` has fewer bytes free than ``needed``.
    """
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise UserError(
            f"cache_dir {cache} has {free / 1e9:.1f} GB free, {what} {needed / 1e9:.1f} GB: choose another cache_dir "
            "or a smaller image_size_px"
        )


def _reserve(file: Path) -> None:
    """Give a file the space of its whole length: writing to a mapped file on a full disk kills the process (SIGBUS).

    Where a file system cannot reserve, zeros are written, which takes the space all the same.

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
        raise ImageError(where, f"has pixels of mode {image.mode}: only 8-bit grey and colour images are read")
    if image.width * image.height > MOST_PIXELS:
        size = f"{image.height}x{image.width}"
        image.close()
        raise ImageError(where, f"is {size} pixels: images are read up to {MOST_PIXELS:,} pixels; make it smaller")
    return image


def _upright(where: str, image: Image.Image) -> Image.Image:
    """The decoded image, turned as its EXIF orientation says; what cannot be read there says nothing."""
    try:
        image.load()  # a TIFF turns itself, and then says so
    except Exception as error:  # as above
        raise _unreadable(where, error) from None
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # as above
        return None


def _jpeg_pixels(encoded: Encoded, opened: Image.Image, mode: str) -> Images | None:
    """The pixels (H, W, C) of a JPEG: those that Pillow gives, to the bit, in half its time.

    Both decode with libjpeg-turbo, but Pillow holds four bytes a pixel, and copies them twice on the way to an array.

    Args:
        encoded: The image.
        opened: The same, of which the header was read.
        mode: ``L`` or ``RGB``, as wanted.

    Returns:
        None where Pillow has to decode: it is no JPEG, has other colours, is to be turned, or is damaged in any way.
    """
    if isinstance(encoded, Image.Image) or opened.format not in ("JPEG", "MPO"):
        return None
    if opened.mode not in ("L", mode) or _turn(opened) is not None:
        return None
    try:
        content = encoded if isinstance(encoded, bytes) else encoded.read_bytes()
        # Also because ``decode_jpeg`` does not free its decoder where the header is damaged.
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        if (width, height) != opened.size:
            return None
        pixels: Images = simplejpeg.decode_jpeg(content, "GRAY" if mode == "L" else mode)
    except Exception:  # of damage that libjpeg-turbo only warns of, too: what becomes of it, Pillow says
        return None
    return pixels


def _resized(image: Image.Image, size_px: int, interpolation: str) -> Image.Image:
    """Shorter side resized to ``size_px``.

    What an image is longer than 3 times its shorter side is cut off first, from both ends alike: resized, it would take
    memory without bound.
    """
    short, long = min(image.size), max(image.size)
    end = max(0, (long - _LONGEST * short) // 2)
    if end:
        wide = image.width == long
        image = image.crop((end, 0, long - end, short) if wide else (0, end, short, long - end))
    width, height = (max(size_px, round(side * size_px / short)) for side in image.size)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling[interpolation.upper()])


def _unreadable(where: str, error: Exception) -> ImageError:
    unknown = isinstance(error, UnidentifiedImageError)  # whose own words name an object in memory
    reason = "its bytes are of no known kind of image" if unknown else one_line(error)
    return ImageError(where, f"is not a readable image: {reason}")
