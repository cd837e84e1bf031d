"""A summary of an environment: its URLs and files, from the outputs of its stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SINGLE = {
    "tracking_url": "tracking server",
    "artifact_store": "artifact store",
    "s3_endpoint_url": "S3 endpoint",
    "dashboard_url": "dashboard",
    "logs_dir": "logs",
    "client_env_file": "client settings",
}
# Not shown for a cluster: these files contain addresses that are valid only inside it.
_NOT_OUTSIDE = {"client_env_file", "logs_dir"}


def summary(stack: str, outputs: Mapping[str, Any], *, here: bool = True) -> str:
    """A table of the outputs that users need, and an example command.

    `here` is True if the environment runs on this machine.
    """
    rows = [
        (label, str(outputs[key]))
        for key, label in SINGLE.items()
        if outputs.get(key) and (here or key not in _NOT_OUTSIDE)
    ]
    for name, endpoint in sorted((outputs.get("endpoints") or {}).items()):
        if not isinstance(endpoint, Mapping):
            continue
        shares = [
            f"{version}: {share:g} %" for version, share in endpoint.get("traffic", {}).items()
        ]
        traffic = f"  (traffic {', '.join(shares)})" if shares else ""
        rows.append((f"endpoint {name}", f"{endpoint.get('url', '')}{traffic}"))
    if not rows:
        return f"{stack} is not up; `make up STACK={stack}` provisions it"
    width = max(len(label) for label, _ in rows)
    lines = ["", f"{stack}:", *(f"  {label:<{width}}  {value}" for label, value in rows)]
    connect = "" if here else f"mlops connect --stack {stack}"
    if connect:
        lines += ["", f"The URLs are valid inside the cluster; `{connect}` opens tunnels to them."]
    if outputs.get("try_it"):
        prefix = f"{connect} -- " if connect else ""
        lines += ["", "Try it:", f"  {prefix}{outputs['try_it']}"]
    return "\n".join(lines)
