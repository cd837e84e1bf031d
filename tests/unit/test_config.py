"""The configuration: what is accepted, what mistakes are answered with, and what stays secret."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pulumi
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pulumi_mlops import config
from pulumi_mlops.config import PlatformConfig, parse
from pulumi_mlops.targets.kubernetes.settings import KubernetesSettings

REPOSITORY = Path(__file__).resolve().parents[2]
STACKS = REPOSITORY / "stacks"
GOOD: dict[str, Any] = {
    "tracking": {"port": 5000},
    "pipelines": {"penguins": {"source": "pipelines/penguins_mlflow"}},
    "endpoints": {
        "penguins": {
            "model": "penguins",
            "pipeline": "penguins",
            "requirements": "pipelines/penguins_mlflow/requirements.txt",
            "traffic": {"1": 90, "2": 10},
        }
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good configuration with `value` at the dotted `path`."""
    values = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    part = values
    for parent in parents:
        part = part.setdefault(parent, {})
    part[last] = value
    return values


def refused(values: Mapping[str, Any]) -> list[str]:
    with pytest.raises(pulumi.RunError) as refusal:
        config.check_files(parse(values))
    return str(refusal.value).split("\n")


# The schema for editors and the stack files


def stack_file(name: str) -> tuple[str, dict[str, Any]]:
    text = (STACKS / f"Pulumi.{name}.yaml").read_text()
    return text, yaml.safe_load(text)


def platform_of(name: str) -> PlatformConfig:
    found = stack_file(name)[1]["config"]
    return parse({key.split(":")[1]: part for key, part in found.items() if key[:9] == "platform:"})


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(config.json_schema())


def schema_errors(values: Mapping[str, Any]) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(values)]


@pytest.mark.parametrize("name", ["dev", "staging", "cluster"])
def test_stack_files_keep_to_the_schema_and_are_accepted(name: str) -> None:
    _, values = stack_file(name)
    assert schema_errors(values) == []
    platform = platform_of(name)
    config.check_files(platform)
    assert platform.endpoints["penguins"].traffic == {"1": 100}


@pytest.mark.parametrize("name", ["dev", "staging", "cluster"])
def test_stack_files_are_laid_out_as_the_engine_writes_them(name: str) -> None:
    """So that `pulumi config set` changes no line but its own."""
    text, values = stack_file(name)
    lines = text.split("\n")
    assert lines.pop() == ""
    assert all(line.strip() for line in lines)
    keys = [
        re.match(r'( *)(?:- )?("?)[^ "]+\2:(?: |$)', line)
        for line in lines
        if not line.strip().startswith("#")
    ]
    assert all(key and len(key[1]) % 2 == 0 for key in keys)
    assert re.search(r'^        "1": 100$', text, re.MULTILINE)
    written = yaml.safe_dump(values, indent=2, sort_keys=False).replace("'1'", '"1"')
    assert re.sub(r"\s+#.*|^#.*\n", "", text, flags=re.MULTILINE) == written.replace("'", '"')


def test_staging_is_dev_with_postgresql_two_replicas_and_data_that_stays() -> None:
    dev, staging = platform_of("dev").model_dump(), platform_of("staging").model_dump()
    assert (staging["artifacts"]["retain"], staging["tracking"]["retain"]) == (True, True)
    assert staging["tracking"]["database"] == "postgresql"
    assert staging["endpoints"]["penguins"]["replicas"] == 2
    dev["artifacts"]["retain"] = dev["tracking"]["retain"] = True
    dev["tracking"]["database"] = "postgresql"
    dev["endpoints"]["penguins"]["replicas"] = 2
    assert staging == dev


def test_cluster_is_staging_on_kubernetes() -> None:
    cluster, staging = (stack_file(name)[1]["config"] for name in ("cluster", "staging"))
    assert (cluster.pop("mlops:target"), staging.pop("mlops:target")) == ("kubernetes", "local")
    where = KubernetesSettings.model_validate(cluster.pop("mlops:kubernetes"))
    assert where.registry == "registry.example.com/team", "a place that is nobody's: to be edited"
    assert not where.delete_namespace, "it would take the data along"
    assert (where.context, where.kubeconfig) == (None, None)
    assert cluster == staging


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("tracking.databse", "sqlite", "$.config['platform:tracking']"),
        ("tracking.database", "mysql", "$.config['platform:tracking'].database"),
        ("endpoints.penguins.replicas", 0, "$.config['platform:endpoints'].penguins.replicas"),
        ("endpoints.Penguins", {}, "$.config['platform:endpoints']"),
        ("trakcing", {}, "$.config"),
    ],
)
def test_editors_find_mistakes_by_the_schema(path: str, value: Any, where: str) -> None:
    values = {f"platform:{key}": part for key, part in changed(path, value).items()}
    assert schema_errors({"config": values}) == [where]


def test_the_schema_knows_encrypted_values_where_they_may_be() -> None:
    secret = {"secure": "v1:abc"}
    good = {
        "platform:artifacts": {"secret_access_key": secret, "access_key_id": secret},
        "platform:training": {"env": {"TOKEN": secret}},
        "platform:tracking": {"database_url": {"secret_key_ref": {"name": "db", "key": "url"}}},
    }
    assert schema_errors({"config": good, "encryptionsalt": "v1:x"}) == []
    assert schema_errors({"config": {"platform:artifacts": {"bucket": secret}}}) != []


# What is accepted


def test_nothing_at_all_is_a_platform_with_defaults() -> None:
    platform = parse({})
    assert platform.monitoring.enabled
    assert (platform.pipelines, platform.endpoints) == ({}, {})


def test_a_part_without_a_value_has_its_defaults() -> None:
    assert parse({"tracking": None, "endpoints": None}) == parse({})


@pytest.mark.parametrize("two", [2, "2", 2.0])
def test_a_whole_number_may_come_as_text_or_as_the_engines_float(two: Any) -> None:
    replicas = parse(changed("endpoints.penguins.replicas", two)).endpoints["penguins"].replicas
    assert replicas == 2
    assert type(replicas) is int


@pytest.mark.parametrize("value", [2.5, "2.5", True, "two", "", [2], None, 10**30])
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    (line,) = refused(changed("endpoints.penguins.replicas", value))
    assert re.match(r"platform\.endpoints\.penguins\.replicas: must be ", line)


def test_parameters_keep_their_types() -> None:
    given = {"a": True, "b": 1, "c": 0.5, "d": "x", "e": "0.5"}
    found = parse(changed("pipelines.penguins.parameters", given)).pipelines["penguins"].parameters
    assert {key: (type(value), value) for key, value in found.items()} == {
        key: (type(value), value) for key, value in given.items()
    }


def test_traffic_is_in_the_order_of_the_versions() -> None:
    platform = parse(changed("endpoints.penguins.traffic", {"10": 5, "9": 90, "1": 5}))
    assert list(platform.endpoints["penguins"].traffic) == ["1", "9", "10"]


# What is refused, word for word

AN_ENDPOINT = GOOD["endpoints"]["penguins"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "endpoints.penguins.replica",
            1,
            "{key}: there is no such input: did you mean `replicas`?",
        ),
        (
            "colour",
            "blue",
            "{key}: there is no such input: choose one of artifacts, endpoints, monitoring, "
            "pipelines, quality, tracking, training",
        ),
        ("artifacts", ["a"], "{key}: must be a map of keys to values"),
        ("tracking.retain", "perhaps", "{key}: must be true or false"),
        ("tracking.database", "mysql", "{key}: must be 'sqlite' or 'postgresql'"),
        (
            "endpoints.penguins.model",
            7,
            "{key}: must be text: put numbers and dates in quotes",
        ),
        (
            "endpoints.penguins.traffic",
            {"1": 90, "2": 20},
            "{key}: the weights sum to 110: they must sum to 100 percent",
        ),
        (
            "endpoints.penguins.traffic",
            {"1": 110, "2": -10},
            "{key}.1: is 110: must be 0 to 100 percent\n"
            "{key}.2: is -10: must be 0 to 100 percent",
        ),
        (
            "endpoints.penguins.traffic",
            {"latest": 100},
            "{key}.latest: is not a model version: use a number of the model "
            "registry, 1 or higher",
        ),
        (
            "endpoints.penguins.traffic",
            {"01": 100},
            "{key}.01: is not a model version: use a number of the model "
            "registry, 1 or higher",
        ),
        ("endpoints.penguins.traffic", {}, "{key}: must not be empty"),
        (
            "endpoints.penguins.model",
            "no/such",
            "{key}: contains / or :, which MLflow does not allow in the name of a registered "
            "model",
        ),
        (
            "endpoints.penguins.model",
            "a\nb",
            "{key}: contains a control character, such as a line break: rename the registered "
            "model",
        ),
        (
            "tracking.hosts",
            ["https://mlflow.example.com"],
            "{key}.0: must be a host name in lower case without scheme and port, such as "
            "`mlflow.example.com`",
        ),
        (
            "endpoints.penguins.max_request_body",
            "64 MB",
            "{key}: must be an amount of memory, such as `512Mi` or `4Gi`",
        ),
        ("endpoints.penguins.replicas", 0, "{key}: must be at least 1"),
        (
            "endpoints.penguins.replicas",
            65,
            "{key}: must be at most 64",
        ),
        (
            "endpoints.penguins.startup_timeout",
            0,
            "{key}: must be more than 0",
        ),
        (
            "artifacts.bucket",
            "My_Bucket",
            "{key}: must be 3 to 63 lower-case letters, digits, dots and hyphens, "
            "and must begin and end with a letter or digit",
        ),
        (
            "artifacts.bucket",
            "bucket\n",
            "{key}: must be 3 to 63 lower-case letters, digits, dots and hyphens, "
            "and must begin and end with a letter or digit",
        ),
        (
            "artifacts.endpoint_url",
            "s3.example.com",
            "{key}: must be the URL of an S3 store without a path, such as "
            "`https://s3.example.com`",
        ),
        (
            "artifacts.secret_access_key",
            "hush",
            "{key}: is only for an existing store: set endpoint_url too, or "
            "remove it",
        ),
        (
            "artifacts",
            {"endpoint_url": "https://s3.example.com", "access_key_id": "me"},
            "{key}.access_key_id: requires both access_key_id and "
            "secret_access_key: set both, or neither",
        ),
        (
            "monitoring.port",
            5000,
            "{key}: port 5000 is already used by tracking.port: choose another one",
        ),
        (
            "endpoints.penguins.port",
            5000,
            "{key}: port 5000 is already used by tracking.port: choose another one",
        ),
        ("tracking.port", 70000, "{key}: must be at most 65535"),
        (
            "endpoints.penguins.pipeline",
            "penguin",
            "{key}: there is no such pipeline: did you mean "
            "`penguins`?",
        ),
        (
            "endpoints.penguins.pipeline",
            "whales",
            "{key}: there is no such pipeline: choose one of penguins",
        ),
        (
            "endpoints.penguins.quality",
            {},
            "{key}.task: is required",
        ),
        (
            "endpoints.penguins.quality",
            {"task": "classification", "window": 1},
            "{key}.window: must be at least 5",
        ),
        (
            "endpoints.penguins.quality",
            {"task": "classification", "classes": ["a", "b"], "positive": "c"},
            "{key}.positive: must be one of classes: a, b",
        ),
        (
            "endpoints.penguins.quality",
            {"task": "regression", "positive": "c"},
            "{key}.positive: is only for the task classification: remove it, or change the task",
        ),
        (
            "endpoints.penguins.quality",
            {"task": "regression", "window": 86400, "label_horizon": 0.5},
            "{key}.label_horizon: must be at least as long as the window",
        ),
        (
            "endpoints.penguins.quality",
            {"task": "regression", "drift_alpha": 0},
            "{key}.drift_alpha: must be more than 0",
        ),
        (
            "endpoints.penguins.quality",
            {"task": "regression", "drift_alpha": 1},
            "{key}.drift_alpha: must be less than 1",
        ),
        (
            "endpoints.Emperor penguins",
            AN_ENDPOINT,
            'platform.endpoints."Emperor penguins": a name must have 1 to 40 lower-case letters, '
            "digits and hyphens, and must begin with a letter",
        ),
        (
            "pipelines.penguins.schedule",
            {"cron": "61 * * * *"},
            "{key}.cron: Error validating expression '61': the last "
            "value (61) is higher than the maximum value (59)",
        ),
        (
            "pipelines.penguins.schedule",
            {"cron": "@daily"},
            "{key}.cron: has 1 fields and must have five (minute, hour, "
            "day of the month, month, day of the week), as in `0 3 * * 1-5`",
        ),
        (
            "pipelines.penguins.schedule",
            {"cron": "0 3 31 2 *"},
            "{key}.cron: names a day that does not exist",
        ),
        (
            "pipelines.penguins.schedule",
            {"cron": "0 3 * * *", "timezone": "Europe/Berln"},
            "{key}.timezone: must be an IANA time zone, such as "
            "`Europe/Berlin` or `UTC`",
        ),
        ("pipelines.penguins.schedule", {}, "{key}.cron: is required"),
        (
            "pipelines.penguins.schedule",
            "* * * * *",
            '{key}: must be a map, such as `schedule: {cron: "0 3 * * *"}`',
        ),
        (
            "pipelines.penguins.parameters",
            {"seed": [1]},
            "{key}.seed: must be text, a number, true or false",
        ),
        (
            "pipelines.penguins.requirements",
            7,
            "{key}: must be the path of a requirements file, or a "
            "list of requirements",
        ),
        (
            "training.env",
            {"A=B": "x"},
            '{key}."A=B": must be the name of an environment variable: letters, '
            "digits and underscores",
        ),
        ("training.timeout", "nan", "{key}: must be a finite number"),
        (
            "pipelines.penguins.source",
            "pipelines/whales",
            "{key}: {root}/pipelines/whales is not a folder: set the path "
            "of a folder, relative to Pulumi.yaml",
        ),
        (
            "pipelines.penguins.requirements",
            "needs.txt",
            "{key}: {root}/pipelines/penguins_mlflow/"
            "needs.txt: No such file or directory: set the path of a requirements file, or a list "
            "of requirements",
        ),
        (
            "endpoints.penguins.requirements",
            "needs.txt",
            "{key}: {root}/needs.txt: No such file or "
            "directory: set the path of a requirements file, or a list of requirements",
        ),
    ],
)  # fmt: skip
def test_message(path: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(STACKS)  # where Pulumi runs the program
    told = message.replace("{key}", f"platform.{path}").replace("{root}", str(REPOSITORY))
    assert refused(changed(path, value)) == told.split("\n")


def test_all_problems_are_told_at_once() -> None:
    values = changed("tracking.databse", "x") | {"monitoring": {"interval": 0}}
    assert refused(values) == [
        "platform.tracking.databse: there is no such input: did you mean `database`?",
        "platform.monitoring.interval: must be at least 1",
    ]


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "\ud800", "stacks/Pulumi.dev.yaml/x"])
def test_paths_that_cannot_be_are_refused_like_others(path: str) -> None:
    (line,) = refused(changed("pipelines.penguins.source", path))
    assert line.startswith("platform.pipelines.penguins.source: ")
    (line,) = refused(changed("endpoints.penguins.requirements", path))
    assert line.startswith("platform.endpoints.penguins.requirements: ")


# What the engine hands over


@pytest.fixture
def engine_config() -> Iterator[None]:
    variables = (pulumi.runtime.config.CONFIG, pulumi.runtime.config._SECRET_KEYS)
    before = [variable.get() for variable in variables]
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.set(value)  # type: ignore[arg-type]


def hand_over(values: Mapping[str, Any], secrets: list[str] | None = None) -> None:
    texts = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }
    pulumi.runtime.config.set_all_config(texts, secrets or [])


def test_loading_takes_the_keys_of_the_project(engine_config: None) -> None:
    hand_over({"app:tracking": {"port": 5000}, "other:tracking": {"port": "x"}, "aws:region": "x"})
    assert config.load("app").tracking.port == 5000


def test_a_key_without_value_has_its_defaults(engine_config: None) -> None:
    hand_over({"platform:tracking": ""})
    assert config.load("platform") == parse({})


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("app:tracking", "sqlite", "app.tracking: must be a map of keys to values"),
        ("app:tracking", "[" * 100_000, "app.tracking: must be a map of keys to values"),
        ("app:tracking", "1" * 5000, "app.tracking: must be a map of keys to values"),
        ("app:trakcing", "{}", "app.trakcing: there is no such input: did you mean `tracking`?"),
        ("mlops:taget", "local", "mlops:taget: there is no such key: did you mean `target`?"),
    ],
)  # fmt: skip
def test_message_for_what_was_loaded(
    engine_config: None, key: str, text: str, message: str
) -> None:
    hand_over({key: text})
    with pytest.raises(pulumi.RunError) as refusal:
        config.load("app")
    assert str(refusal.value) == message


def test_a_stack_without_configuration_is_refused(engine_config: None) -> None:
    hand_over({})
    with pytest.raises(pulumi.RunError, match="has no configuration: its stack file is missing"):
        config.load("app")


def secret_fields(part: BaseModel) -> set[str]:
    found = set()
    for name, value in part:
        leaves = value.items() if isinstance(value, dict) else [("", value)]
        found |= {
            f"{name}.{key}".rstrip(".") for key, leaf in leaves if isinstance(leaf, pulumi.Output)
        }
    return found


def test_secrets_are_secret_at_the_leaf(engine_config: None) -> None:
    hand_over(
        {
            "app:artifacts": {
                "bucket": "models",
                "endpoint_url": "https://s3.example.com",
                "access_key_id": "me",
                "secret_access_key": "hush",
            },
            "app:tracking": {"database_url": "postgresql://me:hush@db/mlflow", "workers": 2},
            "app:training": {"env": {"TOKEN": "hush"}, "timeout": 60},
        },
        secrets=["app:artifacts", "app:tracking", "app:training"],
    )
    platform = config.load("app")
    assert secret_fields(platform.artifacts) == {"access_key_id", "secret_access_key"}
    assert secret_fields(platform.tracking) == {"database_url"}
    assert secret_fields(platform.training) == {"env.TOKEN"}
    assert "hush" not in repr(platform)


def test_without_a_secret_nothing_becomes_one(engine_config: None) -> None:
    hand_over({"app:training": {"env": {"TOKEN": "known"}}})
    assert config.load("app").training.env == {"TOKEN": "known"}


def test_a_reference_to_a_secret_is_one_beside_secrets(engine_config: None) -> None:
    there = {"secret_key_ref": {"name": "db", "key": "url"}}
    values = {"env": {"TOKEN": "hush", "OTHER": there}}
    hand_over({"app:training": values}, secrets=["app:training"])
    env: dict[str, Any] = dict(config.load("app").training.env)
    assert env["OTHER"].secret_key_ref.name == "db"
    assert isinstance(env["TOKEN"], pulumi.Output)


def test_a_secret_has_to_be_where_one_can_be_kept(engine_config: None) -> None:
    values = {"penguins": {"source": "x", "parameters": {"token": "hush"}}}
    hand_over({"app:pipelines": values}, secrets=["app:pipelines"])
    with pytest.raises(pulumi.RunError) as refusal:
        config.load("app")
    assert str(refusal.value) == (
        "app.pipelines: contains a secret, which is allowed only in artifacts.access_key_id, "
        "artifacts.secret_access_key, tracking.database_url and training.env"
    )


# Any input at all

MARK = "hunter2-of-the-secrets"
LINE = re.compile(r'platform(\.([A-Za-z0-9_-]+|"(\\.|[^"\\])*"))*: \S.*')
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1", "local", "s3://x", "0 3 * * 1-5", "² * * * *", MARK])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
SCHEMA = config.json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# What is drawn is large, and a slow machine is no failure.
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def like(spec: Any) -> st.SearchStrategy[Any]:
    """Values for the schema `spec`, most of them of its shape and some of them not."""
    if "$ref" in spec:
        spec = SCHEMA["$defs"][spec["$ref"].rsplit("/", 1)[-1]]
    if "anyOf" in spec:
        return st.one_of(*map(like, spec["anyOf"]))
    match spec.get("type"):
        case "object" if "properties" in spec:
            keys = {key: like(part) for key, part in spec["properties"].items()}
            required = {key: keys.pop(key) for key in spec.get("required", [])}
            shaped = st.fixed_dictionaries(required, optional=keys)
            more = st.dictionaries(st.text(max_size=8), scalars, max_size=1)
            return shaped | st.builds(lambda a, b: {**a, **b}, shaped, more) | anything
        case "object":
            inner = next(iter(spec.get("patternProperties", {}).values()), None)
            inner = inner or spec.get("additionalProperties") or {}
            key = st.sampled_from(["a", "penguins", "1", "2", "A_B"]) | st.text()
            return st.dictionaries(key, like(inner), max_size=2) | anything
        case "array":
            return st.lists(like(spec["items"]), max_size=3) | anything
        case "integer":
            return st.integers(0, 200) | st.sampled_from([100, 5000]) | scalars
        case "number":
            return st.floats(0, 1e6) | scalars
        case "boolean":
            return st.booleans() | scalars
        case "string" if "enum" in spec:
            return st.sampled_from(spec["enum"]) | scalars
    return scalars


PARTS = {
    key.partition(":")[2]: part
    for key, part in SCHEMA["properties"]["config"]["properties"].items()
    if key.startswith("platform:")
}
configurations = st.fixed_dictionaries(
    {}, optional={key: like(part) for key, part in PARTS.items()}
) | st.dictionaries(st.sampled_from(list(PARTS)) | st.text(), anything)


@relaxed
@given(configurations)
def test_any_input_gives_a_plan_or_lines_that_name_keys(values: dict[str, Any]) -> None:
    try:
        platform = parse(values)
    except pulumi.RunError as refusal:
        lines = str(refusal).split("\n")
        assert lines == [line for line in lines if LINE.fullmatch(line)]
        assert not re.search(r"pydantic|Input should|Value error|Traceback", str(refusal))
    else:
        assert isinstance(platform, PlatformConfig)
        # What was accepted is so again when it comes back from the plan.
        assert parse(platform.model_dump()) == platform


@relaxed
@given(configurations)
def test_what_the_schema_accepts_has_no_wrong_keys_or_shapes(values: dict[str, Any]) -> None:
    keys = {f"platform:{key}": part for key, part in values.items()}
    if schema_errors({"config": keys}):
        return
    try:
        parse(values)
    except pulumi.RunError as refusal:
        assert not re.search(
            r"no such input|must be a map|must be a list|is required", str(refusal)
        )


def marked(value: Any) -> Any:
    """`value` with every text in it a secret."""
    if isinstance(value, str):
        return MARK
    if isinstance(value, dict):
        return {key: marked(item) for key, item in value.items()}
    return [marked(item) for item in value] if isinstance(value, list) else value


@relaxed
@given(configurations)
def test_no_message_shows_a_secret(values: dict[str, Any]) -> None:
    pulumi.runtime.config.set_all_config(
        {
            f"platform:{key}": json.dumps(marked(part))
            for key, part in values.items()
            if ":" not in key
        },
        [f"platform:{key}" for key in values],
    )
    try:
        platform = config.load("platform")
    except pulumi.RunError as refusal:
        assert MARK not in str(refusal)
    else:
        assert MARK not in repr(platform.training.env)
        assert MARK not in repr(
            (platform.artifacts.access_key_id, platform.artifacts.secret_access_key)
        )
    finally:
        pulumi.runtime.config.set_all_config({}, [])


def test_quality_needs_the_prediction_log() -> None:
    values = changed("endpoints.penguins.quality", {"task": "classification"})
    values["endpoints"]["penguins"]["prediction_log"] = False
    assert refused(values) == [
        "platform.endpoints.penguins.quality: requires the prediction log: set prediction_log to "
        "true, or remove quality"
    ]
