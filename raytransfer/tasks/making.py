"""Making a cache entry of a data set: decoding its images, or indexing those that will be streamed.

Fingerprint, channel means and standard deviations are the same whether images are decoded into the cache or streamed.
With up to ``LARGE`` images they are computed from all pixels. With more, in a folder, Parquet files or tar shards,
decoding all of them would take a core an hour for every million. So means and standard deviations are those of a fixed
sample of ``SAMPLE`` training images, and the fingerprint covers the sample's pixels, all labels, and names and sizes of
all files and, in shards, of all images. A file of a large data set that is replaced by one of equal size goes unnoticed
unless it is in the sample. Images of a large data set are decoded in colour unless ``channels=1``.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from raytransfer.errors import UserError
from raytransfer.tasks.dataset import Dataset, cached, publish, root_of, streamed_parts
from raytransfer.tasks.decode import Raw, check_space, decode_images, every_error, first_decoding
from raytransfer.tasks.draws import stable_permutation, stratified_half
from raytransfer.tasks.folder import FolderSource
from raytransfer.tasks.image import ColourFoundError, Decoding, ImageError, Images
from raytransfer.tasks.parquet import ParquetSource
from raytransfer.tasks.shards import ShardSource
from raytransfer.tasks.sources import DataSource, Source, unreadable
from raytransfer.tasks.streamed import ImageRows, array, blocks, write_copies, write_index, write_members
from raytransfer.tasks.threads import ahead
from raytransfer.words import number_of

LARGE = 75_000
"""Number of the user's own images, training and test, above which a sample is used; MNIST has fewer."""

LARGE_VERSION = 1
"""Incremented when the same files would give a large data set another fingerprint."""

SAMPLE = 5000
"""Training images in that sample."""

EncodedSource = FolderSource | ParquetSource | ShardSource
"""Sources that give images as they are encoded, so that these can be streamed."""

_LOG = logging.getLogger("raytransfer")


def make(
    found: Source, source: DataSource, cache: Path, key: str, identity: dict[str, Any], *, streamed: bool
) -> Dataset:
    """Decode a data set into the cache, or index the images that are to be streamed, and open it.

    Args:
        found: What gives its images.
        source: Where it is, and how its images are decoded.
        cache: The cache, a folder that is there.
        key: Key of ``identity``, under which the cache is asked for it.
        identity: What tells the source from any other, and from itself as it was before a change.
        streamed: Whether images are decoded as they are needed, and not into the cache.

    Raises:
        ImageError: An image cannot be used.
        UserError: It is no classification set, it cannot be read, or the cache does not keep it.
        OSError: The cache cannot be written.
    """
    raw = _without_empty_classes(read(found, source.data), source.name)
    files = _files(found, identity)
    is_test = stratified_half(raw.labels) if raw.is_test is None else raw.is_test
    _check_parts(raw, is_test, source.name)
    large = is_large(found)
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
                write_copies(raw, root_of(source), partial)
            elif isinstance(found, ShardSource):
                write_members(found.members, partial)
            else:
                write_index(files, partial)
            np.save(partial / "is_test.npy", is_test)

        def finished(how: Decoding) -> str:
            if streamed:
                train, test = streamed_parts(partial, source, how)
            else:
                decode_images(raw, is_test, how, (partial / "train_images.npy", partial / "test_images.npy"))
                train, test = array(partial, "train_images"), array(partial, "test_images")
            return _finish(partial, train, test, raw.class_names, how, key, files if large else None)

        try:
            fingerprint = finished(how)
        except ColourFoundError:  # rare, and cheaper than reading every file's header first
            fingerprint = finished(replace(how, shape=(3, *how.shape[1:])))
        publish(partial, cache, fingerprint, source, streamed=streamed)
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
    dataset = cached(cache, fingerprint, source, streamed=streamed)
    if dataset is None:
        raise UserError(f"cache_dir {cache} did not keep what was just written to {fingerprint}: choose another")
    return dataset


def is_large(found: Source) -> bool:
    """Whether a sample of its images is used in place of all."""
    return isinstance(found, EncodedSource) and found.count > LARGE


def read(found: Source, data: str) -> Raw:
    """Read a source's labels; its images are read later, one after the other.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return found.read()
    except OSError as error:
        raise unreadable(data, error) from None


def check_is_text(what: str, name: str) -> None:
    """Check that a name is valid UTF-8, which names of files need not be.

    Raises:
        UserError: It is not.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} is named {name!r}, which is not valid UTF-8: rename it") from None


def _without_empty_classes(raw: Raw, name: str) -> Raw:
    """Drop classes without images, which metadata of a subset may name, and check the names of the others."""
    counts = np.bincount(raw.labels, minlength=len(raw.class_names))
    kept = np.flatnonzero(counts)
    if len(kept) < 2:
        raise UserError(f"{name} has images of {number_of(len(kept), 'class')}: a data set needs at least 2")
    if len(kept) < len(counts):
        _LOG.info("%s: of its %d classes %d without an image left out", name, len(counts), len(counts) - len(kept))
    names = tuple(raw.class_names[i] for i in kept)
    for class_name in names:
        check_is_text(f"a class of {name}", class_name)
    twice = {class_name for class_name in names if names.count(class_name) > 1}
    if twice:
        raise UserError(f"{name} has several classes named {', '.join(sorted(twice))}: class names must differ")
    labels = np.searchsorted(kept, raw.labels).astype(np.int64)
    return Raw(class_names=names, labels=labels, is_test=raw.is_test, images=raw.images)


def _check_parts(raw: Raw, is_test: npt.NDArray[np.bool_], name: str) -> None:
    for part, labels in (("training", raw.labels[~is_test]), ("test", raw.labels[is_test])):
        empty = np.flatnonzero(np.bincount(labels, minlength=len(raw.class_names)) == 0)
        if len(empty):
            raise UserError(
                f"class {raw.class_names[empty[0]]!r} of {name} has 0 {part} images: every class needs at least 1 "
                "training and 1 test image"
            )


def _files(found: Source, identity: dict[str, Any]) -> list[tuple[str, int]]:
    """Name, relative to the source's folder, and size of each file, and of each image in shards.

    Empty for sources that are not the user's own files.
    """
    if isinstance(found, ShardSource):
        members = found.members
        return [*members.files, *zip(members.names, members.sizes.tolist(), strict=True)]
    inside = os.path.basename if identity["kind"] == "parquet" else str
    return [(inside(name), size) for name, size, *_ in identity.get("files", ())]


def _finish(
    folder: Path,
    train: ImageRows,
    test: ImageRows,
    class_names: tuple[str, ...],
    how: Decoding,
    key: str,
    files: list[tuple[str, int]] | None,
) -> str:
    """Compute fingerprint and statistics, and write meta.json and the images' hashes beside the labels.

    Args:
        folder: The cache entry under way, which holds the labels.
        train: The training images.
        test: The test images.
        class_names: Names of the classes.
        how: How the images are decoded.
        key: Key of the source.
        files: Name and size of each file of a large data set; None for any other.

    Returns:
        The fingerprint.
    """
    arrays: dict[str, Any] = {
        "train_images": train,
        "train_labels": array(folder, "train_labels"),
        "test_images": test,
        "test_labels": array(folder, "test_labels"),
    }
    shapes = {part: held.shape for part, held in arrays.items()}
    rows = {part: np.arange(len(held)) for part, held in arrays.items()}
    digest = hashlib.sha256(json.dumps([class_names, shapes], sort_keys=True).encode())
    if files is not None:
        digest.update(json.dumps(["large", LARGE_VERSION, *files]).encode())
        drawn = stable_permutation(len(arrays["train_images"]), "sample of a large data set")[:SAMPLE]
        rows |= {"train_images": np.sort(drawn), "test_images": np.empty(0, dtype=np.int64)}
    counts = np.zeros((how.shape[0], 256), dtype=np.int64)
    hashes: dict[str, list[bytes]] = {"train": [], "test": []}
    for part, held in arrays.items():
        for pixels in ahead(held.__getitem__, blocks(held, rows[part])):
            digest.update(pixels.tobytes())
            if part == "train_images":
                counts += [_histogram(pixels[:, channel]) for channel in range(len(counts))]
            if files is None and part.endswith("images"):
                hashes[part.partition("_")[0]] += _hashes(pixels)
    for part, each in hashes.items() if files is None else ():
        np.save(folder / f"{part}_hashes.npy", np.frombuffer(b"".join(each), dtype=np.uint64))
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


def _hashes(pixels: Images) -> Iterator[bytes]:
    """Hash of each image's pixels."""
    return (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in pixels)


def _histogram(channel: Images) -> list[int]:
    """Count each of the 256 values; Pillow does it eight times as fast as NumPy."""
    return Image.fromarray(channel.reshape(-1, channel.shape[-1])).histogram()


def _moments(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of each channel, from its counts (C, 256) of the values 0..255."""
    values = np.arange(256, dtype=np.float64)
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)
