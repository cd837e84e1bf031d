"""The adapter with `render_to`: manifests are rendered into files, which another tool applies.

The update waits for nothing, and no file contains a secret. Programs in the cluster do what the
resource plugin does for an applied stack, such as creating a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import pulumi
from pulumi.resource import create_urn

from ...spec import SecretKeyRef
from ..port import (
    BUCKET_CLIENT,
    BucketHandle,
    BucketSpec,
    CopySpec,
    EnvironmentSpec,
    JobSpec,
    ModelVersionHandle,
    ModelVersionSpec,
    ServiceSpec,
    runtime_folder,
)
from . import manifests, names, sdk
from .adapter import KubernetesTarget
from .delivery import Delivery
from .handles import image_reference, workloads
from .programs import companion_name


class RenderedDelivery(Delivery):
    """Delivery as files in a folder."""

    def init_containers(self, spec: ServiceSpec | JobSpec) -> list[manifests.Manifest]:
        """Init containers that wait for the services and buckets that the program uses."""
        callees = workloads(spec.calls)
        containers = []
        if callees:
            namespace = self.cluster.namespace
            addresses = [
                f"{each.service_name}.{namespace}.svc:{next(iter(each.ports.values()))}"
                for each in callees
            ]
            containers.append(
                manifests.init_container(
                    "wait",
                    image_reference(spec.environment),
                    manifests.wait_for_addresses(addresses),
                )
            )
        if isinstance(spec, JobSpec):
            # A job does not wait for buckets, since it calls a service that does. The init
            # container has the image of the bucket's job, and each change of a rendered Job starts
            # a run.
            return containers
        callee_names = {each.service_name for each in callees}
        for stores, container in self.cluster.buckets:
            if stores & callee_names if stores else spec.calls_outside:
                containers.append(container)
        return containers

    def run_identity(self, program: Sequence[Any], spec: manifests.Manifest) -> Any:
        """The whole spec: the tool that applies the files cannot replace a Job."""
        return spec

    def replicas(self, spec: ServiceSpec) -> int | None:
        """None with an autoscaler, so that the tool that applies the files keeps its number."""
        return spec.replicas if spec.max_replicas is None else None

    def secret(
        self,
        name: str,
        object_name: str,
        content: Mapping[str, pulumi.Output[str]],
        labels: Mapping[str, str],
        opts: pulumi.ResourceOptions,
    ) -> pulumi.Resource:
        """A Secret in the state, which `mlops secrets` prints."""
        self.cluster.refuse_namesake("Secret", object_name)
        return sdk.StoredSecret(
            name,
            {
                "namespace": self.cluster.namespace,
                "name": object_name,
                "labels": dict(labels),
                "stringData": content,
            },
            opts,
        )

    def object_folder(
        self, name: str, folder: CopySpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Resource | None:
        """None: nothing deletes the objects, since the update does not access the store."""
        return None

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
        """The rendered object itself, since the update does not wait."""
        return native

    def outputs(self, ready: pulumi.Resource) -> pulumi.Output[dict[str, Any]]:
        """Empty, since the job runs after the update."""
        return pulumi.Output.from_input({})


class RenderedTarget(KubernetesTarget):
    """The adapter of a stack with `render_to`."""

    @cached_property
    def _delivery(self) -> Delivery:
        return RenderedDelivery(self._cluster)

    def existing_secret(self, ref: SecretKeyRef) -> pulumi.Output[str]:
        """Raises pulumi.RunError, since no cluster is accessed."""
        raise pulumi.RunError(
            f"Secret {ref.name}: secret_key_ref reads existing Secrets of the cluster, but with "
            "mlops:kubernetes.render_to no cluster is accessed: set the value, encrypted by "
            "`pulumi config set --secret --path`, or remove render_to"
        )

    def bucket(self, name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> BucketHandle:
        """A Job that creates and configures the bucket. Nothing deletes it."""
        settings = _bucket_settings(name, spec)
        # The URN that the bucket has in an applied stack. The bucket is tagged with its owner, so
        # that a bucket of an applied stack can be used. Not the `urn` Output of the component,
        # which also depends on its children, this job included.
        urn = create_urn(name, "mlops:s3:Bucket", opts.parent).future()
        environment = self.environment(
            f"{name}-environment",
            EnvironmentSpec(
                requirements=[BUCKET_CLIENT], code={"pulumi_mlops/runtime": runtime_folder()}
            ),
            opts,
        )
        program = ["python", "-m", "pulumi_mlops.runtime.s3"]
        keys = {
            "AWS_ACCESS_KEY_ID": spec.access_key_id,
            "AWS_SECRET_ACCESS_KEY": spec.secret_access_key,
        }
        secrets = {key: value for key, value in keys.items() if value is not None}
        job = self.job(
            name,
            JobSpec(
                command=[*program, pulumi.Output.json_dumps({**settings, "urn": urn})],
                environment=environment,
                secrets=secrets,
                calls=spec.calls,
            ),
            opts,
        )
        location = {key: settings[key] for key in ("bucket", "endpointUrl", "region")}
        self._cluster.buckets.append(
            (
                frozenset(each.service_name for each in workloads(spec.calls)),
                manifests.init_container(
                    names.label(f"wait-for-{name}"),
                    image_reference(environment),
                    [*program, "--wait", pulumi.Output.json_dumps(location)],
                    secret=companion_name(name, "secrets") if secrets else None,
                ),
            )
        )
        return BucketHandle(uri=pulumi.Output.concat("s3://", spec.bucket), native=job.native)

    def model_version(
        self, name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions
    ) -> ModelVersionHandle:
        """No resource: the version is looked up when its files are fetched."""
        unknown = pulumi.Output.from_input("")
        return ModelVersionHandle(example=unknown, source=unknown, ready=None)


def _bucket_settings(name: str, spec: BucketSpec) -> dict[str, Any]:
    """The settings of the bucket. Raises pulumi.RunError if a known value is invalid."""
    from ...plugin.s3_inputs import BucketInputs, broken_rules  # noqa: PLC0415
    from ...plugin.values import UNKNOWN  # noqa: PLC0415

    settings = {
        "bucket": spec.bucket,
        "endpointUrl": spec.endpoint_url,
        "region": spec.region,
        "versioning": spec.versioning,
        "lifecycle": None if spec.lifecycle is None else dict(spec.lifecycle),
        "encryption": spec.encryption,
        "tags": dict(spec.tags),
        "publicAccessBlock": spec.public_access_block,
    }
    known = {
        key: UNKNOWN if isinstance(value, pulumi.Output) else value
        for key, value in settings.items()
    }
    if problems := broken_rules(BucketInputs.model_validate(known)):
        raise pulumi.RunError(
            "\n".join(f"{name}: {where}: {message}" for where, message in problems)
        )
    return settings
