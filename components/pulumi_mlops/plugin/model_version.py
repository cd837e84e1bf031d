"""`mlops:mlflow:ModelVersion`: a version that is registered in an MLflow model registry.

It is looked up over MLflow's REST API (mlflow.org, "REST API", version 2.0) and never made or
deleted here: registering is what a training pipeline does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx
from pydantic import Field

from ..runtime.net import is_http, is_loopback
from .errors import GoneError, ResourceError, UnreachableError
from .handler import Context, Handler, Inputs, OutputField
from .values import Known, has_unknown

_API = "/api/2.0/mlflow"
_EXAMPLE = "serving_input_example.json"
_LONGEST_EXAMPLE = 4096


class ModelVersionInputs(Inputs):
    """Inputs of `mlops:mlflow:ModelVersion`."""

    tracking_uri: Known[str] = Field(
        description="URL of the MLflow server, such as `http://127.0.0.1:5000`."
    )
    model: Known[str] = Field(description="Name of the registered model.")
    version: Known[str] = Field(description="Version number as text, such as `7`.")
    username: Known[str | None] = Field(
        None, description="User name at the server. Default: no authentication."
    )
    password: Known[str | None] = Field(
        None, description="Password of the user. Default: no authentication."
    )
    after: Known[Any] = Field(
        None,
        description="A value to wait for before the version is looked up, such as an output of the "
        "resource that registers it. Default: no wait.",
    )


class ModelVersionHandler(Handler[ModelVersionInputs]):
    """Looks versions up."""

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
    }
    replace_on = frozenset({"model", "version"})
    ignore_in_diff = frozenset({"after"})

    def check(self, ctx: Context, new: ModelVersionInputs) -> list[tuple[str, str]]:
        problems = []
        if isinstance(new.version, str) and not (new.version.isascii() and new.version.isdigit()):
            problems.append(
                ("version", f'has to be a number in quotes, such as "7", not {new.version!r}')
            )
        if isinstance(new.model, str) and (not new.model.strip() or set(new.model) & set("/:")):
            problems.append(("model", "has to be a registered model's name, without / and :"))
        if isinstance(new.tracking_uri, str) and not is_http(new.tracking_uri):
            problems.append(("trackingUri", "has to be http://host:port or https://host"))
        if (new.username is None) != (new.password is None):
            missing = "username" if new.username is None else "password"
            problems.append((missing, "username and password go together: give both"))
        return problems

    def preview(
        self, ctx: Context, new: ModelVersionInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        known: dict[str, Any] = {}
        if old is not None and (old.get("model"), old.get("version")) == (new.model, new.version):
            known = {name: old.get(name, "") for name in self.outputs}
        if has_unknown(list(dict(new).values())):
            return known
        try:
            return _registry(ctx, new, quick=True).ready(new.model, new.version)
        except UnreachableError as error:
            ctx.log(f"not checked at preview: {error}", level="warning")
        return known

    def create(self, ctx: Context, new: ModelVersionInputs) -> tuple[str, dict[str, Any]]:
        return f"{new.model}/{new.version}", _registry(ctx, new).ready(new.model, new.version)

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        model, _, version = resource_id.rpartition("/")
        if not model or not version.isdigit():
            raise ResourceError(
                f'{resource_id!r} has to be <model>/<version>, such as "penguins/7"'
            )
        reach = ctx.reach
        registry = _Registry.of_state(state, reach) if state else _Registry.of_environment()
        try:
            found = registry.get(model, version)
        except GoneError:
            return None
        except UnreachableError as error:
            if not state:
                raise
            ctx.log(f"left as recorded: {error}", level="warning")
            return {}
        if found is None:
            return None
        named = {"trackingUri": registry.uri, "model": model, "version": version}
        return {**({} if state else named), **_outputs(found)}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ModelVersionInputs
    ) -> dict[str, Any]:
        return self.create(ctx, new)[1]

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """A registered version is data: it stays."""


@dataclass(frozen=True)
class _Registry:
    """An MLflow server's model registry."""

    uri: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    quick: bool = False
    reach: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """From the address to one that this machine reaches it by."""

    @classmethod
    def of_state(cls, state: dict[str, Any], reach: Callable[[str], str]) -> _Registry:
        user, password = state.get("username"), state.get("password")
        return cls(state["trackingUri"], user, password, reach=reach)

    @classmethod
    def of_environment(cls) -> _Registry:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not is_http(uri):
            raise ResourceError(
                "an import has to know the server: set MLFLOW_TRACKING_URI to http://host:port or "
                "https://host (with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD if it "
                "asks for them)"
            )
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        return cls(uri, user, os.environ.get("MLFLOW_TRACKING_PASSWORD") if user else None)

    def ready(self, model: str, version: str) -> dict[str, Any]:
        """The outputs of a version that may be served, or a ResourceError that says what is
        there."""
        found = self.get(model, version)
        if found is None:
            raise ResourceError(self._what_there_is(model, version))
        status = found.get("status", "READY")
        if status != "READY":
            message = found.get("status_message")
            raise ResourceError(
                f'{model} version "{version}" at {self.uri} is {status}'
                f"{f' ({message})' if message else ''}, not READY: wait until its registration has "
                "ended, register it again, or name another (input version)"
            )
        return {**_outputs(found), "example": self._example(model, version)}

    def _example(self, model: str, version: str) -> str:
        """The request that the model was logged with, as /invocations takes it; else empty.

        Only where the server passes artifacts on itself; an example is a nicety and never a reason
        to fail.
        """
        named = {"name": model, "version": version}
        try:
            found = self._ask("model-versions/get-download-uri", named) or {}
            scheme, _, path = str(found.get("artifact_uri", "")).partition(":/")
            if scheme != "mlflow-artifacts":
                return ""
            text = self._get(
                f"/api/2.0/mlflow-artifacts/artifacts/{path.lstrip('/')}/{_EXAMPLE}"
            ).text
            return json.dumps(json.loads(text)) if len(text) <= _LONGEST_EXAMPLE else ""
        except (ResourceError, ValueError):
            return ""

    def get(self, model: str, version: str) -> dict[str, Any] | None:
        """The registry's record of the version, or None when there is none."""
        answer = self._ask("model-versions/get", {"name": model, "version": version})
        return None if answer is None else answer["model_version"]

    def _what_there_is(self, model: str, version: str) -> str:
        quote = '"' if "'" in model else "'"
        where = {"filter": f"name={quote}{model}{quote}", "max_results": "1000"}
        answer = self._ask("model-versions/search", where) or {}
        versions = sorted(int(each["version"]) for each in answer.get("model_versions", []))
        if versions:
            # A registry may have hundreds; the newest are those that somebody means.
            there = "the newest" if len(versions) > 20 else "registered"
            told = ", ".join(map(str, versions[-20:]))
            return (
                f'{model} has no version "{version}": {there} are {told} (input version; of a '
                "serving endpoint: traffic)"
            )
        if self._ask("registered-models/get", {"name": model}) is not None:
            return (
                f'{model} has no version "{version}": it has none at all (input version); run the '
                "pipeline that registers one"
            )
        answer = self._ask("registered-models/search", {"max_results": "20"}) or {}
        names = ", ".join(each["name"] for each in answer.get("registered_models", []))
        return (
            f"{self.uri} has no registered model {model} (input model): "
            + (f"registered are {names}" if names else "none is registered yet")
            + "; run the pipeline that registers it, or correct the name"
        )

    def _ask(self, path: str, parameters: dict[str, str]) -> dict[str, Any] | None:
        """The answer, or None when the registry has nothing of that name."""
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
                f"{self.uri} is no MLflow server, or an ailing one ({answer.status_code}: "
                f"{_first_line(answer)}): correct trackingUri, or see the server's log"
            )
        return body

    def _why_refused(self, status: int) -> str:
        if status == 401 and self.username is None:
            return "asks for a user: give username and password (inputs of that name)"
        if status == 401:
            return (
                f"does not know the user {self.username} by this password: correct inputs username "
                "and password, or set that user's password on the server"
            )
        return (
            f"refused the question of {self.username or 'an anonymous user'}: give a user who may "
            "read the registry (inputs username, password), or allow this host name on the server "
            "(--allowed-hosts)"
        )

    def _get(self, path: str, parameters: dict[str, str] | None = None) -> httpx.Response:
        uri = self.reach(self.uri)
        try:
            with httpx.Client(
                auth=(self.username, self.password or "") if self.username else None,
                timeout=httpx.Timeout(5 if self.quick else 30, connect=2 if self.quick else 5),
                # A proxy of the environment knows nothing of this machine's loopback.
                trust_env=not is_loopback(uri),
            ) as client:
                return client.get(f"{uri.rstrip('/')}{path}", params=parameters)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"no MLflow server answers at {self.uri} ({error or type(error).__name__}): start "
                "it, or correct trackingUri"
            ) from None


def _registry(ctx: Context, new: ModelVersionInputs, *, quick: bool = False) -> _Registry:
    return _Registry(new.tracking_uri, new.username, new.password, quick, ctx.reach)


def _outputs(found: dict[str, Any]) -> dict[str, Any]:
    """What of the record stays the same for the version's life."""
    return {
        "uri": f"models:/{found['name']}/{found['version']}",
        "source": found.get("source") or "",
        "runId": found.get("run_id") or "",
        "modelId": found.get("model_id") or "",
    }


def _first_line(answer: httpx.Response) -> str:
    lines = answer.text.strip().splitlines()
    return lines[0][:200] if lines else "no text"
