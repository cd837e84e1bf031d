"""Runs MLflow's tracking server: `python -m pulumi_mlops.runtime.tracking_server server …`.

The arguments are those of `mlflow`. MLflow's command stays in memory, with all that it imported,
beside the server that it starts. Here the server replaces it: half the memory, and signals reach
the server itself.

With `--app-name basic-auth` the configuration is the file that MLFLOW_AUTH_CONFIG_PATH names.
MLflow gives the admin the password of that file when it makes that user, and never again. Here it
is set at each start, so that it is always the one that clients have: with data of an earlier server
too, or after somebody has changed it in the web page.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mlflow import server
from mlflow.cli import cli


def main() -> None:
    """Set the admin's password if there are users, and become the server."""
    if "basic-auth" in sys.argv:
        _set_admin()
    # The function that MLflow starts the server with. It has no option for this.
    server._exec_cmd = _become  # type: ignore[attr-defined, assignment]
    cli(prog_name="mlflow")


def _become(command: Sequence[str], *, extra_env: Mapping[str, str], **_: Any) -> NoReturn:
    """Replace this process by `command`."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], list(command), {**os.environ, **extra_env})  # noqa: S606 - no shell is wanted


def _set_admin() -> None:
    # Only `mlflow[auth]` has all that it imports.
    from mlflow.server import auth  # noqa: PLC0415

    name, password = auth.auth_config.admin_username, auth.auth_config.admin_password
    if not name or not password:
        sys.exit("the file that MLFLOW_AUTH_CONFIG_PATH names needs admin_username, admin_password")
    auth.bootstrap_admin_user()
    if not auth.store.authenticate_user(name, password) or not auth.store.get_user(name).is_admin:
        auth.store.update_user(name, password=password, is_admin=True)


if __name__ == "__main__":
    main()
