"""What the program's inputs become before they are compared and sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .objects import (
    AUTONAMED,
    CLUSTER_SCOPED,
    annotated,
    autonamed,
    logical_name,
    metadata,
    name_of,
    random_name,
    type_of,
    with_metadata,
)
from .wire import Object, Unknown


class Refused(Exception):
    """The stand-in, or the official plugin, does not do this."""


def checked(
    urn: str,
    news: Object,
    olds: Mapping[str, Any],
    *,
    seed: bytes,
    proposed: str | None,
    default_namespace: Callable[[], str],
    asks_namespaced: Callable[[str, str], bool],
) -> Object:
    """The inputs with apiVersion, kind, name and namespace filled in, and nothing else."""
    api_version, kind = type_of(urn)
    if kind.endswith(("Patch", "List")) or api_version.split("/")[0] in ("helm.sh", "yaml"):
        raise Refused(f"{api_version} {kind}: the stand-in of tests/ has no such resource")
    obj = {"apiVersion": api_version, "kind": kind, **news}
    if isinstance(obj.get("metadata"), Unknown):
        return obj
    if metadata(obj).get("generateName") and "name" not in metadata(obj):
        raise Refused("metadata.generateName is not supported in Server-Side Apply mode")
    if "name" not in metadata(obj):
        if annotated(olds, AUTONAMED) and name_of(olds):
            obj = autonamed(obj, name_of(olds))
        else:
            obj = autonamed(obj, proposed or random_name(logical_name(urn), seed))
    if "namespace" not in metadata(obj) and is_namespaced(obj, asks_namespaced):
        obj = with_metadata(obj, namespace=default_namespace())
    return obj


def is_namespaced(obj: Mapping[str, Any], ask: Callable[[str, str], bool]) -> bool:
    """Whether objects of this kind live in namespaces; `ask` knows those of definitions."""
    api_version, kind = str(obj["apiVersion"]), str(obj["kind"])
    group = api_version.rpartition("/")[0]
    if "." not in group or group.endswith(".k8s.io"):
        return kind not in CLUSTER_SCOPED
    return ask(api_version, kind)
