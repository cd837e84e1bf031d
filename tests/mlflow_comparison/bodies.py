"""The requests of the comparison, generated from valid input of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.utils.proto_json_utils import NumpyEncoder

from .case import CSV, JSON, PARQUET, Body, Model, body

MANY = 100_000
HUGE = 2**70


def requests(model: Model, *, whole: bool) -> list[Body]:
    """The requests to a model; ``whole`` adds those of many rows."""
    sample = model.sample
    if isinstance(sample, pd.DataFrame):
        generated = [*frame(sample), *unusual(sample)]
        if all(isinstance(name, str) for name in sample.columns):
            generated += envelopes(sample)
    elif isinstance(sample, np.ndarray):
        generated = list(array(sample))
    elif isinstance(sample, dict) and all(isinstance(v, np.ndarray) for v in sample.values()):
        generated = list(arrays(sample))
    else:
        generated = list(value(sample))
    if model.params is not None:
        generated += parameters(generated[0], model.params)
    if whole and model.many:
        generated += many(sample)
    return [*generated, *model.bodies]


def many(sample: Any) -> Iterator[Body]:
    """Requests of many rows."""
    if isinstance(sample, pd.DataFrame):
        row, names = _plain(sample.iloc[0].tolist()), sample.columns.tolist()
        yield body(
            "split, many rows", {"dataframe_split": {"columns": names, "data": [row] * MANY}}
        )
        record = dict(zip(map(str, names), row, strict=True))
        yield body("records, many rows", {"dataframe_records": [record] * MANY})
        yield Body("csv, many rows", sample[:1].loc[[sample.index[0]] * MANY]
                   .to_csv(index=False).encode(), CSV)  # fmt: skip
    else:
        yield body("inputs, many rows", {"inputs": [_plain(sample[0].tolist())] * MANY})


def _plain(data: Any) -> Any:
    return json.loads(json.dumps(data, cls=NumpyEncoder))


def frame(sample: pd.DataFrame) -> Iterator[Body]:
    """The four JSON forms and CSV of a DataFrame, each complete, reordered, short and empty."""
    names = sample.columns.tolist()
    rows = _plain([row.tolist() for _, row in sample.astype(object).iterrows()])
    records = [dict(zip(map(str, names), row, strict=True)) for row in rows]
    columns = {str(name): [row[i] for row in rows] for i, name in enumerate(names)}

    def split(name: str, data: list[Any], columns: list[Any] = names, **more: Any) -> Body:
        return body(name, {"dataframe_split": {"columns": columns, "data": data, **more}})

    def first(value: Any) -> list[Any]:
        return [[value, *rows[0][1:]], *rows[1:]]

    yield split("split", rows)
    yield split("split, one row", rows[:1])
    yield split("split, reordered", [row[::-1] for row in rows], names[::-1])
    yield split("split, extra column", [[*row, 1] for row in rows], [*names, "extra"])
    yield split("split, missing column", [row[1:] for row in rows], names[1:])
    yield split("split, index", rows, index=[f"r{i}" for i in range(len(rows))])
    yield body("split, no names", {"dataframe_split": {"data": rows}})
    yield split("split, zero rows", [])
    yield split("split, ragged", [rows[0], rows[0][:-1]])
    yield split("split, long row", [rows[0], [*rows[0], 1]])
    yield split("split, null", first(None))
    yield split("split, NaN", first(float("nan")))
    yield split("split, Infinity", first(float("inf")))
    yield split("split, 2**63", first(2**63))
    yield split("split, 2**70", first(HUGE))
    yield split("split, text", first("text"))
    yield split("split, number as text", first("1"))
    yield split("split, true", first(True))
    yield split("split, list", first([1]))
    yield split("split, object", first({"x": 1}))
    yield body("records", {"dataframe_records": records})
    yield body("records, reordered", {
        "dataframe_records": [dict(reversed(record.items())) for record in records]})  # fmt: skip
    yield body("records, extra", {"dataframe_records": [{**r, "extra": 1} for r in records]})
    yield body("records, one incomplete", {
        "dataframe_records": [records[0], dict(list(records[0].items())[1:])]})  # fmt: skip
    yield body("records, NaN", {
        "dataframe_records": [{**records[0], str(names[0]): float("nan")}]})  # fmt: skip
    yield body("records, zero rows", {"dataframe_records": []})
    yield body("instances", {"instances": records})
    yield body("instances, rows", {"instances": rows})
    yield body("instances, zero rows", {"instances": []})
    yield body("inputs", {"inputs": columns})
    yield body("inputs, rows", {"inputs": rows})
    yield body("inputs, one row", {"inputs": {k: v[0] for k, v in columns.items()}})
    yield body("inputs, null", {"inputs": {**columns, str(names[0]): [None] * len(rows)}})
    yield body("inputs, unequal lengths", {
        "inputs": {**columns, str(names[-1]): columns[str(names[-1])][:1]}})  # fmt: skip
    yield body("inputs, zero rows", {"inputs": {name: [] for name in columns}})
    text = sample.to_csv(index=False)
    yield Body("csv", text.encode(), CSV)
    yield Body("csv, reordered", sample[names[::-1]].to_csv(index=False).encode(), CSV)
    yield Body("csv, with index", sample.to_csv().encode(), CSV)
    yield Body("csv, no rows", text.partition("\n")[0].encode() + b"\n", CSV)
    yield Body("csv, empty cell", (text + "," * (len(names) - 1) + "\n").encode(), CSV)
    yield Body("csv, empty body", b"", CSV)


def unusual(sample: pd.DataFrame) -> Iterator[Body]:
    """Forms that clients send by mistake, and Parquet."""
    names = sample.columns.tolist()
    rows = _plain([row.tolist() for _, row in sample.astype(object).iterrows()])
    columns = {str(name): [row[i] for row in rows] for i, name in enumerate(names)}
    twice = [[*row, 1] for row in rows]
    yield body("split, column twice", {
        "dataframe_split": {"columns": [*names, names[0]], "data": twice}})  # fmt: skip
    yield body("split, a list", {"dataframe_split": rows})
    yield body("split, scalar", {"dataframe_split": {"columns": names, "data": 1}})
    yield body("split, unknown key", {"dataframe_split": {"columns": names, "rows": rows}})
    yield body("records, an object", {"dataframe_records": columns})
    yield body("inputs, a number", {"inputs": 1})
    yield body("inputs, null", {"inputs": None})
    yield body("instances, an object", {"instances": columns})
    try:
        content = sample.to_parquet()
    except (ValueError, pa.ArrowInvalid):  # names that are not text, columns of several types
        return
    yield Body("parquet", content, PARQUET)
    yield Body("parquet, cut off", content[:-9], PARQUET)


def envelopes(sample: pd.DataFrame) -> Iterator[Body]:
    """What surrounds the data: media type, encoding, JSON itself, keys."""
    split = json.loads(sample.to_json(orient="split", index=False))
    request: dict[str, Any] = {"dataframe_split": split}
    text = json.dumps(request)
    plain = text.encode()
    for kind in (
        "application/json; charset=utf-8", 'application/json; charset="utf-8"',
        "application/json;charset=UTF-8", "Application/JSON", "application/json; charset=latin-1",
        "application/json; x=1", "application/xml", "text/plain", "", None,
    ):  # fmt: skip
        yield Body(f"content type {kind!r}", plain, kind)
    yield Body("utf-8 with byte order mark", b"\xef\xbb\xbf" + plain)
    yield Body("utf-16", text.encode("utf-16"))
    yield Body("not UTF-8", b'{"dataframe_split": "\xff"}')
    yield Body("csv, not UTF-8", b"a\n\xff\n", CSV)
    yield Body("empty", b"")
    yield Body("blank", b"  ")
    yield Body("cut off", plain[:-3])
    yield Body("trailing text", plain + b" x")
    yield Body("trailing space", plain + b"\r\n ")
    yield Body("key twice", b'{"dataframe_split": 1, ' + plain[1:])
    yield Body("1e400", plain.replace(b"[[", b"[[1e400, ", 1))
    yield Body("lone surrogate", b'{"inputs": ["\\ud800"]}')
    yield Body("deep", b'{"inputs": ' + b"[" * 3000 + b"]" * 3000 + b"}")
    yield body("a list", [request])
    yield body("a text", "text")
    yield body("null", None)
    yield body("empty object", {})
    yield body("unknown key", {"data": split})
    yield body("two forms", {**request, "instances": [1]})
    yield body("another key", {**request, "comment": "x"})
    yield body("signature_name", {"inputs": [1], "signature_name": "x"})


def parameters(valid: Body, params: dict[str, Any]) -> list[Body]:
    """Params of the signature, unknown ones, and those of a wrong type, with valid data."""
    request = json.loads(valid.content)
    some = next(iter(params))
    cases: dict[str, Any] = {
        "all": params, "null": None, "none": {}, "unknown": {"unknown": 1},
        "wrong type": {some: ["x"]}, "null value": {some: None}, "a list": [1], "a number": 0,
        "a text": "x", "false": False, "NaN": {some: float("nan")},
    }  # fmt: skip
    return [body(f"params, {name}", {**request, "params": case}) for name, case in cases.items()]


def array(sample: np.ndarray[Any, Any]) -> Iterator[Body]:
    """A tensor in the forms that MLflow accepts, and in those that it does not."""
    rows = _plain(sample.tolist())
    for key in ("inputs", "instances"):
        yield body(key, {key: rows})
        yield body(f"{key}, one row", {key: rows[:1]})
        yield body(f"{key}, one dimension less", {key: rows[0]})
        yield body(f"{key}, one dimension more", {key: [rows]})
        yield body(f"{key}, zero rows", {key: []})
        yield body(f"{key}, a number", {key: 1})
        yield body(f"{key}, named", {key: {"x": rows}})
        yield body(f"{key}, null", {key: [None]})
    if sample.ndim > 1:
        yield body("inputs, ragged", {"inputs": [rows[0], rows[0][:-1]]})
        yield body("inputs, NaN", {"inputs": [[float("nan"), *rows[0][1:]]]})
        yield body("inputs, 2**70", {"inputs": [[HUGE, *rows[0][1:]]]})
        yield body("inputs, text", {"inputs": [["text", *rows[0][1:]]]})
        yield body("inputs, wide", {"inputs": [[*rows[0], rows[0][0]]]})
    if sample.ndim == 2:
        names = [str(index) for index in range(sample.shape[1])]
        yield body("split", {"dataframe_split": {"columns": names, "data": rows}})
        yield body("split, numbers", {
            "dataframe_split": {"columns": list(range(len(names))), "data": rows}})  # fmt: skip
        yield body("split, no names", {"dataframe_split": {"data": rows}})
        yield body("records", {
            "dataframe_records": [dict(zip(names, r, strict=True)) for r in rows]})  # fmt: skip
        yield Body("csv", pd.DataFrame(sample).to_csv(index=False).encode(), CSV)


def arrays(sample: dict[str, np.ndarray[Any, Any]]) -> Iterator[Body]:
    """Named tensors."""
    columns = {name: _plain(value.tolist()) for name, value in sample.items()}
    first = next(iter(columns))
    rows = len(columns[first])
    instances = [{name: value[i] for name, value in columns.items()} for i in range(rows)]
    yield body("inputs", {"inputs": columns})
    yield body("inputs, reordered", {"inputs": dict(reversed(columns.items()))})
    yield body("inputs, extra", {"inputs": {**columns, "extra": [1] * rows}})
    yield body("inputs, missing", {"inputs": {first: columns[first]}})
    yield body("inputs, one unequal", {"inputs": {**columns, first: columns[first][:1]}})
    yield body("inputs, zero rows", {"inputs": {name: [] for name in columns}})
    yield body("inputs, unnamed", {"inputs": columns[first]})
    yield body("instances", {"instances": instances})
    yield body("instances, missing", {"instances": [{first: columns[first][0]}]})
    yield body("split", {
        "dataframe_split": {"columns": list(columns), "data": [list(i.values()) for i in instances]}
    })  # fmt: skip
    yield body("records", {"dataframe_records": instances})


def value(sample: Any) -> Iterator[Body]:
    """The JSON value of a model with type hints."""
    yield body("inputs", {"inputs": sample})
    if isinstance(sample, list):
        yield body("inputs, one", {"inputs": sample[:1]})
        yield body("inputs, no list", {"inputs": sample[0]})
        yield body("inputs, null inside", {"inputs": [*sample, None]})
    yield body("inputs, zero", {"inputs": []})
    yield body("inputs, null", {"inputs": None})
    yield body("inputs, objects", {"inputs": [{"a": 1}]})
    yield body("inputs, NaN", {"inputs": [float("nan")]})
    yield body("inputs, 2**70", {"inputs": [HUGE]})
    yield body("inputs and instances", {"inputs": sample, "instances": sample})
    yield body("instances", {"instances": sample})
    yield body("split", {"dataframe_split": {"columns": ["x"], "data": [[v] for v in sample]}})
    yield body("records", {"dataframe_records": [{"x": v} for v in sample]})
    yield Body("csv", b"x\n1\n", CSV)
    yield Body("no content type", json.dumps({"inputs": sample}).encode(), JSON + "; charset=utf-8")
