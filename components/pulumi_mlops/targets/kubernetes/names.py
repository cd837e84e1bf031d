"""Object names: DNS labels, derived from the names of resources."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 63
"""Maximum length of a DNS label (RFC 1123)."""
MAX_STATEFUL_SET_LENGTH = 52
"""A label of the pods has the name of the StatefulSet with eleven more characters."""
# The name of a Service begins with a letter (RFC 1035).
_VALID = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


def label(name: str, max_length: int = MAX_LENGTH) -> str:
    """`name` if it is a valid label. Otherwise its valid characters, shortened, and a digest.

    The digest of eight characters makes the label unique.
    """
    if len(name) <= max_length and _VALID.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    prefix = words if words[:1].isalpha() else f"x-{words}"
    return f"{prefix[: max_length - 9].rstrip('-')}-{digest}"


def variable(port: str) -> str:
    """The name of the environment variable of a port: PORT_<NAME>."""
    return f"PORT_{port.upper().replace('-', '_')}"
