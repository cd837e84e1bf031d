"""Runs the application: listens at once, loads in the background, drains on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from pulumi_mlops.runtime.model_server.app import App
from pulumi_mlops.runtime.model_server.loader import Loader
from pulumi_mlops.runtime.model_server.metrics import Metrics
from pulumi_mlops.runtime.model_server.one_write import OneWriteProtocol
from pulumi_mlops.runtime.model_server.settings import ModelServerSettings, SettingsError
from pulumi_mlops.runtime.prediction_log import PredictionLog
from pulumi_mlops.runtime.prediction_store import store_for

if TYPE_CHECKING:
    from pulumi_mlops.runtime.model_server.inference import Inference

logger = logging.getLogger(__name__)

BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT: not ready but serving for a while, then finish requests in flight.

    A second signal skips the while. uvicorn's own handler would stop listening at once, and after
    a clean stop raise the signal again, so that the exit code would not be 0.
    """

    def __init__(self, config: uvicorn.Config, app: App, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called in the main thread, in the middle of anything: only sets flags."""
        if self._app.state.draining:
            self.should_exit = True
            return
        self._app.state.draining = True
        logger.info(
            "%s: not ready, stopping in %g s", signal.Signals(sig).name, self._drain_seconds
        )
        timer = threading.Timer(self._drain_seconds, self._exit)
        timer.daemon = True
        timer.start()

    def _exit(self) -> None:
        self.should_exit = True


def listen(settings: ModelServerSettings) -> socket.socket:
    """The listening socket. Raises SettingsError if the address cannot be bound."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        # create_server() adds the address to the message, which is named here already.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise SettingsError(
            f"HOST, PORT: cannot listen on {settings.host}:{settings.port}: {reason}"
        ) from None


def run(settings: ModelServerSettings) -> int:
    """Serve until a signal; returns the exit code, 0 after a clean stop."""
    listener = listen(settings)
    log = None
    if settings.prediction_log:
        log = PredictionLog(
            store_for(settings.prediction_log),
            endpoint=settings.endpoint,
            model=settings.model_name,
            version=settings.model_version,
            flush_rows=settings.flush_rows,
            flush_seconds=settings.flush_seconds,
            max_records=settings.log_max_records,
            max_bytes=settings.log_max_bytes,
            spool=settings.log_spool,
            spool_is_shared=settings.log_spool_is_shared,
        )
    metrics = Metrics(settings, log.stats if log else None)
    app = App(settings, metrics, log)

    def on_ready(inference: Inference) -> None:
        app.state.inference = inference
        metrics.model_loaded()
        logger.info("ready: %s version %s", settings.model_name, settings.model_version)

    def on_failure(reason: str, final: bool) -> None:
        app.state.reason = reason
        app.state.failed = final

    loader = Loader(settings, on_ready, on_failure)
    config = uvicorn.Config(
        app,
        http=OneWriteProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
        backlog=BACKLOG,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = DrainingServer(config, app, settings.drain_seconds)
    host, port = listener.getsockname()[:2]
    logger.info("listening on %s:%d, loading %s", host, port, settings.model_uri)
    loader.start()
    try:
        uvloop.run(server.serve(sockets=[listener]))
    finally:
        app.close()
        if log is not None:
            log.close()
        loader.stop()
    return 0


def exit_now(code: int) -> None:
    """Leave without waiting for threads: a load or a prediction that never ends must not keep a
    stopped server alive. Everything that must be written has been.
    """
    logging.shutdown()
    os._exit(code)
