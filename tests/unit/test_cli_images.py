"""`mlops images` with a `docker` that records what it is asked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pulumi_mlops.cli import main
from pulumi_mlops.images import catalog
from pulumi_mlops.images.catalog import CatalogEntry
from pulumi_mlops.images.diagnosis import explain
from pulumi_mlops.images.engine import Engine

from .images_fixtures import INDEX, PASSWORD, FakeDocker, recipe

PROXY = "http://user:proxy-password@proxy.example:3128"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    monkeypatch.chdir(tmp_path)
    for name in ("PULUMI_STACK", "STACK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "Pulumi.yaml").write_text("name: p\n")
    fake = FakeDocker(tmp_path / "bin")
    # Nothing else: a podman of this machine is not asked.
    monkeypatch.setenv("PATH", os.fspath(tmp_path / "bin"))
    return fake


@pytest.fixture
def images(docker: FakeDocker) -> dict[str, CatalogEntry]:
    folder = docker.folder.parent / ".mlops" / "dev" / "images"
    options = {"index_url": INDEX, "proxies": {"HTTPS_PROXY": PROXY}, "network": "host"}
    return {
        name: catalog.prepare(folder, "registry.example/p", name, recipe(**options))
        for name in ("p-store", "p-tracking")
    }


def test_what_there_is(
    docker: FakeDocker, images: dict[str, CatalogEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    docker.hold(images["p-store"].reference)
    docker.tell(registry=[images["p-tracking"].reference])
    assert main(["images", "--json"]) == 0
    store, tracking = json.loads(capsys.readouterr().out)
    assert store == {
        "name": "p-store",
        "reference": images["p-store"].reference,
        "version": images["p-store"].version,
        "context": str(images["p-store"].context),
        "engine": True,
        "registry": False,
        "bytes": 123456789,
    }
    assert (tracking["engine"], tracking["registry"], tracking["bytes"]) == (False, True, None)
    assert main(["images"]) == 0
    shown = capsys.readouterr().out
    assert "118 MiB" in shown
    assert "mlops images build" not in shown, "the registry has what the engine has not"


def test_a_registry_that_does_not_say(
    docker: FakeDocker, images: dict[str, CatalogEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    docker.tell(registry_says="dial tcp: lookup registry.example: no such host")
    assert main(["images", "--json"]) == 0
    assert [each["registry"] for each in json.loads(capsys.readouterr().out)] == [None, None]
    assert main(["images"]) == 0
    assert "`mlops images build` builds missing images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reference", "insecure"),
    [
        ("127.0.0.1:5000/x:1", True),
        ("localhost:5000/x:1", True),
        ("127.0.0.1/x:1", True),
        ("registry.example:5000/x:1", True),
        ("registry.example/x:1", False),
        ("10.0.0.1:5000/x:1", False),
        ("x:1", False),
    ],
)
def test_a_registry_that_the_engine_speaks_http_with(
    docker: FakeDocker, reference: str, insecure: bool
) -> None:
    docker.tell(
        registries={
            "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "IndexConfigs": {"registry.example:5000": {"Secure": False}},
        }
    )
    assert Engine("docker").registry_has(reference) is False
    (asked,) = docker.asked("manifest")
    assert asked["arguments"][2:] == [*(["--insecure"] if insecure else []), reference]


def test_without_an_engine_the_list_is_shown_all_the_same(
    docker: FakeDocker, images: dict[str, CatalogEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    docker.tell(down=True)
    assert main(["images"]) == 0
    shown = capsys.readouterr()
    assert images["p-store"].reference in shown.out
    assert "export DOCKER_HOST=" in shown.err
    assert main(["images", "build"]) == 1
    said = capsys.readouterr().err
    assert "Cannot connect to the Docker daemon" in said
    assert "export DOCKER_HOST=" in said


def test_no_program_at_all(
    docker: FakeDocker, images: dict[str, CatalogEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    (docker.folder / "docker").unlink()
    assert main(["images", "build"]) == 1
    assert "there is no docker, podman or nerdctl on PATH" in capsys.readouterr().err
    assert main(["images", "build", "--engine", "podman"]) == 1
    assert "there is no podman on PATH" in capsys.readouterr().err


def test_what_is_missing_is_built(
    docker: FakeDocker, images: dict[str, CatalogEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    docker.hold(images["p-store"].reference)
    assert main(["images", "build"]) == 0
    (built,) = docker.asked("build")
    image = images["p-tracking"]
    assert built["arguments"][:5] == ["build", "--tag", image.reference, "--network", "host"]
    assert built["arguments"][-1] == str(image.context)
    assert built["given"] == image.build_args
    # Arguments of a program are seen by every user of the machine.
    assert "password" not in " ".join(built["arguments"])
    said = capsys.readouterr().err
    assert "p-store     is already built" in said
    assert f"p-tracking  building {image.reference}" in said
    assert "p-tracking  built in" in said
    assert "Step 1" in image.log.read_text()
    assert main(["images", "build", "--force", "store"]) == 0
    assert [each["arguments"][2] for each in docker.asked("build")] == [
        image.reference,
        images["p-store"].reference,
    ]


def test_push_and_save(
    docker: FakeDocker, images: dict[str, CatalogEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    docker.tell(registry=[images["p-store"].reference])
    archive = docker.folder.parent / "images.tar"
    assert main(["images", "build", "--push"]) == 0
    assert "p-store     is already in the registry" in capsys.readouterr().err
    assert [each["arguments"] for each in docker.asked("push")] == [
        ["push", images["p-tracking"].reference]
    ]
    assert main(["images", "build", "--save", str(archive)]) == 0
    assert archive.read_text() == "an archive"
    (saved,) = docker.asked("save")
    assert saved["arguments"][-2:] == [image.reference for image in images.values()]
    assert "2 images" in capsys.readouterr().err
    assert [file.name for file in archive.parent.glob(".*.new")] == []
    assert main(["images", "build", "--save", "nowhere/images.tar"]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_a_failed_build_says_why_and_the_others_go_on(
    docker: FakeDocker, images: dict[str, CatalogEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    docker.tell(
        fails=["p-store"], build_says="\x1b[31mx\x1b[0m No solution found when resolving: idna==99"
    )
    assert main(["images", "build"]) == 1
    said = capsys.readouterr().err
    assert "p-store: docker build failed: the requirements do not resolve" in said
    assert "  | x No solution found when resolving: idna==99" in said
    assert "\x1b" not in said
    assert str(images["p-store"].log) in said
    assert "p-tracking  built in" in said
    assert "1 of 2 failed: p-store" in said
    assert PASSWORD not in said + images["p-store"].log.read_text()


def test_names_that_mean_nothing(
    docker: FakeDocker, images: dict[str, CatalogEntry], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", "build", "nothing"]) == 2
    assert "there are p-store, p-tracking" in capsys.readouterr().err


def test_a_stack_without_images(docker: FakeDocker, capsys: pytest.CaptureFixture[str]) -> None:
    (docker.folder.parent / ".mlops" / "dev" / "programs").mkdir(parents=True)
    assert main(["images"]) == 0
    assert "There are no images" in capsys.readouterr().out
    assert main(["images", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["images", "build"]) == 1
    assert "there are no images to build" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("Failed to fetch: `https://x/simple/` dns error: failed to lookup", "cannot be reached"),
        ("error sending request: invalid peer certificate: UnknownIssuer", "build option `ca`"),
        ("SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate", "build option `ca`"),
        ("╰─▶ Because nope was not found in the package\n  registry and", "do not resolve"),
        ("HTTP status client error (401 Unauthorized) for url", "refuses the credentials"),
        ("E: Unable to locate package libnope", "`system_packages`"),
        ("the base image has Python 3.12, 3.11 is wanted", "option `base`"),
        ("pull access denied for x, repository does not exist", "the base image cannot be pulled"),
        ("write /opt/env/x: no space left on device", "disk is full"),
        ("cat: can't open '/etc/ssl/certs/ca-certificates.crt'", "no ca-certificates"),
        ("/bin/sh: 1: python: not found", "has no `python`"),
        ("denied: requested access to the resource is denied", "docker login"),
        (
            "ERROR: failed to build: failed to solve: python:3: failed to resolve source metadata: "
            "unexpected status 401 Unauthorized",
            "the base image cannot be pulled",
        ),
        ("Failed to build `pkg==1`: The build backend returned an error", "has no wheel"),
        ("something else", "see its last lines"),
    ],
)
def test_what_is_said_of_a_failure(said: str, fix: str) -> None:
    assert fix in explain(said)


def test_the_commands_that_engines_print_are_no_reason() -> None:
    printed = Path(catalog.__file__).with_name("Dockerfile").read_text().replace("\\\n", "")
    assert explain(printed) == "see its last lines"
