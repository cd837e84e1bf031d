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
from io import StringIO
from typing import Any

import orjson
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import infer_and_parse_data, parse_csv_input
from mlflow.pyfunc.utils.serving_data_parser import is_unified_llm_input

from pulumi_mlops.runtime.model_server import outputs
from pulumi_mlops.runtime.model_server.frames import block_of, direct_predict
from pulumi_mlops.runtime.model_server.http import SANE_ID, RequestError
from pulumi_mlops.runtime.model_server.signature import Signature, read_signature
from pulumi_mlops.runtime.model_server.tensors import TensorReader
from pulumi_mlops.runtime.prediction_log import Record

logger = logging.getLogger(__name__)

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


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
        self._tensors = TensorReader(self.signature)
        self._block = block_of(self.signature)
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
        request = _json_object(body)
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
        data, params, wrap, exact = self._parse_invocation(body, content_type)

        def answer(raw: Any) -> bytes:
            result = outputs.predictions(raw)
            return outputs.to_json({"predictions": result} if wrap else result)

        return Prepared(request_id, data, self._params(params), exact, answer)

    def predict(self, prepared: Prepared) -> Any:
        """The output of the model. Raises RequestError 400 or 500 when the model fails."""
        with _errors_of(prepared.id):
            return self._predict(prepared.data, prepared.params, exact=prepared.exact)

    def predict_batch(self, data: Any, *, exact: bool) -> Any:
        """The output of the model for the rows of several requests. Raises RequestError."""
        return self._predict(data, None, exact=exact)

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
            columns = {name: golden.data[name].to_numpy() for name in golden.data.columns}
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

    def _parse_invocation(self, body: bytes, content_type: str) -> tuple[Any, Any, bool, bool]:
        """The data, the params, whether to wrap the answer, whether the data is exact."""
        mime, _, rest = content_type.partition(";")
        mime = mime.strip().lower()
        charset = rest.strip().lower()
        if mime not in ("application/json", "text/csv") or charset not in ("", "charset=utf-8"):
            raise RequestError(
                415,
                f"Content-Type {content_type!r} is not supported; "
                "send application/json or text/csv, in UTF-8",
            )
        schema: Any = self.signature.input_schema
        try:
            if mime == "text/csv":
                text = StringIO(body.decode())
                return self._checked(parse_csv_input(text, schema)), None, True, False
            request = _json_object(body)
            if is_unified_llm_input(request):
                # Chat, completion and embedding models take the whole object, and answer one.
                params = {k: v for k, v in request.items() if k in self.signature.params}
                data = {k: v for k, v in request.items() if k not in params}
                return data, params or None, False, False
            given = {key: request[key] for key in FORMATS if key in request}
            if len(given) != 1:
                raise RequestError(
                    400,
                    f"expected exactly one of {', '.join(FORMATS)}; "
                    f"got {', '.join(request) or 'nothing'}",
                )
            asked = request.get("params")
            if self.signature.raw:
                if "inputs" not in given:
                    raise RequestError(400, "this model has type hints: send its value as 'inputs'")
                return given["inputs"], asked, True, False
            if self._block is not None and "dataframe_split" in given:
                frame = self._block.from_split(given["dataframe_split"])
                if frame is not None:
                    return frame, asked, True, True
            data = infer_and_parse_data(given, schema)
            return self._checked(data), asked, True, False
        except MlflowException as error:
            raise RequestError(400, _first_line(error)) from None
        except UnicodeDecodeError:
            raise RequestError(400, "the body is not UTF-8") from None

    def _checked(self, data: Any) -> Any:
        """Missing columns by name, before MLflow's enforcement prints the whole data."""
        columns = getattr(data, "columns", data if isinstance(data, dict) else None)
        if columns is None or not self.signature.named:
            return data
        missing = [i.name for i in self.signature.inputs if i.required and i.name not in columns]
        if missing:
            raise RequestError(
                400,
                f"column(s) {', '.join(map(repr, missing))} missing; got "
                f"{', '.join(repr(str(c)) for c in columns)}, expected "
                f"{self.signature.describe_inputs()}",
            )
        return data

    def _params(self, given: Any) -> dict[str, Any] | None:
        """The parameters of a request that the model has."""
        if given is None:
            return None
        if not isinstance(given, dict):
            raise RequestError(400, "params: expected an object")
        # V2's parameters also carry hints of the protocol, which no model asked for.
        return {key: given[key] for key in given if key in self.signature.params} or None

    def _predict(self, data: Any, params: dict[str, Any] | None, *, exact: bool) -> Any:
        try:
            if exact and self._direct is not None:
                return self._direct(data)
            return self.pyfunc.predict(data, params=params)
        except MlflowException as error:
            if int(error.get_http_status_code()) < 500:  # type: ignore[no-untyped-call]
                raise RequestError(400, _first_line(error)) from None
            logger.exception("the model failed")
            raise RequestError(500, f"the model failed: {_first_line(error)}") from None
        except Exception as error:
            logger.exception("the model failed")
            message = f"the model failed: {type(error).__name__}: {error}"
            raise RequestError(500, message.splitlines()[0][:500]) from None


@contextmanager
def _errors_of(request_id: str) -> Iterator[None]:
    """Add the id of the request to its errors."""
    try:
        yield
    except RequestError as error:
        error.request_id = request_id
        raise


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "the body is not a JSON object")
    return value


def _first_line(error: MlflowException) -> str:
    """MLflow's message without the dump of the client's data that precedes its reason."""
    message: str = error.message
    if message.startswith("Failed to enforce schema") and "Error: " in message:
        message = "the model's signature: " + message.rpartition("Error: ")[2]
    return message.splitlines()[0][:500] if message else type(error).__name__
