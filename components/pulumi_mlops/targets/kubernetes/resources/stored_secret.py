"""`mlops:kubernetes:StoredSecret`: a Secret that the state stores and another tool applies."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs
from ....plugin.values import OrUnknown


class StoredSecretInputs(Inputs):
    """Inputs of `mlops:kubernetes:StoredSecret`."""

    namespace: OrUnknown[str] = Field(description="Namespace of the Secret.")
    name: OrUnknown[str] = Field(description="Name of the Secret.")
    labels: OrUnknown[dict[str, str]] = Field(
        default_factory=dict, description="Labels of the Secret."
    )
    type: OrUnknown[str] = Field("Opaque", description="Type of the Secret.")
    string_data: OrUnknown[dict[str, OrUnknown[str]]] = Field(
        description="Values of the Secret, by key."
    )


class StoredSecretHandler(Handler[StoredSecretInputs]):
    """Stores a Secret in the state, encrypted. `mlops secrets` prints its manifest."""

    token = "mlops:kubernetes:StoredSecret"
    description = (
        "A Secret of a stack that renders its manifests. It is stored only in the state, "
        "encrypted. `mlops secrets` prints its manifest."
    )
    inputs = StoredSecretInputs
    secret_inputs = frozenset({"stringData"})
    replace_on = frozenset({"namespace", "name", "type"})

    def create(self, ctx: Context, new: StoredSecretInputs) -> tuple[str, dict[str, Any]]:
        return f"{new.namespace}/{new.name}", {}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: StoredSecretInputs
    ) -> dict[str, Any]:
        return {}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state:
            raise ResourceError("a StoredSecret cannot be imported: it is stored only in the state")
        return {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Do nothing: the Secret on the cluster is not managed."""
