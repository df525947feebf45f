"""A data set: its labels, and its images, either decoded into a cache or decoded on every access."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raytransfer.tasks.decode import Labels
from raytransfer.tasks.image import Decoding
from raytransfer.tasks.parts import Contents
from raytransfer.tasks.places import Place, full_name
from raytransfer.tasks.sources import DataSource
from raytransfer.tasks.streamed import ImageRows, StreamedImages, array, read_index

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set's images and labels; arrays are read-only and memory-mapped from the cache, so trials share them.

    Attributes:
        name: Its name, for people.
        fingerprint: Hash of images, labels and class names; for large data sets see ``raytransfer.tasks.making``.
        class_names: Name of each class; classes without images are left out.
        train_images: (N, C, H, W), C = 1 (grey) or 3 (RGB), values 0..255; an array, or ``StreamedImages``.
        train_labels: (N,) indices into ``class_names``.
        test_images: (M, C, H, W).
        test_labels: (M,).
        channel_mean: (C,) mean of the training images' pixels, in 0..255 units; of a large data set, of its sample.
        channel_std: (C,) standard deviation likewise; 1 for a constant channel, so that one can divide by it.
        sample: Number of training images from which fingerprint, mean and standard deviation are computed; None for
            all.
        train_hashes: (N,) hash of each training image's pixels; None for a large data set.
        test_hashes: (M,) likewise.
        contents: Which files are used for what; None if the cache was opened without looking at the source.
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
    train_hashes: Hashes | None = None
    test_hashes: Hashes | None = None
    contents: Contents | None = None

    @property
    def streamed(self) -> bool:
        """Whether images are decoded on every access."""
        return isinstance(self.train_images, StreamedImages)

    @property
    def repeated(self) -> int:
        """How many test images have the same pixels as a training image; 0 for a large data set."""
        return _count_in(self.test_hashes, self.train_hashes)

    def shared_with(self, other: "Dataset") -> int:
        """How many images have the same pixels as an image of another data set; 0 if either is large."""
        if self.fingerprint == other.fingerprint:
            return len(self.train_labels) + len(self.test_labels)
        return _count_in(self._hashes, other._hashes)

    @property
    def _hashes(self) -> Hashes | None:
        if self.train_hashes is None or self.test_hashes is None:
            return None
        return np.concatenate([self.train_hashes, self.test_hashes])


def _count_in(hashes: Hashes | None, others: Hashes | None) -> int:
    return 0 if hashes is None or others is None else int(np.isin(hashes, others).sum())


def indexed(cache: Path, key: str, source: DataSource, *, streamed: bool) -> Dataset | None:
    """Load the data set that the cache holds for a source's key; None if it is missing or damaged."""
    try:
        fingerprint = json.loads((cache / "index" / f"{key}.json").read_text())["fingerprint"]
        if streamed and _meta(_entry(cache, fingerprint, source, streamed=True))["key"] != key:
            return None  # the same images in other files
        return cached(cache, fingerprint, source, streamed=streamed)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cached(cache: Path, fingerprint: str, source: DataSource, *, streamed: bool) -> Dataset | None:
    """Load a data set from the cache; None if it is missing or damaged."""
    entry = _entry(cache, fingerprint, source, streamed=streamed)
    try:
        meta = _meta(entry)
        if streamed:
            how = Decoding(**{**meta["decoding"], "shape": tuple(meta["shape"])})
            train, test = streamed_parts(entry, source, how)
        else:
            train, test = array(entry, "train_images"), array(entry, "test_images")
        return Dataset(
            name=source.name,
            fingerprint=fingerprint,
            class_names=tuple(meta["class_names"]),
            channel_mean=np.array(meta["channel_mean"], dtype=np.float32),
            channel_std=np.array(meta["channel_std"], dtype=np.float32),
            sample=meta["sample"],
            # An entry of an older version, which has none, is made anew.
            train_hashes=None if meta["sample"] is not None else array(entry, "train_hashes"),
            test_hashes=None if meta["sample"] is not None else array(entry, "test_hashes"),
            train_images=train,
            train_labels=array(entry, "train_labels"),
            test_images=test,
            test_labels=array(entry, "test_labels"),
        )
    except (OSError, ValueError, EOFError, KeyError, TypeError):  # np.load refuses a file that is too short
        return None


def publish(partial: Path, cache: Path, fingerprint: str, source: DataSource, *, streamed: bool) -> None:
    """Rename a finished entry into place.

    An entry that another process has published is kept unless it is damaged. An index of files is always replaced, as
    its files may have changed.
    """
    entry = _entry(cache, fingerprint, source, streamed=streamed)
    if not streamed and cached(cache, fingerprint, source, streamed=False) is not None:
        return
    if entry.is_dir():
        shutil.rmtree(entry)
    entry.unlink(missing_ok=True)  # a file where a folder should be
    try:
        partial.rename(entry)
    except OSError:
        if streamed or cached(cache, fingerprint, source, streamed=False) is None:
            raise


def streamed_parts(folder: Path, source: DataSource, how: Decoding) -> tuple[ImageRows, ImageRows]:
    """Open the training and the test images of an index of files."""
    index, is_test = read_index(folder, root_of(source)), array(folder, "is_test")
    train, test = (StreamedImages(index, np.flatnonzero(is_test == of_test), how) for of_test in (False, True))
    return train, test


def root_of(source: DataSource) -> Place:
    """The folder, or the address of the folder, that holds the files of a source."""
    return source.path if source.path.is_dir() else source.path.parent


def _entry(cache: Path, fingerprint: str, source: DataSource, *, streamed: bool) -> Path:
    """Folder of a cache entry, named by fingerprint; for an index of files also by where these lie."""
    place = f"-{hashlib.sha256(os.fsencode(full_name(source.path))).hexdigest()[:8]}" if streamed else ""
    return cache / f"{fingerprint}{place}"


def _meta(entry: Path) -> Any:
    return json.loads((entry / "meta.json").read_text())
