"""The node: Linux namespaces with all processes, mounts, firewall rules and links of a cluster.

The first process holds the namespaces. It is process 1 in them, so the kernel ends all others with
it, and then removes the mounts, network links and firewall rules. Control groups remain and are
removed by this module.
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

STATE, BIN = "/run/mlops/state", "/run/mlops/bin"  # paths in the node
SECONDS_TO_END = 30
# The kubelet sets these for the whole machine. The node gets files that it sets instead.
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
        """The process that holds the namespaces; None if it has ended, also with a reused id."""
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
        """The holder, and holders that were started and not recorded.

        A holder has the name of the cluster as argument, and is one process namespace below this
        process. Processes of pods are further below.
        """
        running = [holder] if (holder := self.holder()) else []
        level = levels(os.getpid())
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                arguments = process.cmdline()
                if (
                    len(arguments) == 2
                    and Path(arguments[0]).name == "pause"
                    and arguments[1] == self.place.name
                    and levels(process.pid) == level + 1
                    and process not in running
                ):
                    running.append(process)
        return running

    def ready(self) -> psutil.Process | None:
        """The holder if its namespaces are completely prepared; None otherwise."""
        holder = self.holder()
        if holder is None or not Path(f"/proc/{holder.pid}/root/run/mlops/prepared").exists():
            return None
        return holder

    def start(self, binaries: Path, addresses: Addresses) -> None:
        """Create the namespaces, the mounts and the link to the machine."""
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
        """Create the link between machine and node, and the machine's route to the cluster network.

        The node gets no other route, so pods reach only the machine and one another. The node's
        route to services is needed because the rules of kube-proxy, which replace or refuse such
        addresses, apply only to packets with a route.
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
        """The command line that runs `command` in the node."""
        process = holder or self.ready()
        if process is None:
            raise ToolError("the cluster is not running; start it with `make cluster`")
        return [
            *("nsenter", "--target", str(process.pid), "--pid", "--mount", "--net", "--uts"),
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
        """Run a short command in the node. Returns its output."""
        return checked(self.command(command, holder), stdin=stdin, limit_seconds=limit_seconds)

    def launch(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """Start a command in the node that keeps running after this process."""
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
        """The running processes that `launch` started, by program name."""
        holder = self.holder()
        if holder is None:
            return {}
        by_name = {}
        with contextlib.suppress(psutil.Error):
            # Orphans in the node are children of its process 1. Processes of pods have other
            # parents or are in namespaces further below.
            for child in holder.children():
                with contextlib.suppress(psutil.Error, OSError):
                    if namespace(child.pid) == namespace(holder.pid):
                        arguments = child.cmdline()
                        if arguments and child.status() != psutil.STATUS_ZOMBIE:
                            by_name[Path(arguments[0]).name] = child
        return by_name

    def end(self) -> None:
        """End every process of the node, and remove its link and control groups."""
        for holder in self.holders():
            with contextlib.suppress(psutil.NoSuchProcess):
                holder.send_signal(signal.SIGKILL)
            wait_gone(holder)
        self.record.unlink(missing_ok=True)
        if Path(
            f"/sys/class/net/{self.place.name}"
        ).exists():  # the link disappears shortly after the namespace
            with contextlib.suppress(ToolError):  # it disappeared in the meantime
                checked(["ip", "link", "delete", self.place.name])
        cgroups.remove(self.place.name)


def load_modules() -> None:
    """Load the kernel modules that the cluster needs, if the machine has modules."""
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
    """The number of process namespaces, from this one down, in which a process has an id."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(len(line.split()) - 1 for line in status.splitlines() if line[:6] == "NSpid:")


def first_child(parent: subprocess.Popen[bytes]) -> psutil.Process:
    """The child of `unshare` that is process 1 of the new namespace."""
    end = time.monotonic() + 10
    while time.monotonic() < end and parent.poll() is None:
        with contextlib.suppress(psutil.Error, OSError):
            for child in psutil.Process(parent.pid).children():
                # Before it executes `pause`, it does not have the mounts of the namespace.
                if Path(child.exe()).name == "pause":
                    return child
        time.sleep(0.01)
    raise ToolError("namespaces cannot be created: this needs root, and a machine that allows it")


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
        errors = done.stderr.decode(errors="replace").strip()
        raise ToolError(f"{' '.join(command)[:200]} failed ({done.returncode}): {errors}")
    return done.stdout.decode(errors="replace")


def wait_gone(process: psutil.Process) -> None:
    try:
        process.wait(SECONDS_TO_END)
    except psutil.TimeoutExpired as error:
        raise ToolError(f"process {process.pid} of the cluster does not end") from error
