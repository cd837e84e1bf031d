"""`mlops images`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..images import registry
from ..images.catalog import CatalogEntry, images_in
from ..images.engine import Engine
from ..images.options import ImageError
from .selection import (
    CommandError,
    UsageError,
    find_stack,
    matching,
    named_stack,
    project_folder,
)
from .terminal import Style, duration, size, table


def run(options: argparse.Namespace) -> int:
    """List the images of a stack, or build those that are missing."""
    stack = find_stack(project_folder(options.project), named_stack(options.stack))
    try:
        known = images_in(stack.files / "images")
        if options.images_command == "build":
            return build(select(options.names, known), options)
    except ImageError as error:
        raise CommandError(str(error)) from None
    found = examine(known, options.engine)
    if options.json:
        print(json.dumps([each.as_json() for each in found], indent=1))
    else:
        print("\n".join(render(found, Style(sys.stdout))))
    return 0


@dataclass(frozen=True)
class ImageStatus:
    """An image, and whether engine and registry have it; None if unknown."""

    image: CatalogEntry
    engine: bool | None
    registry: bool | None
    bytes: int | None

    def as_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "name": self.image.name,
            "reference": self.image.reference,
            "version": self.image.version,
            "context": str(self.image.context),
            "engine": self.engine,
            "registry": self.registry,
            "bytes": self.bytes,
        }


def examine(known: Sequence[CatalogEntry], wanted: str | None) -> list[ImageStatus]:
    """The status of each image. Without a container engine, a note on stderr says so."""
    if not known:
        return []
    engine: Engine | None = None
    try:
        engine = Engine.find(wanted)
    except ImageError as error:
        print(f"{Style(sys.stderr).unsure('note:')} {error}", file=sys.stderr)

    def ask(image: CatalogEntry) -> ImageStatus:
        if engine is None:
            return ImageStatus(image, None, registry.has(image.reference), None)
        held = engine.size(image.reference)
        there = engine.registry_has(image.reference)
        if there is None:
            there = registry.has(image.reference)
        return ImageStatus(image, held is not None, there, held)

    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(ask, known))


def render(found: Sequence[ImageStatus], style: Style) -> list[str]:
    """The table."""
    if not found:
        return ["There are no images. `pulumi preview` lists those that an environment needs."]
    said = {True: "yes", False: "no", None: "?"}
    rows = [
        [
            each.image.name,
            said[each.engine],
            said[each.registry],
            size(each.bytes) if each.bytes is not None else "",
            each.image.reference,
        ]
        for each in found
    ]
    lines = table(["IMAGE", "ENGINE", "REGISTRY", "SIZE", "REFERENCE"], rows, style)
    if any(each.engine is False and not each.registry for each in found):
        lines += ["", "`mlops images build` builds missing images; --push also pushes them."]
    return lines


def select(names: Sequence[str], known: Sequence[CatalogEntry]) -> list[CatalogEntry]:
    """The images that `names` select; all without names. Raises UsageError."""
    if not names:
        return list(known)
    by_name = {image.name: image for image in known}
    chosen: dict[str, CatalogEntry] = {}
    for name in names:
        found = matching(name, by_name)
        if not found:
            there = ", ".join(by_name) or "no images"
            raise UsageError(f"there is no image {name!r}: there are {there}")
        chosen |= {each: by_name[each] for each in found}
    return list(chosen.values())


def build(images: Sequence[CatalogEntry], options: argparse.Namespace) -> int:
    """Build missing images; push and save as the options say. 1 if one of them failed."""
    if not images:
        raise CommandError("there are no images to build: run `pulumi preview` first")
    if options.save and not options.save.absolute().parent.is_dir():
        raise UsageError(f"--save: {options.save.absolute().parent} is not a folder")
    engine = Engine.find(options.engine)
    width = max(len(image.name) for image in images)
    style = Style(sys.stderr)

    def say(image: CatalogEntry, text: str) -> None:
        print(f"{image.name:<{width}}  {text}", file=sys.stderr, flush=True)

    failed = []
    for image in images:
        try:
            _make(engine, image, options, say)
        except ImageError as error:
            failed.append(image.name)
            print(f"{style.bad('error:')} {error}", file=sys.stderr, flush=True)
    if failed:
        raise CommandError(f"{len(failed)} of {len(images)} failed: {', '.join(failed)}")
    if options.save:
        _save(engine, images, options.save)
    return 0


def _make(
    engine: Engine,
    image: CatalogEntry,
    options: argparse.Namespace,
    say: Callable[[CatalogEntry, str], None],
) -> None:
    begun = time.monotonic()
    held = engine.size(image.reference)
    pushed = options.push and not options.force and engine.registry_has(image.reference)
    if pushed and (held is not None or not options.save):
        say(image, "is already in the registry")
        return
    if held is None or options.force:
        say(image, f"building {image.reference}")
        engine.build(image)
        held = engine.size(image.reference) or 0
        say(image, f"built in {duration(time.monotonic() - begun)}, {size(held)}")
    else:
        say(image, f"is already built, {size(held)}")
    if options.push and not pushed:
        begun = time.monotonic()
        engine.push(image)
        say(image, f"pushed in {duration(time.monotonic() - begun)}")


def _save(engine: Engine, images: Sequence[CatalogEntry], file: Path) -> None:
    engine.save([image.reference for image in images], file)
    print(f"{file}: {len(images)} images, {size(file.stat().st_size)}", file=sys.stderr)
