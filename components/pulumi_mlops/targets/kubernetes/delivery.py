"""Delivery of objects to the cluster: an update applies them and waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from ...plugin import sdk as plugin_sdk
from ..port import CopySpec, JobSpec, ServiceSpec
from . import manifests, sdk
from .cluster import Cluster
from .handles import metadata_field


class Delivery:
    """Delivery by the update itself. `rendered.RenderedDelivery` overrides it for `render_to`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def init_containers(self, spec: ServiceSpec | JobSpec) -> list[manifests.Manifest]:
        """The init containers of a pod. Empty: the update creates callees before their callers."""
        return []

    def run_identity(self, program: Sequence[Any], spec: manifests.Manifest) -> Any:
        """The value whose change starts a new run of a job. Here: only its program."""
        return program

    def replicas(self, spec: ServiceSpec) -> int | None:
        """The replicas in the spec of a Deployment."""
        return spec.replicas

    def secret(
        self,
        name: str,
        object_name: str,
        content: Mapping[str, pulumi.Output[str]],
        labels: Mapping[str, str],
        opts: pulumi.ResourceOptions,
    ) -> pulumi.Resource:
        """Create a Secret on the cluster."""
        return self.cluster.make(
            "Secret", name, opts, labels=labels, object_name=object_name, string_data=content
        )

    def object_folder(
        self, name: str, folder: CopySpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Resource | None:
        """The resource that deletes the objects of `folder` when nothing uses them."""
        variables = {**folder.env, **folder.secrets}
        return plugin_sdk.ObjectFolder(
            name,
            {
                "uri": folder.uri,
                "endpointUrl": variables.get("AWS_ENDPOINT_URL"),
                "region": variables.get("AWS_DEFAULT_REGION"),
                "accessKeyId": variables.get("AWS_ACCESS_KEY_ID"),
                "secretAccessKey": variables.get("AWS_SECRET_ACCESS_KEY"),
            },
            opts,
        )

    def ready(
        self,
        name: str,
        native: pulumi.CustomResource,
        opts: pulumi.ResourceOptions,
        *,
        timeout: float,
        table: Mapping[str, Any] | None = None,
        autoscaled: Mapping[str, Any] | None = None,
    ) -> pulumi.Resource:
        """The resource that is created once a workload is ready.

        `table` is the traffic table that proxies must have. `autoscaled` has the inputs
        `replicas` and `content` that are compared instead of the generation of the workload.
        """
        metadata: pulumi.Output[Any] = pulumi.get(native, "metadata")

        def field(key: str) -> pulumi.Output[Any]:
            return metadata.apply(lambda value: metadata_field(value, key))

        scale = autoscaled or {}
        return sdk.Ready(
            f"{name}-ready",
            {
                "kind": pulumi.get(native, "kind"),
                "namespace": self.cluster.namespace,
                "name": field("name"),
                # An autoscaler changes the generation each time that it scales.
                "generation": None if autoscaled else field("generation"),
                "replicas": scale.get("replicas"),
                "content": scale.get("content"),
                "uid": field("uid"),
                "cluster": self.cluster.facts(),
                "timeoutSeconds": timeout,
                "table": table,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[native])),
        )

    def outputs(self, ready: pulumi.Resource) -> pulumi.Output[dict[str, Any]]:
        """The outputs of a job's last run."""
        outputs: pulumi.Output[dict[str, Any]] = pulumi.get(ready, "outputs")
        return outputs
