"""The findings of `mlops doctor`: one verdict for each thing that is checked."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Verdict = Literal["ok", "warn", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One finding. `fix` is what to do about a verdict other than `ok`."""

    name: str
    verdict: Verdict
    message: str
    fix: str = ""


Checker = Callable[[], list[Finding]]


def ok(name: str, message: str) -> Finding:
    """`name` works."""
    return Finding(name, "ok", message)


def warn(name: str, message: str, fix: str) -> Finding:
    """`name` works, or works in most cases."""
    return Finding(name, "warn", message, fix)


def wrong(name: str, message: str, fix: str) -> Finding:
    """`name` does not work."""
    return Finding(name, "wrong", message, fix)


def guarded(name: str, checker: Checker) -> list[Finding]:
    """The findings of a checker. An exception of the checker is a finding, too."""
    try:
        return checker()
    except Exception as error:  # the other checks still run
        told = without_credentials(f"{type(error).__name__}: {error}")
        return [wrong(name, f"could not be checked ({told})", "see the reason")]


def output_of(
    command: Sequence[str],
    seconds: float,
    *,
    text: str = "",
    env: Mapping[str, str] | None = None,
) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a short command.

    The code is None if the command did not start or did not end in time; the errors say which.
    """
    try:
        ended = subprocess.run(
            list(command), input=text, capture_output=True, text=True, check=False,
            timeout=seconds, env=dict(env) if env is not None else None, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, "", f"no answer within {seconds:g} s"
    except OSError as error:
        return None, "", error.strerror or str(error)
    return ended.returncode, ended.stdout.strip(), ended.stderr.strip()


def without_credentials(text: str) -> str:
    """`text` with every URL reduced to scheme and host: the rest may contain a secret."""
    return re.sub(r"[a-z][a-z0-9+.-]*://[^\s`'\")>]+", lambda match: _place(match[0]), text)


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}"
    except ValueError:
        return "[a URL]"
