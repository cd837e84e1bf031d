"""Runs MLflow with users: `python -m pulumi_mlops.runtime.tracking_server server …`.

The arguments are those of `mlflow`, the configuration is the file that MLFLOW_AUTH_CONFIG_PATH
names. MLflow gives the admin the password of that file when it makes that user, and never again.
Here it is set anew at each start, so that it always is the one that clients are given: with data
of an earlier server too, or after somebody has changed it in the web page.
"""

from __future__ import annotations

import sys

from mlflow.cli import cli
from mlflow.server import auth


def main() -> None:
    """Have the admin be as configured, and become MLflow."""
    name, password = auth.auth_config.admin_username, auth.auth_config.admin_password
    if not name or not password:
        sys.exit("the file that MLFLOW_AUTH_CONFIG_PATH names needs admin_username, admin_password")
    auth.bootstrap_admin_user()
    if not auth.store.authenticate_user(name, password) or not auth.store.get_user(name).is_admin:
        auth.store.update_user(name, password=password, is_admin=True)
    cli(prog_name="mlflow")


if __name__ == "__main__":
    main()
