"""Ctrl-C and SIGTERM end a command soon, whatever it is doing."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_CODE = 130
"""What an interrupted command ends with."""

INTERRUPTED = "Interrupted: what a sweep has finished is in its store, and the same command goes on from there."
"""What it says last."""

_PATIENCE_S = 8.0  # who stops jobs kills what is still there after 10 s or more
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """A block that Ctrl-C and SIGTERM end with KeyboardInterrupt; 8 s later they end the process.

    timeout, scancel and systemd send SIGTERM to all processes of a job, Ray's included, and often twice. Code that
    waits for a dead Ray lets no Python signal handler run for about a minute. So a thread is woken by the first signal,
    and ends the process if it still exists after 8 s. Later signals are ignored. If SIGINT was ignored from the start,
    as behind ``&`` in a script, it stays so.
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
