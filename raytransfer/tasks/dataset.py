"""A data set as arrays, decoded at most once on each machine."""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from raytransfer.errors import UserError
from raytransfer.tasks.decode import Images, Labels, Raw, decode_images
from raytransfer.tasks.draws import stratified_half
from raytransfer.tasks.parts import Contents
from raytransfer.tasks.sources import DataSource, Source, find_source
from raytransfer.words import number_of

DECODE_VERSION = 2
"""Raised whenever the same files would be decoded into other arrays, or the cache is laid out anew."""

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_BLOCK = 1024  # images looked at together
_LOG = logging.getLogger("raytransfer")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set's decoded images; the arrays are read-only and mapped from the cache, so that trials share them.

    Attributes:
        name: Its name, for people.
        fingerprint: Hash of arrays, labels and class names.
        class_names: One name a class; classes without any image are left out.
        train_images: (N, C, H, W), C = 1 (grey) or 3 (RGB), values 0..255.
        train_labels: (N,) indices into ``class_names``.
        test_images: (M, C, H, W).
        test_labels: (M,).
        channel_mean: (C,) mean over the training images' pixels, in 0..255 units.
        channel_std: (C,) standard deviation likewise; 1 for a channel that never varies, so that one can divide by it.
        contents: What of the source is used for what; None where the cache was opened without a look at the source.
    """

    name: str
    fingerprint: str
    class_names: tuple[str, ...]
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    channel_mean: npt.NDArray[np.float32]
    channel_std: npt.NDArray[np.float32]
    contents: Contents | None = None


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
        identity = {**found.identity(), **wanted, "decode_version": DECODE_VERSION}
    except OSError as error:
        raise _unreadable(source.data, error) from None
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    cache = Path(source.cache_dir).expanduser()
    cached = _indexed(cache, key, source.name)
    if cached is not None:
        return cached
    try:
        (cache / "index").mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "index" / f"{key}.lock"):  # another process may be decoding the same data
            cached = _indexed(cache, key, source.name)
            return cached if cached is not None else _decoded(found, source, cache, key)
    except OSError as error:
        raise UserError(f"cache_dir {cache} cannot be written: {error.strerror or error}; choose another") from None


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
    cached = _cached(Path(source.cache_dir).expanduser(), fingerprint, source.name)
    if cached is not None:
        return cached
    dataset = open_dataset(source)
    if dataset.fingerprint != fingerprint:
        raise UserError(
            f"the data on this machine differ from the driver's: {source.data!r} has fingerprint "
            f"{dataset.fingerprint} here and {fingerprint} there; give both the same files and library versions"
        )
    return dataset


def _indexed(cache: Path, key: str, name: str) -> Dataset | None:
    try:
        fingerprint = json.loads((cache / "index" / f"{key}.json").read_text())["fingerprint"]
        return _cached(cache, fingerprint, name)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cached(cache: Path, fingerprint: str, name: str) -> Dataset | None:
    """Load the cached data set, or None where it is missing or damaged."""
    entry = cache / fingerprint
    try:
        meta = json.loads((entry / "meta.json").read_text())
        arrays: dict[str, Any] = {
            part: np.load(entry / f"{part}.npy", mmap_mode="r", allow_pickle=False) for part in _ARRAYS
        }
        return Dataset(
            name=name,
            fingerprint=fingerprint,
            class_names=tuple(meta["class_names"]),
            channel_mean=np.array(meta["channel_mean"], dtype=np.float32),
            channel_std=np.array(meta["channel_std"], dtype=np.float32),
            **arrays,
        )
    except (OSError, ValueError, EOFError, KeyError, TypeError):  # np.load refuses a file that is too short
        return None


def _decoded(found: Source, source: DataSource, cache: Path, key: str) -> Dataset:
    raw = _without_empty_classes(_read(found, source.data), source.name)
    is_test = stratified_half(raw.labels) if raw.is_test is None else raw.is_test
    _check_parts(raw, is_test, source.name)
    _LOG.info("decoding %s: %s, once on this machine", source.name, number_of(len(raw.labels), "image"))
    partial = cache / f"partial-{key}"
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    try:
        np.save(partial / "train_labels.npy", raw.labels[~is_test])
        np.save(partial / "test_labels.npy", raw.labels[is_test])
        outs = (partial / "train_images.npy", partial / "test_images.npy")
        decode_images(raw, is_test, source.image_size_px, source.channels, outs, source.interpolation)
        fingerprint = _finish(partial, raw.class_names)
        _publish(partial, cache, fingerprint)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    index = cache / "index" / f"{key}.json"
    index.with_suffix(".partial").write_text(json.dumps({"fingerprint": fingerprint, "name": source.name}))
    index.with_suffix(".partial").replace(index)
    dataset = _cached(cache, fingerprint, source.name)
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


def _finish(folder: Path, class_names: tuple[str, ...]) -> str:
    """Write meta.json beside the arrays; the fingerprint."""
    arrays = {part: np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False) for part in _ARRAYS}
    mean, std = _channel_moments(arrays["train_images"])
    shapes = {part: array.shape for part, array in arrays.items()}
    digest = hashlib.sha256(json.dumps([class_names, shapes], sort_keys=True).encode())
    for array in arrays.values():
        for start in range(0, len(array), _BLOCK):
            digest.update(array[start : start + _BLOCK].tobytes())
    meta = {
        "class_names": class_names,
        "channel_mean": mean.tolist(),
        "channel_std": std.tolist(),
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return digest.hexdigest()[:16]


def _channel_moments(images: Images) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation per channel, from exact counts of the 256 values."""
    channels = images.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        for channel in range(channels):
            counts[channel] += np.bincount(block[:, channel].ravel(), minlength=256)
    values = np.arange(256, dtype=np.float64)
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)


def _publish(partial: Path, cache: Path, fingerprint: str) -> None:
    """Rename a finished entry into place; what another process has published there is as good, unless damaged."""
    entry = cache / fingerprint
    if _cached(cache, fingerprint, "") is not None:
        return
    if entry.is_dir():
        shutil.rmtree(entry)
    entry.unlink(missing_ok=True)  # a file where a folder should be
    partial.rename(entry)
