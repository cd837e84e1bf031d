"""The command `mlops`: look at and work with the environments of a project.

Exit codes: 0 success, 1 something is wrong, 2 wrong usage, 130 interrupted. `mlops run` exits with
the code of the job.
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
from ..runtime.net import direct_loopback
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
  mlops status                   list services, jobs and volumes, and their health
  mlops logs tracking -f         follow the log of the tracking server
  mlops run penguins             run a deployed pipeline again
  mlops doctor                   check this machine and the environment
  mlops connect                  open tunnels to an environment on a cluster
  mlops quality penguins         show the quality of an endpoint's predictions
"""

_STATUS_HELP = """\
List every service, route, job and volume of an environment: health, uptime, restarts since it was
deployed, memory (RSS of the process and its children) and URL; on a cluster pods, age and image.
Exits with 1 if one of them is not healthy.
"""
_LOGS_HELP = """\
Show the end of a log. NAME is a service, replica, route or job, or a part of its name. All logs
of one component are shown together. Without NAME the command lists the logs.
"""
_RUN_HELP = """\
Run a deployed job now, show its log, then its outputs. Ctrl-C ends the run.
PIPELINE is the name of a job, or a part of the name that no other job has.
Exits with the code of the job.
"""
_CONNECT_HELP = """\
Open tunnels from this machine to an environment on a cluster, through the cluster's API: tracking
server, S3 store, endpoints and dashboard. Print their URLs and the variables that clients need.
The tunnels stay open until Ctrl-C. They use the same local ports each time, if these are free.
With a COMMAND after --, run it with these variables and the credentials; the tunnels end with it.
In its arguments, addresses of the cluster are replaced by those of the tunnels.
"""
_IMAGES_HELP = """\
List the images of an environment: reference, and whether the container engine and the container
registry have them. `mlops images build` builds missing images.
"""
_IMAGES_BUILD_HELP = """\
Build images with docker, podman or nerdctl, the first that answers. NAME is an image or a part of
its name. Default: all images. Images that the container engine already has are not built again.
DOCKER_HOST (CONTAINER_HOST for podman) selects the engine.
Exits with 1 if an image cannot be built; the other images are built all the same.
"""
_SECRETS_HELP = """\
Print the Secrets of an environment whose manifests are rendered into a folder (`render_to`). The
manifests refer to them; their values are in the stack's state only.
  mlops secrets | kubectl apply -f -
  mlops secrets | kubeseal --format yaml > clusters/ml/secrets.yaml
On a terminal only names and keys are shown. --show also shows the values.
"""
_SERVICE_HELP = """\
Start the services of an environment on this machine, now or with the machine.
  install    write and enable a systemd user unit that starts them
  uninstall  remove the unit; running services are left as they are
  start      start the services that do not run, as after a restart of the machine
  print      print the unit
"""
_DOCTOR_HELP = """\
Check what a platform needs: the Pulumi engine and its settings, the resource plugin, Python, and
what the environment's target needs of this machine or of its cluster. Each finding names the fix.
Exits with 1 if something is wrong. Warnings do not change the exit code.
"""
_QUALITY_HELP = """\
Show the quality of an endpoint: the metrics of its last windows with their 95 % confidence
intervals, and the share of predictions with a label. The endpoint declares `quality`.
MLOPS_QUALITY_URL is the address of the quality service. Default: the client settings of the stack.
On a cluster: mlops connect -- mlops quality NAME
"""
_DRIFT_HELP = """\
Show the drift of an endpoint's features and predictions in the last window with enough rows, and
changes of the error rate. Exits with 0 whether there is drift or not.
"""
_LABELS_HELP = """\
Send the labels in FILE to an endpoint. A CSV file has the columns `id`, optionally `row`, and the
label. A JSON file has a list of objects with these keys. `id` is the x-request-id of the response.
Exits with 1 if a label is invalid; the others are stored.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments`. Default: the arguments of the process."""
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # argparse would look for options in the command after --.
    cut = given.index("--") if "--" in given and "connect" in given else len(given)
    options = parser.parse_args(given[:cut])
    options.program = given[cut + 1 :]
    options.caller = dict(os.environ)
    os.environ.update(direct_loopback(os.environ))
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
        # The reader has ended, as in `mlops logs x | head`.
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


def _service(options: argparse.Namespace) -> int:
    stack, operations = _stack_operations(options)
    return operations.service(stack, options.action)


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
    "service": _service,
    "quality": _module("quality"),
    "drift": _module("quality"),
    "labels": _module("quality"),
    "version": _module("version"),
}


def _failed(error: Exception, code: int) -> int:
    print(f"{Style(sys.stderr).bad('error:')} {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlops",
        description="Look at and work with the environments of a project.",
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

    status = add("status", "list services, jobs and volumes, and their health", _STATUS_HELP)
    status.add_argument("--json", action="store_true", help="print JSON")

    logs = add("logs", "show or follow a log", _LOGS_HELP)
    logs.add_argument("name", nargs="?", metavar="NAME", help="a name, or a part of it")
    logs.add_argument(
        "-f", "--follow", action="store_true", help="follow the log, and the logs of new runs"
    )
    logs.add_argument(
        "-n", "--lines", type=_count, default=100, metavar="N",
        help="number of lines (default: 100)",
    )  # fmt: skip
    logs.add_argument(
        "-p", "--previous", action="store_true",
        help="the previous log: of a job's previous run, or before the last rotation",
    )  # fmt: skip

    run = add("run", "run a deployed job now", _RUN_HELP)
    run.add_argument("pipeline", metavar="PIPELINE", help="a job, or a part of its name")

    doctor = add("doctor", "check this machine and the environment", _DOCTOR_HELP)
    doctor.add_argument("--json", action="store_true", help="print JSON")

    connect = add("connect", "open tunnels to an environment on a cluster", _CONNECT_HELP)
    connect.usage = "mlops connect [--stack NAME] [--project DIR] [--env [FILE]] [-- COMMAND …]"
    connect.add_argument(
        "--env", nargs="?", const="-", metavar="FILE",
        help="also print the credentials; with FILE, write all to a private file",
    )  # fmt: skip

    _add_images(add("images", "list and build container images", _IMAGES_HELP), shared)

    secrets = add("secrets", "print the Secrets of rendered manifests", _SECRETS_HELP)
    secrets.add_argument("--json", action="store_true", help="JSON instead of YAML")
    secrets.add_argument("--show", action="store_true", help="also show values on a terminal")

    service = add("service", "start services with the machine", _SERVICE_HELP)
    service.add_argument("action", choices=("install", "uninstall", "start", "print"))

    _add_quality(add, shared)
    add("version", "print the version", "Print the version of pulumi-mlops.")
    return parser


def _add_images(images: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    images.add_argument("--json", action="store_true", help="print JSON")
    commands = images.add_subparsers(dest="images_command", metavar="build")
    build = commands.add_parser(
        "build", help="build missing images", description=_IMAGES_BUILD_HELP, allow_abbrev=False,
        parents=[shared], formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    for command in (images, build):
        command.add_argument(
            "--engine", choices=("docker", "podman", "nerdctl"), default=argparse.SUPPRESS,
            help="the container engine; default: the first that answers",
        )  # fmt: skip
    build.add_argument("names", nargs="*", metavar="NAME", help="an image, or a part of its name")
    build.add_argument("--push", action="store_true", help="also push to the container registry")
    build.add_argument(
        "--save", type=Path, metavar="FILE", help="write all of them into one tar archive"
    )
    build.add_argument("--force", action="store_true", help="build and push existing images again")


def _add_quality(
    add: Callable[[str, str, str], argparse.ArgumentParser], shared: argparse.ArgumentParser
) -> None:
    quality = add("quality", "show the quality of an endpoint", _QUALITY_HELP)
    quality.add_argument(
        "-n", "--windows", type=_count, default=5, metavar="N",
        help="number of windows of each version (default: 5)",
    )  # fmt: skip
    drift = add("drift", "show the drift of an endpoint", _DRIFT_HELP)
    for command in (quality, drift):
        command.add_argument("name", metavar="NAME", help="an endpoint")
        command.add_argument("--json", action="store_true", help="print JSON")
    labels = add("labels", "send labels of predictions", _LABELS_HELP)
    commands = labels.add_subparsers(dest="labels_command", metavar="send", required=True)
    send = commands.add_parser(
        "send", help="send the labels in a file", description=_LABELS_HELP, allow_abbrev=False,
        parents=[shared], formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    send.add_argument("name", metavar="NAME", help="an endpoint")
    send.add_argument("file", type=Path, metavar="FILE", help="a CSV or JSON file")


def _shared_options() -> argparse.ArgumentParser:
    """The options of every command."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--stack", metavar="NAME", default=argparse.SUPPRESS,
        help="the environment; default: $PULUMI_STACK, $STACK, or the only one",
    )  # fmt: skip
    shared.add_argument(
        "--project", metavar="DIR", type=Path, default=argparse.SUPPRESS,
        help="folder of Pulumi.yaml; default: the nearest at or above the working folder",
    )  # fmt: skip
    return shared


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from .version import run  # noqa: PLC0415 - its imports are slow

        run(argparse.Namespace())
        parser.exit()


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines: use 0 or more")
    return int(text)
