"""Requests of MLflow's scoring protocol to the input of the model; parsing is MLflow's own."""

from __future__ import annotations

import logging
from io import BytesIO, StringIO
from typing import Any

import pandas as pd

from pulumi_mlops.runtime.model_server import payload
from pulumi_mlops.runtime.model_server.frames import Block
from pulumi_mlops.runtime.model_server.http import RequestError
from pulumi_mlops.runtime.model_server.mlflow_compat import (
    MlflowException,
    infer_and_parse_data,
    is_unified_llm_input,
    parse_csv_input,
)
from pulumi_mlops.runtime.model_server.signature import Signature

logger = logging.getLogger(__name__)

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class InvocationReader:
    """Reads the requests to `/invocations` for one signature."""

    def __init__(self, signature: Signature, block: Block | None) -> None:
        self._signature = signature
        self._schema: Any = signature.input_schema
        self._block = block

    def read(self, body: bytes, content_type: str) -> tuple[Any, Any, bool, bool]:
        """The data, the params, whether to wrap the answer, whether the data is exact.

        Raises RequestError 400 or 415.
        """
        mime = payload.media_type(content_type)
        try:
            if mime == payload.JSON:
                return self._json(body)
            if mime == payload.PARQUET:
                return self._checked(pd.read_parquet(BytesIO(body))), None, True, False
            text = body.decode()
            payload.check_csv(text)
            return self._checked(self._csv(text)), None, True, False
        except RequestError:
            raise
        except MlflowException as error:
            raise RequestError(400, reason_of(error)) from None
        except UnicodeDecodeError:
            raise RequestError(400, "the body is not UTF-8") from None
        except Exception as error:  # what a parser cannot read is the client's mistake
            logger.info("a request cannot be read", exc_info=True)
            raise RequestError(400, f"the body cannot be read: {reason_of(error)}") from None

    def _csv(self, text: str) -> Any:
        return parse_csv_input(StringIO(text), self._schema)

    def _json(self, body: bytes) -> tuple[Any, Any, bool, bool]:
        request = payload.json_object(body)
        chat = is_unified_llm_input(request)
        forms = [key for key in FORMATS if key in request]
        if self._block is not None and forms == ["dataframe_split"] and not chat:
            frame = self._block.from_split(request["dataframe_split"])
            if frame is not None:
                return frame, request.get("params"), True, True
        if payload.has_long_integer(body):
            request = payload.exact_json_object(body)
        if chat:
            # Chat, completion and embedding models take the whole object, and answer one.
            params = {k: v for k, v in request.items() if k in self._signature.params}
            data = {k: v for k, v in request.items() if k not in params}
            return data, params or None, False, False
        asked = request.get("params")
        if self._signature.raw:
            if "inputs" not in forms:
                raise RequestError(400, "this model has type hints: send its value as 'inputs'")
            return request["inputs"], asked, True, False
        if len(forms) != 1:
            raise RequestError(
                400,
                f"expected exactly one of {', '.join(FORMATS)}; "
                f"got {', '.join(request) or 'nothing'}",
            )
        form = {forms[0]: request[forms[0]]}
        payload.check_split(form.get("dataframe_split"))
        data = infer_and_parse_data(form, self._schema)
        return self._checked(data), asked, True, False

    def _checked(self, data: Any) -> Any:
        """Missing columns by name, before MLflow's enforcement prints the whole data."""
        columns = getattr(data, "columns", data if isinstance(data, dict) else None)
        if columns is None or not self._signature.named:
            return data
        inputs = self._signature.inputs
        missing = [item.key for item in inputs if item.required and item.key not in columns]
        if missing:
            integers = any(isinstance(key, int) and str(key) in columns for key in missing)
            raise RequestError(
                400,
                f"column(s) {', '.join(map(repr, missing))} missing; got "
                f"{', '.join(map(repr, columns))}, expected {self._signature.describe_inputs()}"
                + ("; the names are integers: send 'dataframe_split'" if integers else ""),
            )
        return data


def reason_of(error: BaseException) -> str:
    """An exception as one line of at most 500 characters.

    MLflow's own messages come without the dump of the client's data that precedes their reason.
    """
    if not isinstance(error, MlflowException):
        return f"{type(error).__name__}: {error}".splitlines()[0][:500]
    message: str = error.message
    if message.startswith("Failed to enforce schema") and "Error: " in message:
        message = "the model's signature: " + message.rpartition("Error: ")[2]
    return message.splitlines()[0][:500] if message else type(error).__name__
