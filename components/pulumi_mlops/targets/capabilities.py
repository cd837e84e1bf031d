"""The optional requests of the port. This module does not import Pulumi."""

from __future__ import annotations

from enum import StrEnum


class Capability(StrEnum):
    """A request that a target may refuse. A target package lists the capabilities it supports."""

    ANALYSIS = "analysis of the first requests"
    """`RouteSpec.analysis` with more than 0 seconds."""
    AUTOSCALING = "autoscaling of services"
    """`ServiceSpec.max_replicas`."""
    DISTRIBUTED_JOBS = "jobs with several workers"
    """`JobSpec.workers` above 1."""
    EXISTING_SECRETS = "existing Secrets"
    """`Target.existing_secret`."""
    FETCHED_FILES = "files fetched for services"
    """`Target.fetched_files`."""
    GPUS = "GPUs"
    """`Resources.gpu` above 0."""
    PUBLIC_HOSTS = "public host names of routes"
    """`RouteSpec.hosts`."""
    REPLICAS = "services with several replicas"
    """`ServiceSpec.replicas` above 1."""
    ROUTES = "routes"
    """`Target.route`."""
    SCHEDULES = "schedules"
    """`Target.schedule`."""
    SHARED_DATA = "data shared by several replicas"
    """`ServiceSpec.data` with `replicas` above 1."""
    SHARED_PORTS = "fixed ports of several replicas"
    """A number in `ServiceSpec.ports` with `replicas` above 1, or of a service behind a route."""
