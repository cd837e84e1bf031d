"""`mlops:index:Image`: in its registry already, or built and pushed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pulumi_mlops.images import catalog, registry
from pulumi_mlops.images.engine import Engine
from pulumi_mlops.images.options import ImageError
from pulumi_mlops.plugin.errors import ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.plugin.image import ImageHandler, ImageInputs

from .images_fixtures import FakeDocker, recipe
from .provider_fixtures import make_context

HANDLER = ImageHandler()
REGISTRY = "registry.example.com/team"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDocker]:
    made = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    return made


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return make_context(tmp_path, HANDLER.token)


@pytest.fixture
def image(ctx: Context) -> catalog.CatalogEntry:
    return catalog.prepare(ctx.root.path / "images", REGISTRY, "router", recipe())


@pytest.fixture
def wanted(image: catalog.CatalogEntry) -> ImageInputs:
    return ImageInputs(image="router", reference=image.reference)


def says(monkeypatch: pytest.MonkeyPatch, there: bool | None) -> None:
    """What the registry answers when it is asked without an engine."""
    monkeypatch.setattr(registry, "has", lambda _: there)


def test_what_the_registry_has_is_left_alone(
    ctx: Context, docker: FakeDocker, wanted: ImageInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, True)
    docker.tell(down=True)
    assert HANDLER.preview(ctx, wanted, None) == {}
    assert HANDLER.create(ctx, wanted) == ("router", {})


def test_what_is_missing_is_told_in_the_preview_then_built_and_pushed(
    ctx: Context, docker: FakeDocker, wanted: ImageInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, False)
    HANDLER.preview(ctx, wanted, None)
    assert ctx.log.of("info") == [  # type: ignore[attr-defined]
        f"{wanted.reference} is not in its registry: it will be built and pushed"
    ]
    assert not docker.asked("build")
    HANDLER.create(ctx, wanted)
    assert [call["arguments"] for call in docker.asked("push")] == [["push", wanted.reference]]
    assert len(docker.asked("build")) == 1

    docker.tell(push_says="denied: not you")
    with pytest.raises(ResourceError, match="`docker login` as a user"):
        HANDLER.update(ctx, "router", {}, wanted)
    assert len(docker.asked("build")) == 1  # the engine holds it


def test_a_registry_that_only_the_engine_can_ask(
    ctx: Context, docker: FakeDocker, wanted: ImageInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, None)
    docker.tell(registry=[wanted.reference])
    HANDLER.create(ctx, wanted)
    assert not docker.asked("build")
    docker.tell()  # it says that there is none
    HANDLER.create(ctx, wanted)
    assert len(docker.asked("push")) == 1


@pytest.mark.parametrize("down", [False, True])
def test_a_registry_that_nobody_can_ask_is_trusted_and_told(
    ctx: Context,
    docker: FakeDocker,
    wanted: ImageInputs,
    monkeypatch: pytest.MonkeyPatch,
    down: bool,
) -> None:
    says(monkeypatch, None)
    docker.tell(down=down, registry_says="Get https://registry: no such host")
    HANDLER.preview(ctx, wanted, None)
    HANDLER.create(ctx, wanted)
    (told,) = ctx.log.of("warning")  # type: ignore[attr-defined]
    assert "the registry could not be read, so" in told
    assert "mlops images build --push" in told


def test_without_an_engine_it_is_refused_before_anything_is_done(
    ctx: Context, docker: FakeDocker, wanted: ImageInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, False)
    docker.tell(down=True)
    for call in (lambda: HANDLER.preview(ctx, wanted, None), lambda: HANDLER.create(ctx, wanted)):
        with pytest.raises(ResourceError, match="this machine cannot build it") as refused:
            call()
        assert "mlops images build --push" in str(refused.value)


def test_what_it_is_made_of_has_changed_meanwhile(
    ctx: Context, docker: FakeDocker, wanted: ImageInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, False)
    catalog.prepare(
        ctx.root.path / "images", REGISTRY, "router", recipe(requirements=["idna==3.19"])
    )
    with pytest.raises(ResourceError, match="is not the current image of router: update again"):
        HANDLER.create(ctx, wanted)


def test_one_that_the_registry_has_lost_is_gone(
    ctx: Context, wanted: ImageInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"reference": wanted.reference}
    for there, found in ((True, {}), (None, {}), (False, None)):
        says(monkeypatch, there)
        assert HANDLER.read(ctx, "router", state) == found
    with pytest.raises(ResourceError, match="cannot be imported"):
        HANDLER.read(ctx, "router", {})
    HANDLER.delete(ctx, "router", state)


def test_an_interrupted_build_ends_its_program(tmp_path: Path, image: catalog.CatalogEntry) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\necho working\nexec sleep 600\n")
    slow.chmod(0o755)
    cancelled = threading.Event()
    lines: list[str] = []

    def follow(line: str) -> None:
        lines.append(line)
        cancelled.set()

    engine = Engine(str(slow), cancelled)
    with pytest.raises(ImageError, match="router: interrupted"):
        engine.build(replace(image, build_args={}), follow)
    assert lines == ["working"]
