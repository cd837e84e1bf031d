"""The inputs `mlops:*` of the stack configuration that every target shares."""

from __future__ import annotations

from pydantic import Field

from .spec import Spec
from .targets.registry import DEFAULT


class ProviderSettings(Spec):
    """Settings that every target shares. A target adds its own as `mlops:<target>`."""

    target: str = Field(DEFAULT, description="Name of the target that the platform runs on.")
    data_dir: str | None = Field(
        None,
        alias="dataDir",
        description="Folder of the files that a stack keeps on this machine. Default: `.mlops` "
        "next to Pulumi.yaml.",
    )
