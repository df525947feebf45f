"""The main sweep on an S3 store that misbehaves: lost requests, an outage, storage that stays away, two drivers.

    python tests/clusters/s3_faults.py [--moto-python PATH]

moto plays S3. It needs an environment of its own (``pip install 'moto[server]'``): --moto-python names its Python.

Some 15 minutes on two cores that had other work, too. 74 trials: 93 s on a local folder; 205 s where 5% of 1,321
requests failed (17 cut after, 13 cut inside, 11 error, 11 slow down, 10 silence, 10 cut before) and S3 was away for
60 s; where it stayed away the command ended 42 s later with exit code 3 and a line (retry_s=30), and went on when S3
was back. A second driver was refused after 26 s; a killed one's store was taken over.
"""

import argparse
import os
import re
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from commands import Command, end_processes_of, processes_of, s3, wait_for
from faulty_proxy import FaultyProxy
from stores import differences, rows_twice

from raytransfer.store import Store, read_table

RATE = 0.05
OUTAGE_S = 60
PATIENCE_S = 30  # where the storage stays away; else the sweep's own
BUCKET = "raytransfer"
START_S = 300  # until trials finish


class Lab:
    """Where the commands of this script run, S3, and what has been found."""

    def __init__(self, folder: Path, s3_port: int) -> None:
        self.folder, self.s3_port = folder, s3_port
        self.broken: list[str] = []
        self.started = 0

    def out(self, name: str, port: int) -> str:
        """A store of S3, reached at a port."""
        return f"s3://{BUCKET}/{name}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"

    def store(self, name: str) -> Store:
        """The same without the proxy."""
        return Store(self.out(name, self.s3_port))

    def start(self, out: str, *options: str) -> Command:
        """Start the sweep's command on a Ray of its own."""
        self.started += 1
        return Command(out, self.folder / str(self.started), options)

    def check(self, holds: bool, claim: str) -> None:
        """Print and remember whether something holds."""
        print(f"  {'ok    ' if holds else 'BROKEN'}  {claim}", flush=True)
        if not holds:
            self.broken.append(claim)

    def check_end(self, command: Command, code: int) -> None:
        """Check how a command ends, and that it leaves no process and shows no traceback."""
        found = command.wait()
        self.check(found == code, f"the command ends with exit code {code}: {found} after {command.seconds:.0f} s")
        self.check("Traceback" not in command.output, "it shows no traceback")
        self.check(wait_for(lambda: not processes_of(command.folder), 60), "none of its processes stays behind")
        if found != code:
            print(command.output)

    def check_complete(self, reference: Store, name: str) -> None:
        """Check that a store holds what the undisturbed one holds, once, and that no whole file was thought damaged."""
        damaged = self.store(name).names("damaged")
        self.check(not damaged, f"no file was taken for damaged {damaged or ''}")
        found = [*differences(reference, self.store(name)), *rows_twice(self.store(name))]
        self.check(not found, "rows, curves and weights are those of the undisturbed sweep, to the bit, each once")
        print("".join(f"          {line}\n" for line in found[:10]), end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moto-python", default="python3", help="a Python that has moto (default python3)")
    python = parser.parse_args().moto_python
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_EC2_METADATA_DISABLED="true")
    with TemporaryDirectory(prefix="s3f-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        try:
            with s3(python, folder, BUCKET) as port:
                lab = Lab(folder, port)
                reference = undisturbed(lab)
                lost_requests(lab, reference)
                storage_that_stays_away(lab, reference)
                two_drivers(lab, reference)
        finally:
            end_processes_of(folder)
    print(f"\n{len(lab.broken)} claims broken" if lab.broken else "\nAll holds.")
    sys.exit(1 if lab.broken else 0)


def undisturbed(lab: Lab) -> Store:
    """Run the sweep into a folder."""
    print("A local folder, nothing disturbed", flush=True)
    reference = Store(str(lab.folder / "reference"))
    lab.check_end(lab.start(reference.root), 0)
    return reference


def lost_requests(lab: Lab, reference: Store) -> None:
    """5% of the requests fail, and none is answered for a minute."""
    print(f"\nS3, {RATE:.0%} of the requests fail, and in the middle {OUTAGE_S} s without S3", flush=True)
    with FaultyProxy(lab.s3_port, rate=RATE) as proxy:
        command = lab.start(lab.out("lost", proxy.port))
        lab.check(some_finished(lab, "lost"), "trials finish")
        proxy.go_away()
        print(f"          {finished_now(lab, 'lost')} trials have finished when S3 goes away", flush=True)
        time.sleep(OUTAGE_S)
        proxy.come_back()
        lab.check_end(command, 0)
        print(f"          {proxy.record()}")
    lab.check_complete(reference, "lost")


def storage_that_stays_away(lab: Lab, reference: Store) -> None:
    """S3 goes away in the middle and does not come back until the command has ended."""
    print(f"\nS3, {RATE:.0%} of the requests fail, and in the middle S3 goes away; retry_s={PATIENCE_S}", flush=True)
    with FaultyProxy(lab.s3_port, rate=RATE, seed=1) as proxy:
        command = lab.start(lab.out("away", proxy.port), f"retry_s={PATIENCE_S}")
        lab.check(some_finished(lab, "away"), "trials finish")
        proxy.go_away()
        gone = time.monotonic()
        lab.check_end(command, 3)
        print(f"          {time.monotonic() - gone:.0f} s after S3 went away")
        errors = re.findall(r"^error: .*", command.output, re.MULTILINE)
        lab.check(len(errors) == 1, f"one line says why: {' / '.join(errors)}")
        found = differences(reference, lab.store("away"), partly=True)
        lab.check(not found, f"the {finished_now(lab, 'away')} trials that had finished are whole {found[:3] or ''}")
        proxy.come_back()
        print("  S3 is back: the same command again", flush=True)
        lab.check_end(lab.start(lab.out("away", proxy.port)), 0)
        print(f"          {proxy.record()}")
    lab.check_complete(reference, "away")


def two_drivers(lab: Lab, reference: Store) -> None:
    """A second driver is refused as long as the first lives, and let in when it has been killed."""
    print("\nS3, two drivers on one store", flush=True)
    out = lab.out("drivers", lab.s3_port)
    first = lab.start(out)
    lab.check(some_finished(lab, "drivers", 1), "trials of the first finish")
    second = lab.start(out)
    lab.check_end(second, 2)
    errors = re.findall(r"^error: .*", second.output, re.MULTILINE)
    lab.check("in use by another sweep" in " ".join(errors), f"one line says why: {' / '.join(errors)}")
    first.process.kill()
    first.process.wait()
    left = len(read_table(reference, "trials")) - finished_now(lab, "drivers")
    lab.check(left > 0, f"the first is killed, and {left} trials are left")
    # Ray's workers end at once; two agents of its own look for them for a minute.
    lab.check(wait_for(lambda: not processes_of(first.folder), 120), "none of its processes stays behind")
    lab.check_end(lab.start(out), 0)
    lab.check_complete(reference, "drivers")


def some_finished(lab: Lab, name: str, count: int = 10) -> bool:
    """Wait until so many trials have finished."""
    return wait_for(lambda: finished_now(lab, name) >= count, START_S)


def finished_now(lab: Lab, name: str) -> int:
    """Trials that have finished, before their rows are merged."""
    return len(lab.store(name).names("trials"))


if __name__ == "__main__":
    main()
