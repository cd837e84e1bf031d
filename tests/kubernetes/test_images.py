"""Images from the real Dockerfile and a real engine."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops.cli import main
from pulumi_mlops.images import catalog
from pulumi_mlops.images.catalog import CatalogEntry
from pulumi_mlops.images.context import Recipe
from pulumi_mlops.images.options import BuildOptions
from pulumi_mlops.plugin.image import ImageHandler, ImageInputs
from pulumi_mlops.targets.port import runtime_folder

from ..unit.provider_fixtures import make_context

pytestmark = pytest.mark.kubernetes
PASSWORD = "s3cr3t-of-the-index"
LOCKED_DOWN = ("run", "--rm", "--read-only", "--network", "none", "--cap-drop", "ALL")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STACK", "dev")
    (tmp_path / "Pulumi.yaml").write_text("name: p\n")
    return tmp_path / ".mlops" / "dev" / "images"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """An index that asks for a password, with a package that is nowhere else."""
    wheel = tmp_path / "mlops_private-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        info = "mlops_private-1.dist-info"
        file.writestr("mlops_private.py", "HELLO = 'from the private index'\n")
        file.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: mlops-private\nVersion: 1\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    login = "Basic " + base64.b64encode(f"reader:{PASSWORD}".encode()).decode()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, kind = b"", "text/html"
            if self.headers.get("Authorization") != login:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
            elif self.path == "/simple/mlops-private/":
                self.send_response(200)
                body = f'<a href="../../{wheel.name}#sha256={digest}">{wheel.name}</a>'.encode()
            elif self.path == f"/{wheel.name}":
                self.send_response(200)
                body, kind = wheel.read_bytes(), "application/octet-stream"
            else:
                self.send_response(404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://reader:{PASSWORD}@127.0.0.1:{server.server_port}/simple/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry of its own, without TLS."""
    import debian  # noqa: PLC0415 - conftest.py knows where it is

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = tmp_path / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": address}}))
    program = debian.unpacked("registry", ("docker-registry",)) / "usr/bin/docker-registry"
    with subprocess.Popen(
        [str(program), "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:  # pytest's own timeout ends what never comes
                assert process.poll() is None
                try:
                    urllib.request.urlopen(f"http://{address}/v2/").close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield address
        finally:
            process.terminate()


def _prepared(images: Path, name: str, options: BuildOptions, *requirements: str) -> CatalogEntry:
    return catalog.prepare(
        images,
        "mlops.test/p",
        name,
        Recipe(
            requirements=requirements,
            code={"pulumi_mlops/runtime": runtime_folder()},
            options=options,
        ),
    )


def test_an_image_runs_locked_down(engine: Any, project: Path, options: BuildOptions) -> None:
    image = _prepared(project, "plain", options, "prometheus-client==0.26.0", "httpx==0.28.1")
    engine("rmi", "--force", image.reference)
    archive = project.parents[2] / "images.tar"
    assert main(["images", "build", "--save", str(archive)]) == 0
    program = (
        "import json, os, ssl, sys, prometheus_client\n"
        "from pulumi_mlops.runtime.monitor import config\n"
        "json.dump({'uid': os.getuid(), 'cwd': os.getcwd(), 'python': sys.executable,"
        "'compiled': [os.path.exists(m.__cached__) for m in (prometheus_client, config)],"
        "'authorities': ssl.create_default_context().cert_store_stats()['x509_ca'] > 0,"
        "'writable': os.access('/opt/code', os.W_OK)}, sys.stdout)"
    )
    found = json.loads(engine(*LOCKED_DOWN, image.reference, "python", "-c", program))
    assert found == {
        "uid": 10001, "cwd": "/opt/code", "python": "/opt/env/bin/python",
        "compiled": [True, True], "authorities": True, "writable": False,
    }  # fmt: skip
    config = json.loads(engine("image", "inspect", image.reference))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.version"] == image.version
    assert "PYTHONUNBUFFERED=1" in config["Env"]
    with tarfile.open(archive) as saved:
        manifest = saved.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] == [image.reference]


def test_other_code_is_one_small_layer(
    engine: Any, project: Path, options: BuildOptions, tmp_path: Path
) -> None:
    def layers(text: str) -> list[str]:
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / "own.py").write_text(text)
        recipe = Recipe(requirements=["idna==3.20"], code={".": tmp_path / "code"}, options=options)
        image = catalog.prepare(project, "mlops.test/p", "layers", recipe)
        assert main(["images", "build"]) == 0
        found: list[str] = json.loads(engine("image", "inspect", image.reference))[0]["RootFS"][
            "Layers"
        ]
        return found

    before, after = layers("x = 1\n"), layers("x = 2\n")
    assert before != after
    assert before[:-1] == after[:-1], "the requirements would be pushed and pulled again"


@pytest.mark.parametrize("buildkit", ["0", "1"])
def test_a_password_of_the_index_is_not_in_the_image(
    engine: Any, project: Path, options: BuildOptions, index: str, buildkit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DOCKER_BUILDKIT", buildkit)
    private = replace(options, extra_index_urls=[index])
    image = _prepared(project, f"private-{buildkit}", private, "mlops-private==1")
    archive = project.parents[2] / "images.tar"
    assert main(["images", "build", "--save", str(archive)]) == 0
    said = engine(
        *LOCKED_DOWN, image.reference, "python", "-c", "import mlops_private as m; print(m.HELLO)"
    )
    assert said.strip() == "from the private index"
    # Every layer and the history, as they are pushed.
    with tarfile.open(archive) as saved:
        for member in saved:
            file = saved.extractfile(member)
            content = file.read() if file else b""
            assert PASSWORD.encode() not in content, member.name
            assert b"machine 127.0.0.1" not in content, member.name
    assert PASSWORD not in image.log.read_text()


def test_what_was_pushed_is_known(
    engine: Any, project: Path, options: BuildOptions, registry: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    image = catalog.prepare(project, registry, "p", Recipe(requirements=[], options=options))
    assert main(["images", "--json"]) == 0
    (before,) = json.loads(capsys.readouterr().out)
    assert (before["engine"], before["registry"]) == (False, False)
    assert main(["images", "build", "--push"]) == 0
    assert "pushed in" in capsys.readouterr().err
    assert main(["images", "--json"]) == 0
    (after,) = json.loads(capsys.readouterr().out)
    assert (after["engine"], after["registry"]) == (True, True)
    engine("rmi", image.reference)
    assert main(["images", "build", "--push"]) == 0
    assert "is already in the registry" in capsys.readouterr().err


def test_an_update_builds_and_pushes_what_the_registry_has_not(
    engine: Any, tmp_path: Path, options: BuildOptions, registry: str
) -> None:
    handler = ImageHandler()
    ctx = make_context(tmp_path, handler.token)
    image = catalog.prepare(
        ctx.root.path / "images", registry, "p", Recipe(requirements=[], options=options)
    )
    wanted = ImageInputs(image="p", reference=image.reference)
    handler.preview(ctx, wanted, None)
    handler.create(ctx, wanted)
    told = ctx.log.of("info")  # type: ignore[attr-defined]
    assert [line.split()[0] for line in told] == [image.reference, "builds", "pushed"]
    engine("rmi", image.reference)
    handler.create(ctx, wanted)  # nothing to do: the registry has it
    assert engine("images", "--quiet", image.reference).strip() == ""
    assert handler.read(ctx, "p", {"reference": image.reference}) == {}


def test_a_requirement_that_does_not_exist(
    engine: Any, project: Path, options: BuildOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    _prepared(project, "impossible", options, "idna==0.0.0.1")
    assert main(["images", "build"]) == 1
    said = capsys.readouterr().err
    assert "the requirements do not resolve" in said
    assert "idna==0.0.0.1" in said


def test_an_index_that_is_not_there(
    engine: Any, project: Path, options: BuildOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = replace(options, index_url="http://127.0.0.1:9/simple")
    _prepared(project, "unreachable", nowhere, "idna")
    assert main(["images", "build"]) == 1
    assert "the package index cannot be reached" in capsys.readouterr().err


def test_another_python_than_the_bases(
    engine: Any, project: Path, options: BuildOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Recipe(
        requirements=[], python="3.12", options=replace(options, base="python:3.11-slim")
    )
    catalog.prepare(project, "mlops.test/p", "other", other)
    assert main(["images", "build"]) == 1
    assert "has Python 3.11, 3.12 is wanted" in capsys.readouterr().err


def test_an_engine_of_our_own_leaves_nothing(tmp_path: Path) -> None:
    import docker_engine  # noqa: PLC0415 - conftest.py knows where it is

    folder = Path("/tmp") / f"mlops-{tmp_path.name}"
    with docker_engine.engine(folder) as docker:
        assert docker("info", "--format", "{{.ServerVersion}}")
        assert docker.host == f"unix://{folder}/docker.sock"
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(folder) not in running.stdout
