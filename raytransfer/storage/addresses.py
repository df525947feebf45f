"""Addresses of storage, such as ``s3://bucket/path?region=eu-west-1``, and the file systems that they name."""

import functools
import re
from urllib.parse import urlsplit

from pyarrow import fs

from raytransfer.errors import UserError

HUB = "hf://"
"""Beginning of addresses on the Hugging Face hub: hf://datasets/OWNER/NAME/folder."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ASKS_GS_FOR_S = 2  # by default pyarrow retries for a quarter of an hour, several times, before it raises


def is_address(text: str) -> bool:
    """Whether a text begins with a scheme, as ``s3://``."""
    return _ADDRESS.match(text) is not None


def without_options(address: str) -> str:
    """Cut an address at its question mark; a path stays as it is."""
    return address.partition("?")[0] if is_address(address) else address


def with_option(address: str, name: str, value: str) -> str:
    """Add an option of pyarrow's to an address, unless it has it."""
    return address if name in address else f"{address}{'&' if '?' in address else '?'}{name}={value}"


def checked(option: str, address: str) -> str:
    """Check an address of the user's, and add the options with which pyarrow is to open it.

    Raises:
        UserError: It holds a password, or is no address.
    """
    try:
        password = urlsplit(address).password
    except ValueError as error:
        raise UserError(f"{option}={address} is no address: {error}") from None
    if password is not None:
        raise UserError(
            f"{option}={re.sub('//.*@', '//...@', address)} holds a password, which would end up in logs: give "
            "credentials in the environment, or in the file where your cloud's tools keep them"
        )
    if address.startswith(("gs://", "gcs://")):
        return with_option(address, "retry_limit_seconds", str(_ASKS_GS_FOR_S))
    return address


@functools.lru_cache(maxsize=8)
def file_system(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path in it; cached, as a worker opens the same one for every trial.

    Raises:
        ArrowException, OSError, ValueError: pyarrow does not know such addresses.
    """
    if address.startswith(HUB):
        from huggingface_hub import HfFileSystem  # which timm requires; it takes seconds, and few sweeps need it

        return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem())), address.removeprefix(HUB).strip("/")
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(address)
    return found
