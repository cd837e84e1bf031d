"""The protected resources that remain in a stack after `make down`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Resources = Sequence[Mapping[str, Any]]


def retained_resources(resources: Resources) -> list[str]:
    """Descriptions of the protected resources of a stack.

    Empty if the stack contains resources other than these and their dependencies.
    """
    by_urn = {each["urn"]: each for each in resources}
    protected = [each for each in resources if each.get("protect")]
    needed: set[str] = set()
    new = {each["urn"] for each in protected}
    while new:
        needed |= new
        new = {urn for each in new for urn in _dependencies(by_urn[each])} & by_urn.keys() - needed
    return sorted(map(_description, protected)) if needed == by_urn.keys() else []


def message(stack: str, retained: Sequence[str]) -> str:
    """A message about the retained resources: how to use them again, and how to delete them."""
    return (
        f"Retained: {'; '.join(retained)}. `make up STACK={stack}` uses them again. To delete "
        f"them, in this order: set `retain: false` for them in stacks/Pulumi.{stack}.yaml, "
        f"`make up STACK={stack}`, `make down STACK={stack}`"
    )


def _dependencies(resource: Mapping[str, Any]) -> set[str]:
    provider, _, _ = str(resource.get("provider", "")).rpartition("::")
    return {*(resource.get("dependencies") or []), resource.get("parent") or "", provider}


def _description(resource: Mapping[str, Any]) -> str:
    kind = resource["type"].rpartition(":")[2]
    metadata = (resource.get("outputs") or {}).get("metadata")
    if not isinstance(metadata, Mapping) or "namespace" not in metadata:
        return f"{kind} {resource['urn'].rpartition('::')[2]}"
    return f"{kind} {metadata.get('name')} in namespace {metadata['namespace']}"
