"""Train, evaluate and register the penguin classifier: `python run.py --help`."""

import os
import signal
import sys

# Defaults for libraries. Variables that are already set take precedence.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MPLBACKEND": "Agg",  # jobs have no display
    "GIT_PYTHON_REFRESH": "quiet",  # the image of a job has no git
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # the default 7 takes four minutes for a wrong URL
}


def _terminate(signum: int, _frame: object) -> None:
    # An exception, so that a stopped run removes what it registered.
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, _terminate)

    from penguins.cli import main

    sys.exit(main())
