"""Where everything of an environment is, as far as its outputs say."""

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
# Of a cluster: its addresses lead nowhere from here, and these settings name them.
_NOT_OUTSIDE = {"client_env_file", "logs_dir"}


def summary(stack: str, found: Mapping[str, Any], *, here: bool = True) -> str:
    """The outputs that people look for, as a table, and a command to try."""
    rows = [
        (label, str(found[key]))
        for key, label in SINGLE.items()
        if found.get(key) and (here or key not in _NOT_OUTSIDE)
    ]
    for name, endpoint in sorted((found.get("endpoints") or {}).items()):
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
        lines += ["", f"The addresses are the cluster's own; `{connect}` opens tunnels to them."]
    if found.get("try_it"):
        before = f"{connect} -- " if connect else ""
        lines += ["", "Try it:", f"  {before}{found['try_it']}"]
    return "\n".join(lines)
