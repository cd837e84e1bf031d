"""Micro-batching: requests that wait at the same time are answered by one call of the model.

Combined are requests of one form: the same columns and types, or arrays of the same type and shape
of a row, without parameters. Each request gets its rows of the output, and an error stays with its
own request: when the combined call fails, each request is predicted alone.

Rows of a model may depend on one another, which a signature cannot say. So the first combined
calls are checked: their requests are predicted alone as well and get those answers. Batching ends
for good when an answer differs, or when the output does not have one row per row of the input.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pulumi_mlops.runtime.model_server import outputs
from pulumi_mlops.runtime.model_server.http import RequestError

if TYPE_CHECKING:
    from pulumi_mlops.runtime.model_server.inference import Inference, Prepared
    from pulumi_mlops.runtime.model_server.request_queue import Outcome, QueuedRequest
    from pulumi_mlops.runtime.model_server.signature import Signature

logger = logging.getLogger(__name__)

_CHECKED_CALLS = 3
_MAX_UNUSED = 10
"""So many combined calls in a row that were of no use end batching."""


class Unusable(Exception):
    """The output of a combined call cannot be divided among its requests."""

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.final = final


class Batcher:
    """Answers jobs with one model, combined where possible. Its methods run on inference threads.

    The `request` of a job is a function from the model to the request that was read.
    """

    def __init__(self, inference: Inference, max_batch: int) -> None:
        self.inference = inference
        self._to_check = _CHECKED_CALLS
        self._unused = 0
        self.max_batch = max_batch if has_batch_dimension(inference.signature) else 1

    def run(self, jobs: list[QueuedRequest]) -> Iterator[list[Outcome]]:
        """Answer the jobs, in parts as soon as they are ready."""
        outcomes: list[Outcome] = []
        groups: dict[Any, list[tuple[QueuedRequest, Prepared]]] = {}
        for job in jobs:
            try:
                prepared = job.request(self.inference)
            except BaseException as error:
                outcomes.append((job, error))
            else:
                key = form(prepared) if self.max_batch > 1 and len(jobs) > 1 else None
                groups.setdefault(key or job, []).append((job, prepared))
        if outcomes:
            yield outcomes
        for group in groups.values():
            for part in self._parts(group):
                yield from self._part(part)

    def _parts(
        self, group: list[tuple[QueuedRequest, Prepared]]
    ) -> Iterator[list[tuple[QueuedRequest, Prepared]]]:
        """Parts of a group with at most `max_batch` rows; a larger request is a part of its own."""
        part: list[tuple[QueuedRequest, Prepared]] = []
        rows = 0
        for job, prepared in group:
            size = 1 if len(group) == 1 else row_count(prepared.data)
            if part and rows + size > self.max_batch:
                yield part
                part, rows = [], 0
            part.append((job, prepared))
            rows += size
        yield part

    def _part(self, part: list[tuple[QueuedRequest, Prepared]]) -> Iterator[list[Outcome]]:
        part = [(job, prepared) for job, prepared in part if not job.gone]
        combined = len(part) > 1 and self.max_batch > 1
        if combined:
            pieces = self._combined([prepared for _, prepared in part])
            if pieces is not None:
                yield [
                    (job, self._answer(prepared, piece))
                    for (job, prepared), piece in zip(part, pieces, strict=True)
                ]
                return
        failed = False
        for job, prepared in part:
            if not job.gone:
                outcome = self._single(prepared)
                failed = failed or isinstance(outcome, BaseException)
                yield [(job, outcome)]
        if combined and not failed:
            self._note_unused()

    def _single(self, prepared: Prepared) -> Any:
        try:
            raw = self.inference.predict(prepared)
        except BaseException as error:
            return error
        return self._answer(prepared, raw)

    def _answer(self, prepared: Prepared, raw: Any) -> Any:
        try:
            return self.inference.answer(prepared, raw)
        except BaseException as error:
            return error

    def _combined(self, requests: list[Prepared]) -> list[Any] | None:
        """The output of each request from one call, or None if each must be predicted alone."""
        sizes = [row_count(prepared.data) for prepared in requests]
        try:
            data = combine([prepared.data for prepared in requests])
            raw = self.inference.predict_batch(data, exact=requests[0].exact)
            pieces = divide(raw, sizes)
            if self._to_check > 0:  # several threads may count down at once
                pieces = self._checked(requests, pieces)
        except Unusable as error:
            if error.final:
                self._end(str(error))
            return None
        except RequestError:
            return None
        self._unused = 0
        return pieces

    def _checked(self, requests: list[Prepared], pieces: list[Any]) -> list[Any]:
        """The outputs of the requests predicted alone. Raises Unusable if `pieces` differ."""
        singles = [self.inference.predict(prepared) for prepared in requests]
        for single, piece in zip(singles, pieces, strict=True):
            if not same(outputs.predictions(single), outputs.predictions(piece)):
                raise Unusable("answers depend on the other rows of a call", final=True)
        self._to_check -= 1
        return singles

    def _note_unused(self) -> None:
        """A combined call was of no use, though each of its requests alone was answered."""
        self._unused += 1
        if self._unused == _MAX_UNUSED:
            self._end(f"{_MAX_UNUSED} combined calls in a row were of no use")

    def _end(self, reason: str) -> None:
        if self.max_batch > 1:
            logger.warning("requests are not combined from now on: %s", reason)
            self.max_batch = 1


def has_batch_dimension(signature: Signature) -> bool:
    """Whether rows of several requests can be one input: columns, or tensors of any length."""
    inputs = signature.inputs
    if not inputs or signature.raw:
        return False
    return signature.tabular or all(len(i.shape) > 0 and i.shape[0] == -1 for i in inputs)


def form(prepared: Prepared) -> Any:
    """The key that combinable requests share. None for a request that is always predicted alone."""
    data = prepared.data
    if prepared.params:
        return None
    if isinstance(data, pd.DataFrame):
        return _frame_form(data, exact=prepared.exact)
    named = data if isinstance(data, dict) else {"": data}
    if not all(isinstance(array, np.ndarray) and array.ndim for array in named.values()):
        return None
    lengths = {len(array) for array in named.values()}
    if len(lengths) != 1 or 0 in lengths:
        return None
    return type(data), *((name, array.dtype, array.shape[1:]) for name, array in named.items())


def _frame_form(frame: pd.DataFrame, *, exact: bool) -> Any:
    index = frame.index
    plain = isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1
    if not plain or not len(frame):
        return None
    return pd.DataFrame if exact else (pd.DataFrame, tuple(frame.columns), tuple(frame.dtypes))


def row_count(data: Any) -> int:
    """The rows of data that can be combined."""
    return len(next(iter(data.values()))) if isinstance(data, dict) else len(data)


def combine(parts: list[Any]) -> Any:
    """The rows of all parts, which have the same form."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in first}
    types = set(first.dtypes)
    # Not the nullable types of pandas, which have the same kinds.
    if len(types) == 1 and isinstance(dtype := types.pop(), np.dtype) and dtype.kind in "iufb":
        # A tenth of the time of concat().
        return pd.DataFrame(
            np.concatenate([part.to_numpy() for part in parts]), columns=first.columns
        )
    return pd.concat(parts, ignore_index=True)


def divide(raw: Any, sizes: list[int]) -> list[Any]:
    """The rows of each request, as the model would have returned them.

    Raises Unusable.
    """
    rows = sum(sizes)
    arrays: Iterable[Any]
    if isinstance(raw, dict):
        arrays = list(raw.values())
    elif isinstance(raw, pd.DataFrame):
        arrays = [raw.iloc[:, index] for index in range(raw.shape[1])]
    else:
        arrays = [raw]
    for array in arrays:
        if not isinstance(array, np.ndarray | pd.Series | list):
            raise Unusable(f"the output is a {type(array).__name__}", final=True)
        if getattr(array, "ndim", 1) == 0 or len(array) != rows:
            raise Unusable("the output does not have one row per row of the input", final=True)
        if not isinstance(array, list) and not _kept_type(array):
            raise Unusable("the type of an output may be that of another request", final=False)
    pieces = []
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        start += size
        if isinstance(raw, dict):
            pieces.append({name: array[part] for name, array in raw.items()})
        elif isinstance(raw, pd.DataFrame | pd.Series):
            pieces.append(raw.iloc[part])
        else:
            pieces.append(raw[part])
    return pieces


def _kept_type(array: Any) -> bool:
    """Whether no value was converted for the sake of another: 1 is 1.0 beside a missing value."""
    dtype = array.dtype
    if dtype.kind in "iub" or dtype.kind in "SU":
        return True
    if dtype.kind == "O" and not isinstance(dtype, pd.StringDtype):
        return len({type(value) for value in np.asarray(array).flat}) == 1
    return not bool(pd.isna(np.asarray(array)).any())


def same(single: Any, piece: Any) -> bool:
    """Equal but for rounding: sums of floats depend on the number of rows of a matrix."""
    if type(single) is not type(piece):
        return False
    if isinstance(single, list | tuple):
        return len(single) == len(piece) and all(map(same, single, piece))
    if isinstance(single, dict):
        return single.keys() == piece.keys() and all(
            same(value, piece[key]) for key, value in single.items()
        )
    if isinstance(single, np.ndarray):
        return single.dtype == piece.dtype and same(single.tolist(), piece.tolist())
    if isinstance(single, float | np.floating):
        return math.isclose(single, piece, rel_tol=1e-3, abs_tol=1e-6) or (
            math.isnan(single) and math.isnan(piece)
        )
    return bool(single == piece)
