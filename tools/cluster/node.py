"""The node: namespaces of its own, in which every process, mount, rule and link of a cluster is.

A first process holds them. It is process 1 in there, so the kernel ends everything else with it,
and with the last process the mounts, the network links and the firewall rules are gone too. What
lives longer, and is removed here, are control groups.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cgroups
import psutil
from place import Addresses, Place
from progress import ToolError

STATE, BIN = "/run/mlops/state", "/run/mlops/bin"  # as the node sees them
SECONDS_TO_END = 30
# The kubelet sets these for the whole machine; the node gets files that it may set instead.
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
PREPARE = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 node /run
mkdir -p /run/mlops/state /run/mlops/bin /run/mlops/sysctl /run/lock
mount --bind "$1" /run/mlops/state
mount --bind "$2" /run/mlops/bin
cd /run/mlops/state
mkdir -p var/lib var/log tmp
chmod 1777 tmp
for folder in var/lib var/log tmp; do mount --bind "$folder" "/$folder"; done
cd /
mount -o remount,bind,ro / # what pods do with a path of their host never reaches the machine
mount --make-rshared /
shift 2
for setting; do
    file=/run/mlops/sysctl/$(echo "${setting%=*}" | tr / .)
    echo "${setting#*=}" > "$file"
    [ ! -e "/proc/sys/${setting%=*}" ] || mount --bind "$file" "/proc/sys/${setting%=*}"
done
for setting in ip_forward conf/all/forwarding; do echo 1 > "/proc/sys/net/ipv4/$setting"; done
echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
touch /run/mlops/prepared
"""


@dataclass(frozen=True)
class Node:
    """The node of one checkout's cluster, running or not."""

    place: Place

    @property
    def record(self) -> Path:
        return self.place.folder / "node.json"

    def holder(self) -> psutil.Process | None:
        """The process that holds the namespaces, if it runs; never another with its number."""
        try:
            known = json.loads(self.record.read_text())
            process = psutil.Process(known["pid"])
            same = abs(process.create_time() - known["started"]) < 0.5 and (
                namespace(process.pid) == known["namespace"]
            )
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None

    def holders(self) -> list[psutil.Process]:
        """The holder, and one that was started and not recorded: it says whose it is.

        One namespace below this process's own, which no process of a pod is.
        """
        found = [holder] if (holder := self.holder()) else []
        level = levels(os.getpid())
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                arguments = process.cmdline()
                if (
                    len(arguments) == 2
                    and Path(arguments[0]).name == "pause"
                    and arguments[1] == self.place.name
                    and levels(process.pid) == level + 1
                    and process not in found
                ):
                    found.append(process)
        return found

    def ready(self) -> psutil.Process | None:
        """The holder, if its namespaces were prepared to the end."""
        holder = self.holder()
        if holder is None or not Path(f"/proc/{holder.pid}/root/run/mlops/prepared").exists():
            return None
        return holder

    def start(self, binaries: Path, addresses: Addresses) -> None:
        """Make the namespaces, with the mounts and the link to the machine."""
        if self.ready():
            return
        self.end()
        load_modules()
        held = subprocess.Popen(
            [
                *("unshare", "--fork", "--pid", "--mount", "--net", "--uts", "--ipc"),
                *("--mount-proc", str(binaries / "pause"), self.place.name),
            ],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.place.logs / "node.log").open("a"),
            start_new_session=True,
            env={"PATH": os.defpath},
        )
        holder = first_child(held)
        self.record.write_text(
            json.dumps(
                {
                    "pid": holder.pid,
                    "started": holder.create_time(),
                    "namespace": namespace(holder.pid),
                }
            )
        )
        self.run(["hostname", self.place.name], holder=holder)
        self.connect(addresses, holder)
        cgroups.create(self.place.name)
        settings = [f"{name}={value}" for name, value in SYSCTLS.items()]
        self.run(
            ["sh", "-c", PREPARE, "node", str(self.place.folder), str(binaries), *settings],
            holder=holder,
        )

    def connect(self, addresses: Addresses, holder: psutil.Process) -> None:
        """A link between the machine and the node, and the machine's route to all of its network.

        The node gets no route to anything else, so pods reach the machine and one another only.
        Its route to services is there to be taken back: the rules of kube-proxy, which replace or
        refuse such an address, are looked at only for packets that have a route.
        """
        name, link = self.place.name, addresses.link.prefixlen
        host = ["ip", "link", "add", name, "type", "veth"]
        checked([*host, "peer", "name", "eth0", "netns", str(holder.pid)])
        checked(["ip", "addr", "add", f"{addresses.host}/{link}", "dev", name])
        checked(["ip", "link", "set", name, "up"])
        self.run(["ip", "link", "set", "lo", "up"], holder=holder)
        self.run(["ip", "addr", "add", f"{addresses.node}/{link}", "dev", "eth0"], holder=holder)
        self.run(["ip", "link", "set", "eth0", "up"], holder=holder)
        self.run(["ip", "route", "add", str(addresses.services), "dev", "eth0"], holder=holder)
        checked(["ip", "route", "add", str(addresses.network), "via", addresses.node])

    def command(self, command: Sequence[str], holder: psutil.Process | None = None) -> list[str]:
        """The command, as one that runs in the node."""
        inside = holder or self.ready()
        if inside is None:
            raise ToolError("the cluster is not running; start it with `make cluster`")
        return [
            *("nsenter", "--target", str(inside.pid), "--pid", "--mount", "--net", "--uts"),
            *("--ipc", "--wd=/", "--", *command),
        ]

    def run(
        self,
        command: Sequence[str],
        *,
        holder: psutil.Process | None = None,
        stdin: IO[bytes] | None = None,
        limit_seconds: float = 120,
    ) -> str:
        """Run a short command in the node, and return what it prints."""
        return checked(self.command(command, holder), stdin=stdin, limit_seconds=limit_seconds)

    def launch(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """Start a command in the node that goes on when this one ends."""
        with log.open("ab") as file:
            subprocess.run(
                self.command(["setsid", "--fork", *command]),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", **env},
                cwd="/",
                check=True,
                timeout=30,
                start_new_session=True,
            )

    def processes(self) -> dict[str, psutil.Process]:
        """What `launch` started and still runs, by the name of the program."""
        holder = self.holder()
        if holder is None:
            return {}
        found = {}
        with contextlib.suppress(psutil.Error):
            # Orphans in the node are children of its process 1; what pods run has other parents,
            # or is in namespaces further down.
            for child in holder.children():
                with contextlib.suppress(psutil.Error, OSError):
                    if namespace(child.pid) == namespace(holder.pid):
                        arguments = child.cmdline()
                        if arguments and child.status() != psutil.STATUS_ZOMBIE:
                            found[Path(arguments[0]).name] = child
        return found

    def end(self) -> None:
        """End every process of the node, and remove what outlives them."""
        for holder in self.holders():
            with contextlib.suppress(psutil.NoSuchProcess):
                holder.send_signal(signal.SIGKILL)
            wait_gone(holder)
        self.record.unlink(missing_ok=True)
        if Path(f"/sys/class/net/{self.place.name}").exists():  # a moment after the namespace
            with contextlib.suppress(ToolError):  # it went meanwhile
                checked(["ip", "link", "delete", self.place.name])
        cgroups.remove(self.place.name)


def load_modules() -> None:
    """Ask for the parts of the kernel that a machine has not loaded yet, where it has modules."""
    bridge = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not bridge.exists():
        with contextlib.suppress(ToolError, OSError):
            checked(["modprobe", "--all", "overlay", "br_netfilter"])
    if not bridge.exists():
        raise ToolError("the kernel does not filter bridged packets (module br_netfilter)")


def namespace(pid: int) -> str:
    """The process namespace of a process."""
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def levels(pid: int) -> int:
    """How many process namespaces, from this one's down, a process has a number in."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(len(line.split()) - 1 for line in status.splitlines() if line[:6] == "NSpid:")


def first_child(parent: subprocess.Popen[bytes]) -> psutil.Process:
    """The process that `unshare` becomes process 1 of the new namespace."""
    end = time.monotonic() + 10
    while time.monotonic() < end and parent.poll() is None:
        with contextlib.suppress(psutil.Error, OSError):
            for child in psutil.Process(parent.pid).children():
                # Until it is the program, the mounts of the namespace are not yet its own.
                if Path(child.exe()).name == "pause":
                    return child
        time.sleep(0.01)
    raise ToolError("namespaces cannot be made here; that needs root, and a machine that allows it")


def checked(
    command: Sequence[str], *, stdin: IO[bytes] | None = None, limit_seconds: float = 120
) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=stdin or subprocess.DEVNULL,
            check=False,
            capture_output=True,
            timeout=limit_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{' '.join(command)} did not end in {limit_seconds:.0f} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise ToolError(f"{' '.join(command)[:200]} failed ({done.returncode}): {said}")
    return done.stdout.decode(errors="replace")


def wait_gone(process: psutil.Process) -> None:
    try:
        process.wait(SECONDS_TO_END)
    except psutil.TimeoutExpired as error:
        raise ToolError(f"process {process.pid} of the cluster does not end") from error
