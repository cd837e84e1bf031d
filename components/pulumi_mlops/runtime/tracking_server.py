"""Runs MLflow's tracking server: `python -m pulumi_mlops.runtime.tracking_server server …`.

The arguments are those of `mlflow`. MLflow's own command starts the server as a child process and
stays in memory. Here the server replaces the command: that halves the memory, and the server
receives signals directly.

With `--app-name basic-auth`, MLFLOW_AUTH_CONFIG_PATH names the file with the name and password of
the admin. MLflow uses that password only when it creates the user. Here each start sets it, so that
clients can log in with data of an earlier server and after a change in MLflow's web page.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mlflow import server
from mlflow.cli import cli


def main() -> None:
    """Set the admin's password if there are users, then replace this process by the server."""
    if "basic-auth" in sys.argv:
        _set_admin_password()
    # The function that starts the server. MLflow has no option to replace it.
    server._exec_cmd = _replace_process
    cli(prog_name="mlflow")


def _replace_process(command: Sequence[str], *, extra_env: Mapping[str, str], **_: Any) -> NoReturn:
    """Replace this process by `command`."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, {**os.environ, **extra_env})  # noqa: S606 - no shell


def _set_admin_password() -> None:
    # Its imports need `mlflow[auth]`.
    from mlflow.server import auth  # noqa: PLC0415

    name, password = auth.auth_config.admin_username, auth.auth_config.admin_password
    if not name or not password:
        sys.exit("the file MLFLOW_AUTH_CONFIG_PATH must set admin_username and admin_password")
    auth.bootstrap_admin_user()
    if not auth.store.authenticate_user(name, password) or not auth.store.get_user(name).is_admin:
        auth.store.update_user(name, password=password, is_admin=True)


if __name__ == "__main__":
    main()
