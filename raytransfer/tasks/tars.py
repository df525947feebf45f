"""Tar files, read without being unpacked."""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from raytransfer.errors import UserError, one_line
from raytransfer.tasks.files import files_with
from raytransfer.tasks.places import Place

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # magic numbers of gzip, bzip2, xz and zstd
_BLOCK = tarfile.BLOCKSIZE


def tar_files(path: Place) -> list[Place]:
    """List a data set's tar files: the path itself, or what ``files_with`` finds in the folder.

    Raises:
        UserError: There are files in several places.
    """
    if path.is_file():
        return [path] if path.name.lower().endswith((".tar", *_COMPRESSED)) else []
    return files_with(path, ".tar", "tar files")


def compressed_tars(path: Place) -> list[Place]:
    """The compressed tar files in a folder, those with the first suffix that any has."""
    return next((found for ending in _COMPRESSED if (found := files_with(path, ending, "tar files"))), [])


def check_plain(file: Place) -> None:
    """Check by its name that a tar file is not compressed.

    Raises:
        UserError: It is compressed.
    """
    if file.name.lower().endswith(_COMPRESSED):
        raise _compressed(file)


def headers(file: Place, stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members of a tar.

    ``tarfile`` takes anything that it cannot read for the end of the archive. Here the end must be marked by a block of
    zeros after the last member, with nothing but zeros after it.

    Raises:
        UserError: The file is no tar, truncated, compressed, or several tars joined.
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
    except UserError:  # from a storage
        raise
    except Exception as error:  # broken headers can raise anything
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
