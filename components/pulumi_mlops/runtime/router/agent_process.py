"""The agent of a route's pod as a process: `python -m pulumi_mlops.runtime.router.agent_process`.

Follows the cluster's API, reconciles HAProxy and responds on PORT_STATE: `/ready` with 200 once a
table is accepted, `/state` with the accepted table. `/drain`, the pod's preStop hook, moves the
clients to other pods and responds when they had time to reconnect. HAProxy is a sibling process:
it serves while no agent runs, and the next agent continues from the stored table.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from .agent import Agent, ProxyUnresponsive, Table
from .files import ProxyFiles
from .haproxy import ProxyServer, ProxySettings
from .haproxy_socket import RuntimeSocket
from .pod import LISTEN, UNRESPONSIVE, proxy_settings
from .watch import ACCOUNT, InClusterApi, TableEntry


class _StateRequestHandler(BaseHTTPRequestHandler):
    def __init__(self, agent: Agent, *arguments: object) -> None:
        self._agent = agent
        super().__init__(*arguments)  # type: ignore[arg-type] # as the server passes them

    def do_GET(self) -> None:
        """Respond to a probe, the preStop hook or the resource plugin."""
        if self.path == "/drain":
            self._agent.drain()
        statuses = {"/ready": 200 if self._agent.ready else 503, "/state": 200, "/drain": 200}
        body = json.dumps(self._agent.state()).encode()
        self.send_response(statuses.get(self.path, 404))
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes are not logged."""


def stored_table(files: ProxyFiles) -> Table | None:
    """The table that the previous agent accepted; None without a valid one."""
    stored = files.load()
    if stored is None or not stored.table:
        return None
    try:
        return {version: TableEntry(**entry) for version, entry in stored.table.items()}
    except (TypeError, ValueError):  # written by another version of this program
        return None


def make_agent(settings: ProxySettings, files: ProxyFiles) -> Agent:
    """The agent of the proxy with these settings and files."""

    def save(servers: Sequence[ProxyServer], table: Mapping[str, Any]) -> None:
        files.save(settings, servers, table)

    return Agent(
        settings.endpoint, RuntimeSocket(settings.socket), save=save, accepted=stored_table(files)
    )


def main() -> None:
    """Run until a part of the agent fails; the pod's first process starts it again."""
    env = os.environ
    settings = proxy_settings(env)
    agent = make_agent(settings, ProxyFiles(Path(env["RUNTIME_DIR"]), listen=LISTEN))
    handler = partial(_StateRequestHandler, agent)
    server = ThreadingHTTPServer((settings.host, int(env["PORT_STATE"])), handler)
    host = env["KUBERNETES_SERVICE_HOST"]
    url = f"https://{f'[{host}]' if ':' in host else host}:{env['KUBERNETES_SERVICE_PORT']}"
    account = Path(env.get("SERVICE_ACCOUNT_DIR", ACCOUNT))
    core = f"/api/v1/namespaces/{env['NAMESPACE']}"
    discovery = f"/apis/discovery.k8s.io/v1/namespaces/{env['NAMESPACE']}"
    table_query = {"fieldSelector": f"metadata.name={env['MLOPS_TABLE']}"}
    exit_codes: SimpleQueue[int] = SimpleQueue()
    for work in (
        server.serve_forever,
        partial(
            InClusterApi(url, account).follow, f"{core}/configmaps", table_query, agent.take_table
        ),
        partial(
            InClusterApi(url, account).follow, f"{discovery}/endpointslices", {}, agent.take_slices
        ),
        agent.run,
    ):
        threading.Thread(target=_run, args=(work, exit_codes), daemon=True).start()
    raise SystemExit(exit_codes.get())


def _run(work: Callable[[], None], exit_codes: SimpleQueue[int]) -> None:
    """The agent ends with any of its parts: without one it would appear to work and do nothing."""
    code = 1
    try:
        work()
    except ProxyUnresponsive as error:
        print(error, flush=True)
        code = UNRESPONSIVE
    except Exception:
        traceback.print_exc()
    finally:
        exit_codes.put(code)


if __name__ == "__main__":
    main()
