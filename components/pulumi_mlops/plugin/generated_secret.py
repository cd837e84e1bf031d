"""`mlops:index:GeneratedSecret`: a generated secret, kept in the state alone."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

from pydantic import Field

from .errors import ResourceError
from .handler import Context, Handler, Inputs, OutputField

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def generate(length: int) -> str:
    """Letters and digits, which need no quotes anywhere."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class GeneratedSecretInputs(Inputs):
    """Inputs of `mlops:index:GeneratedSecret`."""

    length: int = Field(32, ge=8, le=256, description="Number of letters and digits.")


class GeneratedSecretHandler(Handler[GeneratedSecretInputs]):
    """A value that is made once; the state has it, encrypted."""

    token = "mlops:index:GeneratedSecret"
    description = "A generated secret that is stored only in the state."
    inputs = GeneratedSecretInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "value": OutputField(str, "The secret.", secret=True)
    }
    replace_on = frozenset({"length"})

    def create(self, ctx: Context, new: GeneratedSecretInputs) -> tuple[str, dict[str, Any]]:
        return ctx.name, {"value": generate(new.length)}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        if not state.get("value"):
            raise ResourceError("a generated secret is in the state alone: there is none to import")
        return {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """It goes with the state."""
