"""Specs of Kubernetes objects as plain values.

Pure functions without resources, so that tests and `kubernetes-validate` can check every object.
Values may be Outputs of Pulumi. No function here reads one.
"""

from .jobs import LEADER_PORT, cron_job, entrypoint, headless_service, indexed_job, job
from .metadata import Manifest, labels, selector
from .network import (
    WATCHER_LABELS,
    allow_ingress,
    calls_label,
    deny_all,
    ingress_rules,
    network_policy,
    peer_ingress,
)
from .pods import (
    DATA_DIR,
    FILES_DIR,
    FIRST_PORT,
    OUTPUTS_FILE,
    SCRATCH_DIR,
    USER,
    base_environment,
    container,
    environment,
    init_container,
    pod,
    port_numbers,
    probes,
    resources,
    template,
    wait_for_addresses,
    with_pre_stop,
)
from .services import (
    autoscaler,
    deployment,
    disruption_budget,
    limit_range,
    service,
    stateful_set,
    volume_claim,
)

__all__ = [
    "DATA_DIR",
    "FILES_DIR",
    "FIRST_PORT",
    "LEADER_PORT",
    "OUTPUTS_FILE",
    "SCRATCH_DIR",
    "USER",
    "WATCHER_LABELS",
    "Manifest",
    "allow_ingress",
    "autoscaler",
    "base_environment",
    "calls_label",
    "container",
    "cron_job",
    "deny_all",
    "deployment",
    "disruption_budget",
    "entrypoint",
    "environment",
    "headless_service",
    "indexed_job",
    "ingress_rules",
    "init_container",
    "job",
    "labels",
    "limit_range",
    "network_policy",
    "peer_ingress",
    "pod",
    "port_numbers",
    "probes",
    "resources",
    "selector",
    "service",
    "stateful_set",
    "template",
    "volume_claim",
    "wait_for_addresses",
    "with_pre_stop",
]
