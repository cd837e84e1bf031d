"""What is wrong with a cluster, or goes wrong on it: told with the fix, and the next `up` goes on.

What pulumi-kubernetes would say is its own; this is what the platform's own plugin says before it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from mlops_project import MlopsProject
from proxy import Proxy

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]
Light = Callable[..., MlopsProject]


def kubectl(*command: str, fails: bool = False) -> str:
    done = subprocess.run(
        ["kubectl", *command], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode != 0) is fails, done.stderr
    return done.stdout


def kubeconfig(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The one of the tests, changed."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    change(config)
    file.write_text(json.dumps(config))


def until(what: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.3)


def test_a_role_that_is_missing_is_named(light: Light) -> None:
    stack = light("serve('tool')", kubeconfig="limited.json", create_namespace=False)
    name = stack.namespace
    kubectl("create", "namespace", name)
    kubectl("--namespace", name, "create", "serviceaccount", "ann")
    token = kubectl("--namespace", name, "create", "token", "ann").strip()
    kubeconfig(
        stack.folder / "limited.json",
        lambda config: config["users"][0].update(user={"token": token}),
    )

    def allow(role: str) -> None:
        kubectl("--namespace", name, "create", "rolebinding", role, f"--clusterrole={role}",
                f"--serviceaccount={name}:ann")  # fmt: skip

    for verb, role in (("get", "view"), ("create", "admin")):
        told = stack.up(fails=True)
        assert "mlops:kubernetes:NamespaceOwner (namespace-owner)" in told
        assert (
            f'User "system:serviceaccount:{name}:ann" cannot {verb} resource "configmaps"' in told
        )
        assert f"ask for the role `admin` in namespace {name} (`mlops doctor` lists" in told
        assert token not in told
        allow(role)
    assert set(stack.objects()) == {"ConfigMap/kube-root-ca.crt"}
    stack.up()
    assert stack.get("deployment", "tool")["status"]["readyReplicas"] == 1

    stack.preview("--expect-no-changes")
    stack.run("destroy", "--yes", "--skip-preview")
    del stack.settings["kubeconfig"]


def test_a_namespace_that_is_being_deleted_is_waited_for(light: Light) -> None:
    stack = light("serve('tool')")
    name = stack.namespace
    kubectl("create", "namespace", name)
    kubectl("--namespace", name, "create", "configmap", "held")
    hold = json.dumps({"metadata": {"finalizers": ["example.com/hold"]}})
    kubectl("--namespace", name, "patch", "configmap", "held", "--type=merge", "--patch", hold)
    kubectl("delete", "namespace", name, "--wait=false")
    until(lambda: "has finalizers remaining" in kubectl("get", "namespace", name, "-o", "yaml")
          or "finalizers remaining" in kubectl("get", "namespace", name, "-o", "yaml"))  # fmt: skip
    for told in (stack.preview(fails=True), stack.up(fails=True)):
        assert f"namespace {name} is being deleted; " in told
        assert "example.com/hold in 1 resource instances" in told
        assert "choose another one: mlops:kubernetes.namespace" in told
    free = json.dumps({"metadata": {"finalizers": None}})
    kubectl("--namespace", name, "patch", "configmap", "held", "--type=merge", "--patch", free)
    kubectl("wait", "--for=delete", f"namespace/{name}", "--timeout=60s")
    stack.up()
    assert stack.get("deployment", "tool")["status"]["readyReplicas"] == 1


def test_a_namespace_that_somebody_deleted_comes_back_by_refresh(light: Light) -> None:
    stack = light("serve('tool')")
    stack.up()
    kubectl("delete", "namespace", stack.namespace)
    for told in (stack.preview(fails=True), stack.up(fails=True)):
        assert f"namespace {stack.namespace} is gone, with all that was in it" in told
        assert "`pulumi refresh`, then update again" in told
    stack.run("refresh", "--yes", "--skip-preview")
    stack.up()
    assert stack.get("deployment", "tool")["status"]["readyReplicas"] == 1


@contextmanager
def no_default_class() -> Iterator[None]:
    key = "storageclass.kubernetes.io/is-default-class"
    found = json.loads(kubectl("get", "storageclass", "-o", "json"))["items"]
    defaults = [
        each["metadata"]["name"]
        for each in found
        if (each["metadata"].get("annotations") or {}).get(key) == "true"
    ]
    for name in defaults:
        kubectl("annotate", "--overwrite", "storageclass", name, f"{key}=false")
    try:
        yield
    finally:
        for name in defaults:
            kubectl("annotate", "--overwrite", "storageclass", name, f"{key}=true")


STORING = "serve('other'); serve('tool', data=here.volume('tool-data', True, opts), timeout=1)"


def test_a_storage_class_that_is_not_there(light: Light) -> None:
    stack = light(STORING, storage_class="none-such", delete_namespace=False)
    told = stack.up(fails=True)
    assert "StatefulSet tool is not ready after 61 s" in told
    assert "volume tool-data: pending" in told
    assert 'storageclass.storage.k8s.io "none-such" not found' in told
    assert "set mlops:kubernetes.storage_class to one of `kubectl get storageclass`" in told
    assert stack.get("deployment", "other")["status"]["readyReplicas"] == 1
    # As it says: the data that is protected has never been there.
    del stack.settings["storage_class"]
    assert "marked for protection" in stack.preview(fails=True)
    stack.kubectl("delete", "pvc", "tool-data", "--timeout=60s")
    stack.run("refresh", "--yes", "--skip-preview")
    stack.up()
    assert stack.get("statefulset", "tool")["status"]["readyReplicas"] == 1


def test_no_storage_class_is_the_default(light: Light) -> None:
    stack = light(STORING, delete_namespace=False)
    with no_default_class():
        told = stack.up(fails=True)
    assert "volume tool-data: pending" in told
    assert "no storage class is set" in told
    assert "or make one of them the default" in told
    stack.up()
    assert stack.get("statefulset", "tool")["status"]["readyReplicas"] == 1


def test_an_api_that_is_away_for_a_moment_fails_no_wait(light: Light) -> None:
    """A proxy that is ended and started stands for the API server that is restarted."""
    server = ""

    def through(config: dict[str, Any]) -> None:
        nonlocal server
        where = config["clusters"][0]["cluster"]
        server, where["server"] = where["server"], f"https://127.0.0.1:{proxy.port}"

    with Proxy(urlsplit("//10.0.0.1:1")) as proxy:
        slow = ("/busybox", "sh", "-c", "/busybox sleep 20; exec /busybox httpd -f -p 8080")
        stack = light(f"serve('tool', *{slow!r})", kubeconfig="proxied.json")
        kubeconfig(stack.folder / "proxied.json", through)
        proxy.to = urlsplit(server)
        update = stack.process("up", "--yes", "--skip-preview")
        until(lambda: "tool" in kubectl(
            "--namespace", stack.namespace, "get", "pods", "-o", "name", "--ignore-not-found"
        ))  # fmt: skip
        time.sleep(2)  # until the wait has had an answer
        proxy.pause()
        time.sleep(8)
        proxy.go_on()
        told = update.communicate(timeout=120)[0]
        assert update.returncode == 0, told
        assert "waiting until the cluster answers again: no cluster answers" in told
        stack.preview("--expect-no-changes")
        stack.run("destroy", "--yes", "--skip-preview")
    del stack.settings["kubeconfig"]


def test_a_kubeconfig_and_a_context_that_are_not_there(light: Light) -> None:
    stack = light("serve('tool')", kubeconfig="gone.json")
    told = stack.up(fails=True)
    assert f"there is no kubeconfig {stack.folder / 'gone.json'}" in told
    assert "correct mlops:kubernetes.kubeconfig" in told
    del stack.settings["kubeconfig"]
    stack.settings["context"] = "elsewhere"
    told = stack.up(fails=True)
    assert "context elsewhere (mlops:kubernetes) with `kubectl cluster-info`" in told
    del stack.settings["context"]
    stack.up()
    assert stack.get("deployment", "tool")["status"]["readyReplicas"] == 1
