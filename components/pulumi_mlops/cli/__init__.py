"""The command `mlops`: look at and work with a platform of the local target.

Exit codes: 0 all is well, 1 something is wrong, 2 the command was used wrongly, 130 interrupted.
`mlops run` exits with the code of the job.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from ..provider.errors import ResourceError
from .selection import CommandError, UsageError
from .terminal import Style

_EXAMPLES = """\
examples:
  mlops status                   what runs, and whether it is healthy
  mlops logs tracking -f         follow the log of the tracking server
  mlops run penguins             run a deployed pipeline again
  mlops doctor                   what is wrong with this machine, and the fix
"""

_STATUS = """\
Show every program, route, job and volume of a stack: whether it is healthy, its uptime, restarts
since it was deployed, memory (RSS of it and its children) and URL.
Exits with 1 when something is not healthy.
"""
_LOGS = """\
Show the end of a log. NAME is a program, replica, route or job, or any part of its name; what
belongs to one component is shown together. Without NAME the logs are listed.
"""
_RUN = """\
Run a deployed job again, now: its log is shown, then its outputs. Ctrl-C ends the run.
PIPELINE is the name of a job or any part of it that only one job has.
Exits with the code of the job.
"""
_DOCTOR = """\
Check what a platform needs of this machine: the Pulumi engine and its settings, the plugin, Python
and uv, the package index, HAProxy, disk space, ports, and what killed runs left behind.
Exits with 1 when something is wrong; warnings alone are no reason.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments (those of the process unless given) name."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        module = import_module(f".{options.command}", __name__)
        run: Callable[[argparse.Namespace], int] = module.run
        code = run(options)
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


def _failed(error: Exception, code: int) -> int:
    print(f"{Style(sys.stderr).bad('error:')} {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlops",
        description="Look at and work with a platform that runs on this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[_shared_options()],
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.set_defaults(stack=None, project=None)
    shared = _shared_options()
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=description, parents=[shared], allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    status = add("status", "what runs, and whether it is healthy", _STATUS)
    status.add_argument("--json", action="store_true", help="for programs to read")

    logs = add("logs", "show or follow a log", _LOGS)
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

    run = add("run", "run a deployed job again, now", _RUN)
    run.add_argument("pipeline", metavar="PIPELINE", help="a job, or a part of its name")

    doctor = add("doctor", "check this machine and the stack", _DOCTOR)
    doctor.add_argument("--json", action="store_true", help="for programs to read")

    add("version", "print the version", "Print the version of pulumi-mlops.")
    return parser


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
