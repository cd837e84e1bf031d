"""Starts, repairs, inspects and stops the cluster of one checkout."""

from __future__ import annotations

import base64
import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import certificates
import packages
import psutil
from api import Api
from binaries import binaries, kubernetes_version, pinned_version
from components import (
    COMPONENTS,
    CONTAINERD_SOCKET,
    DNS_IMAGE,
    PAUSE_IMAGE,
    WITH_OWN_ROLES,
    Component,
    configure,
)
from image import pack
from node import Node
from place import DOMAIN, NODE, Addresses, Place
from progress import ToolError, say

HERE = Path(__file__).resolve().parent
CTR = ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"]
NAMES = [component.name for component in COMPONENTS]
SECONDS = 120  # time limit for a program to be ready; about 12 s on an idle machine
KUBELET_HEALTH = f"/api/v1/nodes/{NODE}/proxy/healthz"
METRICS = "/apis/metrics.k8s.io/v1beta1"
QUIET_SECONDS = 5
GRACE_SECONDS = 2  # in which a program may not have started
LOG_LINES = 15


class Cluster:
    """The cluster of one checkout."""

    def __init__(self, checkout: Path) -> None:
        self.place = Place(checkout)
        self.node = Node(self.place)

    def up(self) -> None:
        """Start the programs that do not run, and wait until all are ready."""
        packages.ensure()
        folder = binaries()
        started = time.monotonic()
        self.place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.place.logs.mkdir(exist_ok=True)
        self.check_version()
        addresses = self.place.addresses()
        if not self.node.ready():
            say("starting a node in its own namespaces")
            self.place.check(addresses)
            self.node.start(folder, addresses)
        certificates.write_all(self.place.pki, addresses)
        configure(self.place, addresses)
        (self.place.folder / "bin").unlink(missing_ok=True)
        (self.place.folder / "bin").symlink_to(folder)
        running = self.node.processes()
        absent = [each for each in COMPONENTS if each.name not in running]
        api = Api(self.place, addresses)
        self.start(absent, {"etcd", "containerd", "kube-apiserver"}, addresses)
        self.wait("containerd", "containerd", self.containerd_ready)
        self.load_own_images(folder)
        self.wait("the API server", "kube-apiserver", api.ready)
        self.start(absent, set(NAMES) - WITH_OWN_ROLES, addresses)
        authority = (self.place.pki / "ca.crt").read_bytes()
        for manifest in sorted((HERE / "manifests").glob("*.yaml")):
            api.apply(folder / "kubectl", render(manifest, addresses, authority))
        self.start(absent, set(NAMES), addresses)  # the programs whose roles were applied above
        self.wait("the node", "kubelet", lambda: api.node_ready(NODE))
        self.wait("DNS", "kubelet", lambda: api.deployment_ready("kube-system", "coredns"))
        # A registered API that does not answer blocks the deletion of namespaces.
        self.wait("metrics", "metrics-server", lambda: api.text(METRICS) is not None)
        self.wait("every program", "", lambda: not self.dead())
        if absent:
            say(
                f"kubernetes {kubernetes_version()} is ready after"
                f" {time.monotonic() - started:.0f} s, at {addresses.server}"
            )
        else:
            say(f"kubernetes {kubernetes_version()} is running, at {addresses.server}")

    def check_version(self) -> None:
        """Raise ToolError if another version created the cluster: keys and objects may differ."""
        file, version = self.place.folder / "version", pinned_version()
        if not file.exists():
            file.write_text(version)
        if (recorded := file.read_text()) != version:
            raise ToolError(
                f"version {recorded} created the cluster of this checkout, and this is {version}:"
                " run `make cluster-down` first, which deletes it with its data"
            )

    def start(self, absent: list[Component], names: set[str], addresses: Addresses) -> None:
        """Start the programs of `absent` that are in `names` and do not run yet."""
        running = self.node.processes()
        for component in absent:
            if component.name in names and component.name not in running:
                self.node.launch(
                    component.command(self.place, addresses), self.log(component.name), {}
                )

    def wait(self, what: str, program: str, ready: Callable[[], bool]) -> None:
        """Wait for `ready` and print progress. Raises ToolError with the last log lines."""
        started = reported = time.monotonic()
        while not ready():
            now = time.monotonic()
            dead = self.dead() if now - started > GRACE_SECONDS else []
            culprit = program if program in dead else (dead[0] if dead and not program else "")
            if culprit or now - started > SECONDS:
                why = f"{culprit} ended" if culprit else f"not ready after {SECONDS} s"
                raise ToolError(f"{what}: {why}\n{self.last_lines(culprit or program)}")
            if now - reported >= QUIET_SECONDS:
                reported = now
                say(f"waiting for {what} ({now - started:.0f} s)")
            time.sleep(0.1)

    def dead(self) -> list[str]:
        running = self.node.processes()
        return [name for name in NAMES if name not in running]

    def containerd_ready(self) -> bool:
        with contextlib.suppress(ToolError):
            return bool(self.node.run([*CTR, "version"], limit_seconds=10))
        return False

    def load_own_images(self, folder: Path) -> None:
        """Load the images of the sandbox and of DNS if they are missing."""
        present = self.images()
        for program, reference in (("pause", PAUSE_IMAGE), ("coredns", DNS_IMAGE)):
            if reference not in present:
                file = self.place.folder / f"{program}.tar"
                pack(folder / program, reference, file)
                self.load(file)
                file.unlink()

    def load(self, file: Path) -> None:
        """Import the images of a tar file."""
        try:
            with file.open("rb") as tar:
                self.node.run([*CTR, "images", "import", "-"], stdin=tar, limit_seconds=900)
        except OSError as error:
            raise ToolError(f"{file} cannot be read: {error.strerror}") from error

    def images(self) -> list[str]:
        """The names of the images that pods can use."""
        listed = self.node.run([*CTR, "images", "list", "--quiet"]).split()
        return sorted(name for name in listed if not name.startswith("sha256:"))

    def restart(self, name: str) -> None:
        """Restart one program."""
        component = next(each for each in COMPONENTS if each.name == name)
        process = self.node.processes().get(name)
        if process is not None:
            process.terminate()
            try:
                process.wait(30)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(30)
        addresses = self.place.addresses()
        api = Api(self.place, addresses)
        self.node.launch(component.command(self.place, addresses), self.log(name), {})
        self.wait("the API server", "kube-apiserver", api.ready)
        if name == "kubelet":
            self.wait("the kubelet", name, lambda: api.text(KUBELET_HEALTH) == "ok")

    def down(self) -> bool:
        """Stop the cluster and delete its folder. Returns whether it existed."""
        existed = self.place.folder.exists()
        self.node.end()
        leftover = [each for each in mounts() if each.startswith(f"{self.place.folder}/")]
        if leftover:
            raise ToolError(f"something is mounted in {self.place.folder}: {', '.join(leftover)}")
        if existed:
            shutil.rmtree(self.place.folder)
        return existed

    def status(self) -> bool:
        """Print the state of all programs. Returns whether all run and are ready."""
        running = self.node.processes()
        for name in NAMES:
            process = running.get(name)
            print(f"{name:24} {f'pid {process.pid}' if process else 'not running'}")
        if not running:
            return False
        addresses = self.place.addresses()
        api = Api(self.place, addresses)
        checks = {
            f"API server {addresses.server}": api.ready(),
            f"node {addresses.node}": api.node_ready(NODE),
            f"DNS {addresses.dns_service}": api.deployment_ready("kube-system", "coredns"),
        }
        for what, good in checks.items():
            print(f"{what:40} {'ready' if good else 'not ready'}")
        print(self.exports())
        return len(running) >= len(NAMES) and all(checks.values())

    def exports(self) -> str:
        """The shell command that gives access to the cluster."""
        return f"export KUBECONFIG={self.place.kubeconfig} PATH={self.place.folder}/bin:$PATH"

    def log(self, name: str) -> Path:
        return self.place.logs / f"{name}.log"

    def last_lines(self, name: str) -> str:
        file = self.log(name)
        if not name or not file.exists():
            return ""
        lines = file.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"  {line[:300]}" for line in [f"{file}:", *lines])


def render(manifest: Path, addresses: Addresses, authority: bytes) -> str:
    text = manifest.read_text()
    for name, value in {
        "@DNS_IMAGE@": DNS_IMAGE,
        "@DNS_SERVICE@": addresses.dns_service,
        "@DOMAIN@": DOMAIN,
        "@NODE_ADDRESS@": addresses.node,
        "@AUTHORITY@": base64.b64encode(authority).decode(),
    }.items():
        text = text.replace(name, value)
    return text


def mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
