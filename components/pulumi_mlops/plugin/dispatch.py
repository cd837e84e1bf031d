"""Dispatches the requests of the engine to the handler of the resource type."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue
from pydantic import ValidationError

from ..sources import find_project
from ..stackdir import StackDir, data_folder_problem, name_problem
from .errors import ResourceError
from .handler import Context, Handler, ResourceSet
from .masking import Masking
from .schema import schema_of
from .values import UNKNOWN, differences, to_plain, to_property

Properties = Mapping[str, PropertyValue]

_REPLACING = {
    api.PropertyDiffKind.ADD: api.PropertyDiffKind.ADD_REPLACE,
    api.PropertyDiffKind.DELETE: api.PropertyDiffKind.DELETE_REPLACE,
    api.PropertyDiffKind.UPDATE: api.PropertyDiffKind.UPDATE_REPLACE,
}


class MlopsProvider(api.Provider):
    """The provider that the engine calls. It validates inputs and calls handlers in threads."""

    def __init__(
        self, resource_sets: Sequence[ResourceSet], version: str, log: Callable[..., None]
    ) -> None:
        self._resource_sets = resource_sets
        self._handlers = {
            handler.token: handler for each in resource_sets for handler in each.handlers()
        }
        self._version = version
        self._log = log
        self._cancelled = threading.Event()
        # Operations mostly wait for processes, so that more threads than cores are useful.
        self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="resource")
        self._data_dir: str | None = None
        self._known_ids: set[str] = set()
        self._created: set[tuple[str, str]] = set()
        self._failed = False
        """Whether a create or update has failed. With `--continue-on-error` the engine then omits
        inputs that depend on it, and skips the resource after `check` and `diff`."""

    async def get_schema(self, request: api.GetSchemaRequest) -> api.GetSchemaResponse:
        return api.GetSchemaResponse(schema_of(list(self._handlers.values()), self._version))

    async def check_config(self, request: api.CheckRequest) -> api.CheckResponse:
        old, new = _plain(request.old_inputs), _plain(request.new_inputs)
        failures = [
            api.CheckFailure(where, message)
            for each in self._resource_sets
            for where, message in each.check_config(old, new)
        ]
        folder = str(new.get("dataDir") or "")
        if folder and (problem := data_folder_problem(folder, Path.cwd())) is not None:
            failures.append(api.CheckFailure("dataDir", problem))
        # `pulumi destroy` is not refused: the engine then checks no configuration.
        if (problem := name_problem(_stack_of(request.urn))) is not None:
            failures.append(api.CheckFailure("", problem))
        return api.CheckResponse(inputs=dict(request.new_inputs), failures=failures)

    async def configure(self, request: api.ConfigureRequest) -> api.ConfigureResponse:
        config = _plain(request.args)
        self._data_dir = config.get("dataDir")
        for each in self._resource_sets:
            each.configure(config)
        return api.ConfigureResponse(
            accept_secrets=True, supports_preview=True, accept_outputs=False, accept_resources=False
        )

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        handler = self._handler(request.urn)
        plain = _plain(request.new_inputs)
        try:
            new = handler.inputs.model_validate(plain)
        except ValidationError as error:
            if self._omitted(error):
                return api.CheckResponse(inputs=dict(request.new_inputs))
            return api.CheckResponse(failures=_failures(error))
        problems = await self._run(handler.check, self._context(request.urn, _all(request)), new)
        return api.CheckResponse(
            inputs=dict(request.new_inputs),
            failures=[api.CheckFailure(where, message) for where, message in problems],
        )

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        handler = self._handler(request.urn)
        ctx = self._context(request.urn, _all(request))
        self._known_ids.add(request.resource_id)
        old, new = _plain(request.old_state), _plain(request.new_inputs)
        handler.check_folder(ctx, old)
        compared = {_alias(handler, name) for name in handler.inputs.model_fields} - {
            *handler.ignore_in_diff,
            *request.ignore_changes,
        }
        input_differences = list(
            differences(
                {key: old[key] for key in compared & old.keys() if old[key] is not None},
                {key: new[key] for key in compared & new.keys() if new[key] is not None},
            )
        )
        try:
            inputs = handler.inputs.model_validate(new)
        except ValidationError as error:
            if self._omitted(error):
                return api.DiffResponse(changes=True)
            raise
        changed = {_top(path) for path, _ in input_differences}
        await self._run(handler.refuse_change, ctx, changed, old, inputs)
        replaces = handler.replaces(changed, old, inputs)
        detailed = {
            path: api.PropertyDiff(
                _REPLACING[kind] if _top(path) in replaces else kind, input_diff=True
            )
            for path, kind in input_differences
        }
        drift = await self._run(handler.drift, ctx, request.resource_id, old)
        for name in drift:
            detailed[name] = api.PropertyDiff(api.PropertyDiffKind.UPDATE, input_diff=False)
        if drift and not replaces:
            text = ", ".join(f"{name} is {value}" for name, value in drift.items())
            self._log("info", request.urn, f"{text}: the update corrects this")
        return api.DiffResponse(
            changes=bool(detailed),
            replaces=sorted(replaces),
            diffs=sorted({_top(path) for path in detailed}),
            detailed_diff=detailed,
            delete_before_replace=bool(replaces) and handler.delete_before_replace(old, inputs),
        )

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        handler = self._handler(request.urn)
        ctx = self._context(request.urn, _all(request), request.timeout)
        new = handler.inputs.model_validate(_plain(request.properties))
        if request.preview:
            known = await self._run(handler.preview, ctx, new, None)
            return api.CreateResponse(
                properties=_state(handler, request.properties, _with_unknowns(handler, known))
            )
        resource_id, outputs = await self._change(handler.create, ctx, new)
        self._known_ids.add(resource_id)
        self._created.add((handler.token, resource_id))
        return api.CreateResponse(resource_id, _state(handler, request.properties, outputs))

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        handler = self._handler(request.urn)
        ctx = self._context(request.urn, _all(request), request.timeout)
        self._known_ids.add(request.resource_id)
        old = _plain(request.olds)
        handler.check_folder(ctx, old)
        new = handler.inputs.model_validate(_plain(request.news))
        if request.preview:
            known = await self._run(handler.preview, ctx, new, old)
            outputs = _with_unknowns(handler, known)
        else:
            outputs = await self._change(handler.update, ctx, request.resource_id, old, new)
        return api.UpdateResponse(_state(handler, request.news, outputs))

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        handler = self._handler(request.urn)
        ctx = self._context(request.urn, _all(request))
        self._known_ids.add(request.resource_id)
        state = _plain(request.properties)
        handler.check_folder(ctx, state)
        current = await self._run(handler.read, ctx, request.resource_id, state)
        if current is None:
            return api.ReadResponse(resource_id="")
        names = {_alias(handler, name) for name in handler.inputs.model_fields}
        inputs = dict(request.inputs)
        properties = dict(request.properties)
        for key, value in current.items():
            if key in state and state[key] == value:
                continue
            secret = key in handler.secret_outputs or (
                key in properties and properties[key].is_secret
            )
            properties[key] = to_property(value, secret=secret)
            if key in names:
                inputs[key] = properties[key]
        return api.ReadResponse(request.resource_id, properties, inputs)

    async def delete(self, request: api.DeleteRequest) -> None:
        handler = self._handler(request.urn)
        ctx = self._context(request.urn, _all(request), request.timeout)
        if (handler.token, request.resource_id) in self._created:
            # The same update created this object: the resource was replaced under a fixed name
            # (`pulumi up --replace`), or moved to another URN without an alias.
            return
        state = _plain(request.properties)
        handler.check_folder(ctx, state)
        await self._run(handler.delete, ctx, request.resource_id, state)

    async def cancel(self) -> None:
        self._cancelled.set()

    def stop(self) -> None:
        """Cancel running operations and wait until they have cleaned up."""
        self._cancelled.set()
        self._pool.shutdown(wait=True)

    def _reach(self, url: str) -> str:
        for each in self._resource_sets:
            url = each.reach(url)
        return url

    def _handler(self, urn: str) -> Handler[Any]:
        token = urn.split("::")[2].rsplit("$", 1)[-1]
        try:
            return self._handlers[token]
        except KeyError:
            known = ", ".join(sorted(self._handlers))
            raise ResourceError(
                f"the mlops plugin has no resource type {token}: the program and the plugin may "
                f"have different versions. Its types: {known}"
            ) from None

    def _context(self, urn: str, properties: Sequence[Properties], timeout: float = 0.0) -> Context:
        _, project, _, name = urn.split("::", 3)
        stack = _stack_of(urn)
        base = Path(self._data_dir).expanduser() if self._data_dir else find_project() / ".mlops"
        hidden = Masking(properties)
        last_message = ""

        def log(message: str, *, level: str = "info", status: bool = False) -> None:
            nonlocal last_message
            if not (status and message == last_message):
                self._log(level, urn, hidden(message), status=status)
            last_message = message

        return Context(
            urn=urn,
            name=name,
            stack=stack,
            project=project,
            root=StackDir((base / stack).absolute()),
            log=log,
            hidden=hidden,
            cancelled=self._cancelled,
            timeout=timeout,
            reach=self._reach,
            known_ids=self._known_ids,
        )

    def _omitted(self, error: ValidationError) -> bool:
        """Whether inputs are missing because they are outputs of a resource that failed."""
        return self._failed and all(problem["type"] == "missing" for problem in error.errors())

    async def _change(self, work: Callable[..., Any], ctx: Context, *args: Any) -> Any:
        try:
            return await self._run(work, ctx, *args)
        except BaseException:
            self._failed = True
            raise

    async def _run(self, work: Callable[..., Any], ctx: Context, *args: Any) -> Any:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, partial(work, ctx, *args))
        except ResourceError as error:
            raise ResourceError(ctx.hidden(str(error))) from None


def _all(request: Any) -> list[Properties]:
    """Every property map of a request."""
    return [value for value in vars(request).values() if isinstance(value, Mapping)]


def _stack_of(urn: str) -> str:
    return urn.split("::", 1)[0].rsplit(":", 1)[-1]


def _plain(properties: Properties) -> dict[str, Any]:
    return {key: to_plain(value) for key, value in properties.items()}


def _top(path: str) -> str:
    return path.split(".", 1)[0].split("[", 1)[0]


def _alias(handler: Handler[Any], field: str) -> str:
    return handler.inputs.model_fields[field].alias or field


def _with_unknowns(handler: Handler[Any], known: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(handler.outputs, UNKNOWN), **known}


def _state(
    handler: Handler[Any], inputs: Properties, outputs: dict[str, Any]
) -> dict[str, PropertyValue]:
    """The new state: the inputs, whose secrets stay marked, and the outputs."""
    return {
        **inputs,
        **{
            key: to_property(value, secret=key in handler.secret_outputs)
            for key, value in outputs.items()
        },
    }


def _failures(error: ValidationError) -> list[api.CheckFailure]:
    return [
        api.CheckFailure(".".join(map(str, problem["loc"])), problem["msg"])
        for problem in error.errors(include_input=False, include_url=False)
    ]
