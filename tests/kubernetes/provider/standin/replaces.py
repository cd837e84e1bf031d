"""Which fields of an object cannot change, so that changing them makes a new object.

The table is the official plugin's (4.34): what it replaces, and what it leaves to the API server's
own refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Path = tuple[str | int, ...]

_SELECTOR: Final = ("spec.selector",)
_CONTAINER: Final = (
    "args command env image imagePullPolicy lifecycle livenessProbe ports readinessProbe resources"
    " securityContext stdin stdinOnce terminationMessagePath terminationMessagePolicy tty"
    " volumeDevices volumeMounts workingDir"
)
_POD: Final = (
    "affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks hostAliases"
    " hostIPC hostNetwork hostPID hostname imagePullSecrets nodeName nodeSelector overhead"
    " preemptionPolicy priority priorityClassName readinessGates restartPolicy runtimeClassName"
    " schedulerName securityContext serviceAccount serviceAccountName shareProcessNamespace"
    " subdomain terminationGracePeriodSeconds volumes"
)
_VOLUME_SOURCES: Final = (
    "awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker"
    " gcePersistentDisk glusterfs hostPath iscsi local nfs photonPersistentDisk portworxVolume"
    " quobyte rbd scaleIO storageos vsphereVolume"
)


def _below(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names.split())


_FIELDS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("apps", "DaemonSet"): _SELECTOR,
    ("apps", "Deployment"): _SELECTOR,
    ("apps", "StatefulSet"): (
        "spec.podManagementPolicy",
        "spec.revisionHistoryLimit",
        "spec.selector",
        "spec.serviceName",
        "spec.volumeClaimTemplates",
    ),
    ("batch", "Job"): (
        "spec.completions",
        "spec.parallelism",
        "spec.selector",
        "spec.template",
    ),
    ("", "PersistentVolume"): _below("spec", _VOLUME_SOURCES),
    ("", "PersistentVolumeClaim"): (
        "spec.accessModes",
        "spec.selector",
        "spec.storageClassName",
        "spec.volumeName",
    ),
    ("", "Pod"): (
        *_below("spec", _POD),
        *_below("spec.containers", _CONTAINER),
        *_below("spec.initContainers", _CONTAINER),
    ),
    ("", "ResourceQuota"): ("spec.scopes",),
    ("", "Secret"): ("type",),
    ("", "Service"): ("spec.clusterIP",),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): ("roleRef",),
    ("rbac.authorization.k8s.io", "RoleBinding"): ("roleRef",),
    ("storage.k8s.io", "StorageClass"): ("parameters", "provisioner"),
}


def fixed_fields(
    obj: Mapping[str, Any], *, secrets_change: bool = False, config_maps_change: bool = False
) -> tuple[Path, ...]:
    """The paths of the fields of `obj` whose change replaces it, without list indexes.

    The official plugin replaces ConfigMaps and Secrets whose data change, unless told otherwise,
    so that an automatic name rolls out what mounts them.
    """
    group, _, _ = str(obj.get("apiVersion", "")).rpartition("/")
    kind = str(obj.get("kind", ""))
    fields = ["kind", "metadata.name", "metadata.namespace", *_FIELDS.get((group, kind), ())]
    immutable = obj.get("immutable") is True
    if (group, kind) == ("", "Secret") and (immutable or not secrets_change):
        fields += ["data", "stringData"]
    if (group, kind) == ("", "ConfigMap") and (immutable or not config_maps_change):
        fields += ["data", "binaryData"]
    return tuple(tuple(field.split(".")) for field in fields)


def touches(path: Path, value: Any, field: Path) -> bool:
    """Whether a change at `path`, where `value` comes or goes, is one of `field`."""
    names = tuple(part for part in path if isinstance(part, str))
    if names[: len(field)] == field:
        return True
    # A whole branch came or went: it matters if the field is in it.
    return field[: len(names)] == names and _has(value, field[len(names) :])


def _has(value: Any, path: Path) -> bool:
    if not path:
        return True
    if isinstance(value, list):
        return any(_has(item, path) for item in value)
    return isinstance(value, Mapping) and path[0] in value and _has(value[path[0]], path[1:])
