"""Each component alone: what its children are asked to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc

import pulumi_mlops as mlops

EXTERNAL = {
    "endpoint_url": "https://s3.example.com",
    "access_key_id": "me",
    "secret_access_key": "hush",
}


def secrets_of(value: Any) -> list[Any]:
    """What is marked as a secret in a resource's inputs, at whatever depth."""
    if type(value).__name__ == "Secret":
        return [value.value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [secret for item in inner for secret in secrets_of(item)]


def opened(value: Any) -> Any:
    """`value` with the marks of secrets taken off."""
    if type(value).__name__ == "Secret":
        return opened(value.value)
    return {key: opened(item) for key, item in value.items()} if isinstance(value, dict) else value


def is_secret(value: Any) -> bool:
    return type(value).__name__ == "Secret"


def tracking(**store: Any) -> mlops.TrackingServer:
    return mlops.TrackingServer("tracking", {"artifact_store": mlops.ArtifactStore("store", store)})


def endpoint(**args: Any) -> mlops.ServingEndpoint:
    given = {"model": "m", "traffic": {"1": 100}, "requirements": ["scikit-learn==1.7.2"], **args}
    return mlops.ServingEndpoint("live", {"tracking": tracking(), **given})


# Artifact store


def test_a_store_is_provisioned_and_its_secrets_stay_secret(provision: Any) -> None:
    def program() -> dict[str, Any]:
        store = mlops.ArtifactStore("store", {"bucket": "models", "port": 9000})
        return {"env": store.client_env, "uri": store.uri, "url": store.endpoint_url}

    graph = provision(program)
    server = graph["store-server"]
    assert server.inputs["ports"]["http"] == 9000
    assert set(server.inputs["ports"].values()) == {0, 9000}
    assert server.inputs["data"] == "/volumes/store-data"
    assert is_secret(server.inputs["files"]["s3.json"])
    identities = json.loads(server.inputs["files"]["s3.json"].value)
    assert identities["identities"][0]["credentials"] == [
        {"accessKey": "mlops", "secretKey": "generated-store-secret-key"}
    ]
    assert identities["identities"][1] == {
        "name": "mlops-predictions",
        "credentials": [
            {"accessKey": "mlops-predictions", "secretKey": "generated-store-predictions-key"}
        ],
        "actions": ["Write:models/predictions/*"],
    }
    bucket = graph["store-bucket"].inputs
    assert bucket["bucket"] == "models"
    assert secrets_of(bucket) == ["generated-store-secret-key"]
    assert graph.result["uri"].value == "s3://models"
    assert not graph.result["uri"].secret
    assert not graph.result["url"].secret
    assert graph.result["env"].secret
    assert graph.result["env"].value == {
        "AWS_ENDPOINT_URL": graph.result["url"].value,
        "MLFLOW_S3_ENDPOINT_URL": graph.result["url"].value,
        "AWS_ACCESS_KEY_ID": "mlops",
        "AWS_SECRET_ACCESS_KEY": "generated-store-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.mark.parametrize("secret", ["hush", pulumi.Output.secret("hush")], ids=["plain", "secret"])
def test_an_external_store_starts_nothing(provision: Any, secret: Any) -> None:
    def program() -> dict[str, Any]:
        store = mlops.ArtifactStore("store", {**EXTERNAL, "secret_access_key": secret})  # type: ignore[typeddict-item]
        return {"env": store.client_env}

    graph = provision(program)
    assert [each.type for each in graph.all.values()] == [
        "mlops:index:ArtifactStore",
        "mlops:s3:Bucket",
    ]
    bucket = graph["store-bucket"].inputs
    assert bucket["endpointUrl"] == "https://s3.example.com"
    assert secrets_of(bucket) == ["hush"]
    assert graph.result["env"].secret
    assert graph.result["env"].value["AWS_SECRET_ACCESS_KEY"] == "hush"


def test_an_external_store_without_keys_leaves_them_to_boto3(provision: Any) -> None:
    def program() -> dict[str, Any]:
        store = mlops.ArtifactStore("store", {"endpoint_url": "https://s3.example.com"})
        return {"env": store.client_env, **store.env, **store.secrets}

    graph = provision(program)
    assert set(graph.result["env"].value) == {
        "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL", "AWS_DEFAULT_REGION",
    }  # fmt: skip
    assert set(graph.result) == {"env", *graph.result["env"].value}


def test_an_address_that_is_not_known_yet_is_an_external_store_all_the_same(provision: Any) -> None:
    def program() -> None:
        first = mlops.ArtifactStore("first", {"endpoint_url": "https://s3.example.com"})
        mlops.ArtifactStore("second", {"endpoint_url": first.uri})

    for preview in (True, False):
        assert provision(program, preview=preview).of("mlops:local:Process") == {}


def test_settings_reach_the_bucket(provision: Any) -> None:
    def program() -> None:
        mlops.ArtifactStore(
            "store",
            {
                "versioning": True,
                "encryption": "AES256",
                "region": "eu-central-1",
                "tags": {"team": "ml"},
                "lifecycle": {"expire_noncurrent_days": 30},
            },
        )

    bucket = opened(provision(program)["store-bucket"].inputs)
    assert {
        key: bucket[key] for key in ("versioning", "encryption", "region", "tags", "lifecycle")
    } == {
        "versioning": True,
        "encryption": "AES256",
        "region": "eu-central-1",
        "tags": {"team": "ml"},
        "lifecycle": {"expireNoncurrentDays": 30, "abortIncompleteUploadDays": 7},
    }


@pytest.mark.parametrize("args", [{}, {"retain": True}, {"retain": False}])
def test_data_stays_unless_told_otherwise(provision: Any, args: Any) -> None:
    retain = args.get("retain", True)
    graph = provision(lambda: mlops.ArtifactStore("store", args))
    assert graph["store-bucket"].retain_on_delete is retain
    assert graph["store-bucket"].inputs["forceDestroy"] is not retain
    assert graph["store-data"].inputs == {"retain": retain}
    assert graph["store-secret-key"].inputs["retain"] is retain


# Tracking server


def test_the_tracking_server_uses_the_store_and_sqlite(provision: Any) -> None:
    def program() -> dict[str, Any]:
        server = tracking(bucket="models")
        return {"url": server.url, "env": server.client_env}

    graph = provision(program)
    server = graph["tracking-server"]
    env = server.inputs["env"]
    assert (
        env["MLFLOW_BACKEND_STORE_URI"].value
        == "sqlite:////volumes/tracking-database/database.sqlite"
    )
    assert env["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://models/mlflow"
    assert env["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert graph["store-bucket"].urn in server.depends_on
    assert graph["tracking-database"].urn in server.depends_on
    assert graph.result["env"].value == {"MLFLOW_TRACKING_URI": graph.result["url"].value}
    assert not graph.result["env"].secret


def test_secrets_of_an_environment_are_marked_at_the_leaf(provision: Any) -> None:
    env = provision(tracking)["tracking-server"].inputs["env"]
    assert {key for key, value in env.items() if is_secret(value)} == {
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_BACKEND_STORE_URI",  # has a password where the database asks for one
    }


def test_postgresql_has_a_password_that_nothing_shows(provision: Any) -> None:
    def program() -> None:
        store = mlops.ArtifactStore("store", {**EXTERNAL})  # type: ignore[typeddict-item]
        mlops.TrackingServer("tracking", {"artifact_store": store, "database": "postgresql"})

    graph = provision(program)
    password = "generated-tracking-database-password"
    uri = graph["tracking-server"].inputs["env"]["MLFLOW_BACKEND_STORE_URI"]
    assert is_secret(uri)
    assert uri.value.startswith(f"postgresql+psycopg2://mlops:{password}@127.0.0.1:")
    assert uri.value.endswith("/mlops")
    database = graph["tracking-database-server"]
    assert secrets_of(database.inputs) == [password]
    assert database.inputs["data"] == "/volumes/tracking-database"
    shown = [each for each in graph.all.values() if password in repr(without_secrets(each.inputs))]
    assert shown == []
    assert any("psycopg2" in line for line in graph["tracking-environment"].inputs["requirements"])


def without_secrets(value: Any) -> Any:
    if is_secret(value):
        return None
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("retain", [True, False])
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_runs_and_models_stay_as_told(provision: Any, retain: bool, database: Any) -> None:
    def program() -> None:
        store = mlops.ArtifactStore("store", {"endpoint_url": "https://s3.example.com"})
        mlops.TrackingServer(
            "tracking", {"artifact_store": store, "retain": retain, "database": database}
        )

    graph = provision(program)
    assert graph["tracking-database"].inputs == {"retain": retain}
    if database == "postgresql":
        assert graph["tracking-database-password"].inputs["retain"] is retain


def test_the_port_and_workers_are_as_told(provision: Any) -> None:
    def program() -> None:
        store = mlops.ArtifactStore("store", {"endpoint_url": "https://s3.example.com"})
        args = {"artifact_store": store, "port": 5000, "workers": pulumi.Output.from_input(2)}
        mlops.TrackingServer("tracking", args)  # type: ignore[arg-type]

    inputs = provision(program)["tracking-server"].inputs
    assert inputs["ports"] == {"http": 5000}
    assert inputs["command"][-2:] == ["--workers", "2"]


# Training


def pipeline(**args: Any) -> mlops.Pipeline:
    runner = mlops.TrainingRunner("runner", {"tracking": tracking(), "env": {"SEED": "7"}})
    return mlops.Pipeline("train", {"runner": runner, "source": "train", **args})  # type: ignore[typeddict-item]


def test_a_pipeline_is_a_job_in_an_environment_of_its_own(provision: Any, project: Path) -> None:
    def program() -> dict[str, Any]:
        made = pipeline(parameters={"seed": 7, "fast": True, "share": 0.25})
        return {"outputs": made.outputs}

    graph = provision(program)
    environment = graph["train-environment"].inputs
    assert environment["requirements"] == ["scikit-learn==1.7.2", "mlflow==3.17.2"]
    assert environment["code"]["."]["path"] == str(project / "train")
    job = graph["train-job"].inputs
    assert job["command"] == [
        "python", "run.py", "--seed", "7", "--fast", "true", "--share", "0.25",
    ]  # fmt: skip
    assert job["env"]["SEED"] == "7"
    assert job["env"]["MLFLOW_TRACKING_URI"].startswith("http://127.0.0.1:")
    assert not {key for key in job["env"] if key.startswith("AWS_")}
    assert graph.result["outputs"].value == {"version": "1"}


def test_changed_code_and_requirements_change_the_jobs_version(
    provision: Any, project: Path
) -> None:
    def version() -> str:
        return str(provision(pipeline)["train-job"].inputs["version"])

    before = version()
    assert version() == before
    (project / "train" / "run.py").write_text("print('other')\n")
    changed = version()
    (project / "train" / "requirements.txt").write_text("mlflow==3.17.2\n")
    assert len({before, changed, version()}) == 3


def test_a_runner_with_the_store_hands_on_its_credentials(provision: Any, project: Path) -> None:
    def program() -> None:
        store = mlops.ArtifactStore("store", {**EXTERNAL})  # type: ignore[typeddict-item]
        server = mlops.TrackingServer("tracking", {"artifact_store": store})
        runner = mlops.TrainingRunner(
            "runner",
            {
                "tracking": server,
                "artifact_store": store,
                "env": {"TOKEN": pulumi.Output.secret("quiet")},
            },
        )
        mlops.Pipeline("train", {"runner": runner, "source": "train"})

    env = provision(program)["train-job"].inputs["env"]
    assert {key for key, value in env.items() if is_secret(value)} == {
        "AWS_SECRET_ACCESS_KEY",
        "TOKEN",
    }
    assert opened(env)["AWS_ACCESS_KEY_ID"] == "me"


def test_without_a_schedule_there_is_no_scheduler(provision: Any, project: Path) -> None:
    graph = provision(pipeline)
    assert "train-schedule" not in graph.of("mlops:local:Process")


def test_a_schedule_makes_a_scheduler(provision: Any, project: Path) -> None:
    def program() -> None:
        pipeline(schedule={"cron": "0 3 * * 1-5", "timezone": "Europe/Berlin"}, run_on_change=False)

    graph = provision(program)
    assert graph["train-job"].inputs["runOnChange"] is False
    scheduler = graph["train-schedule"]
    assert scheduler.inputs["command"][2:] == [
        "pulumi_mlops.targets.local.host.scheduler", "--job", "train-job",
        "--cron", "0 3 * * mon,tue,wed,thu,fri", "--timezone", "Europe/Berlin",
    ]  # fmt: skip
    assert graph["train-job"].urn in scheduler.depends_on


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"source": "nowhere"}, "train.source: {project}/nowhere is not a folder"),
        ({"requirements": "none.txt"}, "train.requirements: {project}/train/none.txt: No such"),
        ({"sorce": "x"}, "train.sorce: there is no such input: did you mean `source`?"),
        ({"command": []}, "train.command: must not be empty"),
    ],
)
def test_a_pipeline_that_cannot_be_registers_nothing_of_itself(
    provision: Any, project: Path, args: Any, message: str
) -> None:
    refused = []

    def program() -> None:
        with pytest.raises(pulumi.RunError) as refusal:
            pipeline(**args)
        refused.append(str(refusal.value))

    graph = provision(program)
    assert refused[0].startswith(message.format(project=project))
    assert not [each for each in graph.all.values() if each.name.startswith("train")]


# Serving


def test_the_traffic_table_becomes_weights_of_the_route(provision: Any) -> None:
    def program() -> dict[str, Any]:
        made = endpoint(traffic={"10": 0, "9": 90, "8": 10}, replicas=2, port=8080)
        return {"url": made.url, "traffic": made.traffic}

    graph = provision(program)
    route = graph["live-route"].inputs
    assert route["port"] == 8080
    assert {name: service["weight"] for name, service in route["services"].items()} == {
        "v8": 10,
        "v9": 90,
        "v10": 0,
    }
    for version in ("8", "9", "10"):
        server = graph[f"live-v{version}"]
        assert server.inputs["replicas"] == 2
        assert server.inputs["env"]["MLOPS_MODEL_VERSION"] == version
        assert server.inputs["health"]["path"] == f"/v2/models/m/versions/{version}/ready"
        assert graph[f"live-v{version}-model"].inputs["version"] == version
        assert graph[f"live-v{version}-model"].urn in server.depends_on
        assert server.urn in graph["live-route"].depends_on
        assert len(route["services"][f"v{version}"]["addresses"]) == 2
    assert graph.result["url"].value == "http://route/live-route"
    assert graph.result["traffic"].value == {"8": 10, "9": 90, "10": 0}


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({}, {"seconds": 10, "minRequests": 20, "maxErrorRate": 0.05}),
        ({"analysis": {"seconds": 60}}, {"seconds": 60, "minRequests": 20, "maxErrorRate": 0.05}),
        (
            {"analysis": {"min_requests": 200, "max_error_rate": 0}},
            {"seconds": 10, "minRequests": 200, "maxErrorRate": 0},
        ),
        ({"analysis": {"seconds": 0}}, None),
    ],
)
def test_the_analysis_of_first_requests_is_an_input_of_the_route(
    provision: Any, inputs: Any, expected: Any
) -> None:
    graph = provision(lambda: endpoint(traffic={"1": 90, "2": 10}, **inputs))
    assert graph["live-route"].inputs.get("analysis") == expected


def test_the_name_of_a_model_is_encoded_in_paths_only(provision: Any) -> None:
    name = "price list #1 模型"
    encoded = "/v2/models/price%20list%20%231%20%E6%A8%A1%E5%9E%8B"
    graph = provision(lambda: endpoint(model=name))
    server, route = graph["live-v1"].inputs, graph["live-route"].inputs
    assert server["env"]["MLOPS_MODEL_NAME"] == name
    assert graph["live-v1-model"].inputs["model"] == name
    assert server["health"]["path"] == f"{encoded}/versions/1/ready"
    assert route["services"]["v1"]["checkPath"] == f"{encoded}/versions/1/ready"


def test_the_limit_of_a_body_is_an_input(provision: Any) -> None:
    default, larger = (
        provision(lambda inputs=inputs: endpoint(**inputs))["live-v1"].inputs["env"]
        for inputs in ({}, {"max_request_body": "64Mi"})
    )
    assert "MLOPS_MAX_BODY_BYTES" not in default
    assert larger["MLOPS_MAX_BODY_BYTES"] == str(64 << 20)


def test_public_hosts_of_an_endpoint_need_a_gateway(provision: Any) -> None:
    def program() -> None:
        with pytest.raises(pulumi.RunError, match=r"live-route: hosts .* accepts every host name"):
            endpoint(hosts=["live.example.com"])

    provision(program)


def test_the_tracking_server_accepts_its_public_hosts(provision: Any) -> None:
    def program() -> None:
        store = mlops.ArtifactStore("store", {})
        mlops.TrackingServer("plain", {"artifact_store": store})
        hosts = ["mlflow.example.com"]
        mlops.TrackingServer("public", {"artifact_store": store, "hosts": hosts})

    graph = provision(program)
    plain, public = (graph[f"{name}-server"].inputs["env"] for name in ("plain", "public"))
    assert plain["MLFLOW_SERVER_ALLOWED_HOSTS"] == "$(HOST_NAMES)"
    assert "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS" not in plain
    assert public["MLFLOW_SERVER_ALLOWED_HOSTS"] == (
        "$(HOST_NAMES),mlflow.example.com,mlflow.example.com:*"
    )
    origins = public["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert {"https://mlflow.example.com", "http://mlflow.example.com:*"} <= set(origins)


def test_a_promotion_changes_the_route_and_nothing_else(provision: Any) -> None:
    before = provision(lambda: endpoint(traffic={"1": 90, "2": 10}))
    after = provision(lambda: endpoint(traffic={"1": 0, "2": 100}))
    assert before.urns() == after.urns()
    changed = [urn for urn in after.urns() if before.all[urn].inputs != after.all[urn].inputs]
    assert changed == [after["live-route"].urn]


@pytest.mark.parametrize(("given", "label"), [({}, "live"), ({"label": "flowers"}, "flowers")])
def test_what_metrics_call_an_endpoint(provision: Any, given: dict[str, str], label: str) -> None:
    graph = provision(lambda: endpoint(**given))
    assert graph["live-v1"].inputs["env"]["MLOPS_ENDPOINT"] == label
    assert graph["live-route"].inputs["endpoint"] == label


def test_without_a_store_there_is_no_prediction_log(provision: Any) -> None:
    env = provision(endpoint)["live-v1"].inputs["env"]
    assert "MLOPS_PREDICTION_LOG" not in env
    assert secrets_of(env) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_the_prediction_log_is_on_unless_told(provision: Any, wanted: bool) -> None:
    def program() -> None:
        store = mlops.ArtifactStore("log", {"bucket": "log", **EXTERNAL})  # type: ignore[typeddict-item]
        endpoint(artifact_store=store, prediction_log=wanted)

    env = provision(program)["live-v1"].inputs["env"]
    assert (env.get("MLOPS_PREDICTION_LOG") == "s3://log/predictions") is wanted
    assert ("hush" in secrets_of(env)) is wanted
    assert {key for key, value in env.items() if is_secret(value)} <= {"AWS_SECRET_ACCESS_KEY"}


@pytest.mark.parametrize(
    ("store", "key", "secret"),
    [
        ({}, "mlops-predictions", "generated-log-predictions-key"),
        (EXTERNAL, EXTERNAL["access_key_id"], EXTERNAL["secret_access_key"]),
    ],
    ids=["provisioned", "existing"],
)
def test_model_servers_have_the_key_of_prediction_logs(
    provision: Any, store: Any, key: str, secret: str
) -> None:
    def program() -> dict[str, Any]:
        log = mlops.ArtifactStore("log", {"bucket": "log", **store})
        endpoint(artifact_store=log)
        return {"env": pulumi.Output.all(**log.prediction_log_env), "all": log.client_env}

    graph = provision(program)
    env = graph["live-v1"].inputs["env"]
    assert env["AWS_ACCESS_KEY_ID"] == key
    assert secrets_of(env) == [secret]
    variables = graph.result["env"].value
    assert variables == {name: env[name] for name in variables}
    expected = {**graph.result["all"].value, "AWS_ACCESS_KEY_ID": key}
    del expected["AWS_SECRET_ACCESS_KEY"]
    assert variables == expected


@pytest.mark.parametrize(
    ("args", "seconds"),
    [({}, "10"), ({"queue_timeout": 2.5}, "2.5"), ({"queue_timeout": 3600}, "3600")],
)
def test_queue_timeout(provision: Any, args: dict[str, float], seconds: str) -> None:
    env = provision(lambda: endpoint(**args))["live-v1"].inputs["env"]
    assert env["MLOPS_QUEUE_SECONDS"] == seconds


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_queue_timeout_has_bounds(provision: Any, seconds: float) -> None:
    with pytest.raises(pulumi.RunError, match="queue_timeout: must be"):
        provision(lambda: endpoint(queue_timeout=seconds))


@pytest.mark.parametrize(("check_output", "variable"), [("error", None), ("warn", "warn")])
def test_check_output(provision: Any, check_output: str, variable: str | None) -> None:
    env = provision(lambda: endpoint(check_output=check_output))["live-v1"].inputs["env"]
    assert env.get("MLOPS_CHECK_OUTPUT") == variable


@pytest.mark.parametrize(
    "pin",
    [
        "uvicorn==0.38.0",
        "Uvicorn>=0.30",
        "uvicorn[standard]==0.38.0",
        "uvicorn @ https://x.example/u.whl",
    ],
)
def test_the_models_own_pins_win(provision: Any, pin: str) -> None:
    graph = provision(lambda: endpoint(requirements=["mlflow==3.17.2", pin]))
    requirements = graph["live-environment"].inputs["requirements"]
    assert [line for line in requirements if line.lower().startswith("uvicorn")] == [pin]
    assert len(requirements) > 2


def test_an_endpoint_waits_for_the_pipeline_that_registers_its_model(
    provision: Any, project: Path
) -> None:
    graph = provision(lambda: endpoint(after=pipeline_of().outputs))
    assert graph["train-job"].urn in graph["live-v1-model"].depends_on


def pipeline_of() -> mlops.Pipeline:
    store = mlops.ArtifactStore("other", {"endpoint_url": "https://s3.example.com"})
    server = mlops.TrackingServer("other-tracking", {"artifact_store": store})
    runner = mlops.TrainingRunner("runner", {"tracking": server})
    return mlops.Pipeline("train", {"runner": runner, "source": "train"})


# Monitoring


def test_the_monitor_has_the_stack_and_its_port(provision: Any) -> None:
    def program() -> dict[str, Any]:
        links = {"Runs": pulumi.Output.from_input("http://x")}
        made = mlops.MonitoringStack(
            "monitoring", {"scrape": {}, "links": links, "interval": 2.5, "port": 9999}
        )
        return {"url": made.url}

    graph = provision(program)
    inputs = graph["monitoring-server"].inputs
    assert inputs["ports"] == {"http": 9999}
    assert inputs["env"]["MLOPS_STACK"] == "dev"
    assert inputs["env"]["MLOPS_SCRAPE_INTERVAL"] == "2.5"
    assert "http://x" in json.dumps(inputs)
    assert graph.result["url"].known


# What holds for all of them


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_options_of_a_component_reach_its_children(
    database: str, provision: Any, project: Path
) -> None:
    protected = pulumi.ResourceOptions(protect=True)

    def program() -> None:
        parts = {"pipelines": {"a": {"source": "train"}}, "tracking": {"database": database}}
        mlops.MlopsPlatform("platform", parts, protected)

    graph = provision(program)
    assert len(graph.all) > 10
    assert [each.urn for each in graph.all.values() if not each.protect] == []


def test_a_transformation_of_a_component_sees_its_children(provision: Any) -> None:
    def tagged(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult:
        tags = {"tags": {"team": "ml"}} if args.type_ == "mlops:s3:Bucket" else {}
        return pulumi.ResourceTransformationResult({**args.props, **tags}, args.opts)

    opts = pulumi.ResourceOptions(transformations=[tagged])
    graph = provision(lambda: mlops.ArtifactStore("store", opts=opts))
    assert graph["store-bucket"].inputs["tags"] == {"team": "ml"}


@pytest.mark.parametrize("how", ["argument", "configuration"])
def test_a_target_that_is_unknown_is_told(provision: Any, how: str) -> None:
    refused = []

    def program() -> None:
        with pytest.raises(pulumi.RunError) as refusal:
            mlops.ArtifactStore("store", {"target": "moon"} if how == "argument" else {})
        refused.append(str(refusal.value))

    provision(program, {"mlops:target": "moon"} if how == "configuration" else {})
    assert len(refused) == 1
    assert refused[0].startswith("mlops:target: there is no target 'moon': choose one of ")
    assert "local" in refused[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mlops.ArtifactStore("store", {"buket": "x"}),  # type: ignore[typeddict-unknown-key]
            "store.buket: there is no such input: did you mean `bucket`?",
        ),
        (
            lambda: mlops.TrackingServer("tracking", {}),  # type: ignore[typeddict-item]
            "tracking.artifact_store: is required",
        ),
        (
            lambda: mlops.TrackingServer("tracking", {"artifact_store": "s3://x"}),  # type: ignore[typeddict-item]
            "tracking.artifact_store: must be a component of the type ArtifactStore",
        ),
        (
            lambda: endpoint(traffic={"1": 50}),
            "live.traffic: the weights sum to 50: they must sum to 100 percent",
        ),
        (
            lambda: endpoint(requirements="none.txt"),
            "live.requirements: {project}/none.txt: No such file or directory: set the path of "
            "a requirements file, or a list of requirements",
        ),
    ],
)
def test_mistakes_name_the_component_and_the_input(
    provision: Any, project: Path, make: Any, message: str
) -> None:
    refused = []

    def program() -> None:
        with pytest.raises(pulumi.RunError) as refusal:
            make()
        refused.append(str(refusal.value))

    provision(program)
    assert refused == [message.format(project=project)]


# Requirements that MLflow stored with a version


def with_stored_requirements(**args: Any) -> mlops.ServingEndpoint:
    given: dict[str, Any] = {"model": "m", "traffic": {"1": 90, "2": 10}, **args}
    return mlops.ServingEndpoint("live", {"tracking": tracking(), **given})  # type: ignore[typeddict-item]


def test_each_version_has_the_requirements_that_mlflow_stored_with_it(provision: Any) -> None:
    graph = provision(with_stored_requirements)
    names = set(graph.of("mlops:local:Environment"))
    assert names == {
        "tracking-environment",
        "store-environment",
        "live-v1-environment",
        "live-v2-environment",
    }
    for version in ("1", "2"):
        environment = graph[f"live-v{version}-environment"].inputs
        assert environment["requirements"][:2] == [
            "mlflow==2.12.2",
            f"scikit-learn==1.4.{version}",
        ]
        assert "setuptools<81" in environment["requirements"]
        assert any(line.startswith("uvicorn") for line in environment["requirements"])
        assert environment["python"] == "3.10"
        assert graph[f"live-v{version}-model"].inputs["readRequirements"] is True
        process = graph[f"live-v{version}"].inputs
        assert process["environment"] == f"/envs/live-v{version}-environment"


def test_stored_requirements_with_a_python_of_the_stack(provision: Any) -> None:
    graph = provision(lambda: with_stored_requirements(python="3.11"))
    assert graph["live-v1-environment"].inputs["python"] == "3.11"


def test_stored_requirements_are_unknown_at_the_first_preview(provision: Any) -> None:
    graph = provision(with_stored_requirements, preview=True)
    assert graph["live-v1-environment"].inputs["requirements"] == rpc.UNKNOWN


def test_given_requirements_are_not_read_from_the_registry(provision: Any) -> None:
    graph = provision(endpoint)
    assert "readRequirements" not in graph["live-v1-model"].inputs
    assert "live-v1-environment" not in graph.of("mlops:local:Environment")


def test_a_model_of_an_older_python_is_refused_with_the_way_out(
    provision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulumi_mlops.model_server_environment._OLDEST_PYTHON", (3, 11))
    with pytest.raises(
        pulumi.RunError, match=r"live.python: version 1 was logged with Python 3.10"
    ):
        provision(with_stored_requirements)


# What a requirements file refers to


def test_a_requirements_file_with_a_local_project(provision: Any, project: Path) -> None:
    folder = project / "train"
    (folder / "lib").mkdir()
    (folder / "lib" / "pyproject.toml").write_text("[project]")
    (folder / "limits.txt").write_text("numpy<3\n")
    (folder / "requirements.txt").write_text("mlflow\n-c limits.txt\n-e ./lib\n")
    environment = provision(pipeline)["train-environment"].inputs
    assert environment["requirements"] == ["mlflow", "./projects/lib"]
    assert environment["constraints"] == ["numpy<3"]
    assert environment["projects"]["lib"]["path"] == str(folder / "lib")
    before = environment["projects"]["lib"]["digest"]
    (folder / "lib" / "new.py").write_text("")
    changed = provision(pipeline)
    assert changed["train-environment"].inputs["projects"]["lib"]["digest"] != before


def test_what_is_left_out_of_a_source_folder_is_named(
    provision: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", lambda message, *_, **__: messages.append(message))
    (project / "train" / "data").symlink_to(project.parent)
    provision(pipeline)
    assert messages == [
        f"train.source: not deployed from {project / 'train'}: data (a link to a folder outside, "
        f"{project.parent})"
    ]
