"""Models of own code: signatures, examples, type hints, code paths, artifacts, params."""

import base64
import datetime as dt
import decimal
import json
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pydantic
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, Map, Object, Property

from .case import Model, body

DAY = dt.datetime(2024, 2, 29, 12, 30, 15, 250_000)
UTC = dt.UTC


def save(folder: Path, model: Any, **options: Any) -> None:
    mlflow.pyfunc.save_model(str(folder), python_model=model, pip_requirements=[], **options)


class Echo(mlflow.pyfunc.PythonModel):
    """Answers its input, as text where JSON does not have the type."""

    def predict(self, context, model_input, params=None):
        return model_input


class Describe(mlflow.pyfunc.PythonModel):
    """Answers the Python and numpy types of what it was called with, and the values as text."""

    def predict(self, context, model_input, params=None):
        return describe(model_input)


def describe(data: Any) -> Any:
    if isinstance(data, pd.DataFrame):
        return {
            "frame": [str(name) for name in data.columns],
            "types": [str(dtype) for dtype in data.dtypes],
            "rows": [[describe(value) for value in row] for row in data.itertuples(index=False)],
        }
    if isinstance(data, dict):
        return {str(key): describe(value) for key, value in data.items()}
    if isinstance(data, list):
        return [describe(value) for value in data]
    if isinstance(data, np.ndarray):
        return {"array": str(data.dtype), "shape": list(data.shape), "values": repr(data.tolist())}
    return f"{type(data).__name__} {data!r}"


class Message(pydantic.BaseModel):
    role: str
    size: int = 1


# The answers: every kind of Python value that a model may return.
ANSWERS: dict[str, Any] = {
    "list of floats": [1.5, -0.0],
    "list of integers": [1, 2],
    "list of texts": ["a", "ü\u2028\x00"],
    "list of booleans": [True, False],
    "mixed list": [1, "a", None, True, 2.5],
    "floats and null": [1.5, None],
    "numbers and booleans": [1, True, 2.5],
    "nested lists": [[1, 2], [3]],
    "list of arrays": [np.array([1, 2]), np.array([3])],
    "list of float32": [np.float32(0.1), np.float32(0.2)],
    "list of objects": [{"a": 1, "b": [1.5]}, {"a": 2}],
    "empty list": [],
    "tuple": (1, 2),
    "set": {1},
    "generator": (value for value in (1, 2)),
    "none": None,
    "float": 1.5,
    "integer": 7,
    "text": "text",
    "numpy scalar": np.int64(7),
    "numpy text": np.str_("text"),
    "bytes": b"\x00\xff" * 40,
    "list of bytes": [b"a\x00", b"\xff" * 80],
    "array of bytes": np.array([b"a", b"bc"]),
    "array of byte objects": np.array([b"a\x00", b"bc"], dtype=object),
    "array, float32": np.array([0.1, 0.2], dtype="f4"),
    "array, float16": np.array([0.1, 0.2], dtype="f2"),
    "array, long double": np.array([0.1, 0.2], dtype=np.longdouble),
    "array, big endian": np.array([1.5, 2.5], dtype=">f8"),
    "array, uint8": np.array([[1, 255]], dtype="u1"),
    "array, uint64": np.array([2**64 - 1, 0], dtype="u8"),
    "array, boolean": np.array([True, False]),
    "array, complex": np.array([1 + 2j]),
    "array, texts": np.array(["a", "bcd"]),
    "array, objects": np.array(["a", None, 1.5], dtype=object),
    "array, integers as objects": np.array([1, 2], dtype=object),
    "array, three dimensions": np.arange(8.0).reshape(2, 2, 2),
    "array, zero dimensions": np.array(1.5),
    "array, empty": np.zeros((0, 3)),
    "array, structured": np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    "NaN": [float("nan"), 1.0],
    "array with NaN": np.array([np.nan, 1.0]),
    "frame with NaN": pd.DataFrame({"a": [np.nan, 1.0], "b": ["x", None]}),
    "Infinity": [float("inf"), float("-inf")],
    "over 64 bits": [2**70, -(2**70)],
    "over 63 bits": [2**63],
    "over 64 bits and NaN": [2**70, float("nan")],
    "lone surrogate": ["\ud800"],
    "datetimes": [DAY, DAY.replace(tzinfo=UTC)],
    "date and time": [DAY.date(), DAY.time()],
    "datetime64[s]": np.array(["2024-02-29T12:30:15"], dtype="M8[s]"),
    "datetime64[us]": np.array([DAY], dtype="M8[us]"),
    "datetime64[ns]": np.array([DAY], dtype="M8[ns]"),
    "datetime64[D]": np.array(["2024-02-29"], dtype="M8[D]"),
    "NaT": np.array(["NaT", "2024-02-29"], dtype="M8[s]"),
    "list of datetime64": [np.datetime64(DAY), np.datetime64("2024-02-29")],
    "timedelta": [dt.timedelta(seconds=1)],
    "timedelta64[ns]": np.array([1], dtype="m8[ns]"),
    "frame of datetimes": pd.DataFrame({"at": pd.to_datetime([DAY, None]), "n": [1, 2]}),
    "frame of zoned datetimes": pd.DataFrame({"at": pd.to_datetime([DAY]).tz_localize("UTC")}),
    "frame of timedeltas": pd.DataFrame({"took": pd.to_timedelta([1], "s")}),
    "frame of periods": pd.DataFrame({"p": pd.period_range("2024-01", periods=1, freq="M")}),
    "frame": pd.DataFrame({"score": [0.5, 1.5], "label": ["a", "b"], "n": [1, 2]}),
    "frame, numbered": pd.DataFrame([[1, 2.5]]),
    "frame, column twice": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "frame, no rows": pd.DataFrame({"a": np.zeros(0)}),
    "frame, multiple levels": pd.DataFrame({("a", "b"): [1]}),
    "frame, nested": pd.DataFrame({"a": [[1, 2], [3]], "b": [{"x": 1}, None]}),
    "frame, arrays": pd.DataFrame({"a": [np.array([1, 2]), np.array([3, 4])]}),
    "frame, float32": pd.DataFrame({"a": np.array([0.1], dtype="f4")}),
    "frame, Int64": pd.DataFrame({"a": pd.array([1, 2], dtype="Int64")}),
    "frame, Int64 with NA": pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
    "frame, category": pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    "frame, boolean": pd.DataFrame({"a": [True, False], "b": pd.array([True, None], "boolean")}),
    "frame, string": pd.DataFrame({"a": pd.array(["x", None], dtype="string")}),
    "frame, bytes": pd.DataFrame({"a": [b"a\x00", b"\xff"]}),
    "frame, decimal": pd.DataFrame({"a": [decimal.Decimal("1.5")]}),
    "frame, sparse": pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
    "series": pd.Series([1.5, 2.5]),
    "series, named": pd.Series(["a", "b"], name="label", index=[5, 6]),
    "series, integers": pd.Series([1, 2], dtype="i4"),
    "series, category": pd.Series(pd.Categorical([1, 2])),
    "index": pd.Index([1, 2]),
    "decimal": [decimal.Decimal("1.5")],
    "uuid": [uuid.UUID(int=1)],
    "dict of lists": {"a": [1, 2], "b": ["x", "y"]},
    "dict of arrays": {"a": np.array([[0.1, 0.2]], dtype="f4"), "b": np.array(["x"])},
    "dict of scalars": {"a": 1, "b": "x", "c": None},
    "dict of float32": {"a": np.float32(0.1)},
    "dict, integer keys": {1: "a", 2: "b"},
    "dict, other keys": {True: 1, 1.5: 2, None: 3},
    "dict, numpy keys": {np.int64(1): "a"},
    "dict, datetime keys": {DAY: 1},
    "dict, tuple keys": {(1, 2): 1},
    "dict, nested": {"a": {"b": [1, {"c": np.array([1.5])}]}},
    "dict, over 64 bits": {"a": 2**70, "b": np.array([1.5]), "c": DAY},
    "pydantic": Message(role="user"),
    "list of pydantic": [Message(role="user"), Message(role="bot", size=2)],
    "object": object(),
    "bytearray": bytearray(b"abc"),
}  # fmt: skip


class Answers(mlflow.pyfunc.PythonModel):
    """Answers the value that the request names."""

    def predict(self, context, model_input, params=None):
        return ANSWERS[model_input["kind"].iloc[0]]


def answers(folder: Path) -> None:
    signature = ModelSignature(Schema([ColSpec(DataType.string, "kind")]))
    save(folder, Answers(), signature=signature)


ALL_PARAMS = {
    "factor": 1.5, "count": 2, "name": "x", "on": True, "day": np.datetime64("2024-02-29"),
    "list": [1, 2],
}  # fmt: skip


class Params(mlflow.pyfunc.PythonModel):
    """Answers its params."""

    def predict(self, context, model_input, params=None):
        return [describe(dict(sorted((params or {}).items()))) for _ in range(len(model_input))]


class NoParams(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return model_input["a"].tolist()


def params(folder: Path) -> None:
    frame = pd.DataFrame({"a": [1.5]})
    signature = infer_signature(frame, params=ALL_PARAMS)
    save(folder, Params(), signature=signature)


def params_with_example(folder: Path) -> None:
    frame = pd.DataFrame({"a": [1.5]})
    save(folder, Params(), input_example=(frame, {"factor": 2.5}))


def artifacts(folder: Path) -> None:
    class Artifact(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            self.table = json.loads(Path(context.artifacts["table"]).read_text())

        def predict(self, context, model_input, params=None):
            return [self.table[city] for city in model_input["city"]]

    table = folder.parent / "table.json"
    table.write_text('{"Bonn": 0.5, "Köln": 1.5}')
    frame = pd.DataFrame({"city": ["Bonn"]})
    save(folder, Artifact(), artifacts={"table": str(table)}, input_example=frame)


CODE = """
def double(values):
    return [value * 2 for value in values]
"""
SCRIPT = """
import mlflow
from mlflow.models import set_model
from compared_code import double

class Scripted(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return double(model_input["a"].tolist())

set_model(Scripted())
"""


def code_paths(folder: Path) -> None:
    module = folder.parent / "compared_code.py"
    module.write_text(CODE)
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    sys.path.insert(0, str(folder.parent))
    save(folder, str(script), code_paths=[str(module)],
         signature=infer_signature(pd.DataFrame({"a": [1.5]})))  # fmt: skip
    sys.path.remove(str(folder.parent))
    del sys.modules["compared_code"]


def loader_module(folder: Path) -> None:
    """A model without a Python class: a module with `_load_pyfunc`."""
    module = folder.parent / "compared_loader.py"
    module.write_text(
        "class Model:\n    def predict(self, data):\n        return data.sum(axis=1).tolist()\n\n"
        "def _load_pyfunc(path):\n    return Model()\n"
    )
    data = folder.parent / "data.txt"
    data.write_text("x")
    mlflow.pyfunc.save_model(
        str(folder), loader_module="compared_loader", data_path=str(data),
        code_paths=[str(module)], pip_requirements=[],
        input_example=pd.DataFrame({"a": [1.5], "b": [2.5]}),
    )  # fmt: skip


COLUMNS = pd.DataFrame(
    {
        "boolean": [True, False],
        "integer": np.array([1, 2], dtype="i4"),
        "long": [3, 4],
        "float": np.array([0.5, 1.5], dtype="f4"),
        "double": [2.5, 3.5],
        "string": ["a", "ü"],
    }
)
COLUMN_TYPES = Schema([ColSpec(DataType[name], name) for name in COLUMNS])
DATED = Schema([ColSpec(DataType.datetime, "at"), ColSpec(DataType.binary, "raw"),
                ColSpec(DataType.double, "x", required=False)])  # fmt: skip
DATED_FRAME = pd.DataFrame({
    "at": ["2024-02-29T12:30:15", "2024-03-01T00:00:00"],
    "raw": [base64.b64encode(b"a\x00").decode(), ""], "x": [1.5, None],
})  # fmt: skip
NESTED = Schema([
    ColSpec(Array(DataType.double), "array"),
    ColSpec(Object([Property("a", DataType.long),
                    Property("b", DataType.string, required=False)]), "object"),
    ColSpec(Map(DataType.long), "map"),
    ColSpec(Array(Object([Property("c", DataType.boolean)])), "objects", required=False),
    ColSpec(AnyType(), "any", required=False),
])  # fmt: skip
NESTED_FRAME = pd.DataFrame({
    "array": [[1.5, 2.5], [3.5]], "object": [{"a": 1, "b": "x"}, {"a": 2}],
    "map": [{"k": 1}, {"l": 2}], "objects": [[{"c": True}], []], "any": [1, "x"],
})  # fmt: skip


def typed(folder: Path, schema: Schema, model: Any = None, example: Any = None) -> None:
    save(folder, model or Describe(), signature=ModelSignature(schema), input_example=example)


def tensor(dtype: str, *shape: int, name: str | None = None) -> Schema:
    return Schema([TensorSpec(np.dtype(dtype), (-1, *shape), name)])


TWO = Schema([TensorSpec(np.dtype("f4"), (-1, 2), "x"), TensorSpec(np.dtype("i8"), (-1,), "y")])
TWO_ARRAYS = {"x": np.array([[0.5, 1.5], [2.5, 3.5]], "f4"), "y": np.array([1, 2])}


def hinted(folder: Path, model: Any, example: Any = None) -> None:
    save(folder, model, input_example=example)


class Texts(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return [f"{text!r}" for text in model_input]


class Integers(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[int]) -> list[int]:
        return [value + 1 for value in model_input]


class Floats(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[float]) -> list[float]:
        return [value * 2 for value in model_input]


class Lists(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[list[float]]) -> list[float]:
        return [sum(row) for row in model_input]


class Dicts(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[dict[str, float]]) -> list[dict[str, float]]:
        return [{key: value * 2 for key, value in row.items()} for row in model_input]


class Messages(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[Message]) -> list[Message]:
        return [Message(role=message.role, size=message.size + 1) for message in model_input]


class OptionalPart(pydantic.BaseModel):
    at: dt.datetime | None = None
    parts: list[Message] = []


class Parts(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[OptionalPart]) -> list[int]:
        return [len(row.parts) for row in model_input]


class Bytes(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[bytes]) -> list[str]:
        return [repr(value) for value in model_input]


class Days(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[dt.datetime]) -> list[str]:
        return [value.isoformat() for value in model_input]


class Anything(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[Any]) -> list[Any]:
        return model_input


class FrameHint(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        return model_input * 2


class HintAndParams(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[float], params: dict | None = None):
        return [value * (params or {}).get("factor", 1.0) for value in model_input]


class FromExample(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: mlflow.types.type_hints.TypeFromExample):
        return [f"{type(model_input).__name__} {text!r}" for text in model_input]


@mlflow.pyfunc.utils.pyfunc
def upper(model_input: list[str]) -> list[str]:
    """A function with type hints."""
    return [text.upper() for text in model_input]


def hint_and_params(folder: Path) -> None:
    save(folder, HintAndParams(), input_example=([1.5], {"factor": 2.0}))


class Chat(mlflow.pyfunc.PythonModel):
    """Answers a chat request with the number of its messages."""

    def predict(self, context, model_input, params=None):
        return {"input": describe(model_input), "params": describe(params or {})}


def chat(folder: Path) -> None:
    messages = Array(
        Object([Property("role", DataType.string), Property("content", DataType.string)])
    )
    schema = Schema([ColSpec(messages, "messages")])
    limits = ParamSchema([ParamSpec("max_tokens", DataType.long, 10)])
    save(folder, Chat(), signature=ModelSignature(schema, params=limits))


def completion(folder: Path) -> None:
    save(folder, Chat(), signature=ModelSignature(Schema([ColSpec(DataType.string, "prompt")])))


CHAT = [{"role": "user", "content": "hi"}]
HINTS: list[tuple[str, Any, Any]] = [
    ("list[str]", Texts(), ["a", "ü"]),
    ("list[int]", Integers(), [1, 2]),
    ("list[float]", Floats(), [1.5, 2.5]),
    ("list[list[float]]", Lists(), [[1.5, 2.5], [3.5]]),
    ("list[dict[str, float]]", Dicts(), [{"a": 1.5}, {"b": 2.5}]),
    ("list[pydantic model]", Messages(), [{"role": "user", "size": 3}, {"role": "bot"}]),
    ("list[nested pydantic model]", Parts(), [{"parts": [{"role": "user"}]}, {}]),
    ("list[bytes]", Bytes(), [base64.b64encode(b"a\x00").decode(), "eA=="]),
    ("list[datetime]", Days(), ["2024-02-29T12:30:15", "2024-03-01"]),
    ("list[Any]", Anything(), [1, "a", None]),
    ("function", upper, ["a", "b"]),
]
EXAMPLES = {
    "list[bytes]": [b"a\x00"],
    "list[datetime]": [DAY],
    "list[pydantic model]": [Message(role="user")],
}
TENSORS: list[tuple[str, Schema, Any]] = [
    ("image, uint8", tensor("u1", 2, 2), np.arange(8, dtype="u1").reshape(2, 2, 2)),
    ("float32", tensor("f4", 3), np.float32([[0.1, 0.2, 0.3], [1, 2, 3]])),
    ("float16", tensor("f2", 2), np.float16([[0.1, 0.2]])),
    ("int64", tensor("i8", 2), np.array([[1, 2], [3, 4]])),
    ("boolean", tensor("?", 2), np.array([[True, False]])),
    ("text", tensor("O", 2), np.array([["a", "b"]], dtype=object)),
    ("unicode", tensor("U"), np.array(["a", "bc"])),
    ("datetime", tensor("M8[ns]"), np.array(["2024-02-29"], dtype="M8[ns]")),
    ("one dimension", tensor("f8"), np.array([0.5, 1.5])),
    ("named", tensor("f8", 2, name="x"), {"x": np.array([[0.5, 1.5]])}),
    ("fixed batch", Schema([TensorSpec(np.dtype("f8"), (2, 2))]), np.array([[1.5, 2], [3, 4]])),
    ("any size", Schema([TensorSpec(np.dtype("f8"), (-1, -1))]), np.array([[1.5, 2], [3, 4]])),
    ("two tensors", TWO, TWO_ARRAYS),
]

MODELS = [
    Model("answers", "pyfunc", "columns", "none", answers, pd.DataFrame({"kind": ["text"]}),
          bodies=tuple(body(kind, {"dataframe_records": [{"kind": kind}]}) for kind in ANSWERS)),
    Model("params", "pyfunc", "columns", "none", params, pd.DataFrame({"a": [1.5, 2.5]}),
          params={**ALL_PARAMS, "day": "2024-03-01T00:00:00"}),
    Model("params in the example", "pyfunc", "columns", "frame", params_with_example,
          pd.DataFrame({"a": [1.5]}), params={"factor": 3.5}),
    Model("params, none in the signature", "pyfunc", "columns", "none",
          partial(typed, schema=Schema([ColSpec("double", "a")]), model=NoParams()),
          pd.DataFrame({"a": [1.5]}), params={"factor": 3.5}),
    Model("artifacts", "pyfunc", "columns", "frame", artifacts,
          pd.DataFrame({"city": ["Bonn", "Köln"]})),
    Model("code paths", "pyfunc", "columns", "none", code_paths, pd.DataFrame({"a": [1.5, 2.5]})),
    Model("loader module", "pyfunc", "columns", "frame", loader_module,
          pd.DataFrame({"a": [1.5], "b": [2.5]})),
    Model("all column types", "pyfunc", "columns", "none", partial(typed, schema=COLUMN_TYPES),
          COLUMNS),
    Model("all column types, example", "pyfunc", "columns", "frame",
          partial(typed, schema=COLUMN_TYPES, example=COLUMNS), COLUMNS),
    Model("datetime, binary, optional", "pyfunc", "columns", "none",
          partial(typed, schema=DATED), DATED_FRAME),
    Model("nested columns", "pyfunc", "nested", "none", partial(typed, schema=NESTED),
          NESTED_FRAME),
    Model("nested columns, example", "pyfunc", "nested", "dict",
          partial(typed, schema=NESTED, example=NESTED_FRAME.iloc[0].to_dict()), NESTED_FRAME),
    Model("dict example", "pyfunc", "columns", "dict",
          partial(save, model=Describe(), input_example={"a": 1, "b": "x"}),
          pd.DataFrame({"a": [1], "b": ["x"]})),
    Model("list example", "pyfunc", "columns", "list",
          partial(save, model=Describe(), input_example=["a", "b"]),
          np.array(["a", "b"], dtype=object)),
    Model("no signature", "pyfunc", "none", "none", partial(save, model=Describe()),
          pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]})),
    Model("no signature, array", "pyfunc", "none", "none", partial(save, model=Describe()),
          np.array([[1.5, 2.5], [3.5, 4.5]])),
    Model("no signature, text", "pyfunc", "none", "none", partial(save, model=Describe()),
          np.array(["x", "y"], dtype=object)),
    Model("no signature, arrays", "pyfunc", "none", "none", partial(save, model=Describe()),
          {"x": np.array([[0.5, 1.5], [2.5, 3.5]]), "y": np.array([1, 2])}),
    *(Model(f"tensor, {name}", "pyfunc", "tensor", "none", partial(typed, schema=schema), sample)
      for name, schema, sample in TENSORS),
    Model("tensor, two, example", "pyfunc", "tensor", "dict",
          partial(typed, schema=TWO, example=TWO_ARRAYS), TWO_ARRAYS),
    *(Model(f"hint, {name}" + ", no example" * (example == "none"), "pyfunc", "type hints", example,
            partial(hinted, model=model,
                    example=EXAMPLES.get(name, sample) if example == "list" else None), sample)
      for example in ("list", "none") for name, model, sample in HINTS),
    Model("hint, params", "pyfunc", "type hints", "list", hint_and_params, [1.5, 2.5],
          params={"factor": 3.5}),
    Model("hint, DataFrame", "pyfunc", "columns", "frame",
          partial(hinted, model=FrameHint(), example=pd.DataFrame({"a": [1.5]})),
          pd.DataFrame({"a": [1.5, 2.5]})),
    Model("hint, TypeFromExample", "pyfunc", "columns", "list",
          partial(hinted, model=FromExample(), example=["a", "b"]),
          np.array(["a", "b"], dtype=object)),
    Model("chat", "pyfunc", "nested", "none", chat, pd.DataFrame({"messages": [CHAT]}),
          bodies=(body("chat", {"messages": CHAT}),
                  body("chat with params", {"messages": CHAT, "max_tokens": 5, "n": 1}),
                  body("chat, wrong type", {"messages": 1}))),
    Model("completion", "pyfunc", "columns", "none", completion,
          pd.DataFrame({"prompt": ["a", "b"]}),
          bodies=(body("completion", {"prompt": "a"}),
                  body("completions", {"prompt": ["a", "b"]}),
                  body("completion, another key", {"prompt": "a", "n": 1}))),
]  # fmt: skip
