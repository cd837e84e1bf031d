"""`mlops:mlflow:ModelVersion`: a model version in an MLflow model registry.

It is looked up with MLflow's REST API (mlflow.org, "REST API", version 2.0). Training pipelines
register model versions. This resource creates and deletes none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx
from pydantic import Field

from ..runtime import model_names
from ..runtime.net import is_http, is_loopback
from . import model_environment
from .errors import GoneError, ResourceError, UnreachableError
from .handler import Context, Handler, Inputs, OutputField
from .values import OrUnknown, has_unknown

_API = "/api/2.0/mlflow"
_EXAMPLE = "serving_input_example.json"
_MAX_EXAMPLE_LENGTH = 4096


class ModelVersionInputs(Inputs):
    """Inputs of `mlops:mlflow:ModelVersion`."""

    tracking_uri: OrUnknown[str] = Field(
        description="URL of the MLflow server, such as `http://127.0.0.1:5000`."
    )
    model: OrUnknown[str] = Field(description="Name of the registered model.")
    version: OrUnknown[str] = Field(description="Version number as text, such as `7`.")
    username: OrUnknown[str | None] = Field(
        None, description="User name at the server. Default: no authentication."
    )
    password: OrUnknown[str | None] = Field(
        None, description="Password of the user. Default: no authentication."
    )
    after: OrUnknown[Any] = Field(
        None,
        description="A value to wait for before the version is looked up, such as an output of the "
        "resource that registers it. Default: no wait.",
    )
    read_requirements: OrUnknown[bool] = Field(
        False,
        description="Read the requirements and the Python version that MLflow stored with the "
        "version.",
    )


class ModelVersionHandler(Handler[ModelVersionInputs]):
    """Looks model versions up."""

    token = "mlops:mlflow:ModelVersion"
    description = (
        "A version that is registered in an MLflow model registry and ready. Deletion leaves it "
        "registered. To import a version, use `<model>/<version>` as the id and set "
        "MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    )
    inputs = ModelVersionInputs
    secret_inputs = frozenset({"password"})
    outputs: ClassVar[dict[str, OutputField]] = {
        "uri": OutputField(str, "`models:/<model>/<version>`.", state_only=True),
        "source": OutputField(str, "URI of the model's files."),
        "runId": OutputField(str, "Id of the run that registered the version."),
        "modelId": OutputField(str, "Id of the logged model.", state_only=True),
        "example": OutputField(
            str, "Request that the model was logged with, as JSON. Empty without an example."
        ),
        "requirements": OutputField(
            list[str], "Requirements of the model, if `readRequirements`. Otherwise empty."
        ),
        "python": OutputField(
            str, "Python version of the model, such as `3.11`. Empty if it is not known."
        ),
    }
    replace_on = frozenset({"model", "version"})
    ignore_in_diff = frozenset({"after"})

    def check(self, ctx: Context, new: ModelVersionInputs) -> list[tuple[str, str]]:
        problems = []
        if isinstance(new.version, str) and not (new.version.isascii() and new.version.isdigit()):
            problems.append(
                ("version", f'must be a number in quotes, such as "7", not {new.version!r}')
            )
        if isinstance(new.model, str) and (message := model_names.problem(new.model)) is not None:
            problems.append(("model", message))
        if isinstance(new.tracking_uri, str) and not is_http(new.tracking_uri):
            problems.append(("trackingUri", "must be http://host:port or https://host"))
        if (new.username is None) != (new.password is None):
            missing = "username" if new.username is None else "password"
            problems.append(
                (missing, "username and password are required together: set both, or neither")
            )
        return problems

    def preview(
        self, ctx: Context, new: ModelVersionInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        known: dict[str, Any] = {}
        if old is not None and (old.get("model"), old.get("version")) == (new.model, new.version):
            known = {name: old[name] for name in self.outputs if name in old}
            if old.get("readRequirements", False) != new.read_requirements:
                known = {k: v for k, v in known.items() if k not in {"requirements", "python"}}
        if has_unknown(list(dict(new).values())):
            return known
        try:
            return _outputs_of(_registry(ctx, new, quick=True), new)
        except UnreachableError as error:
            ctx.log(f"not checked at preview: {error}", level="warning")
        return known

    def create(self, ctx: Context, new: ModelVersionInputs) -> tuple[str, dict[str, Any]]:
        return f"{new.model}/{new.version}", _outputs_of(_registry(ctx, new), new)

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        model, _, version = resource_id.rpartition("/")
        if not model or not version.isdigit():
            raise ResourceError(f'{resource_id!r} must be <model>/<version>, such as "penguins/7"')
        reach = ctx.reach
        registry = Registry.of_state(state, reach) if state else Registry.of_environment()
        try:
            record = registry.get(model, version)
        except GoneError:
            return None
        except UnreachableError as error:
            if not state:
                raise
            ctx.log(f"the recorded state is kept: {error}", level="warning")
            return {}
        if record is None:
            if state:
                ctx.log(_kept(model, version), level="warning")
                return {}
            return None
        identity = {"trackingUri": registry.uri, "model": model, "version": version}
        return {**({} if state else identity), **_outputs(record)}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ModelVersionInputs
    ) -> dict[str, Any]:
        registry = _registry(ctx, new)
        if registry.get(new.model, new.version) is None and "source" in old:
            # Its servers use the files that were fetched before, if there are any. Otherwise the
            # fetch fails.
            ctx.log(_kept(new.model, new.version), level="warning")
            return {name: old[name] for name in self.outputs if name in old}
        return _outputs_of(registry, new)

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Do nothing: a registered model version is data."""


@dataclass(frozen=True)
class Registry:
    """The model registry of an MLflow server."""

    uri: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    quick: bool = False
    reach: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """Maps the URL to one that this machine can reach."""

    @classmethod
    def of_state(cls, state: dict[str, Any], reach: Callable[[str], str]) -> Registry:
        user, password = state.get("username"), state.get("password")
        return cls(state["trackingUri"], user, password, reach=reach)

    @classmethod
    def of_environment(cls) -> Registry:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not is_http(uri):
            raise ResourceError(
                "an import needs the URL of the server: set MLFLOW_TRACKING_URI to "
                "http://host:port or https://host, and MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD if the server requires authentication"
            )
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        return cls(uri, user, os.environ.get("MLFLOW_TRACKING_PASSWORD") if user else None)

    def ready(self, model: str, version: str) -> dict[str, Any]:
        """The outputs of a version with status READY.

        Otherwise raises ResourceError with the registered versions or models.
        """
        record = self.get(model, version)
        if record is None:
            raise ResourceError(self._not_registered(model, version))
        status = record.get("status", "READY")
        if status != "READY":
            message = record.get("status_message")
            raise ResourceError(
                f'{model} version "{version}" at {self.uri} is {status}'
                f"{f' ({message})' if message else ''}, not READY: wait until its registration is "
                "complete, register it again, or set another version (input version)"
            )
        return {**_outputs(record), "example": self._example(model, version)}

    def _example(self, model: str, version: str) -> str:
        """The input example that the model was logged with, as a body for `/invocations`, or empty.

        Requires a server that serves artifacts itself. The example is optional, so errors are
        ignored.
        """
        parameters = {"name": model, "version": version}
        try:
            answer = self._ask("model-versions/get-download-uri", parameters) or {}
            scheme, _, path = str(answer.get("artifact_uri", "")).partition(":/")
            if scheme != "mlflow-artifacts":
                return ""
            text = self._get(
                f"/api/2.0/mlflow-artifacts/artifacts/{path.lstrip('/')}/{_EXAMPLE}"
            ).text
            return json.dumps(json.loads(text)) if len(text) <= _MAX_EXAMPLE_LENGTH else ""
        except (ResourceError, ValueError):
            return ""

    def file(self, model: str, version: str, path: str) -> str | None:
        """A text file of the model, or None if it does not exist. The server reads it."""
        answer = self._get(
            "/model-versions/get-artifact", {"name": model, "version": version, "path": path}
        )
        if answer.status_code == 200:
            return answer.text
        if answer.status_code in {401, 403}:
            raise UnreachableError(f"{self.uri} {self._why_refused(answer.status_code)}")
        # MLflow answers a missing file with 500, by the error of its artifact store.
        return None

    def get(self, model: str, version: str) -> dict[str, Any] | None:
        """The record of the version in the model registry, or None if it does not exist."""
        answer = self._ask("model-versions/get", {"name": model, "version": version})
        return None if answer is None else answer["model_version"]

    def versions(self, model: str) -> list[int]:
        """The numbers of at most 1000 registered versions of `model`."""
        if "'" not in model:
            condition = f"name='{model}'"
        elif '"' not in model:
            condition = f'name="{model}"'
        else:
            # MLflow cannot escape a quotation mark. `_` matches any character.
            pattern = model.replace("'", "_")
            condition = f"name LIKE '{pattern}'"
        parameters = {"filter": condition, "max_results": "1000"}
        answer = self._ask("model-versions/search", parameters) or {}
        found = answer.get("model_versions", [])
        return sorted(int(each["version"]) for each in found if each["name"] == model)

    def _not_registered(self, model: str, version: str) -> str:
        versions = self.versions(model)
        if versions:
            # A model may have hundreds of versions. The newest ones help most.
            newest = "newest " if len(versions) > 20 else ""
            plural = "" if len(versions) == 1 else "s"
            numbers = ", ".join(map(str, versions[-20:]))
            return (
                f'{model} has no version "{version}". Its {newest}registered version{plural}: '
                f"{numbers}. Correct the traffic table of the endpoint (of a ModelVersion: its "
                "input version)"
            )
        if self._ask("registered-models/get", {"name": model}) is not None:
            return (
                f'{model} has no version "{version}": no version of it is registered. Run the '
                "pipeline that registers one"
            )
        answer = self._ask("registered-models/search", {"max_results": "20"}) or {}
        names = ", ".join(each["name"] for each in answer.get("registered_models", []))
        return (
            f"{self.uri} has no registered model {model} (input model): "
            + (f"its models are {names}" if names else "it has no models")
            + ". Run the pipeline that registers it, or correct the name"
        )

    def _ask(self, path: str, parameters: dict[str, str]) -> dict[str, Any] | None:
        """The body of the response, or None if the requested entity does not exist."""
        answer = self._get(f"{_API}/{path}", parameters)
        try:
            body = answer.json()
        except ValueError:
            body = {}
        body = body if isinstance(body, dict) else {}
        if answer.status_code == 404 and body.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            return None
        if answer.status_code in {401, 403}:
            raise UnreachableError(
                f"{self.uri} {self._why_refused(answer.status_code)} ({answer.status_code}: "
                f"{_first_line(answer)})"
            )
        if answer.status_code != 200 or (not body and "search" not in path):
            raise UnreachableError(
                f"{self.uri} is not an MLflow server, or it fails ({answer.status_code}: "
                f"{_first_line(answer)}): correct trackingUri, or read the log of the server"
            )
        return body

    def _why_refused(self, status: int) -> str:
        if status == 401 and self.username is None:
            return "requires authentication: set the inputs username and password"
        if status == 401:
            return (
                f"refused the user name {self.username} or its password: correct the inputs "
                "username and password, or change the password on the server"
            )
        return (
            f"denied access to {self.username or 'an anonymous user'}: set a user who may read "
            "the model registry (inputs username, password), or allow this host name on the server "
            "(--allowed-hosts)"
        )

    def _get(self, path: str, parameters: dict[str, str] | None = None) -> httpx.Response:
        uri = self.reach(self.uri)
        try:
            with httpx.Client(
                auth=(self.username, self.password or "") if self.username else None,
                timeout=httpx.Timeout(5 if self.quick else 30, connect=2 if self.quick else 5),
                # A proxy from the environment variables cannot reach the loopback address.
                trust_env=not is_loopback(uri),
            ) as client:
                return client.get(f"{uri.rstrip('/')}{path}", params=parameters)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"no MLflow server answers at {self.uri} ({error or type(error).__name__}): start "
                "it, or correct trackingUri"
            ) from None


def _outputs_of(registry: Registry, new: ModelVersionInputs) -> dict[str, Any]:
    outputs = registry.ready(new.model, new.version)
    requirements: list[str] = []
    python = ""
    if new.read_requirements:
        requirements, python = model_environment.read(
            f'{new.model} version "{new.version}"',
            lambda path: registry.file(new.model, new.version, path),
        )
    return {**outputs, "requirements": requirements, "python": python}


def _registry(ctx: Context, new: ModelVersionInputs, *, quick: bool = False) -> Registry:
    return Registry(new.tracking_uri, new.username, new.password, quick, ctx.reach)


def _kept(model: str, version: str) -> str:
    return (
        f'{model} version "{version}" is deployed, but no longer registered: its servers start '
        "only from files that were fetched before. Register it again, or move the traffic to "
        "another version"
    )


def _outputs(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of the record that never change."""
    return {
        "uri": f"models:/{record['name']}/{record['version']}",
        "source": record.get("source") or "",
        "runId": record.get("run_id") or "",
        "modelId": record.get("model_id") or "",
    }


def _first_line(answer: httpx.Response) -> str:
    lines = answer.text.strip().splitlines()
    return lines[0][:200] if lines else "empty response"
