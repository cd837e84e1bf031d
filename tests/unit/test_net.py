"""Requests for this machine never go to a web proxy."""

from __future__ import annotations

import urllib.request

import pytest

from pulumi_mlops.runtime.net import direct_loopback

PROXY = "http://proxy.example.com:3128"
LOOPBACK = "127.0.0.1,localhost,::1"


@pytest.mark.parametrize(
    "name", ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "grpc_proxy"]
)
def test_any_proxy_excludes_loopback(name: str) -> None:
    assert direct_loopback({name: PROXY}) == {"no_proxy": LOOPBACK, "NO_PROXY": LOOPBACK}


def test_without_a_proxy_nothing_is_set() -> None:
    assert direct_loopback({"PATH": "/bin", "http_proxy": ""}) == {}


def test_hosts_of_the_user_stay_excluded() -> None:
    env = {"https_proxy": PROXY, "no_proxy": ".corp, 127.0.0.1", "no_grpc_proxy": "other"}
    found = direct_loopback(env)
    assert found["no_proxy"] == ".corp,127.0.0.1,localhost,::1"
    assert found["NO_PROXY"] == found["no_proxy"]
    assert found["no_grpc_proxy"] == f"other,{LOOPBACK}"
    assert direct_loopback({**env, **found}) == found, "a second time changes nothing"


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "localhost:5000"])
def test_clients_honour_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"http_proxy": PROXY, **direct_loopback({"http_proxy": PROXY})}.items():
        monkeypatch.setenv(name, value)
    assert urllib.request.proxy_bypass(url)
    assert not urllib.request.proxy_bypass("example.com:80")
