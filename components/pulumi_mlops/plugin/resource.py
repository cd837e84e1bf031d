"""The base class of the plugin's resources in Python."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pulumi


class MlopsResource(pulumi.CustomResource):
    """A resource of the `mlops` plugin. Inputs and outputs have the engine's names."""

    # Types, not texts: the SDK evaluates the annotations of a class at each registration.
    _token: ClassVar[str]
    _outputs: ClassVar[Sequence[str]] = ()

    def __init__(
        self, name: str, args: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        inputs = {key: value for key, value in args.items() if value is not None}
        super().__init__(self._token, name, {**inputs, **dict.fromkeys(self._outputs)}, opts)

    def output(self, name: str) -> pulumi.Output[Any]:
        """The output with the engine's name `name`."""
        value: pulumi.Output[Any] = pulumi.get(self, name)
        return value
