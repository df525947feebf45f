"""Images that are decoded on every access, because decoded they would take too much space."""

import functools
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from raytransfer.errors import UserError
from raytransfer.tasks.decode import Labels, Raw
from raytransfer.tasks.image import Decoding, Images, unlimited_sizes
from raytransfer.tasks.places import CHANGED, REQUESTS, Place, RemotePath
from raytransfer.tasks.threads import THREADS

BLOB = "encoded.bin"
"""File of an index: the encoded images of Parquet files, one after the other."""

_HELD = "held.json"  # file of an index of shards: their names and sizes
_MOST_AT_ONCE = 16  # images a job
_JOBS = 4  # at least, for each thread, so that none waits long for the last


class ImageRows(Protocol):
    """Images (N, C, H, W), uint8, that are read by rows: an array or ``StreamedImages``, which give the same bits."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """(N, C, H, W)."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: Labels, /) -> Images:
        """A copy (n, C, H, W) of the images in these rows (n,), 0..N-1."""


def blocks(images: ImageRows, rows: Labels) -> list[Labels]:
    """Split rows into pieces whose images take some megabytes, for reading all of them."""
    size = max(1, 2**24 // math.prod(images.shape[1:]))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The pool of threads in which a process decodes."""
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")


@dataclass(frozen=True, kw_only=True, eq=False)
class Members:
    """Where images lie in files that hold many of them.

    Attributes:
        files: Name, relative to the source's folder, and size of each file.
        holders: (N,) which of the files holds each image.
        names: Name of each image, relative to that folder.
        starts: (N,) offset of each image in its file, in bytes.
        sizes: (N,) bytes of each encoded image.
    """

    files: tuple[tuple[str, int], ...]
    holders: Labels
    names: list[str]
    starts: Labels
    sizes: Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """Where the encoded images of a source lie; arrays are memory-mapped from the cache.

    Attributes:
        root: The source's folder or address, to which names are relative.
        held: Files that hold many images, and the size of each; None if every image is a file of its own.
        holders: (N,) which of those files holds each image.
        sizes: (N,) bytes of each encoded image.
        names: All names joined, as bytes of the file system.
        ends: (N,) where in ``names`` each name ends.
        starts: (N,) offset of each image in its file, in bytes.
    """

    root: Place
    held: Sequence[tuple[Place, int]] | None
    holders: Labels
    sizes: Labels
    names: npt.NDArray[np.uint8]
    ends: Labels
    starts: Labels

    def where(self, i: int) -> str:
        """Name of image ``i`` in errors: its file, its row of a Parquet file, or its member of a shard."""
        return self._before + self._name(i)

    @functools.cached_property
    def threads(self) -> int:
        """How many images to read and decode at once."""
        file = self.root if self.held is None else self.held[0][0]
        return REQUESTS if isinstance(file, RemotePath) else THREADS

    @functools.cached_property
    def _before(self) -> str:
        return str(self.root / "_")[:-1]

    def _name(self, i: int) -> str:
        start = int(self.ends[i - 1]) if i else 0
        return os.fsdecode(self.names[start : int(self.ends[i])].tobytes())

    def read(self, i: int) -> bytes:
        """The bytes of image ``i``.

        Raises:
            UserError: Its file cannot be read, is gone, or has another size than when the index was made.
        """
        size, start = int(self.sizes[i]), int(self.starts[i])
        file: Place | str
        if self.held is not None:
            file, whole = self.held[int(self.holders[i])]
        else:  # of a file on a disk its name is enough
            file = self.root / self._name(i) if isinstance(self.root, RemotePath) else self.where(i)
            whole = size
        try:
            content, now = file.read(start, size) if isinstance(file, RemotePath) else _read(file, start, size)
        except FileNotFoundError:
            raise UserError(f"{file} was there when the data were opened, and is gone: {CHANGED}") from None
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
        if now != whole or len(content) != size:
            raise UserError(f"{file} had {whole} bytes when the data were opened, and has {now} now: {CHANGED}")
        return content


def _read(file: Path | str, start: int, size: int) -> tuple[bytes, int]:
    """Some bytes of a file, and its size."""
    opened = os.open(file, os.O_RDONLY)
    try:
        return os.pread(opened, size, start), os.fstat(opened).st_size
    finally:
        os.close(opened)


def write_index(files: Sequence[tuple[str, int]], out: Path) -> None:
    """Write an index of images that are a file each.

    Args:
        files: Name, relative to the source's folder, and size of each.
        out: The folder to write into.

    Raises:
        OSError: The disk is full.
    """
    names = [os.fsencode(name) for name, _ in files]
    sizes = np.array([size for _, size in files], dtype=np.int64)
    _write(names, sizes, np.zeros_like(sizes), out)


def write_copies(raw: Raw, root: Place, out: Path) -> None:
    """Copy encoded images into one file, ``BLOB``, and write an index of it.

    Args:
        raw: The images.
        root: The source's folder.
        out: The folder to write into.

    Raises:
        OSError: The disk is full.
    """
    start, names, sizes = len(str(root / "_")) - 1, [], np.empty(len(raw.labels), dtype=np.int64)
    with (out / BLOB).open("wb") as blob:
        for i, (where, encoded) in enumerate(raw.images()):
            assert isinstance(encoded, bytes), "only encoded images are streamed"
            names.append(os.fsencode(where[start:]))
            sizes[i] = blob.write(encoded)
    _write(names, sizes, np.cumsum(sizes) - sizes, out)


def write_members(members: Members, out: Path) -> None:
    """Write an index of images in files that hold many of them.

    Args:
        members: Where they lie.
        out: The folder to write into.

    Raises:
        OSError: The disk is full.
    """
    np.save(out / "holders.npy", members.holders)
    (out / _HELD).write_text(json.dumps(members.files))
    _write([os.fsencode(name) for name in members.names], members.sizes, members.starts, out)


def _write(names: Sequence[bytes], sizes: Labels, starts: Labels, out: Path) -> None:
    np.save(out / "sizes.npy", sizes)
    np.save(out / "starts.npy", starts)
    np.save(out / "ends.npy", np.cumsum([len(name) for name in names], dtype=np.int64))
    np.save(out / "names.npy", np.frombuffer(b"".join(names), np.uint8))


def array(folder: Path, name: str) -> Any:
    """Open an array of a cache entry, memory-mapped and read-only."""
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def read_index(folder: Path, root: Place) -> Index:
    """The index that ``write_index``, ``write_copies`` or ``write_members`` wrote.

    Raises:
        OSError, ValueError, EOFError: It is missing or damaged.
    """
    arrays = {name: array(folder, name) for name in ("sizes", "names", "ends", "starts")}
    held: list[tuple[Place, int]] | None = None
    holders = np.broadcast_to(np.int64(0), arrays["sizes"].shape)
    if (folder / BLOB).exists():
        held = [(folder / BLOB, (folder / BLOB).stat().st_size)]
    elif (folder / _HELD).exists():
        held = [(root / name, size) for name, size in json.loads((folder / _HELD).read_text())]
        holders = array(folder, "holders")
    return Index(root=root, held=held, holders=holders, **arrays)


class StreamedImages:
    """Images that threads of this process decode on every access.

    Args:
        index: Where the source's encoded images lie.
        places: (N,) which of the source's images these are.
        how: How they are decoded.

    Attributes:
        shape: (N, C, H, W).
    """

    def __init__(self, index: Index, places: Labels, how: Decoding) -> None:
        self._index, self._places, self._how = index, places, how
        self.shape = (len(places), *how.shape)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: Labels, /) -> Images:
        """The images (n, C, H, W) of these rows.

        Raises:
            UserError: One cannot be read, is gone or has changed.
            ColourFoundError: One has colour though those before it had none.
        """
        places = self._places[rows].tolist()
        threads = self._index.threads
        channels, height, width = self._how.shape
        # With one channel both orders are the same memory; it gets the usual strides, by which PyTorch chooses kernels.
        out = np.empty((len(places), channels, height, width), dtype=np.uint8)
        if channels > 1:  # channels last in memory, as decoded: moving them takes a tenth of the time of decoding
            out = out.reshape(len(places), height, width, channels).transpose(0, 3, 1, 2)
        size = max(1, min(_MOST_AT_ONCE, len(places) // (_JOBS * threads)))

        def job(start: int) -> None:
            for i, place in enumerate(places[start : start + size], start):
                out[i] = self._how.decode(self._index.where(place), self._index.read(place))

        with unlimited_sizes():
            jobs = [_pool(threads).submit(job, start) for start in range(0, len(places), size)]
            wait(jobs)
        for done in jobs:
            done.result()
        return out
