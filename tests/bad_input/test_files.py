"""Images and Parquet files as they come: each is read rightly, or refused in one line with nothing in the cache."""

import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raytransfer.errors import UserError
from tests.bad_input.test_data import folders, opened


def encoded(mode="L", kind="PNG", size=(6, 6), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256) if mode == "I;16" else Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(buffer, kind)
    return buffer.getvalue()


def animated(seed):
    frames = [Image.fromarray(np.full((6, 6), 40 * k + seed, dtype=np.uint8)) for k in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def bomb():
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def put(root, name, content):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


READ = [
    ("P", "PNG", 3),
    ("LA", "PNG", 1),
    ("RGBA", "PNG", 3),
    ("1", "PNG", 1),
    ("L", "JPEG", 1),
    ("CMYK", "JPEG", 3),
    ("YCbCr", "JPEG", 3),
    ("L", "GIF", 3),
    ("RGB", "BMP", 3),
    ("RGB", "TIFF", 3),
    ("LAB", "TIFF", 3),
    ("RGB", "WEBP", 3),
]


@pytest.mark.parametrize(("mode", "kind", "channels"), READ)
def test_kinds_of_images_that_are_read(tmp_path, mode, kind, channels):
    for i in range(8):
        put(tmp_path / "data", f"{'ab'[i % 2]}/{i}.{kind.lower()}", encoded(mode, kind, seed=i))
    found = opened(tmp_path / "data")
    assert found.train_images.shape == (4, channels, 6, 6)
    assert len(found.test_labels) == 4
    assert len(np.unique(found.train_images.reshape(4, -1), axis=0)) == 4


def test_the_first_frame_of_an_animation_is_the_image(tmp_path):
    for i in range(8):
        put(tmp_path / "data", f"{'ab'[i % 2]}/{i}.gif", animated(i))
    found = opened(tmp_path / "data")
    assert set(found.train_images.max(axis=(1, 2, 3)).tolist()) <= set(range(8))


ODD = [
    ("what follows an image is left", lambda r: put(r, "a/9.png", encoded() + b"more"), (3, 1)),
    ("another ending than its kind", lambda r: put(r, "a/9.jpg", encoded()), (3, 1)),
    ("an ending in capitals", lambda r: put(r, "a/9.PNG", encoded()), (3, 1)),
    ("one of colour makes all of colour", lambda r: put(r, "a/9.png", encoded("RGB")), (3, 3)),
    ("a folder named like an image", lambda r: (r / "a" / "9.png").mkdir(), (2, 1)),
]


@pytest.mark.parametrize(("make", "shape"), [case[1:] for case in ODD], ids=[case[0] for case in ODD])
def test_odd_files_that_have_a_right_reading(tmp_path, make, shape):
    folders(tmp_path / "data", ".")
    make(tmp_path / "data")
    assert opened(tmp_path / "data").train_images.shape == (*shape, 6, 6)


@pytest.mark.parametrize(
    "names", [["ü ñ", "b"], ["a'b", 'c"d'], ["$x$", "%s"], ["a,b", "[c]"], ["0", "00"], ["a", "A"]]
)
def test_classes_of_odd_names(tmp_path, names):
    folders(tmp_path / "data", ".", classes=names)
    assert opened(tmp_path / "data").class_names == tuple(sorted(names))


REFUSED_IMAGES = [
    (lambda r: put(r, "a/9.png", b""), "a/9.png is not a readable image"),
    (lambda r: put(r, "a/9.png", b"hello"), "a/9.png is not a readable image"),
    (lambda r: put(r, "a/9.png", encoded()[:60]), "a/9.png is not a readable image"),
    (lambda r: put(r, "a/9.jpg", b"<html>404</html>"), "a/9.jpg is not a readable image"),
    (lambda r: put(r, "a/9.png", encoded(size=(5, 6))), "images of differing size need image_size_px"),
    (lambda r: put(r, "a/9.png", bomb()), "9.png .*pixels"),
    (lambda r: put(r, "a/9.png", encoded("I;16")), "has pixels of mode I;16: only 8-bit"),
    (lambda r: put(r, "a/9.tiff", encoded("F", "TIFF")), "has pixels of mode F: only 8-bit"),
    (lambda r: put(r, "a/9.tiff", encoded("I", "TIFF")), "has pixels of mode I: only 8-bit"),
    (lambda r: (r / "c").mkdir(), "class folder .*/c holds no images"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED_IMAGES)
def test_images_that_are_refused(tmp_path, make, message):
    folders(tmp_path / "data", ".")
    make(tmp_path / "data")
    refused(tmp_path, message)


REFUSED_FOLDERS = [
    (lambda r: None, "does not exist: there is no"),
    (lambda r: r.mkdir(), "holds 0 class folders, no Parquet files"),
    (lambda r: r.write_text("x"), "is not a readable Parquet file"),
    (
        lambda r: put(r, "train/data-0.arrow", b""),
        r"train/data-0.arrow': Arrow, .* is not read: write ds\[",
    ),
    (lambda r: put(r, "images.npz", b""), "images.npz': arrays are not read: write"),
    (lambda r: put(r, "birds.zip", b""), "birds.zip': an archive is not read: unpack it, and give the folder"),
    (
        lambda r: [put(r, f"{part}/{name}/0.dcm", b"") for part in ("train", "test") for name in "ab"],
        r"data holds no images \(\.png .*\) in its folders test, train",
    ),
    (
        lambda r: folders(r / "birds", "train", "test"),
        "holds 1 class folder, .*; if .*data/birds is the data set, give",
    ),
    (lambda r: table(r / "plain", x=[1]), "holds 1 class folder, .*; if .*data/plain is the data set, give its path"),
    (
        lambda r: (put(r, "images/1.png", b""), put(r, "labels.CSV", b"")),
        "labels.CSV': a table of labels is not read: put",
    ),
    (lambda r: folders(r, ".", classes="a"), "a folder of at least 2 classes"),
    (lambda r: folders(r, ".", count=1), "has 0 test images: every class needs at least 1"),
    (lambda r: (folders(r, "train", classes="abc"), folders(r, "test")), "lacks class folders that .* has: c"),
    (lambda r: (folders(r, "train"), folders(r, "test", classes="abc")), "lacks class folders that .* has: c"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED_FOLDERS)
def test_folders_that_are_refused(tmp_path, make, message):
    make(tmp_path / "data")
    refused(tmp_path, message)


IMAGES = [encoded(size=(4, 4), seed=i) for i in range(8)]
LABELS = [i % 2 for i in range(8)]


def table(root, name="x.parquet", **columns):
    root.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table(columns), root / name)


TABLES = [
    {"image": IMAGES, "label": LABELS},
    {"image": [{"bytes": image, "path": None} for image in IMAGES], "label": LABELS},
    {"image": pa.array(IMAGES, pa.large_binary()), "label": LABELS},
    {"image": IMAGES, "label": pa.array(LABELS, pa.uint8())},
    {"image": IMAGES, "label": [10**12 * label for label in LABELS]},
    {"image": IMAGES, "label": LABELS, "split": ["x"] * 8},
]


@pytest.mark.parametrize("columns", TABLES)
def test_tables_that_are_read(tmp_path, columns):
    table(tmp_path / "data", **columns)
    found = opened(tmp_path / "data")
    assert found.train_images.shape == (4, 1, 4, 4)
    assert np.bincount(found.train_labels).tolist() == np.bincount(found.test_labels).tolist() == [2, 2]


def cut(root, size):
    table(root, image=IMAGES, label=LABELS)
    (root / "x.parquet").write_bytes((root / "x.parquet").read_bytes()[:size])


NO_LABELS = "has no column of whole numbers for the labels"
NO_IMAGES = "exactly one column of bytes, or of struct<bytes, path>, must hold the images"
REFUSED_TABLES = [
    (lambda r: table(r, image=IMAGES, label=[str(label) for label in LABELS]), NO_LABELS),
    (lambda r: table(r, image=IMAGES, label=[float(label) for label in LABELS]), NO_LABELS),
    (lambda r: table(r, image=IMAGES, label=[bool(label) for label in LABELS]), NO_LABELS),
    (lambda r: table(r, image=IMAGES, label=[[label] for label in LABELS]), NO_LABELS),
    (lambda r: table(r, image=IMAGES, label=pa.array(LABELS, pa.date32())), NO_LABELS),
    (lambda r: table(r, image=IMAGES), NO_LABELS),
    (lambda r: table(r, image=IMAGES, label=[None, *LABELS[1:]]), r"row 0 \(from 0\) has no label in column 'label'"),
    (lambda r: table(r, image=IMAGES, label=[-1, *LABELS[1:]]), "class '-1' of data has 0 test images"),
    (
        lambda r: table(r, image=IMAGES, label=pa.array([2**64 - 1, *LABELS[1:]], pa.uint64())),
        r"row 0 \(from 0\) has label 18446744073709551615, which is larger than any label can be",
    ),
    (
        lambda r: table(r, image=[b"no image", *IMAGES[1:]], label=LABELS),
        "is not a readable image: its bytes are of no known kind of image",
    ),
    (lambda r: table(r, image=IMAGES, label=[0] * 8), "images of 1 class"),
    (
        lambda r: table(r, image=IMAGES, fine=LABELS, coarse=LABELS),
        "several label columns: choose one with label_column",
    ),
    (lambda r: table(r, label=LABELS), NO_IMAGES),
    (lambda r: table(r, image=["a.png"] * 8, label=LABELS), NO_IMAGES),
    (lambda r: table(r, image=[[0] * 16] * 8, label=LABELS), NO_IMAGES),
    (lambda r: table(r, image=IMAGES, other=IMAGES, label=LABELS), NO_IMAGES),
    (lambda r: table(r, image=[{"bytes": None, "path": "a.png"}] * 8, label=LABELS), NO_IMAGES),
    (lambda r: table(r, image=[None, *IMAGES[1:]], label=LABELS), r"row 0 \(from 0\) has no image bytes"),
    (
        lambda r: table(r, image=[IMAGES[0][:40], *IMAGES[1:]], label=LABELS),
        r"row 0 \(from 0\) is not a readable image",
    ),
    (lambda r: table(r, image=[b"", *IMAGES[1:]], label=LABELS), r"row 0 \(from 0\) is not a readable image"),
    (lambda r: table(r, image=pa.array([], pa.binary()), label=pa.array([], pa.int64())), "holds no rows"),
    (lambda r: cut(r, 200), "is not a readable Parquet file"),
    (lambda r: put(r, "x.parquet", b"hello"), "is not a readable Parquet file"),
    (lambda r: put(r, "x.parquet", b""), "is not a readable Parquet file"),
    (lambda r: (r / "x.parquet").mkdir(parents=True), "holds 1 class folder"),
    (
        lambda r: (
            table(r, "train.parquet", image=IMAGES, label=LABELS),
            table(r, "test.parquet", image=IMAGES, y=LABELS),
        ),
        "test.parquet has no label_column 'label'",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED_TABLES)
def test_tables_that_are_refused(tmp_path, make, message):
    make(tmp_path / "data")
    refused(tmp_path, message)


def refused(tmp_path, message):
    """Refused in one line, with nothing of it kept."""
    with pytest.raises(UserError, match=message) as error:
        opened(tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.npy"))
