"""Kubernetes objects as plain values: what a service, a job or a route is made of.

Pure functions of what was asked, without Pulumi: a test and `kubernetes-validate` can look at all
of it. Values may be Pulumi's Outputs; nothing here reads one.

Every pod is admitted by the Pod Security Standard "restricted"
(kubernetes.io, "Pod Security Standards").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .. import Health, Resources
from .names import variable

Manifest = dict[str, Any]

USER = 10001
"""The numeric user of every image, so that `runAsNonRoot` can be checked."""
DATA_DIR, FILES_DIR, SCRATCH_DIR = "/data", "/files", "/tmp"  # noqa: S108 - a pod's own
OUTPUTS_FILE = f"{SCRATCH_DIR}/outputs.json"
# What stands in the pod's termination log becomes its message: 4096 bytes at most. It is no file
# that a program could replace, so what it left is copied. Signals are handed on, and waited out: a
# `wait` that one interrupts says so instead of how the program ended, and 127 after the last one.
_AND_THEN_TELL = """\
if [ "${MLOPS_SUBDOMAIN-}" ]; then
    export MASTER_ADDR="${HOSTNAME%-*}-0.$MLOPS_SUBDOMAIN"
    export PET_MASTER_ADDR="$MASTER_ADDR"
fi
told=; trap 'told=yes; kill -TERM $child 2>/dev/null' TERM INT
"$@" & child=$!
wait $child; code=$?
while [ "$told" ]; do told=; wait $child; last=$?; [ $last = 127 ] || code=$last; done
[ ! -s "$MLOPS_OUTPUTS" ] || cat "$MLOPS_OUTPUTS" > "$0"
exit $code
"""
FIRST_PORT = 8080
LEADER_PORT = 29500
"""Where rank 0 of a distributed run listens; PyTorch's own default."""
_DRAIN_SECONDS = 5
"""How long a pod that is to end goes on: until every proxy has noticed that it is not ready."""

_RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    # A volume with many files would be changed file by file at each start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def labels(stack: str, name: str, component: str) -> dict[str, str]:
    """The recommended labels (kubernetes.io, "Recommended Labels")."""
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/instance": stack,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "mlops-platform",
        "app.kubernetes.io/managed-by": "pulumi-mlops",
    }


def selector(all_labels: Mapping[str, str]) -> dict[str, str]:
    """Those that tell the pods of one thing from all others, and never change."""
    return {
        key: all_labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance")
    }


def ports(wanted: Mapping[str, int | None]) -> dict[str, int]:
    """A number for each port: a pod has an address of its own, so they are the same everywhere."""
    numbers = {}
    free = FIRST_PORT
    taken = {number for number in wanted.values() if number}
    for name, number in wanted.items():
        while number is None and free in taken:
            free += 1
        numbers[name] = number or free
        taken.add(numbers[name])
    return numbers


def environment(
    plain: Mapping[str, Any], secrets: Sequence[str], secret_name: str, first: Sequence[Manifest]
) -> list[Manifest]:
    """Variables: `first`, since later ones may use them, then the others by name."""
    return [
        *first,
        *({"name": name, "value": plain[name]} for name in sorted(plain)),
        *(
            {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": name}}}
            for name in sorted(secrets)
        ),
    ]


def service_variables(numbers: Mapping[str, int], data: bool, files: bool) -> list[Manifest]:
    """What every service is told by its surroundings."""
    found: list[Manifest] = [
        {"name": "HOST", "value": "0.0.0.0"},  # noqa: S104 - a pod has an address of its own
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "RUNTIME_DIR", "value": SCRATCH_DIR},
    ]
    if "http" in numbers:
        found.append({"name": "PORT", "value": str(numbers["http"])})
    found += [{"name": variable(name), "value": str(numbers[name])} for name in numbers]
    if data:
        found.append({"name": "DATA_DIR", "value": DATA_DIR})
    if files:
        found.append({"name": "FILES_DIR", "value": FILES_DIR})
    return found


def container(
    name: str,
    image: Any,
    command: Sequence[Any],
    env: Sequence[Manifest],
    *,
    numbers: Mapping[str, int] | None = None,
    mounts: Sequence[Manifest] = (),
    resources: Manifest | None = None,
) -> Manifest:
    """One container that may write to its scratch folder and its volumes, and nowhere else."""
    found: Manifest = {
        "name": name,
        "image": image,
        "command": list(command),
        "env": list(env),
        "securityContext": _RESTRICTED_CONTAINER,
        "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_DIR}, *mounts],
        # The last lines of its log stand in its status when it fails without a message.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if resources:
        found["resources"] = resources
    if numbers:
        found["ports"] = [
            {"name": port, "containerPort": number} for port, number in numbers.items()
        ]
    return found


def resources(
    wanted: Resources, *, memory: str = "256Mi", most: str = "2Gi", cpu: str = "100m"
) -> Manifest:
    """Requests and limits. What is asked for in memory is requested and the limit; without it the
    least is requested, and it may take more. No limit of cores: it would only make it wait."""
    given = {"cpu": cpu if wanted.cpu is None else f"{round(wanted.cpu * 1000)}m"}
    asked = memory if wanted.memory is None else str(wanted.memory)
    limits = {"memory": most if wanted.memory is None else asked}
    if wanted.gpu:
        limits["nvidia.com/gpu"] = str(wanted.gpu)
    return {"requests": {**given, "memory": asked}, "limits": limits}


def probes(health: Health, numbers: Mapping[str, int]) -> Manifest:
    """Ready when it answers; started within the time it has; alive while its port is open.

    A process that hangs is not ready and gets no requests; only one that does not even take a
    connection for a minute is started anew, so that a busy model server is left alone.
    """
    port = numbers[health.port]
    check: Manifest = (
        {"httpGet": {"path": health.path, "port": port}}
        if health.path
        else {"tcpSocket": {"port": port}}
    )
    return {
        "startupProbe": {
            **check,
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": max(1, round(health.timeout / 2)),
        },
        "readinessProbe": {
            **check,
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "tcpSocket": {"port": port},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }


def pod(
    containers: Sequence[Manifest],
    *,
    volumes: Sequence[Manifest] = (),
    account: str | None = None,
    placement: Mapping[str, Any] | None = None,
    stop_seconds: float | None = None,
) -> Manifest:
    """A pod's spec. It gets a token of the API only with a service account of its own."""
    found: Manifest = {
        "automountServiceAccountToken": account is not None,
        "enableServiceLinks": False,
        "securityContext": _RESTRICTED_POD,
        "containers": list(containers),
        "volumes": [{"name": "scratch", "emptyDir": {}}, *volumes],
        **(placement or {}),
    }
    if account is not None:
        found["serviceAccountName"] = account
    if stop_seconds is not None:
        found["terminationGracePeriodSeconds"] = round(stop_seconds) + _DRAIN_SECONDS
    return found


def draining(container: Manifest, how: Manifest | None = None) -> Manifest:
    """The same, but it goes on for a while once it is to end: requests are still on their way.

    `how` is a hook that does so; without one it sleeps.
    """
    hook = how or {"sleep": {"seconds": _DRAIN_SECONDS}}
    return {**container, "lifecycle": {"preStop": hook}}


def template(
    all_labels: Mapping[str, str],
    spec: Manifest,
    version: Any = None,
    more_labels: Mapping[str, str] | None = None,
) -> Manifest:
    """A pod's template. A changed `version` means new pods, as for a Secret's content."""
    metadata: Manifest = {"labels": {**all_labels, **(more_labels or {})}}
    if version is not None:
        metadata["annotations"] = {"mlops/content": version}
    return {"metadata": metadata, "spec": spec}


def deployment(
    all_labels: Mapping[str, str], replicas: int, template: Manifest, deadline: float
) -> Manifest:
    """A Deployment's spec: the new pods are ready before an old one goes."""
    chosen = selector(all_labels)
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": chosen},
    }
    pod_spec = template["spec"]
    if replicas > 1:
        pod_spec = {**pod_spec, "topologySpreadConstraints": [spread]}
    return {
        "replicas": replicas,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": round(deadline) + 60,
        "selector": {"matchLabels": chosen},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "template": {**template, "spec": pod_spec},
    }


def stateful_set(all_labels: Mapping[str, str], service: str, template: Manifest) -> Manifest:
    """A StatefulSet's spec: one pod at most has the volume."""
    return {
        "replicas": 1,
        "revisionHistoryLimit": 2,
        "serviceName": service,
        # Else one that has never become ready is not replaced by one that could (kubernetes.io,
        # "StatefulSets", Forced rollback).
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector(all_labels)},
        "template": template,
    }


def service(
    all_labels: Mapping[str, str], numbers: Mapping[str, int], headless: bool = False
) -> Manifest:
    """A Service's spec. A headless one stands for each of its pods by DNS."""
    found: Manifest = {
        "selector": selector(all_labels),
        "ports": [
            {"name": name, "port": number, "targetPort": name} for name, number in numbers.items()
        ],
    }
    if headless:
        found["clusterIP"] = "None"
    return found


def meeting_point(all_labels: Mapping[str, str]) -> Manifest:
    """A Service's spec that gives each worker of a job a name, before it is ready too."""
    return {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(all_labels),
        "ports": [{"name": "leader", "port": LEADER_PORT, "targetPort": LEADER_PORT}],
    }


def one_another(all_labels: Mapping[str, str]) -> list[Manifest]:
    """Ingress of pods that call one another, at ports of their own choice."""
    return [{"from": [{"podSelector": {"matchLabels": selector(all_labels)}}]}]


def job(template: Manifest, timeout: float) -> Manifest:
    """A Job's spec: it runs once; only a pod that the cluster itself took away is replaced."""
    return {
        "backoffLimit": 0,
        "activeDeadlineSeconds": math.ceil(timeout),
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
            ]
        },
        "template": {
            **template,
            "spec": {**template["spec"], "restartPolicy": "Never"},
        },
    }


def together(spec: Manifest, workers: int, subdomain: str) -> Manifest:
    """A Job's spec of several pods that work together (kubernetes.io, "Indexed Job"): they find one
    another by name, and each knows its rank.

    The variables are those of torchrun's options (PET_*) and of PyTorch's `env://`; the address of
    rank 0 is set by `telling`, since a run's name is known only then.
    """
    rank = {
        "fieldRef": {
            "fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        }
    }
    variables = [
        {"name": "MLOPS_SUBDOMAIN", "value": subdomain},
        {"name": "MASTER_PORT", "value": str(LEADER_PORT)},
        {"name": "PET_MASTER_PORT", "value": str(LEADER_PORT)},
        {"name": "WORLD_SIZE", "value": str(workers)},
        {"name": "PET_NNODES", "value": str(workers)},
        {"name": "RANK", "valueFrom": rank},
        {"name": "PET_NODE_RANK", "valueFrom": rank},
    ]
    template = spec["template"]
    (container,) = template["spec"]["containers"]
    return {
        **spec,
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        "template": {
            **template,
            "spec": {
                **template["spec"],
                "subdomain": subdomain,
                "containers": [{**container, "env": [*container["env"], *variables]}],
            },
        },
    }


def cron_job(spec: Manifest, cron: str, timezone: str, suspend: bool = False) -> Manifest:
    """A CronJob's spec: never two at a time, and a few of the last runs are kept."""
    return {
        "schedule": cron,
        "timeZone": timezone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 300,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "suspend": suspend,
        "jobTemplate": {"spec": spec},
    }


def telling(command: Sequence[Any], termination_log: str = "/dev/termination-log") -> list[Any]:
    """The same command; what it leaves in OUTPUTS_FILE becomes the pod's termination message."""
    return ["sh", "-c", _AND_THEN_TELL, termination_log, *command]


def disruption_budget(all_labels: Mapping[str, str]) -> Manifest:
    """A PodDisruptionBudget's spec: one pod at a time."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": selector(all_labels)}}


def calls_label(name: str) -> str:
    """The label of pods that call the service called `name`."""
    return f"calls.mlops/{name}"


WATCHES = {"mlops/watches": "true"}
"""The label of pods that look at every service."""


def deny_all() -> Manifest:
    """A NetworkPolicy's spec: what no other policy allows is not let through."""
    return {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def network_policy(
    all_labels: Mapping[str, str],
    ingress: Sequence[Manifest],
    calls: Sequence[tuple[Mapping[str, str], Sequence[int]]],
    *,
    anywhere: bool = False,
) -> Manifest:
    """A NetworkPolicy's spec: who may call these pods, and whom they may call.

    `calls` are the labels of pods, and the ports there. Names are resolved by everybody.
    """
    egress: list[Manifest] = [{"ports": [_port(53, "UDP"), _port(53)]}]
    egress += [
        {
            "to": [{"podSelector": {"matchLabels": dict(labels)}}],
            "ports": [_port(number) for number in numbers],
        }
        for labels, numbers in calls
    ]
    if anywhere:
        egress.append({})
    return {
        "podSelector": {"matchLabels": selector(all_labels)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": list(ingress),
        "egress": egress,
    }


def callers(
    name: str,
    numbers: Sequence[int],
    beside: Sequence[str] | None,
    *,
    routed: bool = False,
) -> list[Manifest]:
    """Who may call a service: its callers and those that watch all; where it is public every pod of
    its namespace, and namespaces and addresses `beside`; where it is `routed` the proxies."""
    peers: list[Manifest] = [
        {"podSelector": {"matchLabels": {calls_label(name): "true"}}},
        {"podSelector": {"matchLabels": WATCHES}},
    ]
    if routed:
        peers.append({"podSelector": {"matchLabels": {"app.kubernetes.io/component": "route"}}})
    if beside is not None:
        peers = [{"podSelector": {}}]
        peers += [
            {"ipBlock": {"cidr": each}}
            if "/" in each
            else {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": each}}}
            for each in beside
        ]
    return [{"from": peers, "ports": [_port(number) for number in numbers]}]


def _port(number: int, protocol: str = "TCP") -> Manifest:
    return {"port": number, "protocol": protocol}


def limit_range() -> Manifest:
    """A LimitRange's spec: what a container of somebody else's gets that asks for nothing, since a
    quota refuses it otherwise."""
    return {
        "limits": [
            {
                "type": "Container",
                "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
                "default": {"memory": "1Gi"},
            }
        ]
    }


def claim(size: str, storage_class: str | None) -> Manifest:
    """A PersistentVolumeClaim's spec."""
    found: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if storage_class is not None:
        found["storageClassName"] = storage_class
    return found
