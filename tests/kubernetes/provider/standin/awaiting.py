"""Waiting for objects to become ready, or to be gone, and saying why they do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from .api import Api, ApiError, Unreachable
from .objects import SKIP_AWAIT, TIMEOUT, annotated, annotation, described, name_of, namespace_of
from .readiness import READINESS, READY, Live, Readiness, container_troubles, said, waits
from .wire import Object

_TIMEOUT: Final = 600.0
_DELETE_TIMEOUT: Final = 300.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 1.5

Tell = Callable[[str], None]


class NotReady(Exception):
    """The object is there, but it did not become ready; `live` is how it was last seen."""

    def __init__(self, message: str, reasons: list[str], live: Object) -> None:
        super().__init__(message)
        self.reasons = reasons
        self.live = live


def timeout_of(asked: float, obj: Mapping[str, Any], default: float = _TIMEOUT) -> float:
    """How long to wait: customTimeouts, else the annotation, else the default."""
    said_so = annotation(obj, TIMEOUT)
    return asked or (float(said_so) if said_so.isdigit() else default)


def readiness(api: Api, live: Live) -> Readiness:
    """Where the object is on its way, looking at others where its own status does not say."""
    kind = (str(live.get("apiVersion")), str(live.get("kind")))
    if kind == ("v1", "Service"):
        return _service(api, live)
    if kind == ("v1", "PersistentVolumeClaim") and _binds_later(api, live):
        return READY
    return READINESS[kind](live) if kind in READINESS else READY


def until_ready(
    api: Api,
    live: Object,
    inputs: Mapping[str, Any],
    *,
    timeout: float,
    cancelled: threading.Event,
    tell: Tell,
) -> Object:
    """The object once it is ready; NotReady when it fails, at the timeout or when cancelled."""
    if annotated(inputs, SKIP_AWAIT):
        return live
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            found = readiness(api, live)
        except Unreachable as error:
            found = waits(str(error))
        if found.ready:
            tell("")
            return live
        ends = f"did not become ready within {timeout:g} s" if time.monotonic() > deadline else ""
        if cancelled.is_set():
            ends = "was not ready yet when the update was cancelled"
        if found.failed:
            ends = "failed"
        if ends:
            reasons = [found.says, *troubles(api, live)]
            raise NotReady(f"{described(live)} {ends}: {'; '.join(reasons)}", reasons, live)
        tell(f"waiting for {found.says}")
        cancelled.wait(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        try:
            live = api.get(live)
        except ApiError as error:
            if error.code == 404:
                told = f"{described(live)} was deleted by somebody else"
                raise NotReady(told, [told], live) from None
        except Unreachable as error:
            tell(f"no answer: {error}")


def until_gone(
    api: Api, live: Object, *, timeout: float, cancelled: threading.Event, tell: Tell
) -> None:
    """Return once the object is gone; NotReady at the timeout or when cancelled."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE / 2
    uid = live["metadata"]["uid"]
    while True:
        try:
            live = api.get(live)
            left = _what_is_left(live)
        except ApiError as error:
            if error.code == 404:
                return tell("")
            left = str(error)
        except Unreachable as error:
            left = str(error)
        if live["metadata"]["uid"] != uid:
            return tell("")  # it is gone; this is another one
        if cancelled.is_set() or time.monotonic() > deadline:
            why = "when the update was cancelled" if cancelled.is_set() else f"after {timeout:g} s"
            raise NotReady(f"{described(live)} was not gone {why}: {left}", [left], live)
        tell(f"waiting for its end: {left}")
        cancelled.wait(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def delete_timeout(asked: float, obj: Mapping[str, Any]) -> float:
    """How long to wait for an object's end."""
    return timeout_of(asked, obj, _DELETE_TIMEOUT)


def troubles(api: Api, live: Live) -> list[str]:
    """What else is known: the pods' troubles and the last warnings about the object and them."""
    try:
        pods = _pods(api, live)
        found = [
            f"pod {name_of(each)}: {trouble}"
            for each in pods
            for trouble in container_troubles(each)
        ]
        names = {name_of(live), *map(name_of, pods)}
        events = api.items("v1", "Event", namespace_of(live), fieldSelector="type=Warning")
    except (ApiError, Unreachable):
        return []
    about = [each for each in events if each.get("involvedObject", {}).get("name") in names]
    about.sort(key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime") or ""))
    warned = [f"{each['involvedObject']['name']}: {said(each)}" for each in about[-3:]]
    return [*dict.fromkeys([*found[:5], *warned])]


def _pods(api: Api, live: Live) -> list[Object]:
    labels = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels")
    if live.get("kind") == "Pod" or not labels:
        return []
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return api.items("v1", "Pod", namespace_of(live), labelSelector=selector)


def _service(api: Api, live: Live) -> Readiness:
    spec = live.get("spec") or {}
    kind = spec.get("type")
    if kind == "ExternalName" or not spec.get("selector") or spec.get("clusterIP") == "None":
        return READY
    if kind == "LoadBalancer" and not (
        ((live.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    ):
        return waits("an address of the load balancer")
    slices = api.items(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        namespace_of(live),
        labelSelector=f"kubernetes.io/service-name={name_of(live)}",
    )
    endpoints = [each for part in slices for each in part.get("endpoints") or []]
    if any((each.get("conditions") or {}).get("ready", True) for each in endpoints):
        return READY
    return waits(f"a ready pod behind the Service ({len(endpoints)} are not)")


def _binds_later(api: Api, live: Live) -> bool:
    """Whether the claim's volume is only made for its first pod."""
    name = (live.get("spec") or {}).get("storageClassName")
    if not name:
        return False
    sought = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
    }
    try:
        return api.get(sought).get("volumeBindingMode") == "WaitForFirstConsumer"
    except ApiError:
        return False


def _what_is_left(live: Live) -> str:
    conditions = (live.get("status") or {}).get("conditions") or []
    # A namespace says in its conditions what is still in it.
    if live.get("kind") == "Namespace" and conditions:
        left = [said(each) for each in conditions if each.get("status") == "True"]
        if left:
            return "; ".join(left)
    finalizers = (live.get("metadata") or {}).get("finalizers")
    return f"finalizers {', '.join(finalizers)}" if finalizers else "it is shutting down"
