"""Writes the program that the components are measured against: their resources, by hand.

What a stack has registered becomes a Python module with one literal registration a resource, of the
same type, name, parent, dependencies, options and inputs. Nothing is computed in it, and no library
but Pulumi's is imported: nobody can write a faster program for these resources.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PROGRAM = "import resources  # noqa: F401 - a module, so that Python keeps it compiled\n"

_HEAD = """import pulumi
from pulumi import ComponentResource, CustomResource, ResourceOptions

secret = pulumi.Output.secret
"""
# Pulumi's marks in an exported state.
_SIGNATURE, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
_BUILT_IN = "pulumi:"


def module_of(state: Mapping[str, Any]) -> str:
    """The module `resources` for what `pulumi stack export --show-secrets` gave."""
    return _HEAD + "\n".join(_lines(state["deployment"]["resources"])) + "\n"


def _lines(resources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    variables: dict[str, str] = {}
    exports: Mapping[str, Any] = {}
    closing = []
    for each in resources:
        if each["type"] == "pulumi:pulumi:Stack":
            exports = each.get("outputs", {})
        if each["type"].startswith(_BUILT_IN):
            continue
        name = each["urn"].rsplit("::", 1)[-1]
        variable = variables[each["urn"]] = f"{re.sub(r'[^a-z0-9]', '_', name)}_{len(variables)}"
        arguments = f"{each['type']!r}, {name!r}, {_literal(each.get('inputs', {}))}"
        kind = "CustomResource" if each["custom"] else "ComponentResource"
        yield f"{variable} = {kind}({arguments}, {_options(each, variables)})"
        if not each["custom"]:
            closing.append(f"{variable}.register_outputs({_literal(each.get('outputs', {}))})")
    yield from closing
    for name, value in exports.items():
        yield f"pulumi.export({name!r}, {_literal(value)})"


def _options(resource: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    options = {}
    if (parent := variables.get(resource.get("parent", ""))) is not None:
        options["parent"] = parent
    if dependencies := resource.get("dependencies"):
        options["depends_on"] = f"[{', '.join(variables[urn] for urn in dependencies)}]"
    if resource.get("retainOnDelete"):
        options["retain_on_delete"] = "True"
    return f"ResourceOptions({', '.join(f'{key}={value}' for key, value in options.items())})"


def _literal(value: Any) -> str:
    """Python source of a value of the state."""
    if isinstance(value, Mapping):
        if value.get(_SIGNATURE) == _SECRET:
            return f"secret({_literal(json.loads(value['plaintext']))})"
        return f"{{{', '.join(f'{key!r}: {_literal(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
