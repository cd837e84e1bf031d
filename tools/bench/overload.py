"""Goodput of a model server at twice its capacity, relative to its capacity.

The model sleeps for a fixed time, so that its capacity does not depend on the machine. Clients
arrive at a fixed rate, whatever becomes of the others, and give up after 2 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, progress
from servers import Server, free_port
from serving import start_mlflow, start_ours

MODEL_SECONDS = 0.02
PATIENCE_SECONDS = 2.0
SECONDS = 10.0
BODY = b'{"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}'

SAVE = """
import sys, time, mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature
class Sleep(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        time.sleep({seconds} * len(model_input))
        return np.asarray(model_input["x"], dtype=float)
example = pd.DataFrame({{"x": [0.0]}})
mlflow.pyfunc.save_model(
    {path!r}, python_model=Sleep(), signature=infer_signature(example, np.array([0.0])),
    pip_requirements=[],
)
"""


def goodput(smoke: bool) -> Iterator[Figure]:
    """Answers in time at twice the capacity, and the wait of the first request afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-overload-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        model = folder / "model"
        code = SAVE.format(seconds=MODEL_SECONDS, path=str(model))
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True
        )
        starts = {"ours": start_ours, "mlflow models serve": start_mlflow}
        for server_name, start in starts.items():
            port = free_port()
            server = start(port, model, folder)
            try:
                ready = "/v2/health/ready" if server_name == "ours" else "/health"
                progress(f"waiting for {server_name}")
                server.wait(f"http://127.0.0.1:{port}{ready}")
                yield from _figures(server_name, server, port, smoke)
            finally:
                server.stop()


def _figures(name: str, server: Server, port: int, smoke: bool) -> Iterator[Figure]:
    seconds = 0.5 if smoke else SECONDS
    ours = name == "ours"
    # A closed loop of a few clients.
    count = 8 if smoke else 400
    capacity = server.rate(port, "/invocations", BODY, clients=4, requests=count).per_second
    progress(f"{name}: capacity {capacity:.0f} requests per second")
    answered, first = asyncio.run(_overload(port, 2 * capacity, seconds))
    value = round(answered / seconds / capacity, 3)
    yield Figure(
        f"{name}: goodput at 2 x capacity / capacity", value, 0.8 if ours else None, at_most=False
    )
    limit = PATIENCE_SECONDS if ours else None
    yield Figure(f"{name}: first answer after the overload", round(first, 3), limit, unit="s")


async def _overload(port: int, rate: float, seconds: float) -> tuple[int, float]:
    """The requests that were answered in time, and the seconds to the next answer after that."""
    started = time.monotonic()
    tasks = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(_answered(port)))
    ended = time.monotonic()
    while not await _answered(port):
        if time.monotonic() - ended > 60:
            break
    first = time.monotonic() - ended
    return sum(await asyncio.gather(*tasks)), first


async def _answered(port: int) -> bool:
    """Whether a client with a connection of its own gets an answer in time."""
    head = (
        "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
    )
    writer = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode() + BODY)
            return b" 200 " in await reader.readline()
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
