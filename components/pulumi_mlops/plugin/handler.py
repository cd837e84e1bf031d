"""What a resource of the plugin is: validated inputs and the operations on it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from ..stackdir import StackDir
from .errors import ResourceError


class Inputs(BaseModel):
    """The base of a resource's inputs; the engine's names are the camelCase ones."""

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
    """A type of Python, such as `str` or `list[str]`."""
    description: str
    secret: bool = False
    state_only: bool = False
    """Whether only the plugin and the command line read it, from the state. The class in Python
    has no property for it: each property costs CPU time when a resource is registered."""


I = TypeVar("I", bound=Inputs)  # noqa: E741 - the inputs of a handler


@dataclass(frozen=True)
class Context:
    """What an operation may know of its surroundings.

    `log` shows a line to the user: `status` lines replace one another while the work goes on.
    `cancelled` is set when the user interrupts: long work stops soon after and cleans up.
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
    """Takes secrets out of a text; done for `log` and for errors already."""
    reach: Callable[[str], str] = str
    """The URL at which this machine reaches a URL of the platform; see `ResourceSet.reach`."""
    known_ids: set[str] = field(default_factory=set)
    """Physical ids that the engine has spoken of since the plugin was started: what is on the
    machine under another id was left behind by an interrupted update."""


class Handler(ABC, Generic[I]):
    """One resource type.

    Operations get validated inputs and plain state, run in a thread of their own, and raise
    ResourceError. The state that the engine keeps is the inputs, secrets marked as they came, and
    what an operation answers on top of them.
    """

    token: ClassVar[str]
    description: ClassVar[str]
    inputs: ClassVar[type[Inputs]]
    secret_inputs: ClassVar[frozenset[str]] = frozenset()
    """Inputs that the schema calls secret: what is generated from it marks them."""
    outputs: ClassVar[dict[str, OutputField]] = {}
    """Outputs, by the engine's names. The inputs are outputs too."""
    replace_on: ClassVar[frozenset[str]] = frozenset()
    """Inputs whose change makes a new resource, then moves dependents, then deletes the old."""
    ignore_in_diff: ClassVar[frozenset[str]] = frozenset()
    """Inputs that say where a thing is found, not what it is."""

    @property
    def secret_outputs(self) -> set[str]:
        """Names of the outputs that are secrets."""
        return {name for name, output in self.outputs.items() if output.secret}

    def check(self, ctx: Context, new: I) -> list[tuple[str, str]]:
        """Problems that validation of the shape cannot see: (input, what is wrong and the fix)."""
        return []

    def replaces(self, changed: set[str], old: dict[str, Any], new: I) -> set[str]:
        """Those of the changed inputs that need a new resource."""
        return changed & self.replace_on

    def refuse_change(self, ctx: Context, changed: set[str], old: dict[str, Any], new: I) -> None:
        """Raise ResourceError for a change of inputs that may not pass a preview."""

    def delete_before_replace(self, old: dict[str, Any], new: I) -> bool:
        """Whether old and new cannot stand side by side."""
        return False

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        """Outputs that are not as recorded, with what they are. Cheap: every preview asks."""
        return {}

    def preview(self, ctx: Context, new: I, old: dict[str, Any] | None) -> dict[str, Any]:
        """Outputs that are known before the work is done; the rest is unknown. `old` is None for
        a create. Refuses what can be known to fail."""
        return {}

    @abstractmethod
    def create(self, ctx: Context, new: I) -> tuple[str, dict[str, Any]]:
        """Make it; the physical id and the outputs. Leaves nothing behind when it fails."""

    def read(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, Any] | None:
        """The state as it really is (inputs and outputs that differ), or None when it is gone.
        For an import `state` is empty."""
        return {}

    def update(self, ctx: Context, resource_id: str, old: dict[str, Any], new: I) -> dict[str, Any]:
        """Make the existing resource what `new` says; the outputs."""
        raise ResourceError(f"{self.token} cannot be changed in place")

    @abstractmethod
    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        """Remove it; what is gone already is no error."""


class ResourceSet:
    """What a target adds to the plugin: the handlers of its resources, and its configuration."""

    def handlers(self) -> list[Handler[Any]]:
        """One handler per resource type."""
        return []

    def check_config(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Problems of a change of the provider's configuration (the stack's `mlops:*` settings):
        (setting, what is wrong and the fix). `old` is empty for a new stack."""
        return []

    def configure(self, config: Mapping[str, Any]) -> None:
        """Take the provider's configuration. Called before any other operation."""

    def reach(self, url: str) -> str:
        """The URL at which this machine reaches `url`, where only the target's network has its
        host. Default: `url`."""
        return url
