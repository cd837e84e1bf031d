"""`mlops:kubernetes:Ready` for an HTTPRoute: what its Gateway tells, and when that is hopeless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.plugin.errors import ResourceError, UnreachableError
from pulumi_mlops.targets.kubernetes.resources.ready import ReadyInputs

from .kubernetes_fixtures import Manifest, Ready, Waiting, begin

PARENT = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "team",
          "name": "public"}  # fmt: skip
TAKEN = {"Accepted": "", "ResolvedRefs": ""}


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*steps: Any) -> Ready:
        return begin(tmp_path, monkeypatch, *steps)

    return make


def conditions(told: dict[str, str], generation: int = 2, message: str = "") -> list[Manifest]:
    """Conditions that hold, or the reasons that they do not for."""
    return [
        {"type": kind, "status": "False" if reason else "True", "reason": reason or kind,
         "message": message, "observedGeneration": generation}
        for kind, reason in told.items()
    ]  # fmt: skip


def status(found: list[Manifest], **parent: Any) -> Manifest:
    return {"parentRef": {**PARENT, **parent}, "controllerName": "c", "conditions": found}


def route(*parents: Manifest, **parent: Any) -> Manifest:
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": "tool", "namespace": "team", "generation": 2},
        "spec": {"parentRefs": [{**PARENT, **parent}]},
        "status": {"parents": list(parents)},
    }


def gateway(**told: str) -> Manifest:
    found = conditions(told, message="no such class")
    return {
        "kind": "Gateway",
        "metadata": {"name": "public", "namespace": "team"},
        "status": {"conditions": found},
    }


def refused(ready: Ready, **inputs: Any) -> list[str]:
    with pytest.raises(ResourceError) as refusal:
        ready.create("HTTPRoute", **inputs)
    first, *lines = str(refusal.value).splitlines()
    assert first == "HTTPRoute tool is not taken by its Gateway"
    return lines


@pytest.mark.parametrize(
    "before",
    [
        route(),
        route(status(conditions(TAKEN, generation=1))),
        route(status(conditions({"Accepted": ""}))),
        route(status(conditions(TAKEN), name="another")),
        route(status(conditions(TAKEN), namespace="another")),
        route(status(conditions(TAKEN), sectionName="http"), sectionName="https"),
    ],
    ids=["never seen", "the one before", "half", "another", "of another namespace", "listener"],
)
def test_it_waits_until_its_gateway_has_taken_the_newest_generation(
    ready: Any, before: Manifest
) -> None:
    it: Ready = ready(None, lambda: it.cluster.put(route(status(conditions(TAKEN)))))
    it.cluster.put(before, gateway())
    assert it.create("HTTPRoute") == {"outputs": {}, "status": "ready"}
    assert it.log.of("status") == ["waiting until its Gateway has taken the route"] * 2 + ["ready"]


def test_a_parent_in_its_own_namespace_need_not_name_it(ready: Any) -> None:
    it = ready()
    found = status(conditions(TAKEN))
    del found["parentRef"]["namespace"]
    it.cluster.put(route(found))
    it.create("HTTPRoute")
    assert it.log.lines == []


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("NotAllowedByListeners", "allowedRoutes.namespaces"),
        ("NoMatchingListenerHostname", "mlops:kubernetes.gateway.url"),
        ("NoMatchingParent", "mlops:kubernetes.gateway.section_name"),
    ],
)
def test_a_refusal_that_stays_ends_the_wait(ready: Any, reason: str, fix: str) -> None:
    it = ready()
    told = conditions({"Accepted": reason, "ResolvedRefs": ""}, message="it is\nnot for you")
    it.cluster.put(route(status(told)))
    (line,) = refused(it)
    assert line.startswith(f"not Accepted: {reason}: it is not for you - ")
    assert fix in line
    assert len(it.log.of("status")) < 40


def test_a_reason_that_is_not_known_is_told_as_it_is(ready: Any) -> None:
    it = ready()
    told = conditions({"Accepted": "Pending", "ResolvedRefs": "BackendNotFound"})
    it.cluster.put(route(status(told)))
    assert refused(it) == [
        "not Accepted: Pending",
        "not ResolvedRefs: BackendNotFound - a Service was deleted: run `pulumi refresh`, then "
        "update again",
    ]


def test_a_refusal_that_passes_is_given_a_moment(ready: Any) -> None:
    late = route(status(conditions({"Accepted": "", "ResolvedRefs": "BackendNotFound"})))
    it: Ready = ready(*[None] * 20, lambda: it.cluster.put(route(status(conditions(TAKEN)))))
    it.cluster.put(late)
    assert it.create("HTTPRoute")["status"] == "ready"


def test_a_gateway_that_is_not_there_ends_the_wait(ready: Any) -> None:
    it = ready()
    it.cluster.put(route())
    (line,) = refused(it)
    assert line.startswith("there is no Gateway public in namespace team: correct mlops:kubernetes")
    assert len(it.log.of("status")) < 10


def test_a_gateway_that_comes_later_is_not_missed(ready: Any) -> None:
    it: Ready = ready(
        lambda: it.cluster.put(gateway()), *[None] * 20,
        lambda: it.cluster.put(route(status(conditions(TAKEN)))),
    )  # fmt: skip
    it.cluster.put(route())
    assert it.create("HTTPRoute")["status"] == "ready"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (gateway(), "its status reports no error"),
        (gateway(Accepted="", Programmed="AddressNotUsable"),
         "not Programmed: AddressNotUsable: no such class"),
    ],
    ids=["a gateway without a controller", "a gateway that is not up"],
)  # fmt: skip
def test_what_nobody_looks_at_is_told_in_the_end(ready: Any, found: Manifest, told: str) -> None:
    it = ready()
    it.cluster.put(route(), found)
    (line,) = refused(it, timeoutSeconds=90)
    assert line == (f"no controller has processed it; Gateway public in namespace team: {told}")


def test_a_gateway_that_may_not_be_seen_is_asked_for(ready: Any) -> None:
    it = ready()
    it.cluster.put(route())
    it.cluster.forbidden.add("Gateway")
    (line,) = refused(it)
    assert line.endswith("ask the owner of Gateway public in namespace team")


def test_an_api_that_is_away_for_a_while_is_waited_for(ready: Any) -> None:
    def away() -> None:
        it.cluster.fails = UnreachableError("no cluster answers")

    def back() -> None:
        it.cluster.fails = None
        it.cluster.put(route(status(conditions(TAKEN))))

    it: Ready = ready(*[None] * 8, away, *[None] * 10, back)
    it.cluster.put(route(), gateway())
    assert it.create("HTTPRoute")["status"] == "ready"


def test_an_interruption_ends_the_wait(ready: Any) -> None:
    it = ready(None, lambda: Waiting)
    it.cluster.put(route(), gateway())
    with pytest.raises(ResourceError, match="interrupted while waiting for HTTPRoute tool"):
        it.create("HTTPRoute")


def test_read_says_how_it_is(ready: Any) -> None:
    def read(it: Ready) -> Any:
        return it.handler.read(it.ctx, "team/HTTPRoute/tool", {"status": "ready"})

    it = ready()
    assert read(it) is None
    it.cluster.put(route())
    assert read(it) == {"status": "not ready"}
    it.cluster.put(route(status(conditions({"Accepted": "", "ResolvedRefs": "x"}))))
    assert read(it) == {"status": "not ready"}
    it.cluster.put(route(status(conditions(TAKEN))))
    assert read(it) == {"status": "ready"}
    it.cluster.fails = UnreachableError("no cluster answers")
    assert read(it) == {}


def test_a_preview_knows_that_it_leaves_nothing(ready: Any) -> None:
    new = ReadyInputs.model_validate({"kind": "HTTPRoute", "namespace": "team", "name": "tool"})
    found = ready().handler.preview(ready().ctx, new, None)
    assert found == {"status": "ready", "outputs": {}}
