"""How the provider is configured: the stack's settings, a Provider resource, the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .kubeconfig import Connection, KubeconfigError, load
from .wire import Unknown, plain


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
    """Which changed settings mean another cluster, where nothing of the old one lives on."""
    before, after = plain(old), plain(new)
    identifiers = before.get("clusterIdentifier"), after.get("clusterIdentifier")
    if any(identifiers):
        return ["clusterIdentifier"] if identifiers[0] != identifiers[1] else []
    changed = [
        key for key in ("kubeconfig", "context", "cluster") if before.get(key) != after.get(key)
    ]
    if not changed or isinstance(after.get("kubeconfig"), Unknown):
        return []
    try:
        same = Settings.of(old).connection().server == Settings.of(new).connection().server
    except KubeconfigError:
        return []
    return [] if same else changed
