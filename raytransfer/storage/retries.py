"""Repeating requests to a storage that fail for a moment."""

import errno
import logging
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from pyarrow import ArrowException

from raytransfer.errors import StorageError, first_line

PATIENCE_S = 600.0
"""How long requests to a storage that does not answer are repeated, unless a sweep says otherwise."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 20.0
_LOOKS = 6
_SAY_AFTER_S = 5.0  # shorter failures are not logged
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.EIO,  # from a soft NFS mount whose server is away
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
# Errors of object stores, and pyarrow's about a folder in place of a file, differ only in their text. These are final.
_REFUSED = re.compile(
    "access.?denied|forbidden|no.?such.?bucket|bucket.{0,80}(not found|does not exist)|invalid.?access.?key|"
    "signature.?does.?not.?match|expired.?token|unrecognized.?client|permission.?denied|unauthenticated|unauthorized|"
    "authentication.?failed|no credentials|is a directory|not a (directory|regular file)",
    re.IGNORECASE,
)
_LOG = logging.getLogger("raytransfer")

Result = TypeVar("Result")


def patiently(do: Callable[[], Result], place: str, retry_s: float) -> Result:
    """Call a function that uses a storage; if it fails for a reason that may pass, again after growing waits.

    Args:
        do: The function; it must be idempotent.
        place: What it uses, for errors.
        retry_s: How long to go on trying.

    Raises:
        FileNotFoundError: What ``do`` needs does not exist.
        StorageError: It fails for good, or for longer than ``retry_s``.
    """
    started, wait_s, said = time.monotonic(), _FIRST_WAIT_S, False
    while True:
        try:
            return do()
        except FileNotFoundError as error:
            if not _REFUSED.search(str(error)):  # a missing bucket is refused
                raise
            raise StorageError(f"{place}: {first_line(error)}") from error
        except ArrowException as error:  # such as Azure's about credentials
            raise StorageError(f"{place}: {first_line(error)}") from error
        except OSError as error:
            waited_s = time.monotonic() - started
            if not passes(error):
                raise StorageError(f"{place}: {first_line(error)}") from error
            if waited_s >= retry_s:
                raise StorageError(f"{place} has not answered for {waited_s:.0f} s: {first_line(error)}") from error
            if not said and waited_s >= _SAY_AFTER_S:
                _LOG.warning("%s does not answer, trying on for %.0f s: %s", place, retry_s, first_line(error))
                said = True
        # Random, so that many clients do not come back at the same moment.
        time.sleep(min(random.uniform(wait_s / 2, wait_s), max(0.0, started + retry_s - time.monotonic())))
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def whole(read: Callable[[], Result], is_whole: Callable[[Result], bool]) -> Result:
    """Read up to six times, until the result looks whole; gives the last result.

    If a connection breaks in the middle of S3's answer about a file's size, pyarrow takes the size for 0.
    """
    for _ in range(_LOOKS - 1):
        found = read()
        if is_whole(found):
            return found
    return read()


def passes(error: OSError) -> bool:
    """Whether a request that failed may succeed when it is repeated."""
    if error.errno is not None:
        return error.errno in _PASSING
    return not _REFUSED.search(str(error))
