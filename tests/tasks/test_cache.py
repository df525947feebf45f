import dataclasses
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raytransfer.commands.planning import contents, plan_as_json, shared
from raytransfer.errors import UserError
from raytransfer.store import Store
from raytransfer.sweep.backlog import Backlog
from raytransfer.sweep.plan import plan_of
from raytransfer.tasks import DataSource, open_dataset, open_fingerprint
from raytransfer.tasks import decode as decode_module


def write_images(path, seed=0, per_class=4):
    for c, name in enumerate(("cat", "dog")):
        (path / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = np.random.default_rng([seed, c, i]).integers(0, 256, (5, 5), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i}.png")


@pytest.fixture
def source(tmp_path):
    write_images(tmp_path / "pets")
    return DataSource(data=str(tmp_path / "pets"), data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def decodings(caplog):
    """How many times something was decoded so far, by the line that says so."""
    caplog.set_level(logging.INFO, logger="raytransfer")
    return lambda: sum(record.message.startswith("decoding pets: 8 images") for record in caplog.records)


def same(one, other):
    return one.fingerprint == other.fingerprint and all(
        np.array_equal(getattr(one, field), getattr(other, field))
        for field in ("train_images", "train_labels", "test_images", "test_labels", "channel_mean", "channel_std")
    )


def test_the_second_opening_decodes_nothing(source, decodings):
    first = open_dataset(source)
    second = open_dataset(source)
    assert decodings() == 1
    assert same(first, second)
    assert second.class_names == ("cat", "dog")
    assert isinstance(second.train_images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        second.train_images[0] = 0


def test_other_files_are_decoded_anew_into_another_fingerprint(source, tmp_path, decodings):
    first = open_dataset(source)
    write_images(tmp_path / "pets", seed=1)
    assert open_dataset(source).fingerprint != first.fingerprint
    assert decodings() == 2


def test_the_fingerprint_is_of_the_content_not_the_place(source, tmp_path):
    first = open_dataset(source)
    shutil.copytree(tmp_path / "pets", tmp_path / "elsewhere" / "pets")
    copied = dataclasses.replace(source, data=str(tmp_path / "elsewhere" / "pets"))
    assert same(open_dataset(copied), first)
    (tmp_path / "elsewhere" / "pets" / "dog").rename(tmp_path / "elsewhere" / "pets" / "eel")
    assert open_dataset(copied).fingerprint != first.fingerprint  # another class name
    assert open_dataset(dataclasses.replace(source, image_size_px=4)).fingerprint != first.fingerprint


def test_what_another_process_publishes_at_the_same_moment_is_as_good(source, tmp_path, monkeypatch):
    shutil.copytree(tmp_path / "pets", tmp_path / "elsewhere" / "pets")
    copied = dataclasses.replace(source, data=str(tmp_path / "elsewhere" / "pets"))  # as another machine has it
    rename, renamed = Path.rename, []

    def rename_after_another(path, target):
        renamed.append(path)
        if len(renamed) == 1:
            open_dataset(copied)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_after_another)
    assert same(open_dataset(source), open_dataset(copied))
    assert len(renamed) == 2
    assert not list((tmp_path / "cache").glob("partial-*"))


@pytest.mark.parametrize(
    "damage", ["missing array", "short array", "empty array", "missing meta", "broken meta", "broken index"]
)
def test_a_damaged_entry_is_rebuilt(source, tmp_path, decodings, damage):
    first = open_dataset(source)
    copy = {field: np.array(getattr(first, field)) for field in ("train_images", "test_images")}
    entry = tmp_path / "cache" / first.fingerprint
    if damage == "missing array":
        (entry / "test_labels.npy").unlink()
    elif damage == "short array":
        os.truncate(entry / "train_images.npy", 200)
    elif damage == "empty array":
        os.truncate(entry / "test_labels.npy", 0)
    elif damage == "missing meta":
        (entry / "meta.json").unlink()
    elif damage == "broken meta":
        (entry / "meta.json").write_text('{"class_names": ')
    else:
        for index in (tmp_path / "cache" / "index").glob("*.json"):
            index.write_text("[]")
    again = open_dataset(source)
    assert decodings() == 2
    assert again.fingerprint == first.fingerprint
    assert all(np.array_equal(getattr(again, field), value) for field, value in copy.items())
    open_dataset(source)
    assert decodings() == 2


def test_no_pickle_is_ever_loaded(source, tmp_path, decodings):
    first = open_dataset(source)
    labels = tmp_path / "cache" / first.fingerprint / "train_labels.npy"
    np.save(labels, np.array([{"an": "object"}] * 4, dtype=object), allow_pickle=True)
    assert same(open_dataset(source), open_dataset(source))
    assert decodings() == 2


def test_a_killed_decoding_leaves_nothing_in_the_way(source, tmp_path):
    first = open_dataset(source)
    (index,) = (tmp_path / "cache" / "index").glob("*.json")
    shutil.rmtree(tmp_path / "cache" / first.fingerprint)
    partial = tmp_path / "cache" / f"partial-{index.stem}"
    partial.mkdir()
    (partial / "train_images.npy").write_bytes(b"half")
    assert open_dataset(source).fingerprint == first.fingerprint
    assert not partial.exists()


def test_a_worker_needs_no_files_once_its_cache_holds_them(source, tmp_path):
    first = open_dataset(source)
    shutil.rmtree(tmp_path / "pets")
    found = open_fingerprint(source, first.fingerprint)
    assert same(found, first)
    assert found.name == "pets"


def test_a_worker_with_other_data_says_so(source, tmp_path, decodings):
    first = open_dataset(source)
    worker = dataclasses.replace(source, cache_dir=str(tmp_path / "worker cache"))
    assert same(open_fingerprint(worker, first.fingerprint), first)
    assert decodings() == 2
    write_images(tmp_path / "pets", seed=1)
    with pytest.raises(UserError, match=r"the data on this machine differ from the driver's: .*pets' has fingerprint"):
        open_fingerprint(worker, "0" * 16)


def test_a_cache_that_cannot_be_written(source, tmp_path):
    (tmp_path / "a file").write_text("")
    for folder in (tmp_path / "a file", tmp_path / "a file" / "below"):
        with pytest.raises(UserError, match=r"cache_dir .*a file.* cannot be written: .*; choose another"):
            open_dataset(dataclasses.replace(source, cache_dir=str(folder)))


def test_a_cache_that_is_too_small(source, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(decode_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0\.0 GB free, the decoded images take .* choose another cache_dir"):
        open_dataset(source)


def test_two_processes_decode_once(source, tmp_path):
    code = textwrap.dedent(f"""
        import logging
        from raytransfer.tasks import DataSource, open_dataset
        logging.basicConfig(level=logging.INFO)
        print(open_dataset({source!r}).fingerprint)
    """)
    several = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in several]
    assert [process.returncode for process in several] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    assert sum(err.count("decoding pets") for _, err in outputs) == 1


def test_images_of_many_kinds_decode_as_pil_does(tmp_path):
    """The parallel, streaming decoder against one image at a time."""
    rng = np.random.default_rng(0)
    expected = []
    for c in range(2):
        (tmp_path / "x" / f"c{c}").mkdir(parents=True)
        for i in range(60):
            image = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
            image = image.convert(["RGB", "L", "P", "RGBA", "1", "CMYK"][i % 6])
            file = tmp_path / "x" / f"c{c}" / f"{i:03}.{['png', 'png', 'png', 'png', 'png', 'jpg'][i % 6]}"
            image.save(file)
            with Image.open(file) as opened:
                expected.append(np.asarray(opened.convert("RGB")).transpose(2, 0, 1).tobytes())
    source = DataSource(data=str(tmp_path / "x"), data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    found = open_dataset(source)
    assert found.train_images.shape == (60, 3, 9, 7)
    for c in range(2):
        pictures = [*found.train_images[found.train_labels == c], *found.test_images[found.test_labels == c]]
        assert sorted(p.tobytes() for p in pictures) == sorted(expected[60 * c : 60 * c + 60])


@pytest.mark.parametrize("decoded", ["cache", "stream"])
def test_a_plan_says_which_test_images_are_training_images_too(tmp_path, decoded):
    for seed, part in enumerate(("train", "test")):
        write_images(tmp_path / "pets" / part, seed=seed)
    source = DataSource(
        data=str(tmp_path / "pets"), data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"), decoded=decoded
    )
    assert not any("in both" in line for line in contents(open_dataset(source), source))
    told = ("1 of 8 test images is a training image", "2 of 9 test images are training images")
    # Another name and another file of the same pixels.
    for i, name, count, said in zip((0, 2), ("0.png", "copy.png"), (1, 2), told, strict=True):
        pixels = Image.open(tmp_path / "pets" / "train" / "dog" / f"{i}.png")
        pixels.save(tmp_path / "pets" / "test" / "dog" / name, optimize=True)
        for _ in range(2):  # the second time from the cache
            dataset = open_dataset(source)
            assert dataset.repeated == count
            (line,) = [line for line in contents(dataset, source) if "in both" in line]
            seen = "by their pixels: networks have seen them, and accuracies may be too high"
            assert line == f"  in both: {said}, too, {seen}"


@pytest.mark.parametrize("file", ["train_hashes.npy", "test_hashes.npy"])
def test_an_entry_that_does_not_tell_its_images_apart_is_made_anew(source, decodings, tmp_path, file):
    fingerprint = open_dataset(source).fingerprint
    (tmp_path / "cache" / fingerprint / file).unlink()
    assert open_dataset(source).repeated == 0
    assert open_fingerprint(source, fingerprint).repeated == 0
    assert decodings() == 2


@pytest.mark.parametrize("decoded", ["cache", "stream"])
def test_a_plan_says_which_images_are_in_two_data_sets(tmp_path, decoded):
    for seed, name in enumerate(("pets", "farm", "wild")):
        write_images(tmp_path / name, seed=seed)
    shutil.copytree(tmp_path / "pets", tmp_path / "copy")
    for i, name in ((0, "0.png"), (2, "same.png")):
        Image.open(tmp_path / "pets" / "dog" / f"{i}.png").save(tmp_path / "farm" / "cat" / name, optimize=True)
    Image.open(tmp_path / "pets" / "dog" / "1.png").save(tmp_path / "wild" / "cat" / "0.png")
    opened = []
    for name in ("pets", "copy", "farm", "wild"):
        source = DataSource(
            data=str(tmp_path / name), data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"), decoded=decoded
        )
        opened.append((source, open_dataset(source)))
    plan, nothing = plan_of([], opened, None), Backlog(to_run={}, failed={}, blocked=set(), unfinished=set())
    lines = shared(plan)
    assert plan_as_json(plan, nothing, Store(str(tmp_path / "out")), None, None)["data"][-len(lines) :] == lines
    said = [line.partition(": ")[2].partition(", by")[0].replace(f"{tmp_path}/", "") for line in lines]
    assert said == [
        "8 of 8 images of pets are in copy, too",
        "2 of 8 images of pets are in farm, too",
        "1 of 8 images of pets is in wild, too",
        "2 of 8 images of copy are in farm, too",
        "1 of 8 images of copy is in wild, too",
    ]
    resized = dataclasses.replace(source, image_size_px=5, interpolation="bicubic")
    assert shared(plan_of([], [opened[-1], (resized, open_dataset(resized))], None)) == []  # one set, in two ways


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_class_names_are_utf8_whatever_the_locale(tmp_path, locale):
    write_images(tmp_path / "pets")
    (tmp_path / "pets" / "cat").rename(tmp_path / "pets" / "ä ö")
    code = f"""
        from raytransfer.tasks import DataSource, open_dataset
        source = DataSource(data="{tmp_path}/pets", data_dir="{tmp_path}", cache_dir="{tmp_path}/cache")
        print(ascii(open_dataset(source).class_names))
    """
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == ascii(("dog", "ä ö"))
