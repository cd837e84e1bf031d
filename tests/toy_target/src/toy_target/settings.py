"""The stack configuration of the target: `mlops:toy`."""

from __future__ import annotations

from pydantic import Field

from pulumi_mlops.spec import Spec
from pulumi_mlops.targets.port import stack_settings


class ToySettings(Spec):
    """Settings of the toy target."""

    greeting: str = Field("hello", description="Value of the variable TOY_GREETING of programs.")


def load() -> ToySettings:
    """The settings of this stack. Raises pulumi.RunError with one line per problem."""
    return stack_settings("toy", ToySettings)
