"""One training split over several processes of this machine, which begin and end together."""

import functools
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from raytransfer.specs import TrainingSpec
from raytransfer.training import Interrupted, RankDied, Ranks, share_batch_norm, use_one_core
from raytransfer.trials.site import Site
from raytransfer.trials.training import run_training

_LOG = logging.getLogger("raytransfer.trials")
_INTERRUPTED, _LOST, _ORPHAN = 3, 4, 5  # exit codes of a rank, beside 0 and, where it has left an error, 1
_LOOK_S = 0.05  # between looks at the ranks
_GRACE_S = 10.0  # for the rank that others have lost to end, too
_PATIENCE_S = 600.0  # with a rank of a training that keeps the others waiting, beside what a storage may keep it
_ABORTED = -signal.SIGABRT  # as NCCL ends a rank whose message does not get through in time


Work = Callable[[Ranks, Callable[[], bool]], None]
"""What each rank does, told which one it is and, the first, whom to ask whether to stop."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What each rank is told."""

    work: Work
    device: str
    count: int
    patience_s: float


def run_split(
    spec: TrainingSpec, site: Site, checkpoint_steps: frozenset[int], stop: Callable[[], bool], count: int
) -> None:
    """Run a training on so many processes.

    Args:
        spec: What to run.
        site: Where. ``site.retry_s`` is for how long the first rank may keep the others waiting for a storage.
        checkpoint_steps: As for ``run_training``.
        stop: As for ``run_ranks``.
        count: How many processes.

    Raises:
        Interrupted: ``stop`` said so, and the training's state is saved.
        RankDied: A rank was killed, crashed or did not answer.
        Exception: Whatever a rank raised.
    """
    work = functools.partial(_train, spec, site, checkpoint_steps)
    run_ranks(work, site.device, count, stop, _PATIENCE_S + site.retry_s)


def _train(
    spec: TrainingSpec, site: Site, checkpoint_steps: frozenset[int], ranks: Ranks, stop: Callable[[], bool]
) -> None:
    share_batch_norm()
    run_training(spec, site, checkpoint_steps, stop, ranks)


def run_ranks(work: Work, device: str, count: int, stop: Callable[[], bool], patience_s: float) -> None:
    """Run ``work`` on ``count`` processes together, on GPUs one on each.

    This process only watches. When a rank fails the others are killed, and none outlives this process: each reads from
    a pipe that closes with it.

    If a rank hangs, the others wait for it in a message; after ``patience_s`` they end, and it is killed. Work that
    takes all ranks equally long, such as decoding, an evaluation or compilation, does not count as waiting. The clock
    stops while the machine is suspended, and runs while its processes are stopped.

    Args:
        work: What each does; it can be pickled.
        device: ``cpu`` or ``cuda``.
        count: How many processes.
        stop: Asked all the while whether to stop.
        patience_s: Seconds.

    Raises:
        Interrupted: A rank raised it.
        RankDied: A rank was killed, crashed or did not answer.
        Exception: Whatever a rank raised.
    """
    with tempfile.TemporaryDirectory(prefix="raytransfer-ranks-") as name, ExitStack() as stack:
        folder = Path(name)
        job = _Job(work=work, device=device, count=count, patience_s=patience_s)
        (folder / "job").write_bytes(pickle.dumps(job))
        ranks: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(count):
                ranks.append(stack.enter_context(_started(folder, rank)))
            _wait(ranks, stop)
            codes = [process.poll() for process in ranks]
        finally:
            for process in ranks:
                process.kill()
            if (told := folder / "told").exists():
                _LOG.warning(told.read_text().strip())
        _raise_ending(codes, folder)


def _started(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    """A rank, as a new process rather than a fork, which neither CUDA nor Ray survives.

    It has a session of its own, so that this process alone handles Ctrl-C.
    """
    command = [sys.executable, "-c", f"from {__name__} import main; main()", str(folder), str(rank)]
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)  # where networks of the user's own are found
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True, env={**os.environ, "PYTHONPATH": path}
    )


def _wait(ranks: Sequence[subprocess.Popen[bytes]], stop: Callable[[], bool]) -> None:
    """Wait until all ranks have succeeded, or one has failed by itself.

    After a rank has ended only because it lost another one, that other one has some seconds to end, too.
    """
    told, lost_since = False, None
    while True:
        codes = [process.poll() for process in ranks]
        if None not in codes or any(code not in (None, 0, _LOST, _ABORTED) for code in codes):
            return
        if _LOST in codes or _ABORTED in codes:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() > lost_since + _GRACE_S:
                return
        if not told and stop():
            told, pipe = True, ranks[0].stdin
            assert pipe is not None
            with suppress(BrokenPipeError):  # it has just ended
                pipe.write(b"stop")
        time.sleep(_LOOK_S)


def _raise_ending(codes: Sequence[int | None], folder: Path) -> None:
    """Raise the failure that exit codes and error files of the ranks tell, if there is one."""
    silent = [rank for rank, code in enumerate(codes) if code is None]
    alive = f", and {_named(silent, len(codes))} lived on without an answer" if silent else ""
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            only = alive if code == _ABORTED else ""  # others were not waited for
            raise RankDied(f"rank {rank} of {len(codes)} was ended by signal {-code}{only}")
    for rank in range(len(codes)):
        if (left := folder / f"error-{rank}").exists():
            error, trace = pickle.loads(left.read_bytes())
            raise error from RuntimeError(f"on rank {rank} of {len(codes)}:\n{trace}")
    if _INTERRUPTED in codes:
        raise Interrupted("told to stop")
    if any(codes):
        lost = [rank for rank, code in enumerate(codes) if code == _LOST]
        why = "; ".join(place.read_text() for rank in lost if (place := folder / f"lost-{rank}").exists())
        what = f"{_named(silent, len(codes))} did not answer" if silent else f"ranks ended with the codes {list(codes)}"
        raise RankDied(f"{what}: {why}" if why else what)


def _named(ranks: Sequence[int], count: int) -> str:
    """Ranks in words."""
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} of {count}"


def main() -> None:
    """Be one rank: the process that ``run_ranks`` starts."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    told = threading.Event()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    code = 0
    try:
        _run(pickle.loads((folder / "job").read_bytes()), folder, rank, told.is_set)
    except Interrupted:
        code = _INTERRUPTED
    except RankDied as died:
        code = _LOST
        (folder / f"lost-{rank}").write_text(str(died))
    except Exception as error:  # whatever it is, the process that watches raises it
        code, content = 1, (error, traceback.format_exc())
        (folder / f"error-{rank}.part").write_bytes(_pickled(*content))
        (folder / f"error-{rank}.part").rename(folder / f"error-{rank}")
    sys.stdout.flush()
    os._exit(code)  # to take leave of ranks that may be gone can hang


def _listen(told: threading.Event) -> None:
    """Note when the process that watches says stop; end when it is gone."""
    while os.read(0, 64):
        told.set()
    os._exit(_ORPHAN)


def _run(job: _Job, folder: Path, rank: int, stop: Callable[[], bool]) -> None:
    """Meet the other ranks and work."""
    if rank:
        logging.getLogger("raytransfer").setLevel(logging.ERROR)  # the first says it for all
    else:
        _LOG.addHandler(logging.FileHandler(folder / "told", delay=True))  # for the process that watches
    use_one_core()
    torch.backends.cudnn.allow_tf32 = True  # as of every training
    on_gpu = job.device == "cuda"
    if on_gpu:
        torch.cuda.set_device(rank)
    patience = timedelta(seconds=job.patience_s)
    try:
        # An address of the file would end at a # or ?.
        meeting = distributed.FileStore(str(folder / "meeting"), job.count)  # type: ignore[attr-defined]
        meeting.set_timeout(patience)
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo", store=meeting, rank=rank, world_size=job.count, timeout=patience
        )
    except distributed.DistError as error:  # above all for the time it took
        raise RankDied(f"rank {rank} of {job.count} has not met the others: {error}") from error
    job.work(Ranks(rank=rank, count=job.count), stop)


def _pickled(error: Exception, trace: str) -> bytes:
    """An error and its traceback; an error that cannot be pickled and unpickled as a plain one that names it."""
    try:
        content = pickle.dumps((error, trace))
        pickle.loads(content)
    except Exception:  # whatever a class of the user's raises
        content = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), trace))
    return content
