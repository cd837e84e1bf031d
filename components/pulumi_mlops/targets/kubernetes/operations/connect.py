"""`mlops connect`: tunnels from this machine to a platform on a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ....cli.selection import CommandError, Stack, UsageError
from ....cli.terminal import Style
from ....files import write_private
from ....plugin.errors import ResourceError
from ....runtime.net import is_free
from ..api.client import ClusterApi
from . import client
from .inventory import Inventory, component, connect, instance, list_objects, name_of

# Below the range that Linux uses for outgoing connections, so usually unused.
_FIRST_PORT, _PORTS = 28_000, 4_000
_RETRY_SECONDS = 2.0
_SUFFIXES = ("-server", "-route")


@dataclass(frozen=True)
class Place:
    """An HTTP port of a Service in the cluster."""

    name: str
    service: str
    port: int
    cluster_address: str
    """`service.namespace.svc:port`"""


def run(stack: Stack, *, env: str | None, command: Sequence[str]) -> int:
    """Open tunnels and keep them until Ctrl-C or the end of `command`. Returns the exit code."""
    api = connect(stack)
    found = places(list_objects(api, stack, ("Service",)))
    if not found:
        raise CommandError(
            f"{stack.name} has no Services in namespace {api.where.namespace}: run `pulumi up`"
        )
    tunnels = Tunnels(api, instance(stack), found)
    tunnels.open()
    for place, why in tunnels.missing.items():
        print(f"{Style(sys.stderr).unsure('note:')} {place.name}: {why}", file=sys.stderr)
    variables = client.replace_in_variables(client.variables(api, stack), tunnels.addresses)
    if command:
        return run_command(client.command(command, tunnels.addresses), variables)
    show(stack, api, tunnels, variables, env)
    _until_interrupted(tunnels)
    if env not in (None, "-"):
        Path(env).unlink(missing_ok=True)
    return 0


def places(inventory: Inventory) -> list[Place]:
    """The HTTP ports that clients use: those of Services with a cluster IP."""
    services = {
        name_of(each): each
        for each in inventory.of("Service")
        if each["spec"].get("clusterIP") != "None" and component(each) != "database"
    }
    short_name_of = short_names(list(services))
    result = []
    for name, each in services.items():
        metadata = each["metadata"]
        result += [
            Place(
                short_name_of[name], metadata["name"], port["port"],
                f"{metadata['name']}.{metadata['namespace']}.svc:{port['port']}",
            )
            for port in each["spec"]["ports"]
            if port["name"] == "http"
        ]  # fmt: skip
    return result


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names without their common prefix and known suffix: `platform-tracking-server` → `tracking`.

    If the short names are not unique, the full names are returned.
    """
    words = {name: _without_suffix(name).split("-") for name in names}
    common = 0
    # At least one word of each name remains.
    while len(names) > 1 and common + 1 < min(map(len, words.values())):
        if len({parts[common] for parts in words.values()}) > 1:
            break
        common += 1
    short_name_of = {name: "-".join(parts[common:]) for name, parts in words.items()}
    return (
        short_name_of
        if len(set(short_name_of.values())) == len(names)
        else {name: name for name in names}
    )


def _without_suffix(name: str) -> str:
    return next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)


class Tunnels:
    """Tunnels to places, each with its own local port."""

    def __init__(self, api: ClusterApi, owner: str, places: Sequence[Place]) -> None:
        self._api, self._owner, self._places = api, owner, places
        self.addresses: dict[str, str] = {}
        """Local addresses by cluster address."""
        self.missing: dict[Place, str] = {}
        # Choose all ports now, so that a tunnel that opens later has its own.
        self._ports: dict[Place, int] = {}
        for place in places:
            self._ports[place] = port_of(f"{owner}/{place.service}", set(self._ports.values()))

    def open(self) -> list[Place]:
        """Open the missing tunnels. Those without a ready pod stay missing. Returns new ones."""
        opened = []
        for place in self._places:
            if place.cluster_address in self.addresses:
                continue
            try:
                self.addresses[place.cluster_address] = self._api.tunnel(
                    place.service, place.port, self._ports[place]
                )
                self.missing.pop(place, None)
                opened.append(place)
            except ResourceError as error:
                self.missing[place] = str(error)
        return opened

    def url(self, place: Place) -> str:
        """The URL of a place on this machine."""
        return f"http://127.0.0.1:{self._ports[place]}"

    @property
    def places(self) -> Sequence[Place]:
        """All places, with or without an open tunnel."""
        return self._places


def port_of(name: str, taken: set[int]) -> int:
    """An unused port, derived from `name` so that it stays the same if possible."""
    first = zlib.crc32(name.encode()) % _PORTS
    for step in range(_PORTS):
        port = _FIRST_PORT + (first + step) % _PORTS
        if port not in taken and is_free(port):
            return port
    raise CommandError(f"no unused port from {_FIRST_PORT} to {_FIRST_PORT + _PORTS - 1}")


def show(
    stack: Stack,
    api: ClusterApi,
    tunnels: Tunnels,
    env: Mapping[str, str],
    env_file: str | None,
) -> None:
    """Print the URLs of all places and the environment variables without credentials.

    With `env_file`, all variables are written to this file, or to standard output for `-`. The URLs
    are then printed to standard error.
    """
    out = sys.stderr if env_file else sys.stdout
    style = Style(out)
    lines = [f"{style.title(stack.name)}  {style.quiet(f'namespace {api.where.namespace}')}", ""]
    width = max(len(place.name) for place in tunnels.places)
    for place in tunnels.places:
        pending = style.unsure("  (opens when a pod is ready)") if place in tunnels.missing else ""
        lines.append(f"  {place.name:<{width}}  {tunnels.url(place)}{pending}")
    exports = [*client.export_lines(env), ""]
    if env_file is None:
        lines += ["", *client.export_lines(client.without_credentials(env))]
        lines.append(style.quiet("# with credentials: mlops connect --env"))
    elif env_file == "-":
        sys.stdout.write("\n".join(exports))
        sys.stdout.flush()
    else:
        _write(Path(env_file), "\n".join(exports))
        lines += ["", f"source {env_file}"]
    print(
        "\n".join([*lines, "", style.quiet("Press Ctrl-C to close the tunnels.")]),
        file=out,
        flush=True,
    )


def _write(file: Path, text: str) -> None:
    try:
        write_private(file.absolute(), text)
    except OSError as error:
        raise UsageError(f"--env: {file} cannot be written: {error.strerror}") from None


def run_command(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command with these environment variables. Returns its exit code."""
    # The terminal also sends Ctrl-C to the command, which inherits SIG_IGN but no handler.
    previous_handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run(list(words), env={**os.environ, **env}, check=False).returncode
    except OSError as error:
        raise UsageError(f"{words[0]} cannot be run: {error.strerror}") from None
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    return code if code >= 0 else 128 - code


def _until_interrupted(tunnels: Tunnels) -> None:
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # In a thread: the interrupted code may hold the lock of the event.
        threading.Thread(target=stopped.set).start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    while not stopped.wait(_RETRY_SECONDS):
        if tunnels.missing:
            for place in tunnels.open():
                print(f"{place.name} is open: {tunnels.url(place)}", file=sys.stderr)
