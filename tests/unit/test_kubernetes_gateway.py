"""A route behind a Gateway: what `gateway` of the settings may say, and the HTTPRoute."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pulumi_mlops.spec import problems
from pulumi_mlops.targets.kubernetes import gateway, manifests, names
from pulumi_mlops.targets.kubernetes.settings import GatewaySettings, KubernetesSettings

GATEWAY = {"name": "public", "namespace": "gateways", "url": "https://*.models.example.com"}
SERVICES = {
    "v1": {"service": "live-v1", "port": 8080, "weight": 100, "check_path": "/ready"},
    "v2": {"service": "live-v2", "port": 8080, "weight": 0, "check_path": "/ready"},
}


def settings(**more: Any) -> GatewaySettings:
    return GatewaySettings.model_validate({**GATEWAY, **more})


def refusal(given: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        KubernetesSettings.model_validate({"gateway": given})
    return "\n".join(problems("mlops:kubernetes", refused.value))


def test_without_one_routes_have_proxies_of_their_own() -> None:
    assert KubernetesSettings().gateway is None


@pytest.mark.parametrize(
    ("url", "hostname", "at"),
    [
        ("https://*.models.example.com", "live.models.example.com", "https://live.models.example.com"),
        ("http://*.local", "live.local", "http://live.local"),
        ("http://*.10-1-2-3.nip.io:8080", "live.10-1-2-3.nip.io", "http://live.10-1-2-3.nip.io:8080"),
        ("https://*.a.b:65535", "live.a.b", "https://live.a.b:65535"),
    ],
)  # fmt: skip
def test_an_endpoint_has_a_host_name_and_a_url(url: str, hostname: str, at: str) -> None:
    found = settings(url=url)
    assert (found.hostname("live"), found.endpoint_url("live")) == (hostname, at)


@pytest.mark.parametrize(
    "url",
    [
        "models.example.com", "*.models.example.com", "https://models.example.com", "https://*",
        "https://a.*.example.com", "https://*models.example.com", "ftp://*.example.com",
        "https://*.Example.com", "https://*.example.com/", "https://*.example.com/path",
        "https://*.example.com:0", "https://*.example.com:65536", "https://*.example.com:x",
        "https://user@*.example.com", "https://*.*.example.com", "https://*.-a.com",
        f"https://*.{'a' * 64}", f"https://*{'.abcdefghi' * 19}x", "",
    ],
)  # fmt: skip
def test_a_url_that_is_none_is_refused(url: str) -> None:
    told = refusal({**GATEWAY, "url": url})
    assert told.startswith("mlops:kubernetes.gateway.url: must be http:// or https://, `*` for")
    assert "https://*.models.example.com" in told


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("name", "Public", "kubectl get gateways -A"),
        ("name", "", "kubectl get gateways -A"),
        ("section_name", "a/b", "kubectl describe gateway"),
        ("namespace", "a.b", "kubectl get gateways -A"),
    ],
)
def test_a_name_that_cannot_be_is_refused(key: str, value: str, fix: str) -> None:
    told = refusal({**GATEWAY, key: value})
    assert told.startswith(f"mlops:kubernetes.gateway.{key}: must be ")
    assert fix in told


@pytest.mark.parametrize("key", sorted(GATEWAY))
def test_what_is_missing_is_named(key: str) -> None:
    told = refusal({name: value for name, value in GATEWAY.items() if name != key})
    assert f"mlops:kubernetes.gateway.{key}" in told


def test_files_that_others_apply_are_refused() -> None:
    """A version would get its share at once, before its pods are ready."""
    with pytest.raises(ValidationError) as refused:
        KubernetesSettings.model_validate({"gateway": GATEWAY, "render_to": "clusters"})
    (told,) = problems("mlops:kubernetes", refused.value)
    assert told.startswith("mlops:kubernetes.gateway: is not supported with render_to")
    assert told.endswith("remove gateway, and proxies are used, or remove render_to")


@given(st.text(min_size=1, max_size=63))
def test_a_host_name_is_one_that_the_api_takes(endpoint: str) -> None:
    hostname = settings(url=f"https://*{'.abcdefghi' * 19}").hostname(names.label(endpoint))
    assert re.fullmatch(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", hostname
    )
    assert len(hostname) <= 253


def test_a_version_without_traffic_stays_in_the_route() -> None:
    spec = gateway.http_route_spec(settings(), ["live.models.example.com"], SERVICES)
    (rule,) = spec["rules"]
    assert [(each["name"], each["port"], each["weight"]) for each in rule["backendRefs"]] == [
        ("live-v1", 8080, 100), ("live-v2", 8080, 0),
    ]  # fmt: skip
    assert spec["hostnames"] == ["live.models.example.com"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert re.fullmatch(r"([0-9]{1,5}(h|m|s|ms)){1,4}", rule["timeouts"]["request"])


def test_the_route_names_its_gateway_and_the_listener_that_was_asked_for() -> None:
    def parent(**more: Any) -> Any:
        (found,) = gateway.http_route_spec(settings(**more), ["a.b"], SERVICES)["parentRefs"]
        return found

    named = {
        "group": "gateway.networking.k8s.io", "kind": "Gateway",
        "namespace": "gateways", "name": "public",
    }  # fmt: skip
    assert parent() == named
    assert parent(section_name="https") == {**named, "sectionName": "https"}


def test_outsiders_are_let_in_at_one_port_of_one_versions_pods() -> None:
    chosen = {"app.kubernetes.io/name": "live-v1"}
    assert manifests.allow_ingress(chosen, ["gateways", "10.1.0.0/16"], 8080) == {
        "podSelector": {"matchLabels": chosen},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [
                    {
                        "namespaceSelector": {
                            "matchLabels": {"kubernetes.io/metadata.name": "gateways"}
                        }
                    },
                    {"ipBlock": {"cidr": "10.1.0.0/16"}},
                ],
                "ports": [{"port": 8080, "protocol": "TCP"}],
            }
        ],
    }
