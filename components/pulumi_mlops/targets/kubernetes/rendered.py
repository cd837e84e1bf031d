"""The adapter of a cluster that is not there: objects become files, which others apply.

Nothing is waited for, no object has a secret, and what the plugin does elsewhere over the network
is done within the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.resource import create_urn

from ...spec import SecretKeyRef
from ..port import (
    BUCKET_CLIENT,
    Bucket,
    BucketSpec,
    EnvironmentSpec,
    JobSpec,
    ModelVersion,
    ModelVersionSpec,
    Service,
    ServiceSpec,
    runtime_folder,
)
from . import manifests, names, sdk
from .adapter import KubernetesTarget
from .handles import Workload, image_of
from .programs import beside


class RenderedTarget(KubernetesTarget):
    """The same objects, in a folder."""

    def existing_secret(self, of: SecretKeyRef) -> pulumi.Output[str]:
        """Refused: nobody asks a cluster."""
        raise pulumi.RunError(
            f"Secret {of.name}: secret_key_ref reads it from the cluster, and with "
            "mlops:kubernetes.render_to none is asked: give the value, encrypted by "
            "`pulumi config set --secret --path`"
        )

    def bucket(self, name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> Bucket:
        """A Job makes it and what it is set to; nothing deletes it."""
        settings = _settings(name, spec)
        place = {key: settings[key] for key in ("bucket", "endpointUrl", "region")}
        # As that of the bucket elsewhere, so that a store that moves to a folder is taken over. The
        # bare value: what depends on a component waits for all of its children, this one too.
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
        self._cluster.buckets.append(
            (
                frozenset(each.service_name for each in _workloads(spec.calls)),
                manifests.preparing(
                    names.label(f"wait-for-{name}"),
                    image_of(environment),
                    [*program, "--wait", pulumi.Output.json_dumps(place)],
                    secret=beside(name, "secrets") if secrets else None,
                ),
            )
        )
        return Bucket(uri=pulumi.Output.concat("s3://", spec.bucket), native=job.native)

    def model_version(
        self, name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions
    ) -> ModelVersion:
        """Nobody looks: its server does so at each start, and goes on until it is registered."""
        return ModelVersion(example=pulumi.Output.from_input(""), ready=None)

    def _first(self, spec: ServiceSpec | JobSpec) -> list[manifests.Manifest]:
        """What waits for what the program calls."""
        called = _workloads(spec.calls)
        found = []
        if called:
            places = [
                f"{each.service_name}.{self._cluster.namespace}.svc:{next(iter(each.numbers.values()))}"
                for each in called
            ]
            found.append(
                manifests.preparing(
                    "wait", image_of(spec.environment), manifests.until_all_answer(places)
                )
            )
        if isinstance(spec, ServiceSpec):
            # A job calls one that does so: what waits here has a version, and would be another run.
            ours = {each.service_name for each in called}
            found += [
                wait
                for stores, wait in self._cluster.buckets
                if (stores & ours if stores else spec.calls_outside)
            ]
        return found

    def _run(self, program: Sequence[Any], manifest: manifests.Manifest) -> Any:
        # Nobody replaces the Job of a file that has changed: whatever changes is another Job.
        return manifest

    def _replicas(self, spec: ServiceSpec) -> int | None:
        # What a file does not say, whoever applies it leaves to the autoscaler.
        return spec.replicas if spec.max_replicas is None else None

    def _secret_object(
        self,
        name: str,
        object_name: str,
        content: Mapping[str, pulumi.Output[str]],
        labels: Mapping[str, str],
        opts: pulumi.ResourceOptions,
    ) -> pulumi.Resource:
        self._cluster.refuse_namesake("Secret", object_name)
        return sdk.StoredSecret(
            name,
            {
                "namespace": self._cluster.namespace,
                "name": object_name,
                "labels": dict(labels),
                "stringData": content,
            },
            opts,
        )

    def _ready(
        self,
        name: str,
        native: pulumi.CustomResource,
        opts: pulumi.ResourceOptions,
        *,
        timeout: float,
        table: Mapping[str, Any] | None = None,
        scaled: Mapping[str, Any] | None = None,
    ) -> pulumi.Resource:
        return native

    def _outputs(self, ready: pulumi.Resource) -> pulumi.Output[dict[str, Any]]:
        return pulumi.Output.from_input({})


def _workloads(services: Sequence[Service]) -> list[Workload]:
    return [each for each in services if isinstance(each, Workload)]


def _settings(name: str, spec: BucketSpec) -> dict[str, Any]:
    """What the bucket is to be. Raises pulumi.RunError for what can be known to be wrong."""
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
        raise pulumi.RunError("\n".join(f"{name}: {where}: {what}" for where, what in problems))
    return settings
