"""`mlops:kubernetes:StoredSecret`: a Secret that somebody else applies, kept in the state alone."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ....plugin.errors import ResourceError
from ....plugin.handler import Context, Handler, Inputs
from ....plugin.values import Known


class StoredSecretInputs(Inputs):
    """What the Secret is to be."""

    namespace: Known[str] = Field(description="Where it belongs. Replaces.")
    name: Known[str] = Field(description="What pods call it. Replaces.")
    labels: Known[dict[str, str]] = Field(default_factory=dict, description="Its labels.")
    type: Known[str] = Field("Opaque", description="Its type. Replaces.")
    string_data: Known[dict[str, Known[str]]] = Field(description="Its content; a secret.")


class StoredSecretHandler(Handler[StoredSecretInputs]):
    """The state has it, encrypted; `mlops secrets` hands it over."""

    token = "mlops:kubernetes:StoredSecret"
    description = (
        "A Secret whose manifests are rendered into files: it is in none of them, but in the state "
        "alone, encrypted, until `mlops secrets` hands it over."
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
            raise ResourceError("a stored secret is in the state alone: there is none to import")
        return {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """It goes with the state; the Secret of the cluster is that of whoever applied it."""
