"""The HTTP interface of the quality service, its metrics, and the commands that use it."""

from __future__ import annotations

import ast
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import uvicorn
from starlette.testclient import TestClient

from pulumi_mlops.cli import main
from pulumi_mlops.runtime import quality as package
from pulumi_mlops.runtime.quality import app
from pulumi_mlops.runtime.quality.settings import MonitoredEndpoint, QualitySettingsError, load

from .quality_fixtures import START, WINDOW, World, endpoint


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A window with 40 labels, of which 36 are those that were predicted."""
    world = World(tmp_path, endpoint(slices=("island",), classes=("Adelie", "Gentoo")))
    rows = [
        (f"p{i}", START + i, {"island": "Dream"}, {"Adelie": 0.8, "Gentoo": 0.2}) for i in range(40)
    ]
    world.log(rows)
    world.pass_at(START + 60)
    world.label(**{row[0]: "Gentoo" if i < 4 else "Adelie" for i, row in enumerate(rows)})
    world.pass_at(START + 3 * WINDOW)
    return world


@pytest.fixture
def client(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    # The passes are those that a test asks for.
    monkeypatch.setattr(world.service, "start", lambda: None)
    monkeypatch.setattr(world.service, "stop", lambda: None)
    with TestClient(app.create(world.service)) as client:
        yield client


def test_quality_document(client: TestClient) -> None:
    document = client.get("/endpoints/live/quality").json()
    (version,) = document["versions"]
    (window,) = version["windows"]
    assert (version["version"], window["state"], window["coverage"]) == ("1", "final", 1.0)
    assert window["metrics"]["accuracy"]["value"] == 0.9
    assert window["metrics"]["log_loss"]["value"] == pytest.approx(0.3618, abs=1e-4)
    assert window["slices"]["island=Dream"]["count"] == 40
    assert document["counts"]["labels_accepted"] == 40
    assert document["label_delay_seconds"]["median"] == pytest.approx(40.5, abs=1)


def test_metrics_for_prometheus(client: TestClient) -> None:
    text = client.get("/metrics").text
    for line in (
        'mlops_model_quality_ratio{endpoint="live",metric="accuracy",slice="all",version="1",'
        'window="3600s"} 0.9',
        'mlops_labels_total{endpoint="live",outcome="accepted"} 40.0',
        'mlops_labels_total{endpoint="live",outcome="late"} 0.0',
        'mlops_label_coverage_ratio{endpoint="live",version="1"} 1.0',
        'mlops_quality_rows_total{endpoint="live",outcome="read"} 40.0',
    ):
        assert f"\n{line}\n" in text
    assert 'mlops_model_quality_loss{endpoint="live",metric="log_loss",slice="island=Dream"' in text
    assert "mlops_monitor_last_success_timestamp_seconds{" in text


@pytest.mark.parametrize(
    ("body", "content_type", "status", "answer"),
    [
        ('{"id": "p0", "label": "Adelie"}', "application/json", 200, {"changed": 1}),
        ('[{"id": "p0", "label": ["Gentoo"]}]', "application/json", 200, {"repeated": 1}),
        ("id,species\np1,Gentoo\nx,Adelie\n", "text/csv", 200, {"repeated": 1, "pending": 1}),
        ('{"labels": [{"id": "y", "label": 1}]}', "application/json", 200, {"pending": 1}),
        ('{"id": 5, "label": "a"}', "application/json", 422, {"invalid": 1}),
        ('{"id": "\\u0000", "label": "a"}', "application/json", 422, {"invalid": 1}),
        ('{"id": "p0", "label": "a", "row": 1e12}', "application/json", 422, {"invalid": 1}),
        ("not JSON", "application/json", 400, {}),
        ("[1]", "application/json", 400, {}),
        ("label\na\n", "text/csv", 400, {}),
    ],
)
def test_labels_of_a_request(
    client: TestClient, body: str, content_type: str, status: int, answer: dict[str, int]
) -> None:
    response = client.post(
        "/endpoints/live/labels", content=body, headers={"content-type": content_type}
    )
    assert response.status_code == status
    counts = {name: n for name, n in response.json().items() if isinstance(n, int) and n}
    assert counts == answer
    assert ("error" in response.json()) == (status == 400)


def test_a_request_that_is_too_large_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "MAX_BODY_BYTES", 10)
    response = client.post("/endpoints/live/labels", content=b"x" * 11)
    assert response.status_code == 413


def test_unknown_endpoints_and_limits_are_refused(client: TestClient) -> None:
    for path in ("/endpoints/dead/quality", "/endpoints/dead/drift"):
        response = client.get(path)
        assert response.status_code == 404
        assert "there is live" in response.json()["error"]
    assert client.get("/endpoints/live/quality?limit=0").status_code == 400


def test_labels_are_accepted_while_passes_fail(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.clock

    def outage(*_: Any) -> Any:
        raise OSError("the store does not answer")

    monkeypatch.setattr(world.service.store, "folders", outage)
    monkeypatch.setattr(world.service.store, "files", outage)
    world.clock += 3600
    world.service.one_pass()
    health = client.get("/health")
    assert health.status_code == 200
    assert (health.json()["status"], health.json()["stale"]) == ("stale", ["live"])
    assert "the store does not answer" in health.json()["errors"]["live"]
    label = {"id": "p0", "label": "Adelie"}
    assert client.post("/endpoints/live/labels", json=label).status_code == 200
    text = client.get("/metrics").text
    name = 'mlops_quality_last_success_timestamp_seconds{endpoint="live"}'
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert float(value) == before


def test_one_failing_endpoint_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, endpoint(), endpoint(name="second"))
    succeed = world.service._pass

    def fail_live(each: MonitoredEndpoint) -> None:
        if each.name == "live":
            raise OSError("no Parquet")
        succeed(each)

    monkeypatch.setattr(world.service, "_pass", fail_live)
    world.clock += 3600
    world.service.one_pass()
    assert world.service.stale == ["live"]
    assert world.service.last_success == {"live": START, "second": START + 3600}


def test_without_its_database_the_service_is_not_ready(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/health").json()["status"] == "ok"

    def refuse() -> Any:
        raise sa.exc.OperationalError("SELECT 1", {}, OSError("connection refused"))

    monkeypatch.setattr(world.service.database.engine, "connect", refuse)
    health = client.get("/health")
    assert health.status_code == 503
    assert health.json()["error"] == "the database does not answer: OperationalError"


@pytest.fixture
def url(world: World) -> Iterator[str]:
    """The address of a real server."""
    server = uvicorn.Server(
        uvicorn.Config(app.create(world.service), host="127.0.0.1", port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        pass
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_commands(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_QUALITY_URL", url)
    monkeypatch.delenv("PULUMI_STACK", raising=False)
    assert main(["quality", "live"]) == 0
    shown = capsys.readouterr().out
    assert "final" in shown and "0.9 [0.7695, 0.9604]" in shown
    assert main(["drift", "live", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["endpoint"] == "live"
    assert main(["drift", "live"]) == 0
    assert "No window has 500 rows" in capsys.readouterr().out
    file = tmp_path / "labels.csv"
    file.write_text("id,label\np0,Gentoo\np1,\n")
    assert main(["labels", "send", "live", str(file)]) == 1
    told = capsys.readouterr()
    assert told.out == "1 repeated, 1 invalid\n"
    assert told.err == "label 2: the class is missing\n"
    assert main(["quality", "dead"]) == 2
    assert "no endpoint 'dead' declares `quality`" in capsys.readouterr().err
    assert main(["labels", "send", "live", "labels.parquet"]) == 2
    assert "put Parquet files into the store" in capsys.readouterr().err


def test_a_stack_without_the_service_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLOPS_QUALITY_URL", raising=False)
    (tmp_path / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
    (tmp_path / ".mlops" / "dev" / "files").mkdir(parents=True)
    project = ["--project", str(tmp_path), "--stack", "dev"]
    assert main(["quality", "live", *project]) == 2
    assert "dev has no quality service: declare `quality`" in capsys.readouterr().err
    file = tmp_path / ".mlops" / "dev" / "files" / "client.env"
    file.write_text(
        "# the services\nexport A='b c'\nexport MLOPS_QUALITY_URL='http://127.0.0.1:1'\n"
    )
    assert main(["quality", "live", *project]) == 1
    assert "http://127.0.0.1:1 does not answer (ConnectError)" in capsys.readouterr().err


def settings_of(folder: Path, **content: Any) -> dict[str, str]:
    (folder / "live.json").write_text(json.dumps(content))
    return {
        "PORT": "1", "MLOPS_ARTIFACT_STORE": "s3://b", "MLOPS_DATABASE_URL": "sqlite://",
        "MLOPS_ENDPOINTS_DIR": str(folder),
    }  # fmt: skip


def test_settings_of_the_component_are_read(tmp_path: Path) -> None:
    """Every input of the stack configuration is a setting with the same default."""
    from pulumi_mlops.quality import EndpointQuality  # noqa: PLC0415 - the other side

    declared = EndpointQuality(task="regression").model_dump()
    read = load(settings_of(tmp_path, name="live", **declared)).endpoints["live"]
    assert read == load(settings_of(tmp_path, name="live", task="regression")).endpoints["live"]


def test_invalid_settings_are_named(tmp_path: Path) -> None:
    environment = settings_of(tmp_path, name="live", task="regression", colour="blue")
    with pytest.raises(QualitySettingsError, match=r"live\.json: colour is not a setting"):
        load(environment)
    with pytest.raises(QualitySettingsError, match="PORT: is not set"):
        load({**environment, "PORT": ""})


def test_imports_are_only_what_its_requirements_install() -> None:
    folder = Path(package.__file__).parent
    required = (folder.parent / "requirements-quality.txt").read_text()
    names = {"scikit-learn": "sklearn", "prometheus-client": "prometheus_client"}
    installed = {
        names.get(name, name)
        for name in re.findall(r"^([\w-]+)==", required, re.MULTILINE)
    } | {"botocore", "pulumi_mlops"}  # fmt: skip
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            else:
                continue
            for name in imported:
                assert name.split(".")[0] in installed | sys.stdlib_module_names, path.name
    lock = Path(__file__).parents[2] / "requirements.lock"
    pins = {line.split()[0] for line in lock.read_text().splitlines() if "==" in line}
    assert set(re.findall(r"^\S+==\S+", required, re.MULTILINE)) <= pins
