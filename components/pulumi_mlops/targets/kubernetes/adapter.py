"""The adapter: each ask of the port as objects of the cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from ... import resources
from ...images import catalog
from ...images.context import Recipe, version
from ...images.options import ImageError
from .. import (
    Database,
    DatabaseSpec,
    Environment,
    EnvironmentSpec,
    Job,
    JobSpec,
    Route,
    RouteSpec,
    ScheduleSpec,
    SecretSpec,
    Service,
    ServiceSpec,
    Volume,
    databases,
    runtime_folder,
    stack_folder,
)
from . import manifests, names, routes
from .cluster import Cluster, cluster, fingerprint


@dataclass(frozen=True, kw_only=True)
class Image(Environment):
    """An environment as an image."""

    reference: str


@dataclass(frozen=True, kw_only=True)
class Workload(Service):
    """A service and what else of it a route needs."""

    service_name: str
    numbers: Mapping[str, int]
    """Its ports that others call."""
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ClusterJob(Job):
    """A job and what a schedule makes its runs from."""

    template: Mapping[str, Any]


class KubernetesTarget:
    """Answers with objects of a cluster."""

    def __init__(self) -> None:
        self._cluster: Cluster = cluster()

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
        return Image(version=made.version, native=None, reference=made.reference)

    def service(self, name: str, spec: ServiceSpec, opts: pulumi.ResourceOptions) -> Service:
        if spec.data is not None and spec.replicas > 1:
            raise pulumi.RunError(f"{name}: only one pod can have its data, not {spec.replicas}")
        here = self._cluster
        labels = here.labels(name, _component(name))
        numbers = manifests.ports(spec.ports)
        private, content = self._private(name, spec.secrets, spec.files, labels, opts)
        volumes, mounts = _volumes(name, spec)
        container = manifests.container(
            "main",
            _image(spec.environment),
            _refuse_secret_words(name, spec.command),
            manifests.environment(
                _refuse_secrets(name, spec.env),
                list(spec.secrets),
                _beside(name, "secrets"),
                _surroundings(spec, numbers, here.address(name)),
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
                volumes=volumes,
                placement=here.settings.placement.manifest(),
                stop_seconds=spec.stop_seconds,
            ),
            content if not spec.rereads_files else None,
            _calling(spec.calls) | (manifests.WATCHES if spec.watches else {}),
        )
        public = {
            port: number for port, number in numbers.items() if port not in spec.internal_ports
        }
        below = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=private))
        exposed = here.make(
            "Service", f"{name}-service", opts, labels=labels, object_name=names.label(name),
            spec=manifests.service(labels, public, headless=spec.routed),
        )  # fmt: skip
        below = pulumi.ResourceOptions.merge(below, pulumi.ResourceOptions(depends_on=[exposed]))
        if spec.data is None:
            native = here.make(
                "Deployment", name, below, labels=labels,
                spec=manifests.deployment(labels, spec.replicas, template, spec.health.timeout),
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
                _called(spec.calls),
                anywhere=spec.calls_outside or spec.watches,
            ),
        )  # fmt: skip
        if spec.replicas > 1:
            here.make(
                "PodDisruptionBudget", f"{name}-budget", opts, labels=labels,
                object_name=names.label(name), spec=manifests.disruption_budget(labels),
            )  # fmt: skip
        ready = self._ready(name, native, opts, timeout=spec.health.timeout + 60)
        host = here.address(name)
        addresses = {port: [f"{host}:{number}"] for port, number in public.items()}
        first = numbers["http"] if "http" in numbers else next(iter(public.values()))
        return Workload(
            url=_once(ready, f"http://{host}:{first}"),
            addresses=_once(ready, addresses),
            native=native,
            ready=ready,
            service_name=names.label(name),
            numbers=public,
            labels=manifests.selector(labels),
        )

    def job(self, name: str, spec: JobSpec, opts: pulumi.ResourceOptions) -> Job:
        here = self._cluster
        labels = here.labels(name, "job")
        image = _image(spec.environment)
        command = _refuse_secret_words(name, spec.command)
        # Addresses and credentials stand beside the Job: another one is no reason to train again.
        private: list[pulumi.Resource]
        private, _ = self._private(name, spec.secrets, {}, labels, opts)
        sources = [
            {"secretRef": {"name": made}}
            for made in ([_beside(name, "secrets")] if private else [])
        ]
        if spec.env:
            variables = here.make(
                "ConfigMap", f"{name}-env", opts, labels=labels,
                object_name=_beside(name, "env"), data=_refuse_secrets(name, spec.env),
            )  # fmt: skip
            private.append(variables)
            sources.append({"configMapRef": {"name": _beside(name, "env")}})
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
                manifests.pod([container], placement=placement.manifest()),
                more_labels=_calling(spec.calls),
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
            spec=manifests.network_policy(labels, ingress, _called(spec.calls), anywhere=True),
        )  # fmt: skip
        after = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=private))
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
        digest = pulumi.Output.json_dumps([image, spec.workers, *command]).apply(
            lambda text: hashlib.sha256(text.encode()).hexdigest()[:8]
        )
        native = here.make(
            "Job", name, after, labels=labels,
            object_name=pulumi.Output.concat(names.label(name, 50), "-", digest),
            spec=manifest,
        )  # fmt: skip
        ready = self._ready(name, native, opts, timeout=spec.timeout + 60)
        return ClusterJob(
            name=name,
            outputs=ready.output("outputs"),
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
        services = {}
        for key, backend in spec.backends.items():
            if not isinstance(backend.service, Workload):
                raise pulumi.RunError(f"{name}: a route of the cluster needs its services there")
            services[key] = {
                "service": backend.service.service_name,
                "port": backend.service.numbers["http"],
                "weight": backend.weight,
                "check_path": backend.check_path,
            }
        here = self._cluster
        if here.router is None:
            environment = self.environment(
                routes.ENVIRONMENT,
                EnvironmentSpec(
                    requirements=routes.REQUIREMENTS,
                    code={"pulumi_mlops/runtime": runtime_folder()},
                ),
                opts,
            )
            here.router = _image(environment)
        waits = pulumi.ResourceOptions(
            depends_on=[backend.service.ready for backend in spec.backends.values()]
        )
        native, table = routes.make(
            here, name, spec, services, here.router,
            after=pulumi.ResourceOptions.merge(opts, waits), opts=opts,
        )  # fmt: skip
        ready = self._ready(
            name, native,
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[table])),
            timeout=180, table=services,
        )  # fmt: skip
        host, metrics = here.address(name), here.address(routes.metrics_name(name))
        return Route(
            url=_once(ready, f"http://{host}:{spec.port or routes.PORT}"),
            metrics_url=_once(ready, f"http://{metrics}:{routes.METRICS_PORT}/metrics"),
            native=native,
            ready=ready,
        )

    def secret(
        self, name: str, spec: SecretSpec, opts: pulumi.ResourceOptions
    ) -> pulumi.Output[str]:
        made = resources.GeneratedSecret(name, {"length": spec.length}, opts)
        return pulumi.Output.secret(made.output("value"))

    def volume(self, name: str, retain: bool, opts: pulumi.ResourceOptions) -> Volume:
        here = self._cluster
        if retain:
            here.refuse_deletion(name)
        native = here.make(
            "PersistentVolumeClaim", name,
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(retain_on_delete=retain)
            ),
            labels=here.labels(name, "data"),
            spec=manifests.claim(here.settings.volume_size, here.settings.storage_class),
        )  # fmt: skip
        return Volume(
            path=pulumi.Output.from_input(manifests.DATA_DIR), retain=retain, native=native
        )

    def database(self, name: str, spec: DatabaseSpec, opts: pulumi.ResourceOptions) -> Database:
        return databases.database(self, name, spec, opts)

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
                made.append(
                    self._cluster.make(
                        "Secret", f"{name}-{kind}", opts, labels=labels,
                        object_name=_beside(name, kind),
                        string_data={
                            key: pulumi.Output.secret(value) for key, value in content.items()
                        },
                    )
                )  # fmt: skip
        if not made:
            return [], None
        salt = f"{pulumi.get_project()}/{pulumi.get_stack()}"
        all_of_it = pulumi.Output.json_dumps({"env": dict(secrets), "files": dict(files)})
        digest = all_of_it.apply(lambda text: fingerprint(text, salt))
        return made, pulumi.Output.unsecret(digest)

    def _ready(
        self,
        name: str,
        native: pulumi.CustomResource,
        opts: pulumi.ResourceOptions,
        *,
        timeout: float,
        table: Mapping[str, Any] | None = None,
    ) -> resources.Ready:
        metadata: pulumi.Output[Any] = pulumi.get(native, "metadata")
        return resources.Ready(
            f"{name}-ready",
            {
                "kind": pulumi.get(native, "kind"),
                "namespace": self._cluster.namespace,
                "name": metadata.apply(lambda found: _member(found, "name")),
                "generation": metadata.apply(lambda found: _member(found, "generation")),
                "uid": metadata.apply(lambda found: _member(found, "uid")),
                "timeoutSeconds": timeout,
                "table": table,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[native])),
        )


def _member(found: Any, name: str) -> Any:
    """A member of an object's metadata; None where there was no cluster to ask."""
    return found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)


def _once(ready: pulumi.Resource, value: Any) -> pulumi.Output[Any]:
    """`value`, known in the preview too; what uses it waits until `ready` is made."""
    return ready.urn.apply(lambda _: value)


def _calling(services: Sequence[Service]) -> dict[str, str]:
    """The labels of a pod that calls these."""
    found = [each for each in services if isinstance(each, Workload)]
    return {manifests.calls_label(each.service_name): "true" for each in found}


def _called(services: Sequence[Service]) -> list[tuple[Mapping[str, str], list[int]]]:
    found = [each for each in services if isinstance(each, Workload)]
    return [(each.labels, sorted(each.numbers.values())) for each in found]


def _beside(name: str, kind: str) -> str:
    """The object of a workload that has its `secrets`, `files` or `env`."""
    return f"{names.label(name, 55)}-{kind}"


def _component(name: str) -> str:
    return "database" if "-database" in name else "service"


def _image(environment: Environment) -> str:
    if not isinstance(environment, Image):
        raise pulumi.RunError("a pod needs an environment of the kubernetes target")
    return environment.reference


def _volumes(
    name: str, spec: ServiceSpec
) -> tuple[list[manifests.Manifest], list[manifests.Manifest]]:
    volumes: list[manifests.Manifest] = []
    mounts: list[manifests.Manifest] = []
    if spec.data is not None:
        metadata: pulumi.Output[Any] = pulumi.get(spec.data.native, "metadata")
        claim = metadata.apply(lambda found: _member(found, "name"))
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "data", "mountPath": manifests.DATA_DIR})
    if spec.files:
        secret = _beside(name, "files")
        volumes.append({"name": "files", "secret": {"secretName": secret, "defaultMode": 0o440}})
        mounts.append({"name": "files", "mountPath": manifests.FILES_DIR, "readOnly": True})
    return volumes, mounts


def _surroundings(
    spec: ServiceSpec, numbers: Mapping[str, int], address: str
) -> list[manifests.Manifest]:
    """What the service is told of where it is, as far as it wants to know."""
    found = manifests.service_variables(numbers, spec.data is not None, bool(spec.files))
    if any("$(HOST_NAMES)" in value for value in spec.env.values() if isinstance(value, str)):
        found.append({"name": "HOST_NAMES", "value": _host_names(address)})
    return found


def _host_names(address: str) -> str:
    """What clients may call it by: each name alone and with a port."""
    name, namespace, _ = address.split(".")
    hosts: Sequence[str] = (
        name, f"{name}.{namespace}", address, f"{address}.cluster.local", "localhost", "127.0.0.1",
    )  # fmt: skip
    return ",".join(text for host in hosts for text in (host, f"{host}:*"))


def _refuse_secrets(
    name: str, env: Mapping[str, pulumi.Input[str]]
) -> dict[str, pulumi.Input[str]]:
    """The same variables, none of which may be a secret: a manifest is no place for one."""

    return {
        key: _open(value, f"{name}: the variable {key} is a secret: give it in `secrets`")
        for key, value in env.items()
    }


def _refuse_secret_words(
    name: str, command: Sequence[pulumi.Input[str]]
) -> list[pulumi.Input[str]]:
    """The same command, no word of which may be a secret."""
    return [
        _open(word, f"{name}: a word of its command is a secret, which all may read: hand it over "
              "in an environment variable, by `secrets`")
        for word in command
    ]  # fmt: skip


def _open(value: pulumi.Input[str], refusal: str) -> pulumi.Input[str]:
    """`value`; raises pulumi.RunError with this text when it turns out to be a secret."""
    if not isinstance(value, pulumi.Output):
        return value

    async def checked() -> str:
        if await value.is_secret():
            raise pulumi.RunError(refusal)
        return ""

    # An Output of both: the value, its dependencies, and the check.
    return pulumi.Output.concat(value, checked())
