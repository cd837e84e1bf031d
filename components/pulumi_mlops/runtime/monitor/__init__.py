"""The monitoring program: scrapes every service, keeps half an hour, serves a live page.

Run as ``python -m pulumi_mlops.runtime.monitor``; configured by environment variables, see
:mod:`~pulumi_mlops.runtime.monitor.config`. What it answers is listed in
:mod:`~pulumi_mlops.runtime.monitor.app`; the document behind the page in
:mod:`~pulumi_mlops.runtime.monitor.status`.
"""
