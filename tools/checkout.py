"""What belongs to this checkout alone: state, passphrase, and the settings that name them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from pulumi_mlops.cli.checks import without_credentials
from pulumi_mlops.stackdir import name_problem
from pulumi_mlops.targets import registry

SALT = re.compile(r"^encryptionsalt:.*\n?", re.MULTILINE)


class StackError(Exception):
    """A command cannot go on; the message names the input and the fix."""


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def own_backend(project: Path) -> str:
    """The URL of this checkout's file backend."""
    return "file://" + quote(str(project / ".mlops" / "state"))


def uses_own_backend(project: Path, base: Mapping[str, str]) -> bool:
    """Whether the state is this checkout's: no other backend is set, and nobody is logged in."""
    chosen = base.get("PULUMI_BACKEND_URL") or logged_in_to(base)
    if chosen:
        return chosen == own_backend(project)
    return not base.get("PULUMI_ACCESS_TOKEN")


def logged_in_to(base: Mapping[str, str]) -> str:
    """The backend of the last `pulumi login`, or nothing."""
    home = Path(base.get("PULUMI_HOME") or Path(base.get("HOME", "~")).expanduser() / ".pulumi")
    try:
        stored = json.loads((home / "credentials.json").read_text())
        return str(stored.get("current") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def settings(project: Path, base: Mapping[str, str]) -> dict[str, str]:
    """The variables that a pulumi command of this checkout needs beyond `base`."""
    first = [str(project / ".venv" / "bin"), str(project / ".venv" / "engine")]
    rest = [part for part in base.get("PATH", "").split(os.pathsep) if part not in first]
    found = {
        "PATH": os.pathsep.join(first + rest),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    if uses_own_backend(project, base):
        found["PULUMI_BACKEND_URL"] = own_backend(project)
        # The salt of the passphrase is read from the state, so the committed files need none.
        found["PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER"] = "true"
        if not base.get("PULUMI_CONFIG_PASSPHRASE_FILE") and "PULUMI_CONFIG_PASSPHRASE" not in base:
            found["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(project / ".mlops" / "passphrase")
    return found


def refuse_two_states(project: Path, stack: str, env: Mapping[str, str]) -> None:
    """Stop when another backend is chosen while the stack is up by this checkout's own state.

    Both would take the same files, ports and processes for theirs.
    """
    if uses_own_backend(project, env):
        return
    name = yaml.safe_load((project / "Pulumi.yaml").read_text())["name"]
    own = project / ".mlops" / "state" / ".pulumi" / "stacks" / name / f"{stack}.json"
    if not own.exists():
        return
    if env.get("PULUMI_BACKEND_URL"):
        url = without_credentials(env["PULUMI_BACKEND_URL"])
        chosen, other = f"PULUMI_BACKEND_URL={url}", "unset it"
    elif url := logged_in_to(env):
        chosen, other = f"`pulumi login` at {without_credentials(url)}", "`pulumi logout`"
    else:
        chosen, other = "PULUMI_ACCESS_TOKEN", "unset it"
    raise StackError(
        f"STACK={stack} is up with the state in .mlops/state, but {chosen} chooses another backend:"
        " two states would share one set of files, ports and processes. To go on with the first,"
        f" {other}; to change over, do that and `make down STACK={stack}` first"
    )


def prepare(project: Path, found: Mapping[str, str]) -> None:
    """Make the folders and the passphrase that `settings` names, readable by their owner only."""
    if found.get("PULUMI_BACKEND_URL") != own_backend(project):
        return
    state, passphrase = project / ".mlops" / "state", project / ".mlops" / "passphrase"
    for folder in (state.parent, state):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    if found.get("PULUMI_CONFIG_PASSPHRASE_FILE") != str(passphrase) or passphrase.exists():
        return
    if stacks := sorted(path.stem for path in state.glob(".pulumi/stacks/*/*.json")):
        raise StackError(
            f"{passphrase} is missing, and the state of {', '.join(stacks)} is encrypted with it."
            " Restore the file, or set PULUMI_CONFIG_PASSPHRASE to the passphrase it held"
        )
    # Written under another name first: a passphrase is whole or not there, and is never replaced.
    descriptor, draft = tempfile.mkstemp(dir=passphrase.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
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
    return folder / f"Pulumi.{stack}.yaml"


def target_of(file: Path) -> registry.TargetPackage:
    """The target of an environment; the default one when its file cannot be read."""
    name = registry.DEFAULT
    # The engine and the program say what is wrong with the file.
    with contextlib.suppress(yaml.YAMLError, AttributeError, OSError):
        config = (yaml.safe_load(file.read_text()) or {}).get("config") or {}
        name = str(config.get("mlops:target", name))
    try:
        return registry.load(name)
    except registry.UnknownTargetError:
        return registry.load(registry.DEFAULT)


def fetching(project: Path, file: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Whether the engine may fetch plugins, as the environment's target needs it.

    Where a target needs no further plugin, looking for the plugin of an SDK that is only
    installed takes seconds in a closed network.
    """
    key = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"
    if not target_of(file).plugins:
        return {} if key in base else {key: "true"}
    # A shell of `make env` has it from an environment of this machine: the user did not set it.
    shell = project / "stacks" / f"Pulumi.{base.get('PULUMI_STACK', '')}.yaml"
    inherited = base.get(key) == "true" and shell.exists() and not target_of(shell).plugins
    return {key: "false"} if inherited else {}


def without_salt(text: str) -> str:
    """The configuration without the passphrase's salt, unless values in it were encrypted by it."""
    return text if re.search(r"\bsecure:", text) else SALT.sub("", text)


@contextlib.contextmanager
def untouched(file: Path) -> Iterator[None]:
    """Keep the engine from leaving this checkout's salt, and its own layout, in a committed file.

    The engine writes `encryptionsalt:` into the file whenever it is not there, although the state
    has it too; committed, it would lock out every other checkout. A line that a plain `pulumi`
    command left is taken out here too, and first: it may be of another passphrase. Other changes
    made meanwhile are kept.
    """
    found = file.read_text()
    before = without_salt(found)
    if before != found:
        file.write_text(before)
    try:
        yield
    finally:
        now = file.read_text()
        after = without_salt(now)
        if (text := before if says_the_same(before, after) else after) != now:
            file.write_text(text)


def says_the_same(one: str, other: str) -> bool:
    """Whether two YAML texts have the same comments, and values that are the same to the engine."""
    comments = [re.findall(r"#.*\S", text) for text in (one, other)]
    try:
        values = [as_the_engine_writes(yaml.safe_load(text)) for text in (one, other)]
    except yaml.YAMLError:
        return False  # somebody is in the middle of an edit
    return comments[0] == comments[1] and values[0] == values[1]


def as_the_engine_writes(value: Any) -> Any:
    """A value of the configuration without what the engine changes: `1.50` becomes `"1.5"`."""
    if isinstance(value, dict):
        return {str(key): as_the_engine_writes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_the_engine_writes(item) for item in value]
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
