"""Writes the program that the components are measured against: their resources, by hand.

What a stack has registered becomes a Python module with one literal registration a resource, of the
same type, name, parent, dependencies, options and inputs. Nothing is computed in it, and no library
but Pulumi's is imported, with pulumi_kubernetes for its types: nobody can write a faster program
for these resources.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

PROGRAM = """import asyncio

import pulumi

import resources  # a module, so that Python keeps it compiled


async def registered():
    # Otherwise the SDK looks at every pending value each time that one of them arrives, which takes
    # as long as all the rest in a program with 200 endpoints. The platform's program waits too.
    made = [each for each in vars(resources).values() if isinstance(each, pulumi.Resource)]
    await asyncio.gather(*(each.urn.future() for each in made))


pulumi.run(registered)
"""

_HEAD = """import pulumi
from pulumi import ComponentResource, ResourceOptions

secret = pulumi.Output.secret


class CustomResource(pulumi.CustomResource):
    # As the resource classes of every SDK. The engine gets the stack trace of their caller, and
    # none of the caller of pulumi.CustomResource itself.
    def __init__(self, kind, name, inputs, options):
        super().__init__(kind, name, inputs, options)


"""
# Pulumi's marks in an exported state.
_SIGNATURE, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
_BUILT_IN = "pulumi:"


_KUBERNETES, _PROVIDER = "kubernetes:", "pulumi:providers:kubernetes"


def module_of(state: Mapping[str, Any]) -> str:
    """The module `resources` for what `pulumi stack export --show-secrets` gave."""
    return _written(_lines(state["deployment"]["resources"]))


def module_of_many(state: Mapping[str, Any], like: str, names: Sequence[str]) -> str:
    """The same, with what belongs to the endpoint called `like` once for each of the names too."""
    variable = like.replace("-", "_")
    first, own, last = [], [], []
    later: set[str] = set()
    for line in _lines(state["deployment"]["resources"]):
        target, _, value = line.partition(" = ")
        if line.startswith(f"platform_{variable}_"):
            own.append(line)
        elif value and not later.intersection(re.findall(r"\w+", value)) and variable not in value:
            first.append(line)
        else:
            # It needs endpoints, as the monitor does, or is no resource.
            later.add(target)
            last.append(line)
    many = [
        line.replace(like, name).replace(variable, name.replace("-", "_"))
        for name in (like, *names)
        for line in own
    ]
    return _written([*first, *many, *last])


def _written(lines: Iterable[str]) -> str:
    body = "\n".join(lines)
    modules = sorted(set(re.findall(r"\bpulumi_kubernetes\.([a-z0-9.]+)\.[A-Z]", body)))
    imports = [f"import pulumi_kubernetes.{module}" for module in modules]
    if "pulumi_kubernetes." in body:
        imports.insert(0, "import pulumi_kubernetes")
    return "\n".join([*imports, _HEAD, body, ""])


def _lines(resources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    variables: dict[str, str] = {}
    by_urn = {each["urn"]: each for each in resources}
    exports: Mapping[str, Any] = {}
    closing = []
    for each in resources:
        if each["type"] == "pulumi:pulumi:Stack":
            exports = each.get("outputs", {})
        ours = each["type"] != _PROVIDER or each["urn"].endswith("::default")
        if each["type"].startswith(_BUILT_IN) and ours:
            continue
        parent = by_urn.get(each.get("parent", ""), {})
        name = each["urn"].rsplit("::", 1)[-1]
        variable = variables[each["urn"]] = f"{re.sub(r'[^a-z0-9]', '_', name)}_{len(variables)}"
        options = _options(each, parent, variables)
        if each["type"].startswith((_KUBERNETES, _PROVIDER)):
            yield f"{variable} = {_object(each, name)}opts={options})"
            continue
        arguments = f"{each['type']!r}, {name!r}, {_literal(each.get('inputs', {}))}"
        kind = "CustomResource" if each["custom"] else "ComponentResource"
        yield f"{variable} = {kind}({arguments}, {options})"
        if not each["custom"]:
            closing.append(f"{variable}.register_outputs({_literal(each.get('outputs', {}))})")
    yield from closing
    for name, value in exports.items():
        yield f"pulumi.export({name!r}, {_literal(value)})"


def _object(resource: Mapping[str, Any], name: str) -> str:
    """The call of a class of pulumi_kubernetes, without its end."""
    _, group, kind = resource["type"].split(":")
    path = group.replace(".k8s.io", "").replace(".authorization", "").replace("/", ".")
    called = "Provider" if resource["type"] == _PROVIDER else f"{path}.{kind}"
    given = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower(): _read(value, resource["type"])
        for key, value in resource.get("inputs", {}).items()
        if key not in ("apiVersion", "kind", "version", "__internal")
    }
    arguments = "".join(f"{key}={_literal(value)}, " for key, value in given.items())
    return f"pulumi_kubernetes.{called}({name!r}, {arguments}"


def _read(value: Any, kind: str) -> Any:
    """A provider's inputs are JSON in the state, but for texts."""
    return json.loads(value) if kind == _PROVIDER and value in ("true", "false") else value


def _options(
    resource: Mapping[str, Any], parent: Mapping[str, Any], variables: Mapping[str, str]
) -> str:
    options = {}
    if (above := variables.get(resource.get("parent", ""))) is not None:
        options["parent"] = above
    if dependencies := resource.get("dependencies"):
        options["depends_on"] = f"[{', '.join(variables[urn] for urn in dependencies)}]"
    given = resource.get("provider", "").rpartition("::")[0]
    if given in variables:
        options["provider"] = variables[given]
    for key, option in (("protect", "protect"), ("retainOnDelete", "retain_on_delete")):
        # A child inherits both, so that it must say when it has not what its parent has.
        if (own := bool(resource.get(key))) or parent.get(key):
            options[option] = str(own)
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
