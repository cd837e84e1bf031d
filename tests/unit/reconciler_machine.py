"""A state machine that drives the reconciler with random tables, pods, failures and kills."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pulumi_mlops.runtime.router import agent as agent_module
from pulumi_mlops.runtime.router.agent import Agent
from pulumi_mlops.runtime.router.haproxy import ProxyServer, server_name, service_of
from pulumi_mlops.runtime.router.watch import TableEntry

ENDPOINT = "live"
PATH = "/ready"
PODS = range(1, 5)
VERSIONS = ("v1", "v2", "v3")


class Killed(BaseException):
    """In place of SIGKILL: no handler of exceptions catches it."""


def shares() -> st.SearchStrategy[dict[str, int]]:
    """A valid traffic table with one to three versions."""

    def table(versions: list[str], cuts: list[int]) -> dict[str, int]:
        edges = pairwise([0, *sorted(cuts[: len(versions) - 1]), 100])
        return dict(zip(versions, (high - low for low, high in edges), strict=True))

    return st.builds(
        table,
        st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=3, unique=True),
        st.lists(st.sampled_from([0, 1, 10, 33, 50, 90, 100]), min_size=2, max_size=2),
    )


PODS_OF_VERSIONS = st.fixed_dictionaries(
    {version: st.sets(st.sampled_from(PODS), max_size=3) for version in VERSIONS}
)


class Observed:
    """RuntimeSocket or ModelProxy, with a check before and after each command.

    `kills_after` counts down with each command; at zero the reconciler is killed.
    """

    def __init__(self, proxy: Any, machine: Machine) -> None:
        self._proxy, self._machine = proxy, machine
        self.kills_after: int | None = None
        self.commands = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._proxy, name)
        if name not in ("add", "revive", "set_weights", "drain", "delete"):
            return method

        def call(*arguments: Any) -> Any:
            if self.kills_after == 0:
                raise Killed
            if self.kills_after is not None:
                self.kills_after -= 1
            self.commands += 1
            self._machine.before_command(name, *arguments)
            result = method(*arguments)
            self._machine.after_command(name)
            return result

        return call


class Machine(RuleBasedStateMachine):
    """Drives an agent. Subclasses provide the proxy and its checks."""

    proxy: Any
    port = 80

    def __init__(self) -> None:
        super().__init__()
        self.stored: tuple[list[ProxyServer], dict[str, Any]] = ([], {})
        self.previous: dict[str, Any] = {}
        self.table: dict[str, int] = {}
        self.pods: dict[str, set[int]] = {version: set() for version in VERSIONS}
        self.healthy: dict[tuple[str, int], bool] = {}
        self.start_proxy()
        self.socket = Observed(self.proxy, self)
        self.start_agent()

    # Subclasses provide these.

    def start_proxy(self) -> None:
        raise NotImplementedError

    def restart_proxy(self) -> None:
        raise NotImplementedError

    def address(self, version: str, pod: int) -> str:
        raise NotImplementedError

    def run_checks(self) -> None:
        """Let HAProxy know which servers are healthy."""
        raise NotImplementedError

    # The agent.

    def start_agent(self) -> None:
        _, table = self.stored
        self.socket.kills_after = None
        self.agent = Agent(
            ENDPOINT,
            self.socket,  # type: ignore[arg-type]
            save=self.save,
            accepted={key: TableEntry(**entry) for key, entry in table.items()} or None,
        )
        if self.table:
            self.send_table()
            self.send_pods()

    def save(self, servers: Any, table: Any) -> None:
        if table != self.stored[1]:
            self.previous = self.stored[1]
        self.stored = list(servers), dict(table)

    def send_table(self) -> None:
        data = {
            version: json.dumps({"service": version, "port": self.port, "weight": weight,
                                 "check_path": PATH})
            for version, weight in self.table.items()
        }  # fmt: skip
        self.agent.take_table({"table": {"data": data}})

    def send_pods(self) -> None:
        self.agent.take_slices({
            version: {
                "metadata": {"labels": {"kubernetes.io/service-name": version}},
                "endpoints": [{"addresses": [self.address(version, pod)]} for pod in sorted(pods)],
            }
            for version, pods in self.pods.items()
        })  # fmt: skip

    def server(self, version: str, pod: int) -> str:
        return server_name(version, f"{self.address(version, pod)}:{self.port}", PATH)

    def is_healthy(self, name: str) -> bool:
        return any(self.server(*key) == name and healthy for key, healthy in self.healthy.items())

    def accepted(self) -> dict[str, int]:
        table = self.agent.state()["table"] or {}
        return {version: entry["weight"] for version, entry in table.items()}

    # Properties of each command.

    def before_command(self, name: str, endpoint: str, *arguments: Any) -> None:
        self.live_before = self.proxy.servers(ENDPOINT)
        self.switches = False
        if name == "set_weights":
            self.weights_follow_checks(*arguments)
        if name == "delete":
            server = self.live_before[arguments[0]]
            assert not server.in_service and not server.weight, "it was not drained"
            busy = server.name in self.proxy.busy_servers(ENDPOINT)
            assert arguments[1] or not busy, "it has requests in flight"

    def weights_follow_checks(self, before: dict[str, int], after: dict[str, int]) -> None:
        live = self.live_before
        new = {server for server, weight in after.items() if weight and not before[server]}
        for server in new:
            assert live[server].up and live[server].in_service, f"{server} was not checked"
        self.switches = bool(
            {service_of(server) for server in new} - self.weighted(self.accepted())
        )
        if self.switches:
            served = {service_of(server) for server in live if live[server].up}
            assert self.weighted(self.table) <= served, "the table is accepted too early"

    def after_command(self, name: str) -> None:
        before, after = self.serving(self.live_before), self.serving(self.proxy.servers(ENDPOINT))
        # The command serves one of these tables.
        tables = (self.table, self.accepted())
        if before and all(self.healthy_servers(table) for table in tables):
            assert after, f"{name} left no server for requests"
        if not self.within_grace():
            return
        if self.switches:
            assert len(after) >= len(self.healthy_servers(self.table)), "capacity fell"
        for version in self.weighted(tables[0]) & self.weighted(tables[1]):
            count = [
                sum(service_of(server) == version for server in servers)
                for servers in (before, after, self.healthy_servers({version: 1}))
            ]
            assert count[1] >= min(count[0], count[2]), f"{name} lowered the capacity of {version}"

    def within_grace(self) -> bool:
        """Whether the agent still waits for all servers of a new table."""
        return agent_module.time.monotonic() - self.agent._waiting_since < 5

    def allowed(self) -> set[str]:
        """Versions that may receive requests: an agent that is killed after it stored a table
        leaves the weights of the previous one."""
        tables = (self.previous, self.stored[1])
        return {key for table in tables for key, entry in table.items() if entry["weight"]}

    @staticmethod
    def weighted(table: dict[str, int]) -> set[str]:
        return {version for version, weight in table.items() if weight}

    @staticmethod
    def serving(live: dict[str, Any]) -> set[str]:
        return {each.name for each in live.values() if each.in_service and each.weight and each.up}

    def healthy_servers(self, table: dict[str, int]) -> set[str]:
        """Servers of weighted versions that are healthy and that HAProxy does not see as down."""
        live = self.live_before
        return {
            name
            for version in self.weighted(table)
            for pod in self.pods[version]
            if self.healthy.get((version, pod))
            and not ((name := self.server(version, pod)) in live and live[name].down)
        }

    # Rules.

    @initialize(table=shares(), pods=PODS_OF_VERSIONS)
    def begin(self, table: dict[str, int], pods: dict[str, set[int]]) -> None:
        self.change_table(table)
        self.change_pods(pods)

    @rule(table=shares())
    def change_table(self, table: dict[str, int]) -> None:
        self.table = table
        self.send_table()

    @rule(pods=PODS_OF_VERSIONS)
    def change_pods(self, pods: dict[str, set[int]]) -> None:
        self.pods = pods
        for version, numbers in pods.items():
            for pod in numbers:
                self.healthy.setdefault((version, pod), True)
        self.send_pods()

    @rule(version=st.sampled_from(VERSIONS), pod=st.sampled_from(PODS), healthy=st.booleans())
    def change_health(self, version: str, pod: int, healthy: bool) -> None:
        self.healthy[version, pod] = healthy

    @rule()
    def check(self) -> None:
        self.run_checks()

    @rule(times=st.integers(1, 4))
    def step(self, times: int) -> None:
        for _ in range(times):
            self.agent.follow()

    @rule(commands=st.integers(0, 5), checks=st.booleans())
    def kill_agent(self, commands: int, checks: bool) -> None:
        """The agent is killed in front of a command; the next one starts from what is stored."""
        self.socket.kills_after = commands
        try:
            for _ in range(3):
                self.agent.follow()
                if checks:
                    self.run_checks()
        except Killed:
            pass
        self.start_agent()

    @rule()
    def kill_proxy(self) -> None:
        self.restart_proxy()

    @rule()
    def settle(self) -> None:
        """With healthy pods for the table, the desired state is reached and stays."""
        for version, weight in self.table.items():
            if weight and not self.pods[version]:
                self.pods = {**self.pods, version: {PODS[0]}}
            for pod in self.pods[version]:
                self.healthy[version, pod] = True
        self.send_pods()
        self.finish_requests()
        for _ in range(100):
            self.agent.follow()
            if self.agent.settled:
                break
            self.run_checks()
        assert self.agent.settled
        assert self.accepted() == self.table
        self.has_exact_shares()
        commands = self.socket.commands
        self.agent.follow()
        assert self.socket.commands == commands, "a second run gives commands"

    def finish_requests(self) -> None:
        """Let all requests in flight end."""

    def has_exact_shares(self) -> None:
        live = self.proxy.servers(ENDPOINT)
        assert set(live) == {
            self.server(version, pod) for version in self.table for pod in self.pods[version]
        }
        total = sum(each.weight for each in live.values())
        for version, percent in self.table.items():
            weight = sum(each.weight for each in live.values() if service_of(each.name) == version)
            # 1 percent of many servers is rounded to HAProxy's integer weights.
            assert 100 * weight / total == pytest.approx(percent, abs=0.5)
        weights = {name: each.weight for name, each in live.items()}
        assert {each.name: each.weight for each in self.stored[0]} == weights, "after a restart"
        assert {v: e["weight"] for v, e in self.stored[1].items()} == self.table
