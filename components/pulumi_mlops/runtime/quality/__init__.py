"""The quality service: joins labels with the prediction log, and publishes quality and drift.

Reads the prediction log of the artifact store (see :mod:`~pulumi_mlops.runtime.prediction_log`).
Configured by environment variables, see :mod:`~pulumi_mlops.runtime.quality.settings`.
"""
