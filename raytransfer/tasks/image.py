"""One encoded image -> its pixels."""

import io
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLESPERPIXEL, TiffImageFile

from raytransfer.errors import UserError, one_line

Images = npt.NDArray[np.uint8]
Encoded = Path | bytes | Image.Image

GREY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
MOST_PIXELS = 2**27
"""Pixels of the largest image that is read; decoding one takes up to 8 bytes a pixel, on each core at once."""
MOST_SIDE = math.isqrt(MOST_PIXELS)
"""The largest ``size_px``."""

_LONGEST = 3  # in widths: of a longer image only the middle is resized, since the rest is cut off anyway
_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF = (b"II*\0", b"MM\0*")  # how TIFF files begin
_READ = "only 8-bit grey and colour images are read"

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else a line an image of what is told in one error


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
        content = _content(where, encoded)
        with _opened(where, content) as opened:
            if self.shape[0] == 1 and not self.convert and opened.mode not in GREY_MODES:
                raise ColourFoundError
            mode = "L" if self.shape[0] == 1 else "RGB"
            pixels = _jpeg_pixels(content, opened, mode) if self.size_px in (None, min(opened.size)) else None
            if pixels is None:
                upright = _upright(where, opened)
                try:
                    image = upright if upright.mode == mode else upright.convert(mode)
                except Exception as error:  # PIL's decoders raise anything on broken bytes
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


def decoding_of(
    where: str, encoded: Encoded, size_px: int | None, channels: int | None, interpolation: str
) -> Decoding:
    """How to decode images like this one, the first of them that can be read.

    Args:
        where: Where it comes from, for errors.
        encoded: Its file, its bytes or itself.
        size_px: Side to resize and crop to, or None where all images have one size.
        channels: 1 to take luma of colour images, 3 to give grey ones three equal channels, or None for those of this
            image: if a later one has colour and it has none, ``ColourFoundError`` says so.
        interpolation: ``bilinear`` or ``bicubic``.

    Raises:
        ImageError: It cannot be read or is too large.
    """
    with unlimited_sizes(), _opened(where, _content(where, encoded)) as image:
        found = channels or (1 if image.mode in GREY_MODES else 3)
        height, width = (size_px, size_px) if size_px is not None else _upright(where, image).size[::-1]
    return Decoding(
        shape=(found, height, width), size_px=size_px, interpolation=interpolation, convert=channels is not None
    )


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


def _content(where: str, encoded: Encoded) -> bytes | Image.Image:
    """The bytes of an image, read once, or the image itself."""
    if not isinstance(encoded, Path):
        return encoded
    try:
        return encoded.read_bytes()
    except OSError as error:
        raise _unreadable(where, error) from None


def _opened(where: str, content: bytes | Image.Image) -> Image.Image:
    """The image, of which the header is read."""
    try:
        image = Image.open(io.BytesIO(content)) if isinstance(content, bytes) else content
    except Exception as error:  # as above
        if isinstance(error, UnidentifiedImageError) and isinstance(content, bytes) and content.startswith(_TIFF):
            raise ImageError(where, f"is a TIFF file of a kind that is not read: {_READ}") from None
        raise _unreadable(where, error) from None
    if image.mode not in GREY_MODES + COLOUR_MODES:
        image.close()
        raise ImageError(where, f"has pixels of mode {image.mode}: {_READ}")
    if dropped := _dropped(image):
        image.close()
        raise ImageError(where, f"has {dropped}: {_READ}")
    if image.width * image.height > MOST_PIXELS:
        size = f"{image.height}x{image.width}"
        image.close()
        raise ImageError(where, f"is {size} pixels: images are read up to {MOST_PIXELS:,} pixels; make it smaller")
    return image


def _dropped(image: Image.Image) -> str:
    """What an image has that Pillow drops where it makes 8-bit grey or colour of it; empty for nothing.

    Of 16 bits it takes the upper 8, where the values of many cameras are all dark, or both as a pixel each; of bands
    the first 1 or 3.
    """
    if isinstance(image, TiffImageFile):
        bits, bands = max(image.tag_v2.get(BITSPERSAMPLE, (1,))), image.tag_v2.get(SAMPLESPERPIXEL, 1)
        if bits > 8:
            return f"{bits} bits a channel"
        read = len(image.getbands())
        return f"{bands} bands, of which {read} would be read" if bands > read else ""
    if isinstance(image, PngImageFile) and image.tile and str(image.tile[0].args).endswith(";16B"):
        return "16 bits a channel"
    return ""


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
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as above
        return None


def _jpeg_pixels(content: bytes | Image.Image, opened: Image.Image, mode: str) -> Images | None:
    """The pixels (H, W, C) of a JPEG: those that Pillow gives, to the bit, in half its time.

    Both decode with libjpeg-turbo, but Pillow holds four bytes a pixel, and copies them twice on the way to an array.

    Args:
        content: The image.
        opened: The same, of which the header was read.
        mode: ``L`` or ``RGB``, as wanted.

    Returns:
        None where Pillow has to decode: it is no JPEG, has other colours, is to be turned, or is damaged in any way.
    """
    if isinstance(content, Image.Image) or opened.format not in ("JPEG", "MPO"):
        return None
    if opened.mode not in ("L", mode) or _turn(opened) is not None:
        return None
    try:
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
