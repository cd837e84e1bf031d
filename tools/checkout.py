"""The state, passphrase and environment variables of this checkout."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from pulumi_mlops.cli.checks import without_credentials
from pulumi_mlops.runtime.net import direct_loopback
from pulumi_mlops.stackdir import name_problem
from pulumi_mlops.targets import registry

SALT = re.compile(r"^encryptionsalt:.*\n?", re.MULTILINE)


class StackError(Exception):
    """A command failed. The message names the input and the fix."""


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def own_backend(project: Path) -> str:
    """The URL of the file backend of this checkout."""
    return "file://" + quote(str(project / ".mlops" / "state"))


def uses_own_backend(project: Path, base: Mapping[str, str]) -> bool:
    """Whether the state is in this checkout: no variable and no login selects another backend."""
    chosen = base.get("PULUMI_BACKEND_URL") or logged_in_to(base)
    if chosen:
        return chosen == own_backend(project)
    return not base.get("PULUMI_ACCESS_TOKEN")


def logged_in_to(base: Mapping[str, str]) -> str:
    """The backend of the last `pulumi login`; empty without one."""
    home = Path(base.get("PULUMI_HOME") or Path(base.get("HOME", "~")).expanduser() / ".pulumi")
    try:
        stored = json.loads((home / "credentials.json").read_text())
        return str(stored.get("current") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def settings(project: Path, base: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that `base` lacks for pulumi commands of this checkout."""
    first = [str(project / ".venv" / "bin"), str(project / ".venv" / "engine")]
    rest = [part for part in base.get("PATH", "").split(os.pathsep) if part not in first]
    stored = {
        "PATH": os.pathsep.join(first + rest),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # The program connects to the engine on 127.0.0.1.
        **direct_loopback(base),
    }
    if uses_own_backend(project, base):
        stored["PULUMI_BACKEND_URL"] = own_backend(project)
        # The salt of the passphrase is read from the state, so the committed files need none.
        stored["PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER"] = "true"
        if not base.get("PULUMI_CONFIG_PASSPHRASE_FILE") and "PULUMI_CONFIG_PASSPHRASE" not in base:
            stored["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(project / ".mlops" / "passphrase")
    return stored


def refuse_second_state(project: Path, stack: str, env: Mapping[str, str]) -> None:
    """Raise StackError if another backend is selected and this checkout's state has the stack.

    Both states would manage the same files, ports and processes.
    """
    if uses_own_backend(project, env):
        return
    name = yaml.safe_load((project / "Pulumi.yaml").read_text())["name"]
    own = project / ".mlops" / "state" / ".pulumi" / "stacks" / name / f"{stack}.json"
    if not own.exists():
        return
    if env.get("PULUMI_BACKEND_URL"):
        url = without_credentials(env["PULUMI_BACKEND_URL"])
        selection, fix = f"PULUMI_BACKEND_URL={url}", "unset it"
    elif url := logged_in_to(env):
        selection, fix = f"`pulumi login` at {without_credentials(url)}", "run `pulumi logout`"
    else:
        selection, fix = "PULUMI_ACCESS_TOKEN", "unset it"
    raise StackError(
        f"STACK={stack} is up with the state in .mlops/state, but {selection} selects another"
        " backend: two states would manage the same files, ports and processes. To keep the state"
        f" in .mlops/state, {fix}. To change the backend, {fix}, run `make down STACK={stack}`, and"
        " select the backend again"
    )


def prepare(project: Path, stored: Mapping[str, str]) -> None:
    """Create the folders and the passphrase of `settings`, readable only by their owner."""
    if stored.get("PULUMI_BACKEND_URL") != own_backend(project):
        return
    state, passphrase = project / ".mlops" / "state", project / ".mlops" / "passphrase"
    for folder in (state.parent, state):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    if stored.get("PULUMI_CONFIG_PASSPHRASE_FILE") != str(passphrase):
        return
    if passphrase.exists():
        if passphrase.read_text().strip():
            return
        passphrase.unlink()  # cut off, as by a full disk
    if stacks := sorted(path.stem for path in state.glob(".pulumi/stacks/*/*.json")):
        raise StackError(
            f"{passphrase} is missing, and the state of {', '.join(stacks)} is encrypted with it."
            " Restore the file, or set PULUMI_CONFIG_PASSPHRASE to its content"
        )
    # Write a temporary file and link it: the passphrase is never incomplete and never replaced.
    descriptor, draft = tempfile.mkstemp(dir=passphrase.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, passphrase)
    finally:
        Path(draft).unlink()


def config_file(project: Path, stack: str) -> Path:
    """The committed configuration of an environment.

    Raises StackError for an environment that does not exist, or whose name is reserved.
    """
    if (problem := name_problem(stack)) is not None:
        raise StackError(f"STACK={stack}: {problem}")
    folder = project / "stacks"
    names = sorted(
        path.name[len("Pulumi.") : -len(".yaml")] for path in folder.glob("Pulumi.*.yaml")
    )
    if stack not in names:
        existing = ", ".join(names) or "none"
        raise StackError(
            f"STACK={stack}: there is no stacks/Pulumi.{stack}.yaml. Existing environments:"
            f" {existing}. Choose one of them, or copy one to stacks/Pulumi.{stack}.yaml"
        )
    file = folder / f"Pulumi.{stack}.yaml"
    refuse_unknown_keys(file)
    return file


# pulumi.com, "Stack settings file reference".
_TOP_LEVEL = ("config", "encryptedkey", "encryptionsalt", "environment", "secretsprovider")


def refuse_unknown_keys(file: Path) -> None:
    """Refuse a misspelled top-level key.

    The engine ignores such a key, removes it from the file, and would provision an environment
    without the configuration below it. Raises StackError.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except yaml.YAMLError:
        return  # the engine reports the line
    if unknown := [key for key in content or () if key not in _TOP_LEVEL]:
        raise StackError(
            f"{file.parent.name}/{file.name}: {unknown[0]!r} is not a key of a stack file:"
            f" use {', '.join(_TOP_LEVEL)}. Inputs belong below `config`"
        )


def target_of(file: Path) -> registry.TargetPackage:
    """The target of an environment; the default target if its file cannot be read."""
    name = registry.DEFAULT
    # The engine and the Pulumi program report errors in the file.
    with contextlib.suppress(yaml.YAMLError, AttributeError, OSError):
        config = (yaml.safe_load(file.read_text()) or {}).get("config") or {}
        name = str(config.get("mlops:target", name))
    try:
        return registry.load(name)
    except registry.UnknownTargetError:
        return registry.load(registry.DEFAULT)


def plugin_download(project: Path, file: Path, base: Mapping[str, str]) -> dict[str, str]:
    """The variable that forbids or allows the engine to download plugins.

    If the target needs no plugins, the download is disabled: in a closed network, the search for
    the plugin of an installed SDK takes seconds.
    """
    key = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"
    if not target_of(file).plugins:
        return {} if key in base else {key: "true"}
    # Did a shell of `make env` for an environment on this machine set it, not the user?
    shell = project / "stacks" / f"Pulumi.{base.get('PULUMI_STACK', '')}.yaml"
    inherited = base.get(key) == "true" and shell.exists() and not target_of(shell).plugins
    return {key: "false"} if inherited else {}


def replace_text(file: Path, text: str) -> None:
    """Replace the content of `file` in one step: on a full disk it stays as it was."""
    file = file.resolve()
    descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        shutil.copymode(file, draft)
        Path(draft).replace(file)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def without_salt(text: str) -> str:
    """The stack file without the salt of the passphrase. With encrypted values it is unchanged."""
    return text if re.search(r"\bsecure:", text) else SALT.sub("", text)


@contextlib.contextmanager
def without_engine_changes(file: Path) -> Iterator[None]:
    """Remove the salt and the layout that the engine writes into a committed stack file.

    The engine writes `encryptionsalt:` if it is missing, although the state has it. A committed
    salt would make the file unusable for other checkouts. A line of an earlier `pulumi` command is
    removed first, because it may belong to another passphrase. Other changes are kept.
    """
    stored = file.read_text()
    before = without_salt(stored)
    if before != stored:
        replace_text(file, before)
    try:
        yield
    finally:
        current = file.read_text()
        after = without_salt(current)
        if (text := before if is_equivalent(before, after) else after) != current:
            replace_text(file, text)


def is_equivalent(first: str, second: str) -> bool:
    """Whether two YAML texts have equal comments, and values that are equal for the engine."""
    comments = [re.findall(r"#.*\S", text) for text in (first, second)]
    try:
        values = [normalized(yaml.safe_load(text)) for text in (first, second)]
    except yaml.YAMLError:
        return False  # a user is editing the file
    return comments[0] == comments[1] and values[0] == values[1]


def normalized(value: Any) -> Any:
    """A configuration value in the form that the engine writes: `1.50` becomes `"1.5"`."""
    if isinstance(value, dict):
        return {str(key): normalized(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normalized(item) for item in value]
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
