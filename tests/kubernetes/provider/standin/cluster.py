"""Making, changing and deleting objects of a cluster, as the official plugin goes about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .api import Api, ApiError, UnknownKind
from .awaiting import NotReady, Tell, delete_timeout, timeout_of, until_gone, until_ready
from .diff import merge_patch
from .managers import takeover, without_others
from .objects import PATCH_FORCE, PROPAGATION, SKIP_AWAIT, annotated, annotation, name_of
from .settings import Settings
from .wire import Object

# A namespace or a definition that the object needs may be a moment behind it.
_CREATE_TRIES: Final = 6
_PROPAGATION: Final = {"background": "Background", "orphan": "Orphan"}


class Conflict(Exception):
    """Somebody else owns a field that was to be set."""


@dataclass(frozen=True)
class Operation:
    """What is known of one request besides the object."""

    manager: str
    timeout: float
    cancelled: threading.Event
    tell: Tell
    warn: Callable[[str], None]
    ignored: tuple[str, ...] = ()
    """Paths whose changes the program ignores."""


class Cluster:
    """One cluster, written to as the settings say."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self.api = api
        self._settings = settings

    def create(self, inputs: Object, op: Operation, *, dry: bool) -> Object:
        """The object made, and awaited unless `dry`. One that is there already is an error."""
        live = self._created(inputs, op, dry=dry)
        return live if dry else self._awaited(live, inputs, op)

    def update(self, old: Object, inputs: Object, op: Operation, *, dry: bool) -> Object:
        """The object with these inputs, and awaited unless `dry`."""
        live = self.api.get(inputs)
        if live["kind"] == "CustomResourceDefinition":
            version = live["metadata"]["resourceVersion"]
            meta = {**inputs["metadata"], "resourceVersion": version}
            live, warnings = self.api.replace({**inputs, "metadata": meta}, op.manager, dry=dry)
        elif not self._settings.server_side_apply:
            patch = merge_patch(old, inputs)
            live, warnings = self.api.merge(inputs, patch, op.manager, dry=dry)
        else:
            patch = takeover(live, op.manager)
            if patch and not dry:
                self.api.json_patch(live, patch)
            # What would be taken over is no conflict in a preview either.
            force = self._force(inputs) or (dry and bool(patch))
            sent = without_others(inputs, live, op.manager, op.ignored)
            live, warnings = self._applied(sent, op, force=force, dry=dry)
        for warning in warnings:
            op.warn(warning)
        return live if dry else self._awaited(live, inputs, op)

    def delete(self, obj: Object, inputs: Object, op: Operation) -> None:
        """Return when the object is gone, or at once if nobody is to wait for it."""
        propagation = _PROPAGATION.get(annotation(inputs, PROPAGATION).lower(), "Foreground")
        try:
            live = self.api.get(obj)
            self.api.delete(obj, propagation)
        except UnknownKind:
            return  # nothing of a kind outlives its definition
        except ApiError as error:
            if error.code == 404:
                return
            raise
        if not annotated(inputs, SKIP_AWAIT):
            until_gone(
                self.api,
                live,
                timeout=delete_timeout(op.timeout, inputs),
                cancelled=op.cancelled,
                tell=op.tell,
            )

    def _created(self, inputs: Object, op: Operation, *, dry: bool) -> Object:
        pause = 1.0
        for attempt in range(1, _CREATE_TRIES + 1):
            try:
                if self._settings.upsert and self._settings.server_side_apply:
                    force = self._force(inputs) or dry
                    live, warnings = self._applied(inputs, op, force=force, dry=dry)
                else:
                    live, warnings = self.api.create(inputs, op.manager, dry=dry)
            except (ApiError, UnknownKind) as error:
                missing = isinstance(error, UnknownKind) or error.code == 404
                if dry or not missing or attempt == _CREATE_TRIES or op.cancelled.is_set():
                    raise
                op.tell(f"try {attempt} of {_CREATE_TRIES}: {error}")
                op.cancelled.wait(pause)
                pause *= 2
            else:
                for warning in warnings:
                    op.warn(warning)
                return live
        raise AssertionError("unreachable")

    def _applied(
        self, inputs: Object, op: Operation, *, force: bool, dry: bool
    ) -> tuple[Object, list[str]]:
        try:
            return self.api.apply(inputs, op.manager, force=force, dry=dry)
        except ApiError as error:
            if error.code == 409 and error.reason == "Conflict":
                raise Conflict(
                    "Server-Side Apply field conflict detected. The resource managed by field"
                    f' manager "{op.manager}" had an apply conflict: {error}. The annotation'
                    f' {PATCH_FORCE}: "true" takes the fields over.'
                ) from None
            raise

    def _awaited(self, live: Object, inputs: Object, op: Operation) -> Object:
        return until_ready(
            self.api,
            live,
            inputs,
            timeout=timeout_of(op.timeout, inputs),
            cancelled=op.cancelled,
            tell=op.tell,
        )

    def _force(self, inputs: Mapping[str, Any]) -> bool:
        return annotated(inputs, PATCH_FORCE) or self._settings.patch_force


__all__ = ["Cluster", "Conflict", "NotReady", "Operation", "name_of"]
