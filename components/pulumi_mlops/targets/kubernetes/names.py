"""Names that the cluster takes: DNS labels, made from the names of resources."""

from __future__ import annotations

import hashlib
import re

LONGEST = 63
LONGEST_STATEFUL_SET = 52
"""A label of its pods has its name with eleven characters more."""
# A Service's name begins with a letter (RFC 1035).
_FITS = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


def label(name: str, longest: int = LONGEST) -> str:
    """`name` where it fits, else what fits of it and eight characters that tell it from others."""
    if len(name) <= longest and _FITS.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    start = words if words[:1].isalpha() else f"x-{words}"
    return f"{start[: longest - 9].rstrip('-')}-{digest}"


def variable(port: str) -> str:
    """The environment variable of a port: PORT for `http`, else PORT_<NAME>."""
    return f"PORT_{port.upper().replace('-', '_')}"
