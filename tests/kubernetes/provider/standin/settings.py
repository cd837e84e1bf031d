"""How the provider is configured: the stack's settings, a Provider resource, the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .kubeconfig import Connection, KubeconfigError, cluster_entry, load
from .wire import Unknown, plain

_PLACE: Final = ("kubeconfig", "context", "cluster")


@dataclass(frozen=True)
class Settings:
    """What the provider was told."""

    kubeconfig: Any = None
    context: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    render_to: Path | None = None
    server_side_apply: bool = True
    patch_force: bool = False
    upsert: bool = False
    config_maps_change: bool = False
    secrets_change: bool = False
    delete_unreachable: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """The settings in the provider's properties; unknown keys are the official plugin's."""
        args = plain(given)

        def text(key: str) -> str | None:
            value = args.get(key)
            return value if isinstance(value, str) and value else None

        def flag(key: str, variable: str, default: bool = False) -> bool:
            value = args.get(key)
            if value is None:
                value = os.environ.get(variable)
            return default if value is None else str(value).lower() == "true"

        folder = text("renderYamlToDirectory")
        return cls(
            kubeconfig=args.get("kubeconfig"),
            context=text("context"),
            cluster=text("cluster"),
            namespace=text("namespace"),
            render_to=Path(folder) if folder else None,
            server_side_apply=flag(
                "enableServerSideApply", "PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY", True
            ),
            patch_force=flag("enablePatchForce", "PULUMI_K8S_ENABLE_PATCH_FORCE"),
            upsert=flag("upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"),
            config_maps_change=flag(
                "enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"
            ),
            secrets_change=flag("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
            delete_unreachable=flag("deleteUnreachable", "PULUMI_K8S_DELETE_UNREACHABLE"),
        )

    def connection(self) -> Connection:
        """Where the cluster is."""
        if isinstance(self.kubeconfig, Unknown):
            raise KubeconfigError("the kubeconfig is not known yet")
        return load(self.kubeconfig, self.context, self.cluster)


def replacing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Which changed settings make the official plugin replace the provider, and so all objects.

    Its rules (pulumi-kubernetes, provider.go, DiffConfig): the same `clusterIdentifier` on both
    sides prevents it; another one causes it, an unknown one too; otherwise any difference in the
    cluster entry of the two kubeconfigs does. Raises KubeconfigError for a kubeconfig, of the old
    settings too, that is not there.
    """
    before, after = plain(old), plain(new)
    was, now = before.get("clusterIdentifier"), after.get("clusterIdentifier")
    if now and was == now:
        return []
    replaces = ["clusterIdentifier"] if was and now else []
    if unknown := [key for key in _PLACE if isinstance(after.get(key), Unknown)]:
        return [*replaces, unknown[0]]
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if not changed:
        return []
    entries = [
        cluster_entry(each.get("kubeconfig"), each.get("context"), each.get("cluster"))
        for each in (before, after)
    ]
    if "renderYamlToDirectory" in changed:
        replaces.append("renderYamlToDirectory")
    if None not in entries and entries[0] != entries[1]:
        replaces += [key for key in _PLACE if key in changed]
    return replaces
