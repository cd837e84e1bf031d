"""Run the monitor: ``python -m pulumi_mlops.runtime.monitor``."""

import logging
import os
import signal
import sys

import uvicorn

from . import app
from .config import ConfigError, load
from .watcher import Watcher


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with code 2 if the configuration is invalid."""
    try:
        config = load(os.environ)
    except ConfigError as error:
        print(f"mlops monitor: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # At INFO, httpx logs every request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # After a graceful shutdown uvicorn raises SIGTERM again: exit with 0 then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        app.create(Watcher(config)),
        host=config.host,
        port=config.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
