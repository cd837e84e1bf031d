"""What is generated from the declarations is current, and one edit reaches all of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "generate"))
from fields import fields_of
from python_modules import resources_module

import generate
from pulumi_mlops.plugin.handler import Context, Handler, Inputs, OutputField
from pulumi_mlops.spec import Spec

REPOSITORY = Path(__file__).resolve().parents[2]
DECLARED = generate.declarations()
HANDLERS = [*DECLARED.shared, *(each for part in DECLARED.handlers.values() for each in part)]


def test_generated_files_are_current() -> None:
    stale = generate.stale(REPOSITORY, generate.generated(DECLARED))
    assert stale == [], f"stale: {', '.join(stale)}. Run `{generate.COMMAND}`"


def edit(file: Path, before: str, line: str) -> None:
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, f"{line}\n{before}"))


def run(copy: Path, *command: str) -> str:
    """The output of a command of Python that imports the package of the copy."""
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(copy / "components")},
        capture_output=True,
        text=True,
        check=False,
        cwd=copy,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_edit_adds_an_input_to_everything(tmp_path: Path) -> None:
    for folder in ("components", "tools/generate", "stacks", "docs"):
        shutil.copytree(
            REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    assert run(tmp_path, "tools/generate/generate.py") == ""
    package = tmp_path / "components" / "pulumi_mlops"
    edit(
        package / "artifacts.py",
        "    versioning: bool = Field(",
        '    colour: int = Field(7, ge=1, le=9, description="Colour of the store.")',
    )
    edit(
        package / "plugin" / "file.py",
        "    content: OrUnknown[str] = Field(",
        '    paper_size: OrUnknown[str] = Field("A4", description="Size of the paper.")',
    )
    edit(
        package / "targets" / "kubernetes" / "settings.py",
        "    create_namespace: bool = Field(",
        '    flavour: str | None = Field(None, description="Flavour. Default: vanilla.")',
    )
    written = run(tmp_path, "tools/generate/generate.py").splitlines()
    assert sorted(written) == [
        "wrote components/pulumi_mlops/args.py",
        "wrote components/pulumi_mlops/plugin/sdk.py",
        "wrote docs/reference.md",
        "wrote stacks/schema.json",
    ]
    args, sdk = (package / "args.py").read_text(), (package / "plugin" / "sdk.py").read_text()
    assert (
        '    colour: NotRequired[int]\n    """Colour of the store. 1 to 9. Default: `7`."""\n'
    ) in args
    assert (
        "    paperSize: NotRequired[pulumi.Input[str] | None]\n"
        '    """Size of the paper. Default: `A4`."""\n'
    ) in sdk
    reference = (tmp_path / "docs" / "reference.md").read_text().splitlines()
    assert "| `colour` | integer | `7` | 1 to 9 | Colour of the store. |" in reference
    assert "| `paperSize` | string or Output | `A4` |  | Size of the paper. |" in reference
    assert "| `flavour` | string | vanilla |  | Flavour. |" in reference
    models = json.loads((tmp_path / "stacks" / "schema.json").read_text())["$defs"]
    assert models["ArtifactStoreSettings"]["properties"]["colour"] == {
        "default": 7, "description": "Colour of the store.", "maximum": 9, "minimum": 1,
        "type": "integer",
    }  # fmt: skip
    assert "flavour" in models["KubernetesSettings"]["properties"]
    program = (
        "import json\n"
        "from pulumi_mlops import config\n"
        "from pulumi_mlops.artifacts import ArtifactStoreSpec\n"
        "from pulumi_mlops.plugin.handlers import SharedResources\n"
        "from pulumi_mlops.plugin.schema import schema_of\n"
        "resources = json.loads(schema_of(SharedResources().handlers(), '1'))['resources']\n"
        "print(ArtifactStoreSpec.of('store', {'colour': 8}).colour,\n"
        "      config.parse({'artifacts': {'colour': '9'}}).artifacts.colour,\n"
        "      resources['mlops:local:File']['inputProperties']['paperSize']['type'])\n"
    )
    assert run(tmp_path, "-c", program) == "8 9 string\n"


class BoxInputs(Inputs):
    """Inputs of a box."""

    old_size: int = Field(1, description="Size.")


class BoxHandler(Handler[BoxInputs]):
    token = "mlops:test:Box"
    description = "A box."
    inputs = BoxInputs
    outputs: ClassVar[dict[str, OutputField]] = {
        "runIds": OutputField(dict[str, list[str]], "Ids of runs.", secret=True),
        "claim": OutputField(str, "Marker.", state_only=True),
    }
    replace_on = frozenset({"oldSize"})

    def create(self, ctx: Context, new: BoxInputs) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    def delete(self, ctx: Context, resource_id: str, old: dict[str, Any]) -> None:
        raise NotImplementedError


def test_a_resource_class_has_its_typed_outputs() -> None:
    source = resources_module("of a test", [BoxHandler()], "Base", "from base import Base")
    source = generate.formatted(source, "components/pulumi_mlops/sdk.py")
    assert '_outputs = ("runIds",)' in source
    assert (
        "    @property\n"
        "    def run_ids(self) -> pulumi.Output[dict[str, list[str]]]:\n"
        '        """Ids of runs. Encrypted in the state."""\n'
        '        return self.output("runIds")\n'
    ) in source
    assert "claim" not in source
    assert '"""Size. A change replaces the resource. Default: `1`."""' in source


def test_a_description_states_a_default_that_is_no_value() -> None:
    class Silent(Spec):
        port: int | None = Field(None, description="Port.")

    class Repeated(Spec):
        port: int = Field(80, description="Port. Default: 80.")

    class Undescribed(Spec):
        port: int

    for model, message in (
        (Silent, "must end with `Default"),
        (Repeated, "repeats the default"),
        (Undescribed, "has no description"),
    ):
        with pytest.raises(ValueError, match=f"port: .*{message}"):
            fields_of(model)


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.token)
def test_rules_of_a_handler_name_its_inputs(handler: Handler[Any]) -> None:
    names = {info.alias for info in handler.inputs.model_fields.values()}
    assert handler.replace_on <= names
    assert handler.secret_inputs <= names
    assert handler.ignore_in_diff <= names
    assert not names & set(handler.outputs)
