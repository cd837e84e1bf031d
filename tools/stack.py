"""Drive one environment's stack with the engine, state and passphrase of this checkout.

What is set where the user has not set it already: a file backend in `.mlops/state`, a passphrase of
this checkout in `.mlops/passphrase`, and the engine first on PATH. `env` prints the same settings
for a shell, so that plain `pulumi` commands work on the same stacks. What follows `--` goes to
pulumi: `stack.py up -- --refresh`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import yaml

from checkout import (
    StackError,
    config_file,
    fetching,
    prepare,
    refuse_two_states,
    say,
    settings,
    target_of,
    untouched,
    uses_own_backend,
)
from kept import kept, told
from summary import summary

PROJECT = Path(__file__).resolve().parents[1]


def release_dead_lock(stack: str, env: Mapping[str, str]) -> None:
    """Take away the lock of an update that was killed; stop when the one that holds it lives."""
    url = urlsplit(env.get("PULUMI_BACKEND_URL", ""))
    if url.scheme != "file":
        return
    folder = Path(unquote(url.netloc + url.path)).expanduser() / ".pulumi" / "locks"
    project = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["name"]
    locks = sorted(folder.glob(f"*/{project}/{stack}/*.json"))
    for lock in locks:
        try:
            holder = json.loads(lock.read_text())
        except FileNotFoundError:
            continue  # released meanwhile
        except ValueError:
            holder = {}  # its writer was killed while it wrote
        if alive(holder):
            who = f"{holder.get('username')}@{holder.get('hostname')} (pid {holder.get('pid')})"
            raise StackError(
                f"STACK={stack} is being updated by {who} since {holder.get('timestamp')}."
                f" Wait for it to end; if it no longer runs: pulumi cancel --yes -s {stack}"
            )
    if locks:
        say(f"an update of {stack} was killed; its lock is released")
        checked(["cancel", "--yes", "-s", stack], env)
    end_orphans(env)


def end_orphans(env: Mapping[str, str]) -> None:
    """End the language hosts and plugins that a killed engine of this backend has left behind.

    They would hold on to files, and a plugin might still be at work. What plugins have started,
    the platform itself, is not theirs to take along and goes on.
    """
    orphans = []
    for process in psutil.process_iter():
        try:
            names = {Path(part).name for part in process.cmdline()[:3]}
            helper = any(
                name.startswith(("pulumi-language-", "pulumi-resource-")) for name in names
            )
            if (
                helper
                and process.environ().get("PULUMI_BACKEND_URL") == env["PULUMI_BACKEND_URL"]
                and not any(parent.name() == "pulumi" for parent in process.parents())
            ):
                orphans.append(process)
                process.terminate()
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    for process in psutil.wait_procs(orphans, timeout=10)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def alive(holder: Mapping[str, Any]) -> bool:
    """Whether a lock's process still runs. On another host it cannot be seen, so it counts."""
    if not holder:
        return False
    if holder.get("hostname") != socket.gethostname():
        return True
    try:
        process = psutil.Process(int(holder["pid"]))
        # A process that began after the lock was written has only inherited the number.
        written = datetime.fromisoformat(str(holder["timestamp"])).timestamp()
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written + 1
    except psutil.NoSuchProcess:
        return False


def run(command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> int:
    """Run a command to its end, passing on what would stop it, once."""
    # On a terminal, Ctrl-C reaches the whole foreground group by itself. Elsewhere the child gets a
    # group of its own, so that a signal sent to the group of this script is passed on once.
    terminal = sys.stdin.isatty()
    child: subprocess.Popen[bytes] | None = None

    def pass_on(signum: int, _frame: FrameType | None) -> None:
        # Pulumi ends an update in order at SIGINT; at a second one it stops at once.
        if child is not None and not (terminal and signum == signal.SIGINT):
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGINT)

    handled = (signal.SIGINT, signal.SIGTERM)
    before = {signum: signal.signal(signum, pass_on) for signum in handled}
    try:
        child = subprocess.Popen(
            command, env=dict(env), cwd=cwd, process_group=None if terminal else 0
        )
        code = child.wait()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    return code if code >= 0 else 128 - code


def checked(arguments: Sequence[str], env: Mapping[str, str]) -> str:
    """The output of a short pulumi command."""
    done = subprocess.run(
        ["pulumi", "--non-interactive", *arguments],  # noqa: S607 - the engine found for PATH
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
    """Provision the environment, then show where everything is."""
    checked(["stack", "select", "--create", stack], env)
    release_dead_lock(stack, env)
    command = ["pulumi", "up", "--yes", "-s", stack, *arguments]
    code = run(command, env, PROJECT)
    return code or status(stack, [], env)


def preview(stack: str, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Show what `up` would change."""
    checked(["stack", "select", "--create", stack], env)
    return run(["pulumi", "preview", "-s", stack, *arguments], env, PROJECT)


def down(stack: str, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Delete everything that the environment provisioned but protected data, and its stack when
    nothing is left."""
    if not exists(stack, env):
        say(f"{stack} is not up: there is nothing to delete")
        return 0
    release_dead_lock(stack, env)
    logs = outputs(stack, env).get("logs_dir")
    destroy = ["pulumi", "destroy", "--yes", "--exclude-protected", "-s", stack, *arguments]
    code = run(destroy, env, PROJECT)
    if code != 0:
        return code
    left = resources(stack, env)
    if data := kept(left):
        say(f"{stack} is down. {told(stack, data)}")
        return 0
    if left:
        say(f"{stack}: the stack is kept, {len(left)} of its resources are left")
        return 0
    checked(["stack", "rm", "--yes", "--preserve-config", stack], env)
    stays = [f"stacks/Pulumi.{stack}.yaml"]
    if not target_of(config_file(PROJECT, stack)).on_this_machine:
        stays.append("the namespace, unless it is to be deleted")
    # The data that was to be kept; a stack without any leaves no folder.
    for what, folder in (("data", "volumes"), ("secrets", "secrets")):
        place = Path(str(logs)).parent / folder if logs else None
        stays += [f"the {what} in {place}"] if place and place.exists() else []
    stays += (
        [".mlops/passphrase and .mlops/state"] if (PROJECT / ".mlops" / "state").exists() else []
    )
    say(f"{stack} is down. Kept: {'; '.join(stays)}")
    return 0


def exists(stack: str, env: Mapping[str, str]) -> bool:
    """Whether the backend has the stack."""
    names = [item["name"] for item in json.loads(checked(["stack", "ls", "--json"], env))]
    return any(name.rpartition("/")[2] == stack for name in names)


def resources(stack: str, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the stack's state has."""
    exported = json.loads(checked(["stack", "export", "-s", stack], env))
    found: list[dict[str, Any]] = exported["deployment"].get("resources") or []
    return found


def outputs(stack: str, env: Mapping[str, str]) -> dict[str, Any]:
    """The stack's outputs; secret ones are masked."""
    found = json.loads(checked(["stack", "output", "--json", "-s", stack], env))
    return found if isinstance(found, dict) else {}


def status(stack: str, _arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Show where everything of the environment is."""
    here = target_of(config_file(PROJECT, stack)).on_this_machine
    there = exists(stack, env)
    data = kept(resources(stack, env)) if there and not here else []
    print(summary(stack, outputs(stack, env) if there and not data else {}, here=here))
    if data:
        print(told(stack, data))
    return 0


def refuse_clean() -> int:
    """Refuse to remove `.venv` while it runs programs of an environment on this machine."""
    states = (PROJECT / ".mlops" / "state" / ".pulumi" / "stacks").glob("*/*.json")
    for name in sorted(file.stem for file in states):
        # A state without its stack file may be of any target: the safe answer is this machine.
        if target_of(PROJECT / "stacks" / f"Pulumi.{name}.yaml").on_this_machine:
            say(f"error: {name} is still up and runs from .venv; first: make down STACK={name}")
            return 1
    return 0


def print_env(stack: str, found: Mapping[str, str]) -> int:
    """Print the settings as lines for a shell to evaluate."""
    for key, value in {**found, "PULUMI_STACK": stack}.items():
        print(f"export {key}={shlex.quote(value)}")
    return 0


COMMANDS = {"up": up, "preview": preview, "down": down, "status": status}


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    rest = given[cut + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", default="dev", help="the environment (default: dev)")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__)
    commands.add_parser("env", help=print_env.__doc__)
    commands.add_parser("clean", help=refuse_clean.__doc__)
    commands.add_parser("run", help="Run the command after -- with the settings.")
    options = parser.parse_args(given[:cut])
    if options.command == "clean":
        return refuse_clean()
    try:
        found = settings(PROJECT, os.environ)
        env = {**os.environ, **found}
        prepare(PROJECT, env)
        if options.command == "run":
            return run(rest, env)
        file = config_file(PROJECT, options.stack)
        found |= fetching(PROJECT, file, os.environ)
        env |= found
        if options.command == "env":
            return print_env(options.stack, found)
        refuse_two_states(PROJECT, options.stack, env)
        guard = untouched(file) if uses_own_backend(PROJECT, env) else contextlib.nullcontext()
        with guard:
            return COMMANDS[options.command](options.stack, rest, env)
    except StackError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
