"""Closes runs on the tracking server that a killed job left in the status RUNNING."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

from pulumi_mlops.runtime.net import is_loopback

JOB_TAG = "mlops.job"
_CONTEXT = "MLFLOW_RUN_CONTEXT"
"""MLflow adds the tags in this variable, a JSON object, to each run that it starts."""
_API = "/api/2.0/mlflow"
_SECONDS = 10.0


def with_job_tag(env: Mapping[str, str], job: str) -> dict[str, str]:
    """`env` with the variable that tags each run of the job, if the job has a tracking server."""
    if "MLFLOW_TRACKING_URI" not in env:
        return dict(env)
    try:
        tags = json.loads(env.get(_CONTEXT, "{}"))
    except ValueError:
        return dict(env)  # the user's own value, which MLflow will report
    return {**env, _CONTEXT: json.dumps({**tags, JOB_TAG: job})}


def close_runs(env: Mapping[str, str], job: str) -> int:
    """Set the status of the job's RUNNING runs to KILLED. Returns their number.

    `env` has the variables of MLflow clients. Call this while the job is not running. Raises
    httpx.HTTPError or ValueError if the tracking server does not answer as one.
    """
    uri = env.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if not uri.startswith(("http://", "https://")) or "'" in job:
        return 0
    user = env.get("MLFLOW_TRACKING_USERNAME")
    with httpx.Client(
        base_url=uri + _API,
        auth=(user, env.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
        timeout=_SECONDS,
        trust_env=not is_loopback(uri),
    ) as client:
        experiments = _post(client, "experiments/search", max_results=1000).get("experiments", [])
        found = _post(
            client,
            "runs/search",
            experiment_ids=[each["experiment_id"] for each in experiments],
            filter=f"attributes.status = 'RUNNING' AND tags.`{JOB_TAG}` = '{job}'",
            max_results=1000,
        ).get("runs", [])
        for run in found:
            run_id = run["info"]["run_id"]
            ended = int(time.time() * 1000)
            _post(client, "runs/update", run_id=run_id, status="KILLED", end_time=ended)
    return len(found)


def _post(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/{path}", json=body)
    answer.raise_for_status()
    content = answer.json()
    if not isinstance(content, dict):
        raise ValueError(f"{path} answers no object")
    return content
