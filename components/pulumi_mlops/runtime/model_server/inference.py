"""From the bytes of a request to the bytes of the response: the one path to the model.

A request is read, predicted and answered on an inference thread; `batching` combines requests
between the first and the last. `classes` and `record` run on the event loop before the response
is sent. The golden request runs on the loading thread, with MLflow's enforcement of the
signature. Live requests skip the enforcement only if the golden request had the same result
without it (`use_direct`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pulumi_mlops.runtime.model_server import outputs, payload
from pulumi_mlops.runtime.model_server.frames import answers_rows, block_of, direct_predict
from pulumi_mlops.runtime.model_server.http import SANE_ID, RequestError
from pulumi_mlops.runtime.model_server.invocations import InvocationReader, reason_of
from pulumi_mlops.runtime.model_server.mlflow_compat import MlflowException
from pulumi_mlops.runtime.model_server.signature import Signature, read_signature
from pulumi_mlops.runtime.model_server.tensors import TensorReader
from pulumi_mlops.runtime.prediction_log import Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that was read: the input of the model, and how its output becomes the answer."""

    id: str
    data: Any
    params: dict[str, Any] | None
    exact: bool
    """Whether `data` has the signature's exact form, so that MLflow need not enforce it."""
    body: Callable[[Any], bytes]
    """The body of the response from the output of the model."""
    columns: dict[str, Any] | None = None  # data by column, when known already


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction: the body of the response, the input and the output of the model."""

    id: str
    body: bytes
    data: Any
    raw: Any
    columns: dict[str, Any] | None = None  # data by column, when known already


class Inference:
    """One loaded model behind both protocols."""

    def __init__(self, pyfunc: Any, name: str, version: str) -> None:
        self.pyfunc = pyfunc
        self.name = name
        self.version = version
        self.signature: Signature = read_signature(pyfunc.metadata)
        self.answers_rows = answers_rows(pyfunc)
        """Whether the model answers one row for each row of a request."""
        self._tensors = TensorReader(self.signature)
        self._block = block_of(self.signature)
        self._invocations = InvocationReader(self.signature, self._block)
        self._direct: Callable[[Any], Any] | None = None

    def v2(self, body: bytes, request_id: str) -> Answer:
        """Answer an Open Inference Protocol request. See `prepare_v2`."""
        return self.complete(self.prepare_v2(body, request_id))

    def invocations(self, body: bytes, content_type: str, request_id: str) -> Answer:
        """Answer a request of MLflow's scoring protocol. See `prepare_invocations`."""
        return self.complete(self.prepare_invocations(body, content_type, request_id))

    def complete(self, prepared: Prepared) -> Answer:
        """Predict and answer. Raises RequestError 500 when the model fails."""
        return self.answer(prepared, self.predict(prepared))

    def prepare_v2(self, body: bytes, request_id: str) -> Prepared:
        """Read an Open Inference Protocol request; its own ``id`` wins over the header's.

        Raises RequestError 400 for what the client did wrong.
        """
        request = payload.json_object(body)
        own_id = request.get("id")
        if own_id is not None:
            if not isinstance(own_id, str) or not SANE_ID.fullmatch(own_id):
                raise RequestError(400, "id: expected 1 to 128 characters of A-Za-z0-9._:/+=@~-")
            request_id = own_id
        wanted = request.get("outputs")

        def answer(raw: Any) -> bytes:
            tensors = outputs.select(outputs.to_tensors(raw, self.signature), wanted)
            return outputs.to_json(
                {
                    "model_name": self.name,
                    "model_version": self.version,
                    "id": request_id,
                    "outputs": tensors,
                }
            )

        with _errors_of(request_id):
            data, columns = self._tensors.read(request.get("inputs"))
            params = self._params(request.get("parameters"))
        return Prepared(request_id, data, params, self._block is not None, answer, columns)

    def prepare_invocations(self, body: bytes, content_type: str, request_id: str) -> Prepared:
        """Read a request of MLflow's scoring protocol; parsing is MLflow's own.

        Raises RequestError 4xx for what the client did wrong.
        """
        data, params, wrap, exact = self._invocations.read(body, content_type)

        def answer(raw: Any) -> bytes:
            result = outputs.predictions(raw)
            return outputs.to_json({"predictions": result} if wrap else result)

        return Prepared(request_id, data, self._params(params), exact, answer)

    def predict(self, prepared: Prepared) -> Any:
        """The output of the model. Raises RequestError 400 or 500 when the model fails."""
        with _errors_of(prepared.id):
            raw = self._predict(prepared.data, prepared.params, exact=prepared.exact)
            if self.answers_rows and (reason := outputs.rows_differ(raw, prepared.data)):
                raise RequestError(500, reason)
        return raw

    def predict_batch(self, data: Any, *, exact: bool) -> Any:
        """The output of the model for the rows of several requests. Raises RequestError.

        Its number of rows is not checked. A failure is logged at debug level, since each request
        is predicted alone next.
        """
        return self._predict(data, None, exact=exact, level=logging.DEBUG)

    def answer(self, prepared: Prepared, raw: Any) -> Answer:
        """The answer from the output of the model. Raises RequestError."""
        with _errors_of(prepared.id):
            body = prepared.body(raw)
        return Answer(prepared.id, body, prepared.data, raw, prepared.columns)

    def classes(self, answer: Answer) -> list[Any]:
        """The predicted classes; empty if the model does not predict classes."""
        return outputs.classes(answer.raw) if self.signature.discrete else []

    def record(self, answer: Answer, time: float, latency_seconds: float) -> Record:
        """The record of a prediction in the prediction log."""
        return Record(
            id=answer.id,
            time=time,
            inputs=outputs.to_json(answer.columns or outputs.inputs_by_column(answer.data)),
            outputs=outputs.to_json(outputs.predictions(answer.raw)),
            latency_seconds=latency_seconds,
        )

    def use_direct(self, golden: Answer) -> bool:
        """Skip MLflow's second enforcement from now on, if it changes nothing for this model.

        Only data that this server has put into the signature's exact form takes the direct way,
        and only when the golden request gets the same answer by both.
        """
        function = direct_predict(self.pyfunc, self.signature) if self._block else None
        if function is None or not isinstance(golden.data, pd.DataFrame):
            return False
        try:
            inputs = self.signature.inputs
            columns = {item.name: golden.data[item.key].to_numpy() for item in inputs}
            raw = function(self._block.frame(columns, len(golden.data)))  # type: ignore[union-attr]
        except BaseException:
            logger.info("predictions go through MLflow's enforcement", exc_info=True)
            return False
        same = type(raw) is type(golden.raw) and (
            outputs.to_json(outputs.predictions(raw))
            == outputs.to_json(outputs.predictions(golden.raw))
        )
        self._direct = function if same else None
        return same

    def _params(self, given: Any) -> dict[str, Any] | None:
        """The parameters of a request that the model has."""
        if given is None or not self.signature.params:
            return None  # MLflow ignores what the signature does not have
        if not isinstance(given, dict):
            raise RequestError(400, "params: expected an object")
        # V2's parameters also carry hints of the protocol, which no model asked for.
        return {key: given[key] for key in given if key in self.signature.params} or None

    def _predict(
        self,
        data: Any,
        params: dict[str, Any] | None,
        *,
        exact: bool,
        level: int = logging.ERROR,
    ) -> Any:
        try:
            if exact and self._direct is not None:
                return self._direct(data)
            return self.pyfunc.predict(data, params=params)
        except BaseException as error:  # also sys.exit() and a panic of an extension in Rust
            raise _failure(error, data, level) from error


def _failure(error: BaseException, data: Any, level: int) -> RequestError:
    """What a failed prediction answers: 400 for the client's data, 500 for the model."""
    if isinstance(error, MlflowException) and int(error.get_http_status_code()) < 500:  # type: ignore[no-untyped-call]
        return RequestError(400, reason_of(error))
    if outputs.row_count(data) == 0:
        return RequestError(400, f"no rows, which the model does not accept: {reason_of(error)}")
    logger.log(level, "the model failed", exc_info=error)
    return RequestError(500, f"the model failed: {reason_of(error)}")


@contextmanager
def _errors_of(request_id: str) -> Iterator[None]:
    """Add the id of the request to its errors."""
    try:
        yield
    except RequestError as error:
        error.request_id = request_id
        raise
