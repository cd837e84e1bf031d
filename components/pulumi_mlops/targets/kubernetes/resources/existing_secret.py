"""`mlops:kubernetes:ExistingSecret`: a value out of a Secret that somebody else keeps."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

from pydantic import Field

from ....plugin.errors import ResourceError, UnreachableError
from ....plugin.handler import Context, Handler, Inputs, OutputField
from ..api.clusters import Clusters
from ..api.errors import RefusedError


class ExistingSecretInputs(Inputs):
    """Inputs of `mlops:kubernetes:ExistingSecret`."""

    namespace: str = Field(description="Namespace of the Secret.")
    name: str = Field(description="Name of the Secret.")
    key: str = Field(description="Key in the Secret's `data`.")


class ExistingSecretHandler(Handler[ExistingSecretInputs]):
    """Reads; it makes, changes and deletes nothing. Another value is an update of what has it."""

    token = "mlops:kubernetes:ExistingSecret"
    description = "A value read from a Secret that is managed elsewhere."
    inputs = ExistingSecretInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "value": OutputField(str, "The value.", secret=True)
    }
    replace_on = frozenset({"namespace", "name", "key"})

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        try:
            found = _found(self._clusters, _recorded(state))
        except (UnreachableError, RefusedError) as error:
            ctx.log(f"previewed without the cluster: {error}", level="warning")
            return {}
        except ResourceError:  # told by the update that follows
            return {"value": "gone"}
        return {} if found == state.get("value") else {"value": "another one by now"}

    def preview(
        self, ctx: Context, new: ExistingSecretInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        try:
            return {"value": _found(self._clusters, new)}
        except (UnreachableError, RefusedError) as error:  # who previews is not who updates
            ctx.log(f"previewed without the cluster: {error}", level="warning")
            return {}

    def create(self, ctx: Context, new: ExistingSecretInputs) -> tuple[str, dict[str, Any]]:
        return f"{new.namespace}/{new.name}/{new.key}", {"value": _found(self._clusters, new)}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ExistingSecretInputs
    ) -> dict[str, Any]:
        return {"value": _found(self._clusters, new)}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("nothing is imported: an update reads the Secret")
        try:
            return {"value": _found(self._clusters, _recorded(state))}
        except (UnreachableError, RefusedError) as error:
            ctx.log(f"left as recorded: {error}", level="warning")
            return {}
        except ResourceError:
            return None

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """It is somebody else's."""


def _recorded(state: dict[str, Any]) -> ExistingSecretInputs:
    return ExistingSecretInputs(**{key: state[key] for key in ExistingSecretInputs.model_fields})


def _found(clusters: Clusters, of: ExistingSecretInputs) -> str:
    """The value. Raises ResourceError where there is none."""
    secret = clusters.at(of.namespace).get("Secret", of.name)
    where = f"Secret {of.name} in namespace {of.namespace}"
    if secret is None:
        raise ResourceError(f"there is no {where}: make it, or correct secret_key_ref.name")
    data = secret.get("data") or {}
    if of.key not in data:
        there = ", ".join(sorted(data)) or "none at all"
        raise ResourceError(
            f"{where} has no key {of.key}: it has {there}; correct secret_key_ref.key"
        )
    try:
        return base64.b64decode(data[of.key]).decode()
    except ValueError:
        raise ResourceError(f"{where}: the value of {of.key} is no text") from None
