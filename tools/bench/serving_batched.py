"""Serving speed at 32 concurrent clients, where waiting requests can be combined.

MLServer runs with its own adaptive batching (`max_batch_size`, `max_batch_time`), for one request
in the time of five of the model's calls.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import serving
from figures import Figure, progress, ratio_of_medians
from servers import Rate, Server, free_port, load, paired, rate_ratios

CLIENTS = 32
REQUESTS = 1600
ROUNDS = 5
LATENCIES = 300
OURS, OFF, NO_SPOOL = "batched", "not batched", "without the local file of the log"
FASTAPI, MLSERVER = "bare FastAPI", "MLServer with batching"


def requests(smoke: bool) -> Iterator[Figure]:
    """Rates and the latency of a lone client."""
    with tempfile.TemporaryDirectory(prefix="bench-batched-", ignore_cleanup_errors=True) as name:
        yield from _figures(Path(name), smoke)


def _figures(folder: Path, smoke: bool) -> Iterator[Figure]:
    model = serving.train(folder)
    targets = serving.targets_for(json.dumps(
        {"dataframe_split": {"columns": serving.COLUMNS, "data": [serving.ROW]}}
    ).encode())  # fmt: skip
    paths = {
        OURS: targets["V2"],
        OFF: targets["V2"],
        NO_SPOOL: targets["V2"],
        FASTAPI: targets["bare FastAPI"],
        MLSERVER: targets["MLServer"],
    }
    ports = {name: free_port() for name in paths}
    servers: dict[str, Server] = {}
    try:
        servers[OURS] = serving.start_ours(ports[OURS], model, folder)
        servers[OFF] = serving.start_ours(ports[OFF], model, folder, MLOPS_MAX_BATCH="1")
        servers[NO_SPOOL] = serving.start_ours(
            ports[NO_SPOOL], model, folder, MLOPS_PREDICTION_LOG_SPOOL=""
        )
        servers[FASTAPI] = serving.start_fastapi(ports[FASTAPI], model, folder)
        if python := serving.mlserver_environment(install=not smoke):
            servers[MLSERVER] = serving.start_mlserver(
                python, ports[MLSERVER], model, folder, max_batch_size=32, max_batch_time=0.005
            )
        for name, server in servers.items():
            progress(f"waiting for {name}")
            server.wait(f"http://127.0.0.1:{ports[name]}{paths[name][2]}")
        yield from _throughput(servers, ports, paths, smoke)
        yield _latency(ports, paths[OURS], smoke)
    finally:
        for server in servers.values():
            server.stop()


def _throughput(
    servers: dict[str, Server],
    ports: dict[str, int],
    paths: dict[str, tuple[str, bytes, str]],
    smoke: bool,
) -> Iterator[Figure]:
    count = CLIENTS if smoke else REQUESTS

    def measure(name: str) -> Callable[[], Rate]:
        path, body, _ = paths[name]
        return lambda: servers[name].rate(ports[name], path, body, clients=CLIENTS, requests=count)

    samples = paired({name: measure(name) for name in servers}, 1 if smoke else ROUNDS)
    for name, limit in ((FASTAPI, 4.0), (OFF, None), (MLSERVER, None), (NO_SPOOL, 0.95)):
        if name in samples:
            yield from rate_ratios(
                f"{OURS} / {name}, {CLIENTS} clients", samples[OURS], samples[name], limit
            )


def _latency(ports: dict[str, int], path: tuple[str, bytes, str], smoke: bool) -> Figure:
    """The median latency of a lone client, with batching over without; alternating requests."""
    seconds: dict[str, list[float]] = {OURS: [], OFF: []}
    for _ in range(3 if smoke else LATENCIES):
        for name, values in seconds.items():
            values.append(load(ports[name], path[0], path[1], clients=1, requests=1))
    for name, values in seconds.items():
        progress(f"latency of one client, {name}: {statistics.median(values) * 1000:.2f} ms")
    ours, reference = seconds[OURS], seconds[OFF]
    return ratio_of_medians("latency of one client, batched / not", ours, reference, 1.1)
