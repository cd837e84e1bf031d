"""The provider and the namespace of a stack, and the creation of objects in the namespace."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Mapping
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import get_root_resource

from ...plugin import sdk as plugin_sdk
from ...sources import from_project
from ...spec import SecretKeyRef
from ..port import EnvironmentHandle
from . import manifests, names, sdk, settings

_KINDS = {
    "ConfigMap": "core.v1",
    "CronJob": "batch.v1",
    "Deployment": "apps.v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling.v2",
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
# The kinds for which pulumi-kubernetes does not wait. `mlops:kubernetes:Ready` waits for workloads
# and explains failures. The provider would wait until a Service has pods and, with many storage
# classes, until a pod uses a volume. Both are created before the pods.
_SKIP_AWAIT = {
    "Deployment", "HTTPRoute", "Job", "PersistentVolumeClaim", "Service", "StatefulSet",
}  # fmt: skip

# Documentation of Argo CD, "Sync Options" (No Prune Resources, No Resource Deletion), and of Flux,
# "Kustomization" (Prune).
_RETAIN_ANNOTATIONS = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}


class Cluster:
    """The namespace of a stack, and the objects in it."""

    def __init__(self) -> None:
        self.settings = settings.load()
        self.namespace = self.settings.namespace
        self.router: EnvironmentHandle | None = None
        """The Python environment of all proxies. None before the first request for a route."""
        self.buckets: list[tuple[frozenset[str], manifests.Manifest]] = []
        """For each bucket that a Job creates: the names of the services of its store, empty for an
        existing store, and an init container that waits for the bucket."""
        self._object_names: set[tuple[str, str]] = set()
        self._existing_secrets: dict[tuple[str, str], pulumi.Output[str]] = {}
        self.content_digests: dict[Any, pulumi.Output[str]] = {}
        """Digests of the secrets and files of workloads. The key is their content."""
        self.rendered = self.settings.render_to is not None
        """Whether manifests are rendered into files and no cluster is accessed."""
        self._identity = sdk.ClusterIdentity(
            "cluster-identity", {"namespace": self.namespace, "rendered": self.rendered}
        )
        self._provider = _class("Provider", "")(
            "kubernetes",
            namespace=self.namespace,
            **self._provider_location(),
            # Object names are fixed: a replacement would delete the object before it is created.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            # An update overwrites manual changes instead of failing with a conflict.
            enable_patch_force=True,
            # Objects that were retained when the stack was destroyed are adopted.
            upsert_existing_objects=True,
            opts=pulumi.ResourceOptions(depends_on=[self._identity]),
        )
        self._namespace_dependencies = self._own_namespace()
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
        """The labels of the objects of one component child called `name`."""
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
        """Create an object. `parts` are its top-level fields other than `metadata`.

        `object_name` is its name in the cluster. Default: `name` as a DNS label, without a random
        suffix, so that a diff stays readable and other tools can refer to the object.
        """
        annotations: dict[str, str] = {}
        if kind in _SKIP_AWAIT and not self.rendered:
            annotations["pulumi.com/skipAwait"] = "true"
            # Background deletion removes the object at once and its pods afterwards. With
            # foreground deletion the object exists until its pods have ended, and a new object of
            # the same name would be deleted with it.
            annotations["pulumi.com/deletionPropagationPolicy"] = "background"
        annotations |= self._retain_annotations(bool(opts.retain_on_delete))
        if object_name is None:
            object_name = names.label(name)
        self.refuse_namesake(kind, object_name if isinstance(object_name, str) else name)
        metadata: dict[str, Any] = {
            "name": object_name,
            "namespace": self.namespace,
            "labels": dict(labels),
        }
        if annotations:
            metadata["annotations"] = annotations
        native: pulumi.CustomResource = _class(kind, _KINDS[kind])(
            name, metadata=metadata, **parts, opts=self.namespaced(opts)
        )
        return native

    def namespaced(self, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
        """`opts` with the options of every object in the namespace."""
        namespace_opts = pulumi.ResourceOptions(
            provider=self._provider,
            depends_on=self._namespace_dependencies,
            # Object names are fixed. If a replacement were created first, it would adopt the
            # existing object, and the deletion that follows would delete that object.
            delete_before_replace=True,
        )
        return pulumi.ResourceOptions.merge(opts, namespace_opts)

    def address(self, name: str) -> str:
        """The DNS name of a Service, which every pod of the cluster can resolve."""
        return f"{names.label(name)}.{self.namespace}.svc"

    def facts(self) -> pulumi.Output[Any] | None:
        """The facts that identify the cluster, or None if no cluster is accessed."""
        return None if self.rendered else self._identity.facts

    def guard_volume(self, name: str, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        """The resources that a volume called `name` depends on: a check that it is not replaced.

        Empty if no cluster is accessed.
        """
        if self.rendered:
            return []
        guard = sdk.VolumeGuard(
            f"{name}-guard",
            {
                "namespace": self.namespace,
                "name": names.label(name),
                "storageClass": self.settings.storage_class,
            },
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(depends_on=self._namespace_dependencies)
            ),
        )
        return [guard]

    def existing_secret(self, ref: SecretKeyRef) -> pulumi.Output[str]:
        """A value of an existing Secret in the namespace. Each key is read by one resource."""
        if (ref.name, ref.key) not in self._existing_secrets:
            native = sdk.ExistingSecret(
                # The slash is not allowed in the name of a Secret, so no other resource has it.
                f"{ref.name}/{ref.key}",
                {"namespace": self.namespace, "name": ref.name, "key": ref.key},
                pulumi.ResourceOptions(depends_on=self._namespace_dependencies),
            )
            self._existing_secrets[ref.name, ref.key] = pulumi.Output.secret(native.value)
        return self._existing_secrets[ref.name, ref.key]

    def refuse_deletion(self, name: str) -> None:
        """Raise pulumi.RunError if retained data would be deleted with its namespace."""
        if self.settings.create_namespace and self.settings.delete_namespace:
            raise pulumi.RunError(
                f"{name}: `retain` keeps its data, but mlops:kubernetes.delete_namespace would "
                "delete it with the namespace: set one of them to false"
            )

    def refuse_namesake(self, kind: str, name: str) -> None:
        """Raise pulumi.RunError if another object of this kind has the same name."""
        if (kind, name) in self._object_names:
            raise pulumi.RunError(
                f"two components need a {kind} called {name} in namespace {self.namespace}: "
                "rename one of them"
            )
        self._object_names.add((kind, name))

    def _own_namespace(self) -> list[pulumi.Resource]:
        """Claim the namespace for this stack. Returns what every object in it depends on.

        The claim comes first: if it is refused, the state must not contain the namespace of another
        stack, since destroying this stack would then delete it.
        """
        if self.rendered:
            return [self._create_namespace(None)] if self.settings.create_namespace else []
        key = plugin_sdk.GeneratedSecret("namespace-key", {"length": 16})
        owner = sdk.NamespaceOwner(
            "namespace-owner",
            {
                "namespace": self.namespace,
                # Not confidential: it gives no access to anything.
                "key": pulumi.Output.unsecret(key.value),
                "createNamespace": self.settings.create_namespace,
                "deleteNamespace": self.settings.delete_namespace,
                "provider": self._provider.id,
            },
        )
        if not self.settings.create_namespace:
            return [owner]
        return [owner, self._create_namespace(owner)]

    def _create_namespace(self, owner: pulumi.Resource | None) -> pulumi.CustomResource:
        levels = ("enforce", "warn")
        retain = not self.settings.delete_namespace
        annotations = self._retain_annotations(retain)
        native: pulumi.CustomResource = _class("Namespace", "core.v1")(
            "namespace",
            metadata={
                "name": self.namespace,
                "labels": {
                    "app.kubernetes.io/managed-by": "pulumi-mlops",
                    **{f"pod-security.kubernetes.io/{level}": "restricted" for level in levels},
                },
                **({"annotations": annotations} if annotations else {}),
            },
            opts=pulumi.ResourceOptions(
                provider=self._provider,
                depends_on=[owner] if owner is not None else [],
                retain_on_delete=retain,
                delete_before_replace=True,
            ),
        )
        return native

    def _retain_annotations(self, retain: bool) -> dict[str, str]:
        """The annotations of rendered objects that Argo CD and Flux must not delete."""
        return dict(_RETAIN_ANNOTATIONS) if retain and self.rendered else {}

    def _provider_location(self) -> dict[str, pulumi.Input[str] | None]:
        """The provider inputs that locate the cluster, or the folder for rendered manifests."""
        if self.rendered:
            # Relative to the working folder of the program and the plugin. An absolute path would
            # differ between checkouts, and a changed path replaces the provider and all objects.
            folder = os.path.relpath(from_project(self.settings.render_to or ""))
            # Empty, since the plugin refuses a kubeconfig together with a folder.
            return {"render_yaml_to_directory": folder, "kubeconfig": ""}
        return {
            # Does not depend on the kubeconfig. Only its change replaces the provider.
            "cluster_identifier": self._identity.identifier,
            "context": self.settings.context,
            "kubeconfig": self._kubeconfig(),
        }

    def _kubeconfig(self) -> str:
        """The path of the configured kubeconfig. A relative path is the same for every checkout.

        Empty if none is configured: the plugin then reads KUBECONFIG itself. Without an input the
        SDK would record the value of KUBECONFIG in the state, and users with another path would see
        a difference.
        """
        path = self.settings.kubeconfig
        if path is None:
            return ""
        absolute = Path(path).expanduser().is_absolute()
        return str(from_project(path)) if absolute else os.path.relpath(from_project(path))


_clusters: weakref.WeakKeyDictionary[Any, Cluster] = weakref.WeakKeyDictionary()


def cluster() -> Cluster:
    """The cluster of the current program. Its provider and namespace are registered once."""
    root = get_root_resource()
    if root not in _clusters:
        _clusters[root] = Cluster()
    return _clusters[root]


@lru_cache
def _class(kind: str, group: str) -> Any:
    if "/" in group:  # a custom resource, such as HTTPRoute
        return partial(_class("CustomResource", "apiextensions"), api_version=group, kind=kind)
    try:
        module = import_module(".".join(filter(None, ("pulumi_kubernetes", group))))
    except ImportError:
        raise pulumi.RunError(
            "mlops:target: kubernetes requires the package pulumi-kubernetes: run "
            "`pip install pulumi-mlops[kubernetes]`"
        ) from None
    return getattr(module, kind)


@lru_cache(maxsize=1024)
def fingerprint(text: str, salt: str) -> str:
    """Sixteen hexadecimal digits that change with `text` but do not reveal it.

    Uses PBKDF2 (RFC 8018), which makes it slow to guess `text`: it may be a weak password.
    """
    return hashlib.pbkdf2_hmac("sha256", text.encode(), salt.encode(), 50_000, dklen=8).hex()
