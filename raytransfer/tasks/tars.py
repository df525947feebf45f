"""Tar files, read without being unpacked."""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from raytransfer.errors import UserError, one_line
from raytransfer.tasks.files import files_with
from raytransfer.tasks.places import Place

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # how files of these kinds begin
_BLOCK = tarfile.BLOCKSIZE


def tar_files(path: Place) -> list[Place]:
    """List a data set's tar files: the path itself, or those in the folder, as ``files_with`` finds them.

    Raises:
        UserError: They could be several.
    """
    if path.is_file():
        return [path] if path.name.lower().endswith((".tar", *_COMPRESSED)) else []
    return files_with(path, ".tar", "tar files")


def compressed_tars(path: Place) -> list[Place]:
    """The compressed tar files of a folder, of one kind."""
    return next((found for ending in _COMPRESSED if (found := files_with(path, ending, "tar files"))), [])


def check_plain(file: Place) -> None:
    """Check by its name that a tar file is not compressed.

    Raises:
        UserError: It is.
    """
    if file.name.lower().endswith(_COMPRESSED):
        raise _compressed(file)


def headers(file: Place, stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members of a tar.

    ``tarfile`` takes whatever it cannot read for the end: here a tar must have its mark of the end, which is a block of
    zeros, after its last member, and nothing but zeros after that.

    Raises:
        UserError: It is none, is truncated, compressed, or several tars in one.
    """
    head = stream.read(len(max(_PACKED, key=len)))
    stream.seek(0)
    if head.startswith(_PACKED):
        raise _compressed(file)
    end = 0
    try:
        tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - the stream is the caller's
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header
            end = tar.offset
            yield member
    except UserError:  # of a storage
        raise
    except Exception as error:  # of broken headers it raises anything
        raise _broken(file, one_line(error)) from None
    stream.seek(end)
    if stream.read(_BLOCK) != bytes(_BLOCK):
        raise _broken(file, f"it has no mark of its end after its last whole member, which ends at byte {end}")
    while rest := stream.read(2**20):
        if rest.count(0) < len(rest):
            raise UserError(f"{file} goes on after its end: tars put together are not read whole; make one tar of them")


def _broken(file: Place, reason: str) -> UserError:
    return UserError(f"{file} is not a whole tar file ({reason}): get it again")


def _compressed(file: Place) -> UserError:
    return UserError(f"{file} is compressed, so that no single image of it can be read: decompress it to .tar")
