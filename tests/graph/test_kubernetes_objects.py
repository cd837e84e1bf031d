"""Every object of a whole platform, as the cluster will judge it: valid and restricted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

import pulumi_mlops as mlops
from pulumi_mlops.runtime.router import agent

VERSION = "1.34"
LONG = "a-platform-whose-name-is-much-longer-than-it-should-be"
# kubernetes.io, "Pod Security Standards", Restricted: Volume Types.
ALLOWED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral",
                   "persistentVolumeClaim", "projected", "secret"}  # fmt: skip


def platform(name: str) -> None:
    mlops.MlopsPlatform(
        name,
        {
            "artifacts": {"bucket": "artifacts"},
            "tracking": {"database": "postgresql", "auth": True, "workers": 2},
            "pipelines": {
                "train": {"source": "train", "schedule": {"cron": "0 3 * * *"}},
                "by-hand": {"source": "train", "run_on_change": False},
            },
            "endpoints": {
                "live": {
                    "model": "m", "requirements": ["scikit-learn"], "replicas": 2, "port": 80,
                    "traffic": {"1": 90, "2": 10},
                }
            },
        },
    )  # fmt: skip


def opened(value: Any) -> Any:
    """As it is sent: without the marks of secrets, and whole numbers as such."""
    if type(value).__name__ == "Secret":
        return opened(value.value)
    if isinstance(value, dict):
        return {key: opened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [opened(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.fixture(params=["", "clusters/ml"], ids=["applied", "rendered"])
def render_to(request: Any) -> Any:
    return request.param


Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def provisioned() -> dict[tuple[str, str], Objects]:
    """What was provisioned already, by name of the platform and `render_to`."""
    return {}


@pytest.fixture(params=["platform", LONG], ids=["short", "long"])
def objects(
    request: Any, render_to: str, provisioned: Any, provision: Any, project: Path
) -> Objects:
    key = (request.param, render_to)
    if key not in provisioned:
        provisioned[key] = provision_objects(*key, provision)
    return list(provisioned[key])


def provision_objects(name: str, render_to: str, provision: Any) -> Objects:
    settings = {"registry": "registry.example.com/team", "storage_class": "fast"}
    if render_to:
        settings["render_to"] = render_to
    config = {"mlops:target": "kubernetes", "mlops:kubernetes": json.dumps(settings)}
    graph = provision(lambda: platform(name), config)
    found = [opened(each.inputs) for each in graph.all.values()
             if each.type.startswith("kubernetes:")]  # fmt: skip
    for each in graph.of("mlops:kubernetes:StoredSecret").values():
        stored = opened(each.inputs)
        metadata = {key: stored[key] for key in ("name", "namespace", "labels")}
        found.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata,
                      "stringData": stored["stringData"]})  # fmt: skip
    kinds = {each["kind"] for each in found}
    assert kinds == {
        "ConfigMap", "CronJob", "Deployment", "Job", "Namespace", "NetworkPolicy",
        "PersistentVolumeClaim",
        "PodDisruptionBudget", "Role", "RoleBinding", "Secret", "Service", "ServiceAccount",
        "StatefulSet",
    }  # fmt: skip
    return found


def templates(objects: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each object that makes pods, and its template."""
    for each in objects:
        spec = each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield each, spec["template"]


def test_all_are_valid(objects: list[dict[str, Any]]) -> None:
    for each in objects:
        kubernetes_validate.validate(each, VERSION, strict=True)


def test_the_validation_finds_what_is_wrong() -> None:
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"prots": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_names_are_labels_and_differ(objects: list[dict[str, Any]]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    longest = {"StatefulSet": 52, "CronJob": 52}
    for kind, name in names:
        assert re.fullmatch("[a-z]([a-z0-9-]*[a-z0-9])?", name), name
        assert len(name) <= longest.get(kind, 63), f"{kind} {name}"


def test_labels_are_those_that_are_recommended(objects: list[dict[str, Any]]) -> None:
    for each in objects:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "pulumi-mlops"
        if each["kind"] != "Namespace":
            assert labels["app.kubernetes.io/instance"] == "project-dev"
        for value in labels.values():
            assert re.fullmatch("[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value), value


def test_every_pod_is_restricted(objects: list[dict[str, Any]]) -> None:
    """kubernetes.io, "Pod Security Standards": Restricted."""
    for each, template in templates(objects):
        spec, name = template["spec"], each["metadata"]["name"]
        for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
            assert key not in spec, name
        for volume in spec["volumes"]:
            assert len(volume.keys() - {"name"}) == 1
            assert volume.keys() - {"name"} <= ALLOWED_VOLUMES, name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        containers = [*spec["containers"], *spec.get("initContainers", [])]
        for container in containers:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in context
            # What is more than the standard asks for.
            assert context["readOnlyRootFilesystem"] is True
            assert not [port for port in container.get("ports", []) if "hostPort" in port]


def test_a_pod_has_a_token_of_the_api_only_where_it_needs_one(
    objects: list[dict[str, Any]],
) -> None:
    with_one = {each["metadata"]["name"] for each, template in templates(objects)
                if template["spec"]["automountServiceAccountToken"]}  # fmt: skip
    accounts = {each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"}
    assert with_one == accounts
    for each, template in templates(objects):
        account = template["spec"].get("serviceAccountName")
        assert account == (each["metadata"]["name"] if account else None)
    for role in objects:
        if role["kind"] == "Role":
            for rule in role["rules"]:
                assert set(rule["verbs"]) == {"get", "list", "watch"}
                assert "secrets" not in rule["resources"]


def test_what_is_named_exists(objects: list[dict[str, Any]]) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    keys = {(each["kind"], each["metadata"]["name"]): set(each.get("stringData", {}))
            for each in objects}  # fmt: skip
    for each, template in templates(objects):
        named = {("ServiceAccount", template["spec"].get("serviceAccountName"))} - {
            ("ServiceAccount", None)
        }
        for volume in template["spec"]["volumes"]:
            if "secret" in volume:
                named.add(("Secret", volume["secret"]["secretName"]))
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                named.add(("PersistentVolumeClaim", claim))
        pod = template["spec"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            for source in container.get("envFrom", []):
                for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                    if key in source:
                        named.add((kind, source[key]["name"]))
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    named.add(("Secret", reference["name"]))
                    assert reference["key"] in keys["Secret", reference["name"]]
        if each["kind"] == "StatefulSet":
            named.add(("Service", each["spec"]["serviceName"]))
        assert named <= there, each["metadata"]["name"]


def test_selectors_choose_the_pods_of_one_workload(objects: list[dict[str, Any]]) -> None:
    pods = {each["metadata"]["name"]: template["metadata"]["labels"]
            for each, template in templates(objects) if each["kind"] != "CronJob"}  # fmt: skip

    def chosen(selector: dict[str, str]) -> list[str]:
        return [name for name, labels in pods.items() if selector.items() <= labels.items()]

    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet"):
            assert chosen(each["spec"]["selector"]["matchLabels"]) == [each["metadata"]["name"]]
            for spread in each["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
                assert spread["labelSelector"] == each["spec"]["selector"]
        if each["kind"] == "PodDisruptionBudget":
            assert chosen(each["spec"]["selector"]["matchLabels"])
        if each["kind"] == "Service":
            (name,) = chosen(each["spec"]["selector"])
            assert name


def test_ports_have_names_and_differ(objects: list[dict[str, Any]]) -> None:
    exposed: dict[str, set[str]] = {}
    for each, template in templates(objects):
        (container,) = template["spec"]["containers"]
        ports = container.get("ports", [])
        numbers = [port["containerPort"] for port in ports]
        assert len(set(numbers)) == len(numbers)
        names = {port["name"] for port in ports}
        assert len(names) == len(ports)
        for name in names:
            assert re.fullmatch("[a-z]([a-z0-9-]{0,13}[a-z0-9])?", name), name
        exposed[each["metadata"]["labels"]["app.kubernetes.io/name"]] = names
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe := container.get(kind):
                (check,) = (probe[key] for key in ("httpGet", "tcpSocket") if key in probe)
                assert check["port"] in numbers
                assert probe["failureThreshold"] >= 1
        for variable in container.get("env", []):
            assert set(variable) in ({"name", "value"}, {"name", "valueFrom"})
    for each in objects:
        if each["kind"] == "Service":
            targets = {port["targetPort"] for port in each["spec"]["ports"]}
            assert targets <= exposed[each["spec"]["selector"]["app.kubernetes.io/name"]]


def test_a_pod_that_is_to_end_has_the_time_for_it(objects: list[dict[str, Any]]) -> None:
    for each, template in templates(objects):
        if each["kind"] in ("Deployment", "StatefulSet"):
            hook = template["spec"]["containers"][0]["lifecycle"]["preStop"]
            waits = hook["sleep"]["seconds"] if "sleep" in hook else agent._LEAVE_SECONDS
            assert template["spec"]["terminationGracePeriodSeconds"] > waits + 5


COMPONENT, NAME = "app.kubernetes.io/component", "app.kubernetes.io/name"


@pytest.mark.parametrize("name", ["platform", "user-database"])
def test_only_the_server_of_a_database_is_labelled_as_one(
    name: str, provision: Any, project: Path
) -> None:
    """By what was requested, whatever the name. Selectors are immutable, and have no such label."""
    settings: Any = {"tracking": {"database": "postgresql"}}
    config = {"mlops:target": "kubernetes", "mlops:kubernetes": '{"registry": "example.com/team"}'}
    graph = provision(lambda: mlops.MlopsPlatform(name, settings), config)
    sets = graph.of("kubernetes:apps/v1:StatefulSet") | graph.of("kubernetes:apps/v1:Deployment")
    assert len(sets) >= 3
    database = f"{name}-tracking-database-server"
    for each, workload in sets.items():
        spec = workload.inputs["spec"]
        expected = "database" if each == database else "service"
        assert workload.inputs["metadata"]["labels"][COMPONENT] == expected, each
        assert spec["template"]["metadata"]["labels"][COMPONENT] == expected, each
        assert set(spec["selector"]["matchLabels"]) == {NAME, "app.kubernetes.io/instance"}
    assert database in sets
