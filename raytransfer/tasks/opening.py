"""Opening a data set: from the cache, or by making its cache entry first."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from raytransfer.errors import UserError
from raytransfer.tasks.dataset import Dataset, cached, indexed
from raytransfer.tasks.decode import first_decoding
from raytransfer.tasks.making import LARGE_VERSION, EncodedSource, check_is_text, is_large, make, read
from raytransfer.tasks.shards import ShardSource
from raytransfer.tasks.sources import DataSource, Source, find_source, unreadable

DECODE_VERSION = 4
"""Incremented when the same files would be decoded into other arrays, or the layout of the cache changes."""


def open_dataset(source: DataSource) -> Dataset:
    """Open a data set from the cache, or decode it into the cache first.

    If a source has no test part, a fixed half of each class, rounded down, becomes its test part.

    Args:
        source: What to open, and the cache.

    Returns:
        The data set.

    Raises:
        UserError: The data are not found, not readable or not a classification set, or the cache cannot be written.
    """
    check_is_text("data", source.name)
    found = find_source(source)
    return replace(_opened(found, source), contents=found.contents())


def open_fingerprint(source: DataSource, fingerprint: str) -> Dataset:
    """Open exactly the data that another machine opened.

    Args:
        source: Where to find them if this machine's cache lacks them.
        fingerprint: Their fingerprint.

    Returns:
        The data set.

    Raises:
        UserError: The data on this machine differ; or as for ``open_dataset``.
    """
    cache = Path(source.cache_dir).expanduser()
    for streamed in {"cache": (False,), "stream": (True,)}.get(source.decoded, (False, True)):
        there = cached(cache, fingerprint, source, streamed=streamed)
        if there is not None:
            return there
    dataset = open_dataset(source)
    if dataset.fingerprint != fingerprint:
        raise UserError(
            f"the data on this machine differ from the driver's: {source.data!r} has fingerprint "
            f"{dataset.fingerprint} here and {fingerprint} there; give both the same files and library versions"
        )
    return dataset


def _opened(found: Source, source: DataSource) -> Dataset:
    try:
        wanted: dict[str, Any] = {"image_size_px": source.image_size_px, "channels": source.channels}
        if source.interpolation != "bilinear":
            wanted["interpolation"] = source.interpolation
        if isinstance(found, ShardSource) or is_large(found):  # of shards that is only known once all are read
            wanted["large_version"] = LARGE_VERSION
        identity = {**found.identity(), **wanted, "decode_version": DECODE_VERSION}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        cache = Path(source.cache_dir).expanduser()
        streamed = _is_to_stream(found, source, cache, key)
    except OSError as error:
        raise unreadable(source.data, error) from None
    there = indexed(cache, key, source, streamed=streamed)
    if there is not None:
        return there
    try:
        (cache / "index").mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "index" / f"{key}.lock"):  # another process may be decoding the same data
            there = indexed(cache, key, source, streamed=streamed)
            if there is not None:
                return there
            return make(found, source, cache, key, identity, streamed=streamed)
    except OSError as error:
        raise UserError(f"cache_dir {cache} cannot be written: {error.strerror or error}; choose another") from None


def _is_to_stream(found: Source, source: DataSource, cache: Path, key: str) -> bool:
    """Whether images are streamed: as asked, or if they would take more than ``cache_gb`` decoded.

    Unless ``channels=1``, three channels are assumed, so that no image has to be read if ``image_size_px`` is given.

    Args:
        found: What was found.
        source: What was asked for.
        cache: The cache.
        key: Its key there.

    Raises:
        UserError: Streaming was asked for, and the source has no encoded images.
    """
    if not isinstance(found, EncodedSource):
        if source.decoded == "stream":
            raise UserError(
                f"decoded=stream is for folders of images, Parquet files and tar shards, which data={source.data} does "
                "not name (a path has a / in it): what a library gives is decoded into the cache"
            )
        return False
    if source.decoded != "auto":
        return source.decoded == "stream"
    pixels = _pixels(found, source, cache, key)
    return _count(found, cache / "index" / f"{key}.json") * (source.channels or 3) * pixels > source.cache_gb * 1e9


def _pixels(found: EncodedSource, source: DataSource, cache: Path, key: str) -> int:
    """Pixels of an image: from the cache if it has the data, as reading them from shards takes all headers."""
    if source.image_size_px is not None:
        return source.image_size_px**2
    for streamed in (False, True):
        there = indexed(cache, key, source, streamed=streamed)
        if there is not None:
            return math.prod(there.train_images.shape[2:])
    raw = read(found, source.data)
    return math.prod(first_decoding(raw, None, source.channels, source.interpolation).shape[1:])


def _count(found: EncodedSource, note: Path) -> int:
    """How many images there are: for shards from the cache if possible, as counting a million takes a minute."""
    if isinstance(found, ShardSource):
        try:
            return int(json.loads(note.read_text())["count"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
    return found.count
