"""The options of image builds: base image, certificates, package index, proxies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

DEFAULT_BASE = "python:{python}-slim"
DEFAULT_INDEX = ""
"""The default index of pip and uv."""
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "FTP_PROXY"})


class ImageError(Exception):
    """An image cannot be built. The message names the cause and the fix."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The options that all images of a stack share. Raises ImageError for invalid options.

    The representation leaves out every value that may contain a credential.
    """

    base: str = DEFAULT_BASE
    """The base image, with Python. `{python}` is replaced by the Python version. A digest
    (`name@sha256:…`) pins its content."""
    system_packages: Sequence[str] = ()
    """Debian packages that the requirements need, such as `libgomp1`."""
    ca: Path | None = None
    """A file of PEM certificates of a private authority, trusted in the build and in the image."""
    index_url: str = field(default=DEFAULT_INDEX, repr=False)
    """The package index. Default: that of pip and uv. Its user and password are used in the build
    and never stored in the image."""
    extra_index_urls: Sequence[str] = field(default=(), repr=False)
    """Further indexes, with precedence over `index_url`."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """HTTP_PROXY, HTTPS_PROXY, NO_PROXY, … of the build."""
    network: str | None = None
    """The network of the build, as `docker build --network`. Default: that of the engine."""

    def __post_init__(self) -> None:
        for package in self.system_packages:
            if not _PACKAGE.fullmatch(package):
                raise ImageError(f"system_packages: {package!r} is not a name of a Debian package")
        for name in self.proxies:
            if name.upper() not in _PROXIES:
                known = ", ".join(sorted(_PROXIES))
                raise ImageError(f"proxies: {name!r} is none of {known}")
        self.netrc()

    def base_for(self, python: str) -> str:
        """The base image for a Python version."""
        return self.base.replace("{python}", python)

    def certificates(self) -> bytes:
        """The certificates in `ca`; empty without it."""
        if self.ca is None:
            return b""
        try:
            found = self.ca.read_bytes()
        except OSError as error:
            raise ImageError(
                f"ca: {self.ca}: {error.strerror}: must be a file with PEM certificates"
            ) from None
        if b"-----BEGIN CERTIFICATE-----" not in found:
            raise ImageError(f"ca: {self.ca} has no certificate in PEM: convert it with openssl")
        # The certificates are appended to others, so they end with a line break.
        return found if found.endswith(b"\n") else found + b"\n"

    @property
    def indexes(self) -> list[str]:
        """The index (empty for the default) and the further indexes, without credentials."""
        return [_split(url)[0] for url in (self.index_url, *self.extra_index_urls)]

    def netrc(self) -> str:
        """The credentials of the indexes, in the netrc format of pip and uv."""
        logins: dict[str, tuple[str, str]] = {}
        for url in (self.index_url, *self.extra_index_urls):
            bare, login = _split(url)
            host = urlsplit(bare).hostname or ""
            if login is not None and logins.setdefault(host, login) != login:
                raise ImageError(f"index: {host} has two users: use the same user for its indexes")
        return "".join(
            f"machine {host} login {user} password {password}\n"
            for host, (user, password) in sorted(logins.items())
        )


def without_credentials(url: str) -> str:
    """`url` without its user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _split(url: str) -> tuple[str, tuple[str, str] | None]:
    """The URL of an index without credentials, its user, and its password."""
    if not url:
        return "", None
    bare = without_credentials(url)
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        whole = False
    if not whole or any(character.isspace() for character in url):
        raise ImageError(
            f"index: {bare!r} is not a URL such as https://packages.example.com/simple"
        )
    if parts.username is None:
        return bare, None
    login = unquote(parts.username), unquote(parts.password or "")
    if not all(login) or any(re.search(r"[\s\"\\]", word) for word in login):
        raise ImageError(
            f"index: {bare} needs a user and a password, without spaces, quotes and backslashes"
        )
    return bare, login
