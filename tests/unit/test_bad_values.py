"""Values that cannot work are refused at preview, with their key and without secrets."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from pulumi_mlops import config
from pulumi_mlops.targets.local.host.installer import _is_contradiction
from pulumi_mlops.targets.local.resources.process import ProcessHandler
from pulumi_mlops.targets.local.resources.run import RunHandler

from .provider_fixtures import make_context, problems

PASSWORD = "correct-horse"
BASE: dict[str, Any] = {
    "artifacts": {},
    "tracking": {},
    "training": {},
    "pipelines": {"p": {"source": "code"}},
    "endpoints": {"e": {"model": "m", "traffic": {"1": 100}, "requirements": ["m"]}},
}
URL = f"postgresql://me:{PASSWORD}@db{{}}/tool"
MEMORY = "must be at least 1Mi"
NUL = "must not contain a NUL character"
PORT = "must have a port from 1 to 65535 after the host, or none"
REGION = "must be the name of a region"
PARAMETER = "must be the name of a parameter"
REQUIREMENTS = "must be the path of a requirements file, or a list of requirements"
BAD = [
    ("artifacts.region", "", REGION),
    ("artifacts.region", "eu\nwest", REGION),
    ("artifacts.region", "us-east-1\n", REGION),
    ("artifacts.region", "eu west", REGION),
    ("artifacts.region", "x" * 64, REGION),
    ("artifacts.tags", {"a": "b\0"}, NUL),
    ("tracking.database_url", URL.format(":notaport"), PORT),
    ("tracking.database_url", URL.format(":99999"), PORT),
    ("tracking.database_url", URL.format(":0"), PORT),
    ("tracking.database_url", URL.format(":"), PORT),
    ("tracking.database_url", URL.format(":-1"), PORT),
    ("tracking.database_url", URL.format(":\uff15\uff14"), PORT),
    ("tracking.database_url", URL.format(":5432\0"), NUL),
    ("tracking.resources.memory", "1", MEMORY),
    ("tracking.resources.memory", "512", MEMORY),
    ("tracking.resources.memory", "1023Ki", MEMORY),
    ("tracking.resources.memory", "0", MEMORY),
    ("training.env", {"A": f"{PASSWORD}\0"}, NUL),
    ("training.env", {"A\0": "x"}, NUL),
    ("pipelines.p.command", ["python", "a\0b"], NUL),
    ("pipelines.p.parameters", {"": "x"}, PARAMETER),
    ("pipelines.p.parameters", {"a b": "x"}, PARAMETER),
    ("pipelines.p.parameters", {"a=b": "x"}, PARAMETER),
    ("pipelines.p.parameters", {"-a": "x"}, PARAMETER),
    ("pipelines.p.parameters", {"a\n": "x"}, PARAMETER),
    ("pipelines.p.schedule", {"cron": "\uff15 * * * *"}, "for the minute"),
    ("pipelines.p.schedule", {"cron": "0 \u0663 * * *"}, "for the hour"),
    ("pipelines.p.requirements", ["???"], REQUIREMENTS),
    ("pipelines.p.requirements", ["numpy", "@"], REQUIREMENTS),
    ("endpoints.e.requirements", ["!!x"], REQUIREMENTS),
    ("endpoints.e.model", "a\0b", NUL),
]  # fmt: skip
GOOD = [
    ("artifacts.region", "RegionOne"),
    ("artifacts.region", "auto"),
    ("tracking.database_url", URL.format("")),
    ("tracking.database_url", URL.format(":5432")),
    ("tracking.database_url", f"postgresql://me:{PASSWORD}@[::1]:5432/tool?sslmode=require"),
    ("tracking.resources.memory", "1Mi"),
    ("pipelines.p.parameters", {"test-size": 0.5, "model.depth": 3, "_x": True, "2d": "y"}),
    (
        "pipelines.p.requirements",
        ["-r base.txt", "./lib", "/lib.whl", "git+https://x", "", "# c"],
    ),
]


def with_value(path: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    part = values
    for parent in parents:
        part = part.setdefault(parent, {})
    part[last] = value
    return values


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(pulumi.RunError) as refusal:
        config.parse(with_value(path, value))
    text = str(refusal.value)
    assert text.startswith(f"platform.{path}"), text
    assert message in text
    assert PASSWORD not in text and "\0" not in text


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_accepted(path: str, value: Any) -> None:
    config.parse(with_value(path, value))


@pytest.fixture
def engine_config() -> Iterator[None]:
    variables = (pulumi.runtime.config.CONFIG, pulumi.runtime.config._SECRET_KEYS)
    before = [variable.get() for variable in variables]
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.set(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "value", "key"),
    [
        ("tracking", {"database_url": URL.format(":notaport")}, "p.tracking.database_url"),
        ("training", {"env": {"A": f"{PASSWORD}\0"}}, "p.training.env.A"),
        ("artifacts", {"endpoint_url": "https://s3", "access_key_id": "a\0",
                       "secret_access_key": PASSWORD}, "p.artifacts.access_key_id"),
    ],
)  # fmt: skip
def test_secrets_are_validated_too(engine_config: None, part: str, value: Any, key: str) -> None:
    """The engine decrypts them before the program runs. An Output is not validated later."""
    pulumi.runtime.config.set_all_config({f"p:{part}": json.dumps(value)}, [f"p:{part}"])
    with pytest.raises(pulumi.RunError) as refusal:
        config.load("p")
    assert str(refusal.value).startswith(f"{key}: ")
    assert PASSWORD not in str(refusal.value)


FOLDERS = {
    "nul": ("a\0b", "must not contain a control character"),
    "line": ("a\nb", "must not contain a control character"),
    "long name": ("x" * 300, "must have at most"),
    "long path": ("/tmp" + "/x" * 600, "must have at most"),
    "proc": ("/proc/x", "must be writable: no folder can be created in /proc"),
    "below a file": ("/etc/hostname/x", "must be a folder: /etc/hostname is not one"),
    "file": ("/etc/hostname", "must be a folder: /etc/hostname is not one"),
    "user": ("~nobody-of-this-name/x", "a user who does not exist"),
}


@pytest.mark.parametrize(("folder", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_data_folder_that_cannot_be_one(engine_config: None, folder: str, message: str) -> None:
    pulumi.runtime.config.set_all_config({"mlops:dataDir": folder, "p:tracking": "{}"}, [])
    with pytest.raises(pulumi.RunError, match=r"^mlops:dataDir: ") as refusal:
        config.load("p")
    assert message in str(refusal.value)


def test_a_data_folder_is_not_created_by_a_preview(engine_config: None, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    pulumi.runtime.config.set_all_config({"mlops:dataDir": str(folder), "p:tracking": "{}"}, [])
    config.load("p")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("handler", [ProcessHandler(), RunHandler()], ids=["process", "run"])
def test_programs(handler: Any, tmp_path: Path) -> None:
    ctx = make_context(tmp_path, handler.token)
    venv = tmp_path / "venv"
    missing = {"command": ["nosuchprogram"], "environment": str(venv)}
    assert problems(handler, ctx, **missing) == [], "the environment may bring it"
    (venv / "bin").mkdir(parents=True)
    ((key, text),) = problems(handler, ctx, **missing)
    assert key == "command[0]" and "there is no program 'nosuchprogram'" in text
    for program in ("/no/such/program", str(tmp_path)):
        assert problems(handler, ctx, command=[program], environment=str(venv))
    own = venv / "bin" / "train"
    own.write_text("")
    own.chmod(0o755)
    for program in ("train", "sh", "/bin/sh", "./run.sh", "bin/run.sh", "$(TOOL)"):
        assert problems(handler, ctx, command=[program], environment=str(venv)) == []
    ((key, text),) = problems(handler, ctx, command=["sh"], env={"A": f"{PASSWORD}\0"})
    assert key == "env.A" and PASSWORD not in text


@pytest.mark.parametrize(
    "answer",
    [
        "error: Unexpected '?', expected '-c', '-e', '-r' or the start of a requirement: -:1:1",
        "error: Couldn't parse requirement in `-` at position 0",
        "error: Error parsing included file in `-` at position 0",
        "error: Distribution not found at: file:///nodir",
    ],
)
def test_requirements_that_uv_cannot_read_are_refused(answer: str) -> None:
    """Other errors, such as an index that does not answer, are warnings of a preview."""
    assert _is_contradiction(answer)
    assert not _is_contradiction(f"Failed to fetch: {answer}")
