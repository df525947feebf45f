"""Decode one image into pixels."""

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
"""Most pixels of an image; decoding takes up to 8 bytes a pixel, on all cores at once."""
MOST_SIDE = math.isqrt(MOST_PIXELS)
"""The largest ``size_px``."""

_LONGEST = 3  # long side over short side: of longer images only the middle is resized
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

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Pillow prints a line for each broken image


class ImageError(UserError):
    """An image cannot be used."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} {reason}")
        self.where, self.reason = where, reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Pickle it by its two arguments."""
        return type(self), (self.where, self.reason)


class ColourFoundError(Exception):
    """An image has colour, though those before it had none."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How images are decoded; the same bytes always give the same array.

    They are resized and cropped to the pixel as by torchvision's ``Resize`` and ``CenterCrop``, but for very long ones.
    Images are rotated and mirrored as their EXIF orientation says, if it can be read. Of several frames the first is
    taken. Images of more than ``MOST_PIXELS`` are refused.

    Attributes:
        shape: Channels (1 or 3), height and width of every image.
        size_px: The shorter side is resized to this, and the centre cropped to a square of it; None if all images have
            one size.
        interpolation: Of resizing: ``bilinear`` or ``bicubic``.
        convert: With one channel, whether colour is converted to luma (Rec. 601) or raises ``ColourFoundError``. With
            three channels, grey images always get three equal ones.
    """

    shape: tuple[int, int, int]
    size_px: int | None
    interpolation: str
    convert: bool

    def decode(self, where: str, encoded: Encoded) -> Images:
        """Decode one image to (C, H, W).

        Args:
            where: Where it comes from, for errors.
            encoded: Its file, its bytes or a Pillow image.

        Raises:
            ImageError: It cannot be read or is too large.
            UserError: It has another size than the first.
            ColourFoundError: It has colour, which is not to be converted.
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
            top, left = (round((side - self.size_px) / 2) for side in (height, width))
            pixels = pixels[top : top + self.size_px, left : left + self.size_px]
        elif (height, width) != self.shape[1:]:
            raise UserError(  # no ImageError, as it is not broken
                f"{where} is {height}x{width} pixels, the first image {self.shape[1]}x{self.shape[2]}: "
                "images of differing size need image_size_px"
            )
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def decoding_of(
    where: str, encoded: Encoded, size_px: int | None, channels: int | None, interpolation: str
) -> Decoding:
    """How to decode a data set, given its first image that can be read.

    Args:
        where: Where the image comes from, for errors.
        encoded: Its file, its bytes or a Pillow image.
        size_px: Side to resize and crop to, or None if all images have one size.
        channels: 1 to convert colour to luma, 3 to give grey images three equal channels, None for the channels of this
            image: if it is grey, decoding a colour image raises ``ColourFoundError``.
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
    """Lifts Pillow's own limit of size while any thread decodes here; its error says less than ours."""

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
"""A context in which ``MOST_PIXELS`` is the only limit of size."""


def _content(where: str, encoded: Encoded) -> bytes | Image.Image:
    """The bytes of an image, or the Pillow image itself."""
    if not isinstance(encoded, Path):
        return encoded
    try:
        return encoded.read_bytes()
    except OSError as error:
        raise _unreadable(where, error) from None


def _opened(where: str, content: bytes | Image.Image) -> Image.Image:
    """Open an image and check what its header says; pixels are not decoded yet."""
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
    """What Pillow would silently drop in converting an image to 8-bit grey or colour; empty if nothing.

    Of 16 bits it keeps the upper 8, which are nearly 0 for many cameras, or takes both bytes for pixels; of many bands
    it keeps the first 1 or 3.
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
    """The decoded image, transposed as its EXIF orientation says; an orientation that cannot be read is ignored."""
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
    """Decode a JPEG to (H, W, C), with the same bits as Pillow in half the time.

    Both use libjpeg-turbo, but Pillow stores four bytes a pixel and copies them twice on the way to an array.

    Args:
        content: The image.
        opened: The image opened by Pillow.
        mode: ``L`` or ``RGB``, as wanted.

    Returns:
        None if Pillow must decode: the image is no JPEG, has other colours, needs transposing, or is damaged.
    """
    if isinstance(content, Image.Image) or opened.format not in ("JPEG", "MPO"):
        return None
    if opened.mode not in ("L", mode) or _turn(opened) is not None:
        return None
    try:
        # Called first also because ``decode_jpeg`` leaks its decoder if the header is damaged.
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        if (width, height) != opened.size:
            return None
        pixels: Images = simplejpeg.decode_jpeg(content, "GRAY" if mode == "L" else mode)
    except Exception:  # also for damage that libjpeg-turbo only warns of, and that Pillow may accept
        return None
    return pixels


def _resized(image: Image.Image, size_px: int, interpolation: str) -> Image.Image:
    """Resize the shorter side to ``size_px``.

    An image longer than 3 times its shorter side is first cropped to that at both ends, to bound the memory.
    """
    short, long = min(image.size), max(image.size)
    end = max(0, (long - _LONGEST * short) // 4 * 2)  # even, which moves no middle that lies between two pixels
    if end:
        wide = image.width == long
        image = image.crop((end, 0, long - end, short) if wide else (0, end, short, long - end))
    width, height = (size_px * side // short for side in image.size)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling[interpolation.upper()])


def _unreadable(where: str, error: Exception) -> ImageError:
    unknown = isinstance(error, UnidentifiedImageError)  # whose own words name an object in memory
    reason = "its bytes are of no known kind of image" if unknown else one_line(error)
    return ImageError(where, f"is not a readable image: {reason}")
