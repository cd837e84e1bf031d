"""``python -m pulumi_mlops.runtime.model_server``."""

from __future__ import annotations

import logging
import os
import sys

from pulumi_mlops.runtime.model_server.settings import ModelServerSettings, SettingsError


def main() -> int:
    """Serve; 2 with one line on stderr for a bad variable."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        settings = ModelServerSettings.from_env(os.environ)
        # After the settings, so that a bad variable is named in a tenth of a second.
        from pulumi_mlops.runtime.model_server.server import exit_now, run  # noqa: PLC0415

        exit_now(run(settings))
    except SettingsError as error:
        print(f"model server: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
