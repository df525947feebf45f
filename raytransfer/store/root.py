"""A folder, here or in an object store, whose files appear whole or not at all."""

import datetime
import errno
import json
import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pyarrow import ArrowException, fs

from raytransfer.errors import StorageError, UserError, first_line
from raytransfer.specs import HASH_VERSION
from raytransfer.storage.addresses import HUB, checked, file_system, is_address, with_option
from raytransfer.storage.retries import PATIENCE_S, Result, patiently, whole
from raytransfer.store.schema import SCHEMA_VERSION

_VERSIONS = {"schema_version": SCHEMA_VERSION, "hash_version": HASH_VERSION}
_MARK = "store.json"
LEASE = "lock.json"
"""The object by which drivers keep one another out of an object store."""

_CHECK_PATIENCE_S = 8.0  # at the start somebody is waiting, and the address may be wrong
_SCHEME = re.compile("(s3|gs|gcs|abfs|abfss|hdfs|viewfs|file|https?):", re.IGNORECASE)
_BESIDE = re.compile(r"\..+\.[0-9a-f]{32}")  # what a file is called until it is whole


class Store:
    """Files under one root, each written in one go.

    Requests that fail for a moment are tried again, with growing waits; every method raises StorageError once a storage
    refuses for good or has not answered for ``retry_s``.

    Args:
        root: A folder, or a URI that ``pyarrow.fs`` understands (``s3://bucket/path``, ``gs://bucket/path``,
            ``abfs://container@account.dfs.core.windows.net/path``).
        retry_s: How long to wait for a storage that does not answer.

    Raises:
        UserError: The URI cannot be understood, or holds a password.
    """

    def __init__(self, root: str, retry_s: float = PATIENCE_S) -> None:
        self.retry_s = retry_s
        self.root = checked("out", root) if "://" in root else absolute("out", root)
        if root.startswith(HUB):
            raise UserError(
                f"out={root} is no place for a store: from the hub data alone are read; name a folder or a bucket"
            )
        if root.startswith("s3://"):
            # A small file then takes one PUT; else pyarrow starts a multipart upload for every one, in three requests.
            self.root = with_option(self.root, "allow_delayed_open", "true")
        self._fs: fs.FileSystem
        self._path: str
        try:
            # Opening can ask the storage for its region.
            self._fs, self._path = patiently(lambda: _opened(self.root), f"out={root}", _CHECK_PATIENCE_S)
        except (StorageError, ArrowException, OSError, ValueError) as error:
            reason = first_line(error).removeprefix(f"out={root}: ")
            raise UserError(f"out={root} is no place for a store: {reason}") from error
        if not self._path:
            raise UserError(f"out={root} is no place for a store: it names no bucket")
        if self.is_local:  # by file://, too: what lies beside the files, such as the lock, is opened by its path
            self.root = self._path

    @property
    def is_local(self) -> bool:
        """Whether it is a folder that this machine's own file system shows."""
        return isinstance(self._fs, fs.LocalFileSystem)

    def is_made(self) -> bool:
        """Whether the root is a store already, of whichever version."""
        return self.exists(_MARK)

    def check(self) -> None:
        """Check, without writing, that the root is new or holds a store of this version.

        Raises:
            UserError: It holds something else, or a store of another version.
        """
        patient, self.retry_s = self.retry_s, min(self.retry_s, _CHECK_PATIENCE_S)
        try:
            if self.is_made():
                self._mark()
                return
            self._check_parent()
            if set(self.names("")) - {LEASE}:  # which is there before the mark
                raise UserError(
                    f"out={self.root} holds other files and is no store of raytransfer: "
                    "name a new or empty folder, or one that a sweep made"
                )
        except StorageError as error:
            raise UserError(f"out={self.root} cannot be read: {error}") from error
        finally:
            self.retry_s = patient

    def _mark(self) -> dict[str, object]:
        """What the store says of itself: its versions, and which store it is."""
        try:
            mark = json.loads(self.read(_MARK))
            if not isinstance(mark, dict):
                raise ValueError("it holds no mapping")
        except (ValueError, RecursionError) as error:  # of JSON nested without end
            raise UserError(
                f"out={self.root} has a damaged {_MARK} ({first_line(error)}): if this version of raytransfer made the "
                f"store, write {json.dumps(_VERSIONS)} into it"
            ) from error
        found = {key: mark.get(key) for key in _VERSIONS}
        if found != _VERSIONS:
            raise UserError(
                f"out={self.root} was written with {found}, and this raytransfer writes {_VERSIONS}: "
                "use the raytransfer that made it, or name another folder"
            )
        return dict(mark)

    def _check_parent(self) -> None:
        if not self.is_local:
            return
        there = next(folder for folder in (Path(self._path), *Path(self._path).parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"out={self.root} cannot be written: {there} is no folder that you may write to")

    def create(self) -> str:
        """Make the root, where it is not there yet, and see that it can be written.

        The caller must hold the lock.

        Returns:
            The store's identity, by which machines of a cluster can tell whether they see the same one. It is new each
            time, as a copy of the store has the old one; for an object store it is the holder of its lock.

        Raises:
            UserError: It cannot be written, or is of another version.
        """
        try:
            identity = self._holder() or uuid.uuid4().hex
            if self.is_made():
                self._mark()
            self.write(_MARK, json.dumps({**_VERSIONS, "id": identity}).encode())
        except (StorageError, FileNotFoundError) as error:  # as of a folder that cannot be made in /proc
            raise UserError(f"out={self.root} cannot be written: {error}") from error
        return identity

    def check_identity(self, identity: str) -> None:
        """Check, on another machine, that this is the store that the driver sees.

        Where two drivers got past the lock of an object store, the one that holds it is right, whoever wrote last.

        Raises:
            StorageError: It is not.
        """
        if not self.is_made() or identity not in (self._mark().get("id"), self._holder()):
            raise StorageError(
                f"out={self.root} is not the same place on {os.uname().nodename} as where the sweep was started: it "
                "must be a folder that all machines of the cluster share, and no copy, or an object store. Or another "
                "sweep took it over"
            )

    def _holder(self) -> str | None:
        """Who holds the lock of an object store; None where nobody does, or a damaged one."""
        with suppress(FileNotFoundError, ValueError, TypeError):
            return None if self.is_local else dict(json.loads(self.read(LEASE))).get("owner")
        return None

    def write(self, name: str, content: bytes) -> None:
        """Put a file in place, whole: readers see the old content or the new, never a part."""
        self._patiently(name, lambda: self._write(f"{self._path}/{name}", content))

    def _write(self, path: str, content: bytes) -> None:
        if not self.is_local:  # an object appears when its upload is complete
            with self._fs.open_output_stream(path) as stream:
                stream.write(content)
            return
        folder, _, base = path.rpartition("/")
        self._fs.create_dir(folder, recursive=True)
        beside = f"{folder}/.{base}.{uuid.uuid4().hex}"  # readers of a folder pass over names with a dot
        try:
            with Path(beside).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                Path(beside).replace(path)
            except FileNotFoundError as error:  # a driver that starts took it for what a killed one had left
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), beside) from error
        finally:
            Path(beside).unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            FileNotFoundError: There is none of that name.
        """

        def read() -> bytes:
            with self._fs.open_input_file(f"{self._path}/{name}") as stream:
                content: bytes = stream.read()
                return content

        # No file of a store is empty.
        return self._patiently(name, read if self.is_local else lambda: whole(read, bool))

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self._patiently(
            name, lambda: bool(self._fs.get_file_info(f"{self._path}/{name}").type == fs.FileType.File)
        )

    def names(self, folder: str) -> list[str]:
        """Names of what lies in a folder, sorted; none where there is no such folder. Hidden ones are left out."""
        return sorted(info.base_name for info in self._listed(folder))

    def files(self, folder: str) -> list[str]:
        """The same of files alone: no folders, and no named pipes."""
        return sorted(info.base_name for info in self._listed(folder) if info.type == fs.FileType.File)

    def times(self, folder: str) -> dict[str, datetime.datetime]:
        """When each file in a folder was written, as the storage says."""
        return {info.base_name: info.mtime for info in self._listed(folder) if info.type == fs.FileType.File}

    def sizes_below(self, folder: str) -> dict[str, int]:
        """Bytes of all files below a folder, by their names from there on; none where there is no such folder."""
        top = f"{self._path}/{folder}"
        selector = fs.FileSelector(top, allow_not_found=True, recursive=True)
        found = self._patiently(folder, lambda: self._fs.get_file_info(selector))
        files = (info for info in found if info.type == fs.FileType.File and info.base_name[0] != ".")
        return {info.path.removeprefix(top).lstrip("/"): info.size for info in files}

    def is_empty(self, folder: str) -> bool:
        """Whether nothing lies in a folder, hidden files neither, or there is none."""
        return not self._all_listed(folder)

    def _listed(self, folder: str) -> list[fs.FileInfo]:
        return [info for info in self._all_listed(folder) if info.base_name[0] != "."]

    def _all_listed(self, folder: str) -> list[fs.FileInfo]:
        selector = fs.FileSelector(f"{self._path}/{folder}".rstrip("/"), allow_not_found=True)
        return list(self._patiently(folder, lambda: self._fs.get_file_info(selector)))

    def delete(self, name: str) -> None:
        """Remove a file, which may already be gone."""
        with suppress(FileNotFoundError):
            self._patiently(name, lambda: self._fs.delete_file(f"{self._path}/{name}"))

    def delete_folder(self, name: str) -> None:
        """Remove a folder and what is in it, if it is there."""
        with suppress(FileNotFoundError):
            self._patiently(name, lambda: self._fs.delete_dir(f"{self._path}/{name}"))

    def set_aside(self, name: str) -> None:
        """Move a damaged file to ``damaged/``, where nothing reads it."""
        with suppress(FileNotFoundError):
            self.write(f"damaged/{name}", self.read(name))
        self.delete(name)

    def unfinished(self) -> list[Path]:
        """Files that killed writers left in a folder, or that others are writing at the moment."""
        if not self.is_local:
            return []
        walked = os.walk(self._path)
        return [Path(folder, name) for folder, _, names in walked for name in names if _BESIDE.fullmatch(name)]

    def delete_unfinished(self) -> None:
        """Remove what killed writers left in a folder, and also what others are writing at the moment."""
        for path in self.unfinished():
            path.unlink(missing_ok=True)

    def _patiently(self, name: str, do: Callable[[], Result]) -> Result:
        return patiently(do, self.place(name), self.retry_s)

    def place(self, name: str) -> str:
        """Where a person finds a file or folder."""
        root, question_mark, query = self.root.partition("?") if "://" in self.root else (self.root, "", "")
        return f"{root}/{name}{question_mark}{query}"


def absolute(option: str, path: str) -> str:
    """A path of the user's, made absolute, since workers run elsewhere.

    Raises:
        UserError: It is empty, names the home of a user that does not exist, or begins like an address.
    """
    if is_address(path):
        raise UserError(
            f"{option}={path} is an address, and {option} takes what lies on a disk: copy it there, or mount it and "
            "give the folder"
        )
    if scheme := _SCHEME.match(path):
        raise UserError(
            f"{option}={path} is neither an address, which begins with {scheme[0]}//, where {option} takes one, nor a "
            f"folder: write ./{path} for a folder of that name"
        )
    try:
        if path:
            return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise UserError(f"{option}={path} is no path: {error}") from error
    raise UserError(f"{option}= is empty: it must name a place")


def _opened(root: str) -> tuple[fs.FileSystem, str]:
    return file_system(root) if "://" in root else (fs.LocalFileSystem(), root)
