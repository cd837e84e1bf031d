"""Jobs and schedules. A run is a Job. A job without `run_on_change` is a suspended CronJob, from
which runs are created."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from ..port import JobSpec, ScheduleSpec
from . import manifests, names
from .cluster import Cluster
from .delivery import Delivery
from .handles import (
    ClusterJobHandle,
    callee_ports,
    calls_labels,
    environment_resources,
    image_reference,
    short_digest,
)
from .programs import checked_command, checked_env, companion_name, secret_objects

_MAX_CRON_JOB_NAME = 52
"""Kubernetes adds eleven characters to the name of a CronJob for the names of its Jobs."""
_NEVER = "0 0 1 1 *"
"""The schedule of a suspended CronJob. Kubernetes requires one."""


def job(
    delivery: Delivery, name: str, spec: JobSpec, opts: pulumi.ResourceOptions
) -> ClusterJobHandle:
    """Create the objects of a job."""
    cluster = delivery.cluster
    labels = cluster.labels(name, "job")
    command = checked_command(name, spec.command)
    dependencies = _variables(delivery, name, spec, labels, opts)
    job_spec = _job_spec(delivery, name, spec, command, labels)
    ingress: list[manifests.Manifest] = []
    if spec.workers > 1:
        ingress = manifests.peer_ingress(labels)
        dependencies.append(
            cluster.make(
                "Service", f"{name}-workers", opts, labels=labels,
                object_name=names.label(name), spec=manifests.headless_service(labels),
            )
        )  # fmt: skip
    cluster.make(
        "NetworkPolicy", f"{name}-policy", opts, labels=labels, object_name=names.label(name),
        spec=manifests.network_policy(labels, ingress, callee_ports(spec.calls), any_egress=True),
    )  # fmt: skip
    dependencies += environment_resources(spec.environment)
    after = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=dependencies))
    if not spec.run_on_change:
        native = cluster.make(
            "CronJob", name, after, labels=labels,
            object_name=names.label(name, _MAX_CRON_JOB_NAME),
            spec=manifests.cron_job(job_spec, _NEVER, "UTC", suspend=True),
        )  # fmt: skip
        no_outputs: pulumi.Output[dict[str, Any]] = pulumi.Output.from_input({})
        return ClusterJobHandle(
            name=name, outputs=no_outputs, native=native, ready=native, spec=job_spec
        )
    # A Job is immutable. A changed program therefore creates a Job with another name.
    program = [image_reference(spec.environment), spec.workers, *command]
    digest = short_digest(delivery.run_identity(program, job_spec))
    native = cluster.make(
        "Job", name, after, labels=labels,
        object_name=pulumi.Output.concat(names.label(name, 50), "-", digest),
        spec=job_spec,
    )  # fmt: skip
    ready = delivery.ready(name, native, opts, timeout=spec.timeout + 60)
    return ClusterJobHandle(
        name=name, outputs=delivery.outputs(ready), native=native, ready=ready, spec=job_spec
    )


def schedule(cluster: Cluster, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions) -> None:
    """Create a CronJob that runs a job on a schedule."""
    if not isinstance(spec.job, ClusterJobHandle):
        raise pulumi.RunError(f"{name}: the job of a schedule must belong to the same target")
    cluster.make(
        "CronJob", name,
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[spec.job.ready])),
        labels=cluster.labels(name, "schedule"),
        object_name=names.label(name, _MAX_CRON_JOB_NAME),
        spec=manifests.cron_job(dict(spec.job.spec), spec.cron, spec.timezone),
    )  # fmt: skip


def _variables(
    delivery: Delivery,
    name: str,
    spec: JobSpec,
    labels: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> list[pulumi.Resource]:
    """The Secret and the ConfigMap with the variables of the job.

    They are separate objects, so that a changed address or credential starts no run.
    """
    objects, _ = secret_objects(
        delivery, name, secrets=spec.secrets, files={}, labels=labels, opts=opts
    )
    if spec.env:
        objects.append(
            delivery.cluster.make(
                "ConfigMap", f"{name}-env", opts, labels=labels,
                object_name=companion_name(name, "env"), data=checked_env(name, spec.env),
            )
        )  # fmt: skip
    return objects


def _job_spec(
    delivery: Delivery,
    name: str,
    spec: JobSpec,
    command: Sequence[pulumi.Input[str]],
    labels: Mapping[str, str],
) -> manifests.Manifest:
    """The spec of the Job of one run."""
    container = manifests.container(
        "main", image_reference(spec.environment), manifests.entrypoint(command),
        [
            {"name": "MLOPS_OUTPUTS", "value": manifests.OUTPUTS_FILE},
            {"name": "HOME", "value": manifests.SCRATCH_DIR},
        ],
        resources=manifests.resources(
            spec.resources, memory="512Mi", memory_limit="4Gi", cpu="500m"
        ),
    )  # fmt: skip
    container["envFrom"] = [
        *([{"secretRef": {"name": companion_name(name, "secrets")}}] if spec.secrets else []),
        *([{"configMapRef": {"name": companion_name(name, "env")}}] if spec.env else []),
    ]
    settings = delivery.cluster.settings
    placement = settings.training_placement or settings.placement
    pod = manifests.pod(
        [container],
        init_containers=delivery.init_containers(spec),
        placement=placement.manifest(),
    )
    template = manifests.template(labels, pod, extra_labels=calls_labels(spec.calls))
    manifest = manifests.job(template, spec.timeout)
    if spec.workers > 1:
        return manifests.indexed_job(manifest, spec.workers, names.label(name))
    return manifest
