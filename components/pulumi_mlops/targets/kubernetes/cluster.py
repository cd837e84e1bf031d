"""What all of a stack's workloads share: the provider, the namespace, and how objects are made."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

import pulumi
from pulumi.runtime import get_root_resource

from ...sources import from_project
from . import manifests, names, settings

_KINDS = {
    "ConfigMap": "core.v1",
    "CronJob": "batch.v1",
    "Deployment": "apps.v1",
    "Job": "batch.v1",
    "LimitRange": "core.v1",
    "Namespace": "core.v1",
    "NetworkPolicy": "networking.v1",
    "PersistentVolumeClaim": "core.v1",
    "PodDisruptionBudget": "policy.v1",
    "ResourceQuota": "core.v1",
    "Role": "rbac.v1",
    "RoleBinding": "rbac.v1",
    "Secret": "core.v1",
    "Service": "core.v1",
    "ServiceAccount": "core.v1",
    "StatefulSet": "apps.v1",
}
# `mlops:kubernetes:Ready` waits for them, and tells why they are not. A Service would wait for the
# pods that it is made for, and a volume, with many storage classes, for one that uses it.
_NOT_WAITED_FOR = {"Deployment", "Job", "PersistentVolumeClaim", "Service", "StatefulSet"}


class Cluster:
    """The namespace of a stack, and the objects in it."""

    def __init__(self) -> None:
        self.settings = settings.load()
        self.namespace = self.settings.namespace
        self.router: str | None = None
        """The image of every route's proxies, once one has been asked for."""
        self._taken: set[tuple[str, str]] = set()
        self._provider = _class("Provider", "")(
            "kubernetes",
            namespace=self.namespace,
            context=self.settings.context,
            kubeconfig=self._kubeconfig(),
            # Names are fixed, so that an object that had to be replaced would be gone for a while.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            # What somebody changed by hand is put right, and not a conflict.
            enable_patch_force=True,
            # What was kept when the stack was destroyed is found again.
            upsert_existing_objects=True,
        )
        self._namespace = self._make_namespace() if self.settings.create_namespace else None
        self.make(
            "NetworkPolicy", "deny-all", pulumi.ResourceOptions(),
            labels=self.labels("deny-all", "network"), spec=manifests.deny_all(),
        )  # fmt: skip
        self._limit()

    def _limit(self) -> None:
        if not (hard := self.settings.quota.manifest()):
            return
        opts = pulumi.ResourceOptions()
        labels = self.labels("quota", "quota")
        self.make("ResourceQuota", "quota", opts, labels=labels, spec={"hard": hard})
        self.make("LimitRange", "limits", opts, labels=labels, spec=manifests.limit_range())

    def labels(self, name: str, component: str) -> dict[str, str]:
        """The labels of one thing and all that belongs to it."""
        return manifests.labels(
            names.label(f"{pulumi.get_project()}-{pulumi.get_stack()}"),
            names.label(name),
            component,
        )

    def make(
        self,
        kind: str,
        name: str,
        opts: pulumi.ResourceOptions,
        *,
        labels: Mapping[str, str],
        object_name: pulumi.Input[str] | None = None,
        **parts: Any,
    ) -> pulumi.CustomResource:
        """An object called `name`; `parts` are its members beside `metadata`, as the API has them.

        It is called the same in the cluster: a diff shows no random names, and others find it.
        """
        given: dict[str, str] = {}
        if kind in _NOT_WAITED_FOR:
            given["pulumi.com/skipAwait"] = "true"
        if object_name is None:
            object_name = names.label(name)
        self._refuse_namesake(kind, object_name if isinstance(object_name, str) else name)
        metadata: dict[str, Any] = {
            "name": object_name,
            "namespace": self.namespace,
            "labels": dict(labels),
        }
        if given:
            metadata["annotations"] = given
        made: pulumi.CustomResource = _class(kind, _KINDS[kind])(
            name, metadata=metadata, **parts, opts=self.inside(opts)
        )
        return made

    def inside(self, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
        """The same options for something in the namespace."""
        more = pulumi.ResourceOptions(
            provider=self._provider,
            depends_on=[self._namespace] if self._namespace is not None else [],
        )
        return pulumi.ResourceOptions.merge(opts, more)

    def address(self, name: str) -> str:
        """The DNS name of a Service, for every pod of the cluster."""
        return f"{names.label(name)}.{self.namespace}.svc"

    def refuse_deletion(self, name: str) -> None:
        """Raise pulumi.RunError when data that is kept would go with its namespace."""
        if self.settings.create_namespace and self.settings.delete_namespace:
            raise pulumi.RunError(
                f"{name}: its data is kept (`retain`), but mlops:kubernetes.delete_namespace would "
                "delete it with the namespace: set one of them to false"
            )

    def _refuse_namesake(self, kind: str, name: str) -> None:
        """Raise pulumi.RunError for a second object that would take the first one's place."""
        if (kind, name) in self._taken:
            raise pulumi.RunError(
                f"two components make a {kind} called {name} in namespace {self.namespace}: give "
                "one of them another name"
            )
        self._taken.add((kind, name))

    def _make_namespace(self) -> pulumi.CustomResource:
        levels = ("enforce", "warn")
        made: pulumi.CustomResource = _class("Namespace", "core.v1")(
            "namespace",
            metadata={
                "name": self.namespace,
                "labels": {
                    "app.kubernetes.io/managed-by": "pulumi-mlops",
                    **{f"pod-security.kubernetes.io/{level}": "restricted" for level in levels},
                },
            },
            opts=pulumi.ResourceOptions(
                provider=self._provider,
                retain_on_delete=not self.settings.delete_namespace,
            ),
        )
        return made

    def _kubeconfig(self) -> str | None:
        path = self.settings.kubeconfig
        return None if path is None else str(from_project(path))


_clusters: weakref.WeakKeyDictionary[Any, Cluster] = weakref.WeakKeyDictionary()


def cluster() -> Cluster:
    """The one of this program: its provider and namespace are registered once."""
    root = get_root_resource()
    if root not in _clusters:
        _clusters[root] = Cluster()
    return _clusters[root]


@lru_cache
def _class(kind: str, group: str) -> Any:
    try:
        module = import_module(".".join(filter(None, ("pulumi_kubernetes", group))))
    except ImportError:
        raise pulumi.RunError(
            "mlops:target kubernetes needs pulumi-kubernetes: pip install pulumi-mlops[kubernetes]"
        ) from None
    return getattr(module, kind)


@lru_cache(maxsize=1024)
def fingerprint(text: str, salt: str) -> str:
    """Sixteen hexadecimal digits that change with `text`, and do not help to guess it.

    PBKDF2 (RFC 8018), since what is hashed may be a password that somebody chose.
    """
    return hashlib.pbkdf2_hmac("sha256", text.encode(), salt.encode(), 50_000, dklen=8).hex()
