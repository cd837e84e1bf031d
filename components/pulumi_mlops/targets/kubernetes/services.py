"""Services: a Deployment, or a StatefulSet for a service with data, and their related objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from ..port import Capability, ServiceSpec, unsupported
from . import fetched_files, manifests, names
from .delivery import Delivery
from .handles import (
    WorkloadHandle,
    callee_ports,
    calls_labels,
    environment_resources,
    image_reference,
    known_after,
    short_digest,
)
from .programs import (
    checked_command,
    checked_env,
    companion_name,
    secret_objects,
    service_environment,
)
from .volumes import volumes_and_mounts


@dataclass(frozen=True, kw_only=True)
class _ServiceRequest:
    """One request for a service, with the values that all of its objects share."""

    delivery: Delivery
    name: str
    spec: ServiceSpec
    opts: pulumi.ResourceOptions
    labels: Mapping[str, str]
    numbers: Mapping[str, int]
    """The port numbers by name."""

    @property
    def max_replicas(self) -> int:
        return self.spec.max_replicas or self.spec.replicas

    @property
    def public_ports(self) -> dict[str, int]:
        internal = self.spec.internal_ports
        return {port: number for port, number in self.numbers.items() if port not in internal}

    def make(self, kind: str, suffix: str, spec: manifests.Manifest) -> pulumi.CustomResource:
        """Create an object with the name of the service."""
        return self.delivery.cluster.make(
            kind, f"{self.name}-{suffix}", self.opts, labels=self.labels,
            object_name=names.label(self.name), spec=spec,
        )  # fmt: skip


def service(
    delivery: Delivery, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions
) -> WorkloadHandle:
    """Create the objects of a service. The handle is ready once the pods of this update are."""
    request = _ServiceRequest(
        delivery=delivery,
        name=name,
        spec=spec,
        opts=opts,
        labels=delivery.cluster.labels(name, spec.component),
        numbers=manifests.port_numbers(spec.ports),
    )
    if spec.data is not None and request.max_replicas > 1:
        raise unsupported(
            name, f"data of {request.max_replicas} replicas", Capability.SHARED_DATA,
            "set `replicas` to 1",
        )  # fmt: skip
    secrets, digest = secret_objects(
        delivery, name, secrets={**spec.secrets, **fetched_files.secret_keys(spec)},
        files=spec.files, labels=request.labels, opts=opts,
    )  # fmt: skip
    template = _pod_template(request, None if spec.rereads_files else digest)
    exposed = request.make(
        "Service", "service",
        manifests.service(request.labels, request.public_ports, headless=spec.routed),
    )  # fmt: skip
    native = _workload(request, template, [*secrets, exposed, *fetched_files.dependencies(spec)])
    _network_policy(request)
    if request.max_replicas > 1:
        request.make("PodDisruptionBudget", "budget", manifests.disruption_budget(request.labels))
    ready = _ready(request, native, template)
    host = delivery.cluster.address(name)
    addresses = {port: [f"{host}:{number}"] for port, number in request.public_ports.items()}
    first = request.numbers.get("http") or next(iter(request.public_ports.values()))
    return WorkloadHandle(
        url=known_after(ready, f"http://{host}:{first}"),
        addresses=known_after(ready, addresses),
        native=native,
        ready=ready,
        service_name=names.label(name),
        ports=request.public_ports,
        labels=manifests.selector(request.labels),
    )


def _pod_template(
    request: _ServiceRequest, digest: pulumi.Output[str] | None
) -> manifests.Manifest:
    """The template of the pods. A changed `digest` replaces them."""
    name, spec, cluster = request.name, request.spec, request.delivery.cluster
    volumes, mounts = volumes_and_mounts(name, spec)
    container = manifests.container(
        "main",
        image_reference(spec.environment),
        checked_command(name, spec.command),
        manifests.environment(
            checked_env(name, spec.env),
            list(spec.secrets),
            companion_name(name, "secrets"),
            service_environment(spec, request.numbers, cluster.address(name)),
        ),
        numbers=request.numbers,
        mounts=mounts,
        resources=manifests.resources(spec.resources),
    )
    container |= manifests.probes(spec.health, request.numbers)
    return manifests.template(
        request.labels,
        manifests.pod(
            [manifests.with_pre_stop(container)],
            init_containers=[
                *request.delivery.init_containers(spec),
                *fetched_files.init_containers(name, spec),
            ],
            volumes=volumes,
            placement=cluster.settings.placement.manifest(),
            stop_seconds=spec.stop_seconds,
        ),
        digest,
        calls_labels(spec.calls) | (manifests.WATCHER_LABELS if spec.watches else {}),
    )


def _workload(
    request: _ServiceRequest, template: manifests.Manifest, dependencies: list[pulumi.Resource]
) -> pulumi.CustomResource:
    """The Deployment, or the StatefulSet of a service with data."""
    name, spec, labels = request.name, request.spec, request.labels
    depends_on = [*dependencies, *environment_resources(spec.environment)]
    opts = pulumi.ResourceOptions.merge(request.opts, pulumi.ResourceOptions(depends_on=depends_on))
    if spec.data is not None:
        return request.delivery.cluster.make(
            "StatefulSet", name, opts, labels=labels,
            object_name=names.label(name, names.MAX_STATEFUL_SET_LENGTH),
            spec=manifests.stateful_set(labels, names.label(name), template),
        )  # fmt: skip
    if spec.max_replicas is not None:
        # pulumi-kubernetes omits an ignored field that another manager owns, so that an update
        # keeps the number of replicas that the autoscaler chose.
        opts = pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(ignore_changes=["spec.replicas"])
        )
    return request.delivery.cluster.make(
        "Deployment", name, opts, labels=labels,
        spec=manifests.deployment(
            labels, request.delivery.replicas(spec), template, spec.health.timeout,
            replicated=request.max_replicas > 1,
        ),
    )  # fmt: skip


def _network_policy(request: _ServiceRequest) -> None:
    spec, cluster = request.spec, request.delivery.cluster
    ingress = manifests.ingress_rules(
        names.label(request.name),
        list(request.public_ports.values()),
        cluster.settings.allow_from if spec.public else None,
        routed=spec.routed,
    )
    request.make(
        "NetworkPolicy", "policy",
        manifests.network_policy(
            request.labels, ingress, callee_ports(spec.calls),
            any_egress=spec.calls_outside or spec.watches,
        ),
    )  # fmt: skip


def _ready(
    request: _ServiceRequest, native: pulumi.CustomResource, template: manifests.Manifest
) -> pulumi.Resource:
    """The resource that waits for the pods, after the autoscaler if there is one."""
    name, spec, opts = request.name, request.spec, request.opts
    timeout = spec.health.timeout + 60
    if spec.data is not None or spec.max_replicas is None:
        return request.delivery.ready(name, native, opts, timeout=timeout)
    scaler = request.delivery.cluster.make(
        "HorizontalPodAutoscaler", f"{name}-scaler",
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[native])),
        labels=request.labels, object_name=names.label(name),
        spec=manifests.autoscaler(names.label(name), spec.replicas, spec.max_replicas),
    )  # fmt: skip
    autoscaled: dict[str, Any] = {"replicas": spec.replicas, "content": short_digest(template)}
    return request.delivery.ready(
        name, native,
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[scaler])),
        timeout=timeout, autoscaled=autoscaled,
    )  # fmt: skip
