"""A stack stays on its cluster, whatever leads to it: no update replaces what it has there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlops_project import MlopsProject

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]
Light = Callable[..., MlopsProject]

UID = "jsonpath={.metadata.uid}"
IDENTITY = "mlops:kubernetes:ClusterIdentity"
PROGRAM = """
serve("tool", data=here.volume("tool-data", False, opts))
"""


def kubeconfig(file: Path, **cluster: str) -> str:
    """The kubeconfig of the tests with more in its cluster entry; its path."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    config["clusters"][0]["cluster"].update(cluster)
    file.write_text(json.dumps(config))
    return str(file)


def uids(stack: MlopsProject) -> dict[str, Any]:
    found = stack.get("pvc,service,deployment,statefulset,networkpolicy,configmap")["items"]
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["uid"] for each in found}


def state(stack: MlopsProject) -> Any:
    return json.loads(stack.run("stack", "export"))


def put_state(stack: MlopsProject, changed: Any) -> None:
    file = stack.folder / "state.json"
    file.write_text(json.dumps(changed))
    stack.run("stack", "import", "--file", str(file))


def of_type(exported: Any, kind: str) -> Any:
    (found,) = (each for each in exported["deployment"]["resources"] if each["type"] == kind)
    return found


def kubectl(*command: str) -> str:
    done = subprocess.run(["kubectl", *command], capture_output=True, text=True, check=True)
    return done.stdout


def test_another_kubeconfig_for_the_same_cluster_changes_nothing(light: Light) -> None:
    stack = light(PROGRAM)
    stack.up()
    before = uids(stack)
    # A tunnel, a VPN or another CA entry: the official plugin takes it for another cluster.
    other = kubeconfig(stack.folder / "other", **{"tls-server-name": "kubernetes"})
    stack.run("preview", "--expect-no-changes", KUBECONFIG=other)
    stack.run("up", "--yes", "--expect-no-changes", KUBECONFIG=other)
    stack.run("refresh", "--yes", "--expect-no-changes", KUBECONFIG=other)
    assert uids(stack) == before

    # A path in the settings is an input of the provider: an update of it, and of nothing else.
    stack.settings["kubeconfig"] = "other"
    told = json.loads(stack.run("preview", "--json"))
    assert told["changeSummary"] == {"same": told["changeSummary"]["same"], "update": 1}
    stack.up()
    assert uids(stack) == before
    del stack.settings["kubeconfig"]
    stack.up()


def limited(stack: MlopsProject) -> str:
    """A kubeconfig of somebody with the role `admin` in the stack's namespace; its path."""
    name = stack.settings["namespace"]
    kubectl("--namespace", name, "create", "serviceaccount", "ann")
    kubectl("--namespace", name, "create", "rolebinding", "ann", "--clusterrole=admin",
            f"--serviceaccount={name}:ann")  # fmt: skip
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    token = kubectl("--namespace", name, "create", "token", "ann").strip()
    config["users"][0].update(user={"token": token})
    file = stack.folder / "limited"
    file.write_text(json.dumps(config))
    return str(file)


def test_a_role_in_the_namespace_is_enough(light: Light) -> None:
    """For a colleague of the person who created the stack, and for creating one."""
    stack = light("serve('tool')")
    stack.up()
    facts = of_type(state(stack), IDENTITY)["outputs"]["facts"]
    assert facts["uid"] == kubectl("get", "namespace", "kube-system", "-o", UID)
    stack.run("preview", "--expect-no-changes", KUBECONFIG=limited(stack))

    theirs = light("serve('tool')", create_namespace=False, delete_namespace=False)
    kubectl("create", "namespace", theirs.settings["namespace"])
    ann = limited(theirs)
    theirs.up(KUBECONFIG=ann)
    identity = of_type(state(theirs), IDENTITY)["outputs"]
    assert identity["identifier"] == f"ca-{facts['authority']}"
    for user in (ann, os.environ["KUBECONFIG"]):
        theirs.run("preview", "--expect-no-changes", KUBECONFIG=user)


def test_another_cluster_is_refused_and_nothing_is_changed(light: Light) -> None:
    """The state is made to be of another cluster, which nobody can tell from the reverse."""
    stack = light(PROGRAM)
    stack.up()
    before, recorded = uids(stack), state(stack)
    other = state(stack)
    for each in other["deployment"]["resources"]:
        for facts in (each.get("outputs", {}).get("facts"), each.get("outputs", {}).get("cluster")):
            if facts:
                facts |= {"uid": "00000000-aaaa", "server": "https://192.0.2.1:6443"}
    put_state(stack, other)
    for command in (
        ("preview",), ("up", "--yes"), ("up", "--yes", "--skip-preview"),
        ("refresh", "--yes", "--skip-preview"), ("destroy", "--yes", "--skip-preview"),
    ):  # fmt: skip
        told = " ".join(stack.run(*command, fails=True).split())
        assert "https://192.0.2.1:6443 (UID of kube-system 00000000-aaaa)" in told, command
        assert "leads to another cluster, https://" in told, command
        assert uids(stack) == before, command
    put_state(stack, recorded)
    stack.preview("--expect-no-changes")


def test_the_first_update_of_a_stack_without_an_identity_replaces_nothing(light: Light) -> None:
    """Its state is that of version 0.1: the kubeconfig's path is in the provider's inputs."""
    stack = light(PROGRAM)
    stack.up()
    before, old = uids(stack), state(stack)
    provider = of_type(old, "pulumi:providers:kubernetes")
    for inputs in (provider["inputs"], provider["outputs"]):
        del inputs["clusterIdentifier"]
        inputs["kubeconfig"] = os.environ["KUBECONFIG"]
    owner = of_type(old, "mlops:kubernetes:NamespaceOwner")
    for inputs in (owner["inputs"], owner["outputs"]):
        del inputs["provider"], inputs["deleteNamespace"]
    new = {of_type(old, kind)["urn"] for kind in (IDENTITY, "mlops:kubernetes:VolumeGuard")}
    resources = old["deployment"]["resources"]
    for each in resources:
        each["dependencies"] = [urn for urn in each.get("dependencies", []) if urn not in new]
        for key, urns in (each.get("propertyDependencies") or {}).items():
            each["propertyDependencies"][key] = [urn for urn in urns or [] if urn not in new]
        for values in (each.get("inputs", {}), each.get("outputs", {})):
            if each["type"] == "mlops:kubernetes:Ready":
                values.pop("cluster", None)
    old["deployment"]["resources"] = [each for each in resources if each["urn"] not in new]
    put_state(stack, old)
    other = kubeconfig(stack.folder / "other", **{"tls-server-name": "kubernetes"})
    told = json.loads(stack.run("preview", "--json", KUBECONFIG=other))["changeSummary"]
    # Each wait records the cluster too: `pulumi destroy` compares it and runs no program.
    waits = sum(each["type"] == "mlops:kubernetes:Ready" for each in resources)
    assert waits and set(told) == {"create", "update", "same"}
    assert (told["create"], told["update"]) == (2, 2 + waits)
    stack.run("up", "--yes", KUBECONFIG=other)
    assert uids(stack) == before
    for each in state(stack)["deployment"]["resources"]:
        assert each["type"] != "mlops:kubernetes:Ready" or each["outputs"]["cluster"]
    stack.preview("--expect-no-changes")


@pytest.mark.parametrize("retain", [False, True])
def test_inputs_that_would_replace_data_are_refused(light: Light, retain: bool) -> None:
    stack = light(PROGRAM.replace("False", str(retain)), delete_namespace=not retain)
    stack.up()
    before = uids(stack)
    refusals = {
        "namespace": (f"{stack.namespace}-b", f"cannot change from {stack.namespace} to"),
        "storage_class": ("other", "would replace the volume with an empty one"),
        "render_to": ("out", "render_to cannot be set for a stack that is on a cluster"),
    }
    if not retain:
        refusals["create_namespace"] = (False, "create_namespace cannot become false while")
    for name, (value, told) in refusals.items():
        old = dict(stack.settings)
        stack.settings[name] = value
        for command in (("preview",), ("up", "--yes", "--skip-preview")):
            assert told in " ".join(stack.run(*command, fails=True).split()), name
        stack.settings = old
        stack.namespace = old["namespace"]
        assert uids(stack) == before, name
    stack.preview("--expect-no-changes")


def test_what_is_replaced_by_hand_is_there_afterwards(light: Light) -> None:
    """Replaced objects have a fixed name: created first, they would be adopted, then deleted."""
    stack = light("serve('tool')")
    stack.up()
    before = uids(stack)
    urns = [each["urn"] for each in state(stack)["deployment"]["resources"]]
    told = stack.run("up", "--yes", *_replacing(urns, "providers:kubernetes"), fails=True)
    assert "would replace the Kubernetes provider" in " ".join(told.split())
    assert uids(stack) == before

    kinds = ("apps/v1:Deployment", "core/v1:Service", "networking.k8s.io/v1:NetworkPolicy")
    told = stack.run("up", "--yes", *_replacing(urns, *(f"kubernetes:{kind}" for kind in kinds)))
    after = uids(stack)
    assert after.keys() == before.keys()
    changed = {key for key in after if after[key] != before[key]}
    assert {key.split("/")[0] for key in changed} == {"Deployment", "Service", "NetworkPolicy"}
    stack.kubectl("rollout", "status", "deployment/tool", "--timeout", "60s")
    stack.run("refresh", "--yes", "--expect-no-changes")


def _replacing(urns: list[str], *kinds: str) -> list[str]:
    return [f"--replace={urn}" for urn in urns if urn.split("::")[2].endswith(kinds)]
