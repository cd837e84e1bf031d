"""The plugin: validation, diffs, previews, secrets and errors, on a handler of its own."""

import asyncio
import json
from typing import Any, ClassVar

import pytest
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue
from pydantic import Field

from pulumi_mlops.plugin.dispatch import MlopsProvider
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context, Handler, Inputs, OutputField, ResourceSet
from pulumi_mlops.plugin.handlers import SharedResources
from pulumi_mlops.plugin.schema import schema_of
from pulumi_mlops.plugin.values import UNKNOWN, OrUnknown, to_plain, to_property
from pulumi_mlops.targets.kubernetes.resources import KubernetesResources
from pulumi_mlops.targets.local.resources import LocalResources


def handlers() -> list[Handler[Any]]:
    sets = (SharedResources(), KubernetesResources(), LocalResources())
    return [handler for each in sets for handler in each.handlers()]


URN = "urn:pulumi:dev::proj::mlops:index:Box$mlops:test:Thing::thing"
SECRET = "s3cr3t-value"


class ThingInputs(Inputs):
    size: int = Field(1, ge=1, description="How big.")
    colour_name: OrUnknown[str] = Field("red", description="Which colour.")
    env: dict[str, OrUnknown[str]] = Field({}, description="Variables.")
    where: str | None = Field(None, description="Where it is found.")


class ThingHandler(Handler[ThingInputs]):
    token = "mlops:test:Thing"
    description = "A thing."
    inputs = ThingInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "status": OutputField(str, "Its state."),
        "key": OutputField(str, "Its key.", secret=True),
    }
    replace_on = frozenset({"size"})
    ignore_in_diff = frozenset({"where"})

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.fails = ""
        self.drifted: dict[str, str] = {}

    def drift(self, ctx: Context, resource_id: str, state: dict[str, Any]) -> dict[str, str]:
        return self.drifted

    def preview(self, ctx: Context, new: ThingInputs, old: dict[str, Any] | None) -> dict[str, Any]:
        return {"status": "made"}

    def create(self, ctx: Context, new: ThingInputs) -> tuple[str, dict[str, Any]]:
        if self.fails:
            raise ResourceError(self.fails)
        ctx.log(f"works with {new.env.get('TOKEN', '')}")
        return ctx.name, {"status": "made", "key": "k"}

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        self.deleted.append(resource_id)


class Things(ResourceSet):
    def __init__(self, handler: ThingHandler) -> None:
        self.handler = handler

    def handlers(self) -> list[Handler[Any]]:
        return [self.handler]


class Plugin:
    def __init__(self) -> None:
        self.handler = ThingHandler()
        self.lines: list[str] = []
        sets = [Things(self.handler), KubernetesResources()]
        self.provider = MlopsProvider(sets, "0.0.1", self._log)

    def _log(self, level: str, urn: str, message: str, status: bool = False) -> None:
        self.lines.append(message)

    def check(self, inputs: dict[str, Any]) -> list[tuple[str, str]]:
        news = {key: to_property(value) for key, value in inputs.items()}
        answer = asyncio.run(self.provider.check(api.CheckRequest(URN, {}, news, b"")))
        return [(each.property, each.reason) for each in answer.failures or []]

    def diff(self, old: dict[str, Any], new: dict[str, Any]) -> api.DiffResponse:
        olds = {key: to_property(value) for key, value in old.items()}
        news = {key: to_property(value) for key, value in new.items()}
        return asyncio.run(self.provider.diff(api.DiffRequest(URN, "thing", olds, news, [])))

    def create(
        self, properties: dict[str, PropertyValue], *, preview: bool = False, urn: str = URN
    ) -> api.CreateResponse:
        return asyncio.run(self.provider.create(api.CreateRequest(urn, properties, 0.0, preview)))


@pytest.fixture
def plugin(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    monkeypatch.chdir(tmp_path)
    return Plugin()


def test_check_names_input_and_reason(plugin: Plugin) -> None:
    assert plugin.check({"size": 0, "nonsense": "x"}) == [
        ("size", "Input should be greater than or equal to 1"),
        ("nonsense", "Extra inputs are not permitted"),
    ]
    assert plugin.check({"size": 2, "colourName": UNKNOWN, "env": {"A": UNKNOWN}}) == []


def test_diff_shows_just_what_changed(plugin: Plugin) -> None:
    old = {"size": 1, "env": {"A": "1", "B": "2"}, "where": "/here", "status": "made"}
    same = plugin.diff(old, {"size": 1, "env": {"A": "1", "B": "2"}, "where": "/there"})
    assert same.changes is False
    assert same.detailed_diff == {}
    found = plugin.diff(old, {"size": 1, "env": {"A": "1", "B": "3", "C": "4"}})
    assert {path: diff.kind for path, diff in found.detailed_diff.items()} == {
        "env.B": api.PropertyDiffKind.UPDATE,
        "env.C": api.PropertyDiffKind.ADD,
    }
    assert found.replaces == []


def test_diff_replaces_where_it_must(plugin: Plugin) -> None:
    found = plugin.diff({"size": 1, "env": {"A": "1"}}, {"size": 2, "env": {"A": "2"}})
    assert found.replaces == ["size"]
    assert found.detailed_diff["size"].kind is api.PropertyDiffKind.UPDATE_REPLACE
    assert found.detailed_diff["env.A"].kind is api.PropertyDiffKind.UPDATE


def test_a_change_may_be_refused_in_the_diff(plugin: Plugin) -> None:
    def refuse(ctx: Any, changed: set[str], old: dict[str, Any], new: ThingInputs) -> None:
        raise ResourceError(f"{sorted(changed)}: {old['size']:g} to {new.size}")

    plugin.handler.refuse_change = refuse  # type: ignore[method-assign]
    with pytest.raises(ResourceError, match=r"\['size'\]: 1 to 2"):
        plugin.diff({"size": 1, "where": "/here"}, {"size": 2, "where": "/there"})


def test_drift_is_a_change_and_is_told(plugin: Plugin) -> None:
    plugin.handler.drifted = {"status": "stopped"}
    found = plugin.diff({"size": 1}, {"size": 1})
    assert found.changes is True
    assert list(found.detailed_diff) == ["status"]
    assert plugin.lines == ["status is stopped: the update corrects this"]


def test_preview_knows_what_it_can(plugin: Plugin) -> None:
    answer = plugin.create({"size": PropertyValue(1.0)}, preview=True)
    assert to_plain(answer.properties["status"]) == "made"
    assert to_plain(answer.properties["key"]) is UNKNOWN


def test_secrets_stay_secret(plugin: Plugin) -> None:
    env = PropertyValue(
        {"TOKEN": PropertyValue(SECRET, is_secret=True), "PLAIN": PropertyValue("open")}
    )
    answer = plugin.create({"env": env})
    leaf = answer.properties["env"].value
    assert leaf["TOKEN"].is_secret and not leaf["PLAIN"].is_secret  # type: ignore[index,call-overload]
    assert answer.properties["key"].is_secret
    assert plugin.lines == ["works with [secret]"]
    plugin.handler.fails = f"the server refused {SECRET}"
    with pytest.raises(ResourceError, match=r"the server refused \[secret\]"):
        plugin.create({"env": env})


@pytest.mark.parametrize("urn", [URN, URN.replace("Box", "Crate")])
def test_an_update_does_not_delete_what_it_just_created(plugin: Plugin, urn: str) -> None:
    """`pulumi up --replace` of a fixed name, and a move to another URN without an alias."""
    plugin.create({}, urn=urn)
    gone = api.DeleteRequest(URN, "thing", {}, 0.0)
    asyncio.run(plugin.provider.delete(gone))
    assert plugin.handler.deleted == []
    asyncio.run(plugin.provider.delete(api.DeleteRequest(URN, "other", {}, 0.0)))
    assert plugin.handler.deleted == ["other"]


def test_unknown_type_names_what_there_is(plugin: Plugin) -> None:
    wrong = URN.replace("test:Thing", "test:Other")
    with pytest.raises(
        ResourceError, match="the mlops plugin has no resource type mlops:test:Other"
    ):
        plugin.create({}, urn=wrong)


def test_schema_describes_every_input() -> None:
    schema = json.loads(schema_of(handlers(), "1.2.3"))
    assert schema["version"] == "1.2.3"
    assert len(schema["resources"]) == len(handlers())
    for token, resource in schema["resources"].items():
        assert resource["description"], token
        for name, described in resource["inputProperties"].items():
            assert described["description"], f"{token}.{name}"
            assert "type" in described or "$ref" in described


def test_schema_says_which_inputs_are_secret() -> None:
    resources = json.loads(schema_of(handlers(), "1.2.3"))["resources"]
    assert {
        (token, name)
        for token, resource in resources.items()
        for name, told in resource["inputProperties"].items()
        if told.get("secret")
    } == {
        ("mlops:kubernetes:StoredSecret", "stringData"),
        ("mlops:mlflow:ModelVersion", "password"),
        ("mlops:s3:Bucket", "secretAccessKey"),
        ("mlops:s3:ObjectFolder", "secretAccessKey"),
    }


def checked(plugin: Plugin, old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str]]:
    before, now = ({key: to_property(value) for key, value in each.items()} for each in (old, new))
    request = api.CheckRequest(
        "urn:pulumi:dev::p::pulumi:providers:mlops::default", before, now, b""
    )
    answer = asyncio.run(plugin.provider.check_config(request))
    assert dict(answer.inputs or {}) == now
    return [(each.property, each.reason) for each in answer.failures or []]


@pytest.mark.parametrize("name", ["state", "passphrase", "State"])
def test_a_stack_may_not_have_the_folder_of_the_checkout(plugin: Plugin, name: str) -> None:
    urn = f"urn:pulumi:{name}::p::pulumi:providers:mlops::default"
    answer = asyncio.run(plugin.provider.check_config(api.CheckRequest(urn, {}, {}, b"")))
    (failure,) = answer.failures or []
    assert failure.reason.startswith(f"a stack cannot be called {name}: .mlops/{name.lower()}")


def test_a_stack_is_on_a_cluster_or_rendered_and_stays_so(plugin: Plugin) -> None:
    applied = {"target": "kubernetes", "kubernetes": '{"namespace":"a"}'}
    rendered = {"target": "kubernetes", "kubernetes": '{"namespace":"a","render_to":"x"}'}
    other = {"target": "kubernetes", "kubernetes": '{"namespace":"b","render_to":"y"}'}
    ((where, told),) = checked(plugin, applied, rendered)
    assert (where, told.split(":")[0]) == (
        "kubernetes", "render_to cannot be set for a stack that is on a cluster"
    )  # fmt: skip
    ((_, told),) = checked(plugin, rendered, {"target": "kubernetes"})
    assert told.startswith("render_to cannot be removed from a stack that renders: the update")
    for old, new in (
        ({}, rendered), ({}, applied), (rendered, other), (applied, applied),
        ({"target": "local"}, rendered), (rendered, {"target": "local"}),
        (applied, {"target": "kubernetes", "kubernetes": "no JSON"}),
    ):  # fmt: skip
        assert checked(plugin, old, new) == []
