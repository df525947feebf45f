"""Ctrl-C and SIGTERM: a command that ends soon, whatever it is doing."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_CODE = 130
"""What an interrupted command ends with."""

INTERRUPTED = "Interrupted: what finished is in the store; the same command goes on from there."
"""What it says last."""

_PATIENCE_S = 8.0  # who stops jobs kills what is still there after 10 s or more
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """A block that Ctrl-C and SIGTERM end with KeyboardInterrupt; 8 s later they end the process.

    Who stops a job, as timeout, scancel and systemd do, sends SIGTERM to all its processes, Ray's own among them, and
    often twice. Code that waits for a Ray which is gone lets no handler of Python's run, and would wait for a minute.
    So a thread of its own learns of the first signal, and ends the process if that is still there after 8 s. Later
    signals change nothing. SIGINT that is ignored from the start, as behind ``&`` in a script, stays so.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(reader,), daemon=True).start()
    for number in _SIGNALS:
        if number == signal.SIGTERM or before[number] is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:  # else the process is about to end
            signal.set_wakeup_fd(wakeup_before)
            os.close(writer)
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_in_time(reader: int) -> None:
    """End the process some time after a signal of which Python's own handler of signals writes the number here."""
    while (told := os.read(reader, 1)) and told[0] not in _SIGNALS:
        pass
    if told:
        time.sleep(_PATIENCE_S)
        with suppress(OSError):
            os.write(1, f"{INTERRUPTED}\n".encode())  # the console may be in use
        os._exit(EXIT_CODE)  # the system frees the lock, and ends the processes of a Ray that was started here
    os.close(reader)
