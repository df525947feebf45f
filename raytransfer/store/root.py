"""A folder, here or in an object store, whose files appear whole or not at all."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from pyarrow import ArrowException, fs

from raytransfer.errors import UserError
from raytransfer.schema import SCHEMA_VERSION
from raytransfer.specs import HASH_VERSION

_VERSIONS = {"schema_version": SCHEMA_VERSION, "hash_version": HASH_VERSION}
_MARK = "store.json"


class Store:
    """Files under one root, each written in one go.

    Args:
        root: A folder, or a URI that ``pyarrow.fs`` understands (``s3://bucket/path``, ``gs://bucket/path``).

    Raises:
        UserError: The URI cannot be understood.
    """

    def __init__(self, root: str) -> None:
        self.root = root if "://" in root else absolute("out", root)
        if root.startswith("s3://") and "allow_delayed_open" not in root:
            # A small file then takes one PUT; else pyarrow starts a multipart upload for every one, in three requests.
            self.root += ("&" if "?" in root else "?") + "allow_delayed_open=true"
        self._fs: fs.FileSystem
        self._path: str
        try:
            if "://" in root:
                self._fs, self._path = fs.FileSystem.from_uri(self.root)
            else:
                self._fs, self._path = fs.LocalFileSystem(), self.root
        except (ArrowException, OSError, ValueError) as error:
            raise UserError(f"out={root} is no place for a store: {_first_line(error)}") from error

    @property
    def is_local(self) -> bool:
        """Whether it is a folder that this machine's own file system shows."""
        return isinstance(self._fs, fs.LocalFileSystem)

    def check(self) -> None:
        """Check, without writing, that the root is new or holds a store of this version.

        Raises:
            UserError: It holds something else, or a store of another version.
        """
        try:
            if not self.exists(_MARK):
                self._check_parent()
                if self.names(""):
                    raise UserError(
                        f"out={self.root} holds other files and is no store of raytransfer: "
                        "name a new or empty folder, or one that a sweep made"
                    )
                return
            found = json.loads(self.read(_MARK))
        except (OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"out={self.root} cannot be read: {_first_line(error)}") from error
        if found != _VERSIONS:
            raise UserError(
                f"out={self.root} was written with {found}, and this raytransfer writes {_VERSIONS}: "
                "use the raytransfer that made it, or name another folder"
            )

    def _check_parent(self) -> None:
        if not self.is_local:
            return
        there = next(folder for folder in (Path(self._path), *Path(self._path).parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"out={self.root} cannot be written: {there} is no folder that you may write to")

    def create(self) -> None:
        """Make the root, where it is not there yet.

        Raises:
            UserError: It cannot be written.
        """
        try:
            self.write(_MARK, json.dumps(_VERSIONS).encode())
        except OSError as error:
            raise UserError(f"out={self.root} cannot be written: {_first_line(error)}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other drivers out while this one works. The lock of a dead driver is free; object stores have none.

        Raises:
            UserError: Another driver is at work on this store.
        """
        if not self.is_local:
            yield
            return
        try:
            with FileLock(f"{self._path}/.lock", timeout=0):
                yield
        except Timeout as error:
            raise UserError(
                f"out={self.root} is in use by another sweep: wait for it to end, or name another folder"
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """Put a file in place, whole: readers see the old content or the new, never a part."""
        path = f"{self._path}/{name}"
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
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            FileNotFoundError: There is none of that name.
        """
        with self._fs.open_input_file(f"{self._path}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return bool(self._fs.get_file_info(f"{self._path}/{name}").type == fs.FileType.File)

    def names(self, folder: str) -> list[str]:
        """Names of what lies in a folder, sorted; none where there is no such folder. Hidden ones are left out."""
        selector = fs.FileSelector(f"{self._path}/{folder}".rstrip("/"), allow_not_found=True)
        return sorted(info.base_name for info in self._fs.get_file_info(selector) if info.base_name[0] != ".")

    def delete(self, name: str) -> None:
        """Remove a file, which may already be gone."""
        with suppress(FileNotFoundError):
            self._fs.delete_file(f"{self._path}/{name}")

    def delete_folder(self, name: str) -> None:
        """Remove a folder and what is in it, if it is there."""
        with suppress(OSError):  # left behind it does no harm
            self._fs.delete_dir(f"{self._path}/{name}")

    def place(self, name: str) -> str:
        """Where a person finds a file or folder."""
        root, question_mark, query = self.root.partition("?") if "://" in self.root else (self.root, "", "")
        return f"{root}/{name}{question_mark}{query}"


def absolute(option: str, path: str) -> str:
    """A path of the user's, made absolute, since workers run elsewhere.

    Raises:
        UserError: It is empty, or names the home of a user that does not exist.
    """
    try:
        if path:
            return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise UserError(f"{option}={path} is no path: {error}") from error
    raise UserError(f"{option}= is empty: it must name a place")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
