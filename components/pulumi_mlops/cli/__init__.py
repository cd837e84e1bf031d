"""The command `mlops`: look at and work with a platform, on this machine or on a cluster.

Exit codes: 0 all is well, 1 something is wrong, 2 the command was used wrongly, 130 interrupted.
`mlops run` exits with the code of the job.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from ..plugin.errors import ResourceError
from ..targets import registry
from .operations import Operations
from .selection import (
    CommandError,
    Stack,
    UsageError,
    find_stack,
    named_stack,
    project_folder,
)
from .terminal import Style

_EXAMPLES = """\
examples:
  mlops status                   what runs, and whether it is healthy
  mlops logs tracking -f         follow the log of the tracking server
  mlops run penguins             run a deployed pipeline again
  mlops doctor                   what is wrong with this machine, and the fix
  mlops connect                  reach a platform that runs on a cluster
"""

_STATUS_HELP = """\
Show every program, route, job and volume of a stack: whether it is healthy, its uptime, restarts
since it was deployed, memory (RSS of it and its children) and URL; on a cluster its pods, age and
image. Exits with 1 when something is not healthy.
"""
_LOGS_HELP = """\
Show the end of a log. NAME is a program, replica, route or job, or any part of its name; what
belongs to one component is shown together. Without NAME the logs are listed.
"""
_RUN_HELP = """\
Run a deployed job again, now: its log is shown, then its outputs. Ctrl-C ends the run.
PIPELINE is the name of a job or any part of it that only one job has.
Exits with the code of the job.
"""
_CONNECT_HELP = """\
Open tunnels from this machine to what a stack runs on a cluster, through the cluster's API: the
tracking server, the S3 store, the endpoints, the dashboard. Shows where each is, and the variables
that clients need, until Ctrl-C. The ports stay the same from one time to the next where they are
free.
With a COMMAND after --, it runs with these variables, credentials too, and the tunnels end with it.
Addresses of the cluster in its arguments become those of the tunnels.
"""
_IMAGES_HELP = """\
List the images of a stack for a cluster: what each is called, and whether the container engine and
the registry have it. `mlops images build` builds those that are missing.
"""
_IMAGES_BUILD_HELP = """\
Build images with docker, podman or nerdctl, whichever answers first. NAME is an image or any part
of its name; without NAME all are built. What the engine has already is left as it is.
The engine is the one that DOCKER_HOST points at (CONTAINER_HOST for podman).
Exits with 1 when one of them cannot be built; the others are built all the same.
"""
_SECRETS_HELP = """\
Print the Secrets of a stack whose manifests are rendered into files (mlops:kubernetes.render_to):
they are in none of these files, but in the stack's state alone.
  mlops secrets | kubectl apply -f -
  mlops secrets | kubeseal --format yaml > clusters/ml/secrets.yaml
On a terminal only their names and keys are shown, unless --show is given.
"""
_DOCTOR_HELP = """\
Check what a platform needs of this machine: the Pulumi engine and its settings, the plugin, Python
and uv, the package index, HAProxy, disk space, ports, and what killed runs left behind. For a
stack on a cluster: whether it answers, what is allowed there, its namespace, storage and images.
Exits with 1 when something is wrong; warnings alone are no reason.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments (those of the process unless given) name."""
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What follows belongs to another program; argparse would look for options in it.
    cut = given.index("--") if "--" in given and "connect" in given else len(given)
    options = parser.parse_args(given[:cut])
    options.program = given[cut + 1 :]
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        code = _COMMANDS[options.command](options)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _failed(error, 2)
    except (CommandError, ResourceError) as error:
        return _failed(error, 1)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Its reader, as in `mlops logs x | head`, has what it wants.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _stack_operations(options: argparse.Namespace) -> tuple[Stack, Operations]:
    stack = find_stack(project_folder(options.project), named_stack(options.stack))
    try:
        return stack, registry.load(stack.target).operations()
    except registry.UnknownTargetError as error:
        raise CommandError(f"{stack.name}: {error}") from None


def _status(options: argparse.Namespace) -> int:
    stack, operations = _stack_operations(options)
    return operations.status(stack, as_json=options.json)


def _logs(options: argparse.Namespace) -> int:
    stack, operations = _stack_operations(options)
    return operations.logs(
        stack,
        options.name,
        follow=options.follow,
        lines=options.lines,
        previous=options.previous,
    )


def _run(options: argparse.Namespace) -> int:
    stack, operations = _stack_operations(options)
    return operations.run(stack, options.pipeline)


def _connect(options: argparse.Namespace) -> int:
    stack, operations = _stack_operations(options)
    return operations.connect(stack, env=options.env, command=options.program)


def _secrets(options: argparse.Namespace) -> int:
    stack, operations = _stack_operations(options)
    return operations.secrets(stack, as_json=options.json, show=options.show)


def _module(name: str) -> Callable[[argparse.Namespace], int]:
    """The `run` of a command's module, imported when the command runs."""

    def run(options: argparse.Namespace) -> int:
        code: int = import_module(f".{name}", __name__).run(options)
        return code

    return run


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "status": _status,
    "logs": _logs,
    "run": _run,
    "doctor": _module("doctor"),
    "connect": _connect,
    "images": _module("images"),
    "secrets": _secrets,
    "version": _module("version"),
}


def _failed(error: Exception, code: int) -> int:
    print(f"{Style(sys.stderr).bad('error:')} {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlops",
        description="Look at and work with a platform, on this machine or on a cluster.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[_shared_options()],
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.set_defaults(stack=None, project=None, engine=None)
    shared = _shared_options()
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=description, parents=[shared], allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    status = add("status", "what runs, and whether it is healthy", _STATUS_HELP)
    status.add_argument("--json", action="store_true", help="for programs to read")

    logs = add("logs", "show or follow a log", _LOGS_HELP)
    logs.add_argument("name", nargs="?", metavar="NAME", help="any part of a name")
    logs.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is written, and with new runs"
    )
    logs.add_argument(
        "-n", "--lines", type=_count, default=100, metavar="N",
        help="how many of the last lines are shown (default: 100)",
    )  # fmt: skip
    logs.add_argument(
        "-p", "--previous", action="store_true",
        help="the log before: a job's previous run, what a program's log was rotated to",
    )  # fmt: skip

    run = add("run", "run a deployed job again, now", _RUN_HELP)
    run.add_argument("pipeline", metavar="PIPELINE", help="a job, or a part of its name")

    doctor = add("doctor", "check this machine and the stack", _DOCTOR_HELP)
    doctor.add_argument("--json", action="store_true", help="for programs to read")

    connect = add("connect", "tunnels to what runs on a cluster", _CONNECT_HELP)
    connect.usage = "mlops connect [--stack NAME] [--project DIR] [--env [FILE]] [-- COMMAND …]"
    connect.add_argument(
        "--env", nargs="?", const="-", metavar="FILE",
        help="show the credentials, too; with FILE, write them there, for its owner only",
    )  # fmt: skip

    _add_images(add("images", "list and build the images for a cluster", _IMAGES_HELP), shared)

    secrets = add("secrets", "the Secrets of rendered manifests", _SECRETS_HELP)
    secrets.add_argument("--json", action="store_true", help="JSON instead of YAML")
    secrets.add_argument("--show", action="store_true", help="show values on a terminal, too")

    add("version", "print the version", "Print the version of pulumi-mlops.")
    return parser


def _add_images(images: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    images.add_argument("--json", action="store_true", help="for programs to read")
    commands = images.add_subparsers(dest="images_command", metavar="build")
    build = commands.add_parser(
        "build", help="build what is missing", description=_IMAGES_BUILD_HELP, allow_abbrev=False,
        parents=[shared], formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for command in (images, build):
        command.add_argument(
            "--engine", choices=("docker", "podman", "nerdctl"), default=argparse.SUPPRESS,
            help="which to take; the first that answers unless told",
        )  # fmt: skip
    build.add_argument("names", nargs="*", metavar="NAME", help="an image, or a part of its name")
    build.add_argument("--push", action="store_true", help="push them to their registry")
    build.add_argument(
        "--save", type=Path, metavar="FILE", help="write all of them into one archive (tar)"
    )
    build.add_argument(
        "--force", action="store_true", help="build, and push, what is there already too"
    )


def _shared_options() -> argparse.ArgumentParser:
    """Options that every command takes."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--stack", metavar="NAME", default=argparse.SUPPRESS,
        help="the environment; default: $PULUMI_STACK, $STACK, or the only one that is there",
    )  # fmt: skip
    shared.add_argument(
        "--project", metavar="DIR", type=Path, default=argparse.SUPPRESS,
        help="folder of Pulumi.yaml; default: the nearest at or above the working folder",
    )  # fmt: skip
    return shared


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from .version import run  # noqa: PLC0415 - what it imports is not needed otherwise

        run(argparse.Namespace())
        parser.exit()


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines: give 0 or more")
    return int(text)
