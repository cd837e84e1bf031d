"""Manage one environment with the engine, state and passphrase of this checkout.

Defaults for settings of the user: a file backend in `.mlops/state`, a passphrase in
`.mlops/passphrase`, and the engine first on PATH. `env` prints the same variables for a shell, so
that plain `pulumi` commands work on the same stacks. Arguments after `--` are passed to pulumi:
`stack.py up -- --refresh`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from checkout import (
    StackError,
    config_file,
    plugin_download,
    prepare,
    refuse_second_state,
    say,
    settings,
    target_of,
    uses_own_backend,
    without_engine_changes,
)
from kept import message, retained_resources
from recovery import recover
from summary import summary

PROJECT = Path(__file__).resolve().parents[1]


def run(command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> int:
    """Run a command and forward signals to it once. Returns its exit code."""
    # On a terminal, Ctrl-C reaches the whole foreground group. Otherwise the child gets its own
    # group, so that a signal to the group of this script is forwarded only once.
    terminal = sys.stdin.isatty()
    child: subprocess.Popen[bytes] | None = None

    def forward(signum: int, _frame: FrameType | None) -> None:
        # Pulumi ends an update cleanly at the first SIGINT and stops immediately at the second.
        if child is not None and not (terminal and signum == signal.SIGINT):
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGINT)

    handled = (signal.SIGINT, signal.SIGTERM)
    previous_handlers = {signum: signal.signal(signum, forward) for signum in handled}
    try:
        child = subprocess.Popen(
            command, env=dict(env), cwd=cwd, process_group=None if terminal else 0
        )
        code = child.wait()
    finally:
        for signum, handler in previous_handlers.items():
            signal.signal(signum, handler)
    return code if code >= 0 else 128 - code


def checked(arguments: Sequence[str], env: Mapping[str, str]) -> str:
    """The output of a short pulumi command."""
    done = subprocess.run(
        ["pulumi", "--non-interactive", *arguments],  # noqa: S607 - the engine on PATH
        env=dict(env),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError((done.stderr or done.stdout).strip().removeprefix("error: "))
    return done.stdout


def up(stack: str, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Provision the environment and print its URLs and files."""
    recover(PROJECT, stack, env)
    checked(["stack", "select", "--create", stack], env)
    command = ["pulumi", "up", "--yes", "-s", stack, *arguments]
    code = run(command, env, PROJECT)
    return code or status(stack, [], env)


def preview(stack: str, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Show what `up` would change."""
    recover(PROJECT, stack, env, refuse=False)
    checked(["stack", "select", "--create", stack], env)
    return run(["pulumi", "preview", "-s", stack, *arguments], env, PROJECT)


def down(stack: str, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Delete all resources of the environment except protected data, and then the empty stack."""
    recover(PROJECT, stack, env)
    if not exists(stack, env):
        say(f"{stack} is not up: there is nothing to delete")
        return 0
    logs = outputs(stack, env).get("logs_dir")
    destroy = ["pulumi", "destroy", "--yes", "--exclude-protected", "-s", stack, *arguments]
    code = run(destroy, env, PROJECT)
    if code != 0:
        return code
    remaining = resources(stack, env)
    if data := retained_resources(remaining):
        say(f"{stack} is down. {message(stack, data)}")
        return 0
    if remaining:
        say(f"{stack}: the stack is kept because it still has {len(remaining)} resources")
        return 0
    checked(["stack", "rm", "--yes", "--preserve-config", stack], env)
    kept = [f"stacks/Pulumi.{stack}.yaml"]
    if not target_of(config_file(PROJECT, stack)).on_this_machine:
        kept.append("the namespace, unless `delete_namespace` is true")
    # Folders exist only if data was retained.
    for what, folder in (("data", "volumes"), ("secrets", "secrets")):
        path = Path(str(logs)).parent / folder if logs else None
        kept += [f"the {what} in {path}"] if path and path.exists() else []
    kept += (
        [".mlops/passphrase and .mlops/state"] if (PROJECT / ".mlops" / "state").exists() else []
    )
    say(f"{stack} is down. Kept: {'; '.join(kept)}")
    return 0


def exists(stack: str, env: Mapping[str, str]) -> bool:
    """Whether the backend has the stack."""
    names = [item["name"] for item in json.loads(checked(["stack", "ls", "--json"], env))]
    return any(name.rpartition("/")[2] == stack for name in names)


def resources(stack: str, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """The resources in the state of the stack."""
    exported = json.loads(checked(["stack", "export", "-s", stack], env))
    stack_resources: list[dict[str, Any]] = exported["deployment"].get("resources") or []
    return stack_resources


def outputs(stack: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The outputs of the stack. Secrets are masked."""
    stack_outputs = json.loads(checked(["stack", "output", "--json", "-s", stack], env))
    return stack_outputs if isinstance(stack_outputs, dict) else {}


def status(stack: str, _arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Print the URLs and files of the environment."""
    recover(PROJECT, stack, env, refuse=False)
    here = target_of(config_file(PROJECT, stack)).on_this_machine
    is_up = exists(stack, env)
    data = retained_resources(resources(stack, env)) if is_up and not here else []
    print(summary(stack, outputs(stack, env) if is_up and not data else {}, here=here))
    if data:
        print(message(stack, data))
    return 0


def refuse_clean() -> int:
    """Refuse to remove `.venv` while it runs programs of an environment on this machine."""
    states = (PROJECT / ".mlops" / "state" / ".pulumi" / "stacks").glob("*/*.json")
    for name in sorted(file.stem for file in states):
        # Without its stack file the target is unknown, and this machine is the safe assumption.
        if target_of(PROJECT / "stacks" / f"Pulumi.{name}.yaml").on_this_machine:
            say(f"error: {name} is up and uses .venv; run `make down STACK={name}` first")
            return 1
    return 0


def print_env(stack: str, variables: Mapping[str, str]) -> int:
    """Print the environment variables as shell commands."""
    for key, value in {**variables, "PULUMI_STACK": stack}.items():
        print(f"export {key}={shlex.quote(value)}")
    return 0


COMMANDS = {"up": up, "preview": preview, "down": down, "status": status}


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)
    rest = words[cut + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", default="dev", help="the environment (default: dev)")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__)
    commands.add_parser("env", help=print_env.__doc__)
    commands.add_parser("clean", help=refuse_clean.__doc__)
    commands.add_parser("run", help="Run the command after -- with these environment variables.")
    options = parser.parse_args(words[:cut])
    if options.command == "clean":
        return refuse_clean()
    try:
        variables = settings(PROJECT, os.environ)
        env = {**os.environ, **variables}
        prepare(PROJECT, env)
        if options.command == "run":
            return run(rest, env)
        file = config_file(PROJECT, options.stack)
        variables |= plugin_download(PROJECT, file, os.environ)
        env |= variables
        if options.command == "env":
            return print_env(options.stack, variables)
        refuse_second_state(PROJECT, options.stack, env)
        guard = (
            without_engine_changes(file)
            if uses_own_backend(PROJECT, env)
            else contextlib.nullcontext()
        )
        with guard:
            return COMMANDS[options.command](options.stack, rest, env)
    except StackError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
