"""The adapter of the Kubernetes target: it answers requests of the port with Kubernetes objects."""

from __future__ import annotations

from functools import cached_property

import pulumi

from ...plugin import sdk as plugin_sdk
from ...spec import SecretKeyRef
from ..port import (
    EnvironmentHandle,
    EnvironmentSpec,
    FetchedFilesHandle,
    FetchedFilesSpec,
    JobHandle,
    JobSpec,
    RouteHandle,
    RouteSpec,
    ScheduleSpec,
    SecretSpec,
    ServiceHandle,
    ServiceSpec,
    VolumeHandle,
)
from ..shared_resources import SharedRequests
from . import environments, fetched_files, jobs, routes, services, volumes
from .cluster import Cluster, cluster
from .delivery import Delivery


class KubernetesTarget(SharedRequests):
    """The adapter of a stack that an update applies to a cluster."""

    @cached_property
    def _cluster(self) -> Cluster:
        # Created at the first use, since requests such as `bucket` need no namespace.
        return cluster()

    @cached_property
    def _delivery(self) -> Delivery:
        return Delivery(self._cluster)

    def environment(
        self, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
    ) -> EnvironmentHandle:
        return environments.image(self._cluster.settings, name, spec, opts)

    def service(self, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> ServiceHandle:
        return services.service(self._delivery, name, spec, opts)

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> JobHandle:
        return jobs.job(self._delivery, name, spec, opts)

    def schedule(
        self, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions
    ) -> ServiceHandle | None:
        jobs.schedule(self._cluster, name, spec, opts)
        return None

    def route(self, name: str, spec: RouteSpec, opts: pulumi.ResourceOptions) -> RouteHandle:
        return routes.route(self._delivery, self.environment, name, spec, opts)

    def secret(
        self, name: str, spec: SecretSpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        native = plugin_sdk.GeneratedSecret(name, {"length": spec.length}, opts)
        return pulumi.Output.secret(native.value)

    def existing_secret(self, ref: SecretKeyRef) -> pulumi.Output[str]:
        return self._cluster.existing_secret(ref)

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> VolumeHandle:
        return volumes.volume(self._cluster, name, retain, opts)

    def fetched_files(
        self, name: str, spec: FetchedFilesSpec, opts: pulumi.ResourceOptions
    ) -> FetchedFilesHandle:
        return fetched_files.fetched_files(self._delivery, name, spec, opts)

    def logs_dir(self) -> str | None:
        return None
