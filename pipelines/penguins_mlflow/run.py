"""Validate, train, judge and register the penguin classifier: `python run.py --help`."""

import os
import signal
import sys

# Defaults for what nobody asked for; whatever is set outside wins.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MPLBACKEND": "Agg",  # jobs have no display
    "GIT_PYTHON_REFRESH": "quiet",  # a job's image needs no git
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow's own 7 wait four minutes for a wrong address
}


def _terminate(signum: int, _frame: object) -> None:
    # As an exception, so that a stopped run takes back what it registered.
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, _terminate)

    from penguins.cli import main

    sys.exit(main())
