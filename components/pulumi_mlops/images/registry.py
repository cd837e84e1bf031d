"""Queries of a container registry without a container engine (OCI distribution API)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from .options import ImageError

if TYPE_CHECKING:
    import httpx

_SECONDS = 10
_KINDS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def host_of(reference: str) -> str:
    """The host of the container registry in an image reference or prefix."""
    first = reference.partition("/")[0]
    return first if "." in first or ":" in first or first == "localhost" else "docker.io"


def answers(host: str) -> str:
    """None if a container registry answers at `host`, with or without a login; else the reason."""
    import httpx  # noqa: PLC0415 - most commands ask no registry

    try:
        status = _ask(host, "GET", "").status_code
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    known = (httpx.codes.OK, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
    return "" if status in known else f"it answers {status}: it is not a container registry"


def has(reference: str) -> bool | None:
    """Whether the container registry has the image; None if unknown."""
    import httpx  # noqa: PLC0415

    host = host_of(reference)
    path = reference.removeprefix(f"{host}/")
    mark = "@" if "@" in path else ":"
    repository, _, version = path.partition(mark)
    try:
        status = _ask(host, "HEAD", f"{repository}/manifests/{version or 'latest'}").status_code
    except (httpx.HTTPError, ImageError):
        return None
    return {httpx.codes.OK: True, httpx.codes.NOT_FOUND: False}.get(httpx.codes(status))


def _ask(host: str, method: str, path: str) -> httpx.Response:
    """The response, with a token if the registry requires and issues one."""
    import httpx  # noqa: PLC0415

    local = re.fullmatch(r"(localhost|127\.0\.0\.1)(:\d+)?", host)
    place = "registry-1.docker.io" if host == "docker.io" else host
    url = f"{'http' if local else 'https'}://{place}/v2/{path}"
    login = _login(host)
    with httpx.Client(timeout=_SECONDS, follow_redirects=True) as client:
        answer = client.request(method, url, headers={"accept": _KINDS})
        if answer.status_code != httpx.codes.UNAUTHORIZED:
            return answer
        asked = answer.headers.get("www-authenticate", "")
        headers = {"accept": _KINDS}
        if asked.lower().startswith("bearer"):
            wanted = dict(re.findall(r'(\w+)="([^"]*)"', asked))
            told = client.get(
                wanted.pop("realm", ""), params=wanted,
                headers={"authorization": f"Basic {login}"} if login else {},
            )  # fmt: skip
            if told.is_error:
                return answer
            found = told.json()
            headers["authorization"] = f"Bearer {found.get('token') or found.get('access_token')}"
        elif login:
            headers["authorization"] = f"Basic {login}"
        else:
            return answer
        return client.request(method, url, headers=headers)


def _login(host: str) -> str:
    """The login that `docker login` stored in its file. Credential helpers are not supported."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError):
        known = json.loads((folder / "config.json").read_text())["auths"]
        key = "https://index.docker.io/v1/" if host == "docker.io" else host
        login = str(known[key]["auth"])
        base64.b64decode(login, validate=True)
        return login
    return ""
