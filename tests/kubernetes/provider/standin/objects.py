"""Kubernetes objects as dictionaries: what they are called and what they are annotated with."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, Final

from .wire import Object, Unknown

AUTONAMED: Final = "pulumi.com/autonamed"
SKIP_AWAIT: Final = "pulumi.com/skipAwait"
PATCH_FORCE: Final = "pulumi.com/patchForce"
FIELD_MANAGER: Final = "pulumi.com/patchFieldManager"
PROPAGATION: Final = "pulumi.com/deletionPropagationPolicy"
TIMEOUT: Final = "pulumi.com/timeoutSeconds"

# Of the kinds that come with Kubernetes; asked of the API server where one answers.
_CLUSTER_SCOPED: Final = (
    "APIService CSIDriver CSINode CertificateSigningRequest ClusterRole ClusterRoleBinding"
    " ComponentStatus CustomResourceDefinition FlowSchema IngressClass"
    " MutatingWebhookConfiguration Namespace Node PersistentVolume PriorityClass"
    " PriorityLevelConfiguration RuntimeClass StorageClass ValidatingAdmissionPolicy"
    " ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration VolumeAttachment"
)
CLUSTER_SCOPED: Final = frozenset(_CLUSTER_SCOPED.split())

# What the server writes into metadata; nobody's inputs.
_SERVERS_METADATA: Final = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)


def type_of(urn: str) -> tuple[str, str]:
    """The apiVersion and kind that the type in `urn` names."""
    token = urn.split("::")[2].rsplit("$", 1)[-1]
    _, module, kind = token.split(":", 2)
    return module.removeprefix("core/"), kind


def logical_name(urn: str) -> str:
    """The resource's name in the program."""
    return urn.split("::", 3)[3]


def metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object's metadata; empty if it has none that are known."""
    found = obj.get("metadata")
    return found if isinstance(found, Mapping) else {}


def name_of(obj: Mapping[str, Any]) -> str:
    """The object's name; empty if it has none that is known."""
    found = metadata(obj).get("name")
    return found if isinstance(found, str) else ""


def namespace_of(obj: Mapping[str, Any]) -> str:
    """The object's namespace; empty if it has none that is known."""
    found = metadata(obj).get("namespace")
    return found if isinstance(found, str) else ""


def id_of(obj: Mapping[str, Any]) -> str:
    """How the engine identifies the object: `namespace/name`, or `name`."""
    return "/".join(part for part in (namespace_of(obj), name_of(obj)) if part)


def split_id(resource_id: str) -> tuple[str, str]:
    """The namespace (or nothing) and the name of an id."""
    namespace, _, name = resource_id.rpartition("/")
    return namespace, name


def annotation(obj: Mapping[str, Any], key: str) -> str:
    """The value of an annotation, or nothing."""
    annotations = metadata(obj).get("annotations")
    value = annotations.get(key) if isinstance(annotations, Mapping) else None
    return value if isinstance(value, str) else ""


def annotated(obj: Mapping[str, Any], key: str) -> bool:
    """Whether an annotation says "true"."""
    return annotation(obj, key).lower() == "true"


def with_metadata(obj: Object, **values: Any) -> Object:
    """`obj` with these metadata on top of its own."""
    return {**obj, "metadata": {**metadata(obj), **values}}


def autonamed(obj: Object, name: str) -> Object:
    """`obj` under a name of the plugin's making, and marked so."""
    annotations = metadata(obj).get("annotations") or {}
    if isinstance(annotations, Unknown):
        return with_metadata(obj, name=name)
    return with_metadata(obj, name=name, annotations={**annotations, AUTONAMED: "true"})


def random_name(logical: str, seed: bytes) -> str:
    """`<logical>-<7 hex digits>`; the engine's seed makes it the same in preview and update."""
    digits = hashlib.sha256(seed).hexdigest() if seed else secrets.token_hex(4)
    return f"{logical}-{digits[:7]}"


def field_manager(urn: str, inputs: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Under which name the API server records what the resource sets."""
    kept = state.get("__fieldManager")
    digits = hashlib.sha256(urn.encode()).hexdigest()[:8]
    return annotation(inputs, FIELD_MANAGER) or kept or f"pulumi-kubernetes-{digits}"


def without_servers_fields(live: Mapping[str, Any]) -> Object:
    """What of a live object somebody could have written: the inputs of an import."""
    kept = {key: value for key, value in live.items() if key != "status"}
    meta = {key: value for key, value in metadata(live).items() if key not in _SERVERS_METADATA}
    annotations = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if key
        not in (
            "deployment.kubernetes.io/revision",
            "kubectl.kubernetes.io/last-applied-configuration",
        )
    }
    meta.pop("annotations", None)
    return {**kept, "metadata": {**meta, "annotations": annotations} if annotations else meta}


def described(obj: Mapping[str, Any]) -> str:
    """The object's kind and name, for messages."""
    return f"{obj.get('kind')} {id_of(obj)}"
