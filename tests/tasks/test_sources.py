import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from raytransfer.errors import UserError
from raytransfer.tasks import DataSource, decode, open_dataset

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def source(tmp_path, data, **options):
    return DataSource(data=str(data), data_dir=str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"), **options)


def pixels(seed, size=6, colour=False):
    shape = (size, size, 3) if colour else (size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(array, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def write_folder(path, classes, per_class=2, first_seed=0):
    """Grey PNGs; the images by class, as they were written."""
    written = {}
    for c, name in enumerate(classes):
        (path / name).mkdir(parents=True, exist_ok=True)
        written[name] = [pixels(first_seed + 100 * c + i) for i in range(per_class)]
        for i, image in enumerate(written[name]):
            (path / name / f"{i}.png").write_bytes(png(image))
    return written


def write_parquet(path, images, labels, names=None, image="image", label="label", struct=True, more=()):
    """Rows of encoded images; ``names`` writes the metadata of the Hugging Face convention."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [{"bytes": value, "path": None} for value in images] if struct else images
    columns = {image: pa.array(values, STRUCT if struct else pa.binary()), label: pa.array(labels, pa.int64())}
    columns.update(more)
    table = pa.table(columns)
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": names}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=3)


def refused(source, message):
    with pytest.raises(UserError, match=message) as error:
        open_dataset(source)
    assert "\n" not in str(error.value)


# --- digits and torchvision -------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_with_a_stratified_half_as_test(tmp_path):
    digits = open_dataset(source(tmp_path, "digits"))
    original = load_digits()
    scaled = np.rint(original.images * 255 / 16).astype(np.uint8)
    assert digits.train_images.shape == (901, 1, 8, 8)
    assert digits.test_images.shape == (896, 1, 8, 8)
    found = {
        (image.tobytes(), int(label))
        for images, labels in ((digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels))
        for image, label in zip(images, labels, strict=True)
    }
    assert found == {(image.tobytes(), int(label)) for image, label in zip(scaled, original.target, strict=True)}
    counts = np.bincount(original.target)
    assert np.bincount(digits.test_labels).tolist() == (counts // 2).tolist()
    assert digits.channel_mean[0] == pytest.approx(digits.train_images.mean(), rel=1e-6)
    assert digits.channel_std[0] == pytest.approx(digits.train_images.std(), rel=1e-6)
    assert digits.channel_mean.dtype == digits.channel_std.dtype == np.float32
    # golden: other bytes here make every published digits result another task
    assert digits.fingerprint == "aad1ed69d4fa6d4d"


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_torchvisions_mnist_from_its_raw_files(tmp_path):
    digits = load_digits()
    images = np.kron(digits.images * 15, np.ones((1, 3, 3))).astype(np.uint8)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, rows in (("train", slice(0, 300)), ("t10k", slice(300, 450))):
        write_idx(raw / f"{stem}-images-idx3-ubyte", images[rows])
        write_idx(raw / f"{stem}-labels-idx1-ubyte", digits.target[rows])
    # torchvision's own folder of that name lies in data_dir, and is not taken for a folder of classes
    mnist = open_dataset(source(tmp_path, "MNIST"))
    assert mnist.name == "mnist"
    assert mnist.class_names[3] == "3 - three"
    assert np.array_equal(mnist.train_images[:, 0], images[:300])
    assert np.array_equal(mnist.test_images[:, 0], images[300:450])
    assert np.array_equal(mnist.test_labels, digits.target[300:450])


def test_torchvisions_fake_data_has_no_parts_and_is_resized(tmp_path):
    fake = open_dataset(source(tmp_path, "fakedata", image_size_px=8))
    assert len(fake.train_images) + len(fake.test_images) == 1000
    assert fake.train_images.shape[1:] == (3, 8, 8)
    assert np.abs(np.bincount(fake.train_labels) - np.bincount(fake.test_labels)).max() <= 1
    assert fake.class_names == tuple("0123456789")


def test_torchvision_sets_that_read_files_are_decoded_from_them(tmp_path):
    # torchvision reads EuroSAT's folder once it is there
    written = write_folder(tmp_path / "data" / "eurosat" / "2750", ["Forest", "River"], per_class=4)
    eurosat = open_dataset(source(tmp_path, "EuroSAT"))
    assert eurosat.class_names == ("Forest", "River")
    assert eurosat.train_images.shape == (4, 1, 6, 6)  # grey stays grey: decoding is ours
    every = {image.tobytes() for image in [*eurosat.train_images, *eurosat.test_images]}
    assert every == {image.tobytes() for images in written.values() for image in images}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("cifr10", r"unknown data set 'cifr10': did you mean cifar10[^?;]*\? data is digits, a path"),
        ("qqqqqq", "unknown data set 'qqqqqq'; data is digits, a path"),
        ("VOCDetection", "torchvision's vocdetection cannot be opened by name: it is not a set of whole images"),
        ("emnist", "torchvision's emnist cannot be opened by name"),
        ("ImageFolder", "torchvision's imagefolder cannot be opened by name"),
        ("no/such/folder", "data 'no/such/folder' does not exist: there is no /"),
        (" ", "data is empty"),
    ],
)
def test_what_is_no_data_set(tmp_path, data, message):
    refused(source(tmp_path, data), message)


def test_a_folder_that_is_named_without_its_slash_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "Cats", ["a", "b"], per_class=4)
    refused(source(tmp_path / "elsewhere", "Cats"), "unknown data set 'cats': did you mean ./Cats?")


def test_a_set_that_cannot_be_opened_says_what_to_do(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    refused(source(tmp_path, "cifar10"), r"torchvision cannot open CIFAR10 in data_dir .*; put its files there, or run")


def test_options_that_cannot_apply(tmp_path):
    refused(source(tmp_path, "digits", label_column="fine"), "label_column=fine is for Parquet files and tar shards")
    for size in (0, 11586):
        refused(source(tmp_path, "digits", image_size_px=size), rf"image_size_px is {size}: it must lie in 1\.\.11585")


# --- folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_a_folder_with_parts(tmp_path, test_name):
    path = tmp_path / "Bilder und Wörter ☂"
    train = write_folder(path / "train", ["über cat", "dog [1]"], 3)
    test = write_folder(path / test_name, ["über cat", "dog [1]"], 2, first_seed=1000)
    (path / "train" / "über cat" / "notes.txt").write_text("not an image")
    (path / "train" / ".hidden").mkdir()
    found = open_dataset(source(tmp_path, path))
    assert found.name == "bilder und wörter ☂"
    assert found.class_names == ("dog [1]", "über cat")
    assert np.array_equal(found.train_images[:, 0], train["dog [1]"] + train["über cat"])
    assert np.array_equal(found.test_images[:, 0], test["dog [1]"] + test["über cat"])
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_folder_without_parts_is_found_by_name_and_halved(tmp_path):
    write_folder(tmp_path / "data" / "pets", ["cat", "dog"], 5)
    found = open_dataset(source(tmp_path, "pets"))
    assert np.bincount(found.train_labels).tolist() == [3, 3]
    assert np.bincount(found.test_labels).tolist() == [2, 2]


def test_a_folder_named_by_a_part_of_data_dir_wins_over_a_known_name(tmp_path):
    write_folder(tmp_path / "data" / "digits", ["cat", "dog"], 2)
    assert open_dataset(source(tmp_path, "digits")).class_names == ("cat", "dog")


def test_images_in_folders_below_a_class_are_found(tmp_path):
    write_folder(tmp_path / "x" / "train" / "cat", ["images"], 2)
    write_folder(tmp_path / "x" / "train" / "dog", ["images", "more"], 2)
    assert len(open_dataset(source(tmp_path, tmp_path / "x")).train_images) == 1 + 2


def test_faulty_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(source(tmp_path, tmp_path / "empty"), "empty holds 0 class folders, no Parquet files")

    write_folder(tmp_path / "one", ["cat"])
    refused(source(tmp_path, tmp_path / "one"), "one holds 1 class folder, ")

    write_folder(tmp_path / "hollow", ["cat", "dog"])
    (tmp_path / "hollow" / "eel").mkdir()
    refused(source(tmp_path, tmp_path / "hollow"), r"class folder .*hollow/eel holds no images \(.png")

    write_folder(tmp_path / "uneven" / "train", ["cat", "dog", "eel"])
    write_folder(tmp_path / "uneven" / "test", ["cat", "dog"])
    refused(source(tmp_path, tmp_path / "uneven"), "uneven/test lacks class folders that .*uneven/train has: eel")

    write_folder(tmp_path / "single", ["cat", "dog"], per_class=1)
    refused(source(tmp_path, tmp_path / "single"), "class 'cat' of single has 0 test images")


@pytest.mark.parametrize("inner", ["dog", "."])
def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch, inner):
    write_folder(tmp_path / "x" / "train", ["cat", "dog"])
    forbidden = (tmp_path / "x" / "train" / inner).resolve()
    real = os.scandir, os.listdir

    def deny(function):
        def wrapped(path="."):
            if Path(path) == forbidden:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path)

        return wrapped

    # tests may run as a user whom no permission bits stop
    monkeypatch.setattr(os, "scandir", deny(real[0]))
    monkeypatch.setattr(os, "listdir", deny(real[1]))
    refused(source(tmp_path, tmp_path / "x"), "x' cannot be read: Permission denied: .*/x/train")


def test_a_folder_under_data_dir_that_is_no_data_set(tmp_path):
    write_folder(tmp_path / "data" / "Pets", ["cat"])
    refused(source(tmp_path, "Pets"), "data/Pets holds no Parquet files, no tar shards and not 2 folders of images")


def test_a_truncated_png_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "_CHUNK", 1)
    monkeypatch.setattr(decode, "THREADS", 1)  # so that there are more jobs than wait at once
    write_folder(tmp_path / "x", ["cat", "dog"], 4)
    for name in ("cat/1.png", "dog/2.png"):  # early, and among the last
        whole = (tmp_path / "x" / name).read_bytes()
        (tmp_path / "x" / name).write_bytes(whole[: len(whole) // 2])
        refused(source(tmp_path, tmp_path / "x"), f"x/{name} is not a readable image: ")
        (tmp_path / "x" / name).write_bytes(whole)
    (tmp_path / "x" / "dog" / "2.png").write_text("no image at all")
    refused(source(tmp_path, tmp_path / "x"), "x/dog/2.png is not a readable image: its bytes are of no known kind")
    assert not list((tmp_path / "cache").glob("partial*"))


def test_sixteen_bit_images_are_refused(tmp_path):
    write_folder(tmp_path / "x", ["cat", "dog"], 2)
    Image.fromarray(np.arange(36, dtype=np.uint16).reshape(6, 6)).save(tmp_path / "x" / "dog" / "1.png")
    refused(source(tmp_path, tmp_path / "x"), r"x/dog/1.png has pixels of mode I(;16)?: only 8-bit")


def test_images_of_differing_size_need_a_size(tmp_path):
    write_folder(tmp_path / "x", ["cat", "dog"], 2)
    wide = np.repeat(np.array([[0, 0, 90, 90, 90, 90, 0, 0]], np.uint8), 4, axis=0)
    (tmp_path / "x" / "dog" / "1.png").write_bytes(png(wide))
    refused(source(tmp_path, tmp_path / "x"), "x/dog/1.png is 4x8 pixels, the first image 6x6: .* need image_size_px")
    found = open_dataset(source(tmp_path, tmp_path / "x", image_size_px=4))
    assert found.train_images.shape[1:] == (1, 4, 4)
    every = [image[0] for image in [*found.train_images, *found.test_images]]
    assert any((image == 90).all() for image in every)  # the centre of the wide one, not squeezed


def test_one_colour_image_makes_all_colour(tmp_path):
    grey = write_folder(tmp_path / "x" / "train", ["cat", "dog"], 2)
    write_folder(tmp_path / "x" / "test", ["cat", "dog"], 20)
    colour = pixels(5, colour=True)
    (tmp_path / "x" / "test" / "dog" / "9.png").write_bytes(png(colour))
    found = open_dataset(source(tmp_path, tmp_path / "x"))
    assert found.train_images.shape == (4, 3, 6, 6)
    assert all(np.array_equal(found.train_images[0, c], grey["cat"][0]) for c in range(3))
    assert colour.transpose(2, 0, 1).tobytes() in {image.tobytes() for image in found.test_images}


# --- Parquet ----------------------------------------------------------------------------------------------------

NAMES = ["ape", "bee", "cow"]
LABELS = [0, 1, 2, 2, 1, 0, 0]
COLOURS = [pixels(i, colour=True) for i in range(7)]
PNGS = [png(image) for image in COLOURS]


def test_parquet_with_metadata_whatever_the_columns_are_called(tmp_path):
    more = {"weight": pa.array(range(7), pa.int64()), "mask": pa.array(PNGS, pa.binary())}
    write_parquet(tmp_path / "x" / "train.parquet", PNGS, LABELS, NAMES, "bild", "klasse", more=more)
    write_parquet(tmp_path / "x" / "test.parquet", PNGS[:3], LABELS[:3], NAMES, "bild", "klasse", more={})
    found = open_dataset(source(tmp_path, tmp_path / "x"))
    assert found.class_names == tuple(NAMES)
    assert found.train_labels.tolist() == LABELS
    assert np.array_equal(found.train_images, [image.transpose(2, 0, 1) for image in COLOURS])
    assert np.array_equal(found.test_images, found.train_images[:3])
    assert found.channel_mean == pytest.approx(np.mean(COLOURS, axis=(0, 1, 2)), rel=1e-6)
    assert found.channel_std == pytest.approx(np.std(COLOURS, axis=(0, 1, 2)), rel=1e-6)


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_without_metadata_under_data_dir(tmp_path, struct):
    folder = tmp_path / "data" / "zoo"
    write_parquet(folder / "train.parquet", PNGS, [5, 7, 5, 7, 5, 7, 9], struct=struct)
    write_parquet(folder / "validation.parquet", PNGS[:3], [5, 7, 9], struct=struct)
    found = open_dataset(source(tmp_path, "zoo"))
    assert found.name == "zoo"
    assert found.class_names == ("5", "7", "9")
    assert found.train_labels.tolist() == [0, 1, 0, 1, 0, 1, 2]
    assert found.test_labels.tolist() == [0, 1, 2]


def test_parquet_shards_are_read_in_order(tmp_path):
    folder = tmp_path / "x" / "data"
    write_parquet(folder / "train-00000-of-00002.parquet", PNGS[:4], LABELS[:4], NAMES)
    write_parquet(folder / "train-00001-of-00002.parquet", PNGS[4:], LABELS[4:], NAMES)
    write_parquet(folder / "test-00000-of-00001.parquet", PNGS[:3], LABELS[:3], NAMES)
    write_parquet(folder / "validation-00000-of-00001.parquet", PNGS, LABELS, NAMES)
    found = open_dataset(source(tmp_path, tmp_path / "x"))
    assert found.train_labels.tolist() == LABELS
    assert np.array_equal(found.train_images[5], COLOURS[5].transpose(2, 0, 1))
    assert len(found.test_images) == 3
    (folder / "train-00001-of-00002.parquet").unlink()
    refused(source(tmp_path, tmp_path / "x"), "train-00000-of-00002.parquet is one of 2 shards, and some of them are")


def test_one_parquet_file_is_halved_and_unused_class_names_left_out(tmp_path):
    path = tmp_path / "Some Ünicode.parquet"
    write_parquet(path, PNGS * 2, [0, 3] * 7, ["ape", "bee", "cow", "dog"])
    found = open_dataset(source(tmp_path, path))
    assert found.name == "some ünicode"
    assert found.class_names == ("ape", "dog")
    assert np.bincount(found.train_labels).tolist() == [4, 4]


def test_several_label_columns_must_be_chosen_from(tmp_path):
    path = tmp_path / "x.parquet"
    write_parquet(path, PNGS, LABELS, more={"coarse": pa.array([0, 0, 0, 1, 1, 1, 1], pa.int8())})
    refused(source(tmp_path, path), r"several label columns: choose one with label_column=label\|coarse")
    assert open_dataset(source(tmp_path, path, label_column="coarse")).class_names == ("0", "1")
    assert open_dataset(source(tmp_path, path, label_column="label")).class_names == ("0", "1", "2")
    refused(source(tmp_path, path, label_column="fine"), r"no label_column 'fine'; its columns are image \(struct")
    refused(source(tmp_path, path, label_column="image"), "label_column 'image' of .* holds struct")


@pytest.mark.parametrize(
    ("name", "values"),
    [("label", list("abcabca")), ("Classes", [[0, 1]] * 7), ("target", [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])],
)
def test_another_column_is_not_taken_for_labels_that_are_no_whole_numbers(tmp_path, name, values):
    path = tmp_path / "x.parquet"
    write_parquet(path, PNGS, [64, 32, 64, 32, 64, 32, 64], label="width", more={name: pa.array(values)})
    refused(
        source(tmp_path, path),
        rf"x.parquet has labels in column '{name}', by its name, which holds .*: labels are whole numbers; write them "
        "so, or choose label_column=width",
    )
    assert open_dataset(source(tmp_path, path, label_column="width")).class_names == ("32", "64")


def test_text_beside_whole_labels_is_left_alone(tmp_path):
    path = tmp_path / "x.parquet"
    write_parquet(path, PNGS, LABELS, more={"label_text": pa.array([NAMES[label] for label in LABELS])})
    assert open_dataset(source(tmp_path, path)).train_labels.shape == (4,)
    write_parquet(path, PNGS, LABELS, NAMES, label="klasse", more={"class": pa.array(["?"] * 7)})
    assert open_dataset(source(tmp_path, path)).class_names == tuple(NAMES)


def test_faulty_parquet(tmp_path):
    path = tmp_path / "x.parquet"

    def write(images=PNGS, labels=LABELS, names=NAMES, **options):
        write_parquet(path, images, labels, names, **options)
        return source(tmp_path, path)

    path.write_text("this is a text file")
    refused(source(tmp_path, path), "x.parquet is not a readable Parquet file: ")
    path.write_bytes(b"")
    refused(source(tmp_path, path), "x.parquet is not a readable Parquet file: ")
    refused(write([], []), "x.parquet holds no rows")
    refused(write(labels=[0, 1, None, 2, 1, 0, 0]), r"x.parquet row 2 \(from 0\) has no label in column 'label'")
    refused(write(labels=[0, 1, 2, 2, 3, 0, 0]), r"row 4 \(from 0\) has label 3: its 3 class names allow 0\.\.2")
    refused(write(labels=[0, 1, 2, 2, 1, 0, -1]), r"row 6 \(from 0\) has label -1")
    refused(write([*PNGS[:5], None, PNGS[6]]), r"row 5 \(from 0\) has no image bytes in column 'image'")
    refused(write([*PNGS[:5], PNGS[5][:60], PNGS[6]]), r"row 5 \(from 0\) is not a readable image")
    refused(write(labels=[1] * 7), "x has images of 1 class: a data set needs at least 2")
    refused(write(names=["ape", "bee", "ape"]), "x has several classes named ape")
    refused(write(names=None, more={"also": pa.array(PNGS, pa.binary())}), r"has 2 image columns \(image, also\)")
    pq.write_table(pa.table({"image": pa.array(PNGS, pa.binary()), "label": ["a"] * 7}), path)
    refused(
        source(tmp_path, path), r"no column of whole numbers for the labels; its columns are image \(binary\), label"
    )
    pq.write_table(pa.table({"label": LABELS}), path)
    refused(source(tmp_path, path), r"x.parquet has 0 image columns \(label\)")
    pq.write_table(pa.table({"image": [{"bytes": {"bytes": content}} for content in PNGS], "label": LABELS}), path)
    refused(source(tmp_path, path), r"x.parquet has 0 image columns \(image, label\)")


def test_parquet_parts_must_agree(tmp_path):
    write_parquet(tmp_path / "x" / "train.parquet", PNGS, LABELS, NAMES)
    write_parquet(tmp_path / "x" / "test.parquet", PNGS, LABELS, NAMES[::-1])
    refused(
        source(tmp_path, tmp_path / "x"), "test.parquet and .*train.parquet name the classes of 'label' differently"
    )
    write_parquet(tmp_path / "x" / "test.parquet", PNGS[:2], LABELS[:2], NAMES)
    refused(source(tmp_path, tmp_path / "x"), "class 'cow' of x has 0 test images")
    write_parquet(tmp_path / "x" / "test.parquet", PNGS, LABELS, NAMES, image="picture")
    refused(source(tmp_path, tmp_path / "x"), "test.parquet has no image column 'image'; its columns are picture")


def test_broken_metadata_are_as_good_as_none(tmp_path):
    table = pa.table({"image": pa.array(PNGS, pa.binary()), "label": [0, 1, 1, 0, 1, 0, 1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": "{not json"}), tmp_path / "x.parquet")
    assert open_dataset(source(tmp_path, tmp_path / "x.parquet")).class_names == ("0", "1")
