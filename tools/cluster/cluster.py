"""The test cluster of this checkout: Kubernetes with one node on this machine."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))
from lifecycle import NAMES, Cluster
from progress import Speaker, ToolError, say

HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def locked(checkout: Path) -> Iterator[None]:
    """Lock the cluster of a checkout for one command that changes it."""
    handle = os.open(checkout, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another command that changes the cluster")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def command(options: argparse.Namespace, cluster: Cluster) -> int:
    checkout = cluster.place.checkout
    match options.command:
        case "up":
            with locked(checkout):
                cluster.up()
            print(cluster.exports())
        case "down":
            with locked(checkout):
                existed = cluster.down()
            say("stopped, and all of its files are deleted" if existed else "there is no cluster")
        case "status":
            return 0 if cluster.status() else 1
        case "logs":
            file = cluster.log(options.name)
            if not file.exists():
                raise ToolError(f"no log of {options.name}; the programs are {', '.join(NAMES)}")
            os.execvp("tail", ["tail", *options.rest, str(file)])  # noqa: S606, S607
        case "restart":
            with locked(checkout):
                cluster.restart(options.name)
        case "load":
            for tar in options.tars:
                say(f"importing {tar}")
                cluster.load(tar)
        case "images":
            print("\n".join(cluster.images()))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the cluster, or those of its programs that have ended")
    commands.add_parser("down", help="stop the cluster and delete all of its files")
    commands.add_parser("status", help="show which programs run; exit code 0 if all of them do")
    logs = commands.add_parser("logs", help="the log of one program")
    logs.add_argument("name", choices=NAMES)
    logs.add_argument("rest", nargs=argparse.REMAINDER, help="options of tail, such as -f")
    restart = commands.add_parser("restart", help="restart one program")
    restart.add_argument("name", choices=NAMES)
    load = commands.add_parser("load", help="import image tars")
    load.add_argument("tars", nargs="+", type=Path, metavar="IMAGE.tar")
    commands.add_parser("images", help="list the images")
    return parser.parse_args()


def stop(signum: int, _frame: Any) -> None:
    sys.exit(128 + signum)


def main() -> int:
    Speaker.name = "cluster"
    options = arguments()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    cluster = Cluster(HERE.parents[1])
    try:
        return command(options, cluster)
    except ToolError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make cluster` continues, `make cluster-down` stops the cluster")
        return 130


if __name__ == "__main__":
    sys.exit(main())
