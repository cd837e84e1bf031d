"""Runs MLflow's tracking server: `python -m pulumi_mlops.runtime.tracking_server server …`.

The arguments are those of `mlflow`. The `mlflow` command starts the server as a child process and
stays in memory with everything that it imported. Here the server replaces the command: half the
memory, and signals reach the server itself.

With `--app-name basic-auth`, MLFLOW_AUTH_CONFIG_PATH names the configuration file. MLflow uses the
admin password in that file only when it creates the user. This program sets it at each start, so
that the password of the clients is valid, also with existing data or after a change on the web
page.
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
