"""`mlops secrets` for the Kubernetes target."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ....cli.selection import CommandError, Stack
from ....cli.terminal import Style, table

_TYPE = "mlops:kubernetes:StoredSecret"
_SIGNATURE, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
"""The markers of secrets in the state (pulumi, sdk/go/common/resource/sig)."""


def run(stack: Stack, *, as_json: bool, show: bool) -> int:
    """Print the Secrets as manifests. On a terminal, print their names and keys without values."""
    found = manifests_in(_state(stack))
    if not found:
        raise CommandError(
            f"the state of {stack.name} contains no Secrets to apply: without "
            "mlops:kubernetes.render_to, `pulumi up` applies them itself; with it, run `pulumi up` "
            "first"
        )
    if sys.stdout.isatty() and not show:
        print("\n".join(_summary(found, Style(sys.stdout))))
    elif as_json:
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": found}, indent=1))
    else:
        import yaml  # noqa: PLC0415 - few commands need it

        print(yaml.safe_dump_all(found, sort_keys=False, explicit_start=True), end="")
    return 0


def manifests_in(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The Secrets in an exported state, sorted by namespace and name."""
    resources = (state.get("deployment") or {}).get("resources") or []
    found = [
        _manifest(_unwrapped(each.get("inputs") or {}))
        # Resources that are pending deletion are obsolete or have been replaced.
        for each in resources
        if each.get("type") == _TYPE and not each.get("delete")
    ]
    return sorted(found, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"]))


def _manifest(inputs: Mapping[str, Any]) -> dict[str, Any]:
    # `data`, not `stringData`: `kubectl apply` then also removes keys that no longer exist.
    content = {
        key: base64.b64encode(value.encode()).decode()
        for key, value in sorted(inputs["stringData"].items())
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": inputs["name"],
            "namespace": inputs["namespace"],
            "labels": inputs.get("labels") or {},
        },
        "type": inputs.get("type") or "Opaque",
        "data": content,
    }


def _unwrapped(value: Any) -> Any:
    """A value of the state with secrets as plain values."""
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return _unwrapped(json.loads(value["plaintext"]))
        return {key: _unwrapped(item) for key, item in value.items()}
    return [_unwrapped(item) for item in value] if isinstance(value, list) else value


def _summary(found: Iterable[Mapping[str, Any]], style: Style) -> list[str]:
    rows = [
        [each["metadata"]["namespace"], each["metadata"]["name"], ", ".join(each["data"])]
        for each in found
    ]
    lines = table(["NAMESPACE", "SECRET", "KEYS"], rows, style)
    return [
        *lines,
        "",
        "`mlops secrets | kubectl apply -f -` applies them; --show prints their values.",
    ]


def _state(stack: Stack) -> dict[str, Any]:
    """The state with decrypted secrets. Errors contain only the engine's last stderr line."""
    if shutil.which("pulumi") is None:
        raise CommandError(
            "pulumi is not on PATH, and it is needed to read the state: see `mlops doctor`"
        )
    done = subprocess.run(
        ["pulumi", "stack", "export", "--show-secrets", "--stack", stack.name, "--non-interactive"],  # noqa: S607
        cwd=stack.folder,
        env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = lines[-1].removeprefix("error: ")
        raise CommandError(
            f"pulumi cannot read the state of {stack.name}: {reason} (see `mlops doctor`)"
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
