"""Kubernetes objects as plain values: what a service, a job or a route is made of.

Pure functions of what was asked, without Pulumi: a test and `kubernetes-validate` can look at all
of it. Values may be Pulumi's Outputs; nothing here reads one.
"""

from .jobs import LEADER_PORT, cron_job, job, meeting_point, telling, together
from .metadata import Manifest, labels, selector
from .network import WATCHES, callers, calls_label, deny_all, let_in, network_policy, one_another
from .pods import (
    DATA_DIR,
    FILES_DIR,
    FIRST_PORT,
    OUTPUTS_FILE,
    SCRATCH_DIR,
    USER,
    container,
    draining,
    environment,
    pod,
    ports,
    preparing,
    probes,
    resources,
    service_variables,
    template,
    until_all_answer,
)
from .services import (
    autoscaler,
    claim,
    deployment,
    disruption_budget,
    limit_range,
    service,
    stateful_set,
)

__all__ = [
    "DATA_DIR",
    "FILES_DIR",
    "FIRST_PORT",
    "LEADER_PORT",
    "OUTPUTS_FILE",
    "SCRATCH_DIR",
    "USER",
    "WATCHES",
    "Manifest",
    "autoscaler",
    "callers",
    "calls_label",
    "claim",
    "container",
    "cron_job",
    "deny_all",
    "deployment",
    "disruption_budget",
    "draining",
    "environment",
    "job",
    "labels",
    "let_in",
    "limit_range",
    "meeting_point",
    "network_policy",
    "one_another",
    "pod",
    "ports",
    "preparing",
    "probes",
    "resources",
    "selector",
    "service",
    "service_variables",
    "stateful_set",
    "telling",
    "template",
    "together",
    "until_all_answer",
]
