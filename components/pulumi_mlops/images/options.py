"""How images are built here: the base, the company's authority, the package index, proxies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

DEFAULT_BASE = "python:{python}-slim"
DEFAULT_INDEX = ""
"""The one that pip and uv ask by themselves."""
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "FTP_PROXY"})


class ImageError(Exception):
    """An image cannot be made; the text names what is wrong, and the fix."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What is the same for all images of a stack. Raises ImageError for what cannot be.

    Whatever may hold a credential is not shown in the representation.
    """

    base: str = DEFAULT_BASE
    """The image to start from, with Python; `{python}` becomes the environment's version. With a
    digest (`name@sha256:…`) it is always the same one."""
    system_packages: Sequence[str] = ()
    """Debian packages that requirements need beside them, as `libgomp1`."""
    ca: Path | None = None
    """Certificates (PEM) of the company's own authority, trusted in the build and in the image."""
    index_url: str = field(default=DEFAULT_INDEX, repr=False)
    """The package index; that of pip and uv themselves unless told. A user and password in it
    reach the build alone, never the image."""
    extra_index_urls: Sequence[str] = field(default=(), repr=False)
    """Further indexes, asked before that one."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """HTTP_PROXY, HTTPS_PROXY, NO_PROXY, … of the build."""
    network: str | None = None
    """The network of the build, as docker's `--network`; the engine's own unless told."""

    def __post_init__(self) -> None:
        for package in self.system_packages:
            if not _PACKAGE.fullmatch(package):
                raise ImageError(f"system_packages: {package!r} is no name of a Debian package")
        for name in self.proxies:
            if name.upper() not in _PROXIES:
                known = ", ".join(sorted(_PROXIES))
                raise ImageError(f"proxies: {name!r} is none of {known}")
        self.netrc()

    def base_for(self, python: str) -> str:
        """The base image of an environment with this Python."""
        return self.base.replace("{python}", python)

    def certificates(self) -> bytes:
        """The company's certificates; empty without any."""
        if self.ca is None:
            return b""
        try:
            found = self.ca.read_bytes()
        except OSError as error:
            raise ImageError(
                f"ca: {self.ca}: {error.strerror}: a file with certificates (PEM) is needed"
            ) from None
        if b"-----BEGIN CERTIFICATE-----" not in found:
            raise ImageError(f"ca: {self.ca} has no certificate in PEM: convert it with openssl")
        # It is put behind others: a line of its own.
        return found if found.endswith(b"\n") else found + b"\n"

    @property
    def indexes(self) -> list[str]:
        """The index, empty for the default one, and the others, without credentials."""
        return [_split(url)[0] for url in (self.index_url, *self.extra_index_urls)]

    def netrc(self) -> str:
        """The credentials of the indexes, as pip and uv take them from a file."""
        logins: dict[str, tuple[str, str]] = {}
        for url in (self.index_url, *self.extra_index_urls):
            bare, login = _split(url)
            host = urlsplit(bare).hostname or ""
            if login is not None and logins.setdefault(host, login) != login:
                raise ImageError(f"index: {host} has two users: give its indexes the same one")
        return "".join(
            f"machine {host} login {user} password {password}\n"
            for host, (user, password) in sorted(logins.items())
        )


def without_credentials(url: str) -> str:
    """`url` without the user and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _split(url: str) -> tuple[str, tuple[str, str] | None]:
    """An index's address, and the user and password that were in it."""
    if not url:
        return "", None
    bare = without_credentials(url)
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        whole = False
    if not whole or any(character.isspace() for character in url):
        raise ImageError(f"index: {bare!r} is no address: as https://packages.example.com/simple")
    if parts.username is None:
        return bare, None
    login = unquote(parts.username), unquote(parts.password or "")
    if not all(login) or any(re.search(r"[\s\"\\]", word) for word in login):
        raise ImageError(
            f"index: {bare} needs a user and a password, without spaces, quotes and backslashes"
        )
    return bare, login
