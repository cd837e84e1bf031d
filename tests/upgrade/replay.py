"""A project on a version of the package, and what a preview says about a recorded state."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
PASSPHRASE = "recorded"
"""Of every recorded stack: its state and its `Pulumi.<env>.yaml` open with it."""
PROJECT, PACKAGE, VENV = "/recorded/project", "/recorded/package", "/recorded/venv"
"""What a recorded state has in place of the folders of the machine that recorded it."""

Step = Mapping[str, Any]


class Project:
    """The user's project of `project/`, with its own PULUMI_HOME and file backend.

    `bin_folder` has the `pulumi-resource-mlops` and the Python of the version to be used.
    """

    def __init__(
        self, folder: Path, bin_folder: Path, stack: str, plugins: Mapping[str, Path] | None = None
    ) -> None:
        self.folder, self.bin_folder, self.stack = folder, bin_folder, stack
        shutil.copytree(HERE / "project", folder)
        for name in ("home", "state"):
            (folder / name).mkdir(mode=0o700)
        providers = {"mlops": bin_folder, **(plugins or {})}
        settings = {
            "name": "platform",
            "runtime": "python",
            "main": "stacks/",
            "stackConfigDir": "stacks/",
            "plugins": {
                "providers": [{"name": name, "path": str(path)} for name, path in providers.items()]
            },
        }
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump(settings))
        self.config_file = folder / "stacks" / f"Pulumi.{stack}.yaml"
        self.kubeconfig = folder / "kubeconfig"
        self.env = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def run(self, *command: str) -> str:
        """What a command prints. Raises RuntimeError with its errors when it fails."""
        flags = ("--non-interactive", "--color", "never") if command[0] == "pulumi" else ()
        done = subprocess.run(
            [*command, *flags], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            # The reasons are at the end, below the steps of a preview.
            printed = f"{done.stdout}\n{done.stderr}"[-4000:]
            raise RuntimeError(f"{' '.join(command)} failed:\n{printed}")
        return done.stdout

    def pulumi(self, *arguments: str) -> str:
        """What `pulumi <arguments>` prints about the stack."""
        return self.run("pulumi", *arguments, "--stack", self.stack)

    def init(self) -> None:
        """Make the stack."""
        self.run("pulumi", "stack", "init", self.stack)

    def import_state(self, text: str) -> None:
        """Have the stack continue from an exported state."""
        file = self.folder / "state.json"
        file.write_text(text)
        self.pulumi("stack", "import", "--file", str(file))

    def preview(self) -> list[Step]:
        """The steps that `pulumi preview` plans, those without a change included."""
        printed = self.pulumi("preview", "--json", "--show-sames", "--show-replacement-steps")
        steps: list[Step] = json.loads(printed[printed.index("{") :])["steps"]
        return steps


def read(file: Path) -> str:
    """A recorded state; large ones are compressed."""
    content = file.read_bytes()
    return (gzip.decompress(content) if file.suffix == ".gz" else content).decode()


def fill(text: str, folders: Mapping[str, Path]) -> str:
    """A recorded text with the folders of this machine."""
    for placeholder, folder in folders.items():
        text = text.replace(placeholder, str(folder))
    return text


# What is data, or opens it: losing one loses what people stored.
DATA = frozenset(
    {
        "mlops:local:Volume",
        "mlops:local:Secret",
        "mlops:s3:Bucket",
        "mlops:index:GeneratedSecret",
        "mlops:kubernetes:NamespaceOwner",
        "mlops:kubernetes:StoredSecret",
        "kubernetes:core/v1:Namespace",
        "kubernetes:core/v1:PersistentVolumeClaim",
        "kubernetes:core/v1:Secret",
        "kubernetes:apps/v1:StatefulSet",
    }
)
_REPLACED = ["create-replacement", "replace", "delete-replaced"]
_IN_PLACE = frozenset({"same", "create", "update", "refresh", "read"})


@dataclass(frozen=True)
class Allowed:
    """A type whose resources an upgrade may replace, and why.

    Only for changes of properties in or below `causes`. All of `needed` have to be among them. The
    old one may be deleted first where `either_order` says so.
    """

    type: str
    causes: frozenset[str]
    why: str
    needed: frozenset[str] = frozenset()
    either_order: bool = False

    def __post_init__(self) -> None:
        if self.type in DATA or self.type.startswith("pulumi:"):
            raise ValueError(f"{self.type} may never be replaced")

    def covers(self, urn: str, ops: Sequence[str], causes: Collection[str]) -> bool:
        """Whether it allows these steps of one resource."""
        return (
            type_of(urn) == self.type
            and all(_below(each, self.causes) for each in causes)
            and self.needed <= set(causes)
            # In the order of _REPLACED the old one serves until the new one does.
            and (sorted(ops) == sorted(_REPLACED) if self.either_order else list(ops) == _REPLACED)
        )


def _below(path: str, parents: Collection[str]) -> bool:
    return any(path == each or path.startswith((f"{each}.", f"{each}[")) for each in parents)


def type_of(urn: str) -> str:
    """The type in a URN."""
    return urn.split("::")[2].rpartition("$")[2]


def violations(
    recorded: Sequence[Mapping[str, Any]],
    steps: Sequence[Step],
    allowed: Sequence[Allowed] = (),
) -> list[str]:
    """What a plan would do to a recorded state that an upgrade may not do, one line each.

    `steps` are those of `Project.preview`.
    """
    return [
        *_removals(steps, allowed),
        *_missing(recorded, steps),
        *_lost_protection(recorded, steps),
        *_moved_data(steps),
    ]


def _removals(steps: Sequence[Step], allowed: Sequence[Allowed]) -> Iterator[str]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        if step["op"] not in _IN_PLACE:
            found.setdefault(step["urn"], []).append(step)
    for urn, some in found.items():
        ops = [step["op"] for step in some]
        causes = {path for step in some for path in step.get("replaceReasons") or ()}
        if not any(each.covers(urn, ops, causes) for each in allowed):
            because = f" (because of {', '.join(sorted(causes))})" if causes else ""
            yield f"{', '.join(ops)}: {urn}{because}"


def _missing(recorded: Sequence[Mapping[str, Any]], steps: Sequence[Step]) -> Iterator[str]:
    """Resources that the plan does not mention: forgotten, or renamed without an alias."""
    planned = {step["urn"] for step in steps}
    # With an alias the step has the new URN, and its old state the recorded one.
    planned |= {(step.get("oldState") or {}).get("urn") for step in steps}
    for resource in recorded:
        urn = resource["urn"]
        if urn not in planned and not _is_default_provider(urn):
            yield f"not in the plan: {urn}"


def _is_default_provider(urn: str) -> bool:
    # The engine makes one for each version of a plugin, and shows none.
    return type_of(urn).startswith("pulumi:providers:") and urn.split("::")[3].startswith("default")


def _lost_protection(recorded: Sequence[Mapping[str, Any]], steps: Sequence[Step]) -> Iterator[str]:
    for option in ("protect", "retainOnDelete"):
        kept = {each["urn"] for each in recorded if each.get(option)}
        for step in steps:
            old, new = step.get("oldState") or {}, step.get("newState")
            if old.get("urn") in kept and new is not None and not new.get(option):
                yield f"loses {option}: {step['urn']}"


def _moved_data(steps: Sequence[Step]) -> Iterator[str]:
    """Programs that would be given another folder or claim than the one with their data."""
    for step in steps:
        old, new = step.get("oldState"), step.get("newState")
        if old is None or new is None:
            continue
        before, now = (sorted(_mounted(each)) for each in (old, new))
        if before != now:
            yield f"has other data, {now} instead of {before}: {step['urn']}"


def _mounted(resource: Mapping[str, Any]) -> Iterator[str]:
    inputs = resource.get("inputs") or {}
    if resource["type"] == "mlops:local:Process" and "data" in inputs:
        yield inputs["data"]
    elif resource["type"].startswith("kubernetes:"):
        yield from _claims(inputs)


def _claims(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _claims(each)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from [each] if key == "claimName" else _claims(each)
