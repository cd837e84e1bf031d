"""From the bytes of a request to the bytes of the response: the one path to the model.

`v2` and `invocations` run on an inference thread, `classes` and `record` on the event loop once the
response is sent. The golden request runs on the loading thread, with MLflow's enforcement of the
signature. Live requests skip the enforcement only if the golden request had the same result
without it (`use_direct`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException

from pulumi_mlops.runtime.model_server import outputs, payload
from pulumi_mlops.runtime.model_server.frames import answers_rows, block_of, direct_predict
from pulumi_mlops.runtime.model_server.http import SANE_ID, RequestError
from pulumi_mlops.runtime.model_server.invocations import InvocationReader, reason_of
from pulumi_mlops.runtime.model_server.signature import Signature, read_signature
from pulumi_mlops.runtime.model_server.tensors import TensorReader
from pulumi_mlops.runtime.prediction_log import Record

logger = logging.getLogger(__name__)


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
        """Answer an Open Inference Protocol request; its own ``id`` wins over the header's.

        Raises RequestError: 400 for what the client did wrong, 500 when the model fails.
        """
        request = payload.json_object(body)
        own_id = request.get("id")
        if own_id is not None:
            if not isinstance(own_id, str) or not SANE_ID.fullmatch(own_id):
                raise RequestError(400, "id: expected 1 to 128 characters of A-Za-z0-9._:/+=@~-")
            request_id = own_id
        try:
            data, columns = self._tensors.read(request.get("inputs"))
            raw = self._predict(data, request.get("parameters"), exact=self._block is not None)
            tensors = outputs.to_tensors(raw, self.signature)
            tensors = outputs.select(tensors, request.get("outputs"))
        except RequestError as error:
            error.request_id = request_id
            raise
        answer = {
            "model_name": self.name,
            "model_version": self.version,
            "id": request_id,
            "outputs": tensors,
        }
        return Answer(request_id, outputs.to_json(answer), data, raw, columns)

    def invocations(self, body: bytes, content_type: str, request_id: str) -> Answer:
        """Answer a request of MLflow's scoring protocol; parsing is MLflow's own.

        Raises RequestError: 4xx for what the client did wrong, 500 when the model fails.
        """
        data, params, wrap, exact = self._invocations.read(body, content_type)
        raw = self._predict(data, params, exact=exact)
        result = outputs.predictions(raw)
        text = outputs.to_json({"predictions": result} if wrap else result)
        return Answer(request_id, text, data, raw)

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
        except Exception:
            logger.info("predictions go through MLflow's enforcement", exc_info=True)
            return False
        same = type(raw) is type(golden.raw) and (
            outputs.to_json(outputs.predictions(raw))
            == outputs.to_json(outputs.predictions(golden.raw))
        )
        self._direct = function if same else None
        return same

    def _predict(self, data: Any, params: Any, *, exact: bool) -> Any:
        if not self.signature.params:
            params = None  # MLflow ignores what the signature does not have
        if params is not None:
            if not isinstance(params, dict):
                raise RequestError(400, "params: expected an object")
            # V2's parameters also carry hints of the protocol, which no model asked for.
            params = {key: params[key] for key in params if key in self.signature.params} or None
        try:
            if exact and self._direct is not None:
                raw = self._direct(data)
            else:
                raw = self.pyfunc.predict(data, params=params)
        except Exception as error:
            raise _failure(error, data) from error
        if self.answers_rows and (reason := outputs.rows_differ(raw, data)):
            raise RequestError(500, reason)
        return raw


def _failure(error: Exception, data: Any) -> RequestError:
    """What a failed prediction answers: 400 for the client's data, 500 for the model."""
    if isinstance(error, MlflowException) and int(error.get_http_status_code()) < 500:  # type: ignore[no-untyped-call]
        return RequestError(400, reason_of(error))
    if outputs.row_count(data) == 0:
        return RequestError(400, f"no rows, which the model does not accept: {reason_of(error)}")
    logger.error("the model failed", exc_info=error)
    return RequestError(500, f"the model failed: {reason_of(error)}")
