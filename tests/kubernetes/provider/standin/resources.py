"""What the engine asks of a resource, in plain values."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .api import Api, ApiError, UnknownKind, Unreachable
from .awaiting import NotReady, readiness, troubles
from .checking import Refused, checked
from .cluster import Cluster, Operation
from .diff import Change, changes, ignored
from .drift import live_inputs
from .kubeconfig import KubeconfigError
from .objects import (
    AUTONAMED,
    SKIP_AWAIT,
    annotated,
    field_manager,
    id_of,
    name_of,
    namespace_of,
    split_id,
    type_of,
    without_servers_fields,
)
from .rendering import render, rendered_path
from .replaces import fixed_fields
from .settings import Settings
from .wire import Object, has_secret, has_unknown, plain, with_secrets_of

# A server that is just restarting gets another chance in the same run.
_ASK_AGAIN: Final = 10.0

Log = Callable[..., None]


class InitFailed(Exception):
    """The object is there, but not ready: the engine is to keep it, with the reasons."""

    def __init__(self, message: str, resource_id: str, state: Object, reasons: list[str]) -> None:
        super().__init__(message)
        self.resource_id = resource_id
        self.state = state
        self.reasons = reasons
        self.inputs: Object | None = None


@dataclass
class Differences:
    """How new inputs differ from old ones, and what that takes."""

    changes: list[Change]
    replaces: list[Change]
    delete_first: bool


@dataclass
class Resources:
    """The objects of one configured provider."""

    settings: Settings
    log: Log
    cancelled: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cluster: Cluster | None = None
    _unreachable: tuple[float, str] = (0.0, "")
    _warned: bool = False

    def check(
        self, urn: str, news: Object, olds: Object, *, seed: bytes, proposed: str | None
    ) -> Object:
        """The inputs to compare and to send."""
        return checked(
            urn,
            news,
            plain(olds),
            seed=seed,
            proposed=proposed,
            default_namespace=self._default_namespace,
            asks_namespaced=self._is_namespaced,
        )

    def diff(self, old: Object, new: Object, ignore_changes: list[str]) -> Differences:
        """What changed, and whether it makes another object."""
        old, new = plain(old), plain(new)
        found = [each for each in changes(old, new) if not ignored(each.spelled, ignore_changes)]
        fixed = fixed_fields(
            new,
            secrets_change=self.settings.secrets_change,
            config_maps_change=self.settings.config_maps_change,
        )
        if _group(old) != _group(new):
            fixed = (*fixed, ("apiVersion",))
        replaces = [each for each in found if each.replaces(fixed)]
        same_name = (name_of(old), namespace_of(old)) == (name_of(new), namespace_of(new))
        return Differences(
            found, replaces, bool(replaces) and same_name and not annotated(new, AUTONAMED)
        )

    def create(self, urn: str, inputs: Object, *, timeout: float, preview: bool) -> Object:
        """The state of the object made; of a preview, as far as it can be known."""
        obj = plain(inputs)
        manager = field_manager(urn, obj, {})
        if self.settings.render_to:
            return self._rendered(urn, inputs, manager, preview=preview)
        if preview and (has_unknown(obj) or not self.settings.server_side_apply):
            return inputs
        try:
            live = self.cluster().create(obj, self._operation(urn, manager, timeout), dry=preview)
        except NotReady as error:
            raise self._init_failed(
                f'resource "{urn}" was successfully created, but the Kubernetes API server reported'
                f" that it failed to fully initialize or become live: {error}",
                error,
                inputs,
                manager,
            ) from None
        except Unreachable as error:
            if preview:
                self._warn_unreachable(urn, error)
                return inputs
            raise
        except UnknownKind as error:
            if preview:
                return inputs
            raise Refused(f"{error}. Verify that any required CRDs have been created") from None
        except ApiError as error:
            if preview and (error.code in (403, 409) or error.namespace_missing):
                return inputs
            raise Refused(
                f'resource "{urn}" was not successfully created by the Kubernetes API server:'
                f" {error}"
            ) from None
        if preview:
            live.pop("status", None)
        return _state(inputs, live, manager)

    def update(
        self,
        urn: str,
        old_state: Object,
        old_inputs: Object,
        inputs: Object,
        *,
        timeout: float,
        preview: bool,
        ignore_changes: tuple[str, ...] = (),
    ) -> Object:
        """The state of the object changed."""
        obj = plain(inputs)
        manager = field_manager(urn, obj, plain(old_state))
        if self.settings.render_to:
            return self._rendered(urn, inputs, manager, preview=preview)
        if preview and has_unknown(obj):
            return inputs
        operation = replace(self._operation(urn, manager, timeout), ignored=ignore_changes)
        try:
            live = self.cluster().update(plain(old_inputs), obj, operation, dry=preview)
        except NotReady as error:
            raise self._init_failed(
                f'the Kubernetes API server reported that "{id_of(obj)}" failed to fully initialize'
                f" or become live: {error}",
                error,
                inputs,
                manager,
            ) from None
        except Unreachable as error:
            if preview:
                self._warn_unreachable(urn, error)
                return inputs
            raise
        except (ApiError, UnknownKind) as error:
            if preview and (isinstance(error, UnknownKind) or error.code == 403):
                return inputs
            raise Refused(f'update of resource "{urn}" failed: {error}') from None
        return _state(inputs, live, manager)

    def read(
        self, urn: str, resource_id: str, state: Object, inputs: Object
    ) -> tuple[Object, Object] | None:
        """The state and the inputs that the live object amounts to; None if it is gone."""
        if self.settings.render_to:
            return state, inputs
        known, last = plain(state), plain(inputs)
        api_version, kind = type_of(urn)
        namespace, name = split_id(resource_id)
        obj = {
            "apiVersion": last.get("apiVersion") or known.get("apiVersion") or api_version,
            "kind": last.get("kind") or known.get("kind") or kind,
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        }
        try:
            cluster = self.cluster()
            live = cluster.api.get(obj)
        except UnknownKind:
            return None
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        except (Unreachable, KubeconfigError):
            if self.settings.delete_unreachable:
                return None
            raise
        manager = field_manager(urn, last, known)
        found = live_inputs(live, last) if last else without_servers_fields(live)
        marked = with_secrets_of(found, inputs)
        result = _state(marked, live, manager)
        if last and not annotated(last, SKIP_AWAIT):
            now = readiness(cluster.api, live)
            if not now.ready:
                failed = InitFailed(
                    f"{kind} {resource_id} is not ready: {now.says}",
                    resource_id,
                    result,
                    [now.says, *troubles(cluster.api, live)],
                )
                failed.inputs = marked
                raise failed
        return result, marked

    def delete(
        self, urn: str, resource_id: str, state: Object, old_inputs: Object, *, timeout: float
    ) -> None:
        """Return once the object is gone."""
        known, inputs = plain(state), plain(old_inputs)
        if self.settings.render_to:
            rendered_path(self.settings.render_to, known).unlink(missing_ok=True)
            return
        namespace, name = split_id(resource_id)
        api_version, kind = type_of(urn)
        obj = {
            "apiVersion": known.get("apiVersion", api_version),
            "kind": known.get("kind", kind),
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        }
        try:
            cluster = self.cluster()
        except (Unreachable, KubeconfigError) as error:
            if self.settings.delete_unreachable:
                return
            raise Refused(
                f"configured Kubernetes cluster is unreachable: {error}. If the cluster was"
                " deleted, you can remove this resource from Pulumi state by rerunning the"
                " operation with the PULUMI_K8S_DELETE_UNREACHABLE environment variable set to"
                ' "true"'
            ) from None
        try:
            cluster.delete(obj, inputs, self._operation(urn, "", timeout))
        except NotReady as error:
            raise Refused(str(error)) from None

    def cluster(self) -> Cluster:
        """The cluster, once it answered."""
        with self._lock:
            if self._cluster is None:
                asked, reason = self._unreachable
                if reason and time.monotonic() < asked + _ASK_AGAIN:
                    raise Unreachable(reason)
                try:
                    api = Api(self.settings.connection())
                    api.version()
                except (Unreachable, KubeconfigError, ApiError) as error:
                    self._unreachable = (time.monotonic(), str(error))
                    raise Unreachable(str(error)) from None
                self._cluster = Cluster(api, self.settings)
            return self._cluster

    def _operation(self, urn: str, manager: str, timeout: float) -> Operation:
        told = ""

        def tell(message: str) -> None:
            nonlocal told
            if message != told:
                self.log("info", urn, message, status=True)
            told = message

        return Operation(
            manager, timeout, self.cancelled, tell, lambda text: self.log("warning", urn, text)
        )

    def _rendered(self, urn: str, inputs: Object, manager: str, *, preview: bool) -> Object:
        obj = plain(inputs)
        if not preview and self.settings.render_to:
            path = render(self.settings.render_to, obj)
            if has_secret(with_secrets_of(obj, inputs)):
                self.log("warning", urn, f"rendered file {path} contains a secret in plaintext")
        return inputs if preview else _state(inputs, obj, manager)

    def _init_failed(
        self, message: str, error: NotReady, inputs: Object, manager: str
    ) -> InitFailed:
        live = error.live
        return InitFailed(
            message, id_of(live), _state(inputs, live, manager), [message, *error.reasons]
        )

    def _default_namespace(self) -> str:
        if self.settings.namespace:
            return self.settings.namespace
        if self.settings.render_to:
            return "default"
        try:
            return self.settings.connection().namespace
        except KubeconfigError:
            return "default"

    def _is_namespaced(self, api_version: str, kind: str) -> bool:
        if self.settings.render_to:
            return True
        try:
            return self.cluster().api.mapped(api_version, kind).namespaced
        except (UnknownKind, Unreachable, ApiError):
            return True  # its definition may be made by the same update

    def _warn_unreachable(self, urn: str, error: Unreachable) -> None:
        if not self._warned:
            self._warned = True
            self.log("warning", urn, f"configured Kubernetes cluster is unreachable: {error}")


def _state(inputs: Object, live: Mapping[str, Any], manager: str) -> Object:
    """What the engine keeps: the live object, its inputs, and under which name they were set."""
    meta = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    # Inputs are marked by themselves, so that what is in a Secret is secret in them too.
    return {
        **with_secrets_of({**live, "metadata": meta}, inputs),
        "__inputs": with_secrets_of(plain(inputs), inputs),
        "__initialApiVersion": plain(inputs)["apiVersion"],
        "__fieldManager": manager,
    }


def _group(obj: Mapping[str, Any]) -> str:
    return str(obj.get("apiVersion", "")).rpartition("/")[0]
