"""What every target must do, on Pulumi's mocks: each request of the port, and each refusal.

A subclass names a target and its configuration. A request that needs a capability is tested for
success where the target package declares the capability, and for its refusal otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pulumi
import pytest

from pulumi_mlops.spec import SecretKeyRef
from pulumi_mlops.targets import registry
from pulumi_mlops.targets.port import (
    AnalysisSpec,
    Backend,
    BucketSpec,
    Capability,
    CopySpec,
    DatabaseSpec,
    EnvironmentSpec,
    FetchedFilesSpec,
    Health,
    JobSpec,
    ModelVersionSpec,
    Resources,
    RouteSpec,
    ScheduleSpec,
    SecretSpec,
    ServiceSpec,
    Target,
    resolve,
    stack_folder,
)

SECRET = "correct-horse-battery-staple"
MEBIBYTE = 1 << 20


class Requests:
    """A program that sends requests to one target, all below one component."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.parent = pulumi.ComponentResource("mlops:index:Tester", "tester")
        self.opts = pulumi.ResourceOptions(parent=self.parent)

    def environment(self, name: str = "tool", **spec: Any) -> Any:
        given = {"requirements": ["tool==1"], **spec}
        return self.target.environment(f"{name}-environment", EnvironmentSpec(**given), self.opts)

    def service(self, name: str = "tool", **spec: Any) -> Any:
        given = {"command": ["serve"], **spec}
        if "environment" not in given:
            given["environment"] = self.environment(name)
        return self.target.service(name, ServiceSpec(**given), self.opts)

    def job(self, name: str = "tool", **spec: Any) -> Any:
        given = {"command": ["run"], **spec}
        if "environment" not in given:
            given["environment"] = self.environment(name)
        return self.target.job(name, JobSpec(**given), self.opts)

    def volume(self, name: str = "tool-data", retain: bool = False) -> Any:
        return self.target.volume(name, retain, self.opts)

    def route(self, weights: Mapping[str, int], **spec: Any) -> Any:
        backends = {
            key: Backend(
                service=self.service(f"tool-{key}", routed=True), weight=weight, check_path="/ready"
            )
            for key, weight in weights.items()
        }
        given = {"endpoint": "tool", "backends": backends, **spec}
        return self.target.route("tool-route", RouteSpec(**given), self.opts)

    def schedule(self, cron: str, **spec: Any) -> Any:
        job = self.job()
        return self.target.schedule(
            "tool-schedule", ScheduleSpec(job=job, cron=cron, **spec), self.opts
        )

    def database(self, **spec: Any) -> Any:
        return self.target.database("tool-database", DatabaseSpec(**spec), self.opts)

    def bucket(self, **spec: Any) -> Any:
        given = {"bucket": "tool", "endpoint_url": "https://s3.example.com", **spec}
        return self.target.bucket("tool-bucket", BucketSpec(**given), self.opts)

    def model_version(self, **spec: Any) -> Any:
        given = {"tracking_uri": "http://tracking", "model": "tool", "version": "1", **spec}
        return self.target.model_version("tool-model", ModelVersionSpec(**given), self.opts)

    def fetched_files(self, **spec: Any) -> Any:
        given = {"command": ["fetch"], "content": "1", **spec}
        return self.target.fetched_files("tool-files", FetchedFilesSpec(**given), self.opts)


Ask = Callable[[Requests], Any]


@dataclass(frozen=True)
class Case:
    """One request, and the capabilities that it needs."""

    ask: Ask
    needs: frozenset[Capability] = field(default_factory=frozenset)


def output(value: Any) -> pulumi.Output[Any]:
    return pulumi.Output.from_input(value)


def service(**spec: Any) -> Ask:
    return lambda requests: requests.service(**spec)


def job(**spec: Any) -> Ask:
    return lambda requests: requests.job(**spec)


C = Capability
SERVICES: dict[str, Case] = {
    "minimal": Case(service()),
    "outputs": Case(lambda r: r.service(command=["serve", output("x")], env={"A": output("1")})),
    "variables": Case(service(env={"URL": "http://$(HOST):$(PORT)", "ALLOW": "$(HOST_NAMES)"})),
    "secrets": Case(service(secrets={"KEY": SECRET})),
    "secret_outputs": Case(lambda r: r.service(secrets={"KEY": pulumi.Output.secret(SECRET)})),
    "files": Case(service(files={"users.json": "{}", "b": ""})),
    "secret_files": Case(lambda r: r.service(files={"key": pulumi.Output.secret(SECRET)})),
    "files_reread": Case(service(files={"users.json": "{}"}, rereads_files=True)),
    "fixed_port": Case(service(ports={"http": 18099})),
    "lowest_port": Case(service(ports={"http": 1024})),
    "highest_port": Case(service(ports={"http": 65535})),
    "several_ports": Case(service(ports={"http": None, "grpc": None, "admin": 18098})),
    "no_http_port": Case(service(ports={"grpc": None}, health=Health(port="grpc"))),
    "internal_ports": Case(service(ports={"http": None, "peer": None}, internal_ports=("peer",))),
    "health_path": Case(service(health=Health(path="/ready", timeout=1))),
    "health_of_another_port": Case(
        service(ports={"http": None, "admin": None}, health=Health(path="/", port="admin"))
    ),
    "data": Case(lambda r: r.service(data=r.volume())),
    "retained_data": Case(lambda r: r.service(data=r.volume(retain=True))),
    "least_resources": Case(service(resources=Resources(cpu=0.1, memory=16 * MEBIBYTE))),
    "calls": Case(lambda r: r.service("caller", calls=[r.service("callee")])),
    "watches": Case(service(watches=True)),
    "public": Case(service(public=True, calls_outside=True)),
    "routed": Case(service(routed=True)),
    "database_component": Case(service(component="database")),
    "short_stop": Case(service(stop_seconds=0.1)),
    "replicas": Case(service(replicas=2), frozenset({C.REPLICAS})),
    "many_replicas": Case(service(replicas=64), frozenset({C.REPLICAS})),
    "max_replicas": Case(service(max_replicas=3), frozenset({C.AUTOSCALING})),
    "max_replicas_of_one": Case(service(max_replicas=1), frozenset({C.AUTOSCALING})),
    "gpu": Case(service(resources=Resources(gpu=1)), frozenset({C.GPUS})),
    "shared_data": Case(
        lambda r: r.service(data=r.volume(), replicas=2), frozenset({C.SHARED_DATA, C.REPLICAS})
    ),
    "shared_port": Case(
        service(ports={"http": 18099}, replicas=2), frozenset({C.SHARED_PORTS, C.REPLICAS})
    ),
    "routed_fixed_port": Case(
        service(ports={"http": 18099}, routed=True), frozenset({C.SHARED_PORTS})
    ),
}
JOBS: dict[str, Case] = {
    "minimal": Case(job()),
    "outputs": Case(lambda r: r.job(command=["run", output("x")], env={"A": output("1")})),
    "secrets": Case(job(secrets={"KEY": SECRET})),
    "calls": Case(lambda r: r.job("caller", calls=[r.service("callee")])),
    "resources": Case(job(resources=Resources(cpu=0.1, memory=16 * MEBIBYTE))),
    "run_by_hand": Case(job(run_on_change=False)),
    "short_timeout": Case(job(timeout=0.5)),
    "workers": Case(job(workers=2), frozenset({C.DISTRIBUTED_JOBS})),
    "gpu": Case(job(resources=Resources(gpu=1)), frozenset({C.GPUS})),
}
SCHEDULES = {
    "every_minute": lambda r: r.schedule("* * * * *"),
    "lists_and_steps": lambda r: r.schedule("0,30 */2 * 1,7 mon-fri"),
    "time_zone": lambda r: r.schedule("0 3 * * 0", timezone="Europe/Berlin"),
}
ROUTED = frozenset({C.ROUTES})
ROUTES: dict[str, Case] = {
    "one_backend": Case(lambda r: r.route({"v1": 100}), ROUTED),
    "split": Case(lambda r: r.route({"v1": 99, "v2": 1}), ROUTED),
    "warm_backend": Case(lambda r: r.route({"v1": 0, "v2": 100}), ROUTED),
    "fixed_port": Case(lambda r: r.route({"v1": 100}, port=18080), ROUTED),
    "analysis": Case(
        lambda r: r.route({"v1": 100}, analysis=AnalysisSpec()), ROUTED | {C.ANALYSIS}
    ),
    "no_analysis": Case(lambda r: r.route({"v1": 100}, analysis=AnalysisSpec(seconds=0)), ROUTED),
}
DATABASES: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "sqlite_not_retained": {"retain": False},
    "postgresql": {"engine": "postgresql"},
    "postgresql_not_retained": {"engine": "postgresql", "retain": False},
    "url": {"url": f"postgresql://me:{SECRET}@db/tool"},
    "secret_url": {"url": f"postgresql://me:{SECRET}@db/tool", "secret": True},
}
BUCKETS: dict[str, dict[str, Any]] = {
    "minimal": {},
    "shortest_name": {"bucket": "abc"},
    "longest_name": {"bucket": "a" * 63},
    "all": {
        "region": "eu-central-1", "access_key_id": "me", "secret_access_key": "",
        "versioning": True, "lifecycle": {"expireNoncurrentDays": 1}, "encryption": "AES256",
        "tags": {"team": "ml"}, "public_access_block": False, "retain": False,
    },
}  # fmt: skip
NAMES = ["t", "tool-" + "long-" * 30 + "name", "Tool_Name", "7-tool"]


class TargetContract:
    """The contract on Pulumi's mocks. A subclass sets `target` and `config`."""

    target: ClassVar[str]
    config: ClassVar[Mapping[str, str]] = {}
    lacks: ClassVar[frozenset[Capability]] = frozenset()
    """Capabilities that the configuration takes away from the target."""

    @pytest.fixture(autouse=True)
    def _program(self, provision: Any, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._provision = provision
        self.project = project
        engine = provision.__globals__["_Engine"] if hasattr(provision, "__globals__") else None
        assert engine is not None
        known = engine._outputs

        def outputs(mocks: Any, kind: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
            return self.outputs(kind, name, inputs) or known(mocks, kind, name, inputs)

        monkeypatch.setattr(engine, "_outputs", outputs)

    def outputs(self, kind: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of the target's own resources, as its resource plugin returns them."""
        return {}

    def has(self, capability: Capability) -> bool:
        return capability in registry.load(self.target).capabilities and (
            capability not in self.lacks
        )

    def run(self, ask: Ask, *, preview: bool = False) -> tuple[Any, Any]:
        """The graph of a program with one request, and its handle."""
        handles: list[Any] = []

        def program() -> dict[str, Any]:
            handles.append(ask(Requests(resolve())))
            names = ("url", "outputs", "addresses", "path", "uri", "metrics_url", "example")
            if isinstance(handles[0], pulumi.Output):
                return {"value": handles[0]}
            found = {name: getattr(handles[0], name, None) for name in names}
            return {name: each for name, each in found.items() if each is not None}

        config = {"mlops:target": self.target, **self.config}
        return self._provision(program, config, preview=preview), handles[0]

    def check(self, case: Case) -> tuple[Any, Any]:
        """The graph and the handle of a case, or None for both after its refusal."""
        missing = sorted(each for each in case.needs if not self.has(each))
        if missing:
            self.check_refusal(case.ask, missing)
            return None, None
        return self.check_request(case.ask)

    def check_request(self, ask: Ask) -> tuple[Any, Any]:
        """The graph and the handle of a request, with what holds for every request checked."""
        graph, handle = self.run(ask)
        again, _ = self.run(ask)
        assert _without_ports(again) == _without_ports(graph), "a second run changes something"
        preview, _ = self.run(ask, preview=True)
        assert preview.urns() == graph.urns(), "a resource depends on an unknown value"
        for each in graph.all.values():
            assert SECRET not in _plain_text(each.inputs), f"{each.urn} has a secret in plain text"
        for name in () if isinstance(handle, pulumi.Output) else ("native", "ready"):
            if (resource := getattr(handle, name, None)) is not None:
                assert resource._name in {each.name for each in graph.all.values()}
        return graph, handle

    def check_refusal(self, ask: Ask, missing: list[Capability]) -> None:
        """The preview fails and names the resource, the capability and every alternative."""
        for preview in (True, False):
            with pytest.raises(pulumi.RunError) as refusal:
                self.run(ask, preview=preview)
            text = str(refusal.value)
            (capability,) = [each for each in missing if each in text] or [None]
            assert capability is not None, f"none of {missing} is named: {text}"
            assert text.startswith(("tool", "Secret")), text
            for name in registry.supporting(capability):
                assert name in text, f"{name} supports {capability}: {text}"
            if not registry.supporting(capability):
                assert "no installed target" in text

    # Requests

    def test_environment(self) -> None:
        def ask(requests: Requests) -> Any:
            return requests.environment(
                requirements=["a==1", "b>=2"], python="3.11",
                code={"pkg": self.project / "train", "deep/pkg": self.project / "train"},
            )  # fmt: skip

        _, handle = self.check_request(ask)
        assert handle.version

    def test_environment_changes_its_version_with_requirements_and_code(self) -> None:
        def version(requirements: list[str]) -> str:
            _, handle = self.run(
                lambda r: r.environment(
                    requirements=requirements, code={"pkg": self.project / "train"}
                )
            )
            return str(handle.version)

        first = version(["a==1"])
        assert version(["a==1"]) == first
        assert version(["a==2"]) != first
        (self.project / "train" / "run.py").write_text("print('changed')\n")
        assert version(["a==1"]) != first

    def test_environment_without_its_code_is_refused(self) -> None:
        with pytest.raises(pulumi.RunError, match="tool-environment"):
            self.run(lambda r: r.environment(code={"pkg": self.project / "missing"}))

    @pytest.mark.parametrize("case", SERVICES.values(), ids=SERVICES)
    def test_service(self, case: Case) -> None:
        graph, handle = self.check(case)
        if handle is None:
            return
        addresses = graph.result["addresses"]
        assert addresses.known
        for port, each in addresses.value.items():
            assert each, f"port {port} has no address"
            assert all(re.fullmatch(r"[a-z0-9.-]+:\d+", address) for address in each)
        assert re.fullmatch(r"http://[a-z0-9.-]+:\d+", graph.result["url"].value)

    @pytest.mark.parametrize("number", [1024, 18099, 65535])
    def test_service_answers_at_its_fixed_port(self, number: int) -> None:
        _, handle = self.run(service(ports={"http": number}))
        assert handle.native is not None
        graph, _ = self.run(service(ports={"http": number}))
        assert f"{number}" in json.dumps(graph["tool"].inputs, default=str)

    @pytest.mark.parametrize("name", NAMES, ids=["short", "long", "mixed", "digit"])
    def test_service_and_job_of_any_name(self, name: str) -> None:
        self.check_request(lambda r: r.service(name))
        self.check_request(lambda r: r.job(name))

    @pytest.mark.parametrize("case", JOBS.values(), ids=JOBS)
    def test_job(self, case: Case) -> None:
        graph, handle = self.check(case)
        if handle is not None:
            assert handle.name in ("tool", "caller")
            assert isinstance(graph.result["outputs"].value, dict | None)

    def test_job_reuses_its_environment(self) -> None:
        def ask(requests: Requests) -> Any:
            environment = requests.environment()
            requests.service("tool-server", environment=environment)
            return requests.job(environment=environment)

        self.check_request(ask)

    @pytest.mark.parametrize("ask", SCHEDULES.values(), ids=SCHEDULES)
    def test_schedule(self, ask: Ask) -> None:
        self.check(Case(ask, frozenset({Capability.SCHEDULES})))

    @pytest.mark.parametrize("cron", ["0 0 1 * 1", "0 25 * * *", "every day"])
    def test_schedule_that_a_target_may_refuse(self, cron: str) -> None:
        """A cron expression that the target does not support is refused at preview, by name."""
        if not self.has(Capability.SCHEDULES):
            return
        for preview in (True, False):
            try:
                self.run(lambda r: r.schedule(cron), preview=preview)
            except pulumi.RunError as refusal:
                assert str(refusal).startswith("tool-schedule: cron: ")

    @pytest.mark.parametrize("case", ROUTES.values(), ids=ROUTES)
    def test_route(self, case: Case) -> None:
        graph, handle = self.check(case)
        if handle is not None:
            assert graph.result["url"].value.startswith("http://")

    @pytest.mark.parametrize("length", [8, 32, 128])
    @pytest.mark.parametrize("retain", [True, False])
    def test_secret(self, length: int, retain: bool) -> None:
        spec = SecretSpec(length=length, retain=retain)
        graph, _ = self.check_request(lambda r: r.target.secret("tool-secret", spec, r.opts))
        assert graph.result["value"].secret

    def test_existing_secret(self) -> None:
        ref = SecretKeyRef(name="tool", key="password")
        case = Case(
            lambda r: r.target.existing_secret(ref), frozenset({Capability.EXISTING_SECRETS})
        )
        graph, _ = self.check(case)
        if graph is not None:
            assert graph.result["value"].secret

    @pytest.mark.parametrize("retain", [True, False])
    def test_volume(self, retain: bool) -> None:
        graph, handle = self.check_request(lambda r: r.volume(retain=retain))
        assert handle.retain is retain
        assert graph.result["path"].value.startswith("/")

    @pytest.mark.parametrize("spec", DATABASES.values(), ids=DATABASES)
    def test_database(self, spec: Mapping[str, Any]) -> None:
        if "url" in spec:
            # A plain URL becomes a secret as well: it has a password.
            url = spec["url"]
            graph, handle = self.check_request(
                lambda r: r.database(url=pulumi.Output.secret(url) if "secret" in spec else url)
            )
            assert handle.outside and handle.ready is None
            assert graph.result["url"].secret and graph.result["url"].value == spec["url"]
            return
        graph, handle = self.check_request(lambda r: r.database(**spec))
        assert not handle.outside and handle.ready is not None
        if spec.get("engine") == "postgresql":
            assert graph.result["url"].secret
            assert graph.result["url"].value.startswith("postgresql+psycopg2://mlops:")
            assert handle.shared and len(handle.services) == 1 and handle.data is None
        else:
            assert graph.result["url"].value.startswith("sqlite:////")
            assert not handle.shared and handle.data is not None

    @pytest.mark.parametrize("spec", BUCKETS.values(), ids=BUCKETS)
    def test_bucket(self, spec: Mapping[str, Any]) -> None:
        keys = {key: pulumi.Output.secret(SECRET) for key in spec if key == "secret_access_key"}
        graph, _ = self.check_request(lambda r: r.bucket(**{**spec, **keys}))
        assert graph.result["uri"].value == f"s3://{spec.get('bucket', 'tool')}"

    def test_bucket_of_a_store_of_the_stack(self) -> None:
        def ask(requests: Requests) -> Any:
            store = requests.service("tool-store")
            return requests.bucket(endpoint_url=store.url, calls=[store])

        self.check_request(ask)

    def test_model_version(self) -> None:
        self.check_request(lambda r: r.model_version())
        self.check_request(
            lambda r: r.model_version(
                version="999999999", username="me", password=pulumi.Output.secret(SECRET),
                after=output({"version": "1"}),
            )
        )  # fmt: skip

    def test_fetched_files(self) -> None:
        def ask(requests: Requests) -> Any:
            environment = requests.environment("tool")
            files = requests.fetched_files(
                environment=environment, env={"NAME": "x"}, secrets={"KEY": SECRET},
                content=output("2"), copy=CopySpec(uri=output("s3://tool/files")),
                copy_variable="COPY",
            )  # fmt: skip
            requests.service(environment=environment, fetched=files)
            return files

        self.check(Case(ask, frozenset({C.FETCHED_FILES})))

    def test_client_settings(self) -> None:
        env = {"A": "1", "QUOTED": "it's $HOME"}
        graph, _ = self.check_request(
            lambda r: r.target.client_settings("tool-client", output(env), r.opts)
        )
        assert graph.result["path"].value.startswith("/")

    def test_logs_dir_is_a_folder_of_the_stack_or_none(self) -> None:
        seen: list[tuple[str | None, Path]] = []
        self.run(lambda r: seen.append((r.target.logs_dir(), stack_folder())))
        ((folder, stack),) = seen
        assert folder is None or Path(folder).is_relative_to(stack)

    # Refusals that do not depend on a capability

    def test_an_environment_of_another_target_is_refused(self) -> None:
        from pulumi_mlops.targets.port import EnvironmentHandle  # noqa: PLC0415

        alien = EnvironmentHandle(version="1", native=None)
        for ask in (service(environment=alien), job(environment=alien)):
            with pytest.raises(pulumi.RunError, match="environment belongs to another target"):
                self.run(ask, preview=True)

    def test_the_target_is_listed_and_its_settings_are_checked(self) -> None:
        assert self.target in registry.names()
        model = registry.load(self.target).settings()
        if model is not None:
            bad = {f"mlops:{self.target}": json.dumps({"no_such_setting": 1})}
            with pytest.raises(pulumi.RunError, match=rf"mlops:{self.target}.*no_such_setting"):
                self._provision(
                    lambda: Requests(resolve()).service(), {"mlops:target": self.target, **bad}
                )


def _plain_text(value: Any) -> str:
    """Everything in the inputs of a resource that is not marked as a secret."""
    if isinstance(value, dict):
        return " ".join(_plain_text(each) for each in value.values())
    if isinstance(value, list):
        return " ".join(map(_plain_text, value))
    return "" if type(value).__name__ == "Secret" else str(value)


def _without_ports(graph: Any) -> str:
    """The graph as text. The mocks assign port numbers in the order of registration."""
    resources = [
        (urn, each.inputs, sorted(each.depends_on), sorted(each.ignore_changes), each.protect)
        for urn, each in sorted(graph.all.items())
    ]
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", repr(resources))
