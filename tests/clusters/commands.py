"""What the cluster scripts run: the sweep's command, each on a Ray of its own, and an S3 server. All end with them."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SWEEP = Path(__file__).parents[2] / "sweeps" / "yosinski_grid.py"
OPTIONS = ("seeds=1", "splits=1", "halves=[random]")
LIMIT_S = 900  # a command that takes longer counts as hanging


def with_defaults(defaults: Sequence[str], given: Sequence[str]) -> list[str]:
    """The given options and those defaults that none of them replaces: the command refuses an option given twice."""
    names = {option.partition("=")[0] for option in given}
    return [*(option for option in defaults if option.partition("=")[0] not in names), *given]


class Command:
    """The sweep's command, running or ended."""

    def __init__(self, out: str, folder: Path, options: tuple[str, ...]) -> None:
        self.folder = folder
        folder.mkdir()
        self._log = folder / "output"
        self._started = time.monotonic()
        self.seconds = 0.0
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, SWEEP, *with_defaults(OPTIONS, [f"out={out}", *options])],
                env={**os.environ, "RAY_ADDRESS": "local", "RAY_TMPDIR": str(folder), "COLUMNS": "120"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> int | None:
        """Its exit code; None if it hangs, in which case it is killed."""
        code = None
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(LIMIT_S)
        self.seconds = time.monotonic() - self._started
        self.process.kill()
        return code

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")


@contextmanager
def s3(python: str, folder: Path, bucket: str) -> Iterator[int]:
    """An S3 server with an empty bucket; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with (folder / "moto").open("wb") as log:
        server = subprocess.Popen(
            [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if not wait_for(lambda: server.poll() is not None or _listens(port), 60) or server.poll() is not None:
            raise SystemExit(f"moto does not start: {(folder / 'moto').read_text()}")
        made = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
        urllib.request.urlopen(made, timeout=60).close()
        yield port
    finally:
        server.kill()
        server.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def processes_of(folder: Path) -> list[int]:
    """The processes of the commands that keep their Ray in a folder, by what their environment says."""
    mark, found = f"RAY_TMPDIR={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):  # ended meanwhile, or another user's
                if any(line.startswith(mark) for line in (entry / "environ").read_bytes().split(b"\0")):
                    found.append(int(entry.name))
    return found


def end_processes_of(folder: Path) -> None:
    """Kill what is left of the commands."""
    for process in processes_of(folder):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
