"""Images as they come: turned, long, huge, half changed, and names that are no text."""

import contextlib
import errno
import io
import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features
from torchvision.transforms import v2

from raytransfer.errors import UserError
from raytransfer.tasks import DataSource, decode, open_dataset
from raytransfer.tasks import image as image_module


@pytest.fixture
def opened(tmp_path):
    def open_it(data="data", **options):
        return open_dataset(
            DataSource(data=str(tmp_path / data), data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"), **options)
        )

    return open_it


def pixels(*shape, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8))


def write(folder, image, ending="png", classes="ab", count=2, **options):
    """The same image several times in folders of classes; gives the first file."""
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image.save(folder / name / f"{i}.{ending}", **options)
    return folder / classes[0] / f"0.{ending}"


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()


@pytest.mark.parametrize("orientation", range(10))
def test_images_are_turned_as_their_exif_says(tmp_path, opened, orientation):
    file = write(tmp_path / "data", pixels(6, 4), exif=exif(orientation))
    with Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    assert expected.shape == ((3, 4, 6) if orientation in (5, 6, 7, 8) else (3, 6, 4))
    assert np.array_equal(opened().train_images[0], expected)


@pytest.mark.parametrize("ending", ["jpg", "jfif", "tif", "webp", "avif"])
def test_files_of_every_kind_are_turned_once(tmp_path, opened, ending):
    if ending == "avif" and not features.check("avif"):
        pytest.skip("this PIL reads no AVIF")
    write(tmp_path / "data", pixels(6, 4), ending, exif=exif(6))
    assert opened().train_images.shape == (2, 3, 4, 6)


def test_exif_that_cannot_be_read_says_nothing(tmp_path, opened):
    write(tmp_path / "data", pixels(6, 4), "jpg", exif=b"Exif\0\0garbage")
    assert opened().train_images.shape == (2, 3, 6, 4)


def jpeg(image, sampling="420", **options):
    """JPEG bytes of an image; Pillow writes no subsampling but three."""
    if sampling in ("440", "411"):
        return simplejpeg.encode_jpeg(np.asarray(image.convert("RGB")), colorsubsampling=sampling)
    if image.mode != "L" and "keep_rgb" not in options:
        options["subsampling"] = ("444", "422", "420").index(sampling)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def smooth(*shape, seed=0):
    """An image as photographs are rather than noise, so that chroma is not cut off at 0 and 255."""
    return pixels(-(-shape[0] // 8), -(-shape[1] // 8), seed=seed).resize(shape[::-1], Image.Resampling.BICUBIC)


def by_pillow(content, mode):
    """What Pillow alone makes of an image; None where it cannot be read."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert(mode))
    except Exception:
        return None


def kept_size(channels=3, size_px=None, height=16, width=24):
    return image_module.Decoding(
        shape=(channels, *((height, width) if size_px is None else (size_px, size_px))),
        size_px=size_px,
        interpolation="bilinear",
        convert=True,
    )


@st.composite
def jpegs(draw):
    """JPEGs of every kind, a part of them damaged."""
    mode = draw(st.sampled_from(["RGB", "RGB", "RGB", "L", "CMYK"]))
    height, width, seed = draw(st.tuples(*[st.integers(1, 70)] * 2, st.integers(0, 2**32 - 1)))
    options = {"quality": draw(st.integers(5, 100)), "progressive": draw(st.booleans())}
    if draw(st.booleans()):
        options["restart_marker_blocks"] = draw(st.integers(1, 9))
    if mode == "RGB" and draw(st.booleans()):
        options["keep_rgb"] = True
    if draw(st.booleans()):
        options["exif"] = exif(draw(st.integers(0, 9)))
    image = draw(st.sampled_from([pixels, smooth]))(height, width, seed=seed).convert(mode)
    content = jpeg(image, draw(st.sampled_from(["444", "422", "420", "440", "411"])), **options)
    at = draw(st.integers(2, len(content)))
    damages = [content, content, content, content[:at], content[:-2], content + b"\0" * 9]
    damages += [content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + skip :] for skip in (0, 1)]
    return draw(st.sampled_from(damages))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF
@settings(deadline=None, max_examples=300)
@given(content=jpegs(), channels=st.sampled_from([1, 3, 3]))
@example(content=jpeg(smooth(16, 24)), channels=3)
@example(content=jpeg(smooth(16, 24).convert("L")), channels=1)
def test_jpegs_have_the_pixels_that_pillow_gives_or_are_refused_as_it_refuses_them(content, channels):
    expected = by_pillow(content, "L" if channels == 1 else "RGB")
    if expected is None:
        with pytest.raises(UserError, match=r"^x is not a readable image: "):
            kept_size(channels).decode("x", content)
        return
    height, width = expected.shape[:2]
    found = kept_size(channels, None, height, width).decode("x", content)
    assert np.array_equal(found, expected.reshape(height, width, channels).transpose(2, 0, 1))
    side = min(height, width)
    square = kept_size(channels, side).decode("x", content)
    assert np.array_equal(square, v2.functional.center_crop(torch.from_numpy(found.copy()), [side, side]))


PHOTOGRAPH = smooth(16, 24)


@pytest.mark.parametrize(
    ("content", "how", "pillows"),
    [
        (jpeg(PHOTOGRAPH), kept_size(), False),
        (jpeg(PHOTOGRAPH), kept_size(size_px=16), False),
        (jpeg(PHOTOGRAPH, "422", progressive=True), kept_size(), False),
        (jpeg(PHOTOGRAPH.convert("L")), kept_size(), False),
        (jpeg(PHOTOGRAPH.convert("L")), kept_size(1), False),
        (jpeg(PHOTOGRAPH, exif=exif(1)), kept_size(), False),
        (jpeg(PHOTOGRAPH, exif=exif(3)), kept_size(), True),
        (jpeg(PHOTOGRAPH, xmp=b'<x tiff:Orientation="2"/>'), kept_size(), True),
        (jpeg(PHOTOGRAPH), kept_size(size_px=8), True),
        (jpeg(PHOTOGRAPH), kept_size(1), True),
        (jpeg(PHOTOGRAPH.convert("CMYK")), kept_size(), True),
    ],
    ids=[
        "plain",
        "cropped",
        "progressive",
        "grey to colour",
        "grey",
        "upright",
        "turned",
        "xmp",
        "smaller",
        "luma",
        "CMYK",
    ],
)
def test_upright_jpegs_of_the_wanted_size_alone_do_without_pillows_decoder(monkeypatch, content, how, pillows):
    upright, used = image_module._upright, []
    monkeypatch.setattr(image_module, "_upright", lambda *given: used.append(given) or upright(*given))
    assert how.decode("x", content).shape == how.shape
    assert bool(used) == pillows


def test_a_folder_s_jpegs_are_decoded_so_too(tmp_path, opened, monkeypatch):
    write(tmp_path / "data", PHOTOGRAPH, "jpg")
    monkeypatch.setattr(image_module, "_upright", None)
    assert opened(image_size_px=16, channels=3).train_images.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("damage", ["cut", "no end", "a byte more", "bytes changed"])
def test_damaged_jpegs_leave_no_lines_on_the_terminal(capfd, damage):
    content = jpeg(smooth(48, 48))
    half = len(content) // 2
    damaged = {
        "cut": content[:half],
        "no end": content[:-2],
        "a byte more": content[:half] + b"\0" + content[half:],
        "bytes changed": content[:half] + b"\xff\xd0\xff\x01" + content[half + 4 :],
    }[damage]
    with contextlib.suppress(UserError):
        kept_size(3, None, 48, 48).decode("x", damaged)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(65000, 1), (1, 65000), (3, 40001)])
def test_of_a_long_image_only_the_middle_is_resized(tmp_path, opened, monkeypatch, shape):
    resize, sizes = Image.Image.resize, []
    monkeypatch.setattr(Image.Image, "resize", lambda image, size, how: sizes.append(size) or resize(image, size, how))
    image = pixels(*shape)
    write(tmp_path / "data", image)
    found = opened(image_size_px=32).train_images[0]
    assert max(max(size) for size in sizes) <= 4 * 32
    short = min(shape)
    middle = [(side - short) / 2 for side in image.size]
    box = (*middle, *(start + short for start in middle))
    whole = np.asarray(resize(image, (32, 32), Image.Resampling.BILINEAR, box=box), dtype=int)
    assert np.abs(found.transpose(1, 2, 0).astype(int) - whole).max() <= 1


def test_an_image_up_to_three_times_as_long_is_resized_whole(tmp_path, opened):
    image = pixels(31, 93)
    write(tmp_path / "data", image)
    whole = np.asarray(image.resize((48, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(opened(image_size_px=16).train_images[0], whole[:, :, 16:32])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_resized_and_cropped_as_by_torchvision(interpolation):
    how = v2.InterpolationMode[interpolation.upper()]
    usual = v2.Compose([v2.Resize(32, interpolation=how), v2.CenterCrop(32), v2.PILToTensor()])
    for height, width in [(50, 41), (41, 50), (37, 64), (33, 32), (35, 32), (32, 35), (20, 33), (90, 31)]:
        image = pixels(height, width)
        decoding = image_module.Decoding(shape=(3, 32, 32), size_px=32, interpolation=interpolation, convert=True)
        assert np.array_equal(decoding.decode("x", image), usual(image).numpy()), (height, width)


def test_an_image_beyond_the_limit_is_named_with_its_size(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(image_module, "MOST_PIXELS", 1_000_000)
    file, before = write(tmp_path / "data", Image.new("1", (1001, 1000))), Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError, match=rf"{file} is 1000x1001 pixels: images are read up to 1,000,000 pixels"):
        opened(image_size_px=8)
    assert before == Image.MAX_IMAGE_PIXELS
    write(tmp_path / "other", Image.new("1", (1000, 1000)))
    assert opened("other", image_size_px=8).train_images.shape == (2, 1, 8, 8)


def tiff(samples, extra=None):
    """A TIFF file of samples (H, W, bands), unsigned, of which those after grey or RGB are of no stated kind."""
    height, width, bands = samples.shape
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    tags = {256: [width], 257: [height], 258: [8 * samples.itemsize] * bands, 259: [1]}
    tags |= {262: [2 if bands - (extra or 0) == 3 else 1], 273: [1000], 277: [bands], 278: [height], 279: [len(data)]}
    tags |= {338: [0] * extra} if extra else {}
    entries, more = b"", b""
    for tag, values in sorted(tags.items()):
        content = struct.pack(f"<{len(values)}H", *values)
        if len(content) > 4:
            place = 10 + 12 * len(tags) + 4 + len(more)
            content, more = struct.pack("<I", place), more + content
        entries += struct.pack("<HHI", tag, 3, len(values)) + content.ljust(4, b"\0")
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + more
    return head.ljust(1000, b"\0") + data


def png16(samples):
    """A PNG file of 16-bit RGB."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = {b"IHDR": struct.pack(">2I5B", width, height, 16, 2, 0, 0, 0), b"IDAT": zlib.compress(rows), b"IEND": b""}
    chunks = [
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_the_bands_of_a_tiff_are_its_colours():
    samples = np.asarray(pixels(16, 24))
    assert np.array_equal(kept_size().decode("x", tiff(samples)), samples.transpose(2, 0, 1))


DARK = np.random.default_rng(0).integers(0, 4096, (16, 24, 3)).astype(np.uint16)  # 12 bits in 16, as of satellites


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(DARK), "has 16 bits a channel: only 8-bit"),
        (png16(DARK), "has 16 bits a channel: only 8-bit"),
        (tiff(np.zeros((16, 24, 4), np.uint8), extra=1), "has 4 bands, of which 3 would be read: only 8-bit"),
        (tiff(np.zeros((16, 24, 2), np.uint8), extra=1), "has 2 bands, of which 1 would be read: only 8-bit"),
        (tiff(np.zeros((16, 24, 13), np.uint8), extra=12), "is a TIFF file of a kind that is not read: only 8-bit"),
    ],
    ids=["TIFF of 16 bits", "PNG of 16 bits", "RGB and infrared", "two bands", "13 bands"],
)
def test_an_image_with_more_than_would_be_read_of_it_is_refused(content, message):
    with pytest.raises(UserError, match=f"^x {message} grey and colour images are read$"):
        kept_size().decode("x", content)


def test_what_pillow_logs_of_an_image_is_not_on_the_terminal(tmp_path):
    (tmp_path / "x.tif").write_bytes(tiff(np.zeros((16, 24, 13), np.uint8), extra=12))
    code = f"""
from pathlib import Path
from raytransfer.tasks.image import ImageError, decoding_of
try:
    decoding_of("x", Path({str(tmp_path / "x.tif")!r}), None, None, "bilinear")
except ImageError:
    pass
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_large_images_below_the_limit_give_no_warning(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    write(tmp_path / "data", pixels(8, 8))
    assert opened().train_images.shape == (2, 3, 8, 8)


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(tmp_path, opened, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    write(tmp_path / "data", pixels(8, 8))
    with pytest.raises(UserError, match=r"cache_dir .*cache cannot be written: No space left on device; choose"):
        opened()
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["index"]


@pytest.mark.parametrize("missing", [True, False])
def test_where_space_cannot_be_reserved_it_is_taken_all_the_same(tmp_path, monkeypatch, missing):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "not here")

    if missing:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    file = tmp_path / "images.npy"
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(3, 1000, 1000))
    decode._reserve(file)
    assert file.stat().st_blocks * 512 >= 3_000_000
    assert np.load(file).shape == array.shape
    assert not np.load(file).any()


def test_an_image_that_changed_with_equal_size_and_time_is_read_anew(tmp_path, opened):
    file = write(tmp_path / "data", pixels(6, 4), "bmp")
    first, status = opened(), file.stat()
    pixels(6, 4, seed=1).save(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert opened().fingerprint != first.fingerprint


@pytest.mark.parametrize("names", [[1, 2], [None, "a"], "ab", 3, {"a": 1}])
def test_names_of_classes_in_parquet_files_must_be_text(tmp_path, opened, names):
    parquet(tmp_path / "x.parquet", names)
    with pytest.raises(UserError, match=r"x\.parquet has .* in its metadata as names of the classes of 'label'"):
        opened("x.parquet")


def parquet(file, names):
    buffer = io.BytesIO()
    pixels(4, 4).save(buffer, "PNG")
    images = pa.array([buffer.getvalue()] * 4, pa.binary())
    features = {"label": {"_type": "ClassLabel", "names": names}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"image": images, "label": pa.array([0, 1, 0, 1])})
    pq.write_table(table.replace_schema_metadata(metadata), file)


def test_names_that_are_no_text_are_refused_before_anything_is_decoded(tmp_path, opened):
    write(tmp_path / "data", pixels(4, 4), classes=["a\udcff", "b"])
    parquet(tmp_path / "x.parquet", ["a", "\ud800"])
    write(tmp_path / "c\udcff", pixels(4, 4))
    with pytest.raises(UserError, match=r"a class of data is named 'a\\udcff', which is not valid UTF-8: rename it"):
        opened()
    with pytest.raises(UserError, match=r"a class of x is named '\\ud800', which is not valid UTF-8: rename it"):
        opened("x.parquet")
    with pytest.raises(UserError, match=r"data is named 'c\\udcff', which is not valid UTF-8: rename it"):
        opened("c\udcff")


def test_named_pipes_are_not_waited_for(tmp_path, opened):
    write(tmp_path / "data", pixels(4, 4))
    os.mkfifo(tmp_path / "data" / "a" / "pipe.png")
    assert opened().contents.left_out == ("a/pipe.png (no regular files)",)
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(UserError, match=r"pipe\.parquet' is neither a folder nor a regular file"):
        opened("pipe.parquet")


def test_a_file_where_a_decoded_data_set_should_lie_gives_way(tmp_path, opened):
    write(tmp_path / "data", pixels(4, 4))
    found = opened()
    entry = tmp_path / "cache" / found.fingerprint
    entry.rename(tmp_path / "elsewhere")
    entry.write_text("in the way")
    assert np.array_equal(opened().train_images, found.train_images)
