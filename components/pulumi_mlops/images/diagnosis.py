"""The cause of a failed build or push, and the fix, from the output of the container engine."""

from __future__ import annotations

_INDEX = "check the build options `index_url` and `proxies`, and the build's network (`network`)"

# Engines also print the commands of the Dockerfile: no pattern may match one of them.
# The first match counts, so a cause is listed before its consequences.
_FINDINGS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("no space left on device",),
        "the engine's disk is full: `docker system df` shows by what, `docker system prune` helps",
    ),
    (
        (
            "invalid peer certificate", "unknownissuer", "certificate_verify_failed",
            "self-signed certificate", "self signed certificate", "unable to get local issuer",
            "x509: certificate signed by unknown authority",
        ),
        "a certificate is not trusted: give your company's authority as the build option `ca` "
        "(a registry's must be trusted by the engine itself)",
    ),
    (
        ("the base image has python 3",),
        "the base image has another Python version than the environment: change `python`, or the "
        "build option `base` (`{python}` is replaced by the version)",
    ),
    (
        ("can't open '/etc/ssl/certs/ca-certificates.crt'",
         "/etc/ssl/certs/ca-certificates.crt: no such file"),
        "the base image has no ca-certificates: choose one that has them (build option `base`)",
    ),
    (
        ("python: not found", "python: command not found"),
        "the base image has no `python`: choose one that has them (build option `base`)",
    ),
    (
        ("unable to locate package", "has no installation candidate"),
        "the base image's Debian does not have a system package: correct `system_packages`",
    ),
    (
        ("pull access denied", "manifest unknown", "failed to resolve source metadata",
         "error response from daemon: get \"http", "toomanyrequests", "failed to resolve reference",
         "error response from daemon: manifest for"),
        "the base image cannot be pulled: check the build option `base`, or `docker login` its "
        "registry",
    ),
    (
        ("401 unauthorized", "403 forbidden", "status code: 401", "status code: 403",
         "missing credentials"),
        "the package index refuses the credentials: correct the user and password in `index_url`",
    ),
    (
        ("failed to fetch", "error sending request", "newconnectionerror", "failed to connect",
         "temporary failure in name resolution", "could not fetch url", "dns error",
         "temporary failure resolving", "max retries exceeded", "operation timed out"),
        f"the package index cannot be reached: {_INDEX}",
    ),
    (
        ("no matching distribution found for uv",),
        f"the package index has no uv, which installs the rest: {_INDEX}",
    ),
    (
        ("no solution found", "was not found in the package registry", "couldn't parse",
         "there are no versions of", "there is no version of"),
        "the requirements do not resolve: correct the one named below",
    ),
    (
        ("failed to build `", "command 'gcc' failed", "the build backend returned an error"),
        "a requirement has no wheel for this Python, and cannot be compiled here: choose a "
        "version with a wheel, or a `base` with a compiler",
    ),
    (
        ("no basic auth credentials", "authentication required", "denied", "unauthorized"),
        "the container registry denies access: `docker login` as a user with push rights",
    ),
    (
        ("server gave http response to https client",),
        "the container registry uses plain HTTP: add it to `insecure-registries` of the engine",
    ),
    (
        ("no such host", "connection refused", "i/o timeout"),
        "the container registry cannot be reached: check its name and the engine's proxy",
    ),
)  # fmt: skip


def explain(said: str) -> str:
    """The cause and the fix; for an unknown cause, a pointer to the log lines that follow."""
    flat = " ".join(said.lower().split())
    for signs, finding in _FINDINGS:
        if any(sign in flat for sign in signs):
            return finding
    return "see its last lines"
