"""Awkward inputs: each gives the right value or one line that names it, in bounded time, with nothing written."""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raytransfer.errors import UserError
from raytransfer.tasks import DataSource, open_dataset
from raytransfer.tasks.folder import FolderSource
from tests.bad_input.commands import call

CLASSES = "ab"


def image(path, seed=0, size=(6, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)).save(path)


def folders(root, *names, classes=CLASSES, count=2):
    """Folders of class folders of images."""
    for part, name in enumerate(names):
        for k, c in enumerate(classes):
            for i in range(count):
                image(root / name / c / f"{i}.png", seed=100 * part + 10 * k + i)


def table(root, *names, rows=8):
    """Parquet files of images of two classes."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        images = []
        for i in range(rows):
            buffer = io.BytesIO()
            Image.fromarray(np.full((4, 4), (len(name) + 16 * i) % 256, dtype=np.uint8)).save(buffer, "PNG")
            images.append(buffer.getvalue())
        columns = {"image": pa.array(images, pa.binary()), "label": pa.array([i % 2 for i in range(rows)])}
        pq.write_table(pa.table(columns), root / name)


def opened(root):
    return open_dataset(DataSource(data=str(root), data_dir=str(root / "none"), cache_dir=str(root.parent / "cache")))


PARTS = [
    # names of folders, or of Parquet files; which is the training and which the test part; what is set aside
    (("train", "test"), "train", "test", None),
    (("Train", "Test"), "Train", "Test", None),
    (("TRAIN", "VAL"), "TRAIN", "VAL", None),
    (("training", "testing"), "training", "testing", None),
    (("training_set", "test_set"), "training_set", "test_set", None),
    (("trainval", "test"), "trainval", "test", None),
    (("train", "dev"), "train", "dev", None),
    (("train", "eval"), "train", "eval", None),
    (("train", "holdout"), "train", "holdout", None),
    (("train2017", "val2017"), "train2017", "val2017", None),
    (("cats-train", "cats-test"), "cats-train", "cats-test", None),
    (("train", "valid", "test"), "train", "test", "valid"),
    (("train", "validation", "test"), "train", "test", "validation"),
]


@pytest.mark.parametrize(("names", "train", "test", "aside"), PARTS, ids=lambda value: str(value))
@pytest.mark.parametrize("kind", ["folders", "Parquet", "Parquet in folders"])
def test_parts_are_known_by_their_usual_names(tmp_path, kind, names, train, test, aside):
    root = tmp_path / "data"
    if kind == "folders":
        folders(root, *names)
    else:
        table(root, *(f"{name}.parquet" if kind == "Parquet" else f"{name}/0000.parquet" for name in names))
    found = opened(root)
    assert found.contents.train.startswith(train)
    assert found.contents.test.startswith(test)
    assert bool(found.contents.left_out) == (aside is not None)
    assert all(entry.startswith(aside) for entry in found.contents.left_out)
    assert len(found.train_labels) == len(found.test_labels) == (4 if kind == "folders" else 8)


REFUSED = [
    (lambda root: folders(root, "test"), "test, which may be parts|test and no training part"),
    (lambda root: folders(root, "train", "extra"), "data/extra is of no part of the data set, though train beside it"),
    (lambda root: folders(root, "Train", "training"), r"several parts that could be meant \(train, training\)"),
    (lambda root: folders(root, "train", "Train"), "several folders for one part, Train, train"),
    (lambda root: folders(root, "train", "dev", "val"), r"several parts that could be meant \(dev, val\)"),
    (lambda root: folders(root, "train_test", "b"), "train_test is named like several parts"),
    (lambda root: folders(root, ".", classes=["train", "test"]), "train, which may be parts of a data set or classes"),
    (lambda root: table(root, "test.parquet"), "has test.parquet and no training part"),
    (lambda root: table(root, "mytrain.parquet", "mytest.parquet"), "mytest.parquet has a name that may or may not"),
    (lambda root: table(root, "train.parquet", "extra.parquet"), "extra.parquet is of no part .* train.parquet beside"),
    (lambda root: table(root, "train.parquet", "trainval.parquet"), "several parts that could be meant"),
    (lambda root: table(root, "train-00000-of-00003-3a1b2c3d.parquet"), "is one of 3 shards, and some of them are"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_be_placed_is_refused_by_its_name(tmp_path, make, message):
    make(tmp_path / "data")
    with pytest.raises(UserError, match=message) as error:
        opened(tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_a_class_may_have_the_name_of_a_part(tmp_path):
    folders(tmp_path / "data", ".", classes=["car", "train"])
    assert opened(tmp_path / "data").class_names == ("car", "train")


def test_files_without_a_part_in_their_names_are_one_part(tmp_path):
    table(tmp_path / "data", "0000.parquet", "0001.parquet")
    found = opened(tmp_path / "data")
    assert found.contents.train == "0000.parquet, 0001.parquet"
    assert found.contents.test.startswith("a fixed half")
    assert len(found.train_labels) == len(found.test_labels) == 8


def link(path, to):
    path.symlink_to(to, target_is_directory=True)


def store(path):
    path.mkdir(parents=True)
    (path / "store.json").write_text("{}")
    image(path / "sweeps" / "lines.png")


SWALLOWED = {
    "a checkpoint of Jupyter": (lambda a: image(a / ".ipynb_checkpoints" / "0-checkpoint.png"), "hidden"),
    "thumbnails": (lambda a: image(a / "@eaDir" / "0.png" / "SYNOPHOTO_THUMB_M.jpg"), "made by tools"),
    "a resource fork": (lambda a: image(a / "__MACOSX" / "0.png"), "made by tools"),
    "a store": (lambda a: store(a / "results"), "results of sweeps"),
    "a link to itself": (lambda a: link(a / "loop", a.resolve()), "links to what is read elsewhere"),
    "a link upwards": (lambda a: link(a / "up", ".."), "links to what is read elsewhere"),
    "a link to another class": (
        lambda a: link(a / "more", a.parent.resolve() / "b"),
        "links to what is read elsewhere",
    ),
    "a pipe": (lambda a: os.mkfifo(a / "pipe.png"), "no regular files"),
    "a link to nothing": (lambda a: (a / "gone.png").symlink_to("nowhere.png"), "no regular files"),
}


@pytest.mark.parametrize("part", ["train", "."])
@pytest.mark.parametrize("case", SWALLOWED)
def test_what_lies_in_a_class_and_is_no_image_of_it_is_passed_over_and_said(tmp_path, case, part):
    root = tmp_path / "data"
    folders(root, *(["train", "test"] if part == "train" else ["."]), count=4)
    make, why = SWALLOWED[case]
    make(root / part / "a")
    found = opened(root)
    assert len(found.train_labels) + len(found.test_labels) == (16 if part == "train" else 8)
    (entry,) = found.contents.left_out
    assert f"({why})" in entry


@pytest.mark.parametrize("name", [".git", "@eaDir", "lost+found", "results"])
def test_what_lies_beside_the_classes_is_no_class(tmp_path, name):
    root = tmp_path / "data"
    folders(root, ".")
    if name == "results":
        store(root / name)
    else:
        image(root / name / "x.png")
    found = opened(root)
    assert found.class_names == ("a", "b")
    assert found.contents.left_out[0].startswith(name)


UNCLEAR = [
    (lambda root: folders(root, "mytrain", "mytest"), "mytest has a name that may or may not say a part"),
    (lambda root: folders(root, "TrainImages", "TestImages"), "TestImages has a name that may or may not say a part"),
    (
        lambda root: folders(root, "north", "south"),
        "north, .*south all hold the folders a, b, which may be the classes",
    ),
    (lambda root: folders(root, "cat", "dog", classes=["train", "test"]), "cat/test .* lies in what would be a class"),
    (
        lambda root: (folders(root, "."), image(root / "test" / "0.png")),
        "test may be a part of a data set or a class like a beside it",
    ),
    (
        lambda root: (folders(root, "train"), link(root / "test", "train")),
        "test/a is a link to a folder that is read already",
    ),
    (
        lambda root: table(root, "train.parquet", "test/0000.parquet"),
        "Parquet files at several places, train.parquet and test/0000.parquet",
    ),
    (lambda root: table(root, "train.parquet", "data/test.parquet"), "train.parquet and data/test.parquet"),
    (
        lambda root: (table(root, "x.parquet"), folders(root, ".")),
        r"Parquet files \(x.parquet\) and folders of images \(a, b\)",
    ),
    (
        lambda root: (table(root, "train/0000.parquet"), folders(root, "test")),
        r"Parquet files \(train/0000.parquet\) and folders of images \(test\)",
    ),
    (lambda root: table(root, "train/0000.parquet", "extra/0000.parquet"), "data/extra is of no part"),
    (lambda root: table(root, "train/test.parquet", "test/0000.parquet"), "train/test.parquet is named like another"),
    (lambda root: table(root, "train/0000.parquet", "train/0002.parquet"), "holds 0002.parquet, and not each number"),
    (
        lambda root: table(root, "train-00000-of-00002-aa.parquet", "train-00000-of-00002-bb.parquet"),
        "00002-aa.parquet and .*00002-bb.parquet are of two sets of shards",
    ),
    (
        lambda root: table(root, "train-00000-of-00002.parquet", "train-00001-of-00003.parquet"),
        "of-00002.parquet and .*of-00003.parquet are of two sets of shards",
    ),
    (lambda root: store(root), "is a store of results, not a data set"),
]


@pytest.mark.parametrize(("make", "message"), UNCLEAR)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path, make, message):
    make(tmp_path / "data")
    with pytest.raises(UserError, match=message) as error:
        opened(tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_the_way_out_for_classes_that_look_like_parts(tmp_path):
    folders(tmp_path / "data" / "train", "north", "south")
    assert opened(tmp_path / "data").class_names == ("north", "south")


@pytest.mark.parametrize("target", ["../b/sub", "../../..", "../../test/b", "../../test", "../../.kept"])
def test_a_link_in_a_class_brings_in_no_images_of_others(tmp_path, target):
    root = tmp_path / "data"
    folders(root, "train", "test")
    image(root / "train" / "b" / "sub" / "9.png", seed=9)
    image(root / ".kept" / "9.png", seed=10)
    image(tmp_path / "another" / "9.png", seed=11)
    link(root / "train" / "a" / "l", target)
    found = opened(root)
    assert np.bincount(found.train_labels).tolist() == [2, 3]
    assert np.bincount(found.test_labels).tolist() == [2, 2]
    assert "train/a/l (links to what is read elsewhere)" in found.contents.left_out


def test_classes_may_be_links_to_folders_elsewhere(tmp_path):
    folders(tmp_path / "elsewhere", "x", "y")
    image(tmp_path / "elsewhere" / "x" / "b" / "sub" / "9.png", seed=9)
    link(tmp_path / "elsewhere" / "x" / "a" / "l", "../b/sub")
    for part, real in (("train", "x"), ("test", "y")):
        (tmp_path / "data" / part).mkdir(parents=True)
        for c in CLASSES:
            link(tmp_path / "data" / part / c, tmp_path / "elsewhere" / real / c)
    found = opened(tmp_path / "data")
    assert np.bincount(found.train_labels).tolist() == [2, 3]


def test_stores_in_a_folder_of_results_are_no_class(tmp_path):
    root = tmp_path / "data"
    folders(root, ".")
    store(root / "results" / "digits")
    found = opened(root)
    assert found.class_names == ("a", "b")
    assert found.contents.left_out == ("results (results of sweeps)",)


def test_files_in_a_class_that_are_no_images_are_said(tmp_path):
    folders(tmp_path / "data", ".")
    (tmp_path / "data" / "a" / "7.heic").write_text("an image of a kind that is not read")
    (tmp_path / "data" / "a" / "._0.png").write_text("half of a file of another system")
    image(tmp_path / "data" / "loose.png")
    assert set(opened(tmp_path / "data").contents.left_out) == {
        "a/7.heic (no images by their names)",
        "a/._0.png (hidden)",
        "loose.png (images beside the class folders)",
    }


@pytest.mark.parametrize("name", ["train/c", "test"])
def test_a_class_or_part_on_a_disk_that_is_not_there_is_said(tmp_path, name):
    root = tmp_path / "data"
    folders(root, "train")
    link(root / name, tmp_path / "gone")
    assert opened(root).contents.left_out == (f"{name} (links to nothing)",)


UNREAD = {
    "a file of another ending": (lambda root: (table(root, "train.parquet"), table(root, "test.pq")), "test.pq"),
    "a link to nothing": (
        lambda root: (table(root, "data/train.parquet"), link(root / "data" / "test.parquet", "gone.parquet")),
        "data/test.parquet",
    ),
    "a folder without any": (
        lambda root: (table(root, "train.parquet"), (root / "test").mkdir(), (root / "test" / "0.arrow").touch()),
        "test",
    ),
    "an archive": (lambda root: (folders(root, "train"), (root / "test.zip").touch()), "test.zip"),
    "lists": (
        lambda root: (folders(root, "."), [(root / f"{part}.txt").touch() for part in ("train", "test")]),
        "test.txt, train.txt",
    ),
}


@pytest.mark.parametrize("case", UNREAD)
def test_what_is_named_like_a_part_and_is_not_read_is_said(tmp_path, case):
    make, names = UNREAD[case]
    root = tmp_path / "data"
    make(root)
    (root / "README.md").touch()
    found = opened(root)
    assert found.contents.test.startswith("a fixed half")
    assert found.contents.left_out == (f"{names} (named like a part of the data set, and not read)",)


def test_a_file_that_is_named_is_the_data_set_whatever_lies_beside_it(tmp_path):
    table(tmp_path / "data", "train.parquet", "test.parquet")
    assert opened(tmp_path / "data" / "train.parquet").contents.left_out == ()


def test_what_was_decoded_as_classes_is_not_taken_for_the_parts_it_is(tmp_path):
    root = tmp_path / "data"
    folders(root, "Train", "Val")
    source = FolderSource(root)
    as_parts = source.identity()
    source.n_train = None  # as these folders were read when their names said nothing
    assert source.identity() != as_parts


def test_the_ending_of_parquet_files_may_be_in_capitals(tmp_path):
    table(tmp_path / "data", "TRAIN.PARQUET", "TEST.PARQUET")
    assert opened(tmp_path / "data").contents.test == "TEST.PARQUET"


def test_a_link_to_images_elsewhere_is_followed(tmp_path):
    folders(tmp_path / "data", ".")
    image(tmp_path / "elsewhere" / "9.png", seed=7)
    link(tmp_path / "data" / "a" / "more", tmp_path / "elsewhere")
    found = opened(tmp_path / "data")
    assert np.bincount(np.concatenate([found.train_labels, found.test_labels])).tolist() == [3, 2]
    assert found.contents.left_out == ()


def test_two_class_folders_that_are_one_are_refused(tmp_path):
    folders(tmp_path / "data", ".")
    link(tmp_path / "data" / "c", "a")
    with pytest.raises(UserError, match=r"class folder .*/c is a link to a folder that is read already"):
        opened(tmp_path / "data")


def test_folders_of_notes_beside_the_parts_are_said(tmp_path):
    root = tmp_path / "data"
    folders(root, "train", "test")
    (root / "annotations").mkdir()
    (root / "annotations" / "readme.txt").write_text("none of ours")
    assert opened(root).contents.left_out == ("annotations (no images)",)


def test_the_plan_says_what_is_used_for_what(tmp_path):
    root = tmp_path / "data"
    folders(root, "Train", "val", "test", classes="abcd", count=3)
    image(root / "Train" / "a" / ".thumbs" / "0.png")
    options = [f"data={root}", "recipe.steps=2", "recipe.warmup_steps=0", "n_layers=[7]", "seeds=1", "splits=1"]
    code, printed, error = call(
        "plan", "yosinski", *options, "image_size_px=8", folder=tmp_path, cache=tmp_path / "cache"
    )
    assert code == 0, error
    assert "data: 12 training and 12 test images of 4 classes, 8 x 8 pixels, grey" in printed
    assert "training: Train/; test: test/" in printed
    assert "left out: val/ (a held-out part beside the test part)" in printed
    assert "left out: Train/a/.thumbs (hidden)" in printed
