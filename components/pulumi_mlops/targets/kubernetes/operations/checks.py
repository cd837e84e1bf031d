"""Checks of a cluster, and of what reaching it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ....cli.checks import Check, Checker, guarded, ok, warn, wrong
from ....cli.selection import Stack, read_yaml
from ....images import registry
from ....images.catalog import images_in
from ....plugin.errors import ResourceError
from ..api.client import ClusterApi
from ..api.errors import RefusedError
from ..api.pods import Manifest
from ..resources.namespace_owner import NAME as OWNER
from .checks_gateway import gateway
from .inventory import connect

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
    # What the proxies of a route may do, and nobody may give away what he has not.
    "discovery.k8s.io": {"endpointslices": ("get", "list", "watch")},
}  # fmt: skip


def checkers(stack: Stack) -> dict[str, Checker]:
    """What is checked, by what it is called where the check itself fails."""
    plan: dict[str, Checker] = {
        "packages": _packages,
        "kubernetes plugin": partial(plugin, stack.folder),
        "registry": partial(images, stack),
    }
    return {**plan, "cluster": partial(cluster, stack)}


def cluster(stack: Stack) -> list[Check]:
    """The cluster, and what the stack needs there, as far as it answers."""
    if _packages()[0].verdict != "ok":
        return []
    api = connect(stack)
    found = answer(api)
    if stack.settings.get("render_to"):
        return found if found[0].verdict == "ok" else [_not_needed(found[0])]
    if found[0].verdict != "ok":
        return found
    asked: dict[str, Callable[[ClusterApi, Stack], list[Check]]] = {
        "rights": rights, "namespace": namespace, "owner": owner, "storage": storage,
        "gateway": gateway,
    }  # fmt: skip
    for name, check in asked.items():
        found += guarded(name, partial(check, api, stack))
    return found


def _packages() -> list[Check]:
    try:
        found = {name: version(name) for name in ("pulumi-kubernetes", "kr8s")}
    except PackageNotFoundError as error:
        return [wrong("packages", f"{error.name} is not installed", _INSTALL)]
    return [ok("packages", ", ".join(f"{name} {number}" for name, number in found.items()))]


def answer(api: ClusterApi) -> list[Check]:
    """Whether the cluster answers."""
    try:
        found = api.ask("GET", "version").json()
    except ResourceError as error:
        fix = "correct KUBECONFIG, or mlops:kubernetes.context and kubeconfig; see `kubectl config`"
        return [wrong("cluster", str(error), fix)]
    where = f"context {api.where.context}" if api.where.context else "the current context"
    return [ok("cluster", f"Kubernetes {found['gitVersion']} ({where})")]


def _not_needed(found: Check) -> Check:
    """Whoever applies what is rendered has the rights, and reaches the cluster."""
    told = f"{found.message}; an update needs none, since it renders: mlops:kubernetes.render_to"
    return warn(found.name, told, f"for status, logs and connect, {found.fix}")


def rights(api: ClusterApi, stack: Stack) -> list[Check]:
    """Whether everything is allowed that an update, a wait, a log and a tunnel need."""
    asked = [
        (group, resource, verb)
        for group, resources in (_RIGHTS | _more_rights(stack)).items()
        for resource, verbs in resources.items()
        for verb in verbs
    ]
    with ThreadPoolExecutor(max_workers=8) as pool:
        allowed = list(pool.map(lambda each: _may(api, *each), asked))
    missing: dict[str, list[str]] = {}
    for (group, resource, verb), may in zip(asked, allowed, strict=True):
        if not may:
            missing.setdefault(".".join(filter(None, (resource, group))), []).append(verb)
    if not missing:
        return [ok("rights", f"all that is needed in {api.where.namespace}")]
    told = "; ".join(f"{'/'.join(verbs)} {what}" for what, verbs in missing.items())
    fix = f"ask for the role `admin` in namespace {api.where.namespace}, and for what it lacks"
    return [wrong("rights", f"not allowed in {api.where.namespace}: {told}", fix)]


def _more_rights(stack: Stack) -> dict[str, dict[str, tuple[str, ...]]]:
    """What the role `admin` has only where whoever brought the Gateway API has added it."""
    if stack.settings.get("gateway"):
        return {"gateway.networking.k8s.io": {"httproutes": _CHANGES}}
    return {}


def _may(api: ClusterApi, group: str, resource: str, verb: str, everywhere: bool = False) -> bool:
    name, _, sub = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": sub, "verb": verb}
    if not everywhere:
        attributes["namespace"] = api.where.namespace
    review = api.ask(
        "POST", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        json={
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
    ).json()  # fmt: skip
    return bool(review["status"]["allowed"])


def namespace(api: ClusterApi, stack: Stack) -> list[Check]:
    """The namespace, and what its label admits."""
    name, what = "namespace", api.where.namespace
    found = api.get("Namespace", what)
    if found is None:
        if not stack.settings.get("create_namespace", True):
            fix = "have it made, or set mlops:kubernetes.create_namespace to true"
            return [wrong(name, f"there is no {what}", fix)]
        if not _may(api, "", "namespaces", "create", everywhere=True):
            fix = "have it made, and set mlops:kubernetes.create_namespace to false"
            return [wrong(name, f"there is no {what}, and making one is not allowed", fix)]
        return [ok(name, f"there is no {what} yet: `pulumi up` makes it")]
    if found.get("status", {}).get("phase") == "Terminating":
        return [wrong(name, f"{what} is being deleted", "wait, or choose another one")]
    make = stack.settings.get("create_namespace", True)
    if make and not _may(api, "", "namespaces", "patch", everywhere=True):
        fix = "set mlops:kubernetes.create_namespace to false: it is there already"
        return [wrong(name, f"changing {what} is not allowed", fix)]
    labels = found["metadata"].get("labels") or {}
    level = labels.get("pod-security.kubernetes.io/enforce", "the cluster's default")
    return [ok(name, f"{what}, pod security: {level} (all pods are fit for `restricted`)")]


def owner(api: ClusterApi, stack: Stack) -> list[Check]:
    """Whether the namespace is another stack's."""
    found = (api.get("ConfigMap", OWNER) or {}).get("data", {}).get("owner")
    if found in (None, f"{stack.project}/{stack.name}"):
        return []
    told = f"{api.where.namespace} belongs to another stack, {found}"
    return [wrong("owner", told, "choose another one: mlops:kubernetes.namespace")]


def storage(api: ClusterApi, stack: Stack) -> list[Check]:
    """The storage class that volumes get."""
    try:
        found = {each["metadata"]["name"]: each for each in api.every("StorageClass")}
    except RefusedError:  # they are the cluster's, and many a role does not see them
        return [ok("storage", "which storage classes there are is not told to this user")]
    there = ", ".join(found) or "none"
    if told := stack.settings.get("storage_class"):
        if told in found:
            return [ok("storage", f"storage class {told}")]
        fix = "correct mlops:kubernetes.storage_class"
        return [wrong("storage", f"there is no storage class {told}: there is {there}", fix)]
    default = next((name for name, each in found.items() if _is_default(each)), None)
    if default is None:
        fix = "name one: mlops:kubernetes.storage_class"
        return [wrong("storage", f"no storage class is the default one: there is {there}", fix)]
    return [ok("storage", f"storage class {default}, the cluster's default")]


def _is_default(storage_class: Manifest) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return str(annotations.get("storageclass.kubernetes.io/is-default-class")) == "true"


def plugin(project: Path) -> list[Check]:
    """Whether the engine finds the plugin of pulumi-kubernetes, or may fetch it."""
    name = "kubernetes plugin"
    providers = (read_yaml(project / "Pulumi.yaml").get("plugins") or {}).get("providers") or []
    for each in providers:
        if each.get("name") == "kubernetes":
            return [ok(name, f"Pulumi.yaml names {each.get('path')}")]
    if found := next(_plugins(), None):
        return [ok(name, found)]
    try:
        wanted = version("pulumi-kubernetes")
    except PackageNotFoundError:
        wanted = ""
    fix = f"where the internet is in reach: `pulumi plugin install resource kubernetes {wanted}`; "
    fix += "elsewhere put pulumi-resource-kubernetes on PATH, or name its folder in Pulumi.yaml: "
    fix += "plugins: {providers: [{name: kubernetes, path: …}]}"
    if os.environ.get("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "").lower() in ("1", "true"):
        why = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION keeps the engine from fetching it"
        return [wrong(name, f"it is not installed, and {why}", f"unset that, or {fix}")]
    return [warn(name, "it is not installed: the engine will try to fetch it", fix)]


def _plugins() -> Iterator[str]:
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    for folder in sorted((home / "plugins").glob("resource-kubernetes-v*/"), reverse=True):
        yield f"{folder.name.removeprefix('resource-kubernetes-')} ({folder})"
    if path := shutil.which("pulumi-resource-kubernetes"):
        yield path


def images(stack: Stack) -> list[Check]:
    """The registry, as far as this machine reaches it, and images that it has not."""
    name, prefix = "registry", stack.settings.get("registry")
    if prefix is None:
        return [ok(name, "none is named: the images are given by mlops:kubernetes.images")]
    prefix = str(prefix)
    if prefix.startswith(PLACEHOLDER):
        fix = "set mlops:kubernetes.registry to a place that you can push to and the cluster pulls"
        return [wrong(name, f"{prefix} is a placeholder", fix)]
    host = registry.host_of(prefix)
    if why := registry.answers(host):
        fix = "the cluster has to reach it, or its nodes have the images already (`mlops images`)"
        return [warn(name, f"{host} does not answer here: {why}", fix)]
    known = images_in(stack.files / "images")
    with ThreadPoolExecutor(max_workers=8) as pool:
        there = list(pool.map(registry.has, (image.reference for image in known)))
    missing = [image.name for image, has in zip(known, there, strict=True) if has is False]
    if missing:
        told = f"{host} answers, but has not: {', '.join(missing)}"
        return [wrong(name, told, f"mlops images build --push --stack {stack.name}")]
    return [ok(name, f"{host} answers")]
