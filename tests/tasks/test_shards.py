"""Tar shards: the same images as in a folder, held either way, and what is refused of them."""

import gzip
import io
import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from raytransfer.errors import UserError
from raytransfer.tasks import DataSource, making, open_dataset, open_fingerprint
from raytransfer.tasks.folder import FolderSource
from raytransfer.tasks.shards import ShardSource
from raytransfer.tasks.sources import find_source
from tests.tasks.test_streamed import every, pictures, write_folder

IMAGE = next(pictures("train", 0, 1))[1]


def tar(path, *members, **options):
    """A tar of (name, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as out:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))


def samples(part, labels, count=10, number=0, text="c{}"):
    """The members of samples, in the order in which a folder of the same images has them."""
    for label in labels:
        for i, (ending, content) in enumerate(pictures(part, label, count)):
            key = f"{label}/{number:03}-{i:03}"
            yield from ((f"{key}.{ending}", content), (f"{key}.cls", text.format(label).encode()))


def write_shards(path, parts=("train", "test"), count=10, classes=3, **kinds):
    for part in parts:
        for label in range(classes):
            tar(path / f"{part}-{label:06}.tar", *samples(part, [label], count, **kinds))


def source(tmp_path, decoded="stream", **options):
    options = {"data": str(tmp_path / "x"), "image_size_px": 8, **options}
    return DataSource(data_dir=str(tmp_path), cache_dir=str(tmp_path / f"cache {decoded}"), decoded=decoded, **options)


def test_shards_hold_the_images_of_a_folder_to_the_bit_however_they_are_held(tmp_path):
    write_folder(tmp_path / "folder" / "x")
    write_shards(tmp_path / "x")
    expected = open_dataset(source(tmp_path, data=str(tmp_path / "folder" / "x")))
    for decoded in ("cache", "stream"):
        found = open_dataset(source(tmp_path, decoded))
        assert found.streamed == (decoded == "stream")
        assert found.fingerprint == expected.fingerprint
        assert found.class_names == expected.class_names == ("c0", "c1", "c2")
        for name in ("train", "test"):
            assert np.array_equal(getattr(found, f"{name}_labels"), getattr(expected, f"{name}_labels"))
            assert np.array_equal(every(getattr(found, f"{name}_images")), every(getattr(expected, f"{name}_images")))
        assert found.contents.train == "train-000000.tar, train-000001.tar, train-000002.tar"
        assert found.contents.test == "test-000000.tar, test-000001.tar, test-000002.tar"
        rows = np.random.default_rng(0).integers(0, 30, 50)
        assert np.array_equal(found.train_images[rows], expected.train_images[rows])


LAYOUTS = {
    "a file": (["x.tar"], "x.tar", None),
    "files of one part": (["a-0.tar", "a-1.tar"], "a-0.tar", None),
    "numbers from 1": (["a_1.tar", "a_2.tar", "a_3.tar"], "a_1.tar", None),
    "a number that is none of a run": (["cifar10.tar"], "cifar10.tar", None),
    "files of many, from 1": (["train-00001-of-00002.tar", "train-00002-of-00002.tar"], "train-00001", None),
    "files of many": (["train-00000-of-00002.tar", "train-00001-of-00002.TAR", "val-0.tar"], "train-0", "val-0"),
    "folders of parts": (["train/0.tar", "train/1.tar", "test/0.tar"], "train/0.tar", "test/0.tar"),
    "a folder data": (["data/train-0.tar", "data/test-0.tar"], "data/train-0", "data/test-0"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards_are_found_and_placed_by_their_names(tmp_path, layout):
    names, train, test = LAYOUTS[layout]
    for k, name in enumerate(names):
        tar(tmp_path / "x" / name, *samples("train", [0, 1], 2, number=k))
    path = tmp_path / "x" / names[0] if layout == "a file" else tmp_path / "x"
    found = find_source(source(tmp_path, data=str(path)))
    assert isinstance(found, ShardSource)
    assert found.count == 4 * len(names)
    assert found.contents().train.startswith(train)
    assert found.contents().test.startswith(test or "a fixed half")
    assert isinstance(find_source(source(tmp_path, data="x")), ShardSource)  # by its name under data_dir


LABELS = {
    "numbers, by size": (["10", "9\n", " 9"], {}, ("9", "10"), [1, 0, 0]),
    "names": (["b", "a b", "b"], {}, ("a b", "b"), [1, 0, 1]),
    "JSON": ([{"label": 3}, {"label": "3"}, {"label": 0, "x": []}], {}, ("0", "3"), [1, 1, 0]),
    "a field of JSON": ([{"label": 0, "f": "b"}, {"f": "a"}, {"f": "a"}], {"label_field": "f"}, ("a", "b"), [1, 0, 0]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_numbers_or_names_in_cls_or_json(tmp_path, kind):
    given, options, names, labels = LABELS[kind]
    members = []
    for i, label in enumerate(given):
        ending, content = (".cls", label) if isinstance(label, str) else (".json", json.dumps(label))
        members += [(f"./a.b/{i}.JPG", IMAGE), (f"./a.b/{i}{ending}", content.encode()), (f"./a.b/{i}.txt", b"left")]
    tar(tmp_path / "x.tar", ("__meta__", b""), ("d/._0.jpg", b"of a tool"), ("stats.json", b"[]"), *members)
    raw = ShardSource(tmp_path / "x.tar", options.get("label_field")).read()
    assert raw.class_names == names
    assert raw.labels.tolist() == labels
    assert raw.is_test is None
    assert [content for _, content in raw.images()] == [IMAGE] * 3
    assert next(raw.images())[0] == f"{tmp_path}/x.tar member ./a.b/0.JPG"


def test_a_list_beside_the_shards_names_the_classes(tmp_path):
    for part in ("train", "test"):
        tar(tmp_path / "x" / f"{part}.tar", *samples(part, [0, 2], 1, text="{}"), *samples(part, [1], 1, text="cat"))
    (tmp_path / "x" / "classnames.txt").write_text("dog\ncat\nn01440764\n")
    found = open_dataset(source(tmp_path))
    assert found.class_names == ("dog", "cat", "n01440764")
    assert found.train_labels.tolist() == [0, 2, 1]
    (tmp_path / "x" / "classnames.txt").write_text("dog\ncat\nwolf\n")  # it counts as the shards do
    assert open_dataset(source(tmp_path)).class_names == ("dog", "cat", "wolf")


def test_shards_of_images_of_one_size_are_looked_through_once(tmp_path, monkeypatch):
    for part in ("train", "test"):
        members = [[(f"{i}.jpg", IMAGE), (f"{i}.cls", b"%d" % (i % 2))] for i in range(4)]
        tar(tmp_path / "x" / f"{part}.tar", *(member for sample in members for member in sample))
    for decoded, bound in (("cache", 1.0), ("stream", 0.0)):
        auto = replace(source(tmp_path, decoded, cache_gb=bound, image_size_px=None), decoded="auto")
        first = open_dataset(auto)
        with monkeypatch.context() as patch:
            patch.setattr(ShardSource, "members", property(lambda self: pytest.fail("looked through again")))
            patch.setattr(ShardSource, "read", lambda self: pytest.fail("looked through again"))
            again = open_dataset(auto)
        assert again.streamed == first.streamed == (decoded == "stream")
        assert again.fingerprint == first.fingerprint


def test_a_large_set_is_known_by_names_and_sizes_of_all_images_and_looked_through_once(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "LARGE", 20)
    monkeypatch.setattr(making, "SAMPLE", 8)
    write_shards(tmp_path / "x")
    found = {}
    for decoded in ("cache", "stream"):
        found[decoded] = open_dataset(source(tmp_path, decoded))
        assert found[decoded].sample == 8
    assert found["cache"].fingerprint == found["stream"].fingerprint
    assert np.array_equal(every(found["stream"].train_images), found["cache"].train_images)
    with monkeypatch.context() as patch:
        patch.setattr(ShardSource, "members", property(lambda self: pytest.fail("looked through again")))
        for decoded, bound in (("cache", 1.0), ("stream", 0.0)):
            again = replace(source(tmp_path, decoded, cache_gb=bound), decoded="auto")
            assert open_dataset(again).streamed == (decoded == "stream")
    file = tmp_path / "x" / "test-000002.tar"
    size = file.stat().st_size
    content = list(samples("test", [2]))
    tar(file, *content[:-2], (content[-2][0], content[-2][1] + b"\0"), content[-1])
    assert file.stat().st_size == size  # the image is longer, and its shard has the same size
    assert open_dataset(source(tmp_path)).fingerprint != found["stream"].fingerprint


def hard_link(path):
    tar(path, ("0.jpg", IMAGE), ("0.cls", b"0"))
    with tarfile.open(path, "a") as out:
        info = tarfile.TarInfo("1.jpg")
        info.type, info.linkname = tarfile.LNKTYPE, "0.jpg"
        out.addfile(info)


def cut(path, size):
    """The first bytes of a tar of whose members each takes 1024, half of them its header."""
    tar(path, *((f"{i}.jpg", bytes(512)) for i in range(3)))
    path.write_bytes(path.read_bytes()[:size])


def two(path):
    tar(path, *samples("train", [0, 1], 3))
    path.write_bytes(path.read_bytes() * 2)


def one(path, *members):
    tar(path, ("0.jpg", IMAGE), *members)


def packed(path):
    path.parent.mkdir(parents=True)
    tar(path.parent / "y.tar", *samples("train", [0, 1], 3))
    path.write_bytes(gzip.compress((path.parent / "y.tar").read_bytes()))
    (path.parent / "y.tar").unlink()


def runs(path, *names):
    for name in names:
        tar(path.parent / name, *samples("train", [0, 1], 1))


REFUSED = {
    "a gap": (
        lambda t: runs(t, *(f"train-{i:06}.tar" for i in range(10) if i not in (4, 7))),
        r"train-000009\.tar is one of a numbered run, of which 4, 7 are missing in .*/x: numbers of shards run from",
    ),
    "a gap in a part": (
        lambda t: runs(t, "train/0.tar", "train/1.tar", "test/2.tar"),
        "of which 1 is missing in .*x",
    ),
    "twice": (
        lambda t: runs(t, "a-1.tar", "a-01.tar"),
        r"a-01\.tar and .*a-1\.tar are both number 1: remove",
    ),
    "of many": (lambda t: runs(t, "a-00000-of-00002.tar"), "is one of 2 shards, and some of them are missing"),
    "of many, from 1": (
        lambda t: runs(t, "a-2-of-3.tar", "a-3-of-3.tar"),
        "is one of 3 shards, and some of them are missing",
    ),
    "cut in an image": (lambda t: cut(t, 1800), r"x/0\.tar is not a whole tar file \(unexpected end of data\): get it"),
    "cut in a header": (
        lambda t: cut(t, 1124),
        r"0\.tar is not a whole tar .* no mark of its end .* byte 1024\)",
    ),
    "cut between members": (
        lambda t: cut(t, 1024),
        r"0\.tar is not a whole tar .* no mark of its end .* byte 1024\)",
    ),
    "empty": (lambda t: cut(t, 0), r"0\.tar is not a whole tar file \(empty file\)"),
    "no tar": (lambda t: (runs(t, "0.tar"), t.write_bytes(b"no" * 600)), r"0\.tar is not a whole tar file \("),
    "two in one": (two, r"x/0\.tar goes on after its end: tars put together are not read whole"),
    "packed": (packed, r"x/0\.tar is compressed, so that no single image of it can be read: decompress it to \.tar"),
    "packed by name": (
        lambda t: (packed(t), t.rename(t.with_name("0.tar.gz"))),
        r"x/0\.tar\.gz is compressed, so that no single image",
    ),
    "a packed one beside": (
        lambda t: (packed(t), t.rename(t.with_name("1.tar.gz")), runs(t, "0.tar")),
        r"x/1\.tar\.gz is compressed",
    ),
    "no label": (
        lambda t: one(t, ("1.cls", b"0"), ("1.png", IMAGE)),
        r"0\.tar member 0\.jpg has no label: it takes 0\.cls, or 0\.json with a field label in the same shard",
    ),
    "no image": (lambda t: one(t, ("0.cls", b"0"), ("1.cls", b"0")), r"0\.tar has a label under key 1 and no image"),
    "no image that is read": (
        lambda t: one(t, ("0.cls", b"0"), ("1.heic", IMAGE), ("1.json", b'{"label": 1}'), ("2.json", b'{"of": "all"}')),
        r"0\.tar has a label under key 1 and no image",
    ),
    "two images": (
        lambda t: one(t, ("0.cls", b"0"), ("0.seg.png", IMAGE)),
        r"0\.tar has two images under key 0, 0\.jpg and 0\.seg\.png: the key is the name up to its first dot",
    ),
    "two labels": (lambda t: one(t, ("0.cls", b"0"), ("0.CLS", b"1")), r"0\.tar has two \.cls members under key 0"),
    "a link": (hard_link, r"0\.tar member 1\.jpg is no regular file: shards hold whole images and labels"),
    "no class": (
        lambda t: one(t, ("0.cls", b"-1")),
        r"0\.tar member 0\.jpg has label '-1' in 0\.cls, which is no class: a label is a whole number from 0 on or a",
    ),
    "an empty label": (lambda t: one(t, ("0.cls", b" \n")), r"has label ' \\n' in 0\.cls, which is no class"),
    "no text": (lambda t: one(t, ("0.cls", b"\xff\0")), r"has label b'\\xff\\x00' in 0\.cls, which is no class"),
    "a fraction": (
        lambda t: one(t, ("0.json", b'{"label": 0.5}')),
        r"has label 0\.5 in the field label of 0\.json, which is no class",
    ),
    "no field": (
        lambda t: one(t, ("0.json", b'{"caption": "a cat"}')),
        r"0\.json has no field 'label' for the label \(its fields: caption\): name one with label_column=",
    ),
    "no JSON": (lambda t: one(t, ("0.json", b"{")), r"0\.tar member 0\.json is not JSON"),
    "numbers and names": (
        lambda t: one(t, ("0.cls", b"0"), ("1.jpg", IMAGE), ("1.cls", b"cat")),
        r"member 0\.jpg has label 0, .*0\.tar member 1\.jpg 'cat': labels are all whole numbers or all class names, ",
    ),
    "not in the list": (
        lambda t: (one(t, ("0.cls", b"2")), t.with_name("classnames.txt").write_text("a\nb\n")),
        r"0\.jpg has label 2, which is no class: classnames\.txt beside the shards lists 2 classes, numbers 0\.\.1 or",
    ),
    "a list with a name twice": (
        lambda t: (one(t, ("0.cls", b"2")), t.with_name("classnames.txt").write_text("a\nb\na\n")),
        r"classnames\.txt line 3 is 'a': it names the classes 0, 1, \.\.\., one a line, each once",
    ),
    "a list that is no text": (
        lambda t: (one(t, ("0.cls", b"2")), t.with_name("classnames.txt").write_bytes(b"\xff\n")),
        r"classnames\.txt is no text: it must name the classes 0, 1, \.\.\., one a line",
    ),
    "one class": (lambda t: one(t, ("0.cls", b"0")), "x has images of 1 class: a data set needs at least 2"),
    "a class of one part": (
        lambda t: (tar(t.with_name("train.tar"), *samples("train", [0, 1, 2], 1)), runs(t, "test.tar")),
        "class 'c2' of x has 0 test images: every class needs at least 1 training and 1 test image",
    ),
    "a part in doubt": (lambda t: runs(t, "train-0.tar", "extra-0.tar"), r"extra-0\.tar is of no part .* train-0\.tar"),
    "beside folders": (
        lambda t: (runs(t, "0.tar"), write_folder(t.parent)),
        r"holds tar shards \(0\.tar\) and folders of images \(test, train\): move one of the two elsewhere",
    ),
    "beside Parquet": (
        lambda t: (runs(t, "0.tar"), t.with_name("a.parquet").touch()),
        r"holds Parquet files \(a\.parquet\) and tar shards \(0\.tar\): move one of the two elsewhere",
    ),
    "a broken image": (
        lambda t: tar(t, *samples("train", [0, 1], 2), ("2.jpg", b"no image"), ("2.cls", b"c0")),
        r"x/0\.tar member 2\.jpg is not a readable image: its bytes are of no known kind of image$",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_by_its_name_in_one_line(tmp_path, case):
    make, message = REFUSED[case]
    make(tmp_path / "x" / "0.tar")
    for decoded in ("cache", "stream"):
        with pytest.raises(UserError, match=message) as error:
            open_dataset(source(tmp_path, decoded))
        assert "\n" not in str(error.value)
        assert not list((tmp_path / f"cache {decoded}").glob("[!i]*"))  # but for the index nothing is left


def test_archives_that_a_folder_of_images_came_in_are_no_shards(tmp_path):
    write_folder(tmp_path / "x", count=1)
    tar(tmp_path / "x" / "images.tar", ("c0/0.jpg", IMAGE))
    tar(tmp_path / "x" / "more.tar.gz", ("c0/0.jpg", IMAGE))
    assert isinstance(find_source(source(tmp_path)), FolderSource)
    shutil.rmtree(tmp_path / "x" / "train")
    shutil.rmtree(tmp_path / "x" / "test")
    with pytest.raises(UserError, match=r"x/more\.tar\.gz is compressed"):
        find_source(source(tmp_path))
    (tmp_path / "x" / "more.tar.gz").unlink()
    with pytest.raises(UserError, match=r"images\.tar member c0/0\.jpg has no label"):
        open_dataset(source(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.unlink(), r"train-000001\.tar was there when the data were opened, and is gone: data must"),
        (
            lambda file: tar(file, *samples("train", [1], 30)),
            r"train-000001\.tar had \d+ bytes when .* has \d+ now",
        ),
    ],
    ids=["gone", "longer"],
)
def test_a_shard_that_changes_under_the_sweep_is_told_by_its_name(tmp_path, change, message):
    write_shards(tmp_path / "x")
    first = open_dataset(source(tmp_path))
    change(tmp_path / "x" / "train-000001.tar")
    found = open_fingerprint(source(tmp_path), first.fingerprint)
    assert len(found.train_images[np.arange(10)]) == 10
    with pytest.raises(UserError, match=message):
        found.train_images[np.arange(5, 15)]
