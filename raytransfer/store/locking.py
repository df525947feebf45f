"""Keeping two drivers apart: a file lock on a folder, a lease on an object store."""

import datetime
import errno
import fcntl
import json
import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from raytransfer.errors import StorageError, UserError, first_line
from raytransfer.store.root import LEASE, Store

_BESIDE = ".lock.held"
_NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_BEAT_S = 15.0
_BEAT_PATIENCE_S = 4.0  # a beat that is late is not worth a line
_LOOK_S = 2.0
_DEAD_AFTER_S = 120.0  # without a beat, of which the storage may have swallowed some
_WRONG_S = 20 * 60.0  # as far as a clock may be off: beyond 15 minutes S3 refuses what is asked
_SURE_S = 60.0  # after a look at the lock; it is looked at more often, unless this process was suspended
_SETTLE_S = 2.0  # until the write of another driver that saw no lock either has arrived
_LOG = logging.getLogger("raytransfer")


@contextmanager
def lock(store: Store) -> Iterator[Callable[[], str | None]]:
    """Keep other drivers out while this one works; a dead driver's lock is free.

    On a folder it is a lock of the operating system, freed at once when the driver dies. Where the file system has no
    locks, as some NFS mounts, a file names the holder, and only its own machine can tell that the holder is dead. On an
    object store the holder renews an object every 15 s; one that has not changed for two minutes, by the clock of the
    driver that waits, is taken over.

    Args:
        store: The store.

    Yields:
        What tells, when called, that another driver has taken the lock over, and None as long as none has.

    Raises:
        UserError: Another driver is at work on this store, or it cannot be locked or written.
    """
    if store.is_local:
        with _locked(store):
            yield lambda: None
        return
    lease = _Lease(store)
    try:
        try:
            lease.acquire()
        except StorageError as error:  # nothing ran before
            raise UserError(f"out={store.root} cannot be written: {error}") from error
        yield lease.lost
    finally:
        lease.release()


def held(store: Store) -> str | None:
    """Who holds the lock, in words such as ``by another sweep``; None where it is free. Nothing is written.

    On an object store it is held if its object is younger than two minutes by this machine's clock. Where the clock may
    be wrong, as the object is from the future or only a little older, it is held if it is renewed.
    """
    if not store.is_local:
        time_ = store.times("").get(LEASE)
        age_s = (datetime.datetime.now(datetime.UTC) - time_).total_seconds() if time_ is not None else math.inf
        with suppress(FileNotFoundError):
            if -_BEAT_S <= age_s <= _DEAD_AFTER_S or (age_s < _WRONG_S and _is_renewed(store)):
                return _holder(store.read(LEASE))
        return None
    file, beside = Path(store.place(".lock")), Path(store.place(_BESIDE))
    with suppress(OSError):  # it is not there, or may not be read: then nothing is known of it
        if beside.exists():
            return _holder_beside(beside)
        if not file.is_file():  # opening a pipe would wait for ever
            return None
        with file.open() as opened:
            try:  # a driver that looks in this very moment would find it held
                fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return "by another sweep"
    return None


def _is_renewed(store: Store) -> bool:
    """Whether the lock's holder renews it within two beats, which takes no clock to see."""
    found = store.read(LEASE)
    _LOG.info("%s is locked %s: looking for %.0f s whether that lives", store.root, _holder(found), 2 * _BEAT_S)
    end = time.monotonic() + 2 * _BEAT_S
    while time.monotonic() < end:
        time.sleep(min(_LOOK_S, _BEAT_S))
        if store.read(LEASE) != found:
            return True
    return False


def refuse_if_held(store: Store) -> None:
    """Refuse what must not happen while a sweep runs, where nothing is to be written.

    Raises:
        UserError: A driver is at work on this store.
    """
    if (how := held(store)) is not None:
        raise _in_use(store, how)


def _locked(store: Store) -> AbstractContextManager[object]:
    """The lock on a folder, held until this is left."""
    file = Path(store.place(".lock"))
    how = "by another sweep"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={store.root} cannot be written: {first_line(error)}; name another folder") from error
    try:
        if _knows_flock(file):
            return FileLock(file, timeout=0).acquire()
        # Not in the same file: the one that flock takes is never deleted, and would be taken for a held one.
        file = file.with_name(_BESIDE)
        with suppress(OSError):
            how = _holder_beside(file)
        return SoftFileLock(file, timeout=0).acquire()
    except Timeout as error:
        raise _in_use(store, how) from error
    except PermissionError as error:
        raise UserError(
            f"out={store.root} cannot be locked: {error.filename} belongs to {_owner(error.filename)}, and you may not "
            "write to it: have it made writable for you, or removed if no sweep of theirs runs, or name another folder"
        ) from error
    except OSError as error:
        raise UserError(f"out={store.root} cannot be locked: {first_line(error)}; name another folder") from error


def _holder_beside(file: Path) -> str:
    process, host, *_ = [*file.read_text().splitlines(), "?", "?"]
    return f"by another sweep, process {process} on {host} (if that has ended, remove {file})"


def _knows_flock(file: Path) -> bool:
    """Whether the file system of a file, which is made if it is not there, knows flock; whether it is held or not."""
    with file.open("a+") as opened:  # NFS locks for reading what is open for reading
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_FLOCK
    return True


def _owner(file: str) -> str:
    try:
        return Path(file).owner()
    except (OSError, KeyError):  # a user without a name
        with suppress(OSError):
            return f"user {Path(file).stat().st_uid}"
        return "another user"


class _Lease:
    """A lock on a storage that can only write, read and delete."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner, self._beats = uuid.uuid4().hex, 0
        self._lost: str | None = None
        self._looked = _clocks()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self) -> None:
        """Take the lock, after waiting for a sign of life of whoever seems to hold it."""
        found = self._read()
        if found is not None:
            self._wait_for_sign_of_life(found)
        self._write()
        time.sleep(_SETTLE_S)
        if _fields(self._read()).get("owner") != self._owner:
            raise _in_use(self._store, "by another sweep, which started at the same time")
        self._looked = _clocks()
        self._thread.start()

    def lost(self) -> str | None:
        """Why the lock is not this one's any more, or None.

        The thread that renews it looks, and no request is made here, unless this process was suspended: then another
        may have taken it over.
        """
        while self._lost is None and _age_s(self._looked) > _SURE_S:
            with suppress(StorageError):  # an outage costs no driver its lock
                self._look(Store(self._store.root, retry_s=_BEAT_PATIENCE_S))
        return self._lost

    def release(self) -> None:
        """Let the next one in, also where the lock was not taken to the end, as at Ctrl-C."""
        if not self._beats:
            return
        self._released.set()
        if self._thread.is_alive():
            self._thread.join()
        store = Store(self._store.root, retry_s=_BEAT_PATIENCE_S)
        try:
            if _fields(self._read(store)).get("owner") == self._owner:
                store.delete(LEASE)
        except StorageError as error:  # the next driver will see that nobody renews it
            _LOG.warning("the lock stays behind: %s", error)

    def _wait_for_sign_of_life(self, found: bytes) -> None:
        holder = _holder(found)
        _LOG.info("%s is locked %s: waiting up to %.0f s for a sign of life", self._store.root, holder, _DEAD_AFTER_S)
        for _ in range(int(_DEAD_AFTER_S / _LOOK_S)):  # looks that were answered: an outage silences the holder, too
            time.sleep(_LOOK_S)
            now = self._read()
            if now is None:
                return
            if now != found:
                raise _in_use(self._store, _holder(now))
        _LOG.info("the sweep that held the lock has ended without giving it back: going on")

    def _renew(self) -> None:
        # A storage that does not answer is not waited for here: whoever needs it for a result does that.
        store = Store(self._store.root, retry_s=_BEAT_PATIENCE_S)
        while not self._released.wait(_BEAT_S):
            with suppress(StorageError):
                self._look(store)
                if self.lost() is not None:
                    return
                self._write(store)

    def _look(self, store: Store) -> None:
        """See whose the lock is."""
        began = _clocks()
        try:
            found = self._read(store)
        finally:
            self._looked = began
        if found is None:  # given back by who took it over: what is left to run here may be done
            self._lost = f"out={store.root} was taken over by another command, and that ended: so has this sweep"
        elif _fields(found).get("owner") not in (None, self._owner):
            self._lost = f"out={store.root} was taken over {_holder(found)}: this sweep has ended"

    def _read(self, store: Store | None = None) -> bytes | None:
        try:
            return (store or self._store).read(LEASE)
        except FileNotFoundError:
            return None

    def _write(self, store: Store | None = None) -> None:
        self._beats += 1
        holder = {"owner": self._owner, "host": os.uname().nodename, "process": os.getpid(), "beats": self._beats}
        (store or self._store).write(LEASE, json.dumps(holder).encode())


def _clocks() -> tuple[float, float]:
    """Two clocks, in seconds: one that never jumps, and one that goes on while a machine sleeps."""
    return time.monotonic(), time.time()


def _age_s(then: tuple[float, float]) -> float:
    """Seconds since these clocks were read; a clock that jumps can only make them more."""
    return max(now - before for now, before in zip(_clocks(), then, strict=True))


def _holder(content: bytes | None) -> str:
    fields = _fields(content)
    return f"by another sweep, process {fields.get('process', '?')} on {fields.get('host', '?')}"


def _fields(content: bytes | None) -> dict[str, str]:
    try:
        return dict(json.loads(content)) if content is not None else {}
    except (ValueError, TypeError):  # damaged: nobody's, which its holder renews and others take when nobody does
        return {}


def _in_use(store: Store, how: str) -> UserError:
    return UserError(f"out={store.root} is in use {how}: wait for it to end, or name another folder")
