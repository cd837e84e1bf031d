"""Checks of the Pulumi engine, its settings and the plugin."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..runtime.net import direct_loopback
from .checks import Finding, ok, output_of, warn, without_credentials, wrong
from .selection import read_yaml

_ENGINE_MINIMUM = (3, 200)
_HOST = "pulumi-language-python"
_PLUGIN = "pulumi-resource-mlops"
_SHORT_SECONDS = 60.0


def engine() -> list[Finding]:
    """The engine and its Python language host."""
    found = shutil.which("pulumi")
    if found is None:
        return [
            wrong(
                "engine",
                "there is no pulumi on PATH",
                'in a checkout with a Makefile: eval "$(make -s env)"; elsewhere install the '
                "Pulumi CLI (https://www.pulumi.com/docs/install/)",
            )
        ]
    env = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    code, told, errors = output_of([found, "version"], _SHORT_SECONDS, env=env)
    if code != 0:
        reason = without_credentials(errors) or f"exit code {code}"
        return [wrong("engine", f"{found} does not run: {reason}", "reinstall it")]
    numbers = tuple(map(int, re.findall(r"\d+", told)[:2]))
    minimum = ".".join(map(str, _ENGINE_MINIMUM))
    if numbers < _ENGINE_MINIMUM:
        return [
            wrong("engine", f"{found} is {told}", f"install {minimum} or newer, or put it first "
                  "on PATH")
        ]  # fmt: skip
    checks = [ok("engine", f"pulumi {told} ({found})")]
    beside = Path(found).resolve().parent / _HOST
    host = str(beside) if os.access(beside, os.X_OK) else shutil.which(_HOST)
    if host is None:
        fix = f"install the complete Pulumi distribution: {_HOST} is in the folder of pulumi"
        problem = f"{_HOST} is neither in the folder of {found} nor on PATH"
        checks.append(wrong("language host", problem, fix))
    else:
        checks.append(ok("language host", host))
    return checks


def proxy(caller: Mapping[str, str]) -> list[Finding]:
    """Whether `caller`, the environment of the shell, sends requests for this machine to a proxy.

    The Pulumi program then cannot connect to the engine. The make targets correct it.
    """
    variables = ("grpc_proxy", "https_proxy", "http_proxy")
    selected = next((name for name in variables if caller.get(name)), None)
    excluded = caller.get("no_grpc_proxy") or caller.get("no_proxy") or ""
    if selected is None or "127.0.0.1" in excluded.split(","):
        return []
    return [
        warn(
            "proxy",
            f"{selected} applies to 127.0.0.1, so that plain `pulumi` commands cannot reach the "
            "engine",
            f"export no_proxy={direct_loopback(caller)['no_proxy']}",
        )
    ]


def backend(project: Path, stack: str | None) -> list[Finding]:
    """The backend of the state, and whether the passphrase of its secrets is available."""
    url, from_where = backend_url()
    if not url:
        if os.environ.get("PULUMI_ACCESS_TOKEN"):
            return [ok("backend", "Pulumi Cloud, by PULUMI_ACCESS_TOKEN")]
        fix = 'eval "$(make -s env)", set PULUMI_BACKEND_URL, or run `pulumi login`'
        return [warn("backend", "no backend is selected", fix)]
    shown = without_credentials(url)
    if url.startswith("file://"):
        folder = Path(unquote(urlsplit(url).netloc + urlsplit(url).path)).expanduser()
        if not folder.is_dir():
            fix = f"create the folder, or correct {from_where}"
            return [wrong("backend", f"{folder} is not a folder", fix)]
        if not os.access(folder, os.W_OK):
            fix = f"change its owner or mode, or correct {from_where}"
            return [wrong("backend", f"{folder} is not writable", fix)]
        shown = f"file://{folder}"
    checks = [ok("backend", f"{shown} ({from_where})")]
    if not url.startswith("https://"):  # Pulumi Cloud has the key
        checks.append(_passphrase(project, stack))
    return checks


def _passphrase(project: Path, stack: str | None) -> Finding:
    name = "passphrase"
    file = os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if "PULUMI_CONFIG_PASSPHRASE" in os.environ:
        return ok(name, "PULUMI_CONFIG_PASSPHRASE is set")
    if file:
        try:
            with Path(file).open("rb") as opened:
                opened.read(1)
        except OSError as error:
            fix = "restore it, or correct PULUMI_CONFIG_PASSPHRASE_FILE"
            return wrong(name, f"{file}: {error.strerror}", fix)
        if Path(file).stat().st_mode & 0o077:
            return warn(name, f"{file} can be read by others", f"chmod 600 {file}")
        return ok(name, f"in {file}")
    settings = read_yaml(project / "Pulumi.yaml")
    config = project / str(settings.get("stackConfigDir") or ".") / f"Pulumi.{stack}.yaml"
    if stack and (provider := read_yaml(config).get("secretsprovider")):
        kind = str(provider).partition(":")[0]
        if kind != "passphrase":
            return ok(name, f"not needed: {stack} has the secrets provider {kind}")
    fix = "set PULUMI_CONFIG_PASSPHRASE_FILE or PULUMI_CONFIG_PASSPHRASE"
    return warn(name, "none is set: pulumi asks for it, or fails without a terminal", fix)


def backend_url() -> tuple[str, str]:
    """The URL of the backend, and the setting that it comes from."""
    if url := os.environ.get("PULUMI_BACKEND_URL"):
        return url, "PULUMI_BACKEND_URL"
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    try:
        stored = json.loads((home / "credentials.json").read_text())
        return str(stored.get("current") or ""), "pulumi login"
    except (OSError, ValueError, AttributeError):
        return "", ""


def plugin(project: Path) -> list[Finding]:
    """The plugin that Pulumi.yaml names: its path, and its answers."""
    own = Path(sys.prefix) / "bin" / _PLUGIN
    file = project / "Pulumi.yaml"
    if not file.exists():
        fix = "run this in a project, or name one by --project DIR"
        return [warn("project", f"there is no Pulumi.yaml in or above {project}", fix), *_ask(own)]
    providers = (read_yaml(file).get("plugins") or {}).get("providers") or []
    told = next((entry["path"] for entry in providers if entry.get("name") == "mlops"), None)
    if told is None:
        if (found := shutil.which(_PLUGIN)) is not None:
            return [*_ask(Path(found))]
        fix = f"plugins: {{providers: [{{name: mlops, path: {own.parent}}}]}}"
        return [wrong("project", f"{file} names no folder of the plugin mlops", f"add {fix}")]
    named = project / told / _PLUGIN if (project / told).is_dir() else project / told
    if not os.access(named, os.X_OK):
        fix = f"set plugins.providers.path to {own.parent}, or install the package there"
        return [wrong("project", f"{file} names {told}, which has no {_PLUGIN}", fix)]
    checks = [ok("project", f"{file} names {told}")]
    if named.resolve() != own.resolve():
        fix = f"run {named.parent / 'mlops'}, or correct plugins.providers.path"
        checks.append(
            warn("project", f"the plugin in {told} is not this installation's ({own.parent})", fix)
        )
    return [*checks, *_ask(named)]


def _ask(command: Path) -> list[Finding]:
    """Start the plugin as the engine does, and request its version and schema."""
    name = "plugin"
    if not os.access(command, os.X_OK):
        fix = "install the package pulumi-mlops into this environment"
        return [wrong(name, f"there is no {command}", fix)]
    process = subprocess.Popen(
        [str(command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace",
    )  # fmt: skip
    late = threading.Timer(_SHORT_SECONDS, process.kill)
    late.start()
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        if not port.isdigit():
            process.kill()
            _, errors = process.communicate()
            reason = without_credentials(errors.strip().splitlines()[-1]) if errors.strip() else ""
            fix = f"run {command} to see the full error; reinstall the package"
            return [wrong(name, f"{command} does not start: {reason or 'no port'}", fix)]
        answered, resources = _answers(f"127.0.0.1:{port}")
    finally:
        late.cancel()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if answered != (ours := version("pulumi-mlops")):
        fix = "install the same version in both environments"
        return [warn(name, f"it is version {answered}, this command {ours}", fix)]
    return [ok(name, f"version {answered}, {resources} resource types ({command})")]


def _answers(address: str) -> tuple[str, int]:
    # These imports take a second or more, and only this check needs them.
    import grpc  # noqa: PLC0415
    from google.protobuf.empty_pb2 import Empty  # noqa: PLC0415
    from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS  # noqa: PLC0415
    from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc  # noqa: PLC0415

    # No proxy: the plugin listens on the loopback interface.
    options = [*_GRPC_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = provider_pb2_grpc.ResourceProviderStub(channel)
        info = stub.GetPluginInfo(Empty(), timeout=_SHORT_SECONDS)
        schema = stub.GetSchema(provider_pb2.GetSchemaRequest(), timeout=_SHORT_SECONDS)
    return str(info.version), len(json.loads(schema.schema).get("resources", {}))
