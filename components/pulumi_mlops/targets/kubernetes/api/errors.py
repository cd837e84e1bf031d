"""Errors of the cluster's API."""

from __future__ import annotations

import re

import httpx

from ....plugin.errors import ResourceError


class RefusedError(ResourceError):
    """The API refused a request. `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def refused(answer: httpx.Response) -> RefusedError:
    """The error of a response."""
    return RefusedError(_message(answer), answer.status_code)


def _role(message: str) -> str:
    """The missing role. Empty if a quota or a policy forbids the request."""
    if match := re.search(r"cannot .* in the namespace \"([^\"]+)\"", message):
        return (
            f": ask for the role `admin` in namespace {match[1]} "
            "(`mlops doctor` lists every right that is missing)"
        )
    return ": ask for a role that allows it" if " cannot " in message else ""


def _message(answer: httpx.Response) -> str:
    try:
        message = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = answer.text.strip()[:300] or answer.reason_phrase
    if answer.status_code == httpx.codes.FORBIDDEN:
        return f"the cluster forbids it: {message}{_role(message)}"
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return (
            f"the cluster does not accept this login: {message}: log in again (check with "
            "`kubectl auth whoami`)"
        )
    return f"the cluster refused: {message}"
