"""V2 and MLflow's protocol over the ASGI application, in process, with real models."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pytest
from mlflow.pyfunc import load_model
from mlflow.pyfunc.scoring_server import invocations
from prometheus_client.parser import text_string_to_metric_families

from pulumi_mlops.runtime.model_server.app import App
from pulumi_mlops.runtime.model_server.loader import LoadError, fetch, load
from pulumi_mlops.runtime.model_server.metrics import Metrics
from pulumi_mlops.runtime.model_server.settings import ModelServerSettings
from pulumi_mlops.runtime.prediction_log import PredictionLog

from . import model_server_fixtures as fixtures

MODEL = "/v2/models/iris"
INFER = f"{MODEL}/infer"
SPLIT = {"dataframe_split": {"columns": ["length", "width"], "data": [[1.0, 0.1], [5.5, 2.2]]}}


class Client:
    """Requests to an application in this process."""

    def __init__(self, settings: ModelServerSettings, log: PredictionLog | None = None) -> None:
        self.metrics = Metrics(settings, log.stats if log else None)
        self.app = App(settings, self.metrics, log)

    def request(self, method: str, path: str, **options) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, json=None, **options) -> httpx.Response:
        return self.request("POST", path, json=json, **options)

    def series(self, name: str) -> dict[str, float]:
        """A metric's values by the label that tells them apart."""
        return {
            sample.labels.get("code") or sample.labels.get("class") or "": sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
            if sample.name == name
        }


def serve(path: str, **env: str) -> Client:
    settings = ModelServerSettings.from_env(fixtures.environment(path, **env))
    client = Client(settings)
    client.app.state.inference = load(settings, path)
    return client


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Client:
    return serve(fixtures.save_classifier(tmp_path_factory.mktemp("m") / "classifier"))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Client:
    return serve(fixtures.save_mixed(tmp_path_factory.mktemp("m") / "mixed"))


@pytest.fixture(scope="module")
def tensor(tmp_path_factory) -> Client:
    return serve(fixtures.save_tensor(tmp_path_factory.mktemp("m") / "tensor"))


def column(name, data, datatype="FP64", shape=None):
    return {"name": name, "shape": shape or [len(data)], "datatype": datatype, "data": data}


LENGTH, WIDTH = column("length", [1.0, 5.5]), column("width", [0.1, 2.2])


def test_v2_one_tensor_per_column(classifier):
    answer = classifier.post(INFER, {"id": "order-1", "inputs": [WIDTH, LENGTH]})
    assert answer.status_code == 200
    assert answer.json() == {
        "model_name": "iris",
        "model_version": "7",
        "id": "order-1",
        "outputs": [
            {"name": "prediction", "shape": [2], "datatype": "BYTES", "data": ["small", "large"]}
        ],
    }
    assert answer.headers["x-model-name"] == "iris"
    assert answer.headers["x-model-version"] == "7"
    assert answer.headers["x-request-id"] == "order-1"


@pytest.mark.parametrize(
    "tensor_input",
    [
        column("rows", [1.0, 0.1, 5.5, 2.2], shape=[2, 2]),
        column("rows", [[1.0, 0.1], [5.5, 2.2]], shape=[2, 2]),
        column("rows", [1, 0, 5, 2], "INT32", shape=[2, 2]),
    ],
)
def test_v2_one_matrix_for_all_columns(classifier, tensor_input):
    answer = classifier.post(f"{MODEL}/versions/7/infer", {"inputs": [tensor_input]})
    assert answer.json()["outputs"][0]["data"] == ["small", "large"]


def test_v2_columns_with_a_batch_dimension(classifier):
    inputs = [column("length", [1], shape=[1, 1]), column("width", [[0.1]], shape=[1, 1])]
    assert classifier.post(INFER, {"inputs": inputs}).json()["outputs"][0]["data"] == ["small"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "inputs: expected a list with at least one tensor"),
        ([1], "inputs[0]: expected an object with 'name'"),
        (
            [column("length", [1.0])],
            "inputs: 'width' missing; got 'length', expected 'length' FP64",
        ),
        (
            [LENGTH, WIDTH, column("x", [1.0, 2.0])],
            "inputs: 'x' unknown; expected 'length' FP64 (d",
        ),
        ([LENGTH, LENGTH], "inputs: 'length' is given twice"),
        ([LENGTH, column("width", [0.1])], "inputs: columns differ in their number of rows"),
        (
            [LENGTH, column("width", ["a", "b"], "BYTES")],
            "inputs: 'width' is BYTES, expected FP64 (double)",
        ),
        (
            [LENGTH, column("width", [0.1, "b"])],
            "inputs: 'width' element 1 is \"b\" (text), expected FP64 (double)",
        ),
        (
            [LENGTH, column("width", [0.1, True])],
            "inputs: 'width' element 1 is true (a boolean), expected FP64 (double)",
        ),
        (
            [LENGTH, column("width", [0.1], shape=[2])],
            "inputs: 'width' has shape [2] but 1 values",
        ),
        (
            [LENGTH, column("width", [0.1, 1, 2, 3], shape=[2, 2])],
            "inputs: 'width' has shape [2, 2], expected [-1]",
        ),
        ([LENGTH, column("width", [], shape=[0])], "inputs: 'width' is empty (shape [0])"),
        (
            [LENGTH, column("width", [0.1], "FP8")],
            "inputs: 'width' has datatype 'FP8'; allowed are",
        ),
        (
            [LENGTH, column("width", [0.1], shape=["a"])],
            "inputs: 'width' has shape ['a']; expected",
        ),
        (
            [{"name": "length", "shape": [1], "datatype": "FP64"}],
            "inputs: 'length' has no 'data' list (binary data is not supported)",
        ),
    ],
)
def test_v2_says_which_input_is_wrong(classifier, inputs, message):
    answer = classifier.post(INFER, {"id": "q", "inputs": inputs})
    assert answer.status_code == 400
    body = answer.json()
    assert body["error"].startswith(message)
    assert (body["model_name"], body["model_version"], body["id"]) == ("iris", "7", "q")
    assert answer.headers["x-model-version"] == "7"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "the body is not JSON: "),
        (b"[1]", "the body is not a JSON object"),
        (b'{"id": 5}', "id: expected 1 to 128 characters"),
        (b'{"id": "a\\nb"}', "id: expected 1 to 128 characters"),
    ],
)
def test_bodies_that_are_no_request(classifier, content, message):
    answer = classifier.post(INFER, content=content)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


def test_v2_selects_outputs(mixed):
    request = {
        "inputs": [
            column("city", ["Bonn"], "BYTES"),
            column("count", [2], "INT64"),
            column("open", [True], "BOOL"),
        ],
        "parameters": {"factor": 2.5, "hint": "ignored"},
        "outputs": [{"name": "score"}],
    }
    outputs = mixed.post(INFER, request).json()["outputs"]
    assert outputs == [{"name": "score", "shape": [1], "datatype": "FP64", "data": [5.0]}]
    answer = mixed.post(INFER, {**request, "outputs": [{"name": "nope"}]})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("outputs: 'nope' is not an output of this model")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            column("city", [5], "BYTES"),
            "inputs: 'city' element 0 is 5 (an integer), expected BYTES",
        ),
        (column("count", [1.5], "FP64"), "inputs: 'count' is FP64, expected INT64 (long)"),
        (column("count", [1.5], "INT64"), "inputs: 'count' element 0 is 1.5 (a number), expected"),
        (column("count", [2**63], "UINT64"), "inputs: 'count' has values outside INT64 (long)"),
        (column("open", [1], "BOOL"), "inputs: 'open' element 0 is 1 (an integer), expected BOOL"),
    ],
)
def test_mixed_columns_are_checked_one_by_one(mixed, bad, message):
    good = {
        "city": column("city", ["Bonn"], "BYTES"),
        "count": column("count", [2], "INT64"),
        "open": column("open", [True], "BOOL"),
    }
    answer = mixed.post(INFER, {"inputs": list({**good, bad["name"]: bad}.values())})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


def test_a_matrix_for_mixed_columns_is_refused(mixed):
    answer = mixed.post(INFER, {"inputs": [column("rows", [1, 2, 3], shape=[1, 3])]})
    assert answer.status_code == 400
    assert "the columns differ in type; send one tensor per column" in answer.json()["error"]


def test_a_failing_model_is_500_in_one_line(mixed):
    records = [{"city": "Bonn", "count": -1, "open": True}]
    answer = mixed.post("/invocations", {"dataframe_records": records})
    assert answer.status_code == 500
    assert answer.json() == {
        "error_code": "INTERNAL_ERROR",
        "message": "the model failed: ValueError: count below zero",
    }


def test_params_must_be_an_object(mixed):
    records = [{"city": "Bonn", "count": 1, "open": True}]
    answer = mixed.post("/invocations", {"dataframe_records": records, "params": 3})
    assert answer.status_code == 400
    assert answer.json()["message"] == "params: expected an object"


def test_tensor_signature(tensor):
    data = column("anything", [1, 2, 3, 4, 5, 6], "FP32", shape=[2, 3])
    answer = tensor.post(INFER, {"inputs": [data]})
    assert answer.json()["outputs"] == [
        {"name": "prediction", "shape": [2], "datatype": "FP32", "data": [6.0, 15.0]}
    ]
    wrong = tensor.post(INFER, {"inputs": [column("x", [1, 2], "FP32", shape=[1, 2])]})
    assert wrong.status_code == 400
    assert "has shape [1, 2], expected [-1, 3]" in wrong.json()["error"]
    assert tensor.post("/invocations", {"inputs": [[1, 2, 3]]}).json() == {"predictions": [6.0]}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"dataframe_split":{"columns":["length","width"],"data":[[1,0.1],[5.5,2.2]]}}', "json"),
        (b'{"dataframe_split":{"columns":["width","length"],"data":[[0.1,1],[2.2,5.5]]}}', "json"),
        (b'{"dataframe_split":{"columns":["length","width","x"],"data":[[1,0.1,3]]}}', "json"),
        (b'{"dataframe_split":{"columns":["length","width"],"data":[["1",null]]}}', "json"),
        (b'{"dataframe_records":[{"length":1,"width":0.1},{"length":5.5,"width":2}]}', "json"),
        (b'{"instances":[{"length":1.0,"width":0.1}]}', "json"),
        (b'{"inputs":{"length":[1.0,5.5],"width":[0.1,2.2]}}', "json"),
        (b"length,width\n1.0,0.1\n5.5,2.2\n", "csv"),
    ],
)
def test_invocations_answer_as_mlflow_does(classifier, body, content_type):
    """MLflow's own scoring function is the reference."""
    mime = {"json": "application/json", "csv": "text/csv"}[content_type]
    inference = classifier.app.state.inference
    answer = classifier.post("/invocations", content=body, headers={"content-type": mime})
    try:
        text = body.decode()
        theirs = invocations(text, mime, inference.pyfunc, inference.signature.input_schema)
    except Exception:
        assert answer.status_code in (400, 500)  # the model refuses the missing value
    else:
        assert (answer.status_code, answer.json()) == (
            200,
            httpx.Response(200, text=theirs.response).json(),
        )
    assert answer.headers["x-model-version"] == "7"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "expected exactly one of dataframe_split, dataframe_records, instances, inputs"),
        (
            {"dataframe_split": {"columns": ["length"], "data": [[1]]}},
            400,
            "column(s) 'width' missing; got 'length', expected 'length' FP64 (double), 'width'",
        ),
        (
            {"dataframe_split": {"columns": ["length", "width"], "data": [["a", 1]]}},
            400,
            "Invalid input. Data is not compatible with model signature. Failed to convert column",
        ),
    ],
)
def test_invocations_say_what_is_wrong(classifier, body, status, message):
    answer = classifier.post("/invocations", body)
    assert answer.status_code == status
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"content-type": "application/xml"}, "Content-Type 'application/xml' is not supported"),
        ({"content-type": "text/csv; charset=latin-1"}, "Content-Type 'text/csv; charset=latin-1'"),
        ({"content-encoding": "gzip"}, "Content-Encoding 'gzip' is not supported; send it plain"),
    ],
)
def test_unsupported_media_is_415(classifier, headers, message):
    answer = classifier.post("/invocations", content=b"x", headers=headers)
    assert answer.status_code == 415
    assert answer.json()["message"].startswith(message)


def test_v2_binary_data_is_415(classifier):
    answer = classifier.post(INFER, {}, headers={"inference-header-content-length": "5"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "/v2/models/rose/infer",
            "model 'rose' is not served here; this server serves model 'iris' version 7",
        ),
        (
            f"{MODEL}/versions/8/infer",
            "version 8 is not served here; this server serves model 'iris' version 7",
        ),
        ("/nowhere", "no such path; this server serves model 'iris' version 7 at"),
    ],
)
def test_unknown_paths_name_what_is_served(classifier, path, message):
    answer = classifier.post(path, {})
    assert answer.status_code == 404
    assert answer.json()["error"].startswith(message)
    assert answer.headers["x-model-name"] == "iris"


def test_wrong_method_is_405(classifier):
    assert classifier.get(INFER).status_code == 405
    assert classifier.post("/v2/health/live").status_code == 405


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_is_413(classifier, tmp_path_factory, chunked):
    client = Client(
        ModelServerSettings.from_env(fixtures.environment("/x", MLOPS_MAX_BODY_BYTES="100"))
    )
    client.app.state.inference = classifier.app.state.inference

    async def parts():
        for _ in range(3):
            yield b"x" * 50

    answer = client.post(INFER, content=parts() if chunked else b"x" * 150)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert "at most 100 are allowed (input max_request_body" in answer.json()["error"]


def test_a_full_queue_refuses_after_the_size_was_checked(classifier):
    """A client that sends too much must not try again."""
    env = fixtures.environment("/x", MLOPS_MAX_BODY_BYTES="100", MLOPS_MAX_QUEUE="1")
    client = Client(ModelServerSettings.from_env(env))
    client.app.state.inference = classifier.app.state.inference
    client.app._queue._waiting[None] = None  # a request

    async def parts():
        yield b"{}"

    assert client.post(INFER, content=b"x" * 150).status_code == 413
    refused = client.post(INFER, content=b"{}")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "connection" not in refused.headers
    # The rest of a body of unknown size would have to be read.
    assert client.post(INFER, content=parts()).headers["connection"] == "close"


def test_request_ids(classifier):
    body = {"inputs": [LENGTH, WIDTH]}
    kept = classifier.post(INFER, body, headers={"x-request-id": "trace-9"})
    assert kept.headers["x-request-id"] == kept.json()["id"] == "trace-9"
    made = classifier.post(INFER, body, headers={"x-request-id": "no spaces"})
    assert made.headers["x-request-id"] == made.json()["id"] != "no spaces"
    both = classifier.post(INFER, {"id": "join", **body}, headers={"x-request-id": "trace-9"})
    assert (both.headers["x-request-id"], both.json()["id"]) == ("trace-9", "join")


def test_metadata_and_health(classifier):
    assert classifier.get("/v2").json()["name"] == "pulumi-mlops"
    assert classifier.get("/v2/health/live").json() == {"live": True}
    assert classifier.get("/v2/health/ready").json() == {"ready": True}
    ready = {"name": "iris", "version": "7", "ready": True}
    assert classifier.get(f"{MODEL}/ready").json() == ready
    assert classifier.get(f"{MODEL}/versions/7/ready").json() == ready
    assert classifier.get("/ping").text == classifier.get("/health").text == "\n"
    assert classifier.get("/version").text.split(".")[0].isdigit()
    assert classifier.get(MODEL).json() == {
        "name": "iris",
        "versions": ["7"],
        "platform": "mlflow",
        "inputs": [
            {"name": "length", "datatype": "FP64", "shape": [-1]},
            {"name": "width", "datatype": "FP64", "shape": [-1]},
        ],
        "outputs": [{"name": "prediction", "datatype": "BYTES", "shape": [-1]}],
    }


def test_not_ready_says_why_everywhere(classifier):
    client = Client(ModelServerSettings.from_env(fixtures.environment("/x")))
    client.app.state.reason = "because"
    answer = client.get(f"{MODEL}/ready")
    assert answer.status_code == 503
    identity = {"name": "iris", "version": "7"}
    assert answer.json() == {**identity, "ready": False, "error": "because", "failed": False}
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/ping").status_code == 503
    # 502 makes the proxy try another server.
    assert client.get(MODEL).status_code == 502
    refused = client.post(INFER, {})
    assert (refused.status_code, refused.json()["error"]) == (502, "not ready: because")
    refused = client.post("/invocations", SPLIT)
    assert refused.status_code == 502
    assert refused.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    client.app.state.inference = classifier.app.state.inference
    client.app.state.draining = True
    assert client.get("/v2/health/ready").json() == {
        "ready": False,
        "error": "the server is stopping",
    }
    served = client.post("/invocations", SPLIT)  # still served while draining
    assert (served.status_code, served.headers["connection"]) == (200, "close")


def test_the_golden_request_must_fit_the_signature(tmp_path):
    path = fixtures.save_liar(tmp_path / "liar")
    settings = ModelServerSettings.from_env(fixtures.environment(path))
    with pytest.raises(LoadError) as caught:
        load(settings, path)
    assert str(caught.value) == (
        "the golden request's answer does not fit the signature: output 'prediction' is BYTES, "
        "the signature has FP64 (float64 tensor); log the model with the signature of its answers, "
        "`infer_signature(X, model.predict(X))`, or set `check_output: warn`"
    )
    load(ModelServerSettings.from_env(fixtures.environment(path, MLOPS_CHECK_OUTPUT="warn")), path)


def test_the_golden_request_must_succeed(tmp_path):
    path = fixtures.save_classifier(tmp_path / "m")
    example = Path(path) / "serving_input_example.json"
    example.write_text('{"dataframe_split": {"columns": ["length"], "data": [[1.0]]}}')
    with pytest.raises(LoadError, match=r"^the golden request .* failed: column\(s\) 'width' miss"):
        load(ModelServerSettings.from_env(fixtures.environment(path)), path)


def test_the_direct_way_is_taken_only_where_it_is_the_same(classifier, mixed):
    inference = classifier.app.state.inference
    assert inference._direct is not None
    assert mixed.app.state.inference._direct is None
    public = inference.pyfunc.predict(fixtures.FEATURES)
    direct = [
        classifier.post(INFER, {"inputs": [column(c, [row[c]]) for c in fixtures.COLUMNS]})
        for _, row in fixtures.FEATURES.iterrows()
    ]
    assert [a.json()["outputs"][0]["data"][0] for a in direct] == public.tolist()


def test_a_direct_way_that_answers_otherwise_is_refused(tmp_path):
    path = fixtures.save_classifier(tmp_path / "m")
    inference = load(ModelServerSettings.from_env(fixtures.environment(path)), path)
    golden = inference.invocations(
        b'{"dataframe_records":[{"length":1.0,"width":0.1}]}', "application/json", "g"
    )
    other = type(golden)(golden.id, golden.body, golden.data, np.array(["large"], dtype=object))
    assert not inference.use_direct(other)
    assert inference._direct is None


def test_metrics(tmp_path):
    client = serve(fixtures.save_classifier(tmp_path / "m"), MLOPS_MAX_CLASSES="1")
    client.metrics.model_loaded()
    client.post(INFER, {"inputs": [LENGTH, WIDTH]})
    client.post(INFER, {})
    assert client.series("mlops_inference_requests_total") == {"200": 1, "400": 1}
    assert client.series("mlops_inference_duration_seconds_count") == {"": 2}
    assert client.series("mlops_inference_in_progress") == {"": 0}
    assert client.series("mlops_model_info") == {"": 1}
    assert client.series("mlops_predictions_total") == {"small": 1, "other": 1}
    line = next(
        text for text in client.get("/metrics").text.splitlines()
        if text.startswith("mlops_inference_requests_total") and 'code="200"' in text
    )  # fmt: skip
    assert line == (
        'mlops_inference_requests_total{code="200",endpoint="flowers",model="iris",version="7"} 1.0'
    )


def test_a_version_that_is_not_registered_names_those_that_are(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    path = fixtures.save_classifier(tmp_path / "m")
    client.create_registered_model("iris")
    client.create_model_version("iris", path)
    env = {**fixtures.environment(""), "MLFLOW_TRACKING_URI": uri}
    with pytest.raises(LoadError) as caught:
        fetch(ModelServerSettings.from_env(env), str(tmp_path))
    assert str(caught.value) == "version 7 of model 'iris' is not registered; registered: 1"
    env["MLOPS_MODEL_VERSION"] = "1"
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    found = fetch(ModelServerSettings.from_env(env), str(fetched))
    assert load_model(found).predict(fixtures.FEATURES).tolist() == fixtures.LABELS.tolist()
    env["MLOPS_MODEL_NAME"] = "rose"
    with pytest.raises(LoadError, match="model 'rose' has no registered version"):
        fetch(ModelServerSettings.from_env(env), str(tmp_path))
