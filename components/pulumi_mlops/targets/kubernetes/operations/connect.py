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
from .inventory import Inventory, component, connect, instance, name_of, take

# Below the ports that Linux gives to clients, so that they are free as a rule.
_FIRST_PORT, _PORTS = 28_000, 4_000
_TRY_AGAIN_SECONDS = 2.0
_ENDS = ("-server", "-route")


@dataclass(frozen=True)
class Place:
    """Something that has an address in the cluster."""

    name: str
    service: str
    port: int
    inside: str
    """`service.namespace.svc:port`"""


def run(stack: Stack, *, env: str | None, command: Sequence[str]) -> int:
    """Keep the tunnels until Ctrl-C, or until the command that was given has ended."""
    api = connect(stack)
    wanted = places(take(api, stack, ("Service",)))
    if not wanted:
        raise CommandError(
            f"{stack.name} has nothing in namespace {api.where.namespace}: `pulumi up` provisions "
            "it"
        )
    tunnels = Tunnels(api, instance(stack), wanted)
    tunnels.open()
    for place, why in tunnels.missing.items():
        print(f"{Style(sys.stderr).unsure('note:')} {place.name}: {why}", file=sys.stderr)
    variables = client.all_local(client.variables(api, stack), tunnels.addresses)
    if command:
        return run_command(client.command(command, tunnels.addresses), variables)
    show(stack, api, tunnels, variables, env)
    _until_interrupted(tunnels)
    if env not in (None, "-"):
        Path(env).unlink(missing_ok=True)
    return 0


def places(found: Inventory) -> list[Place]:
    """What clients may want to reach: Services of HTTP that stand for more than their pods."""
    services = {
        name_of(each): each
        for each in found.of("Service")
        if each["spec"].get("clusterIP") != "None" and component(each) != "database"
    }
    short = short_names(list(services))
    told = []
    for name, each in services.items():
        about = each["metadata"]
        told += [
            Place(
                short[name], about["name"], port["port"],
                f"{about['name']}.{about['namespace']}.svc:{port['port']}",
            )
            for port in each["spec"]["ports"]
            if port["name"] == "http"
        ]  # fmt: skip
    return told


def short_names(names: Sequence[str]) -> dict[str, str]:
    """`platform-tracking-server` → `tracking`: without what all of them share."""
    words = {name: _without_end(name).split("-") for name in names}
    common = 0
    # Of each, a word is left.
    while len(names) > 1 and common + 1 < min(map(len, words.values())):
        if len({parts[common] for parts in words.values()}) > 1:
            break
        common += 1
    short = {name: "-".join(parts[common:]) for name, parts in words.items()}
    return short if len(set(short.values())) == len(names) else {name: name for name in names}


def _without_end(name: str) -> str:
    return next((name.removesuffix(end) for end in _ENDS if name.endswith(end)), name)


class Tunnels:
    """The tunnels to some places, each at a port of its own."""

    def __init__(self, api: ClusterApi, owner: str, wanted: Sequence[Place]) -> None:
        self._api, self._owner, self._wanted = api, owner, wanted
        self.addresses: dict[str, str] = {}
        """Here, by the address in the cluster."""
        self.missing: dict[Place, str] = {}
        # Chosen at once: one that opens later must not find its port taken by another.
        self._ports: dict[Place, int] = {}
        for place in wanted:
            self._ports[place] = port_of(f"{owner}/{place.service}", set(self._ports.values()))

    def open(self) -> list[Place]:
        """Open those that are not; what has no pod stays missing. Those that came now."""
        came = []
        for place in self._wanted:
            if place.inside in self.addresses:
                continue
            try:
                self.addresses[place.inside] = self._api.tunnel(
                    place.service, place.port, self._ports[place]
                )
                self.missing.pop(place, None)
                came.append(place)
            except ResourceError as error:
                self.missing[place] = str(error)
        return came

    def url(self, place: Place) -> str:
        """Where it is on this machine."""
        return f"http://127.0.0.1:{self._ports[place]}"

    @property
    def places(self) -> Sequence[Place]:
        """All that are wanted."""
        return self._wanted


def port_of(name: str, taken: set[int]) -> int:
    """A port that is the same each time for the same name, unless somebody has it already."""
    first = zlib.crc32(name.encode()) % _PORTS
    for step in range(_PORTS):
        port = _FIRST_PORT + (first + step) % _PORTS
        if port not in taken and is_free(port):
            return port
    raise CommandError(f"no port from {_FIRST_PORT} to {_FIRST_PORT + _PORTS} is free")


def show(
    stack: Stack,
    api: ClusterApi,
    tunnels: Tunnels,
    env: Mapping[str, str],
    wanted: str | None,
) -> None:
    """Say where everything is. Credentials are shown, or written to a file, only when asked for;
    standard output has nothing but variables then."""
    out = sys.stderr if wanted else sys.stdout
    style = Style(out)
    lines = [f"{style.title(stack.name)}  {style.quiet(f'namespace {api.where.namespace}')}", ""]
    width = max(len(place.name) for place in tunnels.places)
    for place in tunnels.places:
        late = style.unsure("  (opens once a pod is ready)") if place in tunnels.missing else ""
        lines.append(f"  {place.name:<{width}}  {tunnels.url(place)}{late}")
    told = [*client.exports(env), ""]
    if wanted is None:
        lines += ["", *client.exports(client.without_secrets(env))]
        lines.append(style.quiet("# with credentials: mlops connect --env"))
    elif wanted == "-":
        sys.stdout.write("\n".join(told))
        sys.stdout.flush()
    else:
        _write(Path(wanted), "\n".join(told))
        lines += ["", f"source {wanted}"]
    print("\n".join([*lines, "", style.quiet("Ctrl-C ends it.")]), file=out, flush=True)


def _write(file: Path, text: str) -> None:
    try:
        write_private(file.absolute(), text)
    except OSError as error:
        raise UsageError(f"--env: {file} cannot be written: {error.strerror}") from None


def run_command(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command to its end with these variables; its exit code."""
    # Ctrl-C reaches the command by itself. A handler, unlike SIG_IGN, is not inherited by it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run(list(words), env={**os.environ, **env}, check=False).returncode
    except OSError as error:
        raise UsageError(f"{words[0]} cannot be run: {error.strerror}") from None
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _until_interrupted(tunnels: Tunnels) -> None:
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # By a thread: this one may be inside of the event at this moment, holding its lock.
        threading.Thread(target=stopped.set).start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    while not stopped.wait(_TRY_AGAIN_SECONDS):
        if tunnels.missing:
            for place in tunnels.open():
                print(f"{place.name} is there: {tunnels.url(place)}", file=sys.stderr)
