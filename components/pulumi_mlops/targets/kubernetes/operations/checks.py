"""Checks of a cluster, and of the packages and plugins that are needed to reach it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from ....cli.checks import Checker, Finding, guarded, ok, warn, wrong
from ....cli.checks_models import served_versions
from ....cli.selection import Stack, read_yaml
from ....images import registry
from ....images.catalog import images_in
from ....plugin.errors import ResourceError
from ..api.client import ClusterApi
from ..api.errors import RefusedError
from ..api.pods import Manifest
from ..resources.namespace_owner import NAME as OWNER
from . import client
from .checks_gateway import gateway
from .inventory import connect, list_objects

PLACEHOLDER = "registry.example.com"
_INSTALL = "pip install 'pulumi-mlops[kubernetes]'"
_CHANGES = ("get", "create", "patch", "delete")
_RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "": {
        "configmaps": _CHANGES, "persistentvolumeclaims": _CHANGES, "secrets": _CHANGES,
        "serviceaccounts": _CHANGES, "services": _CHANGES,
        "pods": ("list",), "events": ("list",), "pods/log": ("get",),
        "pods/proxy": ("get",), "pods/portforward": ("get", "create"),
    },
    "apps": {
        "deployments": _CHANGES, "statefulsets": _CHANGES, "replicasets": ("list",),
    },
    "autoscaling": {"horizontalpodautoscalers": _CHANGES},
    "batch": {"cronjobs": _CHANGES, "jobs": _CHANGES},
    "networking.k8s.io": {"networkpolicies": _CHANGES},
    "policy": {"poddisruptionbudgets": _CHANGES},
    "rbac.authorization.k8s.io": {"roles": _CHANGES, "rolebindings": _CHANGES},
    # The role of the proxies of a route has these rights, and only their holder may grant them.
    "discovery.k8s.io": {"endpointslices": ("get", "list", "watch")},
}  # fmt: skip


def checkers(stack: Stack) -> dict[str, Checker]:
    """The checks by name. The name is reported if the check itself fails."""
    plan: dict[str, Checker] = {
        "packages": _packages,
        "kubernetes plugin": partial(plugin, stack.folder),
        "registry": partial(images, stack),
    }
    return {**plan, "cluster": partial(cluster, stack)}


def cluster(stack: Stack) -> list[Finding]:
    """Whether the cluster answers, and if so, whether it has what the stack needs."""
    if _packages()[0].verdict != "ok":
        return []
    api = connect(stack)
    findings = answer(api)
    if stack.settings.get("render_to"):
        return findings if findings[0].verdict == "ok" else [_not_needed(findings[0])]
    if findings[0].verdict != "ok":
        return findings
    checks: dict[str, Callable[[ClusterApi, Stack], list[Finding]]] = {
        "rights": rights, "namespace": namespace, "owner": owner, "storage": storage,
        "gateway": gateway, "model versions": models,
    }  # fmt: skip
    for name, check in checks.items():
        findings += guarded(name, partial(check, api, stack))
    return findings


def _packages() -> list[Finding]:
    try:
        versions = {name: version(name) for name in ("pulumi-kubernetes", "kr8s")}
    except PackageNotFoundError as error:
        return [wrong("packages", f"{error.name} is not installed", _INSTALL)]
    return [ok("packages", ", ".join(f"{name} {number}" for name, number in versions.items()))]


def answer(api: ClusterApi) -> list[Finding]:
    """Whether the cluster answers."""
    try:
        answered = api.request("GET", "version").json()
    except ResourceError as error:
        fix = "correct KUBECONFIG, or mlops:kubernetes.context and kubeconfig; see `kubectl config`"
        return [wrong("cluster", str(error), fix)]
    where = f"context {api.where.context}" if api.where.context else "the current context"
    return [ok("cluster", f"Kubernetes {answered['gitVersion']} ({where})")]


def _not_needed(finding: Finding) -> Finding:
    """Change a failure to a warning: an update that renders does not need the cluster."""
    message = f"{finding.message}; updates do not need it because mlops:kubernetes.render_to is set"
    return warn(finding.name, message, f"for status, logs and connect, {finding.fix}")


def models(api: ClusterApi, stack: Stack) -> list[Finding]:
    """Whether the model versions that are served are still registered."""
    containers = [
        each["spec"]["template"]["spec"]["containers"][0]
        for each in list_objects(api, stack, ("Deployment",)).of("Deployment")
    ]
    variables = [
        {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
        for container in containers
    ]
    servers = [env for env in variables if "MLOPS_MODEL_NAME" in env]
    served = {(env["MLOPS_MODEL_NAME"], env["MLOPS_MODEL_VERSION"]) for env in servers}
    uri = urlsplit(next((env["MLFLOW_TRACKING_URI"] for env in servers), ""))
    if uri.hostname is None or uri.port is None:
        return served_versions(served, {}, "")
    service = uri.hostname.partition(".")[0]
    local = api.tunnel(service, uri.port)
    return served_versions(served, client.variables(api, stack), f"http://{local}")


def rights(api: ClusterApi, stack: Stack) -> list[Finding]:
    """Whether the user has the rights that updates, health checks, logs and tunnels need."""
    required = [
        (group, resource, verb)
        for group, resources in (_RIGHTS | _gateway_rights(stack)).items()
        for resource, verbs in resources.items()
        for verb in verbs
    ]
    with ThreadPoolExecutor(max_workers=8) as pool:
        allowed = list(pool.map(lambda each: _is_allowed(api, *each), required))
    missing: dict[str, list[str]] = {}
    for (group, resource, verb), is_allowed in zip(required, allowed, strict=True):
        if not is_allowed:
            missing.setdefault(".".join(filter(None, (resource, group))), []).append(verb)
    if not missing:
        return [ok("rights", f"sufficient in {api.where.namespace}")]
    denied = "; ".join(f"{'/'.join(verbs)} {kind}" for kind, verbs in missing.items())
    fix = f"ask for the role `admin` in namespace {api.where.namespace}, and for rights it lacks"
    return [wrong("rights", f"not allowed in {api.where.namespace}: {denied}", fix)]


def _gateway_rights(stack: Stack) -> dict[str, dict[str, tuple[str, ...]]]:
    """Rights that the role `admin` has only if the installation of the Gateway API adds them."""
    if stack.settings.get("gateway"):
        return {"gateway.networking.k8s.io": {"httproutes": _CHANGES}}
    return {}


def _is_allowed(
    api: ClusterApi, group: str, resource: str, verb: str, cluster_wide: bool = False
) -> bool:
    name, _, sub = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": sub, "verb": verb}
    if not cluster_wide:
        attributes["namespace"] = api.where.namespace
    review = api.request(
        "POST", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        json={
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
    ).json()  # fmt: skip
    return bool(review["status"]["allowed"])


def namespace(api: ClusterApi, stack: Stack) -> list[Finding]:
    """Whether the namespace exists or can be created, and its pod security level."""
    name, namespace_name = "namespace", api.where.namespace
    live = api.get("Namespace", namespace_name)
    if live is None:
        if not stack.settings.get("create_namespace", True):
            fix = "ask for its creation, or set mlops:kubernetes.create_namespace to true"
            return [wrong(name, f"there is no {namespace_name}", fix)]
        if not _is_allowed(api, "", "namespaces", "create", cluster_wide=True):
            fix = "ask for its creation, and set mlops:kubernetes.create_namespace to false"
            message = f"there is no {namespace_name}, and this user may not create it"
            return [wrong(name, message, fix)]
        return [ok(name, f"there is no {namespace_name} yet: `pulumi up` creates it")]
    if live.get("status", {}).get("phase") == "Terminating":
        return [
            wrong(name, f"{namespace_name} is being deleted", "wait, or choose another namespace")
        ]
    make = stack.settings.get("create_namespace", True)
    if make and not _is_allowed(api, "", "namespaces", "patch", cluster_wide=True):
        fix = "set mlops:kubernetes.create_namespace to false, because the namespace exists"
        return [wrong(name, f"this user may not change {namespace_name}", fix)]
    labels = live["metadata"].get("labels") or {}
    level = labels.get("pod-security.kubernetes.io/enforce", "the cluster's default")
    return [
        ok(name, f"{namespace_name}, pod security: {level} (all pods comply with `restricted`)")
    ]


def owner(api: ClusterApi, stack: Stack) -> list[Finding]:
    """Whether the namespace belongs to another stack."""
    owner_name = (api.get("ConfigMap", OWNER) or {}).get("data", {}).get("owner")
    if owner_name in (None, f"{stack.project}/{stack.name}"):
        return []
    message = f"{api.where.namespace} belongs to another stack, {owner_name}"
    return [wrong("owner", message, "set mlops:kubernetes.namespace to another namespace")]


def storage(api: ClusterApi, stack: Stack) -> list[Finding]:
    """Whether the storage class of the volumes exists."""
    try:
        classes = {each["metadata"]["name"]: each for each in api.list_objects("StorageClass")}
    except RefusedError:  # many roles cannot list them, because they are not namespaced
        return [ok("storage", "this user may not list storage classes")]
    existing = ", ".join(classes) or "none"
    if configured := stack.settings.get("storage_class"):
        if configured in classes:
            return [ok("storage", f"storage class {configured}")]
        fix = "correct mlops:kubernetes.storage_class"
        message = f"there is no storage class {configured}: the cluster has {existing}"
        return [wrong("storage", message, fix)]
    default = next((name for name, each in classes.items() if _is_default(each)), None)
    if default is None:
        fix = "set mlops:kubernetes.storage_class to one of them"
        return [wrong("storage", f"no default among the storage classes: {existing}", fix)]
    return [ok("storage", f"storage class {default}, the cluster's default")]


def _is_default(storage_class: Manifest) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return str(annotations.get("storageclass.kubernetes.io/is-default-class")) == "true"


def plugin(project: Path) -> list[Finding]:
    """Whether the engine finds the plugin of pulumi-kubernetes, or can download it."""
    name = "kubernetes plugin"
    providers = (read_yaml(project / "Pulumi.yaml").get("plugins") or {}).get("providers") or []
    for each in providers:
        if each.get("name") == "kubernetes":
            return [ok(name, f"Pulumi.yaml sets {each.get('path')}")]
    if installed := next(_plugins(), None):
        return [ok(name, installed)]
    try:
        release = version("pulumi-kubernetes")
    except PackageNotFoundError:
        release = ""
    fix = f"with internet access, run `pulumi plugin install resource kubernetes {release}`; "
    fix += "otherwise put pulumi-resource-kubernetes on PATH, or set its folder in Pulumi.yaml: "
    fix += "plugins: {providers: [{name: kubernetes, path: …}]}"
    if os.environ.get("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "").lower() in ("1", "true"):
        why = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION disables the download"
        return [wrong(name, f"it is not installed, and {why}", f"unset the variable, or {fix}")]
    return [warn(name, "it is not installed: the engine will try to download it", fix)]


def _plugins() -> Iterator[str]:
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    for folder in sorted((home / "plugins").glob("resource-kubernetes-v*/"), reverse=True):
        yield f"{folder.name.removeprefix('resource-kubernetes-')} ({folder})"
    if path := shutil.which("pulumi-resource-kubernetes"):
        yield path


def images(stack: Stack) -> list[Finding]:
    """Whether the container registry answers this machine, and which images it lacks."""
    name, prefix = "registry", stack.settings.get("registry")
    if prefix is None:
        return [ok(name, "not configured: mlops:kubernetes.images sets the images")]
    prefix = str(prefix)
    if prefix.startswith(PLACEHOLDER):
        fix = "set mlops:kubernetes.registry to one you can push to and the cluster can pull from"
        return [wrong(name, f"{prefix} is a placeholder", fix)]
    host = registry.host_of(prefix)
    if why := registry.answers(host):
        fix = "the cluster must reach it, or its nodes must have the images (`mlops images`)"
        return [warn(name, f"{host} does not answer this machine: {why}", fix)]
    known = images_in(stack.files / "images")
    with ThreadPoolExecutor(max_workers=8) as pool:
        present = list(pool.map(registry.has, (image.reference for image in known)))
    missing = [image.name for image, has in zip(known, present, strict=True) if has is False]
    if missing:
        message = f"{host} answers, but does not have {', '.join(missing)}"
        return [wrong(name, message, f"mlops images build --push --stack {stack.name}")]
    return [ok(name, f"{host} answers")]
