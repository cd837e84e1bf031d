"""The base classes of resource types: validated inputs, and the handler with its operations."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from ..stackdir import StackDir
from .errors import ResourceError


class Inputs(BaseModel):
    """The base class of the inputs of a resource. The engine's names are in camelCase."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=to_camel,
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )


@dataclass(frozen=True)
class OutputField:
    """The declaration of one output of a resource."""

    type: Any
    """A Python type, such as `str` or `list[str]`."""
    description: str
    secret: bool = False
    state_only: bool = False
    """Whether only the plugin and the `mlops` command read it, from the state. The Python class has
    no property for it, since each property costs CPU time when a resource is registered."""


I = TypeVar("I", bound=Inputs)  # noqa: E741 - the inputs of a handler


@dataclass(frozen=True)
class Context:
    """The context of one operation: its resource, stack and folder, and the connection to the user.

    `log` shows a line to the user. A line with `status` replaces the previous status line.
    `cancelled` is set when the user interrupts: the operation must then clean up and end.
    """

    urn: str
    name: str
    stack: str
    project: str
    root: StackDir
    log: Callable[..., None]
    cancelled: threading.Event
    timeout: float = 0.0
    hidden: Callable[[str], str] = str
    """Replaces secrets in a text. `log` and errors do this automatically."""
    reach: Callable[[str], str] = str
    """Maps a URL of the platform to a URL that this machine can reach. See `ResourceSet.reach`."""
    known_ids: set[str] = field(default_factory=set)
    """Resource ids in the engine's requests since the plugin started. Anything on the machine with
    another id was left by an interrupted update."""


class Handler(ABC, Generic[I]):
    """The implementation of one resource type.

    Operations get validated inputs and plain state, run in a separate thread, and raise
    ResourceError. The engine records the inputs, whose secrets stay marked, and the outputs that an
    operation returns.
    """

    token: ClassVar[str]
    description: ClassVar[str]
    inputs: ClassVar[type[Inputs]]
    secret_inputs: ClassVar[frozenset[str]] = frozenset()
    """Inputs that the schema marks as secret. The generated Python classes mark them as well."""
    outputs: ClassVar[dict[str, OutputField]] = {}
    """Outputs, by the engine's names, in addition to the inputs."""
    replace_on: ClassVar[frozenset[str]] = frozenset()
    """Inputs whose change replaces the resource: create, update dependents, delete the previous."""
    ignore_in_diff: ClassVar[frozenset[str]] = frozenset()
    """Inputs whose change alone causes no update, such as those that only locate an object."""

    path_output: ClassVar[tuple[str, int] | None] = None
    """An output with a path in the stack folder, and how many folders it is below that. It tells
    which stack folder has the files of the resource. Default: none of its outputs does."""

    @property
    def secret_outputs(self) -> set[str]:
        """Names of the outputs that are secrets."""
        return {name for name, output in self.outputs.items() if output.secret}

    def check_folder(self, ctx: Context, state: Mapping[str, Any]) -> None:
        """Raise ResourceError if the files of the resource are in another stack folder.

        An update would provision it a second time, on the same data; a deletion would delete
        nothing.
        """
        name, depth = self.path_output or ("", 0)
        path = state.get(name)
        path = path[0] if isinstance(path, list) and path else path
        if not isinstance(path, str):
            return  # no files, or the state of an earlier version
        recorded = Path(path).parents[depth - 1]
        # A folder that is gone was moved with the project: the resource is missing and made again.
        if recorded.resolve() == ctx.root.path.resolve() or not recorded.is_dir():
            return
        fix = (
            "If mlops:dataDir was changed, restore it. If the project was copied, use the original"
        )
        if recorded.name != ctx.root.path.name:
            fix = (
                f"If the stack was renamed, run `pulumi stack rename {recorded.name}`: the folder "
                f"of a stack has its name. {fix}"
            )
        raise ResourceError(
            f"the files of {ctx.name} are in {recorded}, but the stack folder is now "
            f"{ctx.root.path}. Nothing of it was changed. {fix}"
        )

    def check(self, ctx: Context, new: I) -> list[tuple[str, str]]:
        """Problems that the validation of types does not find, as (input, problem and fix)."""
        return []

    def replaces(self, changed: set[str], old: dict[str, Any], new: I) -> set[str]:
        """The changed inputs that require a replacement."""
        return changed & self.replace_on

    def refuse_change(self, ctx: Context, changed: set[str], old: dict[str, Any], new: I) -> None:
        """Raise ResourceError if the change of inputs is not allowed. The preview then fails."""

    def delete_before_replace(self, old: dict[str, Any], new: I) -> bool:
        """Whether a replacement deletes the previous resource before it creates the new one."""
        return False

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        """The outputs that differ from the recorded ones, with their current values.

        Must be fast, since every preview calls it.
        """
        return {}

    def preview(self, ctx: Context, new: I, old: dict[str, Any] | None) -> dict[str, Any]:
        """The outputs that are known at preview. The others are unknown.

        `old` is None for a create. Raises ResourceError if the operation is known to fail.
        """
        return {}

    @abstractmethod
    def create(self, ctx: Context, new: I) -> tuple[str, dict[str, Any]]:
        """Create the resource. Returns its id and its outputs. Cleans up if it fails."""

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        """The current inputs and outputs, at least those that differ, or None if it does not exist.

        `state` is empty for an import.
        """
        return {}

    def update(self, ctx: Context, resource_id: str, old: dict[str, Any], new: I) -> dict[str, Any]:
        """Change the existing resource to the inputs `new`. Returns the outputs."""
        raise ResourceError(f"{self.token} does not support updates in place")

    @abstractmethod
    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Delete the resource. It is no error if it does not exist."""


class ResourceSet:
    """The part of a target in the plugin: the handlers of its resources, and its configuration."""

    def handlers(self) -> list[Handler[Any]]:
        """One handler per resource type."""
        return []

    def check_config(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Problems of a changed configuration `mlops:*`, as (input, problem and fix).

        `old` is empty for a new stack.
        """
        return []

    def configure(self, config: Mapping[str, Any]) -> None:
        """Set the configuration `mlops:*`. Called before any other operation."""

    def reach(self, url: str) -> str:
        """A URL by which this machine reaches `url`, whose host may exist only in the target's
        network. Default: `url`."""
        return url
