"""Images that are decoded as they are taken: the same bits as from the cache, and what becomes of bad ones."""

import io
import itertools
import os
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from raytransfer.commands.planning import contents
from raytransfer.errors import UserError
from raytransfer.specs import Recipe
from raytransfer.tasks import DataSource, load_task, making, open_dataset, open_fingerprint, sample_task, task_spec
from raytransfer.tasks import decode as decode_module
from raytransfer.tasks import streamed as streamed_module
from raytransfer.tasks.draws import stable_permutation
from raytransfer.tasks.threads import ahead
from raytransfer.training import DeviceData

MODES = ("RGB", "L", "P", "CMYK", "RGBA")
ENDINGS = {"RGB": "jpg", "L": "jpg", "P": "png", "CMYK": "jpg", "RGBA": "png"}


def pictures(part, label, count, modes=MODES, low=9, high=14):
    """Encoded images of many sizes and kinds, with their endings."""
    for i in range(count):
        rng = np.random.default_rng([len(part), label, i])
        height, width = rng.integers(low, high, 2)
        pixels = Image.fromarray(rng.integers(0, 256, (int(height), int(width), 3), dtype=np.uint8))
        mode, buffer = modes[i % len(modes)], io.BytesIO()
        pixels.convert(mode).save(buffer, "JPEG" if ENDINGS[mode] == "jpg" else "PNG")
        yield ENDINGS[mode], buffer.getvalue()


def write_folder(path, parts=("train", "test"), count=10, classes=3, **kinds):
    for part, label in itertools.product(parts, range(classes)):
        folder = path / part / f"c{label}"
        folder.mkdir(parents=True)
        for i, (ending, content) in enumerate(pictures(part, label, count, **kinds)):
            (folder / f"{i:02}.{ending}").write_bytes(content)


def write_parquet(path, count=10, classes=3, **kinds):
    path.mkdir()
    for part in ("train", "test"):
        rows = [(c, label) for label in range(classes) for _, c in pictures(part, label, count, **kinds)]
        images = pa.array([{"bytes": content, "path": None} for content, _ in rows])
        pq.write_table(
            pa.table({"image": images, "label": pa.array([label for _, label in rows])}),
            path / f"{part}-00000-of-00001.parquet",
            row_group_size=7,
        )


WRITERS = {"folder": write_folder, "parquet": write_parquet}


@pytest.fixture
def source(tmp_path):
    """A source of images, decoded as wanted, each way with a cache of its own."""

    def make(decoded, **options):
        options = {"data": str(tmp_path / "x"), "image_size_px": 8, **options}
        return DataSource(
            data_dir=str(tmp_path), cache_dir=str(tmp_path / f"cache {decoded}"), decoded=decoded, **options
        )

    return make


def recipe(**changes):
    return Recipe(**{"steps": 20, "batch_size": 7, "learning_rate": 0.1, **changes})


def every(images):
    return images[np.arange(len(images))]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": 1},
        {"interpolation": "bicubic", "image_size_px": 11},
        {"image_size_px": 20},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_streamed_images_are_those_of_the_cache_to_the_bit(tmp_path, source, kind, options):
    WRITERS[kind](tmp_path / "x")
    mapped, streamed = open_dataset(source("cache", **options)), open_dataset(source("stream", **options))
    assert (mapped.streamed, streamed.streamed) == (False, True)
    assert streamed.fingerprint == mapped.fingerprint
    assert streamed.class_names == mapped.class_names
    for field in ("channel_mean", "channel_std", "train_labels", "test_labels"):
        assert np.array_equal(getattr(streamed, field), getattr(mapped, field))
    for field in ("train_images", "test_images"):
        one, other = getattr(streamed, field), getattr(mapped, field)
        assert one.shape == other.shape == (30, options.get("channels", 3), *[options.get("image_size_px", 8)] * 2)
        assert np.array_equal(every(one), other)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop_px": 6, "mirror": True},
        {"pad_px": 2, "mirror": True, "normalization": "mean"},
        {"crop_area": 0.2, "brightness": 0.4, "contrast": 0.4},
        {"crop_area": 0.2, "mirror": True, "rand_augment": 2},
    ],
    ids=["plain", "crop", "pad", "resized and jittered", "rand augment"],
)
def test_a_task_s_batches_are_the_same_to_the_bit(tmp_path, source, kind, changes, channels):
    WRITERS[kind](tmp_path / "x")
    if channels == 3 and "brightness" in changes:
        changes = {**changes, "saturation": 0.4, "hue": 0.1}
    for channels_last in (False, True):
        batches = {}
        for decoded in ("cache", "stream"):
            found = open_dataset(source(decoded, channels=channels))
            spec = task_spec(found, [0, 2], 6, 3)
            asked = recipe(channels_last=channels_last, **changes)
            data = DeviceData(load_task(found, spec), asked, torch.device("cpu"), 10**9)
            assert data.streamed == (decoded == "stream" or "rand_augment" in changes)
            views = itertools.islice(data.draw(torch.Generator().manual_seed(5)), 8)  # four epochs and some
            fetched = ahead(data.fetch, views) if data.streamed else map(data.fetch, views)
            tested = [(data.central(data.test, torch.arange(10)), data.test.labels[:10])]
            batches[decoded] = spec, [data.inputs(sent) for sent in fetched] + tested
        (one, mapped), (other, streamed) = batches.values()
        assert one == other
        assert len(mapped) == len(streamed) == 9
        for (images, labels), (others, other_labels) in zip(mapped, streamed, strict=True):
            assert torch.equal(images, others)
            assert images.stride() == others.stride()  # by which PyTorch takes kernels, which round in other ways
            assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("dials", [{"noise": 20.0, "grey": 0.5}, {"blur_px": 1.0}, {"resolution_px": 4, "merged": 2}])
def test_dials_of_pixels_give_the_same_as_from_the_cache(tmp_path, source, dials):
    write_folder(tmp_path / "x")
    found = []
    for decoded in ("cache", "stream"):
        opened = open_dataset(source(decoded))
        spec = task_spec(opened, [0, 1, 2], 8, 1, dials)
        tasks = [load_task(opened, spec), sample_task(opened, spec, 5, 2)]
        found.append([(part.images[part.rows], part.labels) for task in tasks for part in (task.train, task.test)])
    for (images, labels), (others, other_labels) in zip(*found, strict=True):
        assert np.array_equal(images, others)
        assert np.array_equal(labels, other_labels)


@pytest.mark.parametrize("dials", [{"split": 2}, {"labelling": "brightness"}])
def test_dials_that_need_every_image_s_brightness_are_refused(tmp_path, source, dials):
    write_folder(tmp_path / "x")
    ((name, value),) = dials.items()
    task_spec(open_dataset(source("cache")), [0, 1], None, 0, dials)
    with pytest.raises(UserError, match=rf"^{name}={value} needs the brightness of all images of x .*: give decoded="):
        task_spec(open_dataset(source("stream")), [0, 1], None, 0, dials)


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_changes_no_bit(tmp_path, source, monkeypatch, threads):
    write_folder(tmp_path / "x")
    expected = open_dataset(source("cache"))
    monkeypatch.setattr(streamed_module, "THREADS", threads)
    streamed_module._pool.cache_clear()
    try:
        found = open_dataset(source("stream"))
        rows = np.random.default_rng(0).integers(0, 30, 200)
        assert np.array_equal(found.train_images[rows], expected.train_images[rows])
        assert len([t for t in threading.enumerate() if t.name.startswith("decode")]) >= threads
    finally:
        streamed_module._pool.cache_clear()


def test_grey_images_stay_grey_and_one_of_colour_makes_all_colour(tmp_path, source):
    write_folder(tmp_path / "x", modes=("L",))
    assert open_dataset(source("stream")).train_images.shape[1] == 1
    (tmp_path / "x" / "test" / "c2" / "99.png").write_bytes(next(pictures("test", 2, 1, ("RGBA",)))[1])
    mapped, streamed = open_dataset(source("cache")), open_dataset(source("stream"))
    assert streamed.train_images.shape[1] == 3
    assert streamed.fingerprint == mapped.fingerprint
    assert np.array_equal(every(streamed.train_images), mapped.train_images)


def test_without_a_size_all_images_need_one_size(tmp_path, source):
    write_folder(tmp_path / "x", low=6, high=7)
    mapped, streamed = (open_dataset(source(decoded, image_size_px=None)) for decoded in ("cache", "stream"))
    assert streamed.train_images.shape == (30, 3, 6, 6)
    assert np.array_equal(every(streamed.train_images), mapped.train_images)
    (tmp_path / "x" / "train" / "c1" / "99.jpg").write_bytes(next(pictures("train", 0, 1))[1])
    for decoded in ("cache", "stream"):
        with pytest.raises(UserError, match=r"99\.jpg is \d+x\d+ pixels, the first image 6x6: .* need image_size_px"):
            open_dataset(source(decoded, image_size_px=None))


def test_auto_streams_what_exceeds_the_bound(tmp_path, source):
    write_folder(tmp_path / "x", modes=("L",))
    takes = 60 * 3 * 8 * 8 / 1e9
    for bound, channels, expected in ((takes, None, False), (0.99 * takes, None, True), (0.34 * takes, 1, False)):
        assert open_dataset(source("auto", cache_gb=bound, channels=channels)).streamed == expected
    shutil.rmtree(tmp_path / "x")
    write_folder(tmp_path / "x", low=8, high=9)
    assert open_dataset(source("auto", cache_gb=0.99 * takes, image_size_px=None)).streamed
    assert not open_dataset(source("auto", cache_gb=takes, image_size_px=None)).streamed


def test_what_has_no_encoded_images_is_not_streamed(source):
    with pytest.raises(UserError, match=r"decoded=stream is for folders .*, which data=digits does not name"):
        open_dataset(source("stream", data="digits"))
    assert not open_dataset(source("auto", data="digits", cache_gb=0.0)).streamed


@pytest.mark.parametrize("kind", WRITERS)
def test_a_worker_opens_the_index_of_its_machine_or_makes_its_own(tmp_path, source, kind, caplog):
    WRITERS[kind](tmp_path / "x")
    caplog.set_level("INFO", logger="raytransfer")
    first = open_dataset(source("stream"))
    for found in (open_fingerprint(source("stream"), first.fingerprint), open_dataset(source("stream"))):
        assert np.array_equal(every(found.test_images), every(first.test_images))
    assert caplog.messages == ["looking through x: 60 images, once on this machine"]
    shutil.copytree(tmp_path / "x", tmp_path / "there" / "x")
    there = source("stream", data=str(tmp_path / "there" / "x"))
    found = open_fingerprint(there, first.fingerprint)  # in the same cache, but other files
    assert len(caplog.messages) == 2
    shutil.rmtree(tmp_path / "x")
    assert np.array_equal(every(found.train_images), every(open_fingerprint(there, first.fingerprint).train_images))


def test_the_same_images_under_other_names_are_found(tmp_path, source):
    write_folder(tmp_path / "x")
    first = open_dataset(source("stream"))
    for file in list((tmp_path / "x").glob("*/*/*")):
        file.rename(file.with_name("a" + file.name))
    second = open_dataset(source("stream"))
    assert second.fingerprint == first.fingerprint
    assert len(every(second.train_images)) == 30
    with pytest.raises(UserError, match=r"c0.00\.jpg was there when the data were opened, and is gone"):
        every(first.train_images)


def test_files_whose_names_are_no_text_and_that_lie_deeper_are_streamed(tmp_path, source):
    write_folder(tmp_path / "x")
    folder = tmp_path / "x" / "train" / "c1"
    (folder / "below").mkdir()
    (folder / "03.jpg").rename(folder / "below" / os.fsdecode(b"\xff\xfe.jpg"))
    mapped, streamed = open_dataset(source("cache")), open_dataset(source("stream"))
    assert streamed.fingerprint == mapped.fingerprint
    assert np.array_equal(every(streamed.train_images), mapped.train_images)


def test_a_damaged_index_is_made_again(tmp_path, source):
    write_folder(tmp_path / "x")
    expected = every(open_dataset(source("cache")).test_images)
    for name in ("names.npy", "meta.json", "is_test.npy"):
        first = open_dataset(source("stream"))
        (entry,) = (tmp_path / "cache stream").glob(f"{first.fingerprint}-*")
        os.truncate(entry / name, 10)
        assert np.array_equal(every(open_dataset(source("stream")).test_images), expected)


@pytest.fixture
def large(monkeypatch):
    """Data sets of more than 20 images are large, and 8 training images stand for them."""
    monkeypatch.setattr(making, "LARGE", 20)
    monkeypatch.setattr(making, "SAMPLE", 8)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_sample_stands_for_a_large_data_set_however_it_is_held(tmp_path, source, large, kind):
    WRITERS[kind](tmp_path / "x", modes=("L",))
    mapped, streamed = open_dataset(source("cache")), open_dataset(source("stream"))
    assert (mapped.sample, streamed.sample) == (8, 8)
    assert streamed.fingerprint == mapped.fingerprint
    assert streamed.train_images.shape[1] == 3  # though all are grey: nobody has looked at all of them
    assert open_dataset(source("stream", channels=1)).train_images.shape[1] == 1
    assert np.array_equal(every(streamed.train_images), mapped.train_images)
    assert np.array_equal(streamed.channel_mean, mapped.channel_mean)
    looked_at = [
        np.isclose(mapped.train_images[list(rows)].mean(), mapped.channel_mean[0])
        for rows in ([*range(30)], stable_permutation(30, "sample of a large data set")[:8])
    ]
    assert looked_at == [False, True]


def test_a_large_data_set_is_known_by_names_sizes_and_its_sample(tmp_path, source, large):
    write_folder(tmp_path / "x", modes=("RGB",))
    first = open_dataset(source("stream")).fingerprint
    shutil.copytree(tmp_path / "x", tmp_path / "copy" / "x")
    assert open_dataset(source("stream", data=str(tmp_path / "copy" / "x"))).fingerprint == first
    file = tmp_path / "x" / "test" / "c0" / "00.jpg"
    file.write_bytes(file.read_bytes() + b"\0")
    longer = open_dataset(source("stream")).fingerprint
    file.rename(file.with_name("000.jpg"))
    renamed = open_dataset(source("stream")).fingerprint
    in_sample = stable_permutation(30, "sample of a large data set")[0]
    other = tmp_path / "x" / "train" / f"c{in_sample // 10}" / f"{in_sample % 10:02}.jpg"
    content = bytearray(other.read_bytes())
    content[-20] ^= 0x55
    other.write_bytes(content)
    assert len({first, longer, renamed, open_dataset(source("stream")).fingerprint}) == 4


def test_a_plan_tells_what_is_streamed_and_what_a_large_data_set_is_known_by(tmp_path, source, large):
    write_folder(tmp_path / "x")
    head = ["x: 30 training and 30 test images of 3 classes, 8 x 8 pixels, colour", "  training: train/; test: test/"]
    sampled = (
        "  large: mean, standard deviation and fingerprint are of 8 of the training images, drawn once and for all, "
        "and of the names and sizes of all files; a broken image ends the trial that meets it"
    )
    assert contents(open_dataset(source("cache")), source("cache")) == [*head, sampled]
    streamed = "  streamed: decoded whenever they are taken; decoded=cache would keep 0.00 GB"
    assert contents(open_dataset(source("stream")), source("stream")) == [*head, streamed, sampled]
    bicubic = replace(source("stream"), image_size_px=8, interpolation="bicubic")
    assert contents(open_dataset(bicubic), bicubic)[0].endswith("8 x 8 pixels, resized bicubically, colour")


def test_a_plan_tells_the_gigabytes_that_a_cache_would_keep():
    images = SimpleNamespace(shape=(1_000_000, 3, 64, 32))
    many = SimpleNamespace(
        **{"name": "x", "train_labels": range(1_000_000), "test_labels": range(1), "class_names": range(1000)},
        **{"train_images": images, "contents": None, "repeated": 0, "streamed": True, "sample": None},
    )
    assert contents(many, DataSource(data="x", data_dir="", cache_dir="")) == [
        "x: 1000000 training and 1 test image of 1000 classes, 64 x 32 pixels, colour",
        "  streamed: decoded whenever they are taken; decoded=cache would keep 6.14 GB",
    ]
    many.test_labels = range(500_000)
    as_they_are = DataSource(data="x", data_dir="", cache_dir="", interpolation="bicubic")
    first, streamed = contents(many, as_they_are)
    assert first.endswith(", 64 x 32 pixels, colour")  # nothing is resized
    assert streamed.endswith(" would keep 9.22 GB")


def spoiled(content, how):
    return {"cut": content[: len(content) // 2], "text": b"no image", "empty": b"", "longer": content + b"\0"}[how]


@pytest.mark.parametrize("how", ["cut", "text", "empty"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_broken_image_is_named_and_refused_however_it_is_held(tmp_path, source, kind, how):
    if kind == "folder":
        write_folder(tmp_path / "x")
        file = tmp_path / "x" / "test" / "c1" / "03.jpg"
        file.write_bytes(spoiled(file.read_bytes(), how))
        named = r"x/test/c1/03\.jpg"
    else:
        write_parquet(tmp_path / "x")
        file = tmp_path / "x" / "test-00000-of-00001.parquet"
        table = pq.read_table(file)
        images = table["image"].to_pylist()
        images[13]["bytes"] = spoiled(images[13]["bytes"], how)
        pq.write_table(table.set_column(0, "image", pa.array(images)), file)
        named = r"x/test-00000-of-00001\.parquet row 13 \(from 0\)"
    messages = set()
    for decoded in ("cache", "stream"):
        with pytest.raises(UserError, match=rf"{named} is not a readable image") as error:
            open_dataset(source(decoded))
        messages.add(str(error.value))
        assert [entry.name for entry in (tmp_path / f"cache {decoded}").iterdir()] == ["index"]
    assert len(messages) == 1


def test_broken_images_are_counted_however_they_are_held(tmp_path, source, monkeypatch):
    write_folder(tmp_path / "x")
    bad = [tmp_path / "x" / "train" / f"c{label}" / name for label in (0, 2) for name in ("00.jpg", "03.jpg", "08.jpg")]
    for file in bad[:2]:
        file.write_bytes(b"no image")
    every_time = r"x/train/c0/00\.jpg is not a readable image: its bytes are of no known kind of image; "
    for decoded in ("cache", "stream"):
        with pytest.raises(UserError, match=every_time + r"2 of 60 images cannot be used, also .*/c0/03\.jpg: mend or"):
            open_dataset(source(decoded))
    for file in bad[2:]:
        file.write_bytes(b"no image")
    monkeypatch.setattr(decode_module, "MOST_BROKEN", 3)
    monkeypatch.setattr(decode_module, "_SHOWN", 1)
    for decoded in ("cache", "stream"):
        with pytest.raises(UserError, match=every_time + r"at least 3 of 60 .*, also .*/c0/03\.jpg, \.\.\.: mend or"):
            open_dataset(source(decoded))


def test_a_broken_image_of_a_large_data_set_is_named_when_it_is_met(tmp_path, source, large):
    write_folder(tmp_path / "x")
    file = tmp_path / "x" / "test" / "c1" / "03.jpg"
    file.write_bytes(b"no image")
    found = open_dataset(source("stream"))
    assert len(found.test_images[np.arange(13)]) == 13
    with pytest.raises(UserError, match=r"x/test/c1/03\.jpg is not a readable image: its bytes are of no known kind"):
        found.test_images[np.arange(12, 15)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda file: file.unlink(),
            r"/train/c1/04\.png was there when the data were opened, and is gone: data must stay",
        ),
        (
            lambda file: file.write_bytes(file.read_bytes() + b"\0"),
            r"/train/c1/04\.png had \d+ bytes when the data were opened, and has \d+ now: data must stay",
        ),
        (lambda file: file.write_bytes(b""), r"/train/c1/04\.png had \d+ bytes when .* and has 0 now: data must stay"),
        (
            lambda file: (file.unlink(), file.mkdir()),
            r"/train/c1/04\.png cannot be read: Is a directory",
        ),
    ],
    ids=["gone", "longer", "empty", "folder"],
)
def test_a_folder_that_changes_is_told_by_the_file(tmp_path, source, change, message):
    write_folder(tmp_path / "x")
    first = open_dataset(source("stream"))
    change(tmp_path / "x" / "train" / "c1" / "04.png")
    found = open_fingerprint(source("stream"), first.fingerprint)
    assert len(found.train_images[np.arange(14)]) == 14
    with pytest.raises(UserError, match=message):
        found.train_images[np.arange(10, 20)]


def test_a_folder_that_changed_is_another_data_set(tmp_path, source):
    write_folder(tmp_path / "x")
    first = open_dataset(source("stream"))
    (tmp_path / "x" / "train" / "c1" / "04.png").unlink()
    assert open_dataset(source("stream")).fingerprint != first.fingerprint
    worker = replace(source("stream"), cache_dir=str(tmp_path / "of a worker"))
    with pytest.raises(UserError, match="the data on this machine differ from the driver's"):
        open_fingerprint(worker, first.fingerprint)


@pytest.mark.parametrize(("part", "other"), [("train", "test"), ("test", "train")])
def test_a_class_of_one_part_alone_is_refused(tmp_path, source, part, other):
    write_folder(tmp_path / "x")
    shutil.rmtree(tmp_path / "x" / other / "c2")
    for decoded in ("cache", "stream"):
        with pytest.raises(UserError, match=rf"x/{other} lacks class folders that .*x/{part} has: c2"):
            open_dataset(source(decoded))


def test_a_cache_too_small_for_the_encoded_images_of_parquet_files(tmp_path, source, monkeypatch):
    write_parquet(tmp_path / "x")
    usage = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0\.0 GB free, the encoded images, which are copied there, take .* GB"):
        open_dataset(source("stream"))
