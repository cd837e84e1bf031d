"""Check of the model versions that are served: whether they are still registered."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..plugin.errors import ResourceError
from ..plugin.model_version import Registry
from .checks import Finding, ok, warn

NAME = "model versions"


def served_versions(
    served: Collection[tuple[str, str]], client_env: Mapping[str, str], uri: str
) -> list[Finding]:
    """Whether each of the served (model, version) is in the model registry at `uri`.

    `client_env` has the credentials.
    """
    if not served:
        return [ok(NAME, "none is served")]
    user = client_env.get("MLFLOW_TRACKING_USERNAME")
    password = client_env.get("MLFLOW_TRACKING_PASSWORD") if user else None
    registry = Registry(uri, user, password, quick=True)
    try:
        missing = sorted(each for each in served if registry.get(*each) is None)
    except ResourceError as error:
        return [warn(NAME, f"not checked: {error}", "see `mlops status`")]
    if not missing:
        return [ok(NAME, f"{len(served)} served, all are registered")]
    text = ", ".join(f"{model} version {version}" for model, version in missing)
    return [
        warn(
            NAME,
            f"served and no longer registered: {text}. Their files are kept while they are served",
            "register them again, or move the traffic to another version",
        )
    ]
