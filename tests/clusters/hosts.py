"""Hosts that are none: namespaces of one Linux machine with a name, an address, a home, a /tmp and an ssh server each.

All of it lies inside one outer namespace, the desk, whose network has no way out and whose end is the end of everything
in it: processes, mounts, network, Ray. So nothing is left on the machine, whatever happens. Root and Debian's
openssh-server, rsync and iproute2 are needed.

What is on the machine can be read on every host: the programs, and the Python environment that runs this.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SHARED = Path("/run/shared")  # the same folder on every host, as over NFS
LAB = Path("/run/lab")  # logs, and each host's folder, at the desk
SSH = ["ssh", "-i", str(LAB / "key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
HOME = Path("/run/home")  # each host's own
CHECKOUT = Path("/run/checkout")  # the checkout this file is in, on the desk
DESK = "10.77.0.1"
_STARTED = time.monotonic()
_NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
_SSHD = """
mount --bind "$1/tmp" /tmp && mount --bind "$1/home" /run/home && mount -t tmpfs -o size=1g shm /dev/shm
hostname "$2"
exec /usr/sbin/sshd -D -f /dev/null -h "$1/host_key" -E "$1/sshd.log" -o ListenAddress="$3" -o PidFile=none \
  -o AuthorizedKeysFile=/run/lab/key.pub -o StrictModes=no -o PermitRootLogin=prohibit-password \
  -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no
"""


@dataclass
class Host:
    """A host that is up.

    Attributes:
        name: Its host name.
        address: Its address on the bridge.
        process: What holds its namespaces; the host's first process, the ssh server, is the child of that.
    """

    name: str
    address: str
    process: subprocess.Popen[bytes]

    def cut_power(self) -> None:
        """Take it off the network, then kill all that runs on it: nobody hears a farewell."""
        _ip("link", "set", f"to-{self.name}", "down")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        os.kill(int(children), signal.SIGKILL)  # of the first process of a PID namespace: takes all others along
        self.process.wait()


def at_the_desk(folder: Path, script: str) -> int:
    """Run a script at the desk, as the first process there, with ``--at-the-desk FOLDER``; gives its exit code.

    Ctrl-C reaches the script, which has to end by itself; if this process is killed, the desk is too.
    """
    command = ["unshare", "--net", *_NAMESPACES, sys.executable, script, "--at-the-desk", str(folder)]
    with subprocess.Popen(command) as desk:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: desk.kill())
        return desk.wait()


def furnish(folder: Path) -> None:
    """Make the desk what the hosts start from: shared folder, key, bridge. ``folder`` is /run/lab from here on."""
    for name in ("shared", "desk/home", "desk/tmp"):
        (folder / name).mkdir(parents=True)
    checkout = Path(__file__).parents[2]
    (folder / "passwd").write_text(f"root:x:0:0:root:{HOME}:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
    (folder / "shadow").write_text("root:*:1::::::\n")  # no password, and not locked
    _run("mount", "-t", "tmpfs", "run", "/run")
    for name in ("lab", "shared", "home", "checkout", "sshd", "netns"):
        Path("/run", name).mkdir()
    binds = {
        folder: "/run/lab",
        folder / "shared": SHARED,
        folder / "desk/home": HOME,
        checkout: CHECKOUT,
        folder / "passwd": "/etc/passwd",
        folder / "shadow": "/etc/shadow",
        folder / "desk/tmp": "/tmp",  # last: it hides the folder
    }
    for source, target in binds.items():
        _run("mount", "--bind", str(source), str(target))
    if not Path(sys.executable).exists():
        raise SystemExit(f"{sys.executable} is hidden by the hosts' own /tmp: use an environment in another folder")
    _run("mount", "-t", "tmpfs", "-o", "size=1g", "shm", "/dev/shm")
    _run("hostname", "desk")
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/lab/key")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ.update(HOME=str(HOME), PYTHONPATH=str(CHECKOUT), PATH=path)
    os.chdir(CHECKOUT)
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "bridge", "type", "bridge")
    _ip("address", "add", f"{DESK}/24", "dev", "bridge")
    _ip("link", "set", "bridge", "up")


def start(name: str, address: str) -> Host:
    """Start a host: a network of its own on the bridge, then namespaces whose first process is an ssh server.

    Its home holds what stands for the installation there: the environment of this process as ~/raytransfer-venv, and a
    ~/.bashrc by which the package is imported from the host's own ~/raytransfer.
    """
    place = LAB / name
    for part in ("home", "tmp"):
        (place / part).mkdir(parents=True)
    (place / "home/raytransfer-venv").symlink_to(sys.prefix)
    (place / "home/.bashrc").write_text("export PYTHONPATH=~/raytransfer PYTHONDONTWRITEBYTECODE=\n")
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "host_key"))
    _ip("netns", "add", name)
    _ip("link", "add", f"to-{name}", "master", "bridge", "up", "type", "veth", "peer", "name", "eth0", "netns", name)
    for command in (f"address add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
        _ip("-n", name, *command.split())
    sshd = ["bash", "-ec", _SSHD, "host", str(place), name, address]
    with (place / "host.log").open("wb") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", name, "unshare", *_NAMESPACES, *sshd],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the script
        )
    for _ in range(100):
        with suppress(OSError), socket.create_connection((address, 22), timeout=1):
            return Host(name, address, process)
        time.sleep(0.1)
    raise SystemExit(f"host {name} does not answer: {(place / 'host.log').read_text()}")


def live(script: str, story: Callable[[], bool]) -> None:
    """At the desk, live a script's story; outside, make the desk and clear up after it.

    Exits with 0 only if the story ends well.
    """
    if sys.argv[1:2] == ["--at-the-desk"]:
        furnish(Path(sys.argv[2]))
        try:
            sys.exit(0 if story() else 1)
        except KeyboardInterrupt:
            say("interrupted")
            sys.exit(130)
    if os.geteuid() or sys.argv[1:] not in ([], ["--keep"]):
        sys.exit(f"usage, as root: python {script} [--keep]")
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    try:
        code = at_the_desk(folder, script)
    finally:
        if "--keep" in sys.argv:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    sys.exit(code)


def begin(name: str, command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command whose output goes to the log of this name."""
    with (LAB / f"{name}.log").open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)


def run(name: str, command: list[str], limit_s: float, environment: dict[str, str] | None = None) -> None:
    """Run a command to its end; stops the story if it fails or takes too long."""
    process = begin(name, command, environment)
    wait(" ".join(command), lambda: process.poll() is not None, limit_s, name)
    if process.returncode:
        fail(f"{' '.join(command)} ended with exit code {process.returncode}", name)


def wait(
    what: str,
    condition: Callable[[], bool],
    limit_s: float,
    log: str,
    meanwhile: subprocess.Popen[bytes] | None = None,
) -> None:
    """Wait until a condition holds; stops the story after the limit, or if the process ends before."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if meanwhile is not None and meanwhile.poll() is not None:
            fail(f"the sweep ended before {what}", log)
        if time.monotonic() > deadline:
            fail(f"waited {limit_s:.0f} s in vain for {what}", log)
        time.sleep(0.5)


def fail(what: str, log: str) -> None:
    print("\n".join(printed(log).splitlines()[-30:]))
    say(f"NO   {what}; above the end of {log}.log")
    sys.exit(1)


def printed(name: str) -> str:
    """A log without codes for colours and cursors, and without progress bars."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", (LAB / f"{name}.log").read_text(errors="replace"))
    return "\n".join(line for line in text.replace("\r", "\n").splitlines() if line and "━" not in line)


def say(what: str) -> None:
    print(f"{time.monotonic() - _STARTED:5.0f} s  {what}", flush=True)


def ray_processes() -> list[str]:
    """Ray's processes on all hosts, of which the desk sees each."""
    names = [path.read_text() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    return [name for name in names if name.startswith(("raylet", "gcs_server", "ray::"))]


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {result.stderr.strip() or result.stdout.strip()}")
