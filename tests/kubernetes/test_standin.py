"""The plugin of pulumi-kubernetes on a real cluster, asked by the real engine.

Every test holds for the official plugin too, which runs where it is on PATH: the stand-in is to do
the same. Messages differ; what both say is compared.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable

import kubernetes_plugin
import pytest
from pulumi_project import Project

pytestmark = pytest.mark.kubernetes

IMAGE = "mlops.test/busybox:1"  # of the fixture `busybox`
BUSYBOX = "/busybox"
Make = Callable[[str], Project]

NAMESPACE = """
    ns = k8s.core.v1.Namespace("ns", metadata={"name": NAMESPACE})
    inside = {"namespace": ns.metadata.name}
"""
PODS = f"""
    SOON = Options(custom_timeouts=pulumi.CustomTimeouts(create="60s", update="60s", delete="60s"))

    def pods(*command, image="{IMAGE}"):
        container = {{"name": "main", "image": image, "command": ["{BUSYBOX}", *command]}}
        return {{"containers": [container], "terminationGracePeriodSeconds": 0}}
"""
SLEEP = '"sleep", "1000000"'


def deployment(options: str = "SOON") -> str:
    return f"""
    web = k8s.apps.v1.Deployment("web", metadata={{**inside, "name": "web"}}, spec={{
        "replicas": 1,
        "selector": {{"matchLabels": {{"app": "web"}}}},
        "template": {{
            "metadata": {{"labels": {{"app": "web"}}}},
            "spec": pods({SLEEP}),
        }},
    }}, opts={options})
    """


def test_workloads_come_up_stay_as_they_are_and_go(project: Make) -> None:
    program = f"""
    {NAMESPACE}
    {PODS}
    {deployment()}
    config = k8s.core.v1.ConfigMap("config", metadata=inside, data={{"mode": "fast"}})
    secret = k8s.core.v1.Secret(
        "secret", metadata={{**inside, "name": "secret"}}, string_data={{"word": "hunter2 hunter2"}}
    )
    service = k8s.core.v1.Service("web", metadata={{**inside, "name": "web"}}, spec={{
        "selector": {{"app": "web"}}, "ports": [{{"port": 80, "targetPort": 8080}}],
    }})
    job = k8s.batch.v1.Job("job", metadata=inside, spec={{
        "template": {{"spec": {{**pods("true"), "restartPolicy": "Never"}}}},
    }}, opts=SOON)
    named = {{**inside, "name": "claim"}}
    claim = k8s.core.v1.PersistentVolumeClaim("claim", metadata=named, spec={{
        "accessModes": ["ReadWriteOnce"], "resources": {{"requests": {{"storage": "1024Mi"}}}},
    }})
    pulumi.export("ip", service.spec.cluster_ip)
    pulumi.export("available", web.status.available_replicas)
    pulumi.export("config", config.metadata.name)
    pulumi.export("word", secret.data["word"])
    pulumi.export("succeeded", job.status.succeeded)
    """
    stack = project(program)
    assert kubernetes_plugin.SAYS in stack.run("preview")
    stack.up()
    outputs = stack.outputs()
    assert outputs["ip"].count(".") == 3
    assert (outputs["available"], outputs["succeeded"]) == (1, 1)
    assert re.fullmatch(r"config-[0-9a-f]{7,8}", outputs["config"])
    assert "hunter2" not in stack.run("stack", "export")
    stack.run("preview", "--expect-no-changes")
    stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    stack.run("destroy", "--yes", "--skip-preview")
    assert stack.namespace not in stack.kubectl("get", "namespaces")


def test_what_cannot_change_is_replaced_and_the_rest_updated(project: Make) -> None:
    program = f"""
    {NAMESPACE}
    {PODS}
    {deployment()}
    config = k8s.core.v1.ConfigMap("config", metadata=inside, data={{"mode": "fast"}})
    """
    stack = project(program)
    stack.up()
    uid = stack.resource("web")["outputs"]["metadata"]["uid"]

    stack.write(program.replace("1000000", "1000001"))
    told = stack.run("preview", "--diff")
    assert "1000001" in told and "replace" not in told
    stack.up()
    assert stack.resource("web")["outputs"]["metadata"]["uid"] == uid
    assert "1000001" in stack.kubectl("get", "deployment", "web", "--output", "yaml")

    stack.write(program.replace('"app": "web"', '"app": "other"').replace("fast", "slow"))
    told = stack.run("preview", "--json")
    steps = {each["urn"].rsplit("::", 1)[-1]: each["op"] for each in json.loads(told)["steps"]}
    assert steps["config"] in ("create-replacement", "replace", "delete-replaced")
    old_config = stack.resource("config")["id"]
    stack.up()
    assert stack.resource("web")["outputs"]["metadata"]["uid"] != uid
    assert stack.resource("config")["id"] != old_config
    assert old_config.split("/")[1] not in stack.kubectl("get", "configmaps")


def test_a_change_by_hand_is_seen_by_refresh_and_put_right(project: Make) -> None:
    stack = project(f"{NAMESPACE}\n{PODS}\n{deployment()}")
    stack.up()
    stack.kubectl("scale", "deployment", "web", "--replicas", "0")
    told = stack.run("preview", "--refresh", "--diff")
    assert "replicas" in told
    stack.run("refresh", "--yes", "--skip-preview")
    stack.up()
    assert stack.resource("web")["outputs"]["status"]["availableReplicas"] == 1

    stack.kubectl("delete", "deployment", "web")
    stack.run("refresh", "--yes", "--skip-preview")
    assert "web create" in stack.run("preview")
    stack.up()


def test_a_field_that_another_manager_applied_is_a_conflict_unless_forced(project: Make) -> None:
    config = f"""
    {NAMESPACE}
    config = k8s.core.v1.ConfigMap(
        "config", metadata={{**inside, "name": "config", "labels": {{"owner": "LABEL"}}}}
    )
    """
    stack = project(config.replace("LABEL", "us"))
    stack.up()
    patch = json.dumps({"metadata": {"labels": {"owner": "them"}}})
    stack.kubectl("patch", "configmap", "config", "--field-manager", "robot", "--patch", patch)
    stack.write(config.replace("LABEL", "us-again"))
    told = stack.up(fails=True)
    assert "conflict" in told and "robot" in told
    stack.up(PULUMI_K8S_ENABLE_PATCH_FORCE="true")
    assert "us-again" in stack.kubectl("get", "configmap", "config", "--output", "yaml")


THEIRS = f"""
    {NAMESPACE}
    k8s.core.v1.ConfigMap(
        "theirs", metadata={{**inside, "name": "theirs"}}, data={{"a": "1"}}, opts=Options(IMPORT)
    )
    """


def test_what_exists_already_is_not_taken_over(project: Make) -> None:
    stack = project(NAMESPACE)
    stack.up()
    stack.kubectl("create", "configmap", "theirs", "--from-literal", "a=1")
    stack.write(THEIRS.replace("IMPORT", ""))
    assert "already exists" in stack.up(fails=True)


@pytest.mark.skipif(
    bool(kubernetes_plugin.OFFICIAL),
    reason="an official plugin that was built without its schema imports no fields",
)
def test_what_exists_already_can_be_imported(project: Make) -> None:
    stack = project(NAMESPACE)
    stack.up()
    stack.kubectl("create", "configmap", "theirs", "--from-literal", "a=1")
    stack.write(THEIRS.replace("IMPORT", f'import_="{stack.namespace}/theirs"'))
    stack.up()
    stack.run("preview", "--expect-no-changes")


def test_a_failure_says_why_and_is_kept_for_the_next_update(project: Make) -> None:
    timeouts = 'Options(custom_timeouts=pulumi.CustomTimeouts(create="6s", update="60s"))'
    broken = f"{NAMESPACE}\n{PODS}\n{deployment(timeouts)}"
    stack = project(broken.replace(f'image="{IMAGE}"', 'image="no-such-host.invalid/image:1"'))
    told = stack.up(fails=True)
    assert kubernetes_plugin.OFFICIAL or "0 of 1 replicas available" in told
    assert "ErrImagePull" in told or "ImagePullBackOff" in told
    assert stack.resource("web")["initErrors"]
    stack.write(broken)
    stack.up()
    assert "initErrors" not in stack.resource("web")


def test_a_job_that_fails_ends_the_wait(project: Make) -> None:
    job = f"""
    {NAMESPACE}
    {PODS}
    k8s.batch.v1.Job("job", metadata=inside, spec={{
        "backoffLimit": 0, "template": {{"spec": {{**pods("false"), "restartPolicy": "Never"}}}},
    }})
    """
    stack = project(job)
    began = time.monotonic()
    told = stack.up(fails=True)
    assert "BackoffLimitExceeded" in told and "exit code 1" in told
    assert time.monotonic() - began < 60


def test_ctrl_c_ends_the_wait_at_once(project: Make) -> None:
    waiting = f"{NAMESPACE}\n{PODS.replace(IMAGE, 'no-such-host.invalid/image:1')}\n{deployment()}"
    stack = project(waiting)
    running = stack.process("up", "--yes", "--skip-preview")
    deadline = time.monotonic() + 60
    while "web" not in stack.kubectl("get", "deployments", "--ignore-not-found"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    told, _ = running.communicate(timeout=15)
    assert running.returncode != 0
    assert "cancelled" in told
    assert stack.resource("web")["initErrors"]


def test_a_definition_and_its_objects_come_in_one_update(project: Make) -> None:
    program = f"""
    {NAMESPACE}
    group = f"{{NAMESPACE}}.example.org"
    text = {{"type": "object", "properties": {{"spec": {{
        "type": "object", "x_kubernetes_preserve_unknown_fields": True}}}}}}
    crd = k8s.apiextensions.v1.CustomResourceDefinition(
        "widgets", metadata={{"name": f"widgets.{{group}}"}}, spec={{
            "group": group, "scope": "Namespaced",
            "names": {{"kind": "Widget", "plural": "widgets"}},
            "versions": [{{"name": "v1", "served": True, "storage": True,
                "schema": {{"openAPIV3Schema": text}}}}],
        }})
    k8s.apiextensions.CustomResource("one", api_version=f"{{group}}/v1", kind="Widget",
        metadata=inside, spec={{"size": SIZE}}, opts=Options(depends_on=[crd]))
    """
    stack = project(program.replace("SIZE", "3"))
    stack.run("preview")
    stack.up()
    stack.write(program.replace("SIZE", "4"))
    stack.up()
    assert stack.resource("one")["outputs"]["spec"]["size"] == 4


def test_without_a_cluster_there_is_a_preview_and_a_clear_failure(project: Make) -> None:
    stack = project(NAMESPACE)
    nowhere = {"KUBECONFIG": "/no/such/file"}
    told = stack.run("preview", **nowhere)
    assert kubernetes_plugin.OFFICIAL or "cluster is unreachable" in told
    told = stack.up(fails=True, **nowhere)
    assert (
        "cluster is unreachable" if kubernetes_plugin.OFFICIAL else "no kubeconfig file"
    ) in told


def test_objects_are_rendered_instead(project: Make) -> None:
    program = """
    provider = k8s.Provider("files", render_yaml_to_directory="out")
    k8s.core.v1.Service("svc", metadata={"name": "svc", "namespace": "shop"},
        spec={"ports": [{"port": 80}]}, opts=Options(provider=provider))
    """
    stack = project(program)
    stack.up(KUBECONFIG="/no/such/file")
    file = stack.folder / "out" / "1-manifest" / "v1-service-shop-svc.yaml"
    assert "port: 80\n" in file.read_text()
    stack.run("destroy", "--yes", "--skip-preview", KUBECONFIG="/no/such/file")
    assert not file.exists()
