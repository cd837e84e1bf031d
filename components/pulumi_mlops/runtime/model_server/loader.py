"""Fetches and loads the model, and checks it with the golden request."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pulumi_mlops.runtime.model_files import NotRegisteredError, download
from pulumi_mlops.runtime.model_server.settings import ModelServerSettings
from pulumi_mlops.runtime.model_server.start_slots import low_priority, start_slot

if TYPE_CHECKING:
    from pulumi_mlops.runtime.model_server.inference import Inference

logger = logging.getLogger(__name__)

RETRY_SECONDS = (2.0, 5.0, 10.0, 30.0)


class LoadError(Exception):
    """Why the model cannot be served; one line, for the health checker."""


class Loader:
    """Loads in a background thread, since the server answers health checks from its first moment.

    Fetching is retried for ever with back-off (2 s to 30 s): the tracking server or the store may
    come up later. A version that is not registered, a model that does not load, or one that fails
    its golden request, is not tried again: nothing would change.
    """

    def __init__(
        self,
        settings: ModelServerSettings,
        on_ready: Callable[[Inference], None],
        on_failure: Callable[[str, bool], None],
    ) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._stop = threading.Event()
        self._folder = tempfile.TemporaryDirectory(
            prefix="mlops-model-", ignore_cleanup_errors=True
        )
        self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)

    def start(self) -> None:
        """Begin loading."""
        self._thread.start()

    def stop(self) -> bool:
        """Stop waiting and remove the fetched files. False while a load is still running."""
        self._stop.set()
        self._thread.join(timeout=0.5)
        self._folder.cleanup()
        return not self._thread.is_alive()

    def _run(self) -> None:
        with low_priority():
            inference = self._load()
        if inference is not None:
            self._on_ready(inference)

    def _slot(self) -> contextlib.AbstractContextManager[None]:
        return start_slot(self._settings.start_slots, self._stop)

    def _load(self) -> Inference | None:
        """The model; None if it does not load, or if the server stops."""
        # This server has its own retry, which reports the reason between attempts.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        attempt = 0
        while not self._stop.is_set():
            try:
                with self._slot():
                    importlib.import_module("mlflow")
                path = fetch(self._settings, self._folder.name)
                break
            except ImportError as error:  # the environment lacks a package, which no retry adds
                self._on_failure(f"MLflow does not load: {one_line(error)}", True)
                logger.exception("not ready: MLflow does not load")
                return None
            except LoadError as error:
                logger.error("not ready: %s", error)
                self._on_failure(str(error), True)
                return None
            except Exception as error:
                wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                reason = one_line(error)
                self._on_failure(f"{reason}; trying again every {wait:.0f} s", False)
                logger.warning("not ready: %s; trying again in %.0f s", reason, wait)
                attempt += 1
                self._stop.wait(wait)
        else:
            return None
        try:
            with self._slot():
                return load(self._settings, path)
        except LoadError as error:
            logger.error("not ready: %s", error)
            self._on_failure(str(error), True)
        except Exception as error:
            logger.exception("not ready: the model does not load")
            self._on_failure(f"the model does not load: {one_line(error)}", True)
        return None


def fetch(settings: ModelServerSettings, folder: str) -> str:
    """The folder with the model's files: MLOPS_MODEL_DIR, or a download into ``folder``.

    Raises LoadError naming the registered versions when this one is not among them, and whatever
    MLflow or the store raises.
    """
    if settings.model_dir:
        return settings.model_dir
    if settings.model_uri == f"models:/{settings.model_name}/{settings.model_version}":
        target = Path(folder, "model")
        try:
            download(settings.model_name, settings.model_version, target)
        except NotRegisteredError as error:
            raise LoadError(str(error)) from None
        return str(target)
    import mlflow  # noqa: PLC0415

    return str(mlflow.artifacts.download_artifacts(settings.model_uri, dst_path=folder))


def load(settings: ModelServerSettings, path: str) -> Inference:
    """Load the model at ``path`` and check it.

    The golden request is the input example that the model was logged with, in the serving form
    that MLflow stored beside it. A model without an example is probed with requests made from its
    signature. Raises LoadError when a check fails; with MLOPS_CHECK_OUTPUT=warn it is logged.
    """
    # MLflow's own servers set it: type hints then accept base64 for bytes and text for dates.
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    import mlflow  # noqa: PLC0415

    # Heavy imports (numpy, pandas, MLflow) happen here, in the background.
    from pulumi_mlops.runtime.model_server.inference import Inference  # noqa: PLC0415
    from pulumi_mlops.runtime.model_server.mlflow_compat import serving_input  # noqa: PLC0415
    from pulumi_mlops.runtime.model_server.verification import (  # noqa: PLC0415
        CheckFailed,
        verify_example,
        verify_signature,
    )

    inference = Inference(
        mlflow.pyfunc.load_model(path), settings.model_name, settings.model_version
    )
    golden = serving_input(inference.pyfunc.metadata, path)
    try:
        if golden:
            verify_example(inference, golden.encode())
        else:
            verify_signature(inference)
    except CheckFailed as error:
        if settings.check_output == "error":
            raise LoadError(f"{error}, or set `check_output: warn`") from None
        logger.warning("ready in spite of a failed check: %s", error)
    return inference


def one_line(error: BaseException) -> str:
    """An exception as one line of at most 500 characters."""
    text = " ".join(str(error).split()) or "no message"
    prefix = "" if isinstance(error, LoadError) else f"{type(error).__name__}: "
    return (prefix + text)[:500]
