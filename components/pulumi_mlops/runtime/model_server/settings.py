"""The model server's configuration, from environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pulumi_mlops.runtime.prediction_store import store_for


class SettingsError(Exception):
    """A variable is missing or invalid. The message is one line and names it."""


@dataclass(frozen=True, slots=True)
class ModelServerSettings:
    """The model version that one server serves, and its address.

    | variable | meaning | default |
    |---|---|---|
    | HOST, PORT | the address listened on | 127.0.0.1, 8080 |
    | MLOPS_ENDPOINT | the endpoint this server is a replica of | required |
    | MLOPS_MODEL_NAME | the name served, and the registered model | required |
    | MLOPS_MODEL_VERSION | the version served | required |
    | MLOPS_MODEL_URI | any MLflow model URI | models:/<name>/<version> |
    | MLOPS_MODEL_DIR | folder with the model's files | they are downloaded from the URI |
    | MLFLOW_TRACKING_URI | the tracking server | required for a download of models:/ and runs:/ |
    | START_SLOTS_DIR | the folder of servers that load in turns; empty is off | off |
    | MLOPS_DRAIN_SECONDS | after SIGTERM, not ready but still serving | 1 |
    | MLOPS_SHUTDOWN_SECONDS | then, at most this long for requests in flight | 30 |
    | MLOPS_KEEP_ALIVE_SECONDS | idle connections; longer than the proxy's | 75 |
    | MLOPS_MAX_BODY_BYTES | larger requests get 413 | 16777216 |
    | MLOPS_INFERENCE_THREADS | predictions made at the same time | 1 |
    | MLOPS_MAX_QUEUE | requests that wait for the model; more get 503 | 256 |
    | MLOPS_QUEUE_SECONDS | a request that waits longer gets 503 | 10 |
    | MLOPS_MAX_BATCH | rows that requests are combined to; 1 is off | 64 |
    | MLOPS_MAX_DELAY_SECONDS | how long the first request of a batch waits for more | 0 |
    | MLOPS_MAX_CLASSES | distinct classes counted by name, the rest as "other" | 20 |
    | MLOPS_CHECK_OUTPUT | a failed check of the model: error, or warn and serve | error |
    | MLOPS_PREDICTION_LOG | s3://bucket/prefix or a folder; empty is off | off |
    | MLOPS_PREDICTION_LOG_SPOOL | a folder for records not in the store yet; empty is off | off |
    | SPOOL_SHARED | whether that folder outlives this server: true or false | false |
    | MLOPS_PREDICTION_LOG_FLUSH_SECONDS | a file is written at least so often | 10 |
    | MLOPS_PREDICTION_LOG_FLUSH_ROWS | … or when this many records wait | 1000 |
    | MLOPS_PREDICTION_LOG_MAX_RECORDS | kept while the store is down | 50000 |
    | MLOPS_PREDICTION_LOG_MAX_BYTES | … and at most this much memory | 67108864 |
    """

    host: str
    port: int
    endpoint: str
    model_name: str
    model_version: str
    model_uri: str
    start_slots: Path | None
    model_dir: str
    drain_seconds: float
    shutdown_seconds: float
    keep_alive_seconds: int
    max_body_bytes: int
    inference_threads: int
    max_queue: int
    queue_seconds: float
    max_batch: int
    max_delay_seconds: float
    max_classes: int
    prediction_log: str
    log_spool: Path | None
    log_spool_is_shared: bool
    flush_seconds: float
    flush_rows: int
    log_max_records: int
    log_max_bytes: int
    check_output: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ModelServerSettings:
        """Read the variables above; raises SettingsError for the first that is bad."""
        _required(env, "MLOPS_MODEL_NAME")
        name = env["MLOPS_MODEL_NAME"]  # with its spaces, which are part of the name
        version = _required(env, "MLOPS_MODEL_VERSION")
        if "/" in name or "/" in version:
            bad = "MLOPS_MODEL_NAME" if "/" in name else "MLOPS_MODEL_VERSION"
            raise SettingsError(f"{bad} must not contain '/'; it is part of the server's paths")
        uri = env.get("MLOPS_MODEL_URI") or f"models:/{name}/{version}"
        folder = env.get("MLOPS_MODEL_DIR", "")
        remote = not folder and uri.startswith(("models:", "runs:"))
        if remote and not env.get("MLFLOW_TRACKING_URI"):
            raise SettingsError(
                f"MLFLOW_TRACKING_URI is not set; the model {uri} is looked up there"
            )
        location = env.get("MLOPS_PREDICTION_LOG", "")
        if location:
            try:
                store_for(location)
            except ValueError as error:
                raise SettingsError(f"MLOPS_PREDICTION_LOG: {error}") from None
        prefix = "MLOPS_PREDICTION_LOG"
        return cls(
            host=env.get("HOST") or "127.0.0.1",
            port=_integer(env, "PORT", 8080, least=0, most=65535),
            endpoint=_required(env, "MLOPS_ENDPOINT"),
            model_name=name,
            model_version=version,
            model_uri=uri,
            start_slots=Path(slots) if (slots := env.get("START_SLOTS_DIR", "")) else None,
            model_dir=folder,
            drain_seconds=_number(env, "MLOPS_DRAIN_SECONDS", 1.0),
            shutdown_seconds=_number(env, "MLOPS_SHUTDOWN_SECONDS", 30.0),
            keep_alive_seconds=_integer(env, "MLOPS_KEEP_ALIVE_SECONDS", 75),
            max_body_bytes=_integer(env, "MLOPS_MAX_BODY_BYTES", 16 * 1024 * 1024),
            inference_threads=_integer(env, "MLOPS_INFERENCE_THREADS", 1),
            max_queue=_integer(env, "MLOPS_MAX_QUEUE", 256),
            queue_seconds=_number(env, "MLOPS_QUEUE_SECONDS", 10.0),
            max_batch=_integer(env, "MLOPS_MAX_BATCH", 64),
            max_delay_seconds=_number(env, "MLOPS_MAX_DELAY_SECONDS", 0.0),
            max_classes=_integer(env, "MLOPS_MAX_CLASSES", 20),
            prediction_log=location,
            log_spool=Path(spool) if (spool := env.get(f"{prefix}_SPOOL", "")) else None,
            log_spool_is_shared=_choice(env, "SPOOL_SHARED", ("false", "true")) == "true",
            flush_seconds=_number(env, f"{prefix}_FLUSH_SECONDS", 10.0),
            flush_rows=_integer(env, f"{prefix}_FLUSH_ROWS", 1000),
            log_max_records=_integer(env, f"{prefix}_MAX_RECORDS", 50_000),
            log_max_bytes=_integer(env, f"{prefix}_MAX_BYTES", 64 * 1024 * 1024),
            check_output=_choice(env, "MLOPS_CHECK_OUTPUT", ("error", "warn")),
        )


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set")
    return value


def _choice(env: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = env.get(name, "").strip() or allowed[0]
    if value not in allowed:
        raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
    return value


def _integer(
    env: Mapping[str, str], name: str, default: int, *, least: int = 1, most: int | None = None
) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    allowed = f"a whole number from {least}" + (f" to {most}" if most is not None else "")
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}; it must be {allowed}") from None
    if value < least or (most is not None and value > most):
        raise SettingsError(f"{name} is {text!r}; it must be {allowed}")
    return value


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SettingsError(f"{name} is {text!r}; it must be a number of seconds, 0 or more")
    return value
