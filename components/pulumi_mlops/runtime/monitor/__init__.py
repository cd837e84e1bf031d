"""The monitor: scrapes every service, keeps 30 minutes of history and serves the dashboard.

Run as ``python -m pulumi_mlops.runtime.monitor`` and configured by environment variables, see
:mod:`~pulumi_mlops.runtime.monitor.config`. :mod:`~pulumi_mlops.runtime.monitor.app` lists the
HTTP paths, :mod:`~pulumi_mlops.runtime.monitor.status` describes the data behind the dashboard.
"""
