"""MLflow's scoring server and this project's, in this process, with the same loaded model."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from mlflow.pyfunc import scoring_server

from pulumi_mlops.runtime.model_server.app import App
from pulumi_mlops.runtime.model_server.loader import LoadError, load
from pulumi_mlops.runtime.model_server.metrics import Metrics
from pulumi_mlops.runtime.model_server.settings import ModelServerSettings

from .case import Body, Model


@dataclass(frozen=True)
class Reply:
    """A status and the text of the response."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        """Whether the model answered."""
        return self.status == 200

    @property
    def parsed(self) -> Any:
        """The body, or its text if it is not JSON. Python's parser accepts NaN."""
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    model: Model
    request: str
    theirs: Reply
    ours: Reply


class Servers:
    """Both servers with one model."""

    def __init__(self, model: Model, folder: Path) -> None:
        self.model = model
        model.save(folder)
        self.refusal = ""
        try:
            inference = load(self._settings(folder), str(folder))
        except LoadError as error:
            self.refusal = str(error)
            inference = load(self._settings(folder, MLOPS_CHECK_OUTPUT="warn"), str(folder))
        self.inference = inference
        settings = self._settings(folder)
        ours = App(settings, Metrics(settings, None), None)
        ours.state.inference = inference
        self._ours = httpx.ASGITransport(app=ours, raise_app_exceptions=False)
        theirs = scoring_server.init(inference.pyfunc)
        self._theirs = httpx.ASGITransport(app=theirs, raise_app_exceptions=False)

    @staticmethod
    def _settings(folder: Path, **env: str) -> ModelServerSettings:
        return ModelServerSettings.from_env({
            "MLOPS_ENDPOINT": "compared", "MLOPS_MODEL_NAME": "compared",
            "MLOPS_MODEL_VERSION": "1", "MLOPS_MODEL_URI": str(folder),
            "MLOPS_MAX_BODY_BYTES": str(1 << 30), **env,
        })  # fmt: skip

    async def row(self, request: Body) -> Row:
        """Send the same bytes to both."""
        theirs = await self._post(self._theirs, request)
        ours = await self._post(self._ours, request)
        return Row(self.model, request.name, theirs, ours)

    async def infer(self, request: dict[str, Any]) -> Reply:
        """A V2 request to this project's server."""
        content = json.dumps(request).encode()
        return await self._post(self._ours, Body("", content), "/v2/models/compared/infer")

    @staticmethod
    async def _post(
        transport: httpx.ASGITransport, request: Body, path: str = "/invocations"
    ) -> Reply:
        headers = {} if request.content_type is None else {"content-type": request.content_type}
        sent = httpx.Request(
            "POST", f"http://server{path}", content=request.content, headers=headers
        )
        response = await transport.handle_async_request(sent)
        return Reply(response.status_code, (await response.aread()).decode())


def rows(servers: Servers, requests: list[Body]) -> list[Row]:
    """One row for each request."""

    async def send() -> list[Row]:
        return [await servers.row(request) for request in requests]

    return asyncio.run(send())


@contextmanager
def modules_restored() -> Iterator[None]:
    """Models with `code_paths` extend sys.path and sys.modules."""
    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name.startswith("compared_"):
                del sys.modules[name]
