"""A host name that stands for several servers."""

from __future__ import annotations

import asyncio

import pytest

from pulumi_mlops.runtime.monitor.config import ScrapeTarget
from pulumi_mlops.runtime.monitor.discovery import resolve_host, resolve_targets

ADDRESSES = {
    "model.team.svc": ["10.0.0.1", "10.0.0.2"],
    "store.team.svc": ["10.0.0.9"],
    "six.team.svc": ["fd00::1", "fd00::2"],
}


async def _lookup(host: str) -> list[str]:
    return ADDRESSES.get(host, [])


def _servers(*targets: ScrapeTarget) -> list[ScrapeTarget]:
    return asyncio.run(resolve_targets(targets, _lookup))


def test_each_server_behind_a_name_is_watched() -> None:
    target = ScrapeTarget(
        "serving", "model-v1", "http://model.team.svc:8080/metrics",
        "http://model.team.svc:8080/ready", {"zone": "a"},
    )  # fmt: skip
    assert _servers(target) == [
        ScrapeTarget(
            "serving", f"model-v1 {address}", f"http://{address}:8080/metrics",
            f"http://{address}:8080/ready", {"zone": "a"},
        )
        for address in ADDRESSES["model.team.svc"]
    ]  # fmt: skip


def test_addresses_of_ipv6_stand_in_brackets() -> None:
    urls = [each.url for each in _servers(ScrapeTarget("a", "b", "http://six.team.svc/metrics"))]
    assert urls == ["http://[fd00::1]/metrics", "http://[fd00::2]/metrics"]


@pytest.mark.parametrize("host", ["store.team.svc", "gone.team.svc", "127.0.0.1", "localhost"])
def test_one_server_stays_what_it_is(host: str) -> None:
    target = ScrapeTarget("store", "store", None, f"http://{host}:8080/healthz")
    assert _servers(target) == [target]


def test_a_real_name_and_one_that_is_none() -> None:
    assert "127.0.0.1" in asyncio.run(resolve_host("localhost"))
    assert asyncio.run(resolve_host("no-such-host.invalid")) == []
