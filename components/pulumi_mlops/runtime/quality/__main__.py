"""Run the quality service: ``python -m pulumi_mlops.runtime.quality``."""

import logging
import os
import signal
import sys

import uvicorn

from pulumi_mlops.runtime.quality import app
from pulumi_mlops.runtime.quality.database import QualityDatabase
from pulumi_mlops.runtime.quality.service import QualityService
from pulumi_mlops.runtime.quality.settings import QualitySettingsError, load
from pulumi_mlops.runtime.quality.store import store_for


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with code 2 if the settings are invalid."""
    try:
        settings = load(os.environ)
        store = store_for(settings.store)
    except (QualitySettingsError, ValueError) as error:
        print(f"mlops quality: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # After a graceful shutdown uvicorn raises SIGTERM again: exit with 0 then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        app.create(QualityService(settings, QualityDatabase(settings.database_url), store)),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
