"""The protected resources that remain in a stack after `make down`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Resources = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, order=True)
class Retained:
    """A protected resource. `retain: true` also sets `retainOnDelete`; a user's `protect`, in the
    program or by `pulumi state protect`, does not."""

    description: str
    urn: str
    by_input: bool


def retained_resources(resources: Resources) -> list[Retained]:
    """The protected resources of a stack.

    Empty if the stack contains resources other than these and their dependencies.
    """
    by_urn = {each["urn"]: each for each in resources}
    protected = [each for each in resources if each.get("protect")]
    needed: set[str] = set()
    new = {each["urn"] for each in protected}
    while new:
        needed |= new
        new = {urn for each in new for urn in _dependencies(by_urn[each])} & by_urn.keys() - needed
    if needed != by_urn.keys():
        return []
    return sorted(
        Retained(_description(each), each["urn"], bool(each.get("retainOnDelete")))
        for each in protected
    )


def message(stack: str, retained: Sequence[Retained]) -> str:
    """A message about the retained resources: how to use them again, and how to delete them."""
    parts = [
        f"Retained: {'; '.join(each.description for each in retained)}."
        f" `make up STACK={stack}` uses them again."
    ]
    if by_input := [each.description for each in retained if each.by_input]:
        which = "them" if len(by_input) == len(retained) else "; ".join(by_input)
        parts.append(
            f"To delete {which}, in this order: set `retain: false` for them in "
            f"stacks/Pulumi.{stack}.yaml, `make up STACK={stack}`, `make down STACK={stack}`"
        )
    if by_user := [each for each in retained if not each.by_input]:
        which = (
            "them"
            if len(by_user) == len(retained)
            else "; ".join(each.description for each in by_user)
        )
        urns = shlex.join(each.urn for each in by_user)
        parts.append(
            f"To delete {which}, which the program or `pulumi state protect` protects: remove "
            f"`protect` from the program, or run `pulumi state unprotect --yes -s {stack} {urns}`; "
            f"then `make down STACK={stack}`"
        )
    return " ".join(parts)


def _dependencies(resource: Mapping[str, Any]) -> set[str]:
    provider, _, _ = str(resource.get("provider", "")).rpartition("::")
    return {*(resource.get("dependencies") or []), resource.get("parent") or "", provider}


def _description(resource: Mapping[str, Any]) -> str:
    kind = resource["type"].rpartition(":")[2]
    metadata = (resource.get("outputs") or {}).get("metadata")
    if not isinstance(metadata, Mapping) or "namespace" not in metadata:
        return f"{kind} {resource['urn'].rpartition('::')[2]}"
    return f"{kind} {metadata.get('name')} in namespace {metadata['namespace']}"
