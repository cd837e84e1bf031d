"""What the state of a stack has left when all but its protected resources were destroyed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Resources = Sequence[Mapping[str, Any]]


def kept(resources: Resources) -> list[str]:
    """The protected resources, as people know them; none while the stack has anything else than
    them and what they need."""
    by_urn = {each["urn"]: each for each in resources}
    protected = [each for each in resources if each.get("protect")]
    needed: set[str] = set()
    new = {each["urn"] for each in protected}
    while new:
        needed |= new
        new = {urn for each in new for urn in _needs(by_urn[each])} & by_urn.keys() - needed
    return sorted(map(_called, protected)) if needed == by_urn.keys() else []


def told(stack: str, found: Sequence[str]) -> str:
    """That they are there, and how to take them up again or delete them for good."""
    return (
        f"Kept, for `make up STACK={stack}` to go on from: {'; '.join(found)}. To delete them for "
        f"good, in this order: `retain: false` for them in stacks/Pulumi.{stack}.yaml, "
        f"`make up STACK={stack}`, `make down STACK={stack}`"
    )


def _needs(resource: Mapping[str, Any]) -> set[str]:
    provider, _, _ = str(resource.get("provider", "")).rpartition("::")
    return {*(resource.get("dependencies") or []), resource.get("parent") or "", provider}


def _called(resource: Mapping[str, Any]) -> str:
    kind = resource["type"].rpartition(":")[2]
    metadata = (resource.get("outputs") or {}).get("metadata")
    if not isinstance(metadata, Mapping) or "namespace" not in metadata:
        return f"{kind} {resource['urn'].rpartition('::')[2]}"
    return f"{kind} {metadata.get('name')} in namespace {metadata['namespace']}"
