"""Who owns the fields of a live object, as the API server records it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .wire import Object

# The official plugin takes over what these wrote, so that the next apply meets no conflict.
_TAKEN_OVER: Final = (
    ("kubectl", "Apply"),
    ("kubectl", "Update"),
    ("before-first-apply", "Update"),
    ("pulumi-kubernetes", "Update"),
    ("pulumi-resource-kubernetes", "Update"),
)


def takeover(live: Mapping[str, Any], manager: str) -> list[Object]:
    """The JSON patch that makes `manager` the applier of what kubectl and creates wrote; or none.

    A create is recorded as an "Update" by its manager, which the API server holds for another one
    than the same name's "Apply": without this, the second would not take away what it left out.
    """
    meta = live["metadata"]
    entries = meta.get("managedFields") or []
    ours = [each for each in entries if _is(each, manager, "Apply")]
    taken = [
        each
        for each in entries
        if each not in ours
        and not each.get("subresource")
        and any(
            each.get("manager", "").startswith(prefix) and each.get("operation") == operation
            for prefix, operation in (*_TAKEN_OVER, (manager, "Update"))
        )
    ]
    if not taken:
        return []
    fields: Object = {}
    for each in (*ours, *taken):
        fields = _union(fields, each.get("fieldsV1") or {})
    entry = {
        **(ours or taken)[0],
        "manager": manager,
        "operation": "Apply",
        "fieldsV1": fields,
    }
    kept = [each for each in entries if each not in ours and each not in taken]
    return [
        {"op": "replace", "path": "/metadata/managedFields", "value": [entry, *kept]},
        # Refused if somebody else wrote in between.
        {
            "op": "replace",
            "path": "/metadata/resourceVersion",
            "value": meta["resourceVersion"],
        },
    ]


def without_others(
    inputs: Object, live: Mapping[str, Any], manager: str, ignored: Iterable[str]
) -> Object:
    """`inputs` without what the program ignores and somebody else has written, as an autoscaler."""
    others = [
        each.get("fieldsV1") or {}
        for each in live["metadata"].get("managedFields") or []
        if each.get("manager") != manager
    ]
    for path in ignored:
        steps = path.split(".")
        if any(_has(fields, steps) for fields in others):
            inputs = _without(inputs, steps)
    return inputs


def _has(fields: Mapping[str, Any], steps: Sequence[str]) -> bool:
    for step in steps:
        if f"f:{step}" not in fields:
            return False
        fields = fields[f"f:{step}"]
    return True


def _without(obj: Object, steps: Sequence[str]) -> Object:
    first, *rest = steps
    if first not in obj:
        return obj
    if not rest:
        return {key: value for key, value in obj.items() if key != first}
    return {**obj, first: _without(obj[first], rest)}


def _is(entry: Mapping[str, Any], manager: str, operation: str) -> bool:
    return (
        entry.get("manager") == manager
        and entry.get("operation") == operation
        and not entry.get("subresource")
    )


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> Object:
    merged = dict(one)
    for key, value in other.items():
        merged[key] = _union(merged[key], value) if key in merged else value
    return merged
