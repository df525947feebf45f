"""Trying again what a storage refuses for a moment."""

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
"""How long a storage that does not answer is tried again, unless a sweep says otherwise."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 20.0
_LOOKS = 6
_SAY_AFTER_S = 5.0  # a hiccup is not worth a line
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.EIO,  # what a soft NFS mount says when its server is away
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
# Object stores tell by words alone, and so does pyarrow of a folder where a file should be. These will be said again,
# however often one asks.
_REFUSED = re.compile(
    "access.?denied|forbidden|no.?such.?bucket|bucket.{0,80}(not found|does not exist)|invalid.?access.?key|"
    "signature.?does.?not.?match|expired.?token|unrecognized.?client|permission.?denied|unauthenticated|unauthorized|"
    "authentication.?failed|no credentials|is a directory|not a (directory|regular file)",
    re.IGNORECASE,
)
_LOG = logging.getLogger("raytransfer")

Result = TypeVar("Result")


def patiently(do: Callable[[], Result], place: str, retry_s: float) -> Result:
    """Do something with a storage; where it fails for a reason that passes, again after growing waits.

    Args:
        do: What to do; done twice it must leave what it leaves done once.
        place: Where, for people.
        retry_s: How long to go on trying.

    Raises:
        FileNotFoundError: What ``do`` wants is not there.
        StorageError: It fails for good, or for longer than ``retry_s``.
    """
    started, wait_s, said = time.monotonic(), _FIRST_WAIT_S, False
    while True:
        try:
            return do()
        except FileNotFoundError as error:
            if not _REFUSED.search(str(error)):  # a bucket that is not there
                raise
            raise StorageError(f"{place}: {first_line(error)}") from error
        except ArrowException as error:  # as Azure's are that speak of credentials
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
        # Drawn, so that many who wait do not come back at one moment.
        time.sleep(min(random.uniform(wait_s / 2, wait_s), max(0.0, started + retry_s - time.monotonic())))
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def whole(read: Callable[[], Result], is_whole: Callable[[Result], bool]) -> Result:
    """Read again, up to six times, what does not look whole; gives what was read last.

    Where a connection breaks off in the middle of S3's answer on a file's size, pyarrow takes the size for 0.
    """
    for _ in range(_LOOKS - 1):
        found = read()
        if is_whole(found):
            return found
    return read()


def passes(error: OSError) -> bool:
    """Whether what failed may succeed when it is tried again."""
    if error.errno is not None:
        return error.errno in _PASSING
    return not _REFUSED.search(str(error))
