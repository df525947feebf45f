"""A data set: its images, decoded at most once on each machine or whenever they are taken, and their labels.

What identifies a data set does not tell how its images are held: its fingerprint and the mean and standard deviation
of its channels are the same for both. Of up to ``LARGE`` images all pixels count for them. Of a folder, Parquet files
or tar shards with more, ``SAMPLE`` training images do, drawn once and for all, beside the labels and the names and
sizes of all files, and of all images in shards: to decode a million images takes an hour of a core. So of a large data
set a file that is replaced by one of equal size goes unnoticed unless it is in the sample; and its images are decoded
in colour unless ``channels=1``.
"""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from PIL import Image

from raytransfer.errors import UserError
from raytransfer.tasks.decode import (
    ColourFoundError,
    Decoding,
    ImageError,
    Images,
    Labels,
    Raw,
    check_space,
    decode_images,
    every_error,
    first_decoding,
)
from raytransfer.tasks.draws import stable_permutation, stratified_half
from raytransfer.tasks.folder import FolderSource
from raytransfer.tasks.parquet import ParquetSource
from raytransfer.tasks.parts import Contents
from raytransfer.tasks.shards import ShardSource
from raytransfer.tasks.sources import DataSource, Source, find_source
from raytransfer.tasks.streamed import (
    ImageRows,
    StreamedImages,
    ahead,
    blocks,
    read_index,
    write_copies,
    write_index,
    write_members,
)
from raytransfer.words import number_of

DECODE_VERSION = 2
"""Raised whenever the same files would be decoded into other arrays, or the cache is laid out anew."""

LARGE = 75_000
"""Images, training and test, of files of the user's own beyond which a sample stands for all: MNIST has fewer."""

SAMPLE = 5000
"""Training images of that sample."""

_LARGE_VERSION = 1  # raised whenever the same files would give a large data set another fingerprint
_ENCODED = FolderSource | ParquetSource | ShardSource  # whose images are at hand as they are encoded
_LOG = logging.getLogger("raytransfer")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set's images and labels; arrays are read-only and mapped from the cache, so that trials share them.

    Attributes:
        name: Its name, for people.
        fingerprint: Hash of images, labels and class names; of a large data set as this module's text says.
        class_names: One name a class; classes without any image are left out.
        train_images: (N, C, H, W), C = 1 (grey) or 3 (RGB), values 0..255; an array, or ``StreamedImages``.
        train_labels: (N,) indices into ``class_names``.
        test_images: (M, C, H, W).
        test_labels: (M,).
        channel_mean: (C,) mean over the training images' pixels, in 0..255 units; of a large data set the sample's.
        channel_std: (C,) standard deviation likewise; 1 for a channel that never varies, so that one can divide by it.
        sample: Training images that stand for all in fingerprint, mean and standard deviation; None where all count.
        contents: What of the source is used for what; None where the cache was opened without a look at the source.
    """

    name: str
    fingerprint: str
    class_names: tuple[str, ...]
    train_images: ImageRows
    train_labels: Labels
    test_images: ImageRows
    test_labels: Labels
    channel_mean: npt.NDArray[np.float32]
    channel_std: npt.NDArray[np.float32]
    sample: int | None = None
    contents: Contents | None = None

    @property
    def streamed(self) -> bool:
        """Whether images are decoded whenever they are taken."""
        return isinstance(self.train_images, StreamedImages)


def open_dataset(source: DataSource) -> Dataset:
    """Open a data set: from the cache where it is there, else by decoding it into the cache.

    A source without a test part gets a fixed half of each class, rounded down, as its test part.

    Args:
        source: What to open, and the cache.

    Returns:
        The data set.

    Raises:
        UserError: The data are not found, not readable or not a classification set, or the cache cannot be written.
    """
    _check_is_text("data", source.name)
    found = find_source(source)
    return replace(_opened(found, source), contents=found.contents())


def _opened(found: Source, source: DataSource) -> Dataset:
    try:
        wanted: dict[str, Any] = {"image_size_px": source.image_size_px, "channels": source.channels}
        if source.interpolation != "bilinear":
            wanted["interpolation"] = source.interpolation
        if isinstance(found, ShardSource) or _is_large(found):  # of shards that is only known once all are read
            wanted["large_version"] = _LARGE_VERSION
        identity = {**found.identity(), **wanted, "decode_version": DECODE_VERSION}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        cache = Path(source.cache_dir).expanduser()
        streamed = _is_to_stream(found, source, cache / "index" / f"{key}.json")
    except OSError as error:
        raise _unreadable(source.data, error) from None
    cached = _indexed(cache, key, source, streamed=streamed)
    if cached is not None:
        return cached
    try:
        (cache / "index").mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "index" / f"{key}.lock"):  # another process may be decoding the same data
            cached = _indexed(cache, key, source, streamed=streamed)
            if cached is not None:
                return cached
            return _made(found, source, cache, key, identity, streamed=streamed)
    except OSError as error:
        raise UserError(f"cache_dir {cache} cannot be written: {error.strerror or error}; choose another") from None


def _is_large(found: Source) -> bool:
    return isinstance(found, _ENCODED) and found.count > LARGE


def _count(found: FolderSource | ParquetSource | ShardSource, note: Path) -> int:
    """How many images there are; of shards the cache notes it, since to look through a million takes a minute."""
    if isinstance(found, ShardSource):
        try:
            return int(json.loads(note.read_text())["count"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
    return found.count


def _is_to_stream(found: Source, source: DataSource, note: Path) -> bool:
    """Whether images are streamed: as asked, or where decoded they would take more than ``cache_gb``.

    That is estimated with three channels unless ``channels=1``, so that no image has to be read for it where
    ``image_size_px`` is given.

    Args:
        found: What was found.
        source: What was asked for.
        note: What the cache notes of it.

    Raises:
        UserError: They are to be, and no encoded images are at hand.
    """
    if not isinstance(found, _ENCODED):
        if source.decoded == "stream":
            raise UserError(
                f"decoded=stream is for folders of images, Parquet files and tar shards, which data={source.data} does "
                "not name (a path has a / in it): what a library gives is decoded into the cache"
            )
        return False
    if source.decoded != "auto":
        return source.decoded == "stream"
    if source.image_size_px is None:
        raw = _read(found, source.data)
        _, height, width = first_decoding(raw, None, source.channels, source.interpolation).shape
    else:
        height = width = source.image_size_px
    return _count(found, note) * (source.channels or 3) * height * width > source.cache_gb * 1e9


def _files(found: Source, identity: dict[str, Any]) -> list[tuple[str, int]]:
    """Name and size of each file of a source, wherever its folder lies, and of each image in shards.

    It is empty for what is not files of the user's.
    """
    if isinstance(found, ShardSource):
        members = found.members
        return [*members.files, *zip(members.names, members.sizes.tolist(), strict=True)]
    inside = os.path.basename if identity["kind"] == "parquet" else str
    return [(inside(name), size) for name, size, *_ in identity.get("files", ())]


def open_fingerprint(source: DataSource, fingerprint: str) -> Dataset:
    """Open exactly the data that another machine opened.

    Args:
        source: Where to find them if they are not in this machine's cache.
        fingerprint: Their fingerprint.

    Returns:
        The data set.

    Raises:
        UserError: This machine's data are others; or as for ``open_dataset``.
    """
    cache = Path(source.cache_dir).expanduser()
    for streamed in {"cache": (False,), "stream": (True,)}.get(source.decoded, (False, True)):
        cached = _cached(cache, fingerprint, source, streamed=streamed)
        if cached is not None:
            return cached
    dataset = open_dataset(source)
    if dataset.fingerprint != fingerprint:
        raise UserError(
            f"the data on this machine differ from the driver's: {source.data!r} has fingerprint "
            f"{dataset.fingerprint} here and {fingerprint} there; give both the same files and library versions"
        )
    return dataset


def _indexed(cache: Path, key: str, source: DataSource, *, streamed: bool) -> Dataset | None:
    try:
        fingerprint = json.loads((cache / "index" / f"{key}.json").read_text())["fingerprint"]
        if streamed and _key_of(_entry(cache, fingerprint, source, streamed=True)) != key:
            return None  # the same images in other files
        return _cached(cache, fingerprint, source, streamed=streamed)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key_of(entry: Path) -> Any:
    return json.loads((entry / "meta.json").read_text())["key"]


def _entry(cache: Path, fingerprint: str, source: DataSource, *, streamed: bool) -> Path:
    """Where a data set is kept: decoded by its fingerprint alone; an index of files also by where these lie."""
    place = f"-{hashlib.sha256(os.fsencode(source.path)).hexdigest()[:8]}" if streamed else ""
    return cache / f"{fingerprint}{place}"


def _cached(cache: Path, fingerprint: str, source: DataSource, *, streamed: bool) -> Dataset | None:
    """Load the cached data set, or None where it is missing or damaged."""
    entry = _entry(cache, fingerprint, source, streamed=streamed)
    try:
        meta = json.loads((entry / "meta.json").read_text())
        if streamed:
            how = Decoding(**{**meta["decoding"], "shape": tuple(meta["shape"])})
            train, test = _streamed(entry, source, how)
        else:
            train, test = _array(entry, "train_images"), _array(entry, "test_images")
        return Dataset(
            name=source.name,
            fingerprint=fingerprint,
            class_names=tuple(meta["class_names"]),
            channel_mean=np.array(meta["channel_mean"], dtype=np.float32),
            channel_std=np.array(meta["channel_std"], dtype=np.float32),
            sample=meta.get("sample"),
            train_images=train,
            train_labels=_array(entry, "train_labels"),
            test_images=test,
            test_labels=_array(entry, "test_labels"),
        )
    except (OSError, ValueError, EOFError, KeyError, TypeError):  # np.load refuses a file that is too short
        return None


def _array(folder: Path, name: str) -> Any:
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def _streamed(folder: Path, source: DataSource, how: Decoding) -> tuple[ImageRows, ImageRows]:
    """The training and the test images of an index."""
    index, is_test = read_index(folder, _root(source)), _array(folder, "is_test")
    train, test = (StreamedImages(index, np.flatnonzero(is_test == of_test), how) for of_test in (False, True))
    return train, test


def _root(source: DataSource) -> Path:
    """The folder in which the files of a source lie."""
    return source.path if source.path.is_dir() else source.path.parent


def _made(
    found: Source, source: DataSource, cache: Path, key: str, identity: dict[str, Any], *, streamed: bool
) -> Dataset:
    """Decode a data set into the cache, or look through the images that are to be streamed."""
    raw = _without_empty_classes(_read(found, source.data), source.name)
    files = _files(found, identity)
    is_test = stratified_half(raw.labels) if raw.is_test is None else raw.is_test
    _check_parts(raw, is_test, source.name)
    large = _is_large(found)
    _LOG.info(
        "%s %s: %s, once on this machine",
        "looking through" if streamed else "decoding",
        source.name,
        f"the files of {len(raw.labels)} images" if streamed and large else number_of(len(raw.labels), "image"),
    )
    channels = source.channels or (3 if large else None)
    how = first_decoding(raw, source.image_size_px, channels, source.interpolation)
    partial = cache / f"partial-{key}"
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    try:
        np.save(partial / "train_labels.npy", raw.labels[~is_test])
        np.save(partial / "test_labels.npy", raw.labels[is_test])
        if streamed:
            if isinstance(found, ParquetSource):  # of which no single row can be read
                check_space(cache, sum(size for _, size in files), "the encoded images, which are copied there, take")
                write_copies(raw, _root(source), partial)
            elif isinstance(found, ShardSource):
                write_members(found.members, partial)
            else:
                write_index(files, partial)
            np.save(partial / "is_test.npy", is_test)

        def finished(how: Decoding) -> str:
            if streamed:
                train, test = _streamed(partial, source, how)
            else:
                decode_images(raw, is_test, how, (partial / "train_images.npy", partial / "test_images.npy"))
                train, test = _array(partial, "train_images"), _array(partial, "test_images")
            return _finish(partial, train, test, raw.class_names, how, key, files if large else None)

        try:
            fingerprint = finished(how)
        except ColourFoundError:  # rare, and cheaper than reading every file's header first
            fingerprint = finished(replace(how, shape=(3, *how.shape[1:])))
        _publish(partial, cache, fingerprint, source, streamed=streamed)
    except ImageError:
        if not large and (error := every_error(raw, how)) is not None:  # those of a large data set would take too long
            raise error from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    index = cache / "index" / f"{key}.json"
    index.with_suffix(".partial").write_text(
        json.dumps({"fingerprint": fingerprint, "name": source.name, "count": len(raw.labels)})
    )
    index.with_suffix(".partial").replace(index)
    dataset = _cached(cache, fingerprint, source, streamed=streamed)
    if dataset is None:
        raise UserError(f"cache_dir {cache} did not keep what was just written to {fingerprint}: choose another")
    return dataset


def _read(found: Source, data: str) -> Raw:
    try:
        return found.read()
    except OSError as error:
        raise _unreadable(data, error) from None


def _unreadable(data: str, error: OSError) -> UserError:
    return UserError(f"data {data!r} cannot be read: {error.strerror or error}: {error.filename}")


def _without_empty_classes(raw: Raw, name: str) -> Raw:
    """Metadata may name classes of which a subset holds no image; nothing can be learnt about those."""
    counts = np.bincount(raw.labels, minlength=len(raw.class_names))
    kept = np.flatnonzero(counts)
    if len(kept) < 2:
        raise UserError(f"{name} has images of {number_of(len(kept), 'class')}: a data set needs at least 2")
    if len(kept) < len(counts):
        _LOG.info("%s: of its %d classes %d without an image left out", name, len(counts), len(counts) - len(kept))
    names = tuple(raw.class_names[i] for i in kept)
    for class_name in names:
        _check_is_text(f"a class of {name}", class_name)
    twice = {class_name for class_name in names if names.count(class_name) > 1}
    if twice:
        raise UserError(f"{name} has several classes named {', '.join(sorted(twice))}: class names must differ")
    labels = np.searchsorted(kept, raw.labels).astype(np.int64)
    return Raw(class_names=names, labels=labels, is_test=raw.is_test, images=raw.images)


def _check_is_text(what: str, name: str) -> None:
    """Check that a name can be written into results; one of a file may hold bytes that are no text.

    Raises:
        UserError: It cannot.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} is named {name!r}, which is not valid UTF-8: rename it") from None


def _check_parts(raw: Raw, is_test: npt.NDArray[np.bool_], name: str) -> None:
    for part, labels in (("training", raw.labels[~is_test]), ("test", raw.labels[is_test])):
        empty = np.flatnonzero(np.bincount(labels, minlength=len(raw.class_names)) == 0)
        if len(empty):
            raise UserError(
                f"class {raw.class_names[empty[0]]!r} of {name} has 0 {part} images: every class needs at least 1 "
                "training and 1 test image"
            )


def _finish(
    folder: Path,
    train: ImageRows,
    test: ImageRows,
    class_names: tuple[str, ...],
    how: Decoding,
    key: str,
    files: list[tuple[str, int]] | None,
) -> str:
    """Write meta.json beside the arrays.

    Args:
        folder: Where the labels are.
        train: The training images.
        test: The test images.
        class_names: Names of the classes.
        how: How the images are decoded.
        key: Key of the source.
        files: Name and size of each file of a large data set, of whose images a sample counts; None where all count.

    Returns:
        The fingerprint.
    """
    arrays: dict[str, Any] = {
        "train_images": train,
        "train_labels": _array(folder, "train_labels"),
        "test_images": test,
        "test_labels": _array(folder, "test_labels"),
    }
    shapes = {part: array.shape for part, array in arrays.items()}
    rows = {part: np.arange(len(array)) for part, array in arrays.items()}
    digest = hashlib.sha256(json.dumps([class_names, shapes], sort_keys=True).encode())
    if files is not None:
        digest.update(json.dumps(["large", _LARGE_VERSION, *files]).encode())
        drawn = stable_permutation(len(arrays["train_images"]), "sample of a large data set")[:SAMPLE]
        rows |= {"train_images": np.sort(drawn), "test_images": np.empty(0, dtype=np.int64)}
    counts = np.zeros((how.shape[0], 256), dtype=np.int64)
    for part, array in arrays.items():
        for pixels in ahead(array.__getitem__, blocks(array, rows[part])):
            digest.update(pixels.tobytes())
            if part == "train_images":
                counts += [_histogram(pixels[:, channel]) for channel in range(len(counts))]
    mean, std = _moments(counts)
    meta = {
        "class_names": class_names,
        "channel_mean": mean.tolist(),
        "channel_std": std.tolist(),
        "key": key,
        "shape": how.shape,
        "decoding": {"size_px": how.size_px, "interpolation": how.interpolation, "convert": how.convert},
        "sample": None if files is None else len(rows["train_images"]),
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return digest.hexdigest()[:16]


def _histogram(channel: Images) -> list[int]:
    """How often each of the 256 values is there; Pillow counts them eight times as fast as NumPy."""
    return Image.fromarray(channel.reshape(-1, channel.shape[-1])).histogram()


def _moments(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation per channel, from how often each has each of the 256 values (C, 256)."""
    values = np.arange(256, dtype=np.float64)
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)


def _publish(partial: Path, cache: Path, fingerprint: str, source: DataSource, *, streamed: bool) -> None:
    """Rename a finished entry into place.

    What another process has published there is as good, unless damaged; but not an index, whose files may have changed.
    """
    entry = _entry(cache, fingerprint, source, streamed=streamed)
    if not streamed and _cached(cache, fingerprint, source, streamed=False) is not None:
        return
    if entry.is_dir():
        shutil.rmtree(entry)
    entry.unlink(missing_ok=True)  # a file where a folder should be
    partial.rename(entry)
