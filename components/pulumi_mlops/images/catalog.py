"""The image catalog of one stack: a folder for each image, with its reference and build context.

<stack>/images/<name>/
    image.json      reference, version, build options (private: a proxy may have a password)
    <version>/      the context
    build.log       of the last build
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..files import update_private
from . import context
from .options import ImageError

_RECORD = "image.json"


@dataclass(frozen=True)
class CatalogEntry:
    """One image of a stack, built or not."""

    name: str
    reference: str
    version: str
    folder: Path
    build_args: dict[str, str] = field(repr=False)
    network: str | None = None

    @property
    def context(self) -> Path:
        """The build context."""
        return self.folder / self.version

    @property
    def log(self) -> Path:
        """The log of the last build."""
        return self.folder / "build.log"


def reference(registry: str, name: str, version: str) -> str:
    """`<registry>/<name>:<version>`. Characters that references cannot contain become hyphens."""
    repository = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not repository:
        raise ImageError(f"{name!r} has no letter or digit for the name of an image")
    return (
        f"{registry.rstrip('/')}/{repository}:{version}" if registry else f"{repository}:{version}"
    )


def prepare(images: Path, registry: str, name: str, recipe: context.Recipe) -> CatalogEntry:
    """Write the build context of the image `name`, and remove the previous one."""
    folder = images / name
    written = context.write(recipe, folder)
    image = CatalogEntry(
        name=name,
        reference=reference(registry, name, written.name),
        version=written.name,
        folder=folder,
        build_args=context.build_args(recipe, name=name, known_version=written.name),
        network=recipe.options.network,
    )
    record = {key: value for key, value in asdict(image).items() if key != "folder"}
    update_private(folder / _RECORD, json.dumps(record, indent=1) + "\n")
    for old in folder.iterdir():
        if old.is_dir() and old != written:
            shutil.rmtree(old, ignore_errors=True)
    return image


def images_in(images: Path) -> list[CatalogEntry]:
    """The images of a stack, by name. Raises ImageError for a record that cannot be read."""
    return [_read(file) for file in sorted(images.glob(f"*/{_RECORD}"))]


def remove(images: Path, name: str) -> None:
    """Remove an image from the catalog. Container engines and registries keep it."""
    shutil.rmtree(images / name, ignore_errors=True)


def _read(file: Path) -> CatalogEntry:
    try:
        found = json.loads(file.read_text())
        image = CatalogEntry(folder=file.parent, **found)
    except (OSError, ValueError, TypeError):
        raise ImageError(
            f"{file} cannot be read: run `pulumi preview`, which writes it again"
        ) from None
    if not image.context.is_dir():
        raise ImageError(f"{image.context} is missing: `pulumi preview` writes it again")
    return image
