"""`mlops:kubernetes:ExistingSecret`: a value read from a Secret that the stack does not manage."""

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
    """Reads a value. Creates, changes and deletes nothing.

    If the value changes, the next update changes the resources that use it.
    """

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
            value = _value(self._clusters, _recorded(state))
        except (UnreachableError, RefusedError) as error:
            ctx.log(f"previewed without the cluster: {error}", level="warning")
            return {}
        except ResourceError:  # the update that follows reports it
            return {"value": "gone"}
        return {} if value == state.get("value") else {"value": "changed"}

    def preview(
        self, ctx: Context, new: ExistingSecretInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        try:
            return {"value": _value(self._clusters, new)}
        except (UnreachableError, RefusedError) as error:
            # The user who previews may have fewer permissions than the user who updates.
            ctx.log(f"previewed without the cluster: {error}", level="warning")
            return {}

    def create(self, ctx: Context, new: ExistingSecretInputs) -> tuple[str, dict[str, Any]]:
        return f"{new.namespace}/{new.name}/{new.key}", {"value": _value(self._clusters, new)}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: ExistingSecretInputs
    ) -> dict[str, Any]:
        return {"value": _value(self._clusters, new)}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("an ExistingSecret cannot be imported: an update reads the Secret")
        try:
            return {"value": _value(self._clusters, _recorded(state))}
        except (UnreachableError, RefusedError) as error:
            ctx.log(f"the recorded state is kept: {error}", level="warning")
            return {}
        except ResourceError:
            return None

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Do nothing: the Secret is not managed."""


def _recorded(state: dict[str, Any]) -> ExistingSecretInputs:
    return ExistingSecretInputs(**{key: state[key] for key in ExistingSecretInputs.model_fields})


def _value(clusters: Clusters, ref: ExistingSecretInputs) -> str:
    """The value. Raises ResourceError if the Secret or its key does not exist."""
    secret = clusters.at(ref.namespace).get("Secret", ref.name)
    where = f"Secret {ref.name} in namespace {ref.namespace}"
    if secret is None:
        raise ResourceError(f"there is no {where}: create it, or correct secret_key_ref.name")
    data = secret.get("data") or {}
    if ref.key not in data:
        keys = ", ".join(sorted(data)) or "none"
        raise ResourceError(
            f"{where} has no key {ref.key}: correct secret_key_ref.key. Its keys: {keys}"
        )
    try:
        return base64.b64decode(data[ref.key]).decode()
    except ValueError:
        raise ResourceError(f"{where}: the value of {ref.key} must be UTF-8 text") from None
