"""Routes: an HTTPRoute of the configured Gateway, or proxies that the stack provisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pulumi

from ..port import (
    Capability,
    EnvironmentHandle,
    EnvironmentSpec,
    RouteHandle,
    RouteSpec,
    runtime_folder,
    unsupported,
)
from . import gateway, proxies
from .delivery import Delivery
from .handles import WorkloadHandle, known_after
from .ports import PROXY_HTTP_PORT, PROXY_METRICS_PORT
from .settings import GatewaySettings

_READY_SECONDS = 180

EnvironmentRequest = Callable[[str, EnvironmentSpec, pulumi.ResourceOptions], EnvironmentHandle]


@dataclass(frozen=True, kw_only=True)
class _RouteRequest:
    """One request for a route."""

    delivery: Delivery
    name: str
    spec: RouteSpec
    opts: pulumi.ResourceOptions
    workloads: dict[str, WorkloadHandle]

    @property
    def table(self) -> dict[str, Any]:
        """The traffic table: Service, port, weight and health check of each backend."""
        return {
            key: {
                "service": workload.service_name,
                "port": workload.ports["http"],
                "weight": self.spec.backends[key].weight,
                "check_path": self.spec.backends[key].check_path,
            }
            for key, workload in self.workloads.items()
        }

    @property
    def after_services(self) -> pulumi.ResourceOptions:
        """The options of objects that change once every service is ready."""
        ready = [workload.ready for workload in self.workloads.values()]
        return pulumi.ResourceOptions.merge(self.opts, pulumi.ResourceOptions(depends_on=ready))


def route(
    delivery: Delivery,
    environment: EnvironmentRequest,
    name: str,
    spec: RouteSpec,
    opts: pulumi.ResourceOptions,
) -> RouteHandle:
    """Create the objects of a route. `environment` requests the image of the proxies."""
    if spec.analysis is not None and spec.analysis.seconds:
        raise unsupported(
            name, "analysis", Capability.ANALYSIS, "remove it, and watch the error rate"
        )
    workloads = {}
    for key, backend in spec.backends.items():
        if not isinstance(backend.service, WorkloadHandle):
            raise pulumi.RunError(f"{name}: the services of a route must belong to the same target")
        workloads[key] = backend.service
    request = _RouteRequest(delivery=delivery, name=name, spec=spec, opts=opts, workloads=workloads)
    configured = delivery.cluster.settings.gateway
    if configured is not None:
        return _gateway_route(request, configured)
    return _proxy_route(request, environment)


def _gateway_route(request: _RouteRequest, configured: GatewaySettings) -> RouteHandle:
    native, url = gateway.http_route(
        request.delivery.cluster, configured, request.name, request.spec,
        table=request.table,
        pod_labels={key: each.labels for key, each in request.workloads.items()},
        after_services=request.after_services, opts=request.opts,
    )  # fmt: skip
    ready = request.delivery.ready(request.name, native, request.opts, timeout=_READY_SECONDS)
    return RouteHandle(url=known_after(ready, url), metrics_url=None, native=native, ready=ready)


def _proxy_route(request: _RouteRequest, environment: EnvironmentRequest) -> RouteHandle:
    if request.spec.hosts:
        raise pulumi.RunError(
            f"{request.name}: hosts is only for endpoints behind a Gateway: remove it, since the "
            "proxies accept every host name, or set mlops:kubernetes.gateway"
        )
    delivery, name, table = request.delivery, request.name, request.table
    cluster = delivery.cluster
    if cluster.router is None:
        # One image for all routes. It has no parent, since the endpoint that first requests it may
        # be removed.
        cluster.router = environment(
            proxies.ENVIRONMENT,
            EnvironmentSpec(
                requirements=proxies.REQUIREMENTS,
                code={"pulumi_mlops/runtime": runtime_folder()},
            ),
            pulumi.ResourceOptions(),
        )
    native, config_map = proxies.deployment(
        cluster, name, request.spec, table, cluster.router,
        after_services=request.after_services, opts=request.opts,
    )  # fmt: skip
    ready = delivery.ready(
        name, native,
        pulumi.ResourceOptions.merge(
            request.opts, pulumi.ResourceOptions(depends_on=[config_map])
        ),
        timeout=_READY_SECONDS, table=table,
    )  # fmt: skip
    host, metrics_host = cluster.address(name), cluster.address(proxies.metrics_name(name))
    return RouteHandle(
        url=known_after(ready, f"http://{host}:{request.spec.port or PROXY_HTTP_PORT}"),
        metrics_url=known_after(ready, f"http://{metrics_host}:{PROXY_METRICS_PORT}/metrics"),
        native=native,
        ready=ready,
    )
