"""Data in a bucket: the same data set as the same files on a disk, held either way, and what is refused."""

import io
import re
import shutil
import socket
import tarfile
import time
from dataclasses import replace

import numpy as np
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from raytransfer.errors import UserError
from raytransfer.storage import addresses, retries
from raytransfer.tasks import DataSource, making, open_dataset, open_fingerprint
from raytransfer.tasks.places import RemotePath
from tests.tasks.bucket import bucket
from tests.tasks.test_shards import write_shards
from tests.tasks.test_streamed import every, write_folder, write_parquet

WRITERS = {"folder": write_folder, "parquet": write_parquet, "shards": write_shards}


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def server(tmp_path):
    (tmp_path / "bucket").mkdir()
    with bucket(tmp_path / "bucket") as running:
        yield running


def source(tmp_path, data, decoded="stream", **options):
    options = {"image_size_px": 8, **options}
    cache = tmp_path / f"cache {decoded}"
    return DataSource(data=str(data), data_dir=str(tmp_path), cache_dir=str(cache), decoded=decoded, **options)


def assert_same(one, other):
    assert one.fingerprint == other.fingerprint
    assert one.class_names == other.class_names
    assert one.sample == other.sample
    assert np.array_equal(one.channel_mean, other.channel_mean)
    for part in ("train", "test"):
        assert np.array_equal(getattr(one, f"{part}_labels"), getattr(other, f"{part}_labels"))
        assert np.array_equal(every(getattr(one, f"{part}_images")), every(getattr(other, f"{part}_images")))


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("decoded", ["cache", "stream"])
@pytest.mark.parametrize("kind", WRITERS)
def test_files_in_a_bucket_are_the_data_of_the_same_files_on_a_disk(
    tmp_path, server, monkeypatch, kind, decoded, large
):
    if large:
        monkeypatch.setattr(making, "LARGE", 20)
        monkeypatch.setattr(making, "SAMPLE", 10)
    WRITERS[kind](server.folder / "x")
    expected = open_dataset(source(tmp_path / "disk", server.folder / "x", decoded))
    found = open_dataset(source(tmp_path, server.uri("x"), decoded))
    assert found.streamed == (decoded == "stream")
    assert found.name == expected.name == "x"
    assert found.contents == expected.contents
    assert_same(found, expected)
    rows = np.random.default_rng(0).integers(0, 30, 50)
    assert np.array_equal(found.train_images[rows], expected.train_images[rows])


@pytest.mark.parametrize("decoded", ["cache", "stream"])
@pytest.mark.parametrize("kind", ["parquet", "shards"])
def test_one_file_is_a_data_set_too(tmp_path, server, kind, decoded):
    name = {"parquet": "x/test-00000-of-00001.parquet", "shards": "one.tar"}[kind]
    if kind == "parquet":
        write_parquet(server.folder / "x")
    else:
        write_shards(server.folder / "y", parts=("train",), classes=2)
        members = []
        for shard in sorted((server.folder / "y").iterdir()):
            with tarfile.open(shard) as tar:
                members += [(member, tar.extractfile(member).read()) for member in tar]
        with tarfile.open(server.folder / "one.tar", "w") as out:
            for member, content in members:
                out.addfile(member, io.BytesIO(content))
        (server.folder / "classnames.txt").write_text("cat\ndog\n")  # labels are then what the lines say
        with pytest.raises(UserError, match=r"has label 'c0', which is no class: classnames\.txt"):
            open_dataset(source(tmp_path, server.uri(name), decoded))
        (server.folder / "classnames.txt").write_text("c1\nc0\n")
    expected = open_dataset(source(tmp_path / "disk", server.folder / name, decoded))
    assert_same(open_dataset(source(tmp_path, server.uri(name), decoded)), expected)


def test_a_streamed_image_of_a_shard_is_read_by_its_place_alone(tmp_path, server):
    write_shards(server.folder / "x")
    found = open_dataset(source(tmp_path, server.uri("x")))
    server.asked.clear()
    found.train_images[np.array([4])]
    (read,) = [ranged for method, _, ranged in server.asked if method == "GET"]
    first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", read).groups())
    with tarfile.open(server.folder / "x" / "train-000000.tar") as tar:
        members = [member for member in tar if not member.name.endswith(".cls")]
    assert (first, last - first + 1) == (members[4].offset_data, members[4].size)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_machine_with_a_cache_reads_no_images_anew(tmp_path, server, kind):
    WRITERS[kind](server.folder / "x")
    for decoded in ("cache", "stream"):
        made = open_dataset(source(tmp_path, server.uri("x"), decoded))
        server.asked.clear()
        assert open_fingerprint(source(tmp_path, server.uri("x"), decoded), made.fingerprint).name == "x"
        assert len(server.asked) <= 2  # whether the address is a file or a folder
        server.asked.clear()
        open_dataset(source(tmp_path, server.uri("x"), decoded))
        read = [name for _, name, ranged in server.asked if ranged]
        assert len(read) == (2 if kind == "parquet" else 0)  # heads of files, which tell how many images there are


def test_two_servers_with_a_bucket_of_one_name_are_two_places(tmp_path, server):
    write_folder(server.folder / "x")
    write_folder(tmp_path / "other" / "bucket" / "x", count=11)
    one = open_dataset(source(tmp_path, server.uri("x")))
    with bucket(tmp_path / "other" / "bucket") as other:
        assert open_dataset(source(tmp_path, other.uri("x"))).fingerprint != one.fingerprint
    assert open_dataset(source(tmp_path, server.uri("x"))).fingerprint == one.fingerprint


def test_a_changed_file_in_a_bucket_makes_another_data_set(tmp_path, server):
    write_folder(server.folder / "x")
    one = open_dataset(source(tmp_path, server.uri("x"), "cache"))
    file = next((server.folder / "x/train/c0").iterdir())
    file.write_bytes(next((server.folder / "x/train/c1").glob("*.jpg")).read_bytes())
    assert open_dataset(source(tmp_path, server.uri("x"), "cache")).fingerprint != one.fingerprint


def test_an_image_that_is_gone_or_changed_in_the_bucket_is_named(tmp_path, server):
    write_folder(server.folder / "x")
    found = open_dataset(source(tmp_path, server.uri("x")))
    file = server.folder / "x/train/c0/00.jpg"
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(UserError, match=r"^s3://bucket/x/train/c0/00\.jpg was there when .* is gone: data must stay"):
        found.train_images[np.array([0])]
    file.write_bytes(content + b"more")
    with pytest.raises(UserError, match=r"00\.jpg had \d+ bytes when the data were opened, and has \d+ now"):
        found.train_images[np.array([0])]
    file.write_bytes(content)
    assert len(found.train_images[np.array([0])]) == 1


def test_a_broken_image_in_a_bucket_is_named(tmp_path, server):
    write_folder(server.folder / "x")
    (server.folder / "x/train/c0/00.jpg").write_bytes(b"no image")
    for decoded in ("cache", "stream"):
        with pytest.raises(UserError, match=r"^s3://bucket/x/train/c0/00\.jpg is not a readable image"):
            open_dataset(source(tmp_path, server.uri("x"), decoded))
        assert not [file for file in (tmp_path / f"cache {decoded}").rglob("*") if file.suffix in (".npy", ".json")]


def test_what_fails_for_a_moment_is_asked_for_again(tmp_path, server, monkeypatch):
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)
    write_shards(server.folder / "x")
    found = open_dataset(source(tmp_path, server.uri("x")))
    calls, original = [], RemotePath._file_system.fget

    def stutters(path):
        calls.append(path)
        if len(calls) < 3:
            raise OSError("AWS Error NETWORK_CONNECTION during GetObject operation: no luck")
        return original(path)

    monkeypatch.setattr(RemotePath, "_file_system", property(stutters))
    found.train_images[np.array([0])]
    assert len(calls) == 3


def break_folder(folder):
    shutil.rmtree(folder / "x/test/c2")


def break_shards(folder):
    (folder / "x/train-000001.tar").unlink()


def break_parquet(folder):
    (folder / "x/test-00000-of-00001.parquet").rename(folder / "x/test-00000-of-00002.parquet")


REFUSED = [
    ("folder", break_folder, r"s3://bucket/x/test lacks class folders that s3://bucket/x/train has: c2"),
    ("shards", break_shards, r"s3://bucket/x/train-000002\.tar is one of a numbered run, of which 1 is missing in "),
    ("parquet", break_parquet, r"s3://bucket/x/test-00000-of-00002\.parquet is one of 2 shards, and some of them are "),
    ("shards", lambda folder: (folder / "x/train-000001.tar").write_bytes(b"x" * 999), "train-000001.tar is not a wh"),
    (
        "shards",
        lambda folder: (folder / "x/train-000001.tar.gz").write_bytes(b"x"),
        "train-000001.tar.gz is compressed",
    ),
    ("parquet", lambda folder: (folder / "x/train-00000-of-00001.parquet").write_bytes(b"x"), "is not a readable Parq"),
    ("parquet", lambda folder: write_shards(folder / "x"), "s3://bucket/x holds Parquet files .* and tar shards"),
    ("folder", lambda folder: (folder / "x/store.json").write_bytes(b"{}"), "is a store of results, not a data set"),
    ("folder", lambda folder: shutil.rmtree(folder / "x/train"), "s3://bucket/x has test and no training part"),
]


@pytest.mark.parametrize(("kind", "spoil", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_refused_on_a_disk_is_refused_in_a_bucket_by_its_address(tmp_path, server, kind, spoil, message):
    WRITERS[kind](server.folder / "x", count=1)
    spoil(server.folder)
    with pytest.raises(UserError, match=message) as raised:
        open_dataset(source(tmp_path, server.uri("x")))
    told = str(raised.value).replace(server.uri("x"), "s3://bucket/x").replace("s3://bucket", str(server.folder))
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        open_dataset(source(tmp_path / "disk", server.folder / "x"))


def refused(tmp_path, data, message):
    started = time.monotonic()
    with pytest.raises(UserError, match=message) as raised:
        open_dataset(source(tmp_path, data))
    assert time.monotonic() - started < 10
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("cache*/**/*.npy"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nix", r"^data=s3://bucket/nix does not exist: there is no file of that name, and none below it$"),
        ("x.parquet", r"^data=s3://bucket/x\.parquet does not exist"),
        ("x", r"^s3://bucket/x holds 0 class folders, no Parquet files and no tar shards"),
    ],
)
def test_an_address_where_no_data_are_is_refused(tmp_path, server, address, message):
    (server.folder / "x").mkdir()
    (server.folder / "x" / "thesis.tex").write_text("precious")
    refused(tmp_path, server.uri(address), message)


def test_a_bucket_that_is_not_there_is_refused(tmp_path, server):
    refused(
        tmp_path, server.uri("x").replace("bucket", "other"), r"^data=s3://other/x cannot be read: .*NO_SUCH_BUCKET"
    )


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ((403, "AccessDenied"), "ACCESS_DENIED"),
        ((500, "InternalError"), "HTTP status 500"),
        ("nothing", "Timeout was reached"),
    ],
    ids=["forbidden", "broken", "silent"],
)
def test_a_storage_that_does_not_give_is_told_in_one_line_and_soon(tmp_path, server, answers, message):
    write_folder(server.folder / "x", count=1)
    server.answers = answers
    refused(tmp_path, server.uri("x"), f"^data=s3://bucket/x cannot be read: .*{message}")


def test_a_storage_without_a_network_is_told_in_one_line_and_soon(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = f"endpoint_override=127.0.0.1:{port}&scheme=http"
    refused(tmp_path, f"s3://b/x?{options}&region=r", "^data=s3://b/x cannot be read: .*NETWORK_CONNECTION")
    refused(tmp_path, f"gs://anonymous@b/x?{options}", "^data=gs://anonymous@b/x cannot be read: ")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "gopher://x/y",
            r"^data=gopher://x/y is at an address of no known kind: data takes s3://, .*hf:// and file://",
        ),
        ("https://a.org/x.tar", r"^data=https://a\.org/x\.tar is at an address of no known kind"),
        ("s3://", r"^data=s3:.* names no bucket"),
        ("s3://me:secret@bucket/x", r"^data=s3://\.\.\.@bucket/x holds a password"),
        ("file://elsewhere/x", r"^data=file://elsewhere/x cannot be understood"),
    ],
)
def test_addresses_that_name_no_place_are_refused(tmp_path, address, message):
    refused(tmp_path, address, message)


def test_an_address_of_this_machine_is_its_path(tmp_path):
    write_folder(tmp_path / "x y")
    address = (tmp_path / "x y").as_uri()
    assert source(tmp_path, address).path == tmp_path / "x y"
    assert_same(open_dataset(source(tmp_path, address)), open_dataset(source(tmp_path, tmp_path / "x y")))


class Hub(DirFileSystem):
    """A hub whose repositories lie in a folder: it gives hashes in place of times."""

    def __init__(self, folder):
        super().__init__(str(folder), LocalFileSystem(skip_instance_cache=True))

    def info(self, path, **kwargs):
        return self._of_hub(super().info(path, **kwargs))

    def find(self, path, **kwargs):
        return {name: self._of_hub(info) for name, info in super().find(path, **kwargs).items()}

    def _of_hub(self, info):
        del info["mtime"]
        return {**info, "blob_id": str(info["ino"])}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfFileSystem", lambda: Hub(tmp_path / "hub"))
    addresses.file_system.cache_clear()
    yield tmp_path / "hub" / "datasets" / "me"
    addresses.file_system.cache_clear()


@pytest.mark.parametrize("decoded", ["cache", "stream"])
@pytest.mark.parametrize("kind", WRITERS)
def test_files_on_the_hub_are_the_data_of_the_same_files_on_a_disk(tmp_path, hub, kind, decoded):
    hub.mkdir(parents=True)
    WRITERS[kind](hub / "x")
    expected = open_dataset(source(tmp_path / "disk", hub / "x", decoded))
    found = open_dataset(source(tmp_path, "hf://datasets/me/x", decoded))
    assert_same(found, expected)
    file = next(path for path in sorted((hub / "x").rglob("*train*" if kind != "folder" else "*.*")) if path.is_file())
    content = file.read_bytes()
    (hub / "other").write_bytes(content)
    (hub / "other").replace(file)  # of the same size
    again = source(tmp_path, "hf://datasets/me/x", decoded)
    assert open_dataset(again).fingerprint == found.fingerprint
    assert len(list((tmp_path / f"cache {decoded}" / "index").glob("*.json"))) == 2


def test_the_hub_says_what_is_not_there(tmp_path, hub):
    hub.mkdir(parents=True)
    refused(tmp_path, "hf://datasets/me/nix", "^data=hf://datasets/me/nix does not exist")


def test_what_a_trial_is_told_is_the_address(tmp_path, server):
    write_folder(server.folder / "x")
    told = source(tmp_path, server.uri("x"))
    made = open_dataset(told)
    elsewhere = replace(told, cache_dir=str(tmp_path / "another machine"))
    assert_same(open_fingerprint(elsewhere, made.fingerprint), made)
