"""Jobs with one pod or several workers, and scheduled jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .metadata import Manifest, selector

# The content of the termination log becomes the pod's termination message, at most 4096 bytes. The
# log is a mount, which a program cannot replace, so the outputs file is copied into it. Signals are
# passed on. A signal interrupts `wait`, which then returns its number instead of the exit code of
# the program, so `wait` is repeated. It returns 127 once the program has been waited for.
_ENTRYPOINT_SCRIPT = """\
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
"""Port of rank 0 of a distributed run. It is the default of PyTorch."""


def headless_service(all_labels: Mapping[str, str]) -> Manifest:
    """The spec of a Service that gives each worker of a job a DNS name, ready or not."""
    return {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(all_labels),
        "ports": [{"name": "leader", "port": LEADER_PORT, "targetPort": LEADER_PORT}],
    }


def job(template: Manifest, timeout: float) -> Manifest:
    """The spec of a Job that runs once. A pod is replaced only if the cluster evicted it."""
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


def indexed_job(spec: Manifest, workers: int, subdomain: str) -> Manifest:
    """The spec of a Job with several workers (kubernetes.io, "Indexed Job"), each with its rank.

    The variables are those of torchrun's options (PET_*) and of PyTorch's `env://`. The script of
    `entrypoint` sets the address of rank 0, which contains the name of the run.
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
    """The spec of a CronJob. Runs do not overlap, and the last three of each outcome are kept."""
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


def entrypoint(command: Sequence[Any], termination_log: str = "/dev/termination-log") -> list[Any]:
    """`command` in a script that turns OUTPUTS_FILE into the termination message of the pod."""
    return ["sh", "-c", _ENTRYPOINT_SCRIPT, termination_log, *command]
