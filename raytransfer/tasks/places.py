"""Where files of a data set lie: at a path, or at an address of a storage, which offers the same methods."""

import functools
import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, TypeVar

from pyarrow import ArrowException, fs

from raytransfer.errors import StorageError, UserError, first_line, one_line
from raytransfer.storage.addresses import checked, file_system, without_options
from raytransfer.storage.retries import PATIENCE_S, patiently, whole

REQUESTS = 32
"""Requests to a storage at once: an answer takes far longer than decoding an image."""

_TRIES = 2
_FIRST_ANSWER_S = 9.0  # short, as the user is waiting and the address may be wrong
_BUFFER = 2**22  # bytes of a file per request when it is read from beginning to end

CHANGED = "data must stay as they are while a sweep runs; put them back, or run the command again for what they are now"
"""What to do if files have changed, for errors."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What lies below an address.

    Attributes:
        files: Size and stamp of each file. The stamp is the time of the last change, or a hash if the storage gives
            that in place of times. If the address is a file, its name here is empty.
        folders: Names of what each folder holds; the name of the address itself is empty.
    """

    files: dict[str, tuple[int, Any]]
    folders: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class RemotePath:
    """A file or folder at an address; methods with names of ``pathlib.Path`` do the same.

    Once listed, it is not looked up again. Methods that send requests raise UserError if the storage refuses for good
    or has not answered for ten minutes.

    Attributes:
        address: The address that the user gave.
        inner: Name relative to it.
        listing: What lies below the address; None before ``listed``.
    """

    address: str
    inner: str = ""
    listing: Listing | None = None

    def __str__(self) -> str:
        """The address without its options."""
        return f"{without_options(self.address)}/{self.inner}".rstrip("/")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and (self.address, self.inner) == (other.address, other.inner)

    def __hash__(self) -> int:
        return hash((self.address, self.inner))

    def __lt__(self, other: "RemotePath") -> bool:
        return self.inner.split("/") < other.inner.split("/")

    def __truediv__(self, name: str) -> "RemotePath":
        inner = f"{self.inner}/{name}".lstrip("/")
        return RemotePath(address=self.address, inner=inner, listing=self.listing)

    @property
    def name(self) -> str:
        """Its last part."""
        return PurePosixPath(str(self)).name

    @property
    def stem(self) -> str:
        """Its last part without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "RemotePath":
        """The folder that holds it."""
        if not self.inner:
            bare = without_options(self.address)
            return RemotePath(address=bare.rpartition("/")[0] + self.address[len(bare) :])
        return RemotePath(address=self.address, inner=self.inner.rpartition("/")[0], listing=self.listing)

    def is_file(self) -> bool:
        """Whether it is a file."""
        return bool(self._kind() == fs.FileType.File)

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return bool(self._kind() == fs.FileType.Directory)

    def is_symlink(self) -> bool:
        """False: a storage has no links."""
        return False

    def iterdir(self) -> Iterator["RemotePath"]:
        """What a listed folder holds."""
        assert self.listing is not None
        return (self / name for name in self.listing.folders[self.inner])

    def size(self) -> int:
        """Bytes of a file."""
        return self.stamp()[0]

    def stamp(self) -> tuple[int, Any]:
        """Size and stamp of a file, as in ``Listing``."""
        if self.listing is not None:
            return self.listing.files[self.inner]

        def look() -> tuple[int, Any]:
            size, stamp = _look(self._file_system, self._path)
            if size is None:
                raise FileNotFoundError(self._path)
            return size, stamp

        return self._asked(look)

    def read(self, start: int, size: int) -> tuple[bytes, int]:
        """Up to ``size`` bytes of a file from an offset on, and the file's size."""

        def read() -> tuple[bytes, int]:
            with self._file_system.open_input_file(self._path) as stream:
                return stream.read_at(size, start), stream.size()

        return self._asked(lambda: whole(read, lambda found: len(found[0]) == size))

    def read_bytes(self) -> bytes:
        """All bytes of a file."""
        return self.read(0, self.size())[0]

    def read_text(self, encoding: str) -> str:
        """A file as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb", buffering: int = _BUFFER) -> BinaryIO:
        """Open a file for reading, with seeking; ``buffering=0`` requests exactly what is read."""
        assert mode == "rb"
        stream: Any = _Stream(self)
        return io.BufferedReader(stream, buffering) if buffering else stream

    @property
    def _file_system(self) -> fs.FileSystem:
        return file_system(checked("data", self.address))[0]

    @property
    def _path(self) -> str:
        return f"{file_system(checked('data', self.address))[1]}/{self.inner}".strip("/")

    def _kind(self) -> Any:
        if self.listing is not None:
            is_folder = self.inner in self.listing.folders
            known = self.inner in self.listing.files or is_folder
            return (fs.FileType.Directory if is_folder else fs.FileType.File) if known else fs.FileType.NotFound
        return self._asked(lambda: self._file_system.get_file_info(self._path).type)

    def _asked(self, do: Callable[[], Answer]) -> Answer:
        try:
            return asked(str(self), do)
        except FileNotFoundError:
            raise UserError(f"{self} was there when the data were opened, and is gone: {CHANGED}") from None

    def listed(self) -> "RemotePath":
        """The same path with its listing.

        Raises:
            UserError: The address is invalid, cannot be read, does not exist, or does not answer at once.
        """
        try:
            _check_answers(self)
            return replace(self, listing=asked(str(self), lambda: _listing(self._file_system, self._path)))
        except FileNotFoundError:
            raise UserError(f"data={self} does not exist: there is no file of that name, and none below it") from None


Place = Path | RemotePath
"""Where a file or folder is."""


def place(data: str) -> Place:
    """The path at an address of the user's; no request is sent.

    Raises:
        UserError: It holds a password, or is an invalid ``file:`` address.
    """
    checked("data", data)
    if not data.startswith("file:"):
        bare = without_options(data)
        return RemotePath(address=bare.rstrip("/") + data[len(bare) :])
    try:
        return Path(fs.FileSystem.from_uri(data)[1])
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(f"data={data} cannot be understood: {first_line(error)}") from None


def utf8_name(name: str) -> str:
    """A file's name decoded as UTF-8, which names on disks are, whatever the locale says."""
    try:
        return os.fsencode(name).decode(errors="surrogateescape")
    except UnicodeEncodeError:  # not a name from a disk
        return name


def full_name(path: Place) -> str:
    """The path, or the address that the user gave with its options: two servers may have buckets of one name."""
    return path.address if isinstance(path, RemotePath) else str(path)


def inside(folder: Place, file: Place) -> str:
    """Name of a file or folder relative to a folder."""
    return str(PurePath(str(file)).relative_to(str(folder)))


def stamp(file: Place) -> tuple[Any, ...]:
    """A file's size and what else tells whether it has changed.

    For a file on a disk these are its mtime and ctime in nanoseconds: ``cp -p`` and the like can set the mtime only.
    """
    if isinstance(file, RemotePath):
        return file.stamp()
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def asked(what: str, do: Callable[[], Answer]) -> Answer:
    """Send a request to a storage, again and again if it fails for a reason that may pass.

    Args:
        what: What is asked for, for errors.
        do: Sends the request; it may be called several times.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The storage refused for good, or has not answered for ``PATIENCE_S``.
    """

    def do_once() -> Answer:
        try:
            return do()
        except (OSError, ArrowException, UserError):
            raise
        except Exception as error:  # the hub's client raises errors of several packages
            raise OSError(one_line(error)) from error

    try:
        return patiently(do_once, what, PATIENCE_S)
    except StorageError as error:
        raise UserError(f"data={error}") from None


def _listing(held: fs.FileSystem, path: str) -> Listing:
    """List a file, or all that lies below a folder."""
    size, stamp = _look(held, path)
    if size is not None:
        return Listing(files={"": (size, stamp)}, folders={})
    files: dict[str, tuple[int, Any]] = {}
    folders: dict[str, list[str]] = {"": []}
    for name, size, stamp in _below(held, path):
        inner = name.strip("/")[len(path) :].strip("/")
        if size is None:
            folders.setdefault(inner, [])
        else:
            files[inner] = (size, stamp)
    for inner in [*files, *(folder for folder in folders if folder)]:
        folder, _, name = inner.rpartition("/")
        folders[folder].append(name)
    return Listing(files=files, folders={folder: sorted(names) for folder, names in folders.items()})


def _look(held: fs.FileSystem, path: str) -> tuple[int | None, Any]:
    """Size of a file, None for a folder, and its stamp.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    if isinstance(held, fs.PyFileSystem):  # the hub, which has hashes, which pyarrow leaves out, and no times
        return _of_hub(held.handler.fs.info(path))
    info = held.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(path)
    return _of_arrow(info)


def _below(held: fs.FileSystem, path: str) -> Iterator[tuple[str, int | None, Any]]:
    """Name of each file and folder below a folder, with size and stamp as from ``_look``."""
    if isinstance(held, fs.PyFileSystem):
        held.handler.fs.invalidate_cache()
        found = held.handler.fs.find(path, withdirs=True, detail=True)
        return ((name, *_of_hub(info)) for name, info in found.items() if name.strip("/") != path)
    return ((info.path, *_of_arrow(info)) for info in held.get_file_info(fs.FileSelector(path, recursive=True)))


def _of_arrow(info: fs.FileInfo) -> tuple[int | None, Any]:
    return (None if info.type == fs.FileType.Directory else info.size), info.mtime_ns


def _of_hub(info: dict[str, Any]) -> tuple[int | None, Any]:
    return (None if info["type"] == "directory" else info["size"]), info.get("blob_id")


def _check_answers(path: RemotePath) -> None:
    """Check that a storage answers soon: pyarrow itself waits for minutes.

    Raises:
        UserError: It does not answer, or refuses.
        FileNotFoundError: There is nothing at the address.
    """
    answer: Future[None] = Future()

    def ask() -> None:
        try:
            _ask_briefly(path)
            answer.set_result(None)
        except BaseException as error:
            answer.set_exception(error)

    # Not patiently: pyarrow has tried some times itself. A daemon does not keep the command from ending.
    threading.Thread(target=ask, daemon=True).start()
    if not wait([answer], _FIRST_ANSWER_S).done:
        raise UserError(f"data={path} cannot be read: it has not answered for {_FIRST_ANSWER_S:.0f} s")
    try:
        answer.result()
    except (UserError, FileNotFoundError):
        raise
    except Exception as error:
        if isinstance(error, ArrowException) and "Unrecognized filesystem" in str(error):
            raise UserError(
                f"data={path} is at an address of no known kind: data takes s3://, gs://, abfs://, hdfs://, hf:// and "
                "file://, or what lies on a disk"
            ) from None
        raise UserError(f"data={path} cannot be read: {first_line(error)}") from None


def _ask_briefly(path: RemotePath) -> None:
    held, inner = file_system(checked("data", path.address))
    if not inner.strip("/"):
        raise UserError(f"data={path.address} names no bucket")
    if isinstance(held, fs.S3FileSystem):
        # By default it retries for a hundred seconds, for which the end of the process would wait.
        again, (options,) = held.__reduce__()
        held = again({**options, "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES)})
    try:
        _look(held, inner)
    except FileNotFoundError:
        _below(held, inner)  # raises an error that says why, such as a missing bucket
        raise


class _Stream(io.RawIOBase):
    """A file at an address as a raw stream; failed requests are repeated."""

    def __init__(self, path: RemotePath) -> None:
        self._path, self._at = path, 0

    @functools.cached_property
    def _size(self) -> int:
        return self._path.size()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        content, _ = self._path.read(self._at, wanted)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
