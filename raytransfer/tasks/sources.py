"""From what the user calls the data to where they lie."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

from raytransfer.errors import UserError
from raytransfer.storage.addresses import is_address, without_options
from raytransfer.tasks.decode import Raw
from raytransfer.tasks.folder import FolderSource, folders_of_images, holds_classes
from raytransfer.tasks.image import MOST_SIDE
from raytransfer.tasks.parquet import ParquetSource, parquet_files
from raytransfer.tasks.parts import Contents
from raytransfer.tasks.places import Place, RemotePath, inside, place, utf8_name
from raytransfer.tasks.published import DigitsSource, TorchvisionSource
from raytransfer.tasks.shards import ShardSource, are_shards
from raytransfer.tasks.tars import compressed_tars, tar_files
from raytransfer.tasks.walking import is_store


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Where the data come from, as the user said; given the data's fingerprint, none of it can change a result.

    Attributes:
        data: ``digits``, the name of a torchvision classification data set, a folder's name under ``data_dir``, or a
            path (with a separator in it) or address (``s3://``, ``gs://``, ``hf://`` and the others of ``pyarrow.fs``)
            of a Parquet file, a tar shard, a folder of either, or a folder of image classes.
        data_dir: Where named data sets lie or are downloaded to.
        image_size_px: The shorter side of images is resized to this, and they are cropped to the central square; None
            if all have one size.
        channels: 1 to decode colour as grey, 3 to decode grey as colour, or None for the images' own.
        label_column: Label column of Parquet files, or the field of shards' JSON that holds the label; None for the
            only such column, or for the labels that ``raytransfer.tasks.shards`` describes.
        interpolation: How images are resized: ``bilinear`` or ``bicubic``.
        cache_dir: Where this machine keeps decoded images.
        decoded: Whether images are decoded once into the cache (``cache``) or on every access (``stream``, for folders,
            Parquet files and shards); ``auto`` streams what would take more than ``cache_gb`` decoded. Both give the
            same bits.
        cache_gb: That bound, in 10^9 bytes.
    """

    data: str
    data_dir: str
    image_size_px: int | None = None
    channels: int | None = None
    label_column: str | None = None
    interpolation: str = "bilinear"
    cache_dir: str
    decoded: str = "auto"
    cache_gb: float = 50.0

    @property
    def name(self) -> str:
        """Name of the data set: the last part of ``data``, in lower case and without ``.parquet``."""
        path = Path(without_options(self.data)).expanduser()
        # a link keeps its own name, but "." and ".." must be resolved to have one
        named = path if path.name not in ("", "..") else path.resolve()
        return utf8_name(named.name).lower().removesuffix(".parquet")

    @property
    def path(self) -> Place:
        """Where the data lie if they are the user's own files.

        Raises:
            UserError: It is an address that holds a password or is invalid.
        """
        if is_address(self.data):
            return place(self.data)
        if "/" in self.data or self.data in (".", ".."):
            return Path(self.data).expanduser().resolve()
        return Path(self.data_dir).expanduser().resolve() / self.data


class Source(Protocol):
    """A place that images can be read from."""

    def identity(self) -> dict[str, Any]:
        """What tells, without reading images, whether they are those read before; JSON types."""

    def contents(self) -> Contents:
        """Which files are used for what."""

    def read(self) -> Raw:
        """Read the labels; images are read later."""


def find_source(source: DataSource) -> Source:
    """Find what ``source.data`` names; folders and addresses are listed, and no image is read.

    The name of a torchvision data set is checked only when it is read, as that imports torchvision.

    Raises:
        UserError: There is no such path, or it holds no data set.
    """
    if not source.data.strip():
        raise UserError("data is empty: name digits, a torchvision data set, a folder under data_dir, or a path")
    if source.image_size_px is not None and not 1 <= source.image_size_px <= MOST_SIDE:
        raise UserError(f"image_size_px is {source.image_size_px}: it must lie in 1..{MOST_SIDE}")
    try:
        found = _find(source)
    except OSError as error:
        raise unreadable(source.data, error) from None
    if source.label_column is not None and not isinstance(found, ParquetSource | ShardSource):
        raise UserError(
            f"label_column={source.label_column} is for Parquet files and tar shards, which {source.data!r} is not"
        )
    return found


def unreadable(data: str, error: OSError) -> UserError:
    """The error for data whose files cannot be read."""
    return UserError(f"data {data!r} cannot be read: {error.strerror or error}: {error.filename}")


def _find(source: DataSource) -> Source:
    path, data_dir = source.path, Path(source.data_dir).expanduser().resolve()
    if isinstance(path, RemotePath):
        return _at(path.listed(), source)
    if "/" in source.data or source.data in (".", ".."):
        if not path.exists():
            raise UserError(f"data {source.data!r} does not exist: there is no {path}")
        return _at(path, source)
    # torchvision leaves folders under its sets' own names in data_dir, such as MNIST/raw: those are not ours to read
    if path.is_file() or (
        path.is_dir() and (parquet_files(path) or are_shards(tar_files(path)) or holds_classes(path))
    ):
        return _at(path, source)
    if source.data.lower() == "digits":
        return DigitsSource()
    return TorchvisionSource(source.data, data_dir)


def _at(path: Place, source: DataSource) -> Source:
    if not path.is_dir() and not path.is_file():  # a named pipe would be waited for without end
        raise UserError(f"data {source.data!r} is neither a folder nor a regular file")
    if is_store(path):
        raise UserError(f"data {source.data!r} is a store of results, not a data set")
    tars = tar_files(path)
    files = [] if tars == [path] else parquet_files(path)
    folders = folders_of_images(path) if path.is_dir() and (files or tars) else []
    if tars and (files or folders) and not are_shards(tars):
        tars = []  # archives that the data came in, perhaps: they hold no labels
    kinds = {
        "Parquet files": [inside(path, file) for file in files[:1] if file != path],
        "tar shards": [inside(path, file) for file in tars[:1] if file != path],
        "folders of images": [folder.name for folder in folders[:5]],
    }
    several = [f"{kind} ({', '.join(names)})" for kind, names in kinds.items() if names]
    if len(several) > 1:
        raise UserError(
            f"{path} holds {' and '.join(several)}: move one of the two elsewhere, or give the path of one"
            if len(several) == 2
            else f"{path} holds {', '.join(several)}: move two of the three elsewhere, or give the path of one"
        )
    holds_none = path.is_dir() and not (files or tars or holds_classes(path))
    if holds_none and compressed_tars(path):
        tars = [path]
    elif holds_none or path.is_file():
        _refuse_others(path)
    if files:
        return ParquetSource(path, source.label_column)
    if tars:
        return ShardSource(path, source.label_column)
    return FolderSource(path)


_OTHERS = {
    ".arrow": "Arrow, as the library datasets saves it, is not read: write ds['train'].to_parquet('train.parquet')",
    **dict.fromkeys(
        (".npz", ".npy", ".mat", ".h5", ".hdf5"), "arrays are not read: write the images of each class into a folder"
    ),
    **dict.fromkeys((".zip", ".rar", ".7z"), "an archive is not read: unpack it, and give the folder"),
    **dict.fromkeys(
        (".csv", ".tsv", ".jsonl"), "a table of labels is not read: put the images of each class into a folder"
    ),
}
"""Suffixes of common formats that are not read, and what to do about them."""


def _refuse_others(path: Place) -> None:
    """Refuse data in a format that is not read, and say how to convert them.

    Raises:
        UserError: The path is such a file, or one lies in it or in one of its folders.
    """
    folders = [path, *(entry for entry in path.iterdir() if entry.is_dir())] if path.is_dir() else []
    files = [entry for folder in folders for entry in folder.iterdir()] or [path]
    for file in sorted(files, key=str):
        if told := _OTHERS.get(PurePath(file.name).suffix.lower()):
            raise UserError(f"data {str(file)!r}: {told}")
