"""NVIDIA's Multi-Process Service, under which kernels of trials that share a GPU run at the same time."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_PIPES, _LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
_CONTROL = "nvidia-cuda-mps-control"
_ANSWER_S, _CHECK_S, _QUIT_S = 10.0, 60.0, 5
_LOG = logging.getLogger("raytransfer")

# Its input ends when this process does, be it killed. Signals that go to all processes of a job pass it by.
_WATCH = f"""trap "" INT TERM HUP
cat
echo "quit -t {_QUIT_S}" | {_CONTROL}
rm -rf "$0"
"""

_CHECK = """
import ctypes, sys  # torch would take seconds
cuda = ctypes.CDLL("libcuda.so.1")
context, memory = ctypes.c_void_p(), ctypes.c_void_p()
for name, *arguments in (
    ("cuInit", 0),
    ("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0),
    ("cuCtxSetCurrent", context),
    ("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(1)),
):
    if code := getattr(cuda, name)(*arguments):
        sys.exit(f"{name} ended with CUDA's error {code}")
"""


@contextmanager
def service(check: Sequence[str] = (sys.executable, "-c", _CHECK)) -> Iterator[None]:
    """A block in which new processes run under the service, which they find through the environment.

    A service that already runs is used and left alone. Else one is started in a folder of its own, unless the user has
    set ``CUDA_MPS_PIPE_DIRECTORY``. It ends with the block, also if this process is killed. If none starts the block
    runs without one, and a line says why.

    Args:
        check: A command that fails where CUDA does not work under the service.
    """
    with ExitStack() as running:
        if is_served():
            _LOG.info("Trials share a GPU under NVIDIA's Multi-Process Service that runs already")
        else:
            try:
                running.enter_context(_started(check))
                _LOG.info("Trials share a GPU under NVIDIA's Multi-Process Service, started for this sweep")
            except (OSError, RuntimeError) as error:
                _LOG.info("Trials that share a GPU take turns on it, without NVIDIA's Multi-Process Service: %s", error)
        yield


def is_served() -> bool:
    """Whether a service answers where processes that start here look for one."""
    return _answers(Path(os.environ.get(_PIPES) or "/tmp/nvidia-mps"))


@contextmanager
def _started(check: Sequence[str]) -> Iterator[None]:
    """A block with a service of its own.

    It sees all GPUs: of what ``CUDA_VISIBLE_DEVICES`` leaves of them it would count anew from 0, and Ray names workers
    theirs by the numbers they have without it.

    Raises:
        OSError: None starts.
        RuntimeError: None starts, or CUDA does not work under it.
    """
    if pipes := os.environ.get(_PIPES):
        raise RuntimeError(f"{_PIPES}={pipes} is set, and none answers there")
    if shutil.which(_CONTROL) is None:
        raise RuntimeError(f"{_CONTROL} is not installed here")
    folder = tempfile.mkdtemp(prefix="mps-", dir="/tmp")  # the path of a socket must be short
    ours = {_PIPES: folder, _LOGS: folder}
    before = dict(os.environ)
    watch = subprocess.Popen(
        ["sh", "-c", _WATCH, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**before, **ours},
        start_new_session=True,
    )
    try:
        unseen = {name: value for name, value in before.items() if name != "CUDA_VISIBLE_DEVICES"}
        _do([_CONTROL, "-d"], {**unseen, **ours}, _ANSWER_S)
        if not _answers(Path(folder)):
            raise RuntimeError(f"{_CONTROL} -d started none that answers")
        _do(check, {**before, **ours}, _CHECK_S)
        os.environ.update(ours)
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in ours if name in before})
        with suppress(subprocess.TimeoutExpired):  # it goes on by itself
            watch.communicate(timeout=2 * _QUIT_S)


def _do(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> None:
    """Run a command, which Ctrl-C at the terminal passes by.

    Raises:
        OSError: It cannot be run.
        RuntimeError: It failed, or took longer.
    """
    with tempfile.TemporaryFile() as told:  # no pipe, which a daemon would hold open
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                env=environment,
                timeout=seconds,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{command[0]} took more than {seconds:g} s") from error
        told.seek(0)
        lines = told.read().decode(errors="replace").strip().splitlines()
    if ended.returncode:
        raise RuntimeError(lines[-1] if lines else f"{command[0]} ended with exit code {ended.returncode}")


def _answers(folder: Path) -> bool:
    """Whether a service answers in a folder; where the command to ask it is missing, whether there seems to be one."""
    if not (folder / "control").exists():
        return False
    if shutil.which(_CONTROL) is None:  # in a container
        return True
    environment = {**os.environ, _PIPES: str(folder)}
    try:
        asked = subprocess.run(
            [_CONTROL], input=b"get_server_list\n", capture_output=True, env=environment, timeout=_ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
