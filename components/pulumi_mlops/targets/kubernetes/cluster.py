"""What all of a stack's workloads share: the provider, the namespace, and how objects are made."""

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
# `mlops:kubernetes:Ready` waits for them, and tells why they are not. A Service would wait for the
# pods that it is made for, and a volume, with many storage classes, for one that uses it.
_NOT_WAITED_FOR = {
    "Deployment", "HTTPRoute", "Job", "PersistentVolumeClaim", "Service", "StatefulSet",
}  # fmt: skip

# docs of Argo CD, "Sync Options" (No Prune Resources, No Resource Deletion); of Flux,
# "Kustomization" (Prune).
_KEPT = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}


class Cluster:
    """The namespace of a stack, and the objects in it."""

    def __init__(self) -> None:
        self.settings = settings.load()
        self.namespace = self.settings.namespace
        self.router: EnvironmentHandle | None = None
        """What every route's proxies run in, once one has been asked for."""
        self.buckets: list[tuple[frozenset[str], manifests.Manifest]] = []
        """Of each bucket that is made within the cluster: the services that have it, none for a
        store elsewhere, and a container that waits for it."""
        self._taken: set[tuple[str, str]] = set()
        self._read: dict[tuple[str, str], pulumi.Output[str]] = {}
        self.content_digests: dict[Any, pulumi.Output[str]] = {}
        """Digests of the secrets and files of workloads, by these."""
        self.rendered = self.settings.render_to is not None
        """Whether objects become files, and no cluster is asked."""
        self._identity = sdk.ClusterIdentity(
            "cluster-identity", {"namespace": self.namespace, "rendered": self.rendered}
        )
        self._provider = _class("Provider", "")(
            "kubernetes",
            namespace=self.namespace,
            **self._place(),
            # Names are fixed, so that an object that had to be replaced would be gone for a while.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            # What somebody changed by hand is put right, and not a conflict.
            enable_patch_force=True,
            # What was kept when the stack was destroyed is found again.
            upsert_existing_objects=True,
            opts=pulumi.ResourceOptions(depends_on=[self._identity]),
        )
        self._before_all = self._take_namespace()
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
        if kind in _NOT_WAITED_FOR and not self.rendered:
            given["pulumi.com/skipAwait"] = "true"
            # Gone at once, its pods after it. Otherwise it would stay until they have ended, with
            # nobody waiting: what is made anew under its name meanwhile would end with it.
            given["pulumi.com/deletionPropagationPolicy"] = "background"
        given |= self._kept(bool(opts.retain_on_delete))
        if object_name is None:
            object_name = names.label(name)
        self.refuse_namesake(kind, object_name if isinstance(object_name, str) else name)
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
            depends_on=self._before_all,
            # Names are fixed. Created first, a replacement would adopt the object that is there,
            # and the deletion after it would delete that.
            delete_before_replace=True,
        )
        return pulumi.ResourceOptions.merge(opts, more)

    def address(self, name: str) -> str:
        """The DNS name of a Service, for every pod of the cluster."""
        return f"{names.label(name)}.{self.namespace}.svc"

    def facts(self) -> pulumi.Output[Any] | None:
        """What identifies the cluster; None where none is asked."""
        return None if self.rendered else self._identity.facts

    def guard_volume(self, name: str, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        """What a volume called `name` has to wait for: nothing where no cluster is asked."""
        if self.rendered:
            return []
        guard = sdk.VolumeGuard(
            f"{name}-guard",
            {
                "namespace": self.namespace,
                "name": names.label(name),
                "storageClass": self.settings.storage_class,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=self._before_all)),
        )
        return [guard]

    def existing_secret(self, of: SecretKeyRef) -> pulumi.Output[str]:
        """A value of a Secret in the namespace. Who asks twice reads once."""
        if (of.name, of.key) not in self._read:
            made = sdk.ExistingSecret(
                # No Secret is called like this, so that no two of them are.
                f"{of.name}/{of.key}",
                {"namespace": self.namespace, "name": of.name, "key": of.key},
                pulumi.ResourceOptions(depends_on=self._before_all),
            )
            self._read[of.name, of.key] = pulumi.Output.secret(made.value)
        return self._read[of.name, of.key]

    def refuse_deletion(self, name: str) -> None:
        """Raise pulumi.RunError when data that is kept would go with its namespace."""
        if self.settings.create_namespace and self.settings.delete_namespace:
            raise pulumi.RunError(
                f"{name}: its data is kept (`retain`), but mlops:kubernetes.delete_namespace would "
                "delete it with the namespace: set one of them to false"
            )

    def refuse_namesake(self, kind: str, name: str) -> None:
        """Raise pulumi.RunError for a second object that would take the first one's place."""
        if (kind, name) in self._taken:
            raise pulumi.RunError(
                f"two components make a {kind} called {name} in namespace {self.namespace}: give "
                "one of them another name"
            )
        self._taken.add((kind, name))

    def _take_namespace(self) -> list[pulumi.Resource]:
        """Take the namespace for this stack; what everything in it has to wait for.

        First of all: a stack that is refused must not have in its state, and delete with it, a
        namespace that is another one's.
        """
        if self.rendered:
            return [self._make_namespace(None)] if self.settings.create_namespace else []
        key = plugin_sdk.GeneratedSecret("namespace-key", {"length": 16})
        owner = sdk.NamespaceOwner(
            "namespace-owner",
            {
                "namespace": self.namespace,
                # Everybody may read it in the cluster: it opens nothing.
                "key": pulumi.Output.unsecret(key.value),
                "createNamespace": self.settings.create_namespace,
                "deleteNamespace": self.settings.delete_namespace,
                "provider": self._provider.id,
            },
        )
        if not self.settings.create_namespace:
            return [owner]
        return [owner, self._make_namespace(owner)]

    def _make_namespace(self, owner: pulumi.Resource | None) -> pulumi.CustomResource:
        levels = ("enforce", "warn")
        retain = not self.settings.delete_namespace
        made: pulumi.CustomResource = _class("Namespace", "core.v1")(
            "namespace",
            metadata={
                "name": self.namespace,
                "labels": {
                    "app.kubernetes.io/managed-by": "pulumi-mlops",
                    **{f"pod-security.kubernetes.io/{level}": "restricted" for level in levels},
                },
                **({"annotations": kept} if (kept := self._kept(retain)) else {}),
            },
            opts=pulumi.ResourceOptions(
                provider=self._provider,
                depends_on=[owner] if owner is not None else [],
                retain_on_delete=retain,
                delete_before_replace=True,
            ),
        )
        return made

    def _kept(self, retain: bool) -> dict[str, str]:
        """The annotations of what the tool that applies rendered files is to keep."""
        return dict(_KEPT) if retain and self.rendered else {}

    def _place(self) -> dict[str, pulumi.Input[str] | None]:
        """Where the provider finds the cluster, or the folder that takes its place."""
        if self.rendered:
            # From the program's folder, where the plugin works too: another folder would be
            # another provider and all objects replaced, and each checkout has one of its own.
            folder = os.path.relpath(from_project(self.settings.render_to or ""))
            # Not the KUBECONFIG of the environment: the plugin refuses both together.
            return {"render_yaml_to_directory": folder, "kubeconfig": ""}
        return {
            # The same whatever leads to the cluster: it alone decides on a replacement.
            "cluster_identifier": self._identity.identifier,
            "context": self.settings.context,
            "kubeconfig": self._kubeconfig(),
        }

    def _kubeconfig(self) -> str:
        """The path of the kubeconfig in the settings, the same for every checkout if it can be.

        Empty without one: the plugin then looks for KUBECONFIG itself. The SDK would put the
        variable's value into the state, a difference for everybody with the file at another path.
        """
        path = self.settings.kubeconfig
        if path is None:
            return ""
        absolute = Path(path).expanduser().is_absolute()
        return str(from_project(path)) if absolute else os.path.relpath(from_project(path))


_clusters: weakref.WeakKeyDictionary[Any, Cluster] = weakref.WeakKeyDictionary()


def cluster() -> Cluster:
    """The one of this program: its provider and namespace are registered once."""
    root = get_root_resource()
    if root not in _clusters:
        _clusters[root] = Cluster()
    return _clusters[root]


@lru_cache
def _class(kind: str, group: str) -> Any:
    if "/" in group:  # no kind of Kubernetes' own
        return partial(_class("CustomResource", "apiextensions"), api_version=group, kind=kind)
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
