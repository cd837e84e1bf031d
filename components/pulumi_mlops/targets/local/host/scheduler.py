"""Runs a job on a schedule: `python -m pulumi_mlops.targets.local.host.scheduler`.

A run that is due while the previous one is running is skipped. Runs that were missed while the
machine was suspended are replaced by one run (APScheduler's coalesce).
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from ....plugin.errors import ResourceError
from ....stackdir import StackDir
from . import jobs

_LOG = logging.getLogger("scheduler")


class _Runner:
    def __init__(self, root: StackDir, job: str) -> None:
        self._root, self._job = root, job
        self._cancelled = threading.Event()
        self.outcomes = {"succeeded": 0, "failed": 0}

    def __call__(self) -> None:
        _LOG.info("%s starts", self._job)
        try:
            result = jobs.run(self._root, self._job, lambda line: None, self._cancelled)
        except ResourceError as error:
            self.outcomes["failed"] += 1
            _LOG.error("%s", error)
            return
        outcome = "succeeded" if result.exit_code == 0 else "failed"
        self.outcomes[outcome] += 1
        _LOG.info(
            "%s %s (exit code %d, %.0f s)", self._job, outcome, result.exit_code, result.seconds
        )

    def stop(self) -> None:
        self._cancelled.set()

    def metrics(self) -> str:
        lines = ["# TYPE mlops_job_runs_total counter"]
        for outcome, count in self.outcomes.items():
            lines.append(f'mlops_job_runs_total{{job="{self._job}",outcome="{outcome}"}} {count}')
        return "\n".join(lines) + "\n"


def main() -> None:
    """Run one job on its cron schedule until SIGTERM."""
    parser = argparse.ArgumentParser(description="Runs a deployed job on a schedule.")
    parser.add_argument("--job", required=True)
    parser.add_argument("--cron", required=True, help="five fields, as in a crontab")
    parser.add_argument("--timezone", default="UTC")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    runner = _Runner(StackDir(Path(os.environ["STACK_DIR"])), arguments.job)
    scheduler = BackgroundScheduler(timezone=arguments.timezone)
    scheduler.add_job(
        runner,
        CronTrigger.from_crontab(arguments.cron, timezone=arguments.timezone),
        coalesce=True,
        max_instances=1,
        misfire_grace_time=3600,  # default: 1 second, which skips delayed runs
    )
    scheduler.start()

    class MetricsRequestHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (runner.metrics() if self.path == "/metrics" else "ok\n").encode()
            self.send_response(200 if self.path in {"/metrics", "/health"} else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), MetricsRequestHandler)

    def stop(number: int, frame: object) -> None:
        runner.stop()
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()
    scheduler.shutdown(wait=True)


if __name__ == "__main__":
    main()
