"""`mlops:index:GeneratedSecret`: a generated secret that is stored only in the state."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

from pydantic import Field

from .errors import ResourceError
from .handler import Context, Handler, Inputs, OutputField

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def generate(length: int) -> str:
    """A random text of letters and digits, which needs no quoting in shells, URLs and files."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class GeneratedSecretInputs(Inputs):
    """Inputs of `mlops:index:GeneratedSecret`."""

    length: int = Field(32, ge=8, le=256, description="Number of letters and digits.")


class GeneratedSecretHandler(Handler[GeneratedSecretInputs]):
    """Generates a value once. The state contains it, encrypted."""

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
            raise ResourceError(
                "a GeneratedSecret cannot be imported: it is stored only in the state"
            )
        return {}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Do nothing: the engine removes the state."""
