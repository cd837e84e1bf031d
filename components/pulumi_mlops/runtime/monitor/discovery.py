"""Targets whose host name has several addresses, as a headless Service: each address is scraped."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from .config import ScrapeTarget

Lookup = Callable[[str], Awaitable[list[str]]]


async def resolve_host(host: str) -> list[str]:
    """All addresses of ``host``; empty if it does not resolve."""
    loop = asyncio.get_running_loop()
    try:
        results = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in results})


async def resolve_targets(
    targets: Sequence[ScrapeTarget], lookup: Lookup = resolve_host
) -> list[ScrapeTarget]:
    """The targets, with one target for each address of a host name that has several.

    A target whose host name does not resolve is unchanged: its scrape reports the error.
    """
    hosts = sorted({host for target in targets if (host := _host_name(target))})
    by_host = dict(zip(hosts, await asyncio.gather(*map(lookup, hosts)), strict=True))
    resolved = []
    for target in targets:
        addresses = by_host.get(_host_name(target), [])
        if len(addresses) < 2:
            resolved.append(target)
            continue
        for address in addresses:
            resolved.append(
                replace(
                    target,
                    instance=f"{target.instance} {address}",
                    url=_with_address(target.url, address),
                    health_url=_with_address(target.health_url, address),
                )
            )
    return resolved


def _host_name(target: ScrapeTarget) -> str:
    """The host name of a target; empty for an IP address or ``localhost``."""
    host = urlsplit(target.url or target.health_url or "").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "" if host == "localhost" else host
    return ""


def _with_address(url: str | None, address: str) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()
