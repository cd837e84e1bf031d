"""A host name that stands for several servers, as a cluster's headless Service: each is watched."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from .config import Target

Lookup = Callable[[str], Awaitable[list[str]]]


async def addresses_of(host: str) -> list[str]:
    """Every address of ``host``; none when it cannot be found now."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in found})


async def each_server(targets: Sequence[Target], lookup: Lookup = addresses_of) -> list[Target]:
    """The targets; one whose host name has several addresses is a target for each of them.

    A name that cannot be found stays what it is: the look at it tells why it is down.
    """
    hosts = sorted({host for target in targets if (host := _name(target))})
    found = dict(zip(hosts, await asyncio.gather(*map(lookup, hosts)), strict=True))
    servers = []
    for target in targets:
        several = found.get(_name(target), [])
        if len(several) < 2:
            servers.append(target)
            continue
        for address in several:
            servers.append(
                replace(
                    target,
                    instance=f"{target.instance} {address}",
                    url=_at(target.url, address),
                    health_url=_at(target.health_url, address),
                )
            )
    return servers


def _name(target: Target) -> str:
    """The host of a target where it is a name that may stand for several."""
    host = urlsplit(target.url or target.health_url or "").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "" if host == "localhost" else host
    return ""


def _at(url: str | None, address: str) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()
