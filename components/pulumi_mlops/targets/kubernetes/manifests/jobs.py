"""Jobs: alone, several that work together, and by the clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .metadata import Manifest, selector

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
LEADER_PORT = 29500
"""Where rank 0 of a distributed run listens; PyTorch's own default."""


def meeting_point(all_labels: Mapping[str, str]) -> Manifest:
    """A Service's spec that gives each worker of a job a name, before it is ready too."""
    return {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(all_labels),
        "ports": [{"name": "leader", "port": LEADER_PORT, "targetPort": LEADER_PORT}],
    }


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
