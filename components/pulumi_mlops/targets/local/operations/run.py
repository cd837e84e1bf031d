"""`mlops run` for the local target."""

from __future__ import annotations

import json
import signal
import sys
import threading
from types import FrameType

from ....cli.selection import CommandError, Stack, select_job
from ....cli.terminal import Style, duration
from ....plugin.errors import ResourceError
from ..host import jobs


def run(stack: Stack, pipeline: str) -> int:
    """Run a job now and show its log and outputs. Returns its exit code."""
    name = select_job(pipeline, jobs.names(stack.root))
    style = Style(sys.stderr)
    cancelled = threading.Event()

    def cancel(_number: int, _frame: FrameType | None) -> None:
        # In a thread: the interrupted code may hold the lock of the event.
        threading.Thread(target=cancelled.set).start()

    def show(line: str) -> None:
        try:
            print(line, flush=True)
        except BrokenPipeError:  # the reader of the output ended
            cancelled.set()

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous_handlers = {number: signal.signal(number, cancel) for number in handled}
    try:
        result = jobs.run(stack.root, name, show, cancelled)
    except ResourceError as error:
        if cancelled.is_set():
            print(f"{style.unsure('interrupted:')} {name} has ended", file=sys.stderr)
            return 128 + signal.SIGINT
        # The last log lines in the message were already shown.
        raise CommandError(str(error).partition(" Its last log lines")[0]) from None
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
    took = duration(result.seconds)
    log = jobs.log_of(stack.root, name)
    if result.exit_code != 0:
        print(
            f"{style.bad('failed:')} {name} ended with exit code {result.exit_code} after {took}; "
            f"its log: {log}",
            file=sys.stderr,
        )
        return result.exit_code if result.exit_code > 0 else 128 - result.exit_code
    print(f"{style.good('done:')} {name} after {took}", file=sys.stderr)
    for key, value in result.outputs.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"  {key}: {text}")
    return 0
