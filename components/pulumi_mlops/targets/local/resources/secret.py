"""`mlops:local:Secret`: a generated secret in a file that only its owner can read."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ....files import write_private
from ....plugin.errors import ResourceError
from ....plugin.generated_secret import generate
from ....plugin.handler import Context, Handler, Inputs, OutputField


class SecretInputs(Inputs):
    """Inputs of `mlops:local:Secret`."""

    length: int = Field(32, ge=8, le=256, description="Number of letters and digits.")
    retain: bool = Field(
        False,
        description="Keep the secret when the resource is deleted. A new resource of the same name "
        "has the same value. Retained data needs its secret.",
    )


class SecretHandler(Handler[SecretInputs]):
    """Manages `secrets/<name>`. A missing file is restored from the value in the state."""

    token = "mlops:local:Secret"
    description = "A generated secret in a file that only its owner can read."
    inputs = SecretInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "value": OutputField(str, "The secret.", secret=True),
        "status": OutputField(str, "`present` or `missing`: the state of the file."),
        "path": OutputField(str, "Path of the file.", state_only=True),
    }
    path_output = ("path", 2)
    replace_on = frozenset({"length"})

    def delete_before_replace(self, old: dict[str, Any], new: SecretInputs) -> bool:
        return True

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        return {} if self._is_complete(ctx, resource_id, state) else {"status": "missing"}

    @staticmethod
    def _is_complete(ctx: Context, resource_id: str, state: dict[str, Any]) -> bool:
        """Whether the file has the secret. A full disk may have cut it off."""
        try:
            text = (ctx.root.path / "secrets" / resource_id).read_text()
        except FileNotFoundError:
            return False
        return bool(text) and state.get("value") in (None, "", text)

    def preview(
        self, ctx: Context, new: SecretInputs, old: dict[str, Any] | None
    ) -> dict[str, Any]:
        path = str(ctx.root.path / "secrets" / ctx.name)
        return {"status": "present", "path": path, **({"value": old["value"]} if old else {})}

    def create(self, ctx: Context, new: SecretInputs) -> tuple[str, dict[str, Any]]:
        file = ctx.root.folder("secrets") / ctx.name
        value = file.read_text() if file.exists() else ""
        if len(value) != new.length:
            value = generate(new.length)
            write_private(file, value)
        return ctx.name, {"value": value, "status": "present", "path": str(file)}

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        file = ctx.root.path / "secrets" / resource_id
        if not state.get("value") and not file.exists():
            return None
        complete = self._is_complete(ctx, resource_id, state)
        return {"status": "present" if complete else "missing"}

    def update(
        self, ctx: Context, resource_id: str, old: dict[str, Any], new: SecretInputs
    ) -> dict[str, Any]:
        if not old.get("value"):
            raise ResourceError(
                f"the state has no value of secret {resource_id}: run `pulumi up --replace`"
            )
        file = ctx.root.folder("secrets") / resource_id
        write_private(file, str(old["value"]))
        return {"value": old["value"], "status": "present", "path": str(file)}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        file = ctx.root.path / "secrets" / resource_id
        if old.get("retain"):
            ctx.log(f"the secret is retained in {file}")
        else:
            file.unlink(missing_ok=True)
        ctx.root.prune()
