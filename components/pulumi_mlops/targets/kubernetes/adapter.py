"""The adapter: each ask of the port as objects of the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import pulumi

from ...images import catalog
from ...images.context import Recipe, version
from ...images.options import ImageError
from ...plugin import sdk as plugin_sdk
from ...spec import SecretKeyRef
from .. import databases, shared_resources
from ..port import (
    Bucket,
    BucketSpec,
    ClientSettings,
    Database,
    DatabaseSpec,
    Environment,
    EnvironmentSpec,
    Job,
    JobSpec,
    ModelVersion,
    ModelVersionSpec,
    Route,
    RouteSpec,
    ScheduleSpec,
    SecretSpec,
    Service,
    ServiceSpec,
    Volume,
    runtime_folder,
    stack_folder,
)
from . import gateway, manifests, names, routes, sdk
from .cluster import Cluster, cluster, fingerprint
from .handles import (
    ClusterJob,
    Image,
    Workload,
    called,
    calling,
    image_of,
    made_before,
    member,
    once,
    short_digest,
)
from .programs import beside, refuse_secret_words, refuse_secrets, surroundings, volumes_of


class KubernetesTarget:
    """Answers with objects of a cluster."""

    @cached_property
    def _cluster(self) -> Cluster:
        # Only now: what is asked of servers alone needs no namespace.
        return cluster()

    def environment(
        self, name: str, spec: EnvironmentSpec, opts: pulumi.ResourceOptions
    ) -> Environment:
        settings = self._cluster.settings
        key = name.removesuffix("-environment")
        recipe = Recipe(
            requirements=spec.requirements,
            python=spec.python,
            code=spec.code,
            options=settings.build.options(),
        )
        try:
            if given := settings.images.get(key):
                return Image(version=version(recipe), native=None, reference=given)
            if settings.registry is None:
                raise pulumi.RunError(
                    f"{name}: nothing says which image it is: give mlops:kubernetes.registry, a "
                    f"prefix such as registry.example.com/team, or mlops:kubernetes.images.{key}"
                )
            # What `mlops images` builds it from.
            made = catalog.prepare(stack_folder() / "images", settings.registry, key, recipe)
        except ImageError as error:
            raise pulumi.RunError(f"{name}: {error}") from None
        native = plugin_sdk.Image(name, {"image": key, "reference": made.reference}, opts)
        return Image(version=made.version, native=native, reference=made.reference)

    def service(self, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> Service:
        most = spec.max_replicas or spec.replicas
        if spec.data is not None and most > 1:
            raise pulumi.RunError(f"{name}: only one pod can have its data, not {most}")
        here = self._cluster
        labels = here.labels(name, _component(name))
        numbers = manifests.ports(spec.ports)
        private, content = self._private(name, spec.secrets, spec.files, labels, opts)
        volumes, mounts = volumes_of(name, spec)
        container = manifests.container(
            "main",
            image_of(spec.environment),
            refuse_secret_words(name, spec.command),
            manifests.environment(
                refuse_secrets(name, spec.env),
                list(spec.secrets),
                beside(name, "secrets"),
                surroundings(spec, numbers, here.address(name)),
            ),
            numbers=numbers,
            mounts=mounts,
            resources=manifests.resources(spec.resources),
        )
        container |= manifests.probes(spec.health, numbers)
        template = manifests.template(
            labels,
            manifests.pod(
                [manifests.draining(container)],
                first=self._first(spec),
                volumes=volumes,
                placement=here.settings.placement.manifest(),
                stop_seconds=spec.stop_seconds,
            ),
            content if not spec.rereads_files else None,
            calling(spec.calls) | (manifests.WATCHES if spec.watches else {}),
        )
        public = {
            port: number for port, number in numbers.items() if port not in spec.internal_ports
        }
        below = pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(depends_on=[*private, *made_before(spec.environment)]),
        )
        exposed = here.make(
            "Service", f"{name}-service", opts, labels=labels, object_name=names.label(name),
            spec=manifests.service(labels, public, headless=spec.routed),
        )  # fmt: skip
        below = pulumi.ResourceOptions.merge(below, pulumi.ResourceOptions(depends_on=[exposed]))
        if spec.data is None:
            native = here.make(
                "Deployment", name, self._scaled(spec, below), labels=labels,
                spec=manifests.deployment(
                    labels, self._replicas(spec), template, spec.health.timeout, several=most > 1
                ),
            )  # fmt: skip
        else:
            native = here.make(
                "StatefulSet", name, below, labels=labels,
                object_name=names.label(name, names.LONGEST_STATEFUL_SET),
                spec=manifests.stateful_set(labels, names.label(name), template),
            )  # fmt: skip
        here.make(
            "NetworkPolicy", f"{name}-policy", opts, labels=labels, object_name=names.label(name),
            spec=manifests.network_policy(
                labels,
                manifests.callers(
                    names.label(name),
                    list(public.values()),
                    here.settings.allow_from if spec.public else None,
                    routed=spec.routed,
                ),
                called(spec.calls),
                anywhere=spec.calls_outside or spec.watches,
            ),
        )  # fmt: skip
        if most > 1:
            here.make(
                "PodDisruptionBudget", f"{name}-budget", opts, labels=labels,
                object_name=names.label(name), spec=manifests.disruption_budget(labels),
            )  # fmt: skip
        scaled: dict[str, Any] = {}
        if spec.data is None and spec.max_replicas is not None:
            scaler = here.make(
                "HorizontalPodAutoscaler", f"{name}-scaler",
                pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[native])),
                labels=labels, object_name=names.label(name),
                spec=manifests.autoscaler(names.label(name), spec.replicas, spec.max_replicas),
            )  # fmt: skip
            opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[scaler]))
            scaled = {"replicas": spec.replicas, "content": short_digest(template)}
        ready = self._ready(name, native, opts, timeout=spec.health.timeout + 60, scaled=scaled)
        host = here.address(name)
        addresses = {port: [f"{host}:{number}"] for port, number in public.items()}
        first = numbers["http"] if "http" in numbers else next(iter(public.values()))
        return Workload(
            url=once(ready, f"http://{host}:{first}"),
            addresses=once(ready, addresses),
            native=native,
            ready=ready,
            service_name=names.label(name),
            numbers=public,
            labels=manifests.selector(labels),
        )

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> Job:
        here = self._cluster
        labels = here.labels(name, "job")
        image = image_of(spec.environment)
        command = refuse_secret_words(name, spec.command)
        # Addresses and credentials stand beside the Job: another one is no reason to train again.
        private: list[pulumi.Resource]
        private, _ = self._private(name, spec.secrets, {}, labels, opts)
        sources = [
            {"secretRef": {"name": made}} for made in ([beside(name, "secrets")] if private else [])
        ]
        if spec.env:
            variables = here.make(
                "ConfigMap", f"{name}-env", opts, labels=labels,
                object_name=beside(name, "env"), data=refuse_secrets(name, spec.env),
            )  # fmt: skip
            private.append(variables)
            sources.append({"configMapRef": {"name": beside(name, "env")}})
        container = manifests.container(
            "main", image, manifests.telling(command),
            [
                {"name": "MLOPS_OUTPUTS", "value": manifests.OUTPUTS_FILE},
                {"name": "HOME", "value": manifests.SCRATCH_DIR},
            ],
            resources=manifests.resources(
                spec.resources, memory="512Mi", most="4Gi", cpu="500m"
            ),
        )  # fmt: skip
        container["envFrom"] = sources
        placement = here.settings.training_placement or here.settings.placement
        manifest = manifests.job(
            manifests.template(
                labels,
                manifests.pod([container], first=self._first(spec), placement=placement.manifest()),
                more_labels=calling(spec.calls),
            ),
            spec.timeout,
        )
        ingress: list[manifests.Manifest] = []
        if spec.workers > 1:
            manifest = manifests.together(manifest, spec.workers, names.label(name))
            ingress = manifests.one_another(labels)
            private.append(
                here.make(
                    "Service", f"{name}-workers", opts, labels=labels,
                    object_name=names.label(name), spec=manifests.meeting_point(labels),
                )
            )  # fmt: skip
        here.make(
            "NetworkPolicy", f"{name}-policy", opts, labels=labels, object_name=names.label(name),
            spec=manifests.network_policy(labels, ingress, called(spec.calls), anywhere=True),
        )  # fmt: skip
        after = pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(depends_on=[*private, *made_before(spec.environment)]),
        )
        if not spec.run_on_change:
            native = here.make(
                "CronJob", name, after, labels=labels, object_name=names.label(name, 52),
                # What runs are started from by hand.
                spec=manifests.cron_job(manifest, "0 0 1 1 *", "UTC", suspend=True),
            )  # fmt: skip
            nothing: pulumi.Output[dict[str, Any]] = pulumi.Output.from_input({})
            return ClusterJob(
                name=name, outputs=nothing, native=native, ready=native, template=manifest
            )
        # A Job cannot change: another one is another Job, and has another name.
        digest = short_digest(self._run([image, spec.workers, *command], manifest))
        native = here.make(
            "Job", name, after, labels=labels,
            object_name=pulumi.Output.concat(names.label(name, 50), "-", digest),
            spec=manifest,
        )  # fmt: skip
        ready = self._ready(name, native, opts, timeout=spec.timeout + 60)
        return ClusterJob(
            name=name,
            outputs=self._outputs(ready),
            native=native,
            ready=ready,
            template=manifest,
        )

    def schedule(
        self, name: str, spec: ScheduleSpec, opts: pulumi.ResourceOptions
    ) -> Service | None:
        if not isinstance(spec.job, ClusterJob):
            raise pulumi.RunError(f"{name}: a schedule of the cluster needs a job of the cluster")
        self._cluster.make(
            "CronJob", name,
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[spec.job.ready])),
            labels=self._cluster.labels(name, "schedule"),
            object_name=names.label(name, 52),  # its Jobs are called the same with a number
            spec=manifests.cron_job(dict(spec.job.template), spec.cron, spec.timezone),
        )  # fmt: skip
        return None

    def route(self, name: str, spec: RouteSpec, opts: pulumi.ResourceOptions) -> Route:
        services: dict[str, Any] = {}
        pods = {}
        for key, backend in spec.backends.items():
            if not isinstance(backend.service, Workload):
                raise pulumi.RunError(f"{name}: a route of the cluster needs its services there")
            services[key] = {
                "service": backend.service.service_name,
                "port": backend.service.numbers["http"],
                "weight": backend.weight,
                "check_path": backend.check_path,
            }
            pods[key] = backend.service.labels
        here = self._cluster
        waits = pulumi.ResourceOptions(
            depends_on=[backend.service.ready for backend in spec.backends.values()]
        )
        after = pulumi.ResourceOptions.merge(opts, waits)
        if (asked := here.settings.gateway) is not None:
            native, url = gateway.make(
                here, asked, name, spec, services=services, pods=pods, after=after, opts=opts
            )
            ready = self._ready(name, native, opts, timeout=180)
            return Route(url=once(ready, url), metrics_url=None, native=native, ready=ready)
        if here.router is None:
            here.router = self.environment(
                routes.ENVIRONMENT,
                EnvironmentSpec(
                    requirements=routes.REQUIREMENTS,
                    code={"pulumi_mlops/runtime": runtime_folder()},
                ),
                # No endpoint's own: the first of them may go.
                pulumi.ResourceOptions(),
            )
        native, table = routes.make(
            here, name, spec, services, image_of(here.router),
            after=after, opts=opts, needs=made_before(here.router),
        )  # fmt: skip
        ready = self._ready(
            name, native,
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[table])),
            timeout=180, table=services,
        )  # fmt: skip
        host, metrics = here.address(name), here.address(routes.metrics_name(name))
        return Route(
            url=once(ready, f"http://{host}:{spec.port or routes.PORT}"),
            metrics_url=once(ready, f"http://{metrics}:{routes.METRICS_PORT}/metrics"),
            native=native,
            ready=ready,
        )

    def secret(
        self, name: str, spec: SecretSpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        made = plugin_sdk.GeneratedSecret(name, {"length": spec.length}, opts)
        return pulumi.Output.secret(made.output("value"))

    def existing_secret(self, of: SecretKeyRef) -> pulumi.Output[str]:
        return self._cluster.existing_secret(of)

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> Volume:
        here = self._cluster
        if retain:
            here.refuse_deletion(name)
        native = here.make(
            "PersistentVolumeClaim", name,
            pulumi.ResourceOptions.merge(
                # What would replace or delete it fails in the preview; forced, it keeps the data.
                opts,
                pulumi.ResourceOptions(
                    protect=retain,
                    retain_on_delete=retain,
                    depends_on=here.guard_volume(name, opts),
                ),
            ),
            labels=here.labels(name, "data"),
            spec=manifests.claim(here.settings.volume_size, here.settings.storage_class),
        )  # fmt: skip
        return Volume(
            path=pulumi.Output.from_input(manifests.DATA_DIR), retain=retain, native=native
        )

    def database(self, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions) -> Database:
        return databases.database(self, name, spec, opts)

    def bucket(self, name: str, spec: BucketSpec, opts: pulumi.ResourceOptions) -> Bucket:
        return shared_resources.bucket(name, spec, opts)

    def model_version(
        self, name: str, spec: ModelVersionSpec, opts: pulumi.ResourceOptions
    ) -> ModelVersion:
        return shared_resources.model_version(name, spec, opts)

    def client_settings(
        self, name: str, env: pulumi.Output[Mapping[str, str]], opts: pulumi.ResourceOptions
    ) -> ClientSettings:
        return shared_resources.client_settings(name, env, opts)

    def logs_dir(self) -> str | None:
        return None

    def _private(
        self,
        name: str,
        secrets: Mapping[str, pulumi.Input[str]],
        files: Mapping[str, pulumi.Input[str]],
        labels: Mapping[str, str],
        opts: pulumi.ResourceOptions,
    ) -> tuple[list[pulumi.Resource], pulumi.Output[str] | None]:
        """Secrets and files as Secrets, and what changes with their content."""
        made: list[pulumi.Resource] = []
        for kind, content in (("secrets", secrets), ("files", files)):
            if content:
                hidden = {key: pulumi.Output.secret(value) for key, value in content.items()}
                made.append(
                    self._secret_object(f"{name}-{kind}", beside(name, kind), hidden, labels, opts)
                )
        if not made:
            return [], None
        salt = f"{pulumi.get_project()}/{pulumi.get_stack()}"
        all_of_it = pulumi.Output.json_dumps({"env": dict(secrets), "files": dict(files)})
        digest = all_of_it.apply(lambda text: fingerprint(text, salt))
        return made, pulumi.Output.unsecret(digest)

    def _first(self, spec: ServiceSpec | JobSpec) -> list[manifests.Manifest]:
        """What runs in a pod before its program: nothing, since what it calls is ready."""
        return []

    def _run(self, program: Sequence[Any], manifest: manifests.Manifest) -> Any:
        """What makes a run of a job another one: what is run, and nothing else about its pod."""
        return program

    def _replicas(self, spec: ServiceSpec) -> int | None:
        """How many pods its Deployment asks for."""
        return spec.replicas

    def _scaled(self, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
        """The options of its Deployment: pulumi-kubernetes leaves out of an apply what is ignored
        and somebody else has set, so that no update takes back what an autoscaler chose."""
        if spec.max_replicas is None:
            return opts
        return pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(ignore_changes=["spec.replicas"])
        )

    def _secret_object(
        self,
        name: str,
        object_name: str,
        content: Mapping[str, pulumi.Output[str]],
        labels: Mapping[str, str],
        opts: pulumi.ResourceOptions,
    ) -> pulumi.Resource:
        return self._cluster.make(
            "Secret", name, opts, labels=labels, object_name=object_name, string_data=content
        )

    def _outputs(self, ready: pulumi.Resource) -> pulumi.Output[dict[str, Any]]:
        """What a job left, once it is `ready`."""
        found: pulumi.Output[dict[str, Any]] = pulumi.get(ready, "outputs")
        return found

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
        metadata: pulumi.Output[Any] = pulumi.get(native, "metadata")
        return sdk.Ready(
            f"{name}-ready",
            {
                "kind": pulumi.get(native, "kind"),
                "namespace": self._cluster.namespace,
                "name": metadata.apply(lambda found: member(found, "name")),
                # Each time that an autoscaler acts there is another generation.
                **(
                    scaled
                    or {"generation": metadata.apply(lambda found: member(found, "generation"))}
                ),
                "uid": metadata.apply(lambda found: member(found, "uid")),
                "cluster": self._cluster.facts(),
                "timeoutSeconds": timeout,
                "table": table,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[native])),
        )


def _component(name: str) -> str:
    return "database" if "-database" in name else "service"
